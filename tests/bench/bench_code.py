"""What drawing and reading the frame code cost: CPU µs, thread time, the median of batches, no codec running.

python -m tests.bench.bench_code
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from probe.clock import SystemClock
from probe.media.inspect import Inspector
from probe.media.picture import luma
from probe.media.source import AudioSource, ProgrammeIds, VideoSource
from probe.model.frames import FrameCode, Reading
from probe.wire.finder import Finder
from probe.wire.framecode import draw
from probe.wire.picture import PictureCheck

SIZES = {"360p": (640, 360), "720p": (1280, 720), "portrait": (360, 640)}
BATCHES, ROUNDS = 31, 60
BOUND_US = 60.0  # at 360p, drawing and reading each


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU µs: one draw, one read where the code is known to be, one search that finds nothing."""

    size: str
    draw_us: float
    find_us: float
    failed_search_us: float


def _cost_us(call: Callable[[int], object], rounds: int = ROUNDS) -> float:
    spent = []
    for batch in range(BATCHES):
        began = time.thread_time_ns()
        for i in range(rounds):
            call(batch * rounds + i)
        spent.append((time.thread_time_ns() - began) / rounds / 1000)
    return statistics.median(spent)


def measure(size: str) -> Cost:
    """The costs at one size; planes have a decoder's stride."""
    width, height = SIZES[size]
    rng = np.random.default_rng(1)
    plane = rng.integers(16, 235, (height, width + 64), np.uint8)[:, :width]
    codes = [
        FrameCode(run=0xC0FFEE42, trace=0x9F3AC17BE2D05586, publish=1, sequence=i, stamp_ms=1_795_244_028_000 + 33 * i)
        for i in range(256)
    ]
    finder = Finder()
    drawn = _cost_us(lambda i: draw(plane, codes[i % 256]))
    assert finder.find(plane)[0] is Reading.CODE
    found = _cost_us(lambda i: finder.find(plane))
    noise = rng.integers(16, 235, (height, width), np.uint8)
    failed = _cost_us(lambda i: Finder().find(noise), rounds=2)
    return Cost(size, drawn, found, failed)


def measure_all() -> list[Cost]:
    return [measure(size) for size in SIZES]


def table(costs: list[Cost]) -> str:
    """As people read it."""
    lines = [f"{'size':10}{'draw':>10}{'read':>10}{'failed search':>16}   µs of CPU"]
    lines += [f"{c.size:10}{c.draw_us:10.1f}{c.find_us:10.1f}{c.failed_search_us:16.0f}" for c in costs]
    return "\n".join(lines)


def shares() -> list[tuple[str, str]]:
    """What is done with one viewer's 360p30 stream beside decoding it, CPU-ms of a second."""
    ids = ProgrammeIds(run=1, trace=2, publish=1)
    source, opus = VideoSource("360p30", ids, 800_000), AudioSource(0, 1, 32_000)
    seeing, hearing = av.CodecContext.create("h264", "r"), av.CodecContext.create("opus", "r")
    made = (source.make(i, i * 33_333_333, keyframe=False)[0] for i in range(90))
    pictures = [picture for data in made for picture in seeing.decode(av.Packet(data))]
    sounds = [sound for n in range(1, 301) for sound in hearing.decode(av.Packet(opus.make(n)[0]))]
    clock = SystemClock()
    inspector, finder, check = Inspector(clock), Finder(), PictureCheck()

    def look(picture: av.VideoFrame) -> None:
        _, code = finder.find(luma(picture))
        assert code is not None and finder.layout is not None and finder.rect is not None
        check.look(luma(picture), finder.layout, finder.rect, code)

    def spent(call: Callable[[Any], object], what: list[Any], seconds: float) -> float:
        call(what[0])
        began = time.thread_time_ns()
        for one in what:
            call(one)
        return (time.thread_time_ns() - began) / 1e6 / seconds

    reading = spent(lambda p: finder.find(luma(p)), pictures, 3)
    both = spent(look, pictures, 3)
    whole = spent(lambda p: inspector.picture(p, arrived=0, size=1, keyframe=False), pictures, 3)
    heard = spent(lambda s: inspector.sound(s, shown=0, media_time=None), sounds, 6)
    return [
        ("CPU-ms", ""),
        ("reading the code", f"{reading:.2f}"),
        ("checking the picture below it", f"{both - reading:.2f}"),
        ("the rest of a picture's record", f"{whole - both:.2f}"),
        ("listening for the chirp", f"{heard:.2f}"),
    ]


def test_drawing_and_reading_stay_within_their_bounds() -> None:
    costs = measure_all()
    print("\n" + table(costs))
    at_360p = costs[0]
    assert at_360p.draw_us <= BOUND_US and at_360p.find_us <= BOUND_US


if __name__ == "__main__":
    print(table(measure_all()))
