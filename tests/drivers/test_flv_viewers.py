"""Viewing FLV over HTTP and over a WebSocket: planted servers that play, refuse, hang, break off and lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from probe.drivers import streamed
from probe.drivers.base import Spec
from probe.drivers.http_flv import HttpFlvViewer
from probe.drivers.streamed import StreamViewer
from probe.drivers.ws_flv import WsFlvViewer
from probe.errors import Failure, Unsupported
from probe.model.clock import MS
from probe.model.frames import FrameRecord
from probe.model.observation import UNHEARD, Role
from probe.model.stage import Phase, Stage
from probe.net.client import Credential, origin_of
from probe.plan import Device
from probe.wire.flv import MAX_TAG, flv_header, flv_tag
from probe.wire.flv_tags import AUDIO, VIDEO, Tag
from tests.drivers.rtc_session import Session, session
from tests.drivers.rtmp_platform import HOUR_MS, flv, tags
from tests.net.servers import serving
from tests.tools import wait_until

Send = Callable[[bytes], Awaitable[None]]
Show = Callable[[Send], Awaitable[None]]
DRIVERS: dict[str, StreamViewer] = {"http-flv": HttpFlvViewer(), "ws-flv": WsFlvViewer()}
both = pytest.mark.parametrize("protocol", DRIVERS)


async def forever(send: Send) -> None:
    await asyncio.Event().wait()


def playing(*what: Tag, then: Show = forever, pace: float = 0.01, cut: int = 1000) -> Show:
    """Tags one after another, in pieces of `cut` bytes."""

    async def show(send: Send) -> None:
        await send(flv_header())
        for tag in what:
            data = flv_tag(tag)
            for at in range(0, len(data), cut):
                await send(data[at : at + cut])
            await asyncio.sleep(pace)
        await then(send)

    return show


def saying(data: bytes, then: Show = forever) -> Show:
    async def show(send: Send) -> None:
        await send(data)
        await then(send)

    return show


async def ending(send: Send) -> None:
    """The body, or the socket, is over."""


async def breaking(send: Send) -> None:
    raise ConnectionAbortedError


class Origin:
    """A server with /live.flv for both protocols, and what it was asked."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self.headers: list[dict[str, str]] = []
        self.gone = 0

    async def http(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if request.headers.get("Upgrade"):
            return await self._websocket(request)
        response = web.StreamResponse(headers={"Content-Type": "video/x-flv", "Server": "planted"})
        await response.prepare(request)
        try:
            await self.show(response.write)
        except ConnectionAbortedError:
            assert request.transport is not None
            request.transport.abort()
        finally:
            self.gone += 1
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")  # what some servers say of themselves
        listening = asyncio.ensure_future(socket.receive())
        showing = asyncio.ensure_future(self.show(socket.send_bytes))
        try:
            await asyncio.wait([listening, showing], return_when=asyncio.FIRST_COMPLETED)
            if showing.done() and showing.exception() is not None:
                assert request.transport is not None
                request.transport.abort()
        finally:
            for task in (listening, showing):
                task.cancel()
            await asyncio.gather(listening, showing, return_exceptions=True)
            self.gone += 1
        return socket


def spec(protocol: str, url: str, **more: object) -> Spec:
    url = url.replace("http", "ws", 1) if protocol == "ws-flv" else url
    return Spec(role=Role.VIEWER, protocol=protocol, url=url, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def viewing(protocol: str, show: Show, path: bool = False, **more: object) -> AsyncIterator[tuple[Origin, Session]]:
    origin = Origin(show)
    async with serving({"/live.flv": origin.http}) as url, session("127.0.0.1", path=path) as io:
        async with DRIVERS[protocol].open(spec(protocol, f"{url}/live.flv", **more), io):
            yield origin, io


async def failure(protocol: str, show: Show) -> Failure:
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(10), viewing(protocol, show) as (_, io):
            raise await io.failure()
    return caught.value


def sequences(frames: list[FrameRecord]) -> list[int]:
    return [frame.code.sequence for frame in frames if frame.code]


# --- works


@both
async def test_it_shows_every_picture_as_it_comes(protocol: str) -> None:
    async with viewing(protocol, playing(*tags(30, sound=True))) as (origin, io):
        frames = await io.frames(30)
        io.stages.finish(frames[0].decoded)
    assert sequences(frames) == list(range(30))
    assert list(io.spent()) == [Stage.PROBE, Stage.CONNECT, Stage.JOIN, Stage.FIRST_PACKET, Stage.KEYFRAME]
    assert io.facts["codec"] == "h264" and io.facts["audio"] == "aac"
    assert [r.purpose for r in io.requests] == [protocol] and io.requests[0].failure is None
    await wait_until(lambda: origin.gone == 1, what="the end of the request")


@both
async def test_pieces_and_messages_may_be_cut_anywhere(protocol: str) -> None:
    async with viewing(protocol, playing(*tags(4), cut=17, pace=0)) as (_, io):
        assert sequences(await io.frames(4)) == list(range(4))


@both
async def test_what_waits_is_told_apart(protocol: str) -> None:
    middle = [tag for tag in tags(10) if tag.payload[0] == 0x27]

    async def slow(send: Send) -> None:
        await asyncio.sleep(0.15)
        await playing(*middle, *tags(3), pace=0.02)(send)

    async with viewing(protocol, slow) as (_, io):
        await io.frames(1)
    spent = io.spent()
    assert spent[Stage.FIRST_PACKET] >= 140 * MS and spent[Stage.KEYFRAME] >= 150 * MS


@both
async def test_a_path_of_ours_carries_it(protocol: str) -> None:
    async with viewing(protocol, playing(*tags(5)), path=True) as (_, io):
        assert len(await io.frames(5)) == 5
        assert io.path is not None and io.path.connections == 1


@both
async def test_a_token_and_a_devices_name_go_along(protocol: str) -> None:
    origin = Origin(playing(*tags(3)))
    async with serving({"/live.flv": origin.http}) as url, session("127.0.0.1") as io:
        credential = Credential("s3cret-token", frozenset({origin_of(url)}))
        wanted = spec(protocol, f"{url}/live.flv", credential=credential, device=Device(user_agent="phone/1"))
        async with DRIVERS[protocol].open(wanted, io):
            await io.frames(1)
    assert origin.headers[0]["User-Agent"] == "phone/1"
    assert origin.headers[0].get("Authorization") == "Bearer s3cret-token"


@both
@pytest.mark.parametrize("jump", [2 * HOUR_MS, -2 * HOUR_MS], ids=["ahead", "back"])
async def test_timestamps_that_jump_by_hours_cost_no_picture(protocol: str, jump: int) -> None:
    start = 3 * HOUR_MS
    moved = [Tag(t.kind, t.timestamp + (jump if t.timestamp >= start + 300 else 0), t.payload) for t in tags(12, start)]
    async with viewing(protocol, playing(*moved)) as (_, io):
        assert sequences(await io.frames(12)) == list(range(12))


async def test_a_redirect_is_followed() -> None:
    origin = Origin(playing(*tags(3)))

    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/live.flv"})

    async with serving({"/live.flv": origin.http, "/old.flv": elsewhere}) as url, session("127.0.0.1") as io:
        async with HttpFlvViewer().open(spec("http-flv", f"{url}/old.flv"), io):
            await io.frames(1)
    assert [r.status for r in io.requests] == [302, 200]


@both
async def test_a_scout_says_whether_a_first_viewer_could_start(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_SCOUT_SECONDS", 0.3)
    origin, scout = Origin(playing(*tags(3))), DRIVERS[protocol].scout
    async with serving({"/live.flv": origin.http}) as url, session("127.0.0.1") as io:
        assert await scout(spec(protocol, f"{url}/live.flv"), io)
        origin.show = saying(flv())
        assert not await scout(spec(protocol, f"{url}/live.flv"), io)


# --- refused


@both
@pytest.mark.parametrize(("status", "phase"), [(404, Phase.JOIN), (503, Phase.JOIN), (401, Phase.AUTH), (403, Phase.AUTH)])
async def test_an_answer_that_refuses_names_itself(protocol: str, status: int, phase: Phase) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving({"/live.flv": refuse}) as url, session("127.0.0.1") as io:
        with pytest.raises(Failure) as caught:
            async with DRIVERS[protocol].open(spec(protocol, f"{url}/live.flv"), io):
                pass
    assert (caught.value.phase, caught.value.reason) == (phase, f"http_{status}")


async def test_a_redirect_loop_is_one() -> None:
    async def around(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.path})

    async with serving({"/live.flv": around}) as url, session("127.0.0.1") as io:
        with pytest.raises(Failure, match="join/redirect_loop"):
            async with HttpFlvViewer().open(spec("http-flv", f"{url}/live.flv"), io):
                pass


@both
async def test_a_closed_port_is_refused(protocol: str) -> None:
    async with serving({}) as url:
        pass
    async with session("127.0.0.1") as io:
        with pytest.raises(Failure, match="connect/refused"):
            async with DRIVERS[protocol].open(spec(protocol, f"{url}/live.flv"), io):
                pass


# --- ends

_SOUND = [tag for tag in tags(3, sound=True) if tag.kind != VIDEO]
ENDS: dict[str, tuple[Show, Phase, set[str]]] = {
    "before media": (saying(b"FLV", ending), Phase.FIRST_PACKET, {"closed"}),
    "before a keyframe": (playing(*_SOUND, then=ending), Phase.KEYFRAME, {"closed"}),
    "amid pictures": (playing(*tags(5), then=ending), Phase.PLAYING, {"ended"}),
    "broken off amid pictures": (playing(*tags(5), then=breaking), Phase.PLAYING, {"ended", "reset"}),
    "broken off before": (saying(b"FLV", breaking), Phase.FIRST_PACKET, {"closed", "reset"}),
}


@both
@pytest.mark.parametrize("name", ENDS)
async def test_an_end_says_where(protocol: str, name: str) -> None:
    show, phase, reasons = ENDS[name]
    caught = await failure(protocol, show)
    assert caught.phase is phase and caught.reason in reasons, caught


# --- wrong


async def endless(send: Send) -> None:
    """A tag of 16 MiB."""
    await send(b"\x09\xff\xff\xff" + bytes(7))
    await forever(send)


WRONG: dict[str, tuple[Show, Phase, str]] = {
    "html": (saying(b"<html><body>It works!</body></html>"), Phase.FIRST_PACKET, "malformed"),
    "garbage": (playing(*tags(5), then=saying(bytes(range(200, 255)) * 20)), Phase.PLAYING, "malformed"),
    "an endless tag": (playing(*tags(5), then=endless), Phase.PLAYING, "too_large"),
}


@both
@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_has_one_reason(protocol: str, name: str) -> None:
    show, phase, reason = WRONG[name]
    caught = await failure(protocol, show)
    assert (caught.phase, caught.reason) == (phase, reason), caught


async def test_a_message_beyond_all_bounds_is_refused() -> None:
    caught = await failure("ws-flv", saying(bytes(MAX_TAG + 1)))
    assert (caught.phase, caught.reason) == (Phase.FIRST_PACKET, "too_large")


@both
async def test_a_codec_that_is_not_ours_is_unsupported(protocol: str) -> None:
    with pytest.raises(Unsupported, match="hevc"):
        async with viewing(protocol, playing(Tag(VIDEO, 0, b"\x1c\1\0\0\0xxxx"))):
            pass


@both
async def test_sound_that_is_not_ours_is_not_called_silence(protocol: str) -> None:
    async with viewing(protocol, playing(*tags(2), Tag(AUDIO, 0, b"\xb2speex"), *tags(8, 100))) as (_, io):
        await io.frames(6)
    assert io.facts[UNHEARD] == "speex" and io.facts["codec"] == "h264"


@both
async def test_sound_and_never_a_picture_is_no_video(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SOUND_ALONE", 100 * MS)
    caught = await failure(protocol, playing(*(tag for tag in tags(40, sound=True) if tag.kind != VIDEO)))
    assert (caught.phase, caught.reason) == (Phase.KEYFRAME, "no_video")


# --- hangs

HANGS: dict[Stage, Show] = {
    Stage.FIRST_PACKET: saying(flv()),
    Stage.KEYFRAME: playing(*_SOUND),
    Stage.PROBE: playing(*tags(5)),
}


@both
@pytest.mark.parametrize("stage", [Stage.JOIN, *HANGS])
async def test_cancelled_while_a_server_hangs_nothing_is_left(protocol: str, stage: Stage) -> None:
    origin = Origin(HANGS.get(stage, forever))

    async def answer(request: web.Request) -> web.StreamResponse:
        if stage is Stage.JOIN:
            await asyncio.Event().wait()
        return await origin.http(request)

    async with serving({"/live.flv": answer}) as url, session("127.0.0.1") as io:

        async def stay() -> None:
            async with DRIVERS[protocol].open(spec(protocol, f"{url}/live.flv"), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stay())
        await wait_until(lambda: io.stage() is stage or task.done(), what=f"stage {stage}")
        if stage is Stage.PROBE:  # where it also began
            await io.frames(1)
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5
