"""Reading a WebSocket: the next text, or the reason there is none. And leaving it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeAlias

import aiohttp
from aiohttp import WSMsgType

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net import errors

Socket: TypeAlias = aiohttp.ClientWebSocketResponse
_TOO_BIG = 1009  # RFC 6455 §7.4.1
_GOODBYE_SECONDS = 1.0


async def next_text(socket: Socket, phase: Phase) -> str:
    """The next text message, others passed over. Raises Failure(phase, …): closed, too_large, timeout (no pong came),
    reset, protocol."""
    return str(await _next(socket, WSMsgType.TEXT, phase))


async def next_bytes(socket: Socket, phase: Phase) -> bytes:
    """The next binary message, as `next_text`."""
    return bytes(await _next(socket, WSMsgType.BINARY, phase))


async def _next(socket: Socket, wanted: WSMsgType, phase: Phase) -> Any:
    while True:
        with errors.mapped(phase):
            message = await socket.receive()
        match message.type:
            case kind if kind is wanted:
                return message.data
            case WSMsgType.ERROR:
                raise _of(message.data, phase)
            case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED:
                broken = socket.exception()
                if broken is not None:
                    raise _of(broken, phase)
                code = socket.close_code
                raise Failure(phase, "closed", f"close code {code}" if code else "without a close frame")
            case _:
                pass


async def send_text(socket: aiohttp.ClientWebSocketResponse, text: str, phase: Phase) -> None:
    """Send one text message. Raises Failure(phase, closed | reset)."""
    with errors.mapped(phase):
        await socket.send_str(text)


async def goodbye(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Close it, within a second altogether: the library's own limit begins anew with every message that still comes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await socket.close()


def _of(error: BaseException | object, phase: Phase) -> Failure:
    if isinstance(error, aiohttp.WebSocketError):
        if error.code == _TOO_BIG:
            return Failure(phase, "too_large", "a message beyond the limit")
        return Failure(phase, "protocol", f"close code {error.code}")
    failure = errors.of_exchange(error, phase) if isinstance(error, Exception) else None
    return failure or Failure(phase, "protocol", "not a WebSocket frame")
