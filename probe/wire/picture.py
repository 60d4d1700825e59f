"""The picture below the band: which picture of the loop it is, readable from luma alone, and whether it moves with its code.

A fresh code says nothing of what lies below it: the band may be a slice of its own, and a decoder that lost the other
slices shows old or grey picture under new codes. So the programme's picture is made to be recognised. Below the band and a
strip that only encoders need, 40 large cells (8 x 5 in landscape, 5 x 8 in portrait) are each brighter or darker than the
middle. Twenty of them follow a square wave of their own over a loop of 90 pictures, the other twenty are their opposites,
so that the mean of all is the middle, whatever was done to range and contrast. Each picture turns at least four cells; a
cell rests for at least six pictures. What else is painted averages out within a cell.

The number of the loop's picture is no function of the code's sequence: publishers jump to a later keyframe when they are
asked for one. `PictureCheck` therefore learns the distance between the two, allows jumps to the beginning of another
group of pictures, and calls the picture broken when several cells stay wrong for three pictures, or when all are alike.
Cells that turned within the last three pictures are left out, for encoders short of bits are late. A picture that was
never recognised is not judged, unless it has no structure at all: then something is missing.

Not attempted: telling which part is broken, judging the colour, pictures half covered by someone's overlay (more than two
cells).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probe.model.frames import SEQUENCE_MODULUS, FrameCode
from probe.wire.framecode import LANDSCAPE, Layout, Plane, Rect

LOOP = 90  # pictures; the publisher's loop, and what the waves repeat after
GROUP = 30  # pictures from one keyframe of the loop to the next
CELLS = 40
MIDDLE, SWING = 118, 40  # luma
PATCH = 0.56  # of a cell's width and height, around its middle, is bright or dark; flat

_LATE = 3  # pictures an encoder may need to show that a cell has turned
_WRONG = 2  # cells that may be wrong: a station's logo
_STREAK = 3  # pictures that must be wrong before they are called so
_CLEAR = 0.3  # of the mean swing: nearer to the middle a cell is not counted as wrong
_FLAT = 5.0  # luma: mean swing below which nothing is painted
_EARLY = 3  # pictures by which a first recognition can have been late
_INSIDE = np.array([0.35, 0.45, 0.55, 0.65])  # where a cell is sampled, each way


@dataclass(frozen=True, slots=True)
class Grid:
    """How the cells lie: from `top` (share of the picture's height) down to its end, over the full width."""

    columns: int
    rows: int
    top: float


_GRIDS = {True: Grid(8, 5, 72 / 360), False: Grid(5, 8, 112 / 640)}


def grid_of(layout: Layout) -> Grid:
    """The grid below a band of this layout."""
    return _GRIDS[layout is LANDSCAPE]


# The course of each of the twenty through the loop, first picture in the highest bit. Found by a random search for: two or
# three turns in every picture, six pictures of rest between turns, pictures five or more apart differing in seven at least.
# Never change it: publishers and viewers of different versions meet.
_WAVES = (
    0x3F807E003FC0FC0FFF0000F, 0x3FFC0FE0001FE03F81FE001, 0x2000FC0FE07FFFF803FF01F, 0x00000FE07F00FFFC007F03F,
    0x3C0FFC00FE007FF01FFF803, 0x3FE03FFFC07E007FFE07E03, 0x3803FFF80FC000FE07FFE07, 0x207F0001FE03F003FFFE01F,
    0x3FF007F81FFF003FC00FC0F, 0x303F01FFF801F81FF0000FF, 0x3FC00FF003F03F80FFFC01F, 0x3F01F803FFF8003F00FC0FF,
    0x3FFF80FE07E07F00001FF81, 0x3C07FF800FFC01FFC0007FF, 0x3C07FFE0000FC0007FE003F, 0x30003FC007FFF81FF807FFF,
    0x3E001FFF00FFF0000FC000F, 0x00FE00FC03FF81FE03F007F, 0x3E07E03F801FFC07E07FC07, 0x381FE07F03F81FE00FC003F,
)  # fmt: skip


@lru_cache(maxsize=1)
def signs() -> NDArray[np.int8]:
    """LOOP x CELLS: 1 where a cell is bright in a picture of the loop, -1 where it is dark."""
    half = np.array([[1 if wave >> (LOOP - 1 - k) & 1 else -1 for wave in _WAVES] for k in range(LOOP)], np.int8)
    table = np.concatenate((half, -half), axis=1)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The signs, and the same with 0 for cells that turned within the last _LATE pictures."""
    full = signs().astype(np.float32)
    steady = full.copy()
    for back in range(1, _LATE + 1):
        steady[full != np.roll(full, back, axis=0)] = 0
    return full, steady


class Grids:
    """The cells' mean luma, read at one place in frames of one size."""

    def __init__(self, layout: Layout, rect: Rect, height: int, width: int) -> None:
        grid = grid_of(layout)
        self.place = layout, rect, height, width
        self._shape = grid.rows, len(_INSIDE), grid.columns, len(_INSIDE)
        cell_w = (rect.right - rect.left) / grid.columns
        tall = rect.bottom - rect.top
        cell_h = tall * (1 - grid.top) / grid.rows
        xs = rect.left + ((np.arange(grid.columns)[:, None] + _INSIDE) * cell_w).ravel()
        ys = rect.top + tall * grid.top + ((np.arange(grid.rows)[:, None] + _INSIDE) * cell_h).ravel()
        self._rows = ys.astype(np.intp).clip(0, height - 1)
        self._columns = xs.astype(np.intp).clip(0, width - 1)

    def read(self, plane: Plane) -> NDArray[np.float32]:
        """Each cell's distance from the mean of all, in luma."""
        points = plane[self._rows].take(self._columns, axis=1).reshape(self._shape)
        means = points.sum(axis=3, dtype=np.int32).sum(axis=1).ravel() * np.float32(1 / len(_INSIDE) ** 2)
        distances: NDArray[np.float32] = means - means.sum() / np.float32(CELLS)
        return distances


def recognise(cells: NDArray[np.float32]) -> tuple[int, int]:
    """The picture of the loop that `cells` (as Grids.read gives them) resemble most, and how many of them are wrong for it."""
    full, steady = _tables()
    index = int((full @ cells).argmax())
    return index, _wrong(cells, steady[index], float(np.abs(cells).mean()))


def _wrong(cells: NDArray[np.float32], expected: NDArray[np.float32], swing: float) -> int:
    return int(np.count_nonzero(cells * expected < -_CLEAR * swing))


class PictureCheck:
    """One per stream: is the picture below the band the programme's, and the one that belongs to the code?"""

    def __init__(self) -> None:
        self._grids: Grids | None = None
        self._forget(None)

    def _forget(self, publish: tuple[int, int, int] | None) -> None:
        self._publish = publish
        self._offset: int | None = None  # loop index minus sequence
        self._good = 0  # sequence of the last picture that was right
        self._streak = 0
        self._broken = False
        self._before: tuple[int, int] | None = None  # sequence and best index of the picture before, where it was wrong

    def look(self, plane: Plane, layout: Layout, rect: Rect, code: FrameCode) -> bool | None:
        """True: it is. False: it is broken. None: not known (yet)."""
        if (publish := (code.run, code.trace, code.publish)) != self._publish:
            self._forget(publish)
        if self._grids is None or self._grids.place != (layout, rect, *plane.shape):
            self._grids = Grids(layout, rect, *plane.shape)
        cells = self._grids.read(plane)
        swing = float(np.abs(cells).mean())
        if swing < _FLAT:
            return self._doubt(code.sequence, None, _STREAK if self._offset is None else 1)
        if self._offset is not None:
            expected = (code.sequence + self._offset) % LOOP
            if _wrong(cells, _tables()[1][expected], swing) <= _WRONG:
                return self._right(code.sequence, expected)
        index, wrong = recognise(cells)
        if wrong > _WRONG:
            return None if self._offset is None and not self._broken else self._doubt(code.sequence, None, 1)
        if self._offset is None or self._may_jump(code.sequence, index):
            return self._right(code.sequence, index)
        return self._doubt(code.sequence, index, 1)

    def _right(self, sequence: int, index: int) -> bool:
        self._offset = (index - sequence) % LOOP
        self._good = sequence
        self._streak, self._broken, self._before = 0, False, None
        return True

    def _doubt(self, sequence: int, index: int | None, weight: int) -> bool | None:
        self._before = None if index is None else (sequence, index)
        self._streak += weight
        self._broken = self._broken or self._streak >= _STREAK
        return False if self._broken else None

    def _may_jump(self, sequence: int, index: int) -> bool:
        """Whether the publisher can have got to this picture of the loop: the first recognition was a little late, or it
        jumped to the beginning of another group since. A picture that stays while the sequence goes on cannot."""
        assert self._offset is not None
        if self._before is not None and self._before[1] == index and self._before[0] != sequence:
            return False
        expected = (sequence + self._offset) % LOOP
        if (index - expected) % LOOP <= _EARLY:
            return True
        passed = (sequence - self._good) % SEQUENCE_MODULUS
        last = (self._good + self._offset) % LOOP
        return passed >= LOOP or (index // GROUP != last // GROUP and index % GROUP < passed)
