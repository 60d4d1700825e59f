"""What an ISO base media file may not claim before FFmpeg believes it (ISO/IEC 14496-12).

FFmpeg makes room for as many samples as a box names, before it looks whether they are there: a `trun` of 20 bytes costs
gigabytes, and so do the tables of a `moov`; a compressed `moov` (QuickTime's `cmov`) is another bomb. Boxes are looked for by
their names wherever FFmpeg could come to read them, not by walking the tree as we would: in whatever is no `mdat`, and in an
`mdat` that holds a whole `moof` or `moov` of its own, for an index can lead there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MOST = 20_000  # samples of a segment
_COUNTS = {b"trun": 8, b"stsz": 12, b"stz2": 12}  # where the count stands, from the name on
_RUNS = (b"stts", b"ctts")
_HIDDEN = ((b"moof", b"tfhd"), (b"moov", b"trak"), (b"moov", b"cmov"))


class Unbounded(ValueError):
    """It claims more than any segment has."""


def check(data: bytes) -> None:
    """Raises Unbounded."""
    samples = boxes = 0
    for begin, end in _regions(data):
        if data.find(b"cmov", begin, end) >= 0:
            raise Unbounded("a compressed moov")
        for name, at in _named(data, begin, end):
            boxes += 1
            if name in _COUNTS:
                samples += _number(data, at + _COUNTS[name])
            else:  # runs of samples: how many runs, and how many in each
                runs = _number(data, at + 8)
                samples += max(runs, sum(_number(data, at + 12 + 8 * n) for n in range(min(runs, MOST))))
            if max(samples, boxes) > MOST:
                raise Unbounded(f"{samples} samples in {boxes} tables")


def _regions(data: bytes) -> Iterator[tuple[int, int]]:
    """Boxes of the outermost level, but for media that holds nothing else."""
    at = boxes = 0
    while at + 8 <= len(data):
        boxes += 1
        if boxes > MOST:
            raise Unbounded(f"more than {MOST} boxes")
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        end = at + size if 8 <= size <= len(data) - at else len(data)
        if name != b"mdat" or any(all(data.find(n, at, end) >= 0 for n in names) for names in _HIDDEN):
            yield at, end
        at = end


def _named(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    for name in (*_COUNTS, *_RUNS):
        at = data.find(name, begin, end)
        while at >= 0:
            yield name, at
            at = data.find(name, at + 1, end)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
