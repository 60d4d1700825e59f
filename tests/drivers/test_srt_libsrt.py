"""SRT against libsrt: what one of ours publishes another sees through a real server, whole, whatever the path loses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

import av
import pytest

from probe.drivers.base import Spec
from probe.drivers.srt_publisher import SrtPublisher
from probe.drivers.srt_viewer import SrtViewer
from probe.errors import Failure
from probe.model.clock import MS
from probe.model.frames import FrameRecord, Undecodable
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from tests.drivers.rtc_session import RUN, TRACE, Session, session
from tests.drivers.srt_platform import lossy
from tests.peers import srt
from tests.tools import free_port, requires, wait_until


def publisher(port: int, **more: object) -> Spec:
    return Spec(
        role=Role.PUBLISHER, protocol="srt", url=f"srt://127.0.0.1:{port}", run_number=RUN, trace_low=TRACE, publish=3,
        programme="360p30", bitrate=600_000, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def viewer(port: int, **more: object) -> Spec:
    return Spec(role=Role.VIEWER, protocol="srt", url=f"srt://127.0.0.1:{port}", **more)  # type: ignore[arg-type]


async def pictures(io: Session, count: int) -> list[FrameRecord]:
    """The next so many, every one decoded without complaint."""
    found: list[FrameRecord] = []
    async with asyncio.timeout(12):
        while len(found) < count:
            record = await io.get()
            assert not isinstance(record, Undecodable), record
            found += [record] if isinstance(record, FrameRecord) else []
    return found


def sequences(frames: list[FrameRecord]) -> list[int]:
    return [frame.code.sequence for frame in frames if frame.code]


async def test_both_ways_through_libsrt_encrypted_over_paths_that_lose_3_in_100(tmp_path: Path):
    ours, theirs = "ingest-secret", "egress-secret"
    async with srt.relaying(tmp_path, ingest_secret=ours, egress_secret=theirs, key_bytes=32, latency=400) as server:
        async with lossy(server.ingest, 0.0, seed=5) as up, lossy(server.egress, 0.0, seed=6) as down:
            async with session("127.0.0.1") as p, session("127.0.0.1") as v:
                async with SrtPublisher().open(publisher(up.port, passphrase=ours), p):
                    await p.acknowledged()
                    async with SrtViewer().open(viewer(down.port, passphrase=theirs), v):
                        up.loss = down.loss = 0.03
                        frames = await pictures(v, 75)
                    up.loss = 0.0
    numbers = sequences(frames)
    assert numbers == list(range(numbers[0], numbers[0] + 75))
    assert p.facts["encryption"] == v.facts["encryption"] == "AES-256"
    assert int(p.facts["srt_retransmitted"]) > 0
    assert int(v.facts["srt_recovered"]) == int(v.facts["srt_lost"]) > 0
    assert v.facts["srt_dropped"] == p.facts["srt_dropped"] == "0"
    assert float(v.facts["srt_rtt_ms"]) < 50


async def test_pictures_come_at_the_sum_of_both_latencies(tmp_path: Path):
    async with srt.relaying(tmp_path) as server, session("127.0.0.1") as p, session("127.0.0.1") as v:
        async with SrtPublisher().open(publisher(server.ingest), p):
            await p.acknowledged()
            async with SrtViewer().open(viewer(server.egress, latency=200 * MS), v):
                frames = await pictures(v, 40)
    late = sorted(v.clock.wall(f.decoded).unix_ns // MS - f.code.stamp_ms for f in frames if f.code)
    assert 310 <= late[len(late) // 2] < 500
    assert p.spent().keys() == {Stage.PROBE, Stage.HANDSHAKE}  # ack is open until somebody closes it


@pytest.mark.parametrize("ours", ["not-the-secret", ""])
async def test_libsrt_refuses_another_secret(tmp_path: Path, ours: str):
    async with srt.relaying(tmp_path, ingest_secret="the-right-one", egress_secret="the-right-one") as server:
        for driver, spec in (
            (SrtPublisher(), publisher(server.ingest, passphrase=ours)),
            (SrtViewer(), viewer(server.egress, passphrase=ours)),
        ):
            async with session("127.0.0.1") as io:
                with pytest.raises(Failure) as raised:
                    async with driver.open(spec, io):
                        pass
            assert (raised.value.phase, raised.value.reason) == (Phase.AUTH, "refused")


async def test_libsrt_that_is_stopped_says_goodbye(tmp_path: Path):
    async with srt.relaying(tmp_path) as server, session("127.0.0.1") as p:
        async with SrtPublisher().open(publisher(server.ingest), p):
            await p.acknowledged()
            server.child.stop()
            failure = await p.failure()
    assert failure.phase is Phase.PLAYING
    assert failure.reason in ("ended", "reset")


async def test_what_ffmpeg_sends_is_seen(tmp_path: Path):
    clip = tmp_path / "clip.ts"
    source = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "4"]
    subprocess.run([requires("ffmpeg"), "-v", "error", *source, *codec, "-y", clip], check=True, timeout=30)
    port = free_port(socket.SOCK_DGRAM)
    with srt.ffmpeg_sending(clip, port, tmp_path) as child:
        async with session("127.0.0.1") as io:

            async def listening() -> bool:
                """ffmpeg says nothing when it listens; its port is closed before."""
                assert child.running(), child.text()
                return any(f":{port:04X} " in line for line in Path("/proc/net/udp").read_text().splitlines())

            await wait_until(listening, 10, "ffmpeg's port")
            async with SrtViewer().open(viewer(port), io):
                frames = await pictures(io, 40)
    assert {(frame.width, frame.height) for frame in frames} == {(320, 180)}
    assert io.facts["audio"] == "aac"


TAKEN = 60_000  # bytes: more than 15 pictures; ffmpeg writes 32 KiB at a time


async def test_what_we_send_ffmpeg_takes(tmp_path: Path):
    port, target = free_port(socket.SOCK_DGRAM), tmp_path / "taken.ts"
    with srt.ffmpeg_taking(port, target, tmp_path) as child:
        await wait_until(lambda: f":{port:04X} " in Path("/proc/net/udp").read_text(), 10, "ffmpeg's port")
        async with session("127.0.0.1") as io, SrtPublisher().open(publisher(port), io):
            await io.acknowledged()
            await child.says("Press [q]")
            await wait_until(lambda: target.exists() and target.stat().st_size > TAKEN, 10, "media to be judged")
        await child.exit()
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 15
    assert {(frame.width, frame.height) for frame in frames} == {(640, 360)}
