"""The picture below the band: which picture of the loop it is, readable from luma alone, and whether it moves with its code.

A fresh code says nothing of what lies below it: the band may be a slice of its own, and a decoder that lost the other
slices shows old or grey picture under new codes. So the programme's picture is made to be recognised. Below the band and a
strip that only encoders need, there are 40 large cells (8 x 5 in landscape, 5 x 8 in portrait), each with a flat patch in its
middle that is bright or dark. Twenty of them follow a course of their own through a loop of 90 pictures, the other twenty
are their opposites, so that the mean of all is the middle, whatever was done to range and contrast. Each picture turns at
least four patches; a patch rests for at least six pictures. Turning flat patches is the cheapest motion that encoders know.

The number of the loop's picture is no function of the code's sequence: publishers jump to a later keyframe when they are
asked for one. `PictureCheck` therefore learns the distance between the two, learns it anew where three pictures in a row
agree on another, and calls the picture broken when several cells are wrong, or all are alike, in four pictures with none
wholly right between them; until it is seen to move again. Cells that turned within the last three pictures are left out,
for encoders short of bits are late. A picture that was never recognised is not judged, unless it has no structure at all:
then something is missing, from the first one on.

Not attempted: telling which part is broken, judging the colour, pictures half covered by someone's overlay (more than two
cells).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probe.model.frames import FrameCode
from probe.wire.framecode import LANDSCAPE, Layout, Plane, Rect

LOOP = 90  # pictures; the publisher's loop, and what the waves repeat after
GROUP = 30  # pictures from one keyframe of the loop to the next
CELLS = 40
MIDDLE, SWING = 118, 40  # luma
PATCH = 0.56  # of a cell's width and height, around its middle, is bright or dark; flat

_LATE = 3  # pictures an encoder may need to show that a cell has turned
_WRONG = 2  # cells that may be wrong: a station's logo
_AGREE = 3  # pictures in a row that teach another offset
_STREAK = 4  # pictures that must be wrong, with none wholly right between them, before they are called so
_CALM = 15  # pictures after which those before are forgotten
_CLEAR = 0.3  # of the mean swing: nearer to the middle a cell is not what it should be
_FLAT = 8.0  # luma: mean swing below which nothing is painted
_INSIDE = np.array([0.36, 0.5, 0.64])  # where a cell is sampled, each way: within its patch


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
def _tables() -> tuple[NDArray[np.float32], list[list[int]]]:
    """The signs; the same with 0 for cells that turned within the last _LATE pictures."""
    full = signs()
    steady = full.copy()
    for back in range(1, _LATE + 1):
        steady[full != np.roll(full, back, axis=0)] = 0
    return full.astype(np.float32), steady.tolist()


class Grids:
    """The patches' mean luma, read at one place in frames of one size; some ten microseconds a frame."""

    def __init__(self, layout: Layout, rect: Rect, height: int, width: int) -> None:
        grid, points = grid_of(layout), len(_INSIDE)
        cell_w = (rect.right - rect.left) / grid.columns
        tall = rect.bottom - rect.top
        cell_h = tall * (1 - grid.top) / grid.rows
        xs = rect.left + (np.arange(grid.columns)[:, None] + _INSIDE) * cell_w
        ys = rect.top + tall * grid.top + (np.arange(grid.rows)[:, None] + _INSIDE) * cell_h
        self._rows = ys.astype(np.intp).clip(0, height - 1).ravel()
        columns = xs.astype(np.intp).clip(0, width - 1)
        line = np.arange(len(self._rows)).reshape(grid.rows, points) * width
        index = line[:, None, :, None] + columns[None, :, None, :]
        self._index = np.ascontiguousarray(index.reshape(CELLS, points * points).T)

    def read(self, plane: Plane) -> tuple[list[float], float]:
        """Each patch's distance from the mean of all, and the mean of these distances' sizes, in luma.

        Numbers rather than arrays: between two pictures a codec has emptied the caches, and each step of numpy has its price."""
        points = plane[self._rows].take(self._index)
        sums = np.add.reduce(points, axis=0, dtype=np.int32).tolist()
        mean, each = sum(sums) / CELLS, 1 / len(points)
        cells = [(one - mean) * each for one in sums]
        return cells, sum(map(abs, cells)) / CELLS


def recognise(cells: list[float], swing: float) -> tuple[int, int]:
    """The picture of the loop that cells (as Grids.read gives them) resemble most, and how many of them are wrong for it."""
    index = int((_tables()[0] @ np.array(cells, np.float32)).argmax())
    return index, _mismatches(cells, index, swing)


def _mismatches(cells: list[float], index: int, swing: float) -> int:
    """Cells that are not clearly what this picture of the loop has there."""
    clear, wrong = _CLEAR * swing, 0
    for cell, sign in zip(cells, _tables()[1][index], strict=True):
        if sign and cell * sign <= clear:
            wrong += 1
    return wrong


class PictureCheck:
    """One per stream: is the picture below the band the programme's, and does it move with the code?"""

    def __init__(self) -> None:
        self._grids: Grids | None = None
        self._place: tuple[Layout, Rect, tuple[int, ...]] | None = None
        self._forget(None)

    def _forget(self, publish: tuple[int, int, int] | None) -> None:
        self._publish = publish
        self._offset: int | None = None  # loop index minus sequence
        # What the pictures before had that were wrong, and their sequences.
        self._others: deque[tuple[int | None, int]] = deque(maxlen=_AGREE - 1)
        self._streak = 0  # pictures that were wrong since all was right
        self._calm = 0  # pictures since one was wrong
        self._broken = False

    def look(self, plane: Plane, layout: Layout, rect: Rect, code: FrameCode) -> bool | None:
        """True: it is. False: it is broken. None: not known (yet)."""
        if (publish := (code.run, code.trace, code.publish)) != self._publish:
            self._forget(publish)
        if self._grids is None or self._place != (layout, rect, plane.shape):
            self._place = layout, rect, plane.shape
            self._grids = Grids(layout, rect, *plane.shape)
        cells, swing = self._grids.read(plane)
        if swing < _FLAT:
            return self._wrong(None, code.sequence)
        # What was broken must be seen to move: a still picture is the expected one for a moment once in each loop.
        if self._offset is not None and not self._broken:
            expected = (code.sequence + self._offset) % LOOP
            if (wrong := _mismatches(cells, expected, swing)) <= _WRONG:
                return self._right(self._offset, wrong)
        index, wrong = recognise(cells, swing)
        if wrong > _WRONG:
            return None if self._offset is None and not self._broken else self._wrong(None, code.sequence)
        offset = (index - code.sequence) % LOOP
        if (self._offset is None and not self._broken) or self._agreed(offset, code.sequence):
            return self._right(offset, wrong)
        return self._wrong(offset, code.sequence)

    def _agreed(self, offset: int, sequence: int) -> bool:
        """Whether the pictures before this one had this offset as well: a publisher that jumped goes on from where it jumped
        to; a picture that stands still, or moves too slowly, soon has another."""
        before = [place for place in self._others if place[0] == offset]
        return len(before) == _AGREE - 1 and sequence not in [place[1] for place in before]

    def _right(self, offset: int, wrong: int) -> bool:
        learnt = offset != self._offset or self._broken
        self._offset = offset
        self._others.clear()
        self._broken = False
        self._calm += 1
        if learnt or not wrong or self._calm >= _CALM:  # with a few cells wrong the damage may only be hidden by turning ones
            self._streak = 0
        return True

    def _wrong(self, offset: int | None, sequence: int) -> bool | None:
        self._others.append((offset, sequence))
        self._calm = 0
        self._streak += 1
        self._broken = self._broken or self._streak >= _STREAK
        # Before the first right one nothing speaks for a wrong one: a start must not succeed with it.
        return False if self._broken or self._offset is None else None
