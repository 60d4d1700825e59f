"""RTMP and FLV with servers and encoders that know nothing of us: nginx-rtmp, node-media-server, FFmpeg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from probe.drivers.base import SessionDriver, Spec
from probe.drivers.http_flv import HttpFlvViewer
from probe.drivers.rtmp_publisher import RtmpPublisher
from probe.drivers.rtmp_viewer import RtmpViewer
from probe.drivers.ws_flv import WsFlvViewer
from probe.errors import Failure
from probe.model.clock import MS, NS
from probe.model.frames import Chirp, FrameRecord
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from tests.drivers.rtc_session import RUN, Session, publisher, session
from tests.peers import nginx, node_media_server
from tests.tools import free_port, requires, spawn, wait_until

FLV_DRIVERS: dict[str, SessionDriver] = {"rtmp": RtmpViewer(), "http-flv": HttpFlvViewer(), "ws-flv": WsFlvViewer()}
ENOUGH = 45


@asynccontextmanager
async def on_air(url: str) -> AsyncIterator[Session]:
    """Our publisher, acknowledged, its start finished."""
    async with session("127.0.0.1") as io, RtmpPublisher().open(publisher(url), io):
        record = await io.acknowledged()
        assert record.last_ack is not None
        io.stages.finish(record.last_ack)
        yield io


@asynccontextmanager
async def viewing(protocol: str, url: str) -> AsyncIterator[Session]:
    spec = Spec(role=Role.VIEWER, protocol=protocol, url=url)
    async with asyncio.timeout(20), session("127.0.0.1") as io, FLV_DRIVERS[protocol].open(spec, io):
        yield io


async def seen_and_heard(io: Session) -> tuple[list[FrameRecord], list[Chirp]]:
    """A second and a half of pictures, and two marks of sound."""
    frames: list[FrameRecord] = []
    chirps: list[Chirp] = []
    async with asyncio.timeout(15):
        while len(frames) < ENOUGH or len(chirps) < 2:
            record = await io.get()
            frames += [record] if isinstance(record, FrameRecord) else []
            chirps += [record] if isinstance(record, Chirp) else []
    io.stages.finish(frames[0].decoded)
    return frames, chirps


def is_ours(frames: list[FrameRecord], chirps: list[Chirp], io: Session) -> None:
    """Every picture, in order, with sound in step, and fresh by the end."""
    codes = [frame.code for frame in frames if frame.code]
    assert len(codes) == len(frames) and {code.run for code in codes} == {RUN}
    assert all(b.sequence - a.sequence == 1 for a, b in pairwise(codes)), [code.sequence for code in codes]
    now = io.clock.wall(frames[-1].decoded).unix_ns
    assert now // MS - codes[-1].stamp_ms < 1500, "the last picture is old"
    first = codes[0].stamp_ms / 1000 - (frames[0].media_time or 0)  # wall time of the stream's 0
    assert all(abs(((chirp.media_time or 0) + first) % 1 - 0.5) > 0.4 for chirp in chirps), "sound is not on its second"


async def test_nginx_takes_our_stream_and_gives_it_back() -> None:
    async with nginx.running() as server, on_air(server.rtmp_url()) as ours:
        assert ours.facts["acknowledged_by"] == "rtmp"
        async with viewing("rtmp", server.rtmp_url()) as io:
            frames, chirps = await seen_and_heard(io)
    is_ours(frames, chirps, io)
    spent = io.spent()
    assert list(spent)[1:5] == [Stage.CONNECT, Stage.HANDSHAKE, Stage.SIGNAL, Stage.JOIN]
    assert spent[Stage.PROBE] < NS // 2, "nothing is analysed"


async def test_nginx_refuses_a_second_publisher_of_the_same_name() -> None:
    async with nginx.running() as server, on_air(server.rtmp_url()), session("127.0.0.1") as io:
        with pytest.raises(Failure) as caught:
            async with RtmpPublisher().open(publisher(server.rtmp_url()), io):
                raise await io.failure()
    assert (caught.value.phase, caught.value.reason) == (Phase.JOIN, "refused")
    assert "NetStream.Publish.BadName" in str(caught.value)


async def test_nginx_says_when_the_publisher_is_gone() -> None:
    async with nginx.running() as server, AsyncExitStack() as stack:
        async with on_air(server.rtmp_url()):
            io = await stack.enter_async_context(viewing("rtmp", server.rtmp_url()))
        failure = await io.failure()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")


async def test_node_media_server_takes_our_stream_and_gives_it_back_three_ways() -> None:
    async with node_media_server.running() as server, on_air(server.rtmp_url()) as ours:
        assert ours.facts["acknowledged_by"] == "tcp", "it sends no acknowledgements"
        urls = {"rtmp": server.rtmp_url(), "http-flv": server.http_flv_url(), "ws-flv": server.ws_flv_url()}

        async def watch(protocol: str) -> tuple[list[FrameRecord], list[Chirp], Session]:
            async with viewing(protocol, urls[protocol]) as io:
                return (*await seen_and_heard(io), io)

        async with asyncio.TaskGroup() as group:
            tasks = {protocol: group.create_task(watch(protocol)) for protocol in urls}
    for task in tasks.values():
        frames, chirps, io = task.result()
        is_ours(frames, chirps, io)
        assert frames[0].keyframe and io.stages.total < NS, "it keeps a GOP for those who join"


async def test_ffmpeg_takes_our_stream_for_one(tmp_path: Path) -> None:
    ffmpeg, url = requires("ffmpeg"), f"rtmp://127.0.0.1:{free_port()}/live/room"
    command = [ffmpeg, "-hide_banner", "-loglevel", "info", "-listen", "1", "-f", "flv", "-i", url]
    with spawn([*command, "-frames:v", "40", "-f", "null", "-"], tmp_path / "log") as child:
        await wait_until(lambda: _listens(child.pid), 10, "FFmpeg's listening")
        async with on_air(url) as io:
            assert io.facts["acknowledged_by"] == "rtmp"
            assert await child.exit() == 0
    said = child.text()
    assert "Video: h264 (Constrained Baseline)" in said and "Audio: aac (LC), 48000 Hz, mono" in said
    assert "frame=   40" in said and "error" not in said.lower() and "invalid" not in said.lower()


def _listens(pid: int) -> bool:
    return any(c.status == psutil.CONN_LISTEN for c in psutil.Process(pid).net_connections("tcp"))


async def test_an_encoder_with_b_frames_and_stereo_is_shown_whole(tmp_path: Path) -> None:
    ffmpeg, clip = requires("ffmpeg"), tmp_path / "clip.flv"
    picture = ["-f", "lavfi", "-i", "testsrc=s=320x180:r=30", "-f", "lavfi", "-i", "sine=r=44100", "-t", "3"]
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "15", "-bf", "2", "-c:a", "aac", "-ac", "2"]
    with spawn([ffmpeg, "-y", "-loglevel", "error", *picture, *coded, clip], tmp_path / "make.log") as child:
        assert await child.exit(20) == 0
    async with nginx.running() as server:
        with server.feed(clip):  # a viewer who is early waits
            async with viewing("rtmp", server.rtmp_url()) as io:
                frames = await io.frames(ENOUGH)
    assert {(f.width, f.height) for f in frames} == {(320, 180)}
    assert all(0.02 < (b.media_time or 0) - (a.media_time or 0) < 0.05 for a, b in pairwise(frames))
    assert io.facts["audio"] == "aac"
