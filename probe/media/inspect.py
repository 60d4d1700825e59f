"""What a decoded picture or sound says: its code, whether it is black, moved, and is the programme's, and the chirps.

Pictures are read where the decoder left them: the luma plane is viewed, not copied, and only a coarse grid of it is
touched beside the band. `changed` compares with the last picture that had changed, so a slow pan counts every few
pictures, while the shimmer an encoder gives a still picture at each keyframe does not. Colour and sharpness are nobody's
business here.
"""

from __future__ import annotations

from collections import deque

import av
import numpy as np
from numpy.typing import NDArray

from probe.media.picture import luma
from probe.model.clock import NS, Clock
from probe.model.frames import Chirp, FrameCode, FrameRecord
from probe.wire.chirp import RATE, ChirpFinder
from probe.wire.finder import Finder
from probe.wire.picture import PictureCheck

_ACROSS = 160  # grid points along the longer side
_BLOCK = 4  # grid points each way whose mean is compared: codec noise averages out, movement does not
_BLACK_MEAN = 20.0
_BLACK_PEAK = 28.0  # no block of it brighter
_STEP = 12  # luma a block must move to count as moved
_MOVED = 0.01  # share of blocks that makes a picture changed
_BAND_SHARE = 48 / 360  # left out as if there were a band, while none was seen
_HEARD_AT_ONCE = 0.2  # seconds of sound listened to together: each listening has a price of its own
_GAP = 0.010  # seconds by which sound may miss its place before the listening starts anew


class Inspector:
    """One per stream, used from one thread."""

    def __init__(self, clock: Clock, rendition: str = "") -> None:
        self._clock = clock
        self._rendition = rendition
        self._finder = Finder()
        self._check = PictureCheck()
        self._before: NDArray[np.int16] | None = None
        self._code: FrameCode | None = None
        self._ear = _Ear()

    def picture(
        self,
        frame: av.VideoFrame,
        *,
        arrived: int,
        size: int,
        keyframe: bool,
        due: int | None = None,
        media_time: float | None = None,
        rendition: str | None = None,
    ) -> FrameRecord:
        """The record of one decoded picture. ValueError for a pixel format without an 8-bit luma plane."""
        plane = luma(frame)
        reading, code = self._finder.find(plane)
        decoded = self._clock.now()
        rect = self._finder.rect
        top = self._finder.band or round(plane.shape[0] * _BAND_SHARE)
        left, right, bottom = 0, plane.shape[1], plane.shape[0]
        if rect is not None:  # bars are black by nature
            left, right = max(0, round(rect.left)), min(right, round(rect.right))
            bottom = min(bottom, round(rect.bottom))
        # Chroma lies half a block off the band's edge: start a little below it.
        step = max(1, max(plane.shape) // _ACROSS)
        layout = self._finder.layout
        intact = None if code is None or rect is None or layout is None else self._check.look(plane, layout, rect, code)
        if intact:  # the programme's own picture: not black, and another one wherever its code is
            black, changed = False, code != self._code
            self._before = None
        else:
            blocks = _blocks(plane[top + 4 : bottom : step, left:right:step])
            black, changed = _is_black(blocks), self._is_changed(blocks)
        self._code = code
        return FrameRecord(
            arrived=arrived,
            decoded=decoded,
            shown=decoded if due is None else max(decoded, due),
            media_time=media_time,
            size=size,
            keyframe=keyframe,
            width=frame.width,
            height=frame.height,
            reading=reading,
            code=code,
            black=black,
            changed=changed,
            intact=intact,
            rendition=self._rendition if rendition is None else rendition,
        )

    def sound(self, frame: av.AudioFrame, *, shown: int, media_time: float | None) -> list[Chirp]:
        """Chirps completed by this piece of sound, whose first sample a player sounds at `shown`."""
        return self._ear.hear(frame, shown, media_time)

    def _is_changed(self, blocks: NDArray[np.int16]) -> bool:
        before = self._before
        if before is not None and before.shape == blocks.shape:
            moved = np.count_nonzero(np.abs(blocks - before) > _STEP * _BLOCK * _BLOCK)
            if moved <= _MOVED * blocks.size:
                return False
        self._before = blocks
        return True


def _blocks(grid: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Sums of _BLOCK x _BLOCK grid points, row by row and then column by column: numpy's sums over short axes cost four times
    as much."""
    height, width = (size // _BLOCK * _BLOCK for size in grid.shape)
    points = grid[:height, :width].astype(np.int16)
    rows = points[0::4] + points[1::4] + points[2::4] + points[3::4]
    sums: NDArray[np.int16] = rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]
    return sums


def _is_black(blocks: NDArray[np.int16]) -> bool:
    if blocks.size == 0:
        return False
    points = _BLOCK * _BLOCK
    return int(blocks.max()) <= _BLACK_PEAK * points and float(blocks.mean()) <= _BLACK_MEAN * points


class _Ear:
    """Any rate and layout down to what the chirp finder listens to; marks back to when they are sounded."""

    def __init__(self) -> None:
        self._format: tuple[str, str, int] | None = None
        self._restart()

    def _restart(self) -> None:
        self._finder = ChirpFinder()
        self._taken = 0  # input samples since the start
        self._pieces: deque[tuple[float, int, float | None]] = deque(maxlen=256)  # (start s, shown, media time)
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        self._waiting = av.AudioFifo()
        self._expected: float | None = None

    def hear(self, frame: av.AudioFrame, shown: int, media_time: float | None) -> list[Chirp]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        gap = media_time is not None and self._expected is not None and abs(media_time - self._expected) > _GAP
        chirps: list[Chirp] = []
        if kind != self._format or gap:
            chirps = self._listen()
            self._restart()
            self._format = kind
        self._pieces.append((self._taken / frame.sample_rate, shown, media_time))
        frame.pts = None
        self._waiting.write(frame)
        self._taken += frame.samples
        if media_time is not None:
            self._expected = media_time + frame.samples / frame.sample_rate
        return chirps + self._listen() if self._waiting.samples >= _HEARD_AT_ONCE * frame.sample_rate else chirps

    def _listen(self) -> list[Chirp]:
        """To what waits."""
        together = self._waiting.read()
        if together is None:
            return []
        chirps: list[Chirp] = []
        for piece in self._resampler.resample(together):
            for mark in self._finder.push(piece.to_ndarray()[0]):
                chirps += self._place(mark.onset / RATE, mark.score)
        return chirps

    def _place(self, onset: float, score: float) -> list[Chirp]:
        for start, shown, media_time in reversed(self._pieces):
            if start <= onset:
                after = onset - start
                when = None if media_time is None else media_time + after
                return [Chirp(shown=shown + round(after * NS), media_time=when, score=score)]
        return []
