"""What the programme shows and sounds like: cheap to draw, cheap to encode, never still.

The picture is a smooth pattern twice as wide as the frame that scrolls about a 160th of it a frame, with a block that crosses it
and changes its grey; no noise, so the encoder keeps its bitrate at any motion. The sound is a quiet hiss, so that no
codec falls silent, and the chirp at each whole second.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.model.frames import FrameCode
from probe.wire.chirp import SECONDS, Samples, chirp
from probe.wire.framecode import band_height, draw

_NEUTRAL = 128
_BLACK = 16
_CHIRP_LEVEL = 0.35
_HISS_LEVEL = 0.01


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A view of the luma plane, height x width, rows `line_size` apart. ValueError for a format without one."""
    if not frame.format.name.startswith(("yuv", "nv", "gray")) or frame.format.components[0].bits != 8:
        raise ValueError(f"no 8-bit luma plane in {frame.format.name}")
    return _view(frame, 0)


def _view(frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


class Painter:
    """Draws the programme's pictures. `black` blanks what is below the band; the code stays."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._band = band_height(width, height)
        self._speed = 2 * round(width / 320)  # px a frame, even for chroma's sake
        unit = max(width, height) / 640
        y, x = np.mgrid[0:height, 0 : 2 * width].astype(np.float32)
        turn = 2 * np.pi / width  # whole periods in the width, so that the scroll has no seam
        wave = 60 * np.sin(17 * turn * x) * np.cos(y / (23 * unit))
        check = 25 * (((x // (width // 20)) + (y // (24 * unit))) % 2)
        self._wide = (110 + wave + check).clip(16, 235).astype(np.uint8)
        cx = np.arange(width)  # twice the chroma width
        self._u = np.broadcast_to((_NEUTRAL + 40 * np.sin(6 * turn * cx)).astype(np.uint8), (height // 2, width))
        self._v = np.broadcast_to((_NEUTRAL + 40 * np.cos(10 * turn * cx)).astype(np.uint8), (height // 2, width))

    def paint(self, number: int, code: FrameCode, black: bool) -> av.VideoFrame:
        """Picture `number` with its code."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        y, u, v = (_view(frame, i) for i in range(3))
        if black:
            y[self._band :] = _BLACK
            u[:] = v[:] = _NEUTRAL
        else:
            at = self._speed * number % self.width
            y[self._band :] = self._wide[self._band :, at : at + self.width]
            self._block(y, number)
            half = at // 2
            u[:] = self._u[:, half : half + self.width // 2]
            v[:] = self._v[:, half : half + self.width // 2]
            u[: self._band // 2] = v[: self._band // 2] = _NEUTRAL
        draw(y, code)
        return frame

    def _block(self, y: NDArray[np.uint8], number: int) -> None:
        side = self.width // 6
        left = int((self.width - side) * (0.5 + 0.5 * np.sin(number / 20)))
        top = self.height // 2
        y[top : top + self.height // 5, left : left + side] = 235 - 5 * number % 200


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
            mark = chirp(self.RATE, float(at - onset) / self.RATE)
            lo, hi = max(at, 0), min(at + len(mark), count)
            if lo < hi:
                out[lo:hi] += np.float32(_CHIRP_LEVEL) * mark[lo - at : hi - at]
        return out
