"""The websocket step against real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from probe.drivers.wait import WaitDriver
from probe.drivers.websocket import WebsocketDriver
from probe.errors import DriverBug, Failure
from probe.model.clock import MS
from probe.model.outcome import Done, Skipped
from probe.model.stage import Phase
from probe.plan import WaitStep, WebsocketStep
from tests.drivers.test_http import Room, Steps, steps
from tests.net.servers import raw, says, serving


def chat(send: str = "hello from ${room}", seen_by: str | None = "viewers", within: int = 1000) -> WebsocketStep:
    return WebsocketStep(
        name="chat",
        service="chat",
        url="/chat",
        send=send,
        account="broadcaster",
        seen_by=seen_by,
        seen_account="viewer",
        deadline=within * MS,
    )


async def failing(io: Steps, step: WebsocketStep) -> Failure:
    with pytest.raises(Failure) as caught:
        await WebsocketDriver().run(step, io)
    return caught.value


async def test_a_message_is_seen_by_every_viewer_and_the_sender_is_not_one_of_them() -> None:
    room = Room()
    async with serving(room.routes()) as url, steps(url, viewers=4) as io:
        assert await WebsocketDriver().run(chat(), io) == Done()
        assert sorted(str(token) for token in room.tokens) == ["Bearer viewer-token"] * 4 + ["None"]


@pytest.mark.parametrize("ascii_only", [True, False])
async def test_a_message_is_found_inside_json_however_it_is_escaped(ascii_only: bool) -> None:
    class Wrapping(Room):
        async def show(self, text: str) -> None:
            await super().show(json.dumps({"type": "chat", "text": text}, ensure_ascii=ascii_only))

    room = Wrapping()
    async with serving(room.routes()) as url, steps(url, viewers=2) as io:
        assert await WebsocketDriver().run(chat('grüß "dich" 😀'), io) == Done()


async def test_a_message_that_is_lost_is_not_seen() -> None:
    room = Room(reach=0)
    async with serving(room.routes()) as url, steps(url, viewers=2) as io:
        failure = await failing(io, chat(within=300))
        assert (failure.phase, failure.reason, failure.outcome.detail) == (Phase.CHAT, "not_seen", "0 of 2 viewers saw it")


async def test_sockets_lost_on_the_way_are_told() -> None:
    class Dropping(Room):
        async def show(self, text: str) -> None:
            for socket in self.sockets[1:]:  # the first is the sender's, in whose handler we are
                await socket.close()

    room = Dropping()
    async with serving(room.routes()) as url, steps(url, viewers=2) as io:
        failure = await failing(io, chat(within=2000))
        assert failure.reason == "not_seen" and failure.outcome.detail == "0 of 2 viewers saw it, 2 lost their socket"


async def test_without_viewers_it_is_skipped_and_without_seen_by_it_is_done_when_sent() -> None:
    heard: list[str] = []

    class Listening(Room):
        async def show(self, text: str) -> None:
            heard.append(text)

    room = Listening()
    async with serving(room.routes()) as url, steps(url) as io:
        assert await WebsocketDriver().run(chat(), io) == Skipped("no_viewers")
        assert await WebsocketDriver().run(chat(seen_by=None), io) == Done()
        assert heard == ["hello from r1"]


async def test_a_sender_who_is_not_let_in_is_an_auth_failure() -> None:
    async with raw(says(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")) as url, steps(url, viewers=1) as io:
        failure = await failing(io, chat())
        assert (failure.phase, failure.reason) == (Phase.AUTH, "http_401")


async def test_a_server_that_hangs_is_a_timeout_of_the_service() -> None:
    async with raw(says(b"", then=lambda _: asyncio.Event().wait())) as url, steps(url, viewers=1) as io:
        failure = await failing(io, chat(within=200))
        assert (failure.phase, failure.reason) == (Phase.CHAT, "timeout")


async def test_a_flood_of_other_messages_does_not_hide_ours() -> None:
    class Busy(Room):
        async def show(self, text: str) -> None:
            for number in range(2000):
                await super().show(f"noise {number}")
            await super().show(text)

    room = Busy()
    async with serving(room.routes()) as url, steps(url, viewers=2) as io:
        assert await WebsocketDriver().run(chat(within=8000), io) == Done()


async def test_cancelled_it_leaves_nothing() -> None:
    arrived = asyncio.Event()

    class Slow(Room):
        async def show(self, text: str) -> None:
            arrived.set()

    room = Slow()
    async with serving(room.routes()) as url, steps(url, viewers=3) as io:
        task = asyncio.create_task(WebsocketDriver().run(chat(within=30_000), io))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_another_kind_of_step_is_our_bug() -> None:
    async def nothing(_: web.Request) -> web.Response:
        return web.Response()

    async with serving({"/": nothing}) as url, steps(url) as io:
        with pytest.raises(DriverBug):
            await WebsocketDriver().run(WaitStep(name="w", duration=1), io)
        with pytest.raises(DriverBug):
            await WaitDriver().run(chat(), io)
        assert await WaitDriver().run(WaitStep(name="w", duration=1 * MS), io) == Done()
