"""Publishing over SRT: planted servers that take, refuse, hang, lose and leave."""

from __future__ import annotations

import asyncio
import time

import pytest

from probe.drivers.base import Spec
from probe.drivers.srt_publisher import SrtPublisher
from probe.errors import Failure, Unsupported
from probe.model.clock import MS
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from probe.wire.srt import caller
from probe.wire.srt.packets import Kind
from probe.wire.ts import TsReader
from tests.drivers.rtc_session import RUN, TRACE, Session, session
from tests.drivers.srt_platform import Guest, Platform, lossy, platform
from tests.tools import wait_until


def spec(url: str, **more: object) -> Spec:
    made = {"role": Role.PUBLISHER, "protocol": "srt", "url": url, "run_number": RUN, "trace_low": TRACE, "publish": 3}
    return Spec(**{**made, "programme": "portrait30", "bitrate": 300_000, **more})  # type: ignore[arg-type]


def units(server: Platform, kind: str) -> int:
    """How many units the server has been given so far."""
    reader = TsReader()
    found = [packet for payload in server.guest.listener.got for packet in reader.feed(payload)]
    assert reader.lost == reader.broken == 0
    return sum(packet.kind == kind for packet in found)


async def test_pictures_and_sound_arrive_and_are_acknowledged():
    async with platform() as server, session("127.0.0.1") as io:
        async with SrtPublisher().open(spec(server.url("?streamid=publish:room")), io):
            assert io.stage() is Stage.PROBE
            record = await io.acknowledged()
            io.stages.finish(record.last_ack or 0)
            await wait_until(lambda: units(server, "video") >= 15 and units(server, "audio") >= 20, 8, "half a second of media")
        await wait_until(lambda: server.guest.listener.ended, what="its goodbye")
    assert server.guest.listener.streamid == "publish:room"
    assert list(io.spent()) == [Stage.PROBE, Stage.HANDSHAKE, Stage.ACK]
    assert io.facts["codec"] == "h264" and io.facts["audio"] == "aac"
    assert io.facts["srt_dropped"] == "0"


async def test_without_sound_there_is_none():
    async with platform(passphrase="correct horse") as server, session("127.0.0.1") as io:
        async with SrtPublisher().open(spec(server.url(), audio=False, passphrase="correct horse"), io):
            await wait_until(lambda: server.guests and units(server, "video") >= 5, 8, "pictures")
        assert units(server, "audio") == 0
    assert io.facts["audio"] == "no"
    assert io.facts["encryption"] == "AES-128"


async def test_what_a_lossy_path_loses_is_sent_again():
    async with platform(latency=300 * MS) as server, lossy(server.port, 0.0, seed=8) as path, session("127.0.0.1") as io:
        async with SrtPublisher().open(spec(f"srt://127.0.0.1:{path.port}"), io):
            path.loss = 0.05
            await wait_until(lambda: server.guests and units(server, "video") >= 45, 12, "media")
            path.loss = 0.0
    receiver = server.guest.listener.receiver
    assert receiver is not None
    assert receiver.count.lost > 0 and receiver.count.dropped == 0
    assert int(io.facts["srt_retransmitted"]) >= receiver.count.recovered


async def test_a_server_that_acknowledges_nothing_leaves_ack_open():
    async def deaf(guest: Guest) -> None:
        guest.listener.receiver.ack = lambda now: None  # type: ignore[method-assign, union-attr]
        while True:
            guest.say(Kind.KEEPALIVE)
            await asyncio.sleep(0.2)

    async with platform(deaf) as server, session("127.0.0.1") as io:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8), SrtPublisher().open(spec(server.url()), io):
                await io.acknowledged()
        assert io.stage() is Stage.ACK
    assert int(io.facts["srt_packets"]) > 10


async def ends(io: Session, server: Platform) -> tuple[Phase, str]:
    async with SrtPublisher().open(spec(server.url()), io):
        await io.acknowledged()
        failure = await io.failure()
    return failure.phase, failure.reason


async def test_a_server_that_says_goodbye_ends_it():
    async def leave(guest: Guest) -> None:
        await wait_until(lambda: len(guest.listener.got) > 60, 8, "media, by then acknowledged")
        guest.say(Kind.SHUTDOWN)

    async with platform(leave) as server, session("127.0.0.1") as io:
        assert await ends(io, server) == (Phase.PLAYING, "ended")


async def test_a_server_that_dies_is_noticed_by_its_closed_port():
    async def die(guest: Guest) -> None:
        await wait_until(lambda: len(guest.listener.got) > 60, 8, "media, by then acknowledged")
        guest.platform.vanish()

    async with platform(die) as server, session("127.0.0.1") as io:
        assert await ends(io, server) == (Phase.PLAYING, "reset")


async def test_a_server_that_leaves_before_it_acknowledged_has_closed():
    async def leave(guest: Guest) -> None:
        guest.say(Kind.SHUTDOWN)

    async with platform(leave) as server, session("127.0.0.1") as io:
        async with SrtPublisher().open(spec(server.url()), io):
            failure = await io.failure()
    assert (failure.phase, failure.reason) == (Phase.ACK, "closed")


@pytest.mark.parametrize(("number", "phase"), [(1002, Phase.HANDSHAKE), (2401, Phase.AUTH)])
async def test_a_refusal_is_told(number: int, phase: Phase):
    async with platform(reject=number) as server, session("127.0.0.1") as io:
        with pytest.raises(Failure) as raised:
            async with SrtPublisher().open(spec(server.url()), io):
                pass
    assert (raised.value.phase, raised.value.reason) == (phase, "refused")


async def test_another_codec_is_unsupported():
    async with session("127.0.0.1") as io:
        with pytest.raises(Unsupported, match="vp8"):
            async with SrtPublisher().open(spec("srt://127.0.0.1:9", codec="vp8"), io):
                pass


async def test_a_cut_longer_than_the_latency_loses_its_media_and_no_more(monkeypatch: pytest.MonkeyPatch):
    async with platform() as server, session("127.0.0.1", path=True) as io:
        assert io.path is not None
        async with SrtPublisher().open(spec(server.url()), io):
            await io.acknowledged()
            io.path.cut()
            await asyncio.sleep(1.6)
            io.path.restore()
            before = len(server.guest.listener.got)
            await wait_until(lambda: len(server.guest.listener.got) > before + 60, 8, "media after the cut")
        assert len(server.guests) == 1
    assert int(io.facts["srt_dropped"]) > 0


async def test_a_server_that_is_silent_for_long_has_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caller, "_IDLE", 400 * MS)
    async with platform(latency=120 * MS) as server, session("127.0.0.1", path=True) as io:
        assert io.path is not None
        async with SrtPublisher().open(spec(server.url()), io):
            await io.acknowledged()
            io.path.cut()
            failure = await io.failure()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")


async def test_cancelled_nothing_is_left():
    async with platform() as server, session("127.0.0.1") as io:

        async def stays() -> None:
            async with SrtPublisher().open(spec(server.url()), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stays())
        await wait_until(lambda: io.stage() is Stage.ACK or task.done(), what="the first picture")
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 2
