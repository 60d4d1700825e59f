"""Two ways in and every way out: what is published by WHIP or RTMP reaches WHEP, HLS, LL-HLS and FLV, seen and heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import pytest_asyncio

from probe.media.programme import ProgrammeIds
from probe.media.source import VideoSource
from probe.model.stage import Phase
from probe.sandbox.flv import WAITING, Viewer
from probe.sandbox.launch import Sandbox
from probe.sandbox.unit import Unit
from probe.wire.flv_tags import Tag, TagMaker, metadata_tag
from tests.sandbox.clients import RUN, User, on_air, user, watching
from tests.sandbox.ways import Seen, flv, on_rtmp, playlist, read, rtmp, variants
from tests.tools import requires, spawn, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def probe(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox) as one:
        yield one
        await one.call("DELETE", "/rooms?tag=a-test")


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox, "viewer") as one:
        yield one


async def protocols(sandbox: Sandbox) -> list[str]:
    return sorted(session["protocol"] for session in (await sandbox.state())["sessions"])


async def gone(sandbox: Sandbox) -> bool:
    return await protocols(sandbox) == []


# s between sound and picture. RTMP's are of one clock. WHIP's are each laid on where its first packet arrives.
SKEW = {"whip": 0.1, "rtmp": 0.02}


async def seen_and_heard(sandbox: Sandbox, probe: User, viewer: User, room: str, skew: float) -> None:
    """A room on air, by every way out at once."""
    async with watching(viewer, room) as whep, flv(viewer, room) as body, flv(viewer, room, socket=True) as ws:
        folders = await asyncio.gather(variants(viewer, room, "hls"), variants(viewer, room, "ll"))
        await asyncio.gather(*(by_segments(viewer, url, skew) for urls in folders for url in urls))
        await wait_until(lambda: len(whep.ours) > 15 and whep.units["audio"] > 15, 8, "WHEP")
        for seen in (body, ws):
            await wait_until(partial(both, seen), 8, "FLV")
            assert seen.packets[0].kind == "video" and seen.packets[0].keyframe
            sequences = [code.sequence for code in seen.codes]
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
            assert in_step(seen, skew), seen.skews()


def in_step(seen: Seen, skew: float) -> bool:
    """Off by at most `skew`, and always by the same."""
    off = seen.skews()
    return max(map(abs, off)) < skew and max(off) - min(off) < SKEW["rtmp"]


def both(seen: Seen) -> bool:
    return len(seen.ours) > 30 and len(seen.chirps) >= 2


async def by_segments(viewer: User, url: str, skew: float) -> None:
    await wait_until(lambda: many(viewer, url, 3), 10, url)
    media = await playlist(viewer, url)
    seen = await read(viewer, media, media.segments[-3:])
    assert len(seen.ours) > 45, url
    assert seen.pictures[0].height == (180 if "small" in url else 360)
    assert seen.chirps and in_step(seen, skew), seen.skews()
    assert {packet.codec for packet in seen.packets} == {"h264", "aac"}


@pytest.mark.timing
async def test_every_way_out_shows_and_sounds_what_came_in_either_way(sandbox: Sandbox, probe: User, viewer: User) -> None:
    rooms = [await probe.room(), await probe.room()]
    async with on_air(probe, rooms[0]), on_rtmp(probe, rooms[1]):
        await asyncio.gather(*(seen_and_heard(sandbox, probe, viewer, *one) for one in zip(rooms, SKEW.values(), strict=True)))
        assert await protocols(sandbox) == ["rtmp", "whip"]
    await wait_until(lambda: gone(sandbox))


async def many(viewer: User, url: str, count: int) -> bool:
    return len((await playlist(viewer, url)).segments) >= count


async def test_publishers_of_both_kinds_replace_each_other(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room, publish=0, delete=False), flv(viewer, room) as seen:
        await wait_until(lambda: seen.ours)
        async with on_rtmp(probe, room, publish=1):
            await wait_until(lambda: any(code.publish == 1 for code in seen.codes), 8)
            async with on_air(probe, room, publish=2):
                await wait_until(lambda: any(code.publish == 2 for code in seen.codes), 8)
        times = seen.times
        assert times == sorted(times)


async def test_rtmp_bytes_are_acknowledged(probe: User) -> None:
    room = await probe.room()
    async with on_rtmp(probe, room) as publisher:
        await wait_until(lambda: publisher.acknowledged > 20_000)


@pytest.mark.parametrize(
    ("key", "phase"),
    [
        ("{room}", Phase.AUTH),
        ("{room}?token=forged", Phase.AUTH),
        ("{room}?token={viewer}", Phase.AUTH),
        ("nowhere?token={probe}", Phase.JOIN),
    ],
)
async def test_rtmp_is_refused_as_other_services_refuse(probe: User, viewer: User, key: str, phase: Phase) -> None:
    room = await probe.room()
    async with rtmp(probe, key.format(room=room, viewer=viewer.token, probe=probe.token)) as one, asyncio.timeout(5):
        await one.ended.wait()
    assert one.refusal is not None and one.refusal.phase is phase


async def test_another_application_is_refused(probe: User) -> None:
    async with rtmp(probe, "x", probe.sandbox.rtmp_url.replace("/live", "/elsewhere")) as one, asyncio.timeout(5):
        await one.ended.wait()
    assert one.refusal is not None and one.refusal.phase is Phase.SIGNAL


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x03" + b"\xff" * 3072 + b"\xff" * 4096], ids=["http", "noise"])
async def test_what_is_no_rtmp_is_let_go(sandbox: Sandbox, junk: bytes) -> None:
    host, port = sandbox.rtmp_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(junk)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
    writer.close()
    assert await sandbox.healthy()


@pytest.mark.parametrize(
    "tag", [Tag(9, 0, b"\x1c\x01\0\0\0abc"), Tag(8, 0, b"\x2fabc"), Tag(9, 0, b"\x17\x01\0\0\0\xff\xff\xff\xff")]
)
async def test_a_publisher_of_what_is_not_taken_is_let_go(probe: User, tag: Tag) -> None:
    room = await probe.room()
    async with rtmp(probe, f"{room}?token={probe.token}") as one, asyncio.timeout(5):
        await one.joined.wait()
        one.client.put(metadata_tag({"width": 640.0}, publishing=True))
        one.client.put(tag)
        one.writer.write(one.client.take())
        await one.ended.wait()


async def test_a_room_without_sound_is_flv_without_sound(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_rtmp(probe, room, audio=False), flv(viewer, room) as seen:
        await wait_until(lambda: len(seen.ours) > 10)
        assert {packet.kind for packet in seen.packets} == {"video"}


async def test_flv_wants_a_token_and_a_stream(probe: User, viewer: User) -> None:
    room = await probe.room()
    assert (await viewer.call("GET", f"/rooms/{room}/live.flv")).status == 404
    viewer.token = ""
    assert (await viewer.call("GET", f"/rooms/{room}/live.flv")).status == 401


@pytest.mark.parametrize("shift", [2 * 3600_000, -3600_000], ids=["ahead", "back"])
async def test_timestamps_that_jump_by_hours_are_laid_on_where_they_arrive(probe: User, viewer: User, shift: int) -> None:
    room = await probe.room()
    async with on_rtmp(probe, room) as publisher, flv(viewer, room) as seen:
        publisher.shift = max(0, -shift)
        await wait_until(lambda: len(seen.ours) > 10)
        publisher.shift += shift
        before = len(seen.packets)
        await wait_until(lambda: len(seen.packets) > before + 120, 8)
        times = seen.times
        assert times == sorted(times) and times[-1] < 15
        assert len([packet for packet in seen.packets[-60:] if packet.kind == "audio"]) > 20
        (media, _) = await variants(viewer, room, "hls")
        assert "#EXT-X-TARGETDURATION:1\n" in (await playlist(viewer, media)).text
        assert not publisher.ended.is_set()


async def test_b_frames_are_refused(probe: User) -> None:
    room = await probe.room()
    source = VideoSource("360p30", ProgrammeIds(RUN, 7, 0), 400_000)
    maker = TagMaker()
    async with rtmp(probe, f"{room}?token={probe.token}") as one, asyncio.timeout(5):
        await one.joined.wait()
        for number, shown in enumerate((0, 3, 1, 2, 6, 4, 5)):
            data, keyframe = source.make(number, 0, keyframe=False)
            for tag in maker.video(data, number * 33, keyframe, offset=(shown + 1 - number) * 33):
                one.client.put(tag)
        one.writer.write(one.client.take())
        await one.ended.wait()


async def test_ffmpeg_publishes_with_sound_at_44100(probe: User, viewer: User, tmp_path: Path) -> None:
    room = await probe.room()
    picture, sound = ("-f", "lavfi", "-i", "testsrc=s=320x180:r=30"), ("-f", "lavfi", "-i", "sine=440:r=44100")
    coded = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-c:a", "aac", "-ar", "44100")
    url = f"{probe.sandbox.rtmp_url}/{room}?token={probe.token}"
    command = [requires("ffmpeg"), "-loglevel", "error", "-re", *picture, *sound, *coded, "-f", "flv", url]
    with spawn(command, tmp_path / "ffmpeg"):

        async def live() -> bool:
            return bool((await probe.call("GET", f"/rooms/{room}")).json["live"])

        await wait_until(live, 10)
        async with flv(viewer, room) as seen, watching(viewer, room) as whep:
            await wait_until(lambda: len(seen.pictures) > 30 and len(whep.pictures) > 15 and whep.units["audio"] > 30, 10)
    frames = [packet for packet in seen.packets if packet.kind == "audio"]
    assert {packet.rate for packet in frames} == {48_000}  # made anew
    lengths = [
        later.pts - earlier.pts for earlier, later in pairwise(frames) if later.pts is not None and earlier.pts is not None
    ]
    assert all(abs(length - 1024 / 48_000) < 0.002 for length in lengths), lengths


async def test_the_end_of_a_room_ends_what_is_made_for_it(sandbox: Sandbox, probe: User, viewer: User) -> None:
    server = psutil.Process((await sandbox.state())["server_pid"])
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room):
        for folder in ("hls", "ll"):
            _, small = await variants(viewer, room, folder)
            await playlist(viewer, small)
        threads = server.num_threads()
        await probe.call("DELETE", f"/rooms/{room}")
        await wait_until(lambda: server.num_threads() <= threads - 2, 3)  # of sound, of pictures


async def test_a_viewer_that_never_reads_holds_no_more_than_its_bound() -> None:
    viewer = Viewer(cast(Any, Unfaulted()), cast(Any, Unfaulted()))
    data, keyframe = VideoSource("360p30", ProgrammeIds(RUN, 7, 0), 400_000).make(0, 0, keyframe=False)
    for number in range(3000):
        viewer.put(Unit("one", "video", data, number * 3000, keyframe, number))
        assert viewer._bytes < WAITING + 100_000


class Unfaulted:
    """A platform and room as far as a viewer needs them."""

    id = room = "room"
    audio = None

    def __getattr__(self, name: str) -> Any:
        return self

    def media(self, *_: Any, **__: Any) -> None: ...
    def acting(self, *_: Any, **__: Any) -> None: ...
    def leave(self, *_: Any) -> None: ...
    def request_keyframe(self) -> None: ...


async def test_the_end_of_a_room_ends_flv_and_rtmp(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_rtmp(probe, room) as publisher, flv(viewer, room) as seen:
        await wait_until(lambda: seen.ours)
        await probe.call("DELETE", f"/rooms/{room}")
        async with asyncio.timeout(3):
            await publisher.ended.wait()
        await wait_until(lambda: gone(sandbox))
