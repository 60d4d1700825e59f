"""WebSockets through the client."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from probe.errors import Failure
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import Credential, origin_of
from probe.net.sockets import next_text, send_text
from tests.net.servers import Authority, Record, client, raw, says, serving
from tests.net.test_client import TOKEN


async def parrot(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json(dict(request.headers))
    async for message in socket:
        if message.data == "burst":
            await socket.send_str("x" * 100_000)
        elif message.data == "bye":
            break
        elif message.data == "binary first":
            await socket.send_bytes(b"\x00")
            await socket.send_str("then text")
        else:
            await socket.send_str(message.data)
    return socket


async def failing(record: Record, url: str, **options: object) -> Failure:
    with pytest.raises(Failure) as caught:
        async with record.client.websocket(url, purpose="chat", phase=Phase.CHAT, **options):  # type: ignore[arg-type]
            pass
    return caught.value


async def test_a_socket_speaks_both_ways_with_stages_ids_and_token(authority: Authority) -> None:
    async with serving({"/": parrot}, tls=authority.server("localhost"), name="localhost") as url:
        async with client("localhost", tls=authority.client()) as me:
            timer = StageTimer(me.client.clock.now())
            async with me.client.websocket(
                url.replace("https", "wss"),
                purpose="chat",
                phase=Phase.CHAT,
                credential=Credential(TOKEN, frozenset({origin_of(url)})),
                stages=timer,
                stage=Stage.JOIN,
            ) as socket:
                headers = await next_text(socket, Phase.CHAT)
                assert f"Bearer {TOKEN}" in headers and "traceparent" in headers and me.requests[0].request_id in headers
                await send_text(socket, "hello", Phase.CHAT)
                assert await next_text(socket, Phase.CHAT) == "hello"
                await send_text(socket, "binary first", Phase.CHAT)
                assert await next_text(socket, Phase.CHAT) == "then text"
            assert [s.stage for s in timer.slices] == [Stage.PROBE, Stage.RESOLVE, Stage.CONNECT, Stage.TLS]
            assert timer.current is Stage.JOIN
            (done,) = me.requests
            assert (done.status, done.purpose, done.failure) == (101, "chat", None)


async def test_a_larger_message_than_allowed_closes_the_socket() -> None:
    async with serving({"/": parrot}) as url, client() as me:
        async with me.client.websocket(url, purpose="chat", phase=Phase.CHAT, max_message=65536) as socket:
            await next_text(socket, Phase.CHAT)
            await send_text(socket, "burst", Phase.CHAT)
            with pytest.raises(Failure) as caught:
                await next_text(socket, Phase.CHAT)
        assert (caught.value.phase, caught.value.reason) == (Phase.CHAT, "too_large")


async def test_a_socket_the_server_closes_is_closed() -> None:
    async with serving({"/": parrot}) as url, client() as me:
        async with me.client.websocket(url, purpose="chat", phase=Phase.CHAT) as socket:
            await next_text(socket, Phase.CHAT)
            await send_text(socket, "bye", Phase.CHAT)
            with pytest.raises(Failure) as caught:
                await next_text(socket, Phase.CHAT)
            assert caught.value.reason == "closed"
            with pytest.raises(Failure):
                await send_text(socket, "too late", Phase.CHAT)


@pytest.mark.parametrize(
    ("answer", "phase", "reason"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", Phase.AUTH, "http_401"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", Phase.AUTH, "http_403"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Phase.CHAT, "http_404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Phase.CHAT, "protocol"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Phase.CHAT, "redirect_refused"),
        (
            b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            Phase.CHAT,
            "protocol",
        ),
        (b"banana\r\n\r\n", Phase.CHAT, "protocol"),
        (b"", Phase.CHAT, "closed"),
    ],
)
async def test_handshakes_that_fail(answer: bytes, phase: Phase, reason: str) -> None:
    async with raw(says(answer)) as url, client() as me:
        failure = await failing(me, url, credential=Credential(TOKEN, frozenset({origin_of(url)})))
        assert (failure.phase, failure.reason) == (phase, reason)
        assert me.requests[-1].failure == failure.outcome
        cause: BaseException | None = failure
        while cause is not None:
            assert TOKEN not in repr(cause) and TOKEN not in str(cause)
            cause = cause.__cause__ or cause.__context__


async def test_a_handshake_that_hangs_is_a_timeout() -> None:
    async with raw(says(b"", then=lambda _: asyncio.Event().wait())) as url, client() as me:
        assert (await failing(me, url, timeout=0.1)).reason == "timeout"


async def test_leaving_a_socket_whose_server_is_dead_takes_a_second_at_most() -> None:
    async def dead(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        await asyncio.Event().wait()
        return socket

    async with serving({"/": dead}) as url, client() as me:
        async with me.client.websocket(url, purpose="chat", phase=Phase.CHAT):
            began = time.monotonic()
        assert time.monotonic() - began < 2


async def test_a_cancelled_reader_leaves_nothing() -> None:
    async with serving({"/": parrot}) as url, client() as me:
        reading = asyncio.Event()

        async def read() -> None:
            async with me.client.websocket(url, purpose="chat", phase=Phase.CHAT) as socket:
                await next_text(socket, Phase.CHAT)
                reading.set()
                await next_text(socket, Phase.CHAT)

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
