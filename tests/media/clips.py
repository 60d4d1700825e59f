"""Pictures, encodes and changes of picture for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from probe.media.feed import Feed
from probe.media.picture import Painter, luma
from probe.model.frames import FrameCode

Change = Callable[[av.VideoFrame], av.VideoFrame]


def code_of(number: int) -> FrameCode:
    return FrameCode(
        run=0xC0FFEE42, trace=0x9F3AC17BE2D05586, publish=2, sequence=number, stamp_ms=1_795_244_028_000 + 33 * number
    )


def pictures(size: tuple[int, int], count: int) -> Iterator[av.VideoFrame]:
    painter = Painter(*size)
    for number in range(count):
        yield stamped(painter.paint(number, code_of(number), black=False), number)


def stamped(frame: av.VideoFrame, number: int | None) -> av.VideoFrame:
    frame.pts, frame.time_base = number, Fraction(1, 30)
    return frame


def of_luma(plane: np.ndarray) -> av.VideoFrame:
    height, width = plane.shape
    frame = av.VideoFrame(width, height, "yuv420p")
    luma(frame)[:] = plane
    for chroma in frame.planes[1:]:
        chroma.update(bytes([128]) * chroma.buffer_size)
    return frame


class Transcoder:
    """One encode and decode at `kbps`; a picture out for each one in."""

    def __init__(self, codec: str, kbps: int) -> None:
        self._codec, self._kbps = codec, kbps
        self._encoder: Any = None
        self._decoder: Any = av.CodecContext.create({"libx264": "h264", "libvpx": "vp8"}[codec], "r")
        self._decoder.thread_count = 1

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self._encoder is None:
            self._encoder = encoder(self._codec, frame.width, frame.height, self._kbps)
        frame.pict_type = PictureType.NONE
        (packet,) = self._encoder.encode(frame)
        (out,) = self._decoder.decode(packet)
        picture: av.VideoFrame = out
        return picture


def encoder(codec: str, width: int, height: int, kbps: int) -> Any:
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.bit_rate, context.gop_size, context.thread_count = kbps * 1000, 30, 1
    rate = {"maxrate": f"{kbps}k", "bufsize": f"{kbps}k"}
    if codec == "libx264":
        context.options = {"preset": "veryfast", "tune": "zerolatency", **rate}
    else:
        context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "minrate": f"{kbps}k", **rate}
    return context


def scale(width: int, height: int) -> Change:
    return lambda frame: stamped(frame.reformat(width, height, "yuv420p", interpolation="BICUBIC"), frame.pts)


def box(width: int, height: int) -> Change:
    def change(frame: av.VideoFrame) -> av.VideoFrame:
        plane = luma(frame)
        out = np.full((height, width), 16, np.uint8)
        top, left = (height - plane.shape[0]) // 2 & ~1, (width - plane.shape[1]) // 2 & ~1
        out[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
        return stamped(of_luma(out), frame.pts)

    return change


def cut(left: int, top: int, right: int, bottom: int) -> Change:
    def change(frame: av.VideoFrame) -> av.VideoFrame:
        plane = luma(frame)
        return stamped(of_luma(plane[top : plane.shape[0] - bottom, left : plane.shape[1] - right]), frame.pts)

    return change


def levels(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    table = function(np.arange(256.0)).clip(0, 255).astype(np.uint8)
    return lambda frame: stamped(of_luma(table[luma(frame)]), frame.pts)


def through(frames: Iterable[av.VideoFrame], changes: Iterable[Change]) -> Iterator[av.VideoFrame]:
    steps = list(changes)
    for frame in frames:
        for step in steps:
            frame = step(frame)
        yield frame


async def records(feed: Feed, count: int, within: float = 20.0) -> list[Any]:
    """The next `count` records."""
    out: list[Any] = []
    async with asyncio.timeout(within):
        while len(out) < count:
            record = await feed.get()
            assert record is not None
            out.append(record)
    return out
