"""What a collector's answer means: OpenTelemetry's OTLP specification, sections "OTLP/HTTP Response" and "OTLP/HTTP Throttling".

200 is taken, perhaps but for some spans or points (never sent again: "the client MUST NOT retry"). 429, 502, 503 and 504 are
sent again, after `Retry-After` where that is said. Any other 4xx or 5xx must not be sent again. Beyond the specification: a 2xx
whose body is no OTLP answer is somebody else's, a proxy's or a portal's, and what it swallowed is sent again; so is what
met a redirect, which we do not follow, since it would carry our credentials elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from probe.model.clock import NS

_AGAIN = frozenset({429, 502, 503, 504})
_LONGEST_WAIT = 300.0
_NAMED = frozenset({400, 401, 403, 404, 413, 415})
REFUSALS = (*(f"http_{status}" for status in sorted(_NAMED)), "http_4xx", "http_5xx")


@dataclass(frozen=True, slots=True)
class Taken:
    """`rejected`: spans or points that were left out, and `message` why, in the collector's words."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """Not now. `after`: not before so many seconds, where the collector said so."""

    why: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Never. `why` is one of REFUSALS."""

    why: str


Answer = Taken | Again | Refused


def meaning(kind: str, status: int, headers: Mapping[str, str], body: bytes | None, now: int) -> Answer:
    """`kind`: traces or metrics. `body` None: longer than any answer is. `now`: Unix ns."""
    if 200 <= status < 300:
        return _taken(kind, headers.get("Content-Type", ""), body)
    if status in _AGAIN:
        return Again(f"HTTP {status}", _retry_after(headers.get("Retry-After", ""), now))
    if 300 <= status < 400:
        return Again(f"HTTP {status}: a redirect, which is not followed; write the address it leads to")
    return Refused(f"http_{status}" if status in _NAMED else f"http_{status // 100 if status < 600 else 5}xx")


def _taken(kind: str, content_type: str, body: bytes | None) -> Answer:
    foreign = Again("the answer is not a collector's")
    if body is None:
        return foreign
    if not body:
        return Taken()
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json":
        return _from_json(kind, body) or foreign
    if media and media != "application/x-protobuf":
        return foreign
    message = ExportTraceServiceResponse() if kind == "traces" else ExportMetricsServiceResponse()
    try:
        message.ParseFromString(body)
    except DecodeError:
        return foreign
    partial = message.partial_success
    rejected = partial.rejected_spans if kind == "traces" else partial.rejected_data_points
    return Taken(max(0, rejected), partial.error_message)


def _from_json(kind: str, body: bytes) -> Taken | None:
    try:
        said = json.loads(body)
        partial = said.get("partialSuccess") or {}
        rejected = int(partial.get("rejectedSpans" if kind == "traces" else "rejectedDataPoints") or 0)
        return Taken(max(0, rejected), str(partial.get("errorMessage") or ""))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _retry_after(text: str, now: int) -> float:
    """Seconds (RFC 9110, section 10.2.3: a number of them, or a date), at most five minutes; 0 where it says nothing."""
    text = text.strip()[:64]
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    try:
        wait = parsedate_to_datetime(text).timestamp() - now / NS
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), _LONGEST_WAIT)
