"""The ledger of a home: what versions, approvals, evidence and audit were when they were written.

An entry is of one part of one numbered thing, such as the approval of version 2. Its content is a
digest, or facts where a message should name which of them changed. The newest entry counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from churn_utils import settings
from churn_utils.data import integrity
from churn_utils.data.integrity import Facts
from churn_utils.errors import ChurnError, DataError

RECORD = "record"  # the part that is written first; from then on all parts are
VERSION, AUDIT, TABLE = "version", "audit", "table"  # kinds


@dataclass(frozen=True)
class Entry:
    """What was recorded of a part of a thing.

    Attributes:
        kind: ``version``, ``audit`` or ``table``.
        number: of the version or the entry of the audit; 0 for a table.
        part: such as ``record``, ``model``, or the name of the table.
        content: digest or facts.
    """

    kind: str
    number: int
    part: str
    content: str | Facts = ""

    @property
    def subject(self) -> str:
        """The part in words."""
        return f"the {self.part} of {self.kind} {self.number}"


def read_entries() -> list[Entry]:
    """Return the entries of this home in their order.

    Raises:
        DataError: the ledger was edited, or is not signed with the key.
    """
    return [Entry(**facts) for facts in integrity.read_ledger(settings.ledger())]


def record(kind: str, number: int, part: str, content: str | Facts = "") -> None:
    """Record what a part of a thing is now, unless that is what was recorded last."""
    entry = Entry(kind, number, part, content)
    path = settings.ledger()
    lock = path.with_name(f"{path.name}.lock")
    with integrity.hold(lock):
        last = find(read_entries(), kind, number, part)
        if last != entry:
            integrity.append_facts(path, asdict(entry))


def find(entries: list[Entry], kind: str, number: int, part: str) -> Entry | None:
    """Return the newest entry of a part of a thing, or None."""
    wanted = (kind, number, part)
    found = [entry for entry in entries if (entry.kind, entry.number, entry.part) == wanted]
    return found[-1] if found else None


def check(
    kind: str,
    number: int,
    part: str,
    content: str | Facts,
    error: type[ChurnError] = DataError,
    entries: list[Entry] | None = None,
) -> None:
    """Check that a part of a thing is what was recorded of it, in entries that were read before.

    Raises:
        ChurnError: it is not, in the class ``error``; or it was not recorded though it is no older
            than what was.
        DataError: the ledger was edited; or there is a key and nothing was recorded.
    """
    entries = read_entries() if entries is None else entries
    now = Entry(kind, number, part, content)
    recorded = find(entries, kind, number, part)
    if recorded is None and _is_older(entries, now):
        integrity.accept_unrecorded(now.subject)
    elif recorded is None:
        raise error(f"{now.subject} is not in {settings.ledger()}: somebody else wrote it.")
    elif recorded != now:
        raise error(
            f"{now.subject} is not what was recorded when it was written"
            f"{_describe_changes(recorded.content, content)}. Put it back as it was, or restore "
            "the home from a copy."
        )


def _is_older(entries: list[Entry], now: Entry) -> bool:
    """Tell whether a thing was written before digests were kept."""
    return not any(
        entry.kind == now.kind and entry.part == RECORD and entry.number <= now.number
        for entry in entries
    )


def _describe_changes(before: str | Facts, now: str | Facts) -> str:
    """Return the facts that differ, in brackets; nothing for digests."""
    if isinstance(before, str) or isinstance(now, str):
        return ""
    changes = [
        f"{name}: {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    return f" ({'; '.join(changes)})"
