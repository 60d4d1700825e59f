"""A picture broken below the band while the code in it goes on: what a decoder shows that lost its other slices (grey), or
a transcoder that mixed them up (torn). A code alone would pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import av
import numpy as np

from probe.media.transcode import PictureTranscoder
from probe.sandbox.handover import on_loop
from probe.sandbox.unit import Unit

BAND = 0.15  # of the height, left as it is
STRIPE = 16  # rows
GREY = 128
BITRATE = 1_200_000


class Breaking:
    """`deliver` gets the pictures back, as another source."""

    def __init__(self, deliver: Callable[[Unit], None], how: str) -> None:
        self._deliver = deliver
        self._alter = torn if how == "torn" else grey
        self._transcoder: PictureTranscoder | None = None
        self._source = ""

    def put(self, unit: Unit) -> None:
        """One picture."""
        if self._transcoder is None or unit.source != self._source:
            self.close()
            self._source = unit.source
            self._transcoder = PictureTranscoder(on_loop(self._made(unit)), bitrate=BITRATE, alter=self._alter)
        self._transcoder.put(unit.data, unit.pts, unit.keyframe, unit.arrived)

    def close(self) -> None:
        if self._transcoder is not None:
            self._transcoder.close()
            self._transcoder = None

    def _made(self, first: Unit) -> Callable[[bytes, int, bool, int], None]:
        def made(data: bytes, pts: int, keyframe: bool, arrived: int) -> None:
            if self._transcoder is not None and first.source == self._source:
                source = f"{first.source}/broken"
                self._deliver(replace(first, source=source, data=data, pts=pts, keyframe=keyframe, arrived=arrived))

        return made


def _first_row(frame: av.VideoFrame) -> int:
    return round(frame.height * BAND / STRIPE + 0.5) * STRIPE


def grey(frame: av.VideoFrame) -> av.VideoFrame:
    """Nothing below the band."""
    planes = frame.to_ndarray(format="yuv420p")
    planes[_first_row(frame) :] = GREY
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def torn(frame: av.VideoFrame) -> av.VideoFrame:
    """Stripes of the picture below the band, each moved sideways by chance."""
    planes = frame.to_ndarray(format="yuv420p")
    for top in range(_first_row(frame), frame.height, STRIPE):
        stripe = planes[top : min(top + STRIPE, frame.height)]
        stripe[:] = np.roll(stripe, random.randrange(frame.width // 8, frame.width * 7 // 8), axis=1)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")
