"""Programmes encoded once: a loop of pictures below the band, proven to survive its splicing.

What is sent is the loop with a fresh band before each picture (probe/wire/h264_splice.py), for which nothing is encoded.
The gate: every loop is decoded with random bands, over its seam and with a jump, and its lower pictures must be those of
the encoder bit for bit, each code must read and each picture be recognised. A loop that fails is encoded again with
shorter motion vectors; if that fails too there is none, and the programme is encoded live.

A size has a few rates, and a programme gets the nearest. What it really came to is measured, not claimed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from probe.media.encode import h264_level
from probe.media.loopcache import LoopCache
from probe.media.picture import Painter, luma
from probe.model.frames import SEQUENCE_MODULUS, FrameCode
from probe.wire.framecode import Rect, Sampler, layout_for
from probe.wire.h264_band import BandWriter
from probe.wire.h264_splice import SplicedLoop
from probe.wire.picture import GROUP, LOOP, Grids, recognise

_RUNGS = {  # kbit/s by the shorter side
    360: (200, 300, 500, 800, 1200, 2000),
    720: (800, 1200, 2000, 3000, 4500),
    1080: (1500, 2500, 4000, 6000, 9000),
}
_COMMON = (
    "cabac=0:ref=1:bframes=0:weightp=0:scenecut=0:slices=1:sliced-threads=0:repeat-headers=1:aud=0:nal-hrd=none:force-cfr=1"
    f":keyint={GROUP}:min-keyint={GROUP}:mvrange=32"
)
_SAMPLE = FrameCode(run=0x5A5A5A5A, trace=0x0F1E2D3C4B5A6978, publish=5, sequence=0x55555, stamp_ms=0x1A2B3C4D5E6)
_WAYS = ("", ":me=dia:merange=4:subme=1", ":me=dia:merange=4:subme=0:partitions=none")


class Stopped(Exception):
    """Building was asked to stop."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop ready to be sent. `rate` in bit/s, with the band, without what the protocol adds."""

    spliced: SplicedLoop
    rate: int
    built: bool  # now, not taken from the cache


def rung(width: int, height: int, bitrate: int) -> int:
    """The rate in bit/s, of those kept for this size, that is nearest to `bitrate` by ratio."""
    size = min(_RUNGS, key=lambda side: abs(side - min(width, height)))
    return 1000 * min(_RUNGS[size], key=lambda kbps: max(kbps * 1000 / bitrate, bitrate / (kbps * 1000)))


def load(
    width: int, height: int, fps: int, bitrate: int, cache: LoopCache, stop: Callable[[], bool] = lambda: False
) -> Loop | None:
    """The loop for this size at this rung, from the cache or built now (seconds at 1080p). None: no way passed the gate.

    Raises Stopped as soon as `stop` says so, ValueError for a size whose band cannot be written."""
    painter = Painter(width, height)
    key = _key(painter, fps, bitrate)
    units = cache.get(key)
    if units is not None:
        try:
            spliced = SplicedLoop(units, width, height)
            return Loop(spliced, _rate(spliced, fps), False)
        except ValueError:  # whole, and yet not ours
            cache.drop(key)
    for way in _WAYS:
        units = _encode(painter, fps, bitrate, way, stop)
        spliced = SplicedLoop(units, width, height)
        if prove(spliced, units, width, height, stop):
            cache.put(key, units)
            return Loop(spliced, _rate(spliced, fps), True)
    return None


def prove(spliced: SplicedLoop, units: list[bytes], width: int, height: int, stop: Callable[[], bool] = lambda: False) -> bool:
    """The gate: whether `spliced`, made of `units`, decodes to the pictures of `units` below random bands that all read."""
    layout = layout_for(width, height)
    rect = Rect(0.0, 0.0, width, height)
    sampler, grids = Sampler(layout, rect, height, width), Grids(layout, rect, height, width)
    alone, whole = _decoder(), _decoder()
    dice = random.Random(len(units))
    jump = dice.randrange(GROUP)
    course = [*range(len(units)), *spliced.groups[:1], *range(jump), *spliced.groups[-1:], *spliced.groups[-1:]]
    idr = 0
    try:
        for number in course:
            if stop():
                raise Stopped
            code = FrameCode(
                run=dice.getrandbits(32),
                trace=dice.getrandbits(64),
                publish=dice.getrandbits(4),
                sequence=dice.randrange(SEQUENCE_MODULUS),
                stamp_ms=dice.getrandbits(44),
            )
            idr ^= number in spliced.groups
            (expected,) = alone.decode(av.Packet(units[number]))
            (frame,) = whole.decode(av.Packet(spliced.unit(number, code, idr)[0]))
            plane, below = luma(frame), luma(expected)
            if plane.shape != (height, width) or not np.array_equal(plane[height - len(below) :], below):
                return False
            if sampler.read(plane)[1] != code or recognise(*grids.read(plane)) != (number, 0):
                return False
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _decoder() -> av.VideoCodecContext:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    return decoder


def _encode(painter: Painter, fps: int, bitrate: int, way: str, stop: Callable[[], bool]) -> list[bytes]:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = painter.width, painter.height - painter.band, "yuv420p"
    context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
    context.thread_count = 1
    context.options = {
        "preset": "veryfast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": _parameters(painter, fps, bitrate) + way,
    }
    context.open()
    units = []
    for number in range(LOOP):
        if stop():
            raise Stopped
        frame = painter.below(number)
        frame.pts = number
        units += [bytes(packet) for packet in context.encode(frame)]
    units += [bytes(packet) for packet in context.encode(None)]
    return units


def _parameters(painter: Painter, fps: int, bitrate: int) -> str:
    band = BandWriter(painter.width, painter.height).write(_SAMPLE, True)[1] * fps
    kbps = max(50, (bitrate - band) // 1000)
    level = h264_level(painter.width, painter.height, fps)
    return f"{_COMMON}:level={level}:bitrate={kbps}:vbv-maxrate={kbps}:vbv-bufsize={kbps}"


def _key(painter: Painter, fps: int, bitrate: int) -> str:
    """Everything the loop's content depends on."""
    digest = hashlib.sha256(
        repr((painter.width, painter.height, fps, LOOP, GROUP, _parameters(painter, fps, bitrate), _WAYS)).encode()
    )
    digest.update(repr(sorted(av.library_versions.items())).encode())
    for number in (0, 1, LOOP // 2):
        digest.update(painter.below(number).to_ndarray().tobytes())
    return digest.hexdigest()


def _rate(spliced: SplicedLoop, fps: int) -> int:
    size = sum(len(spliced.unit(number, _SAMPLE, 0)[0]) for number in range(len(spliced)))
    return size * 8 * fps // len(spliced)
