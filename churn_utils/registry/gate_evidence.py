"""The gate's evidence about a version: kept with its training run under its own SHA-256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from churn_utils.data import home_ledger
from churn_utils.data.home_ledger import VERSION
from churn_utils.data.integrity import hash_file, hash_text
from churn_utils.errors import DeploymentError, ModelError
from churn_utils.evaluation.economics import Economics
from churn_utils.registry import artifacts, versions
from churn_utils.registry.connection import connect_mlflow
from churn_utils.registry.versions import ModelVersion

FOLDER = "gate"  # of a run's artifacts; all evidence that was ever kept is in it
PASS = "pass"
EVIDENCE = "evidence"  # the part of a version in the home's ledger, followed by the digest


@dataclass(frozen=True)
class CheckResult:
    """What one check of the gate found; the fields are those of ``validation.finding.Finding``."""

    check: str = ""
    verdict: str = ""
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    requirement: str = ""
    detail: str = ""


class GateEvidence(BaseModel):
    """What the gate found about a version, and on what; an approval is bound to it.

    Attributes:
        as_of: simulated date, as ``2025-02-01``; labels known by then counted.
        champion: version that it was compared with; None if there was none.
        run: number among the evidence of the version; set when it is kept.
        run_id: of the training run.
        draws, seed: of the bootstrap.
        rows, since: number and first month of the rows that decided.
        tables: Delta version of each table.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    as_of: str
    verdict: str
    champion: int | None
    checks: tuple[CheckResult, ...] = ()
    run: int | None = None
    run_id: str = ""
    draws: int | None = None
    seed: int | None = None
    rows: int | None = None
    since: str | None = None
    offer_cost_usd: float | None = None
    churner_value_usd: float | None = None
    save_rate: float = 1.0
    tables: dict[str, int] = {}
    model_sha256: str = ""
    trained_by: str = ""
    description_sha256: str = ""
    artifacts_sha256: str = ""

    @property
    def economics(self) -> Economics | None:
        """Costs under which the version was judged; None if they were not recorded."""
        if self.offer_cost_usd is None or self.churner_value_usd is None:
            return None
        return Economics(self.offer_cost_usd, self.churner_value_usd, self.save_rate)

    @property
    def has_passed(self) -> bool:
        """Whether the verdict is pass and so is that of every check: the former is one word."""
        verdicts = {check.verdict for check in self.checks}
        return self.verdict == PASS and verdicts == {PASS}


def describe_record(info: ModelVersion) -> dict[str, str]:
    """Describe what the gate judges of a version besides its predictions.

    Returns:
        ``trained_by``, ``description_sha256`` and ``artifacts_sha256`` (of the files as they are
        now, without the evidence).
    """
    digest = hashlib.sha256()
    for name in artifacts.list_names(info.artifact_folder):
        if name != FOLDER:
            digest.update(f"{name} {_hash_files(info.artifact_folder / name)}\n".encode())
    return {
        "trained_by": info.trained_by,
        "description_sha256": hash_text(info.description),
        "artifacts_sha256": digest.hexdigest(),
    }


def _hash_files(path: Path) -> str:
    paths = [path] if path.is_file() else sorted(path.rglob("*"))
    digests = [hash_file(found) for found in paths if found.is_file()]
    return " ".join(digests)


def list_changes(info: ModelVersion, evidence: GateEvidence) -> str:
    """Name what of a version's record differs from what the gate judged; empty if nothing does."""
    judged = evidence.model_dump()
    record = describe_record(info)
    changed = [name for name, value in record.items() if judged[name] != value]
    return ", ".join(name.removesuffix("_sha256") for name in changed)


def write_evidence(version: int, evidence: GateEvidence) -> str:
    """Keep evidence with a version's training run, beside all that was kept before.

    Its number becomes its ``run`` and the tag ``gate_runs``, so that trying seeds until one passes
    leaves a trace. The same facts again are no new evidence: they keep their digest and number.

    Returns:
        Its SHA-256.
    """
    info = versions.read_version(version)
    kept = _list_kept(info)
    for digest in kept:
        text = _path_of(info, digest).read_text(encoding="utf-8")
        if hash_text(text) != digest:
            continue
        earlier = GateEvidence.model_validate_json(text)
        if earlier == evidence.model_copy(update={"run": earlier.run}):
            # An earlier call may have ended before it set the tag.
            versions.set_tags(version, {"gate_runs": str(len(kept))})
            return digest
    number = len(kept) + 1
    facts = evidence.model_copy(update={"run": number}).model_dump(mode="json")
    text = json.dumps(facts, indent=1, sort_keys=True)
    digest = hash_text(text)
    home_ledger.record(VERSION, version, f"{EVIDENCE} {digest}")
    connect_mlflow().MlflowClient().log_text(info.run_id, text, f"{FOLDER}/{digest}.json")
    versions.set_tags(version, {"gate_runs": str(number)})
    return digest


def list_digests(version: int) -> list[str]:
    """Return the SHA-256 of each piece of evidence that is kept with a version."""
    return _list_kept(versions.read_version(version))


def _list_kept(info: ModelVersion) -> list[str]:
    names = artifacts.list_names(info.artifact_folder / FOLDER)
    return [Path(name).stem for name in names]


def _path_of(info: ModelVersion, digest: str) -> Path:
    return info.artifact_folder / FOLDER / f"{digest}.json"


def read_evidence(version: int, digest: str | None = None) -> tuple[GateEvidence, str]:
    """Return evidence of a version and its SHA-256; as ``load_evidence``."""
    return load_evidence(versions.read_version(version), digest)


def load_evidence(info: ModelVersion, digest: str | None = None) -> tuple[GateEvidence, str]:
    """Return evidence of a version and its SHA-256 as it is now.

    Args:
        info: the version.
        digest: SHA-256 under which it was kept; the newest if None.

    Raises:
        ModelError: the version never went through the gate, or the evidence cannot be read.
        DeploymentError: the evidence lacks facts or holds wrong ones: it was changed.
    """
    version = info.version
    digest = digest or info.tags.get("gate_evidence_sha256")
    if digest is None:
        raise ModelError(f"version {version} has no gate evidence; run notebook 04a first.")
    try:
        text = _path_of(info, digest).read_text(encoding="utf-8")
        facts = json.loads(text)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the evidence {digest} of version {version} cannot be read; run 04a again."
        ) from error
    try:
        return GateEvidence.model_validate(facts), hash_text(text)
    except ValidationError as error:
        raise DeploymentError(
            f"the evidence {digest} of version {version} was changed: {error.error_count()} of its "
            "facts are missing or wrong. Run the gate again and have it approved again."
        ) from error
