"""Viewing over RTMP: planted servers that play, refuse, hang, break off and lie."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from probe.drivers import streamed
from probe.drivers.base import Spec
from probe.drivers.rtmp_viewer import RtmpViewer
from probe.errors import Failure, Unsupported
from probe.model.clock import MS
from probe.model.frames import Chirp, FrameRecord
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from probe.net.client import AddressPolicy
from probe.wire.flv_tags import VIDEO, Tag
from tests.drivers.rtc_session import Session, session
from tests.drivers.rtmp_platform import HOUR_MS, Behaviour, Guest, Platform, guests, hang, marked, player, tags
from tests.net.servers import Authority
from tests.tools import wait_until


def spec(url: str, key: str = "") -> Spec:
    return Spec(role=Role.VIEWER, protocol="rtmp", url=url, key=key)


@asynccontextmanager
async def viewing(behaviour: Behaviour, path: bool = False) -> AsyncIterator[tuple[Platform, Session]]:
    async with guests(behaviour) as platform, session("127.0.0.1", path=path) as io, RtmpViewer().open(spec(platform.url()), io):
        yield platform, io


async def failure(behaviour: Behaviour) -> Failure:
    """How a start, or what came after it, failed."""
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(10), viewing(behaviour) as (_, io):
            raise await io.failure()
    return caught.value


def sequences(frames: list[FrameRecord]) -> list[int]:
    return [frame.code.sequence for frame in frames if frame.code]


# --- works


async def test_it_shows_every_picture_as_it_comes() -> None:
    async with viewing(player(*tags(40, sound=True))) as (platform, io):
        frames = await io.frames(40)
    assert sequences(frames) == list(range(40))
    assert frames[0].keyframe and all(f.arrived < f.decoded == f.shown for f in frames)
    assert io.facts == {"server": "FMS/3,0,1,123", "codec": "h264", "audio": "aac"}
    assert [a.what for a in platform.guests[0].asked] == ["connect", "play"]
    await wait_until(lambda: platform.guests[0].left or platform.guests[0].writer.is_closing(), what="its goodbye")


async def test_its_stages_are_those_of_rtmp_and_what_waits_is_told_apart() -> None:
    keyframe_after = [tag for tag in tags(31) if tag.timestamp >= 500 or tag.payload[1] == 0]  # begins in the middle

    async def slow(guest: Guest) -> None:
        await guest.until("connect")
        await asyncio.sleep(0.05)
        await guest.accept("connect")
        await guest.until("play")
        await asyncio.sleep(0.1)
        await guest.accept("play")
        await asyncio.sleep(0.15)
        await player_after(guest)

    async def player_after(guest: Guest) -> None:
        late = [tag for tag in tags(20) if tag.payload[0] == 0x27]
        for tag in late[:10]:
            guest.send(tag)
            await asyncio.sleep(0.02)
        for tag in keyframe_after:
            guest.send(tag)
        await hang(guest)

    async with viewing(slow) as (_, io):
        (first, *_) = await io.frames(1)
        io.stages.finish(first.decoded)
    spent = io.spent()
    assert list(spent) == [
        *(Stage.PROBE, Stage.CONNECT, Stage.HANDSHAKE, Stage.SIGNAL, Stage.JOIN, Stage.FIRST_PACKET, Stage.KEYFRAME)
    ]
    assert sum(spent.values()) == first.decoded - io.stages.intent
    assert spent[Stage.SIGNAL] >= 50 * MS and spent[Stage.JOIN] >= 100 * MS and spent[Stage.FIRST_PACKET] >= 150 * MS
    assert spent[Stage.KEYFRAME] >= 180 * MS
    assert io.stages.slices[-1].stage is Stage.PROBE and io.stages.slices[-1].took == first.decoded - first.arrived


@pytest.mark.parametrize("sound", [True, False])
async def test_nothing_is_analysed_before_the_first_picture(sound: bool) -> None:
    async with viewing(player(*tags(5, sound=sound), pace=0)) as (_, io):
        (first,) = await io.frames(1)
    assert first.decoded - io.stages.intent < 1000 * MS, io.spent()


async def test_marks_are_heard_where_they_were_sounded() -> None:
    async with viewing(player(*marked(4), pace=0.002)) as (_, io):
        chirps: list[Chirp] = []
        async with asyncio.timeout(10):
            while len(chirps) < 3:
                chirps += [r for r in [await io.get()] if isinstance(r, Chirp)]
    apart = [b.media_time - a.media_time for a, b in pairwise(chirps) if a.media_time and b.media_time]
    assert apart == [pytest.approx(1.0, abs=0.002)] * 2


async def test_a_key_and_a_query_are_the_streams_name() -> None:
    async with guests(player(*tags(3))) as platform, session("127.0.0.1") as io:
        async with RtmpViewer().open(spec(platform.url("live?vhost=a"), "room?token=s3cret"), io):
            await io.frames(1)
        assert (platform.guests[0].session.app, platform.guests[0].session.name) == ("live?vhost=a", "room?token=s3cret")
    assert "s3cret" not in repr(io.facts) + repr(io.notes)


async def test_a_path_of_ours_carries_it() -> None:
    async with viewing(player(*tags(10)), path=True) as (_, io):
        assert sequences(await io.frames(10)) == list(range(10))
        assert io.path is not None and io.path.connections == 1


@pytest.mark.parametrize("jump", [2 * HOUR_MS, -2 * HOUR_MS], ids=["ahead", "back"])
async def test_timestamps_that_jump_by_hours_cost_no_picture(jump: int) -> None:
    start = 3 * HOUR_MS
    clip = [*tags(20, start)]
    moved = [Tag(t.kind, t.timestamp + jump if t.timestamp >= start + 500 else t.timestamp, t.payload) for t in clip]
    async with viewing(player(*moved)) as (_, io):
        frames = await io.frames(20)
    assert sequences(frames) == list(range(20))
    assert frames[10].media_time == pytest.approx((start + 500 + jump) / 1000)


async def test_a_picture_without_sound_will_do() -> None:
    async with viewing(player(*tags(5))) as (_, io):
        await io.frames(5)
    assert "audio" not in io.facts


@pytest.mark.parametrize(("behaviour", "flows"), [(player(*tags(3)), True), (player(), False)], ids=["pictures", "none"])
async def test_a_scout_says_whether_a_first_viewer_could_start(
    behaviour: Behaviour, flows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "_SCOUT_SECONDS", 0.3)
    async with guests(behaviour) as platform, session("127.0.0.1") as io:
        assert await RtmpViewer().scout(spec(platform.url()), io) is flows


async def test_a_scout_fails_as_a_viewer_would() -> None:
    async def behaviour(guest: Guest) -> None:
        await guest.accept("connect")
        await guest.refuse("play", "NetStream.Play.StreamNotFound")

    async with guests(behaviour) as platform, session("127.0.0.1") as io:
        with pytest.raises(Failure, match="join/not_found"):
            await RtmpViewer().scout(spec(platform.url()), io)


# --- refused


async def test_a_closed_port_is_refused() -> None:
    async with guests(hang) as platform:
        pass
    async with session("127.0.0.1") as io:
        with pytest.raises(Failure, match="connect/refused"):
            async with RtmpViewer().open(spec(platform.url()), io):
                pass


async def test_an_address_that_is_nobodys_business_is_refused() -> None:
    async with guests(hang) as platform, session(allow=AddressPolicy()) as io:
        with pytest.raises(Failure, match="connect/address_refused"):
            async with RtmpViewer().open(spec(platform.url()), io):
                pass
        assert platform.guests == []


async def test_a_stream_that_is_not_there_is_not_found() -> None:
    async def behaviour(guest: Guest) -> None:
        await guest.accept("connect")
        await guest.refuse("play", "NetStream.Play.StreamNotFound", "room is not found")

    caught = await failure(behaviour)
    assert (caught.phase, caught.reason) == (Phase.JOIN, "not_found")


# --- ends


async def closing(guest: Guest) -> None:
    guest.writer.close()


async def resetting(guest: Guest) -> None:
    sock = guest.writer.get_extra_info("socket")
    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: an RST
    guest.writer.transport.abort()


async def until_connect(guest: Guest) -> None:
    await guest.until("connect")


async def until_play(guest: Guest) -> None:
    await guest.accept("connect")
    await guest.until("play")


async def until_media(guest: Guest) -> None:
    await guest.accept("connect", "play")


async def until_sound(guest: Guest) -> None:
    await until_media(guest)
    guest.send(*(tag for tag in tags(3, sound=True) if tag.kind != VIDEO))
    await guest.writer.drain()


WHERE: dict[str, tuple[Behaviour | None, Phase]] = {
    "handshake": (None, Phase.HANDSHAKE),
    "connect": (until_connect, Phase.SIGNAL),
    "play": (until_play, Phase.JOIN),
    "media": (until_media, Phase.FIRST_PACKET),
    "keyframe": (until_sound, Phase.KEYFRAME),
    "playing": (player(*tags(5), then=closing), Phase.PLAYING),
}


@pytest.mark.parametrize("where", WHERE)
async def test_a_connection_that_is_closed_says_where(where: str) -> None:
    before, phase = WHERE[where]

    async def behaviour(guest: Guest) -> None:
        if before is not None:
            await before(guest)
        else:
            await guest.reader.readexactly(1537)

    caught = await failure(behaviour)
    assert (caught.phase, caught.reason) == (phase, "ended" if phase is Phase.PLAYING else "closed")


@pytest.mark.parametrize("where", ["handshake", "play", "playing"])
async def test_a_connection_that_is_reset_says_so(where: str) -> None:
    before, phase = WHERE[where] if where != "playing" else (player(*tags(5), then=resetting), Phase.PLAYING)

    async def behaviour(guest: Guest) -> None:
        if before is not None:
            await before(guest)
        await resetting(guest)

    caught = await failure(behaviour)
    assert (caught.phase, caught.reason) == (phase, "reset")


async def test_the_publishers_leaving_ends_it() -> None:
    async def leave(guest: Guest) -> None:
        guest.session.end()
        guest.flush()
        await hang(guest)

    caught = await failure(player(*tags(5), then=leave))
    assert (caught.phase, caught.reason) == (Phase.PLAYING, "ended")
    assert "UnpublishNotify" in str(caught)


# --- wrong


async def junk(guest: Guest) -> None:
    guest.writer.write(bytes(range(7, 256)) * 40)
    await hang(guest)


async def endless(guest: Guest) -> None:
    """A message of 16 MiB, a little at a time, with everything said about it at once."""
    guest.writer.write(b"\x06" + bytes(3) + b"\xff\xff\xff" + b"\x09" + b"\1\0\0\0")
    while True:
        guest.writer.write(b"\xc6" + bytes(4096))
        await guest.writer.drain()


async def page(guest: Guest) -> None:
    guest.writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await hang(guest)


async def junk_for_an_answer(guest: Guest) -> None:
    await guest.until("connect")
    await junk(guest)


WRONG: dict[str, tuple[Behaviour, Phase, str]] = {
    "http": (page, Phase.HANDSHAKE, "malformed"),
    "garbage for an answer": (junk_for_an_answer, Phase.SIGNAL, "malformed"),
    "garbage amid pictures": (player(*tags(5), then=junk), Phase.PLAYING, "malformed"),
    "an endless message": (player(*tags(5), then=endless), Phase.PLAYING, "too_large"),
    "a picture cut off": (player(*tags(5), Tag(VIDEO, 900, b"\x27\1\0\0\0\0\0\xff\xffxx")), Phase.PLAYING, "malformed"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_has_one_reason(name: str) -> None:
    behaviour, phase, reason = WRONG[name]
    caught = await failure(behaviour)
    assert (caught.phase, caught.reason) == (phase, reason), caught


@pytest.mark.parametrize(("payload", "codec"), [(b"\x91hvc1\0\0\0xxxx", "hevc"), (b"\x91av01xxxx", "av1"), (b"\x14xxxx", "vp6")])
async def test_a_codec_that_is_not_ours_is_unsupported(payload: bytes, codec: str) -> None:
    with pytest.raises(Unsupported, match=codec):
        async with viewing(player(Tag(VIDEO, 0, payload))):
            pass


async def test_sound_and_never_a_picture_is_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SOUND_ALONE", 200 * MS)
    caught = await failure(player(*(tag for tag in tags(60, sound=True) if tag.kind != VIDEO)))
    assert (caught.phase, caught.reason) == (Phase.KEYFRAME, "no_video")


async def test_a_server_that_asks_without_end_and_does_not_read_is_not_answered_without_end() -> None:
    taken = 0

    async def ask(guest: Guest) -> None:
        nonlocal taken
        await guest.accept("connect", "play")
        ping = b"\x02" + bytes(3) + b"\0\0\6\4" + bytes(4) + struct.pack(">HI", 6, 1)
        for _ in range(2000):
            guest.writer.write(ping * 1000)
            async with asyncio.timeout(0.5):
                await guest.writer.drain()
            taken += 1

    with pytest.raises(Failure, match="first_packet/(reset|closed)"):
        async with asyncio.timeout(10), viewing(ask):
            pass
    assert 0 < taken < 2000, "everything was read, so everything was answered"


# --- hangs


async def say_nothing(guest: Guest) -> None:
    await hang(guest)


async def hang_at_connect(guest: Guest) -> None:
    await guest.until("connect")
    await hang(guest)


async def hang_at_play(guest: Guest) -> None:
    await until_play(guest)
    await hang(guest)


async def hang_at_media(guest: Guest) -> None:
    await until_media(guest)
    await hang(guest)


async def hang_at_keyframe(guest: Guest) -> None:
    await until_sound(guest)
    await hang(guest)


HANGS: dict[Stage, Behaviour] = {
    Stage.HANDSHAKE: say_nothing,
    Stage.SIGNAL: hang_at_connect,
    Stage.JOIN: hang_at_play,
    Stage.FIRST_PACKET: hang_at_media,
    Stage.KEYFRAME: hang_at_keyframe,
    Stage.PROBE: player(*tags(5)),
}


@pytest.mark.parametrize("stage", HANGS)
async def test_cancelled_while_a_server_hangs_nothing_is_left(stage: Stage) -> None:
    async with guests(HANGS[stage]) as platform, session("127.0.0.1") as io:

        async def stay() -> None:
            async with RtmpViewer().open(spec(platform.url()), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stay())
        await wait_until(lambda: (io.stage() is stage and platform.guests) or task.done(), what=f"stage {stage}")
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5


# --- RTMPS


async def test_over_tls_it_is_the_same_and_tls_is_a_stage(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with guests(player(*tags(10)), tls=authority.server("localhost")) as platform, session("127.0.0.1", "localhost") as io:
        io.http.tls = authority.client()
        async with RtmpViewer().open(spec(platform.url(host="localhost")), io):
            assert sequences(await io.frames(10)) == list(range(10))
    assert list(io.spent())[:5] == [Stage.PROBE, Stage.RESOLVE, Stage.CONNECT, Stage.TLS, Stage.HANDSHAKE]


@pytest.mark.parametrize(
    ("names", "days", "trusted", "reason"),
    [
        (("localhost",), -1, True, "expired"),
        (("elsewhere.test",), 1, True, "wrong_host"),
        (("localhost",), 1, False, "untrusted"),
    ],
)
async def test_a_bad_certificate_has_its_reason(
    tmp_path: Path, names: tuple[str, ...], days: int, trusted: bool, reason: str
) -> None:
    authority = Authority(tmp_path)
    async with guests(hang, tls=authority.server(*names, days=days)) as platform, session("127.0.0.1", "localhost") as io:
        if trusted:
            io.http.tls = authority.client()
        with pytest.raises(Failure) as caught:
            async with RtmpViewer().open(spec(platform.url(host="localhost")), io):
                pass
    assert (caught.value.phase, caught.value.reason) == (Phase.TLS, reason)


async def test_tls_spoken_to_who_speaks_none_is_told() -> None:
    async def speak(guest: Guest) -> None:
        await guest.reader.read(100)
        await page(guest)

    async with guests(speak) as platform, session("127.0.0.1", "localhost") as io:
        with pytest.raises(Failure, match="tls/failed"):
            async with RtmpViewer().open(spec(platform.url(host="localhost").replace("rtmp:", "rtmps:")), io):
                pass
