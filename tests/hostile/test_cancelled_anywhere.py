"""Sessions cancelled after any number of the loop's turns, also between a result and whoever waits for it: each ends as
cancelled, soon, and leaves nothing (which every test here is asked)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from probe.drivers.base import SessionDriver, Spec
from probe.drivers.http_flv import HttpFlvViewer
from probe.drivers.http_ts import HttpTsViewer
from probe.drivers.rtmp_publisher import RtmpPublisher
from probe.drivers.rtmp_viewer import RtmpViewer
from probe.drivers.srt_publisher import SrtPublisher
from probe.drivers.srt_viewer import SrtViewer
from probe.drivers.ws_flv import WsFlvViewer
from probe.errors import Failure
from probe.model.observation import Role
from tests.drivers.rtc_session import Session, session
from tests.drivers.rtmp_platform import Guest, flv, guests, player, tags
from tests.drivers.srt_platform import Guest as SrtGuest
from tests.drivers.srt_platform import platform as srt_platform
from tests.drivers.srt_platform import ts
from tests.net.servers import Handler, serving

VIEWERS: dict[str, SessionDriver] = {
    "rtmp": RtmpViewer(), "srt": SrtViewer(), "http-flv": HttpFlvViewer(), "ws-flv": WsFlvViewer(), "http-ts": HttpTsViewer(),
}  # fmt: skip
PUBLISHERS: dict[str, SessionDriver] = {"rtmp": RtmpPublisher(), "srt": SrtPublisher()}
TURNS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 60, 90, 150, 300)


async def publish(guest: Guest) -> None:
    await guest.accept("connect", "publish")
    await guest.listen()


async def show(guest: SrtGuest) -> None:
    await guest.play(ts(30), 0.002)
    await asyncio.Event().wait()


def body(protocol: str) -> bytes:
    return b"".join(d for datagrams in ts(10) for d in datagrams) if protocol == "http-ts" else flv(*tags(10))


async def stream(request: web.Request) -> web.StreamResponse:
    protocol = request.path.strip("/")
    if protocol == "ws-flv":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(body(protocol))
        await socket.receive()
        return socket
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(body(protocol))
    await asyncio.Event().wait()
    return response


@asynccontextmanager
async def server(protocol: str, publishing: bool) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        if protocol == "rtmp":
            place = await stack.enter_async_context(guests(publish if publishing else player(*tags(10), pace=0)))
            yield place.url()
        elif protocol == "srt":
            yield (await stack.enter_async_context(srt_platform(show))).url()
        else:
            handler: Handler = stream
            yield await stack.enter_async_context(serving({"/{path:.*}": handler})) + f"/{protocol}"


def cases() -> Iterator[tuple[str, SessionDriver, Role]]:
    yield from ((protocol, driver, Role.VIEWER) for protocol, driver in VIEWERS.items())
    yield from ((protocol, driver, Role.PUBLISHER) for protocol, driver in PUBLISHERS.items())


@pytest.mark.parametrize("path", [False, True], ids=["direct", "path"])
@pytest.mark.parametrize(("protocol", "driver", "role"), list(cases()))
async def test_a_session_cancelled_at_any_turn_ends(protocol: str, driver: SessionDriver, role: Role, path: bool) -> None:
    async with server(protocol, role is Role.PUBLISHER) as url:
        for turns in TURNS:
            async with session("127.0.0.1", path=path) as io:

                async def stay(io: Session = io) -> None:
                    async with driver.open(Spec(role=role, protocol=protocol, url=url), io):
                        await asyncio.Event().wait()

                task = asyncio.create_task(stay())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if turns % 4 == 3:  # and some in real time
                    await asyncio.sleep(turns / 5000)
                began = time.monotonic()
                task.cancel()
                async with asyncio.timeout(5):
                    with pytest.raises((asyncio.CancelledError, Failure)):
                        await task
                assert time.monotonic() - began < 2.5, turns
