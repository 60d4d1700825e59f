"""Viewing over HTTP-TS: one GET that never ends, and the ways it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from probe.drivers.base import Spec
from probe.drivers.http_ts import HttpTsViewer
from probe.drivers.table import table
from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.frames import FrameRecord
from probe.model.observation import Role
from probe.model.stage import Phase, Stage
from probe.net.client import Credential
from tests.drivers.rtc_session import Session, session
from tests.drivers.srt_platform import ts
from tests.tools import free_port, requires, spawn, wait_until
from tests.wire.ts_made import made

Body = Callable[[web.StreamResponse], Awaitable[None]]


@asynccontextmanager
async def origin(body: Body, status: int = 200) -> AsyncIterator[tuple[str, list[web.Request]]]:
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        response = web.StreamResponse(status=status, headers={"Content-Type": "video/mp2t", "Server": "planted"})
        await response.prepare(request)
        await body(response)
        return response

    app = web.Application()
    app.router.add_get("/live.ts", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/live.ts", asked
    finally:
        await runner.cleanup()


def playing(count: int = 60, first: int = 0, then: float = 3600, **how: object) -> Body:
    async def body(response: web.StreamResponse) -> None:
        for datagrams in ts(count, first=first, **how):  # type: ignore[arg-type]
            await response.write(b"".join(datagrams))
            await asyncio.sleep(0.01)
        await asyncio.sleep(then)

    return body


def sending(data: bytes, then: float = 3600) -> Body:
    async def body(response: web.StreamResponse) -> None:
        for at in range(0, len(data), 2000):
            await response.write(data[at : at + 2000])
            await asyncio.sleep(0.005)
        await asyncio.sleep(then)

    return body


def spec(url: str, credential: Credential | None = None) -> Spec:
    return Spec(role=Role.VIEWER, protocol="http-ts", url=url, credential=credential)


@asynccontextmanager
async def viewing(body: Body, status: int = 200, path: bool = False) -> AsyncIterator[Session]:
    async with origin(body, status) as (url, _), session("127.0.0.1", path=path) as io:
        async with HttpTsViewer().open(spec(url), io):
            yield io


async def failure(body: Body, status: int = 200) -> tuple[Phase, str]:
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(10), viewing(body, status) as io:
            raise await io.failure()
    return caught.value.phase, caught.value.reason


def sequences(frames: list[FrameRecord]) -> list[int]:
    return [frame.code.sequence for frame in frames if frame.code]


async def test_it_shows_every_picture_as_it_comes():
    async with viewing(playing(40, sound=True)) as io:
        frames = await io.frames(40)
        io.stages.finish(frames[0].decoded)
    assert sequences(frames) == list(range(40))
    assert list(io.spent()) == [Stage.PROBE, Stage.CONNECT, Stage.JOIN, Stage.FIRST_PACKET, Stage.KEYFRAME]
    assert io.facts == {"server": "planted", "codec": "h264", "audio": "aac"}
    (request,) = io.requests
    assert (request.purpose, request.status) == ("http-ts", 200)


async def test_what_the_answers_headers_say_is_known_while_its_body_still_comes():
    async with viewing(playing(20)) as io:
        await io.frames(5)
        (began,) = io.answers
        assert (began.purpose, began.status) == ("http-ts", 200)
        assert 0 < began.took < 10 * NS
        assert not io.requests
    (request,) = io.requests
    assert request.request_id == began.request_id
    assert began.took < request.took


def test_it_is_sliced_as_http_flv_is():
    rows = table().sessions
    assert rows[Role.VIEWER, "http-ts"].stages == rows[Role.VIEWER, "http-flv"].stages


async def test_a_first_viewer_is_looked_for_as_for_http_flv():
    async with origin(playing(20)) as (url, _), session("127.0.0.1") as io:
        assert await HttpTsViewer().scout(spec(url), io)
    async with origin(sending(b"", 3600)) as (url, _), session("127.0.0.1") as io:
        assert not await HttpTsViewer().scout(spec(url), io)  # let in, and nothing comes


async def test_what_ffmpeg_serves_is_seen(tmp_path: Path):
    ffmpeg, port = requires("ffmpeg"), free_port()
    source = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    url = f"http://127.0.0.1:{port}/live.ts"
    with spawn([ffmpeg, *source, *codec, "-f", "mpegts", "-listen", "1", url], tmp_path / "ffmpeg.log"):
        await wait_until(lambda: f":{port:04X} " in Path("/proc/net/tcp").read_text(), 10, "ffmpeg's port")
        async with session("127.0.0.1") as io, HttpTsViewer().open(spec(url), io):
            frames = await io.frames(40)
    assert {(frame.width, frame.height) for frame in frames} == {(320, 180)}
    assert (io.facts["codec"], io.facts["audio"]) == ("h264", "aac")
    assert "ts_cut_short" not in io.facts


async def test_the_wait_for_a_keyframe_is_a_stage():
    async with viewing(playing(30, first=5)) as io:
        frames = await io.frames(2)
        io.stages.finish(frames[0].decoded)
    assert frames[0].keyframe and sequences(frames)[0] == 10
    assert io.spent()[Stage.KEYFRAME] > 4 * 10 * MS


async def test_a_credential_goes_to_its_origin():
    async with origin(playing()) as (url, asked), session("127.0.0.1") as io:
        credential = Credential(token="let me in", origins=frozenset({url.rsplit("/", 1)[0]}))
        async with HttpTsViewer().open(spec(url, credential), io):
            await io.frames(1)
        assert asked[0].headers["Authorization"] == "Bearer let me in"


@pytest.mark.parametrize(
    ("status", "phase", "reason"),
    [(403, Phase.AUTH, "http_403"), (404, Phase.JOIN, "http_404"), (503, Phase.JOIN, "http_503")],
)
async def test_a_status_is_a_reason(status: int, phase: Phase, reason: str):
    assert await failure(sending(b"no", 0), status) == (phase, reason)


async def test_a_closed_port_is_refused():
    async with session("127.0.0.1") as io:
        with pytest.raises(Failure) as raised:
            async with HttpTsViewer().open(spec("http://127.0.0.1:1/live.ts"), io):
                pass
    assert (raised.value.phase, raised.value.reason) == (Phase.CONNECT, "refused")


async def test_a_server_that_hangs_leaves_first_packet_open():
    async with origin(sending(b"")) as (url, _), session("127.0.0.1") as io:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4), HttpTsViewer().open(spec(url), io):
                pass
        assert io.stage() is Stage.FIRST_PACKET


async def test_an_end_is_told_by_when_it_came():
    async def broken(response: web.StreamResponse) -> None:
        await playing(20, then=0)(response)
        request = response._req
        assert request is not None and request.transport is not None
        request.transport.abort()

    assert await failure(sending(b"", 0)) == (Phase.FIRST_PACKET, "closed")
    assert await failure(playing(4, first=1, then=0)) == (Phase.KEYFRAME, "closed")
    assert await failure(playing(20, then=0)) == (Phase.PLAYING, "ended")
    assert (await failure(broken))[0] is Phase.PLAYING


async def test_garbage_is_malformed():
    assert await failure(sending(b"<html>" * 20_000)) == (Phase.FIRST_PACKET, "malformed")


async def test_garbage_without_end_in_the_middle_is_malformed():
    async def body(response: web.StreamResponse) -> None:
        await playing(20, then=0)(response)
        await sending(bytes(100_000))(response)

    assert await failure(body) == (Phase.PLAYING, "malformed")


async def test_another_codec_is_unsupported():
    with pytest.raises(Unsupported, match="hevc"):
        async with asyncio.timeout(10), viewing(sending(made("libx265"))):
            pass


async def test_a_stream_without_pictures_has_no_video():
    async def body(response: web.StreamResponse) -> None:
        data = made("", seconds=8)
        for at in range(0, len(data), 188):
            await response.write(data[at : at + 188])
            await asyncio.sleep(0.005)

    assert await failure(body) == (Phase.KEYFRAME, "no_video")


async def test_time_stamps_that_jump_by_hours_stop_nothing():
    async with viewing(playing(30, jump=7 * 3600)) as io:
        frames = await io.frames(29)
    assert sequences(frames) == list(range(29))


async def test_a_cut_is_waited_out():
    async with viewing(playing(100), path=True) as io:
        assert io.path is not None
        await io.frames(10)
        io.path.cut()
        await asyncio.sleep(0.5)
        restored = io.path.restore()
        frames = await io.frames(60)
    assert sequences(frames) == list(range(10, 70))
    after = [frame for frame in frames if frame.arrived > restored]
    assert after and after[0].decoded - restored < NS


@pytest.mark.parametrize("where", [Stage.FIRST_PACKET, Stage.PROBE])
async def test_cancelled_nothing_is_left(where: Stage):
    body = playing() if where is Stage.PROBE else sending(b"")
    async with origin(body) as (url, asked), session("127.0.0.1") as io:

        async def stays() -> None:
            async with HttpTsViewer().open(spec(url), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stays())
        await wait_until(lambda: (asked and io.stage() is where) or task.done(), what=f"stage {where}")
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5
