"""The programme: every unit in its order, at its instant, saying when it was late; nothing left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from probe.clock import SystemClock
from probe.media import programme as programme_module
from probe.media.encode import aac_config
from probe.media.inspect import Inspector
from probe.media.picture import luma
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.media.source import AudioSource, VideoSource
from probe.model.frames import FrameCode, Reading
from probe.wire.finder import Finder
from probe.wire.fmp4 import split_annexb

IDS = ProgrammeIds(run=7, trace=8, publish=3)


def made(name: str = "360p30", **options) -> Programme:
    return Programme(name, clock=SystemClock(), ids=IDS, bitrate=400_000, **options)


async def take(programme: Programme, count: int, kind: str = "video", each=lambda n: None) -> list[EncodedUnit]:
    """The first units, of both kinds, until `count` of `kind` have come."""
    out: list[EncodedUnit] = []
    seen = 0
    async with asyncio.timeout(15), programme:
        async for unit in programme.units():
            out.append(unit)
            if unit.kind == kind:
                seen += 1
                each(seen)
                if seen == count:
                    break
    return out


def codes(units: list[EncodedUnit], codec: str = "h264") -> list[FrameCode]:
    decoder, finder = av.CodecContext.create(codec, "r"), Finder()
    assert isinstance(decoder, av.VideoCodecContext)
    out = []
    for unit in units:
        if unit.kind == "video":
            (frame,) = decoder.decode(av.Packet(unit.data))
            reading, code = finder.find(luma(frame))
            assert reading is Reading.CODE and code is not None
            out.append(code)
    return out


async def test_each_picture_carries_its_ids_its_number_and_the_instant_of_its_release():
    units = await take(made(), 36)
    video = [unit for unit in units if unit.kind == "video"]
    read = codes(units)
    assert [code.sequence for code in read] == list(range(36))
    assert {(code.run, code.trace, code.publish) for code in read} == {(7, 8, 3)}
    assert [code.stamp_ms * 1_000_000 for code in read] == [unit.stamp_ns for unit in video]
    for unit in video:
        slot, rest = divmod(unit.pts, 3000)
        assert rest == 0 and unit.stamp_ns - video[0].stamp_ns == round(slot * 1000 / 30) * 1_000_000


async def test_units_are_released_in_order_and_never_early():
    clock = SystemClock()
    programme = Programme("360p30", clock=clock, ids=IDS)
    early = []
    async with asyncio.timeout(10), programme:
        last = {"video": -1, "audio": -1}
        count = 0
        async for unit in programme.units():
            if clock.now() < unit.due:
                early.append(unit)
            assert unit.due > last[unit.kind]
            assert abs(clock.wall(unit.due).unix_ns - unit.stamp_ns) < 1000
            last[unit.kind] = unit.due
            count += 1
            if count == 80:
                break
    assert not early


async def test_sound_and_picture_share_one_time():
    units = await take(made(channels=2), 20)
    origin = next(unit.stamp_ns for unit in units if unit.kind == "video")
    for unit in units:
        placed = origin + unit.pts * unit.time_base * 1_000_000_000
        assert abs(unit.stamp_ns - placed) <= 600_000  # video stamps are whole ms
    audio = [unit for unit in units if unit.kind == "audio"]
    assert audio[0].pts >= 0 and {b.pts - a.pts for a, b in zip(audio, audio[1:], strict=False)} == {960}  # noqa: RUF007
    assert audio[0].time_base == Fraction(1, 48_000)


@pytest.mark.parametrize("channels", [1, 2])
async def test_aac_chirps_lie_on_whole_seconds_though_the_encoder_primes(channels):
    clock = SystemClock()
    programme = made(channels=channels, audio_codec="aac")
    inspector, chirps = Inspector(clock), []
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = programme.audio_config
    units = await take(programme, 110, kind="audio")
    audio = [unit for unit in units if unit.kind == "audio"]
    assert {b.pts - a.pts for a, b in pairwise(audio)} == {1024} and audio[0].pts >= 0
    for unit in audio:
        for frame in decoder.decode(av.Packet(unit.data)):
            assert (frame.samples, len(frame.layout.channels), frame.sample_rate) == (1024, channels, 48_000)
            chirps += inspector.sound(frame, shown=unit.stamp_ns, media_time=None)
    assert len(chirps) in (2, 3)
    for chirp in chirps:
        assert abs((chirp.shown + 500_000_000) % 1_000_000_000 - 500_000_000) < 500_000


def test_aac_goes_on_in_step_after_a_machine_that_fell_behind():
    source, inspector, chirps = AudioSource(1_795_244_028_600_000_000, 1, 64_000, "aac"), Inspector(SystemClock()), []
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = aac_config(1)
    for number in (*range(1, 30), *range(50, 200)):
        data, pts = source.make(number)
        assert pts == number * 1024
        for frame in decoder.decode(av.Packet(data)):
            chirps += inspector.sound(frame, shown=0, media_time=pts / 48_000)
    assert [chirp.media_time for chirp in chirps] == pytest.approx([0.4, 1.4, 2.4, 3.4], abs=0.0005)


@pytest.mark.parametrize("codec", ["opus", "aac"])
def test_sound_that_is_sent_again_keeps_its_place_and_its_chirps(codec, monkeypatch):
    source, inspector, chirps = AudioSource(1_795_244_028_600_000_000, 1, 64_000, codec), Inspector(SystemClock()), []
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    if codec == "aac":
        decoder.extradata = aac_config(1)
    last = None
    for number in range(1, 20 * 48_000 // source.block):
        if number == 10 * 48_000 // source.block:  # more than a second and a round: nothing is encoded any more
            monkeypatch.setattr(source, "_encoder", None)
        data, pts = source.make(number)
        assert last is None or pts - last == source.block
        last = pts
        for frame in decoder.decode(av.Packet(data)):
            chirps += inspector.sound(frame, shown=0, media_time=pts / 48_000)
    assert [chirp.media_time for chirp in chirps] == pytest.approx([0.4 + n for n in range(len(chirps))], abs=0.0005)
    assert len(chirps) in (19, 20)
    assert min(chirp.score for chirp in chirps) > 0.9


@pytest.mark.parametrize("name", ["360p30", "portrait30"])
async def test_vp8_carries_the_same_codes_and_answers_a_keyframe_request(name):
    programme = made(name, audio=False, codec="vp8")
    units = await take(programme, 45, each=lambda n: programme.request_keyframe() if n == 15 else None)
    assert [code.sequence for code in codes(units, "vp8")] == list(range(45))
    keyframes = [n for n, unit in enumerate(units) if unit.keyframe]
    assert keyframes[0] == 0 and 15 <= keyframes[1] <= 20
    for unit in units:
        assert unit.data[0] & 1 == (not unit.keyframe)


@pytest.mark.parametrize("wrong", [{"codec": "av1"}, {"audio_codec": "mp3"}])
def test_a_codec_no_programme_has_is_refused(wrong):
    with pytest.raises(ValueError, match="no programme in"):
        made(**wrong)


async def test_a_keyframe_comes_each_second_and_when_asked_for_but_not_for_every_asking():
    programme = made(audio=False)

    def ask(seen: int) -> None:
        if 40 <= seen <= 47:  # eight viewers join at once
            programme.request_keyframe()

    units = await take(programme, 80, each=ask)
    keyframes = [n for n, unit in enumerate(units) if unit.keyframe]
    assert keyframes[:2] == [0, 30]
    assert 40 <= keyframes[2] <= 50
    assert keyframes[3] - keyframes[2] >= 7
    assert keyframes[4:] in ([], [keyframes[3] + 30])
    for n in keyframes:
        assert {nal[0] & 31 for nal in split_annexb(units[n].data)} >= {7, 8, 5}


@pytest.mark.parametrize(
    ("name", "size", "level"), [("360p30", (640, 360), 30), ("720p30", (1280, 720), 31), ("portrait30", (360, 640), 30)]
)
async def test_what_is_sent_is_constrained_baseline_of_its_size_in_two_slices(name, size, level):
    units = await take(made(name, audio=False), 5)
    (sps,) = [nal for nal in split_annexb(units[0].data) if nal[0] & 31 == 7]
    assert sps[1] == 66 and sps[2] & 0xC0 == 0xC0 and sps[3] == level
    for unit in units:
        assert sum(nal[0] & 31 in (1, 5) for nal in split_annexb(unit.data)) == 2
    (frame, *_) = av.CodecContext.create("h264", "r").decode(av.Packet(units[0].data))
    assert (frame.width, frame.height) == size


async def test_the_bitrate_is_kept():
    units = await take(Programme("360p30", clock=SystemClock(), ids=IDS, bitrate=300_000, audio=False), 45)
    rate = sum(len(unit.data) for unit in units) * 8 * 30 / len(units)
    assert 150_000 < rate < 360_000


async def test_black_keeps_its_code_and_frozen_repeats_it():
    programme = made(audio=False)

    def change(seen: int) -> None:
        programme.frozen = seen >= 10

    read = codes(await take(programme, 25, each=change))
    assert [code.sequence for code in read[:10]] == list(range(10))
    assert len(set(read[20:])) == 1
    units = await take(made(audio=False, black=True), 5)
    assert [code.sequence for code in codes(units)] == list(range(5))
    for frame in av.CodecContext.create("h264", "r").decode(av.Packet(units[0].data)):
        assert luma(frame)[60:].max() < 24


async def test_a_loop_that_stood_still_is_told_as_lateness():
    programme = made(audio=False)
    lateness = []
    async with asyncio.timeout(10), programme:
        async for unit in programme.units():
            lateness.append(unit.late_ns)
            if len(lateness) == 5:
                time.sleep(0.2)
            if len(lateness) == 12:
                break
    assert max(lateness) > 100_000_000


async def test_an_encoder_too_slow_for_real_time_skips_ahead_and_says_so(monkeypatch):
    make = VideoSource.make
    slow = [0.0] * 5 + [0.7] + [0.0] * 100

    def hampered(self, *args, **options):
        time.sleep(slow.pop(0))
        return make(self, *args, **options)

    monkeypatch.setattr(VideoSource, "make", hampered)
    units = await take(made(audio=False), 20)
    steps = [(b.pts - a.pts) // 3000 for a, b in zip(units, units[1:], strict=False)]  # noqa: RUF007
    assert max(steps) > 5
    assert max(unit.late_ns for unit in units) > 300_000_000
    assert [code.sequence for code in codes(units)] == list(range(20))


async def test_a_consumer_that_stands_still_loses_units_counted_and_goes_on_from_a_keyframe(monkeypatch):
    monkeypatch.setattr(programme_module, "_QUEUE", 10)
    programme = made(audio=False)
    units = []
    async with asyncio.timeout(10), programme:
        feed = programme.units()
        units.append(await anext(feed))
        await asyncio.sleep(0.6)  # 18 pictures, for a queue of ten
        async for unit in feed:
            units.append(unit)
            if len(units) == 30:
                break
    gaps = [n for n in range(1, len(units)) if units[n].pts - units[n - 1].pts > 3000]
    assert gaps and all(units[n].keyframe for n in gaps)
    assert programme.dropped >= 5


async def test_a_broken_encoder_is_the_consumers_to_hear(monkeypatch):
    def broken(self, *args, **options):
        raise RuntimeError("out of order")

    monkeypatch.setattr(VideoSource, "make", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        await take(made(), 1)


async def test_closing_ends_the_units_and_leaves_no_thread():
    before = set(threading.enumerate())
    programme = made("720p30")
    async with asyncio.timeout(5):
        await programme.__aenter__()
        feed = programme.units()
        await anext(feed)
        began = time.monotonic()
        programme.close()
        programme.close()
        assert time.monotonic() - began < 1
        async for _ in feed:
            pass
    assert set(threading.enumerate()) == before


async def test_closing_before_anything_came_leaves_no_thread():
    before = set(threading.enumerate())
    async with made():
        pass
    assert set(threading.enumerate()) == before


def test_an_unknown_programme_is_refused():
    with pytest.raises(ValueError, match="unknown programme '480i': one of 360p30, 720p30, 1080p30, portrait30"):
        made("480i")
