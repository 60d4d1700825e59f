"""Records as bytes in the outbox: a version, two lengths, JSON, and a run's big texts as zlib beside it.

A run's texts are compressed once, here, in the form the database keeps. What no database could take is put right here too,
while it can be said which record it was: NUL and lone surrogates, texts without end. Sources of both are servers.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probe.store.records import Event, Record, RunBegun, RunFinished

_HEAD = struct.Struct(">BIII")
_VERSION = 1
_MAX_TEXT = 4_000  # characters of a field
_MAX_BIG = 32 * 2**20  # bytes of a report or verdict; a larger one is not kept
_MAX_REQUESTS = 2_000
_MAX_DEPTH = 8
_MAX_ITEMS = 500

BEGUN, FINISHED, EVENT, SWEPT = "begun", "finished", "event", "swept"


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
    match record:
        case RunBegun():
            kind, values = BEGUN, dataclasses.asdict(record)
        case RunFinished():
            verdict, report = _packed(record.verdict_json), _packed(record.report_html)
            few = dataclasses.replace(record, verdict_json="", report_html="", requests=record.requests[:_MAX_REQUESTS])
            kind, values = FINISHED, dataclasses.asdict(few)
        case Event():
            kind, values = EVENT, dataclasses.asdict(record)
        case Swept():
            kind, values = SWEPT, dataclasses.asdict(record)
    text = json.dumps({"kind": kind, "life": life, "values": _clean(values)}, separators=(",", ":")).encode()
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
    if not isinstance(head, dict) or head.get("kind") not in (BEGUN, FINISHED, EVENT, SWEPT):
        raise ValueError("a record of no kind that is known")
    return Entry(head["kind"], str(head["life"]), dict(head["values"]), parts[1], parts[2])


def unpacked(data: bytes | None) -> str | None:
    """The text of a big column; None where it is empty or gone."""
    return zlib.decompress(data).decode() if data else None


def _packed(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return zlib.compress(raw, 3) if raw and len(raw) <= _MAX_BIG else b""


def _clean(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            value = value[: _MAX_TEXT - 1] + "…"
        return value if value.isascii() and "\0" not in value else value.replace("\0", "�").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_clean(str(k)): _clean(v, depth + 1) for k, v in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(v, depth + 1) for v in list(value)[: max(_MAX_ITEMS, _MAX_REQUESTS)]]
    return _clean(str(value), depth)
