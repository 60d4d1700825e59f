"""The frame code through real codecs: low rates, other sizes, bars, crops and shifted levels. No frame lost, none false."""

from __future__ import annotations

import pytest

from probe.media.picture import luma
from probe.model.frames import Reading
from probe.wire.finder import Finder
from tests.media.clips import Transcoder, box, code_of, cut, levels, pictures, scale, through

WIDE, TALL = (640, 360), (360, 640)


def x264(kbps: int):
    return lambda: Transcoder("libx264", kbps)


def vp8(kbps: int):
    return lambda: Transcoder("libvpx", kbps)


def step(change):
    return lambda: change


# source, what happens to it (an encode is made anew for each test), frames
WAYS = {
    "x264_800k": (WIDE, [x264(800)]),
    "x264_300k": (WIDE, [x264(300)]),
    "x264_150k": (WIDE, [x264(150)]),
    "vp8_200k": (WIDE, [vp8(200)]),
    "vp8_80k": (WIDE, [vp8(80)]),
    "to_426x240_120k": (WIDE, [x264(300), step(scale(426, 240)), x264(120)]),
    "to_320x180_120k": (WIDE, [x264(300), step(scale(320, 180)), x264(120)]),
    "to_160x90_60k": (WIDE, [x264(300), step(scale(160, 90)), x264(60)]),
    "vp8_to_426x240_120k": (WIDE, [vp8(200), step(scale(426, 240)), x264(120)]),
    "720p_to_360p_300k": ((1280, 720), [x264(2000), step(scale(640, 360)), x264(300)]),
    "letterbox": (WIDE, [x264(300), step(box(640, 480)), x264(300)]),
    "pillarbox": (WIDE, [x264(300), step(box(800, 360)), x264(300)]),
    "crop_left": (WIDE, [x264(300), step(cut(4, 0, 0, 0)), x264(300)]),
    "crop_all_scaled_back": (WIDE, [x264(300), step(cut(4, 4, 4, 4)), step(scale(640, 360)), x264(300)]),
    "portrait": (TALL, [x264(300)]),
    "portrait_to_180x320_100k": (TALL, [x264(300), step(scale(180, 320)), x264(100)]),
    "portrait_in_landscape": (TALL, [x264(300), step(scale(202, 360)), step(box(640, 360)), x264(300)]),
    "landscape_in_portrait": (WIDE, [x264(300), step(scale(360, 202)), step(box(360, 640)), x264(200)]),
    "limited_twice": (WIDE, [step(levels(lambda y: 16 + y * 219 / 255)), x264(300)]),
    "stretched": (WIDE, [step(levels(lambda y: (y - 16) * 255 / 219)), x264(300)]),
    "flat": (WIDE, [step(levels(lambda y: y * 0.6 + 70)), x264(300)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_frame_is_read_and_none_is_another(way):
    size, steps = WAYS[way]
    finder = Finder()
    readings = [finder.find(luma(frame)) for frame in through(pictures(size, 36), [make() for make in steps])]
    assert readings == [(Reading.CODE, code_of(number)) for number in range(36)]


def test_a_starved_encoder_holds_a_picture_but_no_reading_is_of_a_picture_never_sent():
    """At 80 kbit/s x264 skips whole pictures after a keyframe: what is shown, and read, is the one before."""
    finder = Finder()
    shown = [finder.find(luma(frame)) for frame in through(pictures(WIDE, 60), [Transcoder("libx264", 80)])]
    for number, (reading, code) in enumerate(shown):
        assert reading is Reading.CODE
        assert code in (code_of(number), code_of(number - 1), code_of(number - 2))
    assert sum(code == code_of(number) for number, (_, code) in enumerate(shown)) >= 50
