"""Searches everything that an agent lets out for words that must never leave it: on disk (packed or not), and sent."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from probe.export.spool_segment import Segment, read
from probe.store.payload import decode


def leaks(canaries: Sequence[str], *, state: Path, texts: Iterable[bytes | str] = ()) -> list[str]:
    """Where each was found. `state`: a state directory, whether its agent lives or not; `texts`: what was sent or said."""
    found = []
    for place, data in [*_files(state), *((f"text {n}", _bytes(text)) for n, text in enumerate(texts))]:
        found += [f"{canary[:6]}… in {place}" for canary in canaries if canary.encode() in data]
    return found


def _files(state: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(state.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield str(path), data
            if path.suffix == ".spool":
                yield from _items(path)
            elif path.name.startswith("records.sqlite"):
                yield from _packed(str(path), data)


def _items(path: Path) -> Iterator[tuple[str, bytes]]:
    """What waits in a spool: gzipped telemetry, or records with zlib in them."""
    segment, _ = Segment.opened(path)
    try:
        for place in segment.oldest(10_000):
            payload = read(segment.fd, place) or b""
            try:
                entry = decode(payload)
                for part in (entry.verdict, entry.report):
                    yield f"{path} (packed)", zlib.decompress(part) if part else b""
            except ValueError:
                at = payload.find(b"\x1f\x8b")
                yield f"{path} (gzip)", gzip.decompress(payload[at:]) if at >= 0 else b""
    finally:
        segment.close()


def _packed(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every zlib stream that begins anywhere, as far as it goes: pages cut it, and the rest is met in the records' answers."""
    for magic in (b"\x78\x5e", b"\x78\x9c", b"\x78\x01"):
        at = data.find(magic)
        while at >= 0:
            try:
                yield f"{name} at {at}", zlib.decompressobj().decompress(data[at : at + (1 << 20)])
            except zlib.error:
                pass
            at = data.find(magic, at + 1)


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
