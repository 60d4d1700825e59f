"""What the programme shows and sounds like: cheap to draw, cheap to encode, never still, and to be recognised.

Below the band lies a smooth pattern, and on it the patches that turn bright and dark and tell which picture of the loop it is
(probe/wire/picture.py). The pattern stands still: a scroll beneath the patches was measured to cost encoders four times the
bits, and then the code suffers. What is encoded once, at leisure, carries grain as well, for a rate worth its name.
Right below the band lies a strip of small checks: nothing in the picture looks like it, so no encoder that sees only what
is below the band finds its motion above the strip. The sound is a quiet hiss, so that no codec falls silent, and the chirp
at each whole second.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.model.frames import FrameCode
from probe.wire.chirp import SECONDS, Samples, chirp
from probe.wire.framecode import band_height, draw, layout_for
from probe.wire.picture import LOOP, MIDDLE, PATCH, SWING, grid_of, signs

_USUAL = frozenset({"yuv420p", "yuvj420p"})  # what nearly every picture is: to be asked no further
_NEUTRAL = 128
_BLACK = 16
_STRIP = 32  # px of checks
_GRAIN = 2.5  # luma, standard deviation
_SHIFT = 64  # px by which it moves at most
_CHIRP_LEVEL = 0.35
_HISS_LEVEL = 0.01
_CHIRP = round(SECONDS * 48_000)  # samples


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A view of the luma plane, height x width, rows `line_size` apart. ValueError for a format without one."""
    form = frame.format
    if form.name not in _USUAL and (not form.name.startswith(("yuv", "nv", "gray")) or form.components[0].bits != 8):
        raise ValueError(f"no 8-bit luma plane in {form.name}")
    return _view(frame, 0)


def _view(frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = VideoPlane(frame, index)  # `frame.planes` makes all three of them
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))


class Painter:
    """Draws the programme's pictures. `black` blanks what is below the band; the code stays."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.band = band_height(width, height)
        grid = grid_of(layout_for(width, height))
        top = round(grid.top * height)
        down, over = (height - top) / grid.rows, width / grid.columns
        rows = [_inner(top, down, row) for row in range(grid.rows)]
        columns = [_inner(0, over, column) for column in range(grid.columns)]
        self._patches = [(row, column) for row in rows for column in columns]
        self._levels = (MIDDLE + SWING * signs().astype(np.int64)).tolist()
        unit = max(width, height) / 640
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) / unit
        self._y = (MIDDLE + 24 * np.sin(x / 5.7) * np.cos(y / 23) + 8 * ((x // 24 + y // 24) % 2)).astype(np.uint8)
        end = min(top, self.band + _STRIP)
        self._y[self.band : end] = MIDDLE - 60 + 120 * ((np.arange(end - self.band)[:, None] // 4 + np.arange(width) // 8) % 2)
        cx = np.arange((width + 1) // 2) / unit
        self._u = np.broadcast_to(
            (_NEUTRAL + 40 * np.sin(cx / 17)).astype(np.uint8), ((height + 1) // 2, (width + 1) // 2)
        ).copy()
        self._v = np.broadcast_to((_NEUTRAL + 40 * np.cos(cx / 10)).astype(np.uint8), self._u.shape).copy()
        self._u[: end // 2] = self._v[: end // 2] = _NEUTRAL
        self._strip = end

    def paint(self, number: int, code: FrameCode, black: bool) -> av.VideoFrame:
        """The picture `number` of the loop, counted on beyond its end, with its code."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        y, u, v = (_view(frame, i) for i in range(3))
        if black:
            y[self.band :], u[:], v[:] = _BLACK, _NEUTRAL, _NEUTRAL
        else:
            y[:], u[:], v[:] = self._y, self._u, self._v
            self._patch(y, number)
        draw(y, code)
        return frame

    def below(self, number: int) -> av.VideoFrame:
        """The same picture without its band, with grain."""
        frame = av.VideoFrame(self.width, self.height - self.band, "yuv420p")
        y, u, v = (_view(frame, i) for i in range(3))
        whole = self._y.copy()
        self._patch(whole, number)
        down, over = number % LOOP * 37 % _SHIFT, number % LOOP * 23 % _SHIFT
        whole[self._strip :] += self._grain[down + self._strip : down + self.height, over : over + self.width]
        y[:], u[:], v[:] = whole[self.band :], self._u[self.band // 2 :], self._v[self.band // 2 :]
        return frame

    @cached_property
    def _grain(self) -> NDArray[np.uint8]:
        """A field of it, moved about from picture to picture, to be added modulo 256."""
        field = np.random.default_rng(11).standard_normal((self.height + _SHIFT, self.width + _SHIFT), np.float32)
        return (field * _GRAIN).round().astype(np.int8).view(np.uint8)

    def _patch(self, y: NDArray[np.uint8], number: int) -> None:
        for patch, level in zip(self._patches, self._levels[number % LOOP], strict=True):
            y[patch] = level


def _inner(start: float, size: float, number: int) -> slice:
    """The patch's part of the `number`-th cell."""
    middle = start + (number + 0.5) * size
    return slice(round(middle - size * PATCH / 2), round(middle + size * PATCH / 2))


class Synthesizer:
    """The programme's sound. Sample 0 sounds at Unix time `origin_ns`."""

    RATE = 48_000
    BLOCK = 960  # 20 ms

    def __init__(self, origin_ns: int) -> None:
        self._origin = origin_ns
        self._hiss = np.random.default_rng(7).normal(0, _HISS_LEVEL, self.RATE).astype(np.float32)

    def block(self, first: int, count: int = BLOCK) -> Samples:
        """`count` samples from sample `first` on, mono."""
        out = self._hiss.take(np.arange(first, first + count), mode="wrap")
        began = self._origin + first * NS // self.RATE
        # A chirp that began up to its own length ago reaches into this block.
        for second in range((began - round(SECONDS * NS)) // NS, (began + count * NS // self.RATE) // NS + 1):
            onset = Fraction((second * NS - self._origin) * self.RATE, NS) - first
            at = -int(-onset // 1)  # the first sample not before the onset
            lo, hi = max(at, 0), min(at + _CHIRP, count)
            if lo < hi:
                mark = chirp(self.RATE, float(at - onset) / self.RATE)
                out[lo:hi] += np.float32(_CHIRP_LEVEL) * mark[lo - at : hi - at]
        return out
