"""The frame code: who published this picture, which picture it is, and when it was sent, readable after any transcoding.

A band of cells over the full width at the top of the picture, in luma only. Landscape: 40 x 6 cells in the top 2/15 of
the height (16 x 8 px at 640x360). Portrait: 45 x 5 cells in the top 1/8 (8 x 16 px at 360x640), because 40 x 6 would
leave rows of 14 px off the macroblock grid. Below 9 x 8 px at the encoder the code begins to break; 8 x 16 holds.

The first and last column are calibration: alternating, opposite to each other. The rest holds, row by row, 200 bits, most
significant first: version 4, publish 4, run 32, trace 64, sequence 20, stamp 44, CRC-32 (zlib) of those 21 bytes. Cells
left over alternate white and black; they are known too, and tell a damaged code from a picture that has none.
White is 220, black 32: inside limited range, with room for overshoot.

No Reed-Solomon: when the check fails, the 8 least certain cells are flipped in all 256 ways against it. A wrong code
gets through once in 2^32 / 256 / 16 damaged bands at most (CRC, flips, version); nothing less is ever accepted.
Not attempted: fill crops that cut whole cells away, blended pictures, rotation.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from probe.model.frames import SEQUENCE_MODULUS, FrameCode, Reading

Plane = NDArray[np.uint8]  # luma, height x width; rows may lie apart (stride)

VERSION = 1
WHITE, BLACK = 220, 32
PAYLOAD_BYTES = 21
BITS = PAYLOAD_BYTES * 8 + 32
FLIPS = 8
MIN_CONTRAST = 30.0  # luma between white and black calibration; range and contrast shifts leave more than 100
MIN_KNOWN = 0.8  # share of the left-over cells that must read right before damage is called damage

_INSIDE = np.array([0.30, 0.43, 0.57, 0.70])  # where a cell is sampled, each way: its middle, away from ringing
_POINTS = 16  # of a cell, that is


@dataclass(frozen=True, slots=True)
class Layout:
    """How the cells lie. `share` is the band's part of the picture's height."""

    columns: int
    rows: int
    share: float


LANDSCAPE = Layout(40, 6, 48 / 360)
PORTRAIT = Layout(45, 5, 80 / 640)
LAYOUTS = (LANDSCAPE, PORTRAIT)


def layout_for(width: int, height: int) -> Layout:
    """The layout drawn into a picture of this size."""
    return LANDSCAPE if width >= height else PORTRAIT


def band_height(width: int, height: int) -> int:
    """Rows of the picture that the band covers."""
    return round(layout_for(width, height).share * height)


def pack(code: FrameCode) -> bytes:
    """Payload and CRC, 25 bytes. ValueError when a field does not fit its bits."""
    if not (
        0 <= code.run < 1 << 32
        and 0 <= code.trace < 1 << 64
        and 0 <= code.publish < 16
        and 0 <= code.sequence < SEQUENCE_MODULUS
        and 0 <= code.stamp_ms < 1 << 44
    ):
        raise ValueError(f"a field of {code} does not fit")
    head = VERSION << 4 | code.publish
    value = ((head << 32 | code.run) << 64 | code.trace) << 64 | code.sequence << 44 | code.stamp_ms
    payload = value.to_bytes(PAYLOAD_BYTES, "big")
    return payload + zlib.crc32(payload).to_bytes(4, "big")


def unpack(data: bytes) -> FrameCode | None:
    """The code of 25 bytes, or None where check or version fail."""
    payload = data[:PAYLOAD_BYTES]
    if len(data) != BITS // 8 or zlib.crc32(payload) != int.from_bytes(data[PAYLOAD_BYTES:], "big"):
        return None
    value = int.from_bytes(payload, "big")
    if value >> 164 != VERSION:
        return None
    return FrameCode(
        run=value >> 128 & 0xFFFFFFFF,
        trace=value >> 64 & 0xFFFFFFFFFFFFFFFF,
        publish=value >> 160 & 0xF,
        sequence=value >> 44 & 0xFFFFF,
        stamp_ms=value & 0xFFFFFFFFFFF,
    )


@dataclass(frozen=True, slots=True)
class Cells:
    """Indices into the row-major cells of a layout. `known_sign` is +1 where a left-over cell is white, else -1."""

    data: NDArray[np.intp]
    white: NDArray[np.intp]
    black: NDArray[np.intp]
    known: NDArray[np.intp]
    known_sign: NDArray[np.float32]
    blank: Plane  # all cells, data black


@lru_cache(maxsize=len(LAYOUTS))
def cells_of(layout: Layout) -> Cells:
    """The roles of a layout's cells."""
    sign = np.zeros((layout.rows, layout.columns), np.int8)
    sign[:, 0] = np.where(np.arange(layout.rows) % 2 == 0, 1, -1)
    sign[:, -1] = -sign[:, 0]
    flat = sign.ravel()
    free = np.flatnonzero(flat == 0)
    data, known = free[:BITS], free[BITS:]
    known_sign = np.where(np.arange(len(known)) % 2 == 0, 1, -1).astype(np.float32)
    blank = np.full(flat.shape, BLACK, np.uint8)
    blank[flat > 0] = WHITE
    blank[known[known_sign > 0]] = WHITE
    return Cells(data, np.flatnonzero(flat > 0), np.flatnonzero(flat < 0), known, known_sign, blank)


@lru_cache(maxsize=16)
def _drawing(height: int, width: int) -> tuple[Layout, NDArray[np.intp], tuple[tuple[int, int], ...]]:
    layout = layout_for(width, height)
    if width < 2 * layout.columns or band_height(width, height) < 2 * layout.rows:
        raise ValueError(f"{width}x{height} is too small for a frame code")
    columns = np.arange(width) * layout.columns // width
    edges = [round(row * layout.share * height / layout.rows) for row in range(layout.rows + 1)]
    return layout, columns, tuple(pairwise(edges))


def draw(plane: Plane, code: FrameCode) -> None:
    """Write the band into the top rows of a luma plane, in place. ValueError for a plane too small to carry it."""
    layout, columns, spans = _drawing(*plane.shape)
    cells = cells_of(layout)
    values = cells.blank.copy()
    bits = np.unpackbits(np.frombuffer(pack(code), np.uint8))
    values[cells.data] = bits * np.uint8(WHITE - BLACK) + np.uint8(BLACK)
    rows = values.reshape(layout.rows, layout.columns).take(columns, axis=1)
    for (top, bottom), row in zip(spans, rows, strict=True):
        plane[top:bottom] = row


@lru_cache(maxsize=1)
def _syndromes() -> NDArray[np.uint32]:
    """What flipping each bit of the code alone does to (CRC of the payload) xor (CRC as read)."""
    base = zlib.crc32(bytes(PAYLOAD_BYTES))
    out = [zlib.crc32((1 << (PAYLOAD_BYTES * 8 - 1 - i)).to_bytes(PAYLOAD_BYTES, "big")) ^ base for i in range(BITS - 32)]
    return np.array(out + [1 << (31 - i) for i in range(32)], np.uint32)


def decide(soft: NDArray[np.float32], repair: bool = True) -> FrameCode | None:
    """The code of 200 signed certainties (positive is 1), repaired by flips where that meets the check; else None."""
    hard = soft > 0
    data = np.packbits(hard).tobytes()
    syndrome = zlib.crc32(data[:PAYLOAD_BYTES]) ^ int.from_bytes(data[PAYLOAD_BYTES:], "big")
    if syndrome == 0:
        return unpack(data)
    if not repair:
        return None
    weakest = np.argpartition(np.abs(soft), FLIPS)[:FLIPS]
    reached = np.zeros(1, np.uint32)
    for effect in _syndromes()[weakest]:
        reached = np.concatenate((reached, reached ^ effect))
    hits = np.flatnonzero(reached == syndrome)
    if len(hits) == 0:
        return None
    for i in range(FLIPS):
        if int(hits[0]) >> i & 1:
            hard[weakest[i]] ^= True
    return unpack(np.packbits(hard).tobytes())


@dataclass(frozen=True, slots=True)
class Rect:
    """Where the whole coded picture lies in a frame, in px; beyond the frame's edges where the frame was cropped."""

    left: float
    top: float
    right: float
    bottom: float


class Sampler:
    """Reads the cells of one layout at one place in frames of one size; a few tens of microseconds a frame."""

    def __init__(self, layout: Layout, rect: Rect, height: int, width: int) -> None:
        self.layout, self.rect = layout, rect
        self._cells = cells_of(layout)
        cell_w = (rect.right - rect.left) / layout.columns
        cell_h = (rect.bottom - rect.top) * layout.share / layout.rows
        xs = rect.left + (np.arange(layout.columns)[:, None] + _INSIDE) * cell_w
        ys = rect.top + (np.arange(layout.rows)[:, None] + _INSIDE) * cell_h
        columns = xs.astype(np.intp).clip(0, width - 1)
        self._rows = ys.astype(np.intp).clip(0, height - 1).ravel()
        line = np.arange(layout.rows * 4).reshape(layout.rows, 4) * width
        index = (line[:, None, :, None] + columns[None, :, None, :]).reshape(layout.rows * layout.columns, 16)
        cells = self._cells
        order = np.concatenate((cells.data, cells.white, cells.black, cells.known))  # so that each kind is a slice
        self._index = np.ascontiguousarray(index[order].T)
        self._known = BITS + len(cells.white) + len(cells.black)
        self.bottom = min(height, round(rect.top + (rect.bottom - rect.top) * layout.share))  # first row below the band

    def read(self, plane: Plane, repair: bool = True) -> tuple[Reading, FrameCode | None]:
        """What stands at this place in a frame of the size this was made for.

        Few steps, each on much: between two pictures a codec has emptied the caches, and then it is the steps that cost."""
        sums = np.add.reduce(plane[self._rows].take(self._index), axis=0, dtype=np.int32)
        calibration = sums[BITS : self._known].tolist()
        half = len(self._cells.white)
        white, black = calibration[:half], calibration[half:]
        high, low = sum(white) / len(white), sum(black) / len(black)
        if high - low < MIN_CONTRAST * _POINTS or min(white) <= max(black):
            return Reading.NONE, None
        middle = (high + low) / 2
        data = sums[:BITS]
        code = unpack(np.packbits(data > middle).tobytes())
        if code is None and repair:
            code = decide((data - middle).astype(np.float32))
        if code is not None:
            return Reading.CODE, code
        right = np.count_nonzero((sums[self._known :] - middle) * self._cells.known_sign > 0)
        return (Reading.CORRUPT if right >= MIN_KNOWN * len(self._cells.known) else Reading.NONE), None
