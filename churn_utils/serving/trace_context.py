"""The caller's trace (W3C Trace Context), which a request goes on with under a span of its own."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

TRACEPARENT = b"traceparent"
# version, trace id, id of the caller's span, flags; a version after 00 may have more fields
FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
LONGEST = 512  # bytes of a header that is looked at


Header = tuple[bytes, bytes]


class Trace(NamedTuple):
    """What a request adds to its response and to the access log; nothing without a trace."""

    headers: tuple[Header, ...] = ()  # ``traceparent``
    ids: dict[str, str] = {}  # ``trace_id`` and ``span_id``


NO_TRACE = Trace()


def continue_trace(headers: Iterable[Header]) -> Trace:
    """Return the trace of a request with a new span, or ``NO_TRACE`` for an invalid one.

    Source of the rules: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    given = [value for name, value in headers if name == TRACEPARENT]
    if len(given) != 1 or len(given[0]) > LONGEST:
        return NO_TRACE
    found = FORM.fullmatch(given[0])
    if found is None:
        return NO_TRACE
    version, trace_id, parent_id, flags, more = found.groups()
    if not _is_valid(version, trace_id, parent_id, more):
        return NO_TRACE
    span_id = secrets.token_hex(8)
    header = b"-".join([b"00", trace_id, span_id.encode(), flags])
    ids = {"trace_id": trace_id.decode(), "span_id": span_id}
    return Trace(((TRACEPARENT, header),), ids)


def _is_valid(version: bytes, trace_id: bytes, parent_id: bytes, more: bytes | None) -> bool:
    """Tell whether the fields of a header of the right form have values that are allowed."""
    if version == b"ff" or (version == b"00" and more is not None):
        return False
    return bool(trace_id.strip(b"0") and parent_id.strip(b"0"))
