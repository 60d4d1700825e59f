"""Inspection: what a picture and a sound say, whatever their format, stride or rate."""

from __future__ import annotations

import av
import numpy as np
import pytest

from probe.clock import SystemClock
from probe.media.inspect import Inspector
from probe.media.picture import Painter, Synthesizer, luma
from probe.model.clock import NS
from probe.model.frames import Reading
from tests.media.clips import Transcoder, box, code_of, of_luma, pictures, scale, through


def inspect(inspector: Inspector, frame: av.VideoFrame, **options):
    return inspector.picture(frame, arrived=1, size=100, keyframe=True, **options)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "nv12", "yuv422p", "yuv444p", "gray"])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (426, 240), (1280, 720)])
def test_any_layout_of_planes_is_read(form, size):
    (frame,) = pictures(size, 1)
    record = inspect(Inspector(SystemClock()), frame.reformat(format=form))
    assert (record.reading, record.code) == (Reading.CODE, code_of(0))
    assert (record.width, record.height, record.black, record.changed) == (*size, False, True)


@pytest.mark.parametrize("form", ["rgb24", "yuv420p10le"])
def test_a_format_without_eight_bit_luma_is_refused(form):
    (frame,) = pictures((640, 360), 1)
    with pytest.raises(ValueError, match="no 8-bit luma plane"):
        inspect(Inspector(SystemClock()), frame.reformat(format=form))


def test_shown_is_decoded_or_due_whichever_is_later():
    clock = SystemClock()
    (frame,) = pictures((640, 360), 1)
    inspector = Inspector(clock, rendition="high")
    live = inspect(inspector, frame, media_time=1.5)
    assert live.arrived == 1 and live.shown == live.decoded <= clock.now()
    assert (live.media_time, live.rendition) == (1.5, "high")
    later = clock.now() + 10 * NS
    assert inspect(inspector, frame, due=later).shown == later
    late = inspect(inspector, frame, due=5, rendition="low")
    assert late.shown == late.decoded and late.rendition == "low"


@pytest.mark.parametrize(
    "change", [lambda f: f, box(640, 480), box(800, 360), scale(320, 180)], ids=["full", "letterbox", "pillarbox", "small"]
)
def test_black_is_told_below_the_band_and_between_bars(change):
    painter = Painter(640, 360)
    for black in (True, False):
        record = inspect(
            Inspector(SystemClock()), Transcoder("libx264", 300)(change_of(change, painter.paint(3, code_of(3), black)))
        )
        assert record.code == code_of(3)
        assert record.black is black


def change_of(change, frame):
    frame.pts = 0
    return change(frame)


@pytest.mark.parametrize(("level", "black"), [(0, True), (16, True), (19, True), (40, False), (235, False)])
def test_an_uncoded_picture_is_black_by_its_own_luma(level, black):
    record = inspect(Inspector(SystemClock()), of_luma(np.full((360, 640), level, np.uint8)))
    assert (record.reading, record.code, record.black) == (Reading.NONE, None, black)


def test_a_dark_scene_with_something_in_it_is_not_black():
    plane = np.full((360, 640), 16, np.uint8)
    plane[200:240, 300:360] = 120
    assert not inspect(Inspector(SystemClock()), of_luma(plane)).black


@pytest.mark.parametrize(("size", "kbps"), [((640, 360), 800), ((640, 360), 200), ((1280, 720), 600), ((360, 640), 200)])
def test_a_moving_picture_changes_each_frame_and_a_still_one_does_not_through_keyframes(size, kbps):
    inspector = Inspector(SystemClock())
    moving = [inspect(inspector, frame).changed for frame in through(pictures(size, 20), [Transcoder("libx264", kbps)])]
    assert all(moving)
    painter, still = Painter(*size), Transcoder("libx264", kbps)
    inspector = Inspector(SystemClock())
    changes = []
    for number in range(64):  # two keyframes; the code goes on, the picture does not
        frame = painter.paint(0, code_of(number), black=False)
        frame.pts = number
        changes.append(inspect(inspector, still(frame)).changed)
    assert sum(changes[5:]) == 0


def test_a_slow_pan_counts_as_movement():
    wide = np.tile((np.sin(np.arange(1300) / 30) * 60 + 110).astype(np.uint8), (360, 1))
    inspector = Inspector(SystemClock())
    changes = [inspect(inspector, of_luma(wide[:, n : n + 640])).changed for n in range(30)]
    assert sum(changes) >= 4


ORIGIN = 1_795_244_028_130_000_000  # 0.87 s before a whole second


def sound(seconds: float) -> np.ndarray:
    synthesizer = Synthesizer(ORIGIN)
    return np.concatenate([synthesizer.block(n * 960) for n in range(round(seconds * 50))])


def frames(samples: np.ndarray, rate: int, layout: str, form: str, size: int):
    """Audio frames with their media time, cut from 48 kHz mono."""
    resampler = av.AudioResampler(format=form, layout=layout, rate=rate)
    whole = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    whole.sample_rate, whole.pts = 48_000, 0
    parts = [f.to_ndarray() for f in (*resampler.resample(whole), *resampler.resample(None))]
    data = np.concatenate(parts, axis=1)
    channels = 1 if av.AudioFormat(form).is_planar else len(av.AudioLayout(layout).channels)
    for at in range(0, data.shape[1] // channels - size, size):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data[:, at * channels : (at + size) * channels]), format=form, layout=layout
        )
        frame.sample_rate = rate
        yield at / rate, frame


@pytest.mark.parametrize(
    ("rate", "layout", "form", "size"),
    [
        (48_000, "mono", "flt", 960),
        (48_000, "stereo", "s16", 960),
        (44_100, "stereo", "fltp", 1024),
        (16_000, "mono", "s16", 320),
        (48_000, "5.1", "fltp", 1024),
    ],
)
def test_chirps_are_told_at_whole_seconds_of_the_stamp_clock_at_any_rate_and_layout(rate, layout, form, size):
    inspector = Inspector(SystemClock())
    chirps = [
        chirp
        for at, frame in frames(sound(4), rate, layout, form, size)
        for chirp in inspector.sound(frame, shown=round((100 + at) * NS), media_time=7 + at)
    ]
    assert len(chirps) == 3
    for number, chirp in enumerate(chirps):
        place = 0.87 + number
        assert abs(chirp.shown / NS - 100 - place) < 0.0003
        assert chirp.media_time == pytest.approx(7 + place, abs=0.0003)
        assert chirp.score > 0.9


def test_sound_that_jumps_is_placed_anew():
    inspector = Inspector(SystemClock())
    chirps = []
    for at, frame in frames(sound(4), 48_000, "mono", "flt", 960):
        if 1.5 <= at < 1.7:
            continue  # ten packets lost
        chirps += inspector.sound(frame, shown=round(at * NS), media_time=at)
    assert [round(chirp.shown / NS, 3) for chirp in chirps] == [0.87, 1.87, 2.87]


def test_sound_whose_format_changes_is_followed():
    inspector = Inspector(SystemClock())
    chirps = []
    for rate in (48_000, 44_100):
        for at, frame in frames(sound(2.3), rate, "stereo", "s16", 1024):
            chirps += inspector.sound(frame, shown=round(at * NS), media_time=None)
    assert [round(chirp.shown / NS, 3) for chirp in chirps] == [0.87, 1.87, 0.87, 1.87]
    assert all(chirp.media_time is None for chirp in chirps)


def test_the_view_of_luma_shares_the_frames_own_memory():
    (frame,) = pictures((426, 240), 1)
    assert frame.planes[0].line_size != 426
    luma(frame)[200, 5] = 99
    assert luma(frame)[200, 5] == 99 and luma(frame).shape == (240, 426)
