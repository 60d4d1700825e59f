"""Programmes encoded once: proven, cached, spliced, and replaced by a live encoder where that fails."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from probe.clock import SystemClock
from probe.media import loop as loops
from probe.media import prepare as preparing
from probe.media.inspect import Inspector
from probe.media.loop import Stopped, load, prove, rung
from probe.media.loopcache import LoopCache, default_directory
from probe.media.picture import Painter, luma
from probe.media.prepare import Shelf, prepare, prepared
from probe.media.source import ProgrammeIds, VideoSource
from probe.model.frames import Reading
from probe.wire.finder import Finder
from probe.wire.h264_splice import SplicedLoop
from tests.media.clips import code_of
from tests.tools import requires, wait_until

IDS = ProgrammeIds(run=0xC0FFEE42, trace=0x9F3AC17BE2D05586, publish=3)
RATE = 300_000


@pytest.fixture
def cache(tmp_path) -> LoopCache:
    return LoopCache(tmp_path / "cache")


def loaded(cache: LoopCache, **options):
    return load(640, 360, 30, RATE, cache, **options)


def made(count: int, jumps: tuple[int, ...] = (), name: str = "360p30", rate: int = RATE) -> list[bytes]:
    source = VideoSource(name, IDS, rate)
    return [source.make(n, n * 33_333_333, keyframe=n in jumps)[0] for n in range(count)]


def test_ten_loops_with_jumps_decode_without_a_message_and_every_picture_is_right():
    units = made(900, jumps=(40, 47, 100, 417, 418, 777))
    inspector = Inspector(SystemClock())
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    records = []
    with av.logging.Capture() as messages:
        for unit in units:
            (frame,) = decoder.decode(av.Packet(unit))
            records.append(inspector.picture(frame, arrived=0, size=0, keyframe=False))
    assert [record.code and record.code.sequence for record in records] == list(range(900))
    assert [record.intact for record in records].count(True) >= 888 and False not in [record.intact for record in records]
    assert messages == []


def test_ffmpeg_has_nothing_to_say_and_sees_a_keyframe_each_second(tmp_path):
    ffmpeg, ffprobe = requires("ffmpeg"), requires("ffprobe", package="ffmpeg")
    file = tmp_path / "programme.h264"
    file.write_bytes(b"".join(made(300)))
    decoding = [ffmpeg, "-v", "warning", "-i", file, "-fps_mode", "passthrough", "-f", "null", "-"]
    done = subprocess.run(decoding, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    flags = subprocess.run(
        [ffprobe, "-v", "error", "-show_entries", "packet=flags", "-of", "csv=p=0", file],
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.split()
    assert len(flags) == 300
    assert [n for n, flag in enumerate(flags) if flag.startswith("K")] == list(range(0, 300, 30))


def test_the_gate_refuses_pictures_that_move_out_of_the_band():
    class Falling(Painter):
        """What is right below the band falls, so that the encoder finds it where the band will be."""

        def below(self, number: int) -> av.VideoFrame:
            frame = super().below(number)
            dice = np.random.default_rng(3)
            fabric = dice.integers(20, 235, (240, self.width), np.uint8)
            luma(frame)[:24] = np.roll(fabric, 3 * number, axis=0)[:24]
            return frame

    units = loops._encode(Falling(640, 360), 30, RATE, "", lambda: False)
    assert not prove(SplicedLoop(units, 640, 360), units, 640, 360)
    still = loops._encode(Painter(640, 360), 30, RATE, "", lambda: False)
    assert prove(SplicedLoop(still, 640, 360), still, 640, 360)
    mixed = [*still[:45], *still[44:45], *still[46:]]
    assert not prove(SplicedLoop(mixed, 640, 360), still, 640, 360)


def test_a_loop_that_fails_is_encoded_in_another_way(cache, monkeypatch):
    proofs = iter([False, True])
    ways = []
    encode = loops._encode
    monkeypatch.setattr(loops, "prove", lambda *args: next(proofs))

    def noting(painter, fps, rate, way, stop):
        ways.append(way)
        return encode(painter, fps, rate, way, stop)

    monkeypatch.setattr(loops, "_encode", noting)
    found = loaded(cache)
    assert found is not None and found.built and ways == list(loops._WAYS[:2])


def test_where_every_way_fails_the_programme_is_encoded_live(cache, monkeypatch):
    monkeypatch.setattr(loops, "prove", lambda *args: False)
    monkeypatch.setattr(preparing, "shelf", Shelf(cache))
    ready = prepare("360p30", RATE)
    assert (ready.spliced, ready.rate) == (False, None)
    decoder, finder = av.CodecContext.create("h264", "r"), Finder()
    units = made(20)
    codes = [finder.find(luma(frame)) for unit in units for frame in decoder.decode(av.Packet(unit))]
    assert [code.sequence for reading, code in codes if reading is Reading.CODE and code] == list(range(20))


@pytest.mark.parametrize("name", ["360p30", "portrait30"])
def test_what_is_prepared_says_its_rate_and_keeps_to_it(name):
    ready = prepare(name, 700_000)
    assert ready.spliced and ready.rate is not None and 600_000 < ready.rate < 1_000_000
    units = made(90, name=name, rate=700_000)
    assert sum(map(len, units)) * 8 / 3 == pytest.approx(ready.rate, rel=0.03)
    assert not prepare(name, 700_000).built


def test_the_nearest_rate_is_taken():
    assert [rung(640, 360, rate) for rate in (1, 240_000, 260_000, 800_000, 10**9)] == [
        200_000,
        200_000,
        300_000,
        800_000,
        2_000_000,
    ]
    assert rung(360, 640, 800_000) == 800_000 and rung(1920, 1080, 800_000) == 1_500_000


def test_black_and_frozen_are_encoded_live_and_the_loop_goes_on_from_a_keyframe():
    source = VideoSource("360p30", IDS, RATE)
    decoder, inspector = av.CodecContext.create("h264", "r"), Inspector(SystemClock())
    records = []
    for n in range(80):
        data, keyframe = source.make(n, n * 33_333_333, keyframe=False, black=20 <= n < 35, frozen=50 <= n < 60)
        (frame,) = decoder.decode(av.Packet(data))
        records.append((inspector.picture(frame, arrived=0, size=0, keyframe=keyframe), keyframe))
    assert [n for n, (_, keyframe) in enumerate(records) if keyframe][:5] == [0, 20, 35, 50, 60]
    assert [record.black for record, _ in records] == [20 <= n < 35 for n in range(80)]
    sequences = [record.code.sequence for record, _ in records if record.code is not None]
    assert sequences == [*range(50), *[49] * 10, *range(50, 70)]
    assert records[24][0].intact is False and records[37][0].intact and records[79][0].intact
    assert False not in [record.intact for record, _ in records[38:]]


@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
def test_a_loop_is_built_once_and_found_again(cache, tmp_path, size):
    width, height = size
    first, second = (load(width, height, 30, RATE, cache) for _ in range(2))
    assert first is not None and second is not None
    assert first.built and not second.built and first.rate == second.rate
    assert first.spliced.unit(31, code_of(1), 1) == second.spliced.unit(31, code_of(1), 1)
    (entry,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:60],
        lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
        lambda data: os.urandom(len(data)),
        lambda data: data + b"x",
    ],
    ids=["short", "empty", "head", "bit", "noise", "long"],
)
def test_a_damaged_entry_counts_as_absent(cache, tmp_path, damage):
    cache.put("key", [b"one", b"three", b"z" * 4000])
    assert cache.get("key") == [b"one", b"three", b"z" * 4000]
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.get("key") is None


def test_a_damaged_loop_is_built_anew_and_a_foreign_one_too(cache, tmp_path):
    loaded(cache)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    assert loaded(cache).built and not loaded(cache).built
    cache.put(entry.stem, [b"\0\0\0\1whole, and no picture"])
    assert loaded(cache).built


def test_a_cache_nobody_can_write_is_no_hindrance(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for directory in (None, tmp_path / "file" / "below", Path("/proc/nowhere")):
        found = loaded(LoopCache(directory))
        assert found is not None and found.built


def test_the_oldest_entries_go_when_all_of_them_grow_too_large(tmp_path):
    cache = LoopCache(tmp_path, limit=10_000, largest=5_000)
    for number in range(4):
        cache.put(str(number), [bytes(3000)])
        for path in tmp_path.iterdir():
            os.utime(path, ns=(int(path.stem) * 10**9,) * 2)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1", "2", "3"]
    cache.put("large", [bytes(6000)])
    assert cache.get("large") is None and cache.get("3") is not None


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "stream-probe"
    for other in ("", "relative/place"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_directory() == tmp_path / ".cache" / "stream-probe"


def test_building_stops_when_asked_and_leaves_nothing(cache, tmp_path):
    asked = iter(range(10))
    with pytest.raises(Stopped):
        loaded(cache, stop=lambda: next(asked) >= 5)
    assert not (tmp_path / "cache").exists()


def test_two_who_want_the_same_loop_build_it_once(cache):
    shelf, found = Shelf(cache), []
    threads = [threading.Thread(target=lambda: found.append(shelf.take("360p30", RATE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(built for _, built in found) == [False, False, True]
    assert len({id(loop) for loop, _ in found}) == 1


def test_who_waits_for_another_to_build_can_be_stopped(cache, monkeypatch):
    building, go_on = threading.Event(), threading.Event()

    def slow(*args):
        building.set()
        go_on.wait(10)

    monkeypatch.setattr(preparing, "load", slow)
    shelf = Shelf(cache)
    builder = threading.Thread(target=lambda: shelf.take("360p30", RATE))
    builder.start()
    assert building.wait(5)
    with pytest.raises(Stopped):
        shelf.take("360p30", RATE, lambda: True)
    go_on.set()
    builder.join(5)
    assert not builder.is_alive()


async def test_preparing_leaves_the_loop_free_and_stops_when_it_is_cancelled(cache, monkeypatch):
    monkeypatch.setattr(preparing, "shelf", Shelf(cache))
    asked, stopped = threading.Event(), threading.Event()

    def load_for_ever(*args):
        asked.set()
        while not args[-1]():
            stopped.wait(0.01)
        stopped.set()
        raise Stopped

    monkeypatch.setattr(preparing, "load", load_for_ever)
    task = asyncio.create_task(prepared("1080p30", RATE))
    await wait_until(asked.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until(stopped.is_set)


def test_an_unknown_programme_is_not_prepared():
    with pytest.raises(ValueError, match="unknown programme"):
        prepare("480i", RATE)
    assert not prepare("360p30", RATE, codec="vp8").spliced
