"""Spans as plain data: what a trace is made of before anyone's library sees it.

Ids are minted before a request leaves (they travel in its `traceparent`), so spans cannot be started and ended by an SDK:
they are built afterwards, from the result, and handed on as OTLP JSON or as the SDK's read-only spans. OTLP's JSON wants
ids as hex and 64-bit numbers as strings; protobuf's own JSON would write base64.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.model.text import quoted

Attribute = str | bool | int | float
MAX_FOREIGN = 10_000
_MAX_ATTRIBUTES = 64
_MAX_TEXT = 1024
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something at one instant of a span; `at` in Unix ns."""

    name: str
    at: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Ids are lower-case hex (32 and 16 digits), `parent` empty at a root; times Unix ns. `error` None: it went well."""

    trace_id: str
    span_id: str
    parent: str
    name: str
    start: int
    end: int
    kind: str = "internal"
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    error: str | None = None
    service: str = "stream-probe"
    version: str = ""


def derived_id(*parts: str) -> str:
    """A span id for what never left this process, the same each time; never all zero."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8, person=b"stream-probe").hexdigest()
    return digest if int(digest, 16) else f"{1:016x}"


def from_plain(spans: Iterable[Any], trace_id: str) -> list[Span]:
    """Spans of others (a platform's own), given as plain dicts: `trace_id, span_id, parent_span_id, name, kind,
    start_unix_ns, end_unix_ns, attributes, error, service.name`. What is not of this trace or not of this shape is left out;
    at most 10,000."""
    out: list[Span] = []
    for plain in spans:
        if len(out) >= MAX_FOREIGN:
            break
        if isinstance(plain, Mapping) and (span := _foreign(plain, trace_id)) is not None:
            out.append(span)
    return out


def _foreign(plain: Mapping[str, Any], trace_id: str) -> Span | None:
    identity, parent = plain.get("span_id"), plain.get("parent_span_id") or ""
    start, end = plain.get("start_unix_ns"), plain.get("end_unix_ns")
    if plain.get("trace_id") != trace_id or not _is_id(identity) or not (parent == "" or _is_id(parent)):
        return None
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end < 1 << 63:
        return None
    attributes = plain.get("attributes")
    kind = plain.get("kind")
    return Span(
        trace_id=trace_id,
        span_id=str(identity),
        parent=str(parent),
        name=quoted(str(plain.get("name", "")), _MAX_TEXT) or "unnamed",
        start=start,
        end=end,
        kind=kind if kind in _KINDS else "internal",
        attributes=_attributes(attributes) if isinstance(attributes, Mapping) else {},
        error="error" if plain.get("error") else None,
        service=quoted(str(plain.get("service.name") or "unknown"), _MAX_TEXT),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(?!0{16})[0-9a-f]{16}", value) is not None


def _attributes(given: Mapping[Any, Any]) -> dict[str, Attribute]:
    out: dict[str, Attribute] = {}
    for name, value in given.items():
        if len(out) >= _MAX_ATTRIBUTES:
            break
        if isinstance(value, str):
            out[quoted(str(name), _MAX_TEXT)] = quoted(value, _MAX_TEXT)
        elif (isinstance(value, bool | int) and -(1 << 63) <= value < 1 << 63) or (
            isinstance(value, float) and math.isfinite(value)
        ):
            out[quoted(str(name), _MAX_TEXT)] = value
    return out


def otlp_json(spans: Iterable[Span]) -> dict[str, Any]:
    """An OTLP `TracesData` object (JSON mapping of opentelemetry-proto): one resource a service."""
    services: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        services.setdefault((span.service, span.version), []).append(span)
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _encoded({"service.name": name, **({"service.version": version} if version else {})})},
                "scopeSpans": [{"scope": {"name": "probe"}, "spans": [_span(span) for span in members]}],
            }
            for (name, version), members in services.items()
        ]
    }


def _span(span: Span) -> dict[str, Any]:
    out: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _encoded(span.attributes),
        "status": {} if span.error is None else {"code": 2, "message": span.error},
    }
    if span.parent:
        out["parentSpanId"] = span.parent
    if span.events:
        out["events"] = [{"timeUnixNano": str(e.at), "name": e.name, "attributes": _encoded(e.attributes)} for e in span.events]
    return out


def _encoded(attributes: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Attribute) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}
