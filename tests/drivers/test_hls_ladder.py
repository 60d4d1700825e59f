"""What an HLS viewer makes of a ladder: which rung it plays, when it changes, and the sound that stands beside it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from statistics import median

import pytest

from probe.drivers import hls_retry
from probe.drivers.base import Spec
from probe.drivers.hls import HlsViewer
from probe.drivers.hls_ladder import choose, ladder
from probe.drivers.hls_screen import HEARD
from probe.errors import Failure, Unsupported
from probe.media.demux import Demuxer
from probe.model.clock import NS
from probe.model.frames import Chirp, FrameRecord, Record
from probe.model.observation import UNHEARD, Delivery, RequestDone, Role, Switched
from probe.plan import Device
from probe.wire.playlist_facts import Master, Variant
from tests.drivers.hls_origin import Origin, body, mpeg2, sound_alone, status
from tests.drivers.hls_session import GRACE, FakeIO, sessions
from tests.drivers.ll_origin import LowLatencyOrigin
from tests.tools import requires, wait_until


@pytest.fixture
async def io() -> AsyncIterator[FakeIO]:
    async with sessions() as make:
        yield make()


def spec(url: str) -> Spec:
    return Spec(role=Role.VIEWER, protocol="hls", url=url)


def variant(bandwidth: int | None, size: tuple[int, int] | None = None, codecs: tuple[str, ...] = ("avc1.42e01e",)) -> Variant:
    return Variant(uri="http://h/m", bandwidth=bandwidth, resolution=size, codecs=codecs)


def test_rungs_are_named_by_their_shorter_side_and_by_bandwidth_where_that_is_not_enough():
    variants = (
        variant(4_000_000, (1920, 1080)),
        variant(2_000_000, (1280, 720)),
        variant(1_000_000, (720, 1280)),
        variant(64_000),
        variant(64_000),
        variant(None),
    )
    names = [rung.name for rung in ladder(Master(url="http://h", variants=variants))]
    assert names == ["1080p", "720p 2000k", "720p 1000k", "64k", "64k 2", "unnamed"]


def test_what_a_device_cannot_decode_is_unsupported_and_says_what_was_offered():
    master = Master(url="http://h", variants=(variant(1, codecs=("hvc1.1",)), variant(1, codecs=("mp4a.40.2",))))
    with pytest.raises(Unsupported, match="no h264 among the variants: hvc1.1"):
        choose(master, ladder(master), spec("http://h"))
    with pytest.raises(Failure, match="no_variant"):
        choose(Master(url="", variants=master.variants[1:]), ladder(master)[1:], spec("http://h"))
    tv = Spec(role=Role.VIEWER, protocol="hls", url="", device=Device(codecs=("vp9",)))
    with pytest.raises(Unsupported):
        choose(Master(url="", variants=(variant(1),)), ladder(Master(url="", variants=(variant(1),))), tv)


async def test_on_a_slow_path_segments_are_given_up_and_a_lower_rung_is_played(io: FakeIO):
    slow = LowLatencyOrigin(parts=False, hints=False, skip=False, block=False, variants=2)
    async with slow.running() as origin:
        async with HlsViewer().open(spec(origin.url), io):
            await io.pictures(5)
            origin.rate = lambda way: 6_000 if way == "a" else None
            got = await io.pictures(75)
    (switched,) = io.of(Switched)
    assert (switched.before, switched.after) == ("180p", "90p")
    numbers = [record.code.sequence for record in got if record.code]
    assert numbers == list(range(numbers[0], numbers[0] + 75))
    assert {record.rendition for record in got[:5]} == {"180p"}
    assert {record.rendition for record in got[-5:]} == {"90p"}
    assert any("abandoned" in note for note in io.notes)


async def test_a_lower_rung_whose_list_cannot_be_had_is_not_gone_to(io: FakeIO):
    slow = LowLatencyOrigin(parts=False, hints=False, skip=False, block=False, variants=2)
    async with slow.running() as origin:

        async def only_a(request):
            return await status(503)(request) if request.path.startswith("/b/") else None

        async with HlsViewer().open(spec(origin.url), io):
            await io.pictures(5)
            origin.broken = {"media": only_a}
            origin.rate = lambda way: 20_000
            await wait_until(lambda: any("was not switched to" in note for note in io.notes), GRACE)
            assert (await io.pictures(10))[-1].rendition == "180p"
    assert io.of(Switched) == []


async def test_sound_of_its_own_rendition_is_heard_in_step_with_the_picture(io: FakeIO):
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="sound.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=200000,RESOLUTION=320x180,CODECS="avc1.42c01e,mp4a.40.2",AUDIO="a"\nmedia.m3u8\n'
    )
    sound = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ntrack.mp4\n#EXT-X-ENDLIST\n"
    broken = {"master": body(master.encode()), "sound": body(sound.encode()), "track": body(sound_alone())}
    records: list[Record] = []
    async with Origin(listed=5, endlist_at=5, broken=broken).running() as origin:
        async with HlsViewer().open(spec(f"{origin.url}/master.m3u8"), io), asyncio.timeout(GRACE):
            with pytest.raises(Failure, match="playing/ended"):
                while (record := await io.feed.get()) is not None:
                    records.append(record)
    pictures = [record for record in records if isinstance(record, FrameRecord)]
    chirps = [record for record in records if isinstance(record, Chirp)]
    assert len(pictures) == 50
    assert len(chirps) >= 2
    heard = median(mark.shown / NS - (mark.media_time or 0) for mark in chirps)
    seen = median(one.shown / NS - (one.media_time or 0) for one in pictures)
    assert abs(heard - seen) < 0.05
    assert io.facts["sound"] == "of its own: en"
    assert io.facts["audio"] == "aac"
    assert [request.url.rsplit("/", 1)[1] for request in io.of(RequestDone)].count("track.mp4") == 1


async def test_pictures_of_another_codec_than_was_said_are_unsupported(io: FakeIO):
    async with Origin(broken={"segment": body(mpeg2())}).running() as origin:
        with pytest.raises(Unsupported, match="mpeg2video in the segments"):
            async with HlsViewer().open(spec(f"{origin.url}/media.m3u8"), io):
                pass


async def test_segments_of_sound_alone_are_empty(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hls_retry, "START_PAUSES", (0.01,) * 4)
    async with Origin(ts=True, broken={"segment": body(sound_alone())}).running() as origin:
        with pytest.raises(Failure, match="segment/empty: a segment without a picture"):
            async with HlsViewer().open(spec(f"{origin.url}/media.m3u8"), io):
                pass


async def test_sound_we_cannot_hear_ends_nothing_and_is_told_once(io: FakeIO):
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="sound.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=200000,AUDIO="a"\nmedia.m3u8\n'
    )
    sound = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ntrack.ts\n"
    broken = {"master": body(master.encode()), "sound": body(sound.encode()), "track": body(mpeg2())}
    async with Origin(broken=broken).running() as origin:
        async with HlsViewer().open(spec(f"{origin.url}/master.m3u8"), io):
            await io.pictures(25)
    assert io.notes == ["the sound is not listened to: unsupported: mpeg2video where sound was to be"]
    assert io.facts[UNHEARD] == "mpeg2video"


@pytest.mark.parametrize(("codec", "heard"), [("libmp3lame", "mp3"), ("ac3", "")])
def test_sound_in_the_segments_has_its_codecs_name(codec: str, heard: str):
    """MP3 is decoded by something that FFmpeg calls mp3float; it was once taken for a codec we do not hear."""
    made = subprocess.run(
        [requires("ffmpeg"), "-v", "error", "-f", "lavfi", "-i", "sine=duration=0.5", "-c:a", codec, "-f", "mpegts", "-"],
        check=True, capture_output=True,
    )  # fmt: skip
    (name,) = {packet.codec for packet in Demuxer().feed(None, made.stdout)}
    assert name == (heard or codec) and (name in HEARD) is bool(heard)


async def test_a_list_that_goes_back_is_told(io: FakeIO):
    async with Origin(listed=12).running() as origin:
        async with HlsViewer().open(spec(f"{origin.url}/media.m3u8"), io):
            await io.pictures(2)
            origin.listed -= 6
            await wait_until(lambda: sum(told.backwards for told in io.of(Delivery)) == 1, GRACE)
