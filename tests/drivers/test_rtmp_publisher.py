"""Publishing over RTMP: who acknowledges, who refuses, who reads too slowly."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from probe.drivers import rtmp_publisher
from probe.drivers.rtmp_publisher import RtmpPublisher
from probe.errors import Failure, Unsupported
from probe.model.clock import MS
from probe.model.frames import PublishRecord
from probe.model.stage import Phase, Stage
from probe.wire.flv_tags import AUDIO, SCRIPT, VIDEO, TagReader
from probe.wire.packet import EncodedPacket
from tests.drivers.rtc_session import Session, publisher, session
from tests.drivers.rtmp_platform import Behaviour, Guest, Platform, guests, hang
from tests.net.servers import Authority
from tests.tools import wait_until


async def take(guest: Guest) -> None:
    await guest.accept("connect", "publish")
    await guest.listen()


async def take_and_acknowledge_nothing(guest: Guest) -> None:
    guest.session._acknowledge = lambda: None  # type: ignore[method-assign]
    await take(guest)


@asynccontextmanager
async def publishing(behaviour: Behaviour, path: bool = False, **more: Any) -> AsyncIterator[tuple[Platform, Session]]:
    async with guests(behaviour) as platform, session("127.0.0.1", path=path) as io:
        async with RtmpPublisher().open(publisher(platform.url("live"), key="room?sign=s3cret", **more), io):
            yield platform, io


def packets(guest: Guest) -> list[EncodedPacket]:
    reader = TagReader()
    return [packet for tag in guest.tags if (packet := reader.read(tag))]


# --- works


async def test_it_publishes_until_the_server_has_acknowledged_the_first_picture() -> None:
    async with publishing(take) as (platform, io):
        assert io.stage() is Stage.PROBE, "the programme has released nothing yet"
        record = await io.acknowledged()
        assert io.stage() is Stage.ACK
        assert record.frames > 0 and record.bytes > 0 and record.last_ack is not None
        io.stages.finish(record.last_ack)
        await wait_until(lambda: len(packets(platform.guests[0])) > 40)
    (guest,) = platform.guests
    assert guest.left, "it said no goodbye"
    assert [(a.what, a.app, a.name) for a in guest.asked] == [("connect", "live", ""), ("publish", "live", "room?sign=s3cret")]
    assert list(io.spent()) == [Stage.PROBE, Stage.CONNECT, Stage.HANDSHAKE, Stage.SIGNAL, Stage.JOIN, Stage.ACK]
    assert io.facts == {"server": "FMS/3,0,1,123", "codec": "h264", "audio": "aac", "acknowledged_by": "rtmp"}
    assert io.notes == [] and "s3cret" not in repr(io.facts)


async def test_what_it_sends_begins_with_metadata_and_a_keyframe() -> None:
    async with publishing(take) as (platform, io):
        await io.acknowledged()
        guest = platform.guests[0]
        await wait_until(lambda: sum(p.kind == "audio" for p in packets(guest)) > 20)
    kinds = [tag.kind for tag in guest.tags]
    assert kinds[:3] == [SCRIPT, VIDEO, VIDEO] and AUDIO in kinds
    reader = TagReader()
    reader.read(guest.tags[0])
    assert reader.metadata["width"] == 640.0 and reader.metadata["audiocodecid"] == 10.0
    video, audio = ([p for p in packets(guest) if p.kind == kind] for kind in ("video", "audio"))
    assert video[0].keyframe and b"\0\0\0\1\x67" in video[0].data
    assert (audio[0].codec, audio[0].rate, audio[0].channels) == ("aac", 48_000, 1)
    for one in (video, audio):
        times = [p.pts for p in one if p.pts is not None]
        assert times == sorted(times) and len(set(times)) == len(times)


async def test_without_sound_none_is_sent_or_announced() -> None:
    async with publishing(take, audio=False) as (platform, io):
        await io.acknowledged()
    assert all(tag.kind != AUDIO for tag in platform.guests[0].tags)
    assert io.facts["audio"] == "no"


async def test_acknowledgements_go_on() -> None:
    async with publishing(take) as (_, io):
        first = await io.acknowledged()
        async with asyncio.timeout(5):
            while (later := await io.acknowledged()).last_ack == first.last_ack:
                pass
    assert later.last_ack is not None and first.last_ack is not None and later.last_ack > first.last_ack


async def test_a_silent_server_is_taken_at_its_tcps_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_publisher, "SILENT", 0.3)
    async with publishing(take_and_acknowledge_nothing) as (_, io):
        first = await io.acknowledged()
        io.stages.finish(first.last_ack or 0)
        assert io.facts["acknowledged_by"] == "tcp"
        assert io.spent()[Stage.ACK] < 300 * MS, "what was waited for RTMP's own word is not the server's time"
        while (await io.acknowledged()).last_ack == first.last_ack:
            pass


async def test_a_server_that_takes_nothing_in_is_acknowledged_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_publisher, "SILENT", 0.1)

    async def stop(guest: Guest) -> None:
        await guest.accept("connect", "publish")
        guest.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with publishing(stop, path=True) as (_, io):  # the path's TCP is not the server's, and says nothing
        async with asyncio.timeout(5):
            for _ in range(2):
                record = await io.get()
                assert isinstance(record, PublishRecord) and not record.acknowledged
        assert "acknowledged_by" not in io.facts


async def test_a_path_of_ours_carries_it() -> None:
    async with publishing(take, path=True) as (_, io):
        await io.acknowledged()
        assert io.path is not None and io.path.connections == 1 and io.facts["acknowledged_by"] == "rtmp"


async def test_over_tls_it_is_the_same(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with guests(take, tls=authority.server("localhost")) as platform, session("127.0.0.1", "localhost") as io:
        io.http.tls = authority.client()
        async with RtmpPublisher().open(publisher(platform.url("live/room", host="localhost")), io):
            await io.acknowledged()
    assert Stage.TLS in io.spent() and platform.guests[0].session.name == "room"


# --- a server that reads too slowly


async def test_a_server_that_stops_reading_costs_pictures_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_publisher, "_LEAST_BACKLOG", 64 << 10)
    monkeypatch.setattr(rtmp_publisher, "_UNSENT_IN_KERNEL", 16 << 10)
    again = asyncio.Event()

    async def slow(guest: Guest) -> None:
        sock = guest.writer.get_extra_info("socket")
        sock.setsockopt(1, 8, 16 << 10)  # SO_RCVBUF
        await guest.accept("connect", "publish")
        guest.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await again.wait()
        guest.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await guest.listen()

    def gaps() -> list[bool]:
        """Whether it went on with a keyframe, for each gap in what came."""
        whole = packets(platform.guests[0])
        return [b.keyframe for a, b in pairwise(whole) if (b.pts or 0) - (a.pts or 0) > 0.05]

    async with publishing(slow, bitrate=400_000, audio=False) as (platform, io):
        last = PublishRecord(at=0, frames=0, bytes=-1, keyframe_requests=0, acknowledged=False, late_ns=0)
        async with asyncio.timeout(30):
            while True:
                record = await io.get()
                assert isinstance(record, PublishRecord)
                if record.bytes != last.bytes:
                    last = record
                elif io.notes and record.at - last.at > 800 * MS:  # and nothing more was taken in
                    break
        assert len(io.notes) == 1 and "pictures are dropped" in io.notes[0]
        again.set()
        await wait_until(gaps, 20, "pictures after those that were dropped")
    assert all(gaps()), "after what was dropped it goes on with a keyframe"
    assert int(io.facts["dropped_pictures"]) > 0


# --- refused


@pytest.mark.parametrize(
    ("what", "code", "phase", "reason"),
    [
        ("connect", "NetConnection.Connect.Rejected", Phase.SIGNAL, "refused"),
        ("publish", "NetStream.Publish.BadName", Phase.JOIN, "refused"),
        ("publish", "NetStream.Publish.Unauthorized", Phase.AUTH, "refused"),
    ],
)
async def test_a_refusal_has_its_reason(what: str, code: str, phase: Phase, reason: str) -> None:
    async def refuse(guest: Guest) -> None:
        if what == "publish":
            await guest.accept("connect")
        await guest.refuse(what, code, "room?sign=s3cret is not for you")

    with pytest.raises(Failure) as caught:
        async with publishing(refuse):
            pass
    assert (caught.value.phase, caught.value.reason) == (phase, reason)
    assert "s3cret" not in str(caught.value)


async def test_a_codec_that_rtmp_has_no_place_for_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="vp8"):
        async with publishing(take, codec="vp8"):
            pass


# --- ends


async def test_a_server_that_goes_ends_it() -> None:
    async def go(guest: Guest) -> None:
        await guest.accept("connect", "publish")
        while len(guest.tags) < 20:
            await guest.events()
            guest.flush()

    async with publishing(go) as (_, io):
        failure = await io.failure()
    assert (failure.phase, failure.reason) in {(Phase.PLAYING, "ended"), (Phase.PLAYING, "reset")}


async def test_a_server_that_goes_before_a_word_was_not_acknowledging() -> None:
    async def go(guest: Guest) -> None:
        guest.session._acknowledge = lambda: None  # type: ignore[method-assign]
        await guest.accept("connect", "publish")
        while len(guest.tags) < 5:
            await guest.events()
            guest.flush()

    async with publishing(go) as (_, io):
        failure = await io.failure()
    assert failure.phase is Phase.ACK and failure.reason in ("closed", "reset")


async def test_garbage_while_publishing_is_malformed() -> None:
    async def junk(guest: Guest) -> None:
        await guest.accept("connect", "publish")
        guest.writer.write(b"\xff" * 100)
        await hang(guest)

    async with publishing(junk) as (_, io):
        failure = await io.failure()
    assert (failure.phase, failure.reason) == (Phase.ACK, "malformed")


async def test_an_endless_message_while_publishing_is_refused() -> None:
    async def endless(guest: Guest) -> None:
        await guest.accept("connect", "publish")
        guest.writer.write(b"\x06" + bytes(3) + b"\xff\xff\xff" + b"\x09" + struct.pack("<I", 1) + bytes(4096))
        await hang(guest)

    async with publishing(endless) as (_, io):
        failure = await io.failure()
    assert (failure.phase, failure.reason) == (Phase.ACK, "malformed")


# --- hangs


async def hang_at_connect(guest: Guest) -> None:
    await guest.until("connect")
    await hang(guest)


async def hang_at_publish(guest: Guest) -> None:
    await guest.accept("connect")
    await guest.until("publish")
    await hang(guest)


HANGS: dict[Stage, Behaviour] = {
    Stage.HANDSHAKE: hang,
    Stage.SIGNAL: hang_at_connect,
    Stage.JOIN: hang_at_publish,
    Stage.ACK: take_and_acknowledge_nothing,
}


@pytest.mark.parametrize("stage", HANGS)
async def test_cancelled_while_a_server_hangs_nothing_is_left(stage: Stage) -> None:
    async with guests(HANGS[stage]) as platform, session("127.0.0.1") as io:

        async def stay() -> None:
            async with RtmpPublisher().open(publisher(platform.url()), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stay())
        await wait_until(lambda: (io.stage() is stage and platform.guests) or task.done(), what=f"stage {stage}")
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5
