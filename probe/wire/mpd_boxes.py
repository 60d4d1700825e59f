"""A segment that still comes in, cut into what can be decoded already (ISO/IEC 14496-12 §4.2, CMAF chunks).

Boxes are only told apart: whatever stands before an `mdat`, and it, is one chunk. The producer's reference time (`prft`
§8.16.5) is read, since it is the one clock a platform puts on its media. Nothing else is looked into; that is the demuxer's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from probe.errors import Failure
from probe.model.stage import Phase
from probe.model.text import beginning

LARGEST = 32 << 20
_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970


@dataclass(frozen=True, slots=True)
class Chunk:
    """Boxes up to and with an mdat. `produced`: Unix ns at which the producer had its first sample."""

    data: bytes
    produced: int | None


class Splitter:
    """One per segment. `feed` gives the chunks that are whole; `rest` is what is not yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # boxes before this are whole
        self._produced: int | None = None

    @property
    def rest(self) -> int:
        """Bytes that belong to no chunk yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Chunk]:
        """Raises Failure(segment, malformed) for what is no box, (segment, too_large) for one that never ends."""
        self._buffer += data
        chunks: list[Chunk] = []
        while (box := self._box()) is not None:
            kind, size, header = box
            if kind == b"prft":
                self._produced = _produced(bytes(self._buffer[self._at + header : self._at + size]))
            self._at += size
            if kind == b"mdat":
                chunks.append(Chunk(bytes(self._buffer[: self._at]), self._produced))
                del self._buffer[: self._at]
                self._at, self._produced = 0, None
        return chunks

    def _box(self) -> tuple[bytes, int, int] | None:
        """(type, size, bytes of its header) of the next box, once it is whole."""
        there = len(self._buffer) - self._at
        if there < 8:
            return None
        size, kind = struct.unpack_from(">I4s", self._buffer, self._at)
        header = 8
        if size == 1:
            if there < 16:
                return None
            (size,), header = struct.unpack_from(">Q", self._buffer, self._at + 8), 16
        if not kind.isascii() or not kind.decode("ascii").isprintable() or size < header:
            raise Failure(Phase.SEGMENT, "malformed", f"no box: begins {beginning(self._buffer[self._at : self._at + 8])}")
        if self._at + size > LARGEST:
            raise Failure(Phase.SEGMENT, "too_large", f"a box of {size} bytes")
        return (kind, size, header) if there >= size else None


def _produced(body: bytes) -> int | None:
    """version, flags, reference_track_ID, ntp_timestamp, media_time; None for one cut short or of no time."""
    if len(body) < 16:
        return None
    (ntp,) = struct.unpack_from(">Q", body, 8)
    seconds, fraction = ntp >> 32, ntp & 0xFFFFFFFF
    return None if seconds < _NTP_EPOCH else (seconds - _NTP_EPOCH) * 1_000_000_000 + fraction * 1_000_000_000 // (1 << 32)
