"""The decoder thread: a record for each unit, whatever is thrown at it, and an end in bounded time."""

from __future__ import annotations

import asyncio
import os
import threading
from fractions import Fraction

import av
import pytest

from probe.clock import SystemClock
from probe.errors import Unsupported
from probe.media.decoder import DecoderThread, Unit, warm_up
from probe.media.encode import H264Encoder, OpusEncoder
from probe.media.feed import Feed
from probe.media.picture import Painter, Synthesizer
from probe.media.workers import Workers
from probe.model.clock import NS
from probe.model.frames import Chirp, FrameRecord, Reading, Undecodable
from tests.media.clips import code_of, encoder, pictures, records


def units(count: int, size: tuple[int, int] = (640, 360)) -> list[tuple[bytes, bool]]:
    coder, painter = H264Encoder(*size, 30, 400_000), Painter(*size)
    return [coder.encode(painter.paint(n, code_of(n), black=False), 3000 * n, keyframe=False) for n in range(count)]


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
async def feed(clock):
    return Feed(clock)


@pytest.fixture
def decoder(feed, clock):
    made = DecoderThread("h264", feed, clock)
    yield made
    made.close()


async def until(condition, within: float = 10) -> None:
    async with asyncio.timeout(within):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)  # the decoder has no event to say it is idle


async def test_each_unit_comes_out_as_one_record_before_the_next_goes_in(decoder, feed, clock):
    for number, (data, keyframe) in enumerate(units(8)):
        arrived = clock.now()
        decoder.submit(data, number / 30, arrived, len(data) + 12, keyframe, rendition="r1")
        (record,) = await records(feed, 1)
        assert isinstance(record, FrameRecord)
        assert (record.code, record.reading) == (code_of(number), Reading.CODE)
        assert (record.arrived, record.media_time, record.size) == (arrived, number / 30, len(data) + 12)
        assert (record.keyframe, record.rendition) == (number == 0, "r1")
        assert arrived <= record.decoded == record.shown <= clock.now()
    await until(lambda: decoder.pending() == 0.0)


async def test_a_buffered_players_picture_is_shown_when_it_is_due(decoder, feed, clock):
    for data, keyframe in units(2):
        due = clock.now() + 5 * NS
        decoder.submit(data, None, clock.now(), len(data), keyframe, due_ns=due)
        (record,) = await records(feed, 1)
        assert record.shown == due > record.decoded


async def test_units_handed_over_together_come_out_one_by_one_from_the_first_keyframe_on(decoder, feed, clock):
    made = units(40)
    later = clock.now() + 60 * NS
    together = [Unit(d, n / 30, clock.now(), len(d), key, later + n, "", clock.now()) for n, (d, key) in enumerate(made)]
    decoder.submit_all([Unit(made[1][0], 0.0, 0, 1, False, later, "", 0), *together])
    found = await records(feed, 40)
    assert [record.code for record in found] == [code_of(number) for number in range(40)]
    assert [record.shown for record in found] == [later + number for number in range(40)]
    assert decoder.skipped == 1


async def test_a_burst_that_is_shown_later_does_not_keep_others_waiting(feed, clock, monkeypatch):
    """One worker, three seconds of pictures for later: one that comes meanwhile is seen before their end."""
    monkeypatch.setattr("probe.media.decoder.workers", Workers(1))
    busy, other = DecoderThread("h264", feed, clock), DecoderThread("h264", feed, clock)
    try:
        made, later = units(90), clock.now() + 60 * NS
        busy.submit_all([Unit(d, None, 0, len(d), key, later, "", 0) for d, key in made])
        other.submit(made[0][0], None, 0, 1, True, rendition="other")
        found = [record.rendition for record in await records(feed, 91)]
        assert found.index("other") < 20
    finally:
        busy.close()
        other.close()


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
async def test_pictures_that_depend_on_later_ones_keep_their_own_times(codec, feed, clock):
    coder = encoder(codec, 640, 360, 400)
    if codec == "libx264":
        coder.options = {"preset": "veryfast", "bf": "3"}  # B frames, as recordings and other people's encoders have
    packets = [p for frame in (*pictures((640, 360), 40), None) for p in coder.encode(frame)]
    decoder = DecoderThread({"libx264": "h264", "libvpx": "vp8"}[codec], feed, clock)
    try:
        for packet in packets:
            decoder.submit(bytes(packet), float(packet.pts * packet.time_base), clock.now(), packet.size, packet.is_keyframe)
        got = await records(feed, 36)
    finally:
        decoder.close()
    assert [record.code for record in got] == [code_of(n) for n in range(36)]
    assert [round(record.media_time * 30, 3) for record in got] == list(range(36))


async def test_decoding_begins_with_a_keyframe(decoder, feed, clock):
    made = units(40)
    for number in [*range(10, 40)]:
        data, keyframe = made[number]
        decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
    got = await records(feed, 10)
    assert [record.code.sequence for record in got] == list(range(30, 40))
    assert (decoder.skipped, decoder.dropped) == (20, 0)


async def test_a_full_queue_drops_the_oldest_up_to_a_keyframe_and_counts(feed, clock):
    made = units(75)
    decoder = DecoderThread("h264", feed, clock, limit=40)
    try:
        with decoder._lock:  # the decoder is busy elsewhere
            for number, (data, keyframe) in enumerate(made):
                decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
        got = await records(feed, 15)
    finally:
        decoder.close()
    assert [record.code.sequence for record in got] == list(range(60, 75))
    assert decoder.dropped == 60


async def test_after_a_drop_without_a_keyframe_in_sight_it_waits_for_one(feed, clock):
    made = units(62)
    decoder = DecoderThread("h264", feed, clock, limit=10)
    try:
        with decoder._lock:
            for number in range(20):
                data, keyframe = made[number]
                decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
        assert (decoder.dropped, decoder.skipped) == (11, 9)
        for number in range(28, 32):
            data, keyframe = made[number]
            decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
        got = await records(feed, 2)
    finally:
        decoder.close()
    assert [record.code.sequence for record in got] == [30, 31]


async def test_garbage_is_undecodable_and_the_stream_goes_on_after_it(decoder, feed, clock):
    for data in (os.urandom(500), b"\x00\x00\x00\x01\x65" + os.urandom(800), b"", b"\x00\x00\x01"):
        decoder.submit(data, 0.0, clock.now(), len(data), True)
    for number, (data, keyframe) in enumerate(units(3)):
        decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
    refused = 0
    async with asyncio.timeout(10):
        while not isinstance(record := await feed.get(), FrameRecord):
            assert isinstance(record, Undecodable) and "\n" not in record.detail
            refused += 1
    assert refused >= 2
    assert record.code == code_of(0)


async def test_units_a_codec_swallows_without_a_picture_are_undecodable_in_the_end(feed, clock):
    parameters = b"".join(b"\x00\x00\x01" + nal for nal in (b"\x09\xf0",))  # access unit delimiters: valid, and nothing
    decoder = DecoderThread("h264", feed, clock)
    try:
        for _ in range(40):
            decoder.submit(parameters, None, clock.now(), 5, True)
        got = await records(feed, 8)
    finally:
        decoder.close()
    assert all(isinstance(record, Undecodable) for record in got)


async def test_a_picture_of_absurd_size_is_refused_before_it_is_allocated(feed, clock):
    coder = av.CodecContext.create("libx264", "w")
    coder.width, coder.height, coder.pix_fmt, coder.time_base = 8192, 4320, "gray", Fraction(1, 30)
    coder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    (packet,) = coder.encode(av.VideoFrame(8192, 4320, "gray"))
    decoder = DecoderThread("h264", feed, clock)
    try:
        decoder.submit(bytes(packet), 0.0, clock.now(), packet.size, True)
        (record,) = await records(feed, 1)
    finally:
        decoder.close()
    assert isinstance(record, Undecodable)


@pytest.mark.parametrize("channels", [1, 2])
async def test_sound_comes_out_as_chirps_in_their_place(channels, feed, clock):
    origin = 1_795_244_028_400_000_000
    coder, synthesizer = OpusEncoder(channels, 32_000), Synthesizer(origin)
    decoder = DecoderThread("opus", feed, clock)
    begin = clock.now() + 100 * NS
    try:
        for number in range(1, 126):  # the last sixteen may wait for more
            data, pts = coder.encode(synthesizer.block(960 * number), 960 * number)
            decoder.submit(data, pts / 48_000, clock.now(), len(data), True, due_ns=begin + pts * NS // 48_000)
        got = await records(feed, 2)
    finally:
        decoder.close()
    for number, chirp in enumerate(got):
        assert isinstance(chirp, Chirp)
        assert chirp.media_time == pytest.approx(0.6 + number, abs=0.0005)
        assert (chirp.shown - begin) / NS == pytest.approx(0.6 + number, abs=0.0005)


async def test_the_backlog_is_the_age_of_the_oldest_unit_not_decoded(feed, clock):
    decoder = DecoderThread("h264", feed, clock)
    try:
        assert decoder.pending() == 0.0
        ((data, keyframe),) = units(1)
        with decoder._lock:
            decoder.submit(data, 0.0, clock.now() - 3 * NS, len(data), keyframe)
            assert 3.0 <= decoder.pending() < 4.0
        await until(lambda: decoder.pending() == 0.0)
    finally:
        decoder.close()


async def test_an_unknown_codec_is_unsupported_and_starts_no_thread(feed, clock):
    before = set(threading.enumerate())
    for codec in ("vp99", "subrip"):
        with pytest.raises(Unsupported):
            DecoderThread(codec, feed, clock)
    assert set(threading.enumerate()) == before


async def test_closing_with_much_undone_is_quick_and_leaves_no_thread(feed, clock):
    before = set(threading.enumerate())
    decoder = DecoderThread("h264", feed, clock)
    for number, (data, keyframe) in enumerate(units(30, (1280, 720))):
        decoder.submit(data, number / 30, clock.now(), len(data), keyframe)
    began = clock.now()
    decoder.close()
    decoder.close()
    assert clock.now() - began < NS
    decoder.submit(b"late", 0.0, clock.now(), 4, True)
    await until(lambda: set(threading.enumerate()) == before, 2)


class Hanging:
    """A codec that does not come back from a unit until it is let."""

    name = "h264"

    def __init__(self) -> None:
        self.hangs, self.let = threading.Event(), threading.Event()

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        self.hangs.set()
        self.let.wait(20)
        return []


async def test_a_codec_that_hangs_holds_up_neither_who_leaves_nor_who_comes_after(feed, clock):
    """As many hang as there are threads for everybody."""
    other = Feed(clock)
    ((data, keyframe),) = units(1)
    stays = DecoderThread("h264", other, clock)
    codecs = [Hanging() for _ in os.sched_getaffinity(0)]
    try:
        for codec in codecs:
            hung = DecoderThread("h264", feed, clock)
            hung._context = codec  # type: ignore[assignment]
            hung.submit(data, 0.0, clock.now(), len(data), True)
            if codec is codecs[-1]:
                stays.submit(data, 0.0, clock.now(), len(data), keyframe)
            await until(codec.hangs.is_set, 2)
            began = clock.now()
            hung.close()
            assert clock.now() - began < NS // 4
        async with asyncio.timeout(5):
            assert isinstance(await other.get(), FrameRecord)
    finally:
        for codec in codecs:
            codec.let.set()
        stays.close()


async def test_what_comes_out_after_the_close_is_nobodys(feed, clock):
    class Late(Hanging):
        def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
            super().decode(packet)
            raise ValueError("late")

    decoder, codec = DecoderThread("h264", feed, clock), Late()
    decoder._context = codec  # type: ignore[assignment]
    before = set(threading.enumerate())
    decoder.submit(b"x", 0.0, clock.now(), 1, True)
    await until(codec.hangs.is_set, 2)
    decoder.close()
    codec.let.set()
    await until(lambda: set(threading.enumerate()) == before, 2)
    feed.close()
    assert await feed.get() is None


def test_warming_up_needs_no_loop_and_leaves_nothing(clock):
    before = set(threading.enumerate())
    warm_up(clock)
    assert set(threading.enumerate()) == before
