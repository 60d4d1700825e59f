"""A fresh code over a broken picture is found, and no re-encoding of a sound one is mistaken for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np
import pytest

from probe.clock import SystemClock
from probe.media.inspect import Inspector
from probe.media.picture import Painter, luma
from probe.media.source import ProgrammeIds, VideoSource
from probe.wire.fmp4 import split_annexb
from tests.media.clips import code_of, of_luma, pictures, scale, stamped, through
from tests.media.test_code_survives import TALL, WAYS, WIDE, step, vp8, x264

IDS = ProgrammeIds(run=0xC0FFEE42, trace=0x9F3AC17BE2D05586, publish=2)
NAMES = {WIDE: ("360p30", 800_000), TALL: ("portrait30", 500_000), (1280, 720): ("720p30", 2_000_000)}
HARSH = {
    "x264_80k": (WIDE, [x264(80)]),
    "to_320x180_80k": (WIDE, [x264(300), step(scale(320, 180)), x264(80)]),
    "vp8_to_426x240_80k": (WIDE, [step(scale(426, 240)), vp8(80)]),
    "half_the_frame_rate": (WIDE, [x264(300)]),
}


def units(name: str, rate: int, count: int, jumps: tuple[int, ...] = (), codec: str = "h264") -> list[bytes]:
    source = VideoSource(name, IDS, rate, codec)
    return [source.make(n, n * 33_333_333, keyframe=n in jumps)[0] for n in range(count)]


def decoded(data: Iterable[bytes], codec: str = "h264") -> Iterator[av.VideoFrame]:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    number = 0
    for unit in data:
        for frame in decoder.decode(av.Packet(unit)):
            yield stamped(frame, number)
            number += 1


def judged(frames: Iterable[av.VideoFrame]) -> list[bool | None]:
    inspector = Inspector(SystemClock())
    return [inspector.picture(frame, arrived=0, size=0, keyframe=False).intact for frame in frames]


@pytest.mark.parametrize("way", [*WAYS, *HARSH])
def test_no_way_of_delivery_makes_a_sound_programme_look_broken(way):
    """A loop with its grain, sent with a jump, then whatever the platform does to it."""
    size, steps = (WAYS | HARSH)[way]
    sent: Iterable[av.VideoFrame] = decoded(units(*NAMES[size], 56, jumps=(37,)))
    if way == "half_the_frame_rate":
        sent = (frame for number, frame in enumerate(sent) if number % 2)
    seen = judged(through(sent, [make() for make in steps]))
    assert False not in seen
    assert seen.count(None) <= 3


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_pictures_encoded_live_are_the_programmes_too(codec):
    if codec == "vp8":
        seen = judged(decoded(units("360p30", 300_000, 100, codec="vp8"), "vp8"))
    else:
        seen = judged(through(pictures(WIDE, 100), [x264(300)()]))
    assert seen == [True] * 100


def only_band(unit: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + nal for nal in split_annexb(unit)[:-1])


def without_lower(lost: Callable[[int], bool], count: int = 120, name: str = "360p30") -> list[bool | None]:
    sent = units(name, 800_000, count)
    seen = judged(decoded(only_band(unit) if lost(number) else unit for number, unit in enumerate(sent)))
    assert len(seen) == count
    return seen


@pytest.mark.parametrize("name", ["360p30", "portrait30"])
def test_lower_slices_that_come_no_more_are_missed_within_a_few_pictures(name):
    seen = without_lower(lambda n: n >= 50, name=name)
    assert set(seen[:50]) == {True}
    assert False in seen[50:56] and True not in seen[50:] and None not in seen[56:]


@pytest.mark.parametrize("at", [50, 61, 73])
def test_one_lower_slice_lost_is_seen_until_the_next_keyframe(at):
    seen = without_lower(lambda n: n == at)
    repaired = (at // 30 + 1) * 30
    assert False in seen[at : at + 6]
    assert set(seen[repaired + 3 :]) == {True}


def test_a_keyframe_whose_lower_slice_is_lost_is_missed():
    assert False in without_lower(lambda n: n == 60)[60:68]


def under_live_codes(lower: Callable[[int], int | None]) -> list[bool | None]:
    """Pictures with a code of their own over picture `lower(n)`, or over black, encoded once more."""
    painter = Painter(*WIDE)

    def paint() -> Iterator[av.VideoFrame]:
        for number in range(80):
            shown = lower(number)
            yield stamped(painter.paint(shown or 0, code_of(number), black=shown is None), number)

    return judged(through(paint(), [x264(300)()]))


def test_a_picture_frozen_under_living_codes_is_broken_within_a_few_pictures():
    seen = under_live_codes(lambda n: min(n, 40))
    assert set(seen[:40]) == {True}
    assert False in seen[41:48] and not any(seen[48:]) and None not in seen[48:]


def test_a_picture_that_lags_is_broken():
    seen = under_live_codes(lambda n: n if n < 40 else n // 2 + 20)
    assert False in seen[40:56]


def test_black_under_living_codes_is_broken_within_a_few_pictures_from_whenever_it_is():
    assert under_live_codes(lambda n: None)[3:] == [False] * 77
    seen = under_live_codes(lambda n: n if n < 40 else None)
    assert set(seen[:40]) == {True} and set(seen[44:]) == {False}


def test_a_picture_that_comes_back_is_intact_again():
    seen = under_live_codes(lambda n: n if n < 30 or n >= 50 else 30)
    assert False in seen[30:50] and set(seen[54:]) == {True}


def test_lower_slices_cut_short_smear_the_picture_and_are_found():
    def half(unit: bytes) -> bytes:
        *first, last = split_annexb(unit)
        return b"".join(b"\0\0\0\1" + nal for nal in [*first, last[: len(last) // 2]])

    sent = units("360p30", 800_000, 100)
    seen = judged(decoded(half(unit) if number >= 40 else unit for number, unit in enumerate(sent)))
    assert set(seen[:40]) == {True}
    assert False in seen[40:52] and seen[52:].count(False) > 40


def test_another_picture_below_a_code_is_not_judged():
    dice = np.random.default_rng(1)

    def others() -> Iterator[av.VideoFrame]:
        painter = Painter(*WIDE)
        for number in range(40):
            plane = luma(painter.paint(number, code_of(number), black=False)).copy()
            plane[48:] = dice.integers(0, 255, (13, 16), np.uint8).repeat(24, axis=0).repeat(40, axis=1)[:312]
            yield of_luma(plane)

    assert judged(others()) == [None] * 40


def test_without_a_code_nothing_is_said_of_what_lies_below():
    plane = np.full((360, 640), 90, np.uint8)
    assert judged(of_luma(plane) for _ in range(5)) == [None] * 5
