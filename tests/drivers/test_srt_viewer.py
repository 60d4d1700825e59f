"""Viewing over SRT: planted servers that play, refuse, hang, break off, flood and lie."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from probe.drivers.base import Spec
from probe.drivers.srt_link import Target
from probe.drivers.srt_viewer import SrtViewer
from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.frames import FrameRecord, Undecodable
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from probe.wire.srt import caller
from probe.wire.srt.packets import Kind
from tests.drivers.rtc_session import Session, session
from tests.drivers.srt_platform import Behaviour, Guest, Platform, lossy, platform, stay, ts
from tests.tools import free_port, wait_until
from tests.wire.ts_made import made


def spec(url: str, **more: object) -> Spec:
    return Spec(role=Role.VIEWER, protocol="srt", url=url, **more)  # type: ignore[arg-type]


def playing(count: int = 60, **how: object) -> Behaviour:
    async def behave(guest: Guest) -> None:
        await guest.play(ts(count, **how))  # type: ignore[arg-type]
        await asyncio.Event().wait()

    return behave


def sending(data: bytes, size: int = 1316) -> Behaviour:
    async def behave(guest: Guest) -> None:
        await guest.play([data[at : at + size]] for at in range(0, len(data), size))
        await asyncio.Event().wait()

    return behave


@asynccontextmanager
async def viewing(behaviour: Behaviour, path: bool = False, **listener: object) -> AsyncIterator[tuple[Platform, Session]]:
    async with platform(behaviour, **listener) as server, session("127.0.0.1", path=path) as io:
        async with SrtViewer().open(spec(server.url()), io):
            yield server, io


async def failure(behaviour: Behaviour = stay, **listener: object) -> tuple[Phase, str]:
    """How a start, or what came after it, failed."""
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(10), viewing(behaviour, **listener) as (_, io):  # type: ignore[arg-type]
            raise await io.failure()
    return caught.value.phase, caught.value.reason


def sequences(frames: list[FrameRecord]) -> list[int]:
    return [frame.code.sequence for frame in frames if frame.code]


# --- works


async def test_it_shows_every_picture_at_its_time():
    async with viewing(playing(40, sound=True)) as (_, io):
        frames = await io.frames(40)
    assert sequences(frames) == list(range(40))
    assert frames[0].keyframe
    assert io.facts["codec"] == "h264"
    assert io.facts["audio"] == "aac"
    assert io.facts["encryption"] == "none"
    assert (io.facts["srt_lost"], io.facts["srt_dropped"], io.facts["srt_latency_ms"]) == ("0", "0", "120")
    assert not [name for name in io.facts if name.startswith("ts_")]


async def test_its_stages_are_those_of_srt_and_the_latency_is_the_ways_not_the_probes():
    async def later(guest: Guest) -> None:
        await asyncio.sleep(0.2)
        await guest.play(ts(55, first=5))  # the next keyframe is the tenth
        await asyncio.Event().wait()

    async with viewing(later) as (_, io):
        frames = await io.frames(3)
        io.stages.finish(frames[0].decoded)
    spent = io.spent()
    assert list(spent) == [Stage.PROBE, Stage.HANDSHAKE, Stage.FIRST_PACKET, Stage.KEYFRAME]
    assert 190 * MS < spent[Stage.FIRST_PACKET] < 400 * MS
    assert spent[Stage.KEYFRAME] > 5 * 10 * MS + 100 * MS  # the pictures before it, and the latency
    assert sum(spent.values()) == io.stages.total


async def test_the_larger_latency_holds():
    async with platform(playing(), latency=400 * MS) as server, session("127.0.0.1") as io:
        async with SrtViewer().open(spec(server.url("?latency=50")), io):
            assert io.facts["srt_latency_ms"] == "400"


async def test_stream_id_and_passphrase_go_out_and_stay_secret():
    secret = "correct horse"
    async with platform(playing(), passphrase=secret, key_words=4) as server, session("127.0.0.1") as io:
        async with SrtViewer().open(spec(server.url("?streamid=#!::r=live/room"), passphrase=secret), io):
            assert sequences(await io.frames(5)) == list(range(5))
            assert server.guest.listener.streamid == "#!::r=live/room"
    assert io.facts["encryption"] == "AES-256"
    kept = spec(server.url(), passphrase=secret)
    assert secret not in repr((io.facts, io.notes, Target.of(kept), kept))


async def test_through_a_lossy_path_nothing_is_missing_and_all_is_counted():
    async with platform(playing(120), latency=300 * MS) as server, lossy(server.port, 0.05, seed=3) as path:
        async with session("127.0.0.1") as io, SrtViewer().open(spec(f"srt://127.0.0.1:{path.port}"), io):
            frames: list[FrameRecord] = []
            while len(frames) < 110:
                record = await asyncio.wait_for(io.get(), 5)
                assert not isinstance(record, Undecodable), record
                frames += [record] if isinstance(record, FrameRecord) else []
    assert sequences(frames) == list(range(110))
    assert int(io.facts["srt_lost"]) > 0
    assert io.facts["srt_dropped"] == "0"
    assert server.guest.listener.sender is not None
    assert server.guest.listener.sender.count.resent >= int(io.facts["srt_recovered"])


async def test_a_cut_shorter_than_the_silence_it_bears_is_lived_through():
    async with viewing(playing(200), path=True) as (server, io):
        assert io.path is not None
        await io.frames(10)
        io.path.cut()
        await asyncio.sleep(0.6)
        restored = io.path.restore()
        frames = await io.frames(60)
        assert len(server.guests) == 1
    after = [frame for frame in frames if frame.arrived > restored]
    assert after and after[0].decoded - restored < 2 * NS
    assert sequences(frames) == sorted(sequences(frames))


async def test_the_next_address_is_tried_where_the_first_has_nobody(monkeypatch: pytest.MonkeyPatch):
    async with platform(playing()) as server, session("127.0.0.1", "::1") as io:

        async def two(*_: object, **__: object) -> list[tuple[str, int]]:
            return [("127.0.0.1", free_port(socket.SOCK_DGRAM)), ("127.0.0.1", server.port)]

        monkeypatch.setattr(io.http, "resolve", two)
        async with SrtViewer().open(spec(server.url()), io):
            await io.frames(3)


# --- refused, hung, malformed


async def test_a_closed_port_is_refused_at_once():
    began = time.monotonic()
    with pytest.raises(Failure) as raised:
        async with session("127.0.0.1") as io, SrtViewer().open(spec(f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"), io):
            pass
    assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "refused")
    assert time.monotonic() - began < 1
    assert io.stage() is Stage.HANDSHAKE


async def test_an_address_that_was_not_allowed_is_not_spoken_to():
    async with platform() as server:
        with pytest.raises(Failure) as raised:
            async with session("example.org") as io, SrtViewer().open(spec(server.url()), io):
                pass
        assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "address_refused")
        assert server.heard == 0


async def test_a_name_that_does_not_exist_is_of_resolve():
    with pytest.raises(Failure) as raised:
        async with session("127.0.0.1") as io, SrtViewer().open(spec("srt://nowhere.invalid:9000"), io):
            pass
    assert raised.value.phase is Phase.RESOLVE


@pytest.mark.parametrize("at", ["induction", "conclusion"])
async def test_a_server_that_hangs_is_a_timeout_of_the_handshake(at: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caller, "CONNECT", 600 * MS)
    async with platform(silent_at=at) as server:
        with pytest.raises(Failure) as raised:
            async with session("127.0.0.1") as io, SrtViewer().open(spec(server.url()), io):
                pass
        assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "timeout")
        assert server.heard >= 2  # it was asked again


async def test_a_wrong_passphrase_is_of_auth():
    assert await failure(passphrase="correct horse") == (Phase.AUTH, "refused")


async def test_a_refusal_is_of_the_handshake_or_of_auth():
    assert await failure(reject=1404) == (Phase.HANDSHAKE, "refused")
    assert await failure(reject=2403) == (Phase.AUTH, "refused")


async def test_garbage_for_an_answer_is_malformed():
    async with platform() as server:
        server.answer = lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        with pytest.raises(Failure) as raised:
            async with session("127.0.0.1") as io, SrtViewer().open(spec(server.url()), io):
                pass
    assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "malformed")


@pytest.mark.parametrize(
    ("url", "outcome"),
    [(url, Failure) for url in ("srt://host", "http://host:1", "srt://:9", "srt://h:9?latency=x", "srt://h:99999")]
    + [("srt://h:9?mode=listener", Unsupported)],
)
async def test_what_is_no_address_of_a_listener_is_told(url: str, outcome: type[Exception]):
    async with session("127.0.0.1") as io:
        with pytest.raises(outcome):
            async with SrtViewer().open(spec(url), io):
                pass


# --- what comes then


async def test_nothing_at_all_leaves_first_packet_open():
    async with platform() as server, session("127.0.0.1") as io:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), SrtViewer().open(spec(server.url()), io):
                pass
        assert io.stage() is Stage.FIRST_PACKET
        await wait_until(lambda: server.guest.listener.ended, what="its goodbye")


async def test_silence_for_long_ends_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caller, "_IDLE", 500 * MS)
    assert await failure() == (Phase.FIRST_PACKET, "silence")


async def test_a_goodbye_is_told_by_when_it_was_said():
    async def at_once(guest: Guest) -> None:
        guest.say(Kind.SHUTDOWN)

    async def before_a_keyframe(guest: Guest) -> None:
        await guest.play(ts(4, first=1))
        await asyncio.sleep(0.3)
        guest.say(Kind.SHUTDOWN)

    async def in_the_middle(guest: Guest) -> None:
        await guest.play(ts(20))
        await asyncio.sleep(0.3)
        guest.say(Kind.SHUTDOWN)

    assert await failure(at_once) == (Phase.FIRST_PACKET, "closed")
    assert await failure(before_a_keyframe) == (Phase.KEYFRAME, "closed")
    assert await failure(in_the_middle) == (Phase.PLAYING, "ended")


async def test_a_server_that_dies_is_noticed_by_its_closed_port():
    async def die(guest: Guest) -> None:
        await guest.play(ts(20))
        await asyncio.sleep(0.2)
        guest.platform.vanish()

    began = time.monotonic()
    assert await failure(die) == (Phase.PLAYING, "reset")
    assert time.monotonic() - began < 4


async def test_what_is_no_transport_stream_is_malformed():
    assert await failure(sending(b"no stream " * 12_000)) == (Phase.KEYFRAME, "malformed")


async def test_another_codec_is_unsupported():
    with pytest.raises(Unsupported, match="hevc"):
        async with asyncio.timeout(10), viewing(sending(made("libx265"))):
            pass


async def test_a_stream_without_pictures_has_no_video():
    assert await failure(sending(made("", seconds=8), 376)) == (Phase.KEYFRAME, "no_video")


@pytest.mark.parametrize("jump", [5 * 3600, -3 * 3600])
async def test_time_stamps_that_jump_by_hours_stop_nothing(jump: int):
    async with viewing(playing(40, jump=jump)) as (_, io):
        frames = await io.frames(40)
    assert sequences(frames) == list(range(40))
    assert frames[12].media_time is not None and frames[8].media_time is not None
    assert abs(frames[12].media_time - frames[8].media_time - jump) < 1


async def test_srts_own_clock_jumping_by_half_an_hour_stops_nothing():
    async def jump(guest: Guest) -> None:
        await guest.play(ts(15))
        assert guest.listener.sender is not None
        guest.listener.sender._began -= 1800 * NS
        await guest.play(ts(45, first=15))
        await asyncio.Event().wait()

    async with viewing(jump) as (_, io):
        frames = await io.frames(50)
    assert sequences(frames) == list(range(50))
    assert all(other.decoded - one.decoded < 2 * NS for one, other in pairwise(frames))


async def test_a_flood_is_bounded_and_ends_when_we_leave():
    async def flood(guest: Guest) -> None:
        while True:
            for _ in range(400):
                guest.listener.send(b"\x47\x1f\xff\x10" + bytes(184), guest.platform.clock.now())
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.8), viewing(flood):
            pass


@pytest.mark.parametrize("where", ["induction", "conclusion", "first_packet", "playing"])
async def test_cancelled_nothing_is_left(where: str):
    async with platform(playing() if where == "playing" else stay, silent_at=where) as server, session("127.0.0.1") as io:

        async def stays() -> None:
            async with SrtViewer().open(spec(server.url()), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stays())
        stage = {"first_packet": Stage.FIRST_PACKET, "playing": Stage.PROBE}.get(where, Stage.HANDSHAKE)
        await wait_until(lambda: (server.heard and io.stage() is stage) or task.done(), what=f"stage {stage}")
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5
