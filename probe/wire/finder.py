"""Finding the frame code in pictures that were scaled, boxed or slightly cropped on their way.

The search tries the whole frame, then the usual shapes centred in it, then what is left when black bars are trimmed, each
with a few crops of less than a cell. All places are tried at once on their calibration cells alone; only the few that
show calibration are read in full. Where a code was read the finder stays (lock), so a running stream costs one read
a frame. Failed searches are made ever more rarely, because a frame without a code is the expensive one; the count is in
frames, for this folder has no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.model.frames import FrameCode, Reading
from probe.wire.framecode import LAYOUTS, MIN_CONTRAST, Layout, Plane, Rect, Sampler, cells_of, layout_for

_SHAPES = (16 / 9, 9 / 16, 4 / 3, 3 / 4, 1.0)
_BAR = 26  # luma: bars are 16 plus what a codec adds, the band's own black is 32
_TRIED = 24  # places read in full per search
_LONGEST_PAUSE = 32  # frames between searches that keep failing

_Boxes = NDArray[np.float64]  # n x (left, top, right, bottom)


class Finder:
    """One per stream. Not thread-safe. `band` is the first row below the code, `top` the first row of the picture."""

    def __init__(self) -> None:
        self._shape = (0, 0)
        self._lock: Sampler | None = None
        self._pause = 0
        self._wait = 0

    @property
    def band(self) -> int:
        """First row below the band where the code was last seen; 0 while it never was."""
        return self._lock.bottom if self._lock else 0

    @property
    def rect(self) -> Rect | None:
        """Where the coded picture lies; None while none was seen."""
        return self._lock.rect if self._lock else None

    @property
    def layout(self) -> Layout | None:
        """How its cells lie; None while none was seen."""
        return self._lock.layout if self._lock else None

    def find(self, plane: Plane) -> tuple[Reading, FrameCode | None]:
        """The code of this frame: CODE with it, CORRUPT where calibration stands but the check fails, NONE."""
        if plane.shape != self._shape:
            self._shape = (plane.shape[0], plane.shape[1])
            self._lock = None
            self._pause = self._wait = 0
        reading, code = self._lock.read(plane) if self._lock else (Reading.NONE, None)
        if code is None:
            if self._wait > 0:
                self._wait -= 1
                return reading, None
            found = _search(plane)
            if found is not None:
                sampler, found_reading, code = found
                if code is not None or reading is Reading.NONE:
                    self._lock, reading = sampler, found_reading
        if code is not None:
            self._pause = self._wait = 0
            return Reading.CODE, code
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause or 1)
        self._wait = self._pause
        return reading, None


def _search(plane: Plane) -> tuple[Sampler, Reading, FrameCode | None] | None:
    """The first place with a code; else the best place with a damaged one; else None."""
    height, width = plane.shape
    if height < 32 or width < 64:
        return None
    whole = Sampler(layout_for(width, height), Rect(0.0, 0.0, width, height), height, width)
    reading, code = whole.read(plane)
    if code is not None:
        return whole, reading, code
    boxes = _places(plane)
    damaged: Sampler | None = None
    ranked = sorted(
        (pair for layout in LAYOUTS for pair in _calibrated(plane, layout, boxes)), key=lambda pair: pair[0], reverse=True
    )
    for repair in (False, True):
        for _, layout, box in ranked[: _TRIED if not repair else 2]:
            sampler = Sampler(layout, Rect(*box), height, width)
            reading, code = sampler.read(plane, repair)
            if code is not None:
                return sampler, reading, code
            if reading is Reading.CORRUPT and damaged is None:
                damaged = sampler
    return (damaged, Reading.CORRUPT, None) if damaged else None


def _calibrated(plane: Plane, layout: Layout, boxes: _Boxes) -> list[tuple[float, Layout, tuple[float, ...]]]:
    """Places whose calibration columns read as they should, with how clearly they do."""
    height, width = plane.shape
    cells = cells_of(layout)
    index = np.concatenate((cells.white, cells.black))
    offsets = np.array([0.35, 0.65])
    column = (index % layout.columns)[:, None] + offsets
    row = (index // layout.columns)[:, None] + offsets
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    xs = (left + column * (right - left) / layout.columns).astype(np.intp).clip(0, width - 1)
    ys = (top + row * (bottom - top) * (layout.share / layout.rows)).astype(np.intp).clip(0, height - 1)
    levels = plane[ys[:, :, :, None], xs[:, :, None, :]].mean(axis=(2, 3))
    white, black = levels[:, : len(cells.white)], levels[:, len(cells.white) :]
    clear = white.min(axis=1) - black.max(axis=1)
    good = np.flatnonzero((clear > 0) & (white.mean(axis=1) - black.mean(axis=1) >= MIN_CONTRAST))
    return [(float(clear[i]), layout, tuple(boxes[i].tolist())) for i in good]


def _places(plane: Plane) -> _Boxes:
    """Every place worth a look, as boxes of the whole picture."""
    height, width = plane.shape
    bases = [(0.0, 0.0, float(width), float(height))]
    for shape in _SHAPES:
        w, h = (width, width / shape) if width / height < shape else (height * shape, height)
        bases.append(((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2))
    inner = _without_bars(plane)
    if inner is not None:
        left, top, right, bottom = inner
        bases.append((left, top, right, bottom))
        bases.append((left, top, right, height - top))
        # A black picture ends where its band does: its height follows from the width alone.
        bases += [(left, top, right, top + (right - left) / shape) for shape in _SHAPES]
    unique = np.unique(np.array(bases), axis=0)
    return np.concatenate([_cropped(box) for box in unique])


def _cropped(box: NDArray[np.float64]) -> _Boxes:
    """The box, and the boxes it would be had less than a cell been cut off each side."""
    left, top, right, bottom = box
    cell = (right - left) / 40
    row = (bottom - top) / 45
    sides = np.array([0.0, 0.2, 0.4, 0.6]) * cell
    ends = np.array([(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.5, 0.0)]) * row
    before, after, end = (grid.ravel() for grid in np.meshgrid(sides, sides, np.arange(len(ends)), indexing="ij"))
    return np.stack((left - before, top - ends[end, 0], right + after, bottom + ends[end, 1]), axis=1)


def _without_bars(plane: Plane) -> tuple[float, float, float, float] | None:
    """The box of what is not black bars; None where nothing is left or nothing is barred."""
    height, width = plane.shape
    bright = plane > _BAR
    rows = np.flatnonzero(np.count_nonzero(bright[:, ::4], axis=1) > 1)
    columns = np.flatnonzero(np.count_nonzero(bright[::2], axis=0) > 1)
    if len(rows) < 8 or len(columns) < 32:
        return None
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return None if box == (0.0, 0.0, float(width), float(height)) else box
