"""Records as bytes in the outbox: a version, two lengths, JSON, and a run's big texts as zlib beside it.

A run's texts are compressed once, here, in the form the database keeps. What no database could take is put right here too,
while it can be said which record it was: NUL and lone surrogates, texts without end. Sources of both are servers.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from probe.store.errors import StoreError
from probe.store.records import Event, GateKept, Record, Request, RunBegun, RunFinished

_HEAD = struct.Struct(">BIII")
_VERSION = 1
_MAX_TEXT = 4_000  # characters of a field
_MAX_BIG = 32 * 2**20  # bytes of a report or verdict; a larger one is not kept
_MAX_REQUESTS = 2_000
_MAX_DEPTH = 8
_MAX_ITEMS = 500
_APART = ("verdict_json", "report_html", "requests")

BEGUN, FINISHED, EVENT, SWEPT, KEPT = "begun", "finished", "event", "swept", "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Of every other life of this agent: what still runs is dead. Takes its turn among the records, so that what the dead one
    had to say of its runs is known before. `mark` names it to who waits for it."""

    mark: str
    agent: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as the tables take it. `life` is the process that put it; `verdict` and `report` are zlib or empty."""

    kind: str
    life: str
    values: dict[str, Any]
    verdict: bytes = b""
    report: bytes = b""


def encode(record: Record | Swept, life: str) -> bytes:
    """The bytes of a record put by process `life`. Compresses a run's report, some ms for each MB."""
    verdict = report = b""
    values = _fields(record)
    match record:
        case RunBegun():
            kind = BEGUN
        case RunFinished():
            kind, verdict, report = FINISHED, _packed(record.verdict_json), _packed(record.report_html)
            values["requests"] = [_fields(request) for request in record.requests[:_MAX_REQUESTS]]
        case Event():
            kind = EVENT
        case Swept():
            kind = SWEPT
        case GateKept():
            kind = KEPT
    text = json.dumps({"kind": kind, "life": life, "values": values}, separators=(",", ":")).encode()
    return _HEAD.pack(_VERSION, len(text), len(verdict), len(report)) + text + verdict + report


def decode(data: bytes) -> Entry:
    """Raises ValueError where these are not the bytes of a record that this program knows."""
    if len(data) < _HEAD.size:
        raise ValueError("too short for a record")
    version, *lengths = _HEAD.unpack_from(data)
    if version != _VERSION or len(data) != _HEAD.size + sum(lengths):
        raise ValueError(f"not a record of version {_VERSION}")
    parts: list[bytes] = []
    at = _HEAD.size
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    head = json.loads(parts[0])
    if not isinstance(head, dict) or head.get("kind") not in (BEGUN, FINISHED, EVENT, SWEPT, KEPT):
        raise ValueError("a record of no kind that is known")
    return Entry(head["kind"], str(head["life"]), dict(head["values"]), parts[1], parts[2])


def unpacked(data: bytes | None) -> str | None:
    """The text of a big column; None where it is empty or gone. Raises StoreError where it is damaged."""
    try:
        return zlib.decompress(data).decode() if data else None
    except (zlib.error, UnicodeDecodeError) as error:
        raise StoreError(f"a report or verdict is damaged: {error}") from None


def _packed(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return zlib.compress(raw, 3) if raw and len(raw) <= _MAX_BIG else b""


def _fields(record: Record | Swept | Request) -> dict[str, Any]:
    return {name: _clean(getattr(record, name)) for name in record.__slots__ if name not in _APART}


def _clean(value: Any, depth: int = 0) -> Any:
    """As JSON and every database take it."""
    kind = type(value)
    if isinstance(value, str):
        value = str.__str__(value)  # of an enum its value
        short = value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…"
        return short if short.isascii() and "\0" not in short else short.replace("\0", "�").encode("utf-8", "replace").decode()
    if kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if value - value == 0 else None
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item, depth + 1) for key, item in islice(value.items(), _MAX_ITEMS)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, depth + 1) for item in islice(value, _MAX_ITEMS)]
    return _clean(str(value), depth)
