"""A room's chat: one WebSocket per listener; what one says, all hear, the speaker too.

Nobody waits for a slow reader: each socket has a short queue, and one that is full is closed (1013, try again later).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from probe.sandbox.context import MAX_SOCKETS, PLATFORM, Room
from probe.sandbox.web import REQUEST_ID, Refused, caller, room_of, serves

QUEUE = 64
MAX_MESSAGE = 4096


class _Listener:
    """One socket and what waits for it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        self._dropped = asyncio.Event()
        self.code = WSCloseCode.GOING_AWAY

    def put(self, message: Mapping[str, Any]) -> None:
        try:
            self._queue.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            self.code = WSCloseCode.TRY_AGAIN_LATER
            self.drop()

    def drop(self) -> None:
        self._dropped.set()

    async def write(self, socket: web.WebSocketResponse) -> None:
        """Deliver until dropped, then close."""
        try:
            async with asyncio.TaskGroup() as tasks:
                delivery = tasks.create_task(self._deliver(socket))
                await self._dropped.wait()
                delivery.cancel()
        finally:
            await socket.close(code=self.code, drain=False)

    async def _deliver(self, socket: web.WebSocketResponse) -> None:
        try:
            while True:
                await socket.send_str(await self._queue.get())
        except ConnectionError:
            self.drop()


@serves("chat")
async def chat(request: web.Request) -> web.WebSocketResponse:
    """GET /rooms/{room}/chat: the socket. In: text or {"text"}; out: {"type": "chat", "text", "from", "request_id"}."""
    platform = request.app[PLATFORM]
    user = caller(request, query=True)
    room = room_of(request)
    if platform.sockets() >= MAX_SOCKETS:
        raise Refused(429, "too_many_sockets")
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=10, timeout=0.5)
    socket.headers["X-Request-ID"] = request[REQUEST_ID]
    await socket.prepare(request)
    listener = _Listener(user)
    room.sockets.add(listener)
    try:
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(listener.write(socket))
            await _listen(socket, room, user, request)
            writing.cancel()
    finally:
        room.sockets.discard(listener)
    return socket


async def _listen(socket: web.WebSocketResponse, room: Room, user: str, request: web.Request) -> None:
    faults = request.app[PLATFORM].faults
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        text, request_id = _read(message.data, request[REQUEST_ID])
        if not faults.hit("chat_lost", room=room.id):
            room.broadcast({"type": "chat", "text": text, "from": user, "request_id": request_id})


def _read(data: str, request_id: str) -> tuple[str, str]:
    """The words, and the id they go by: the message's own `request_id` or the socket's."""
    try:
        said = json.loads(data)
    except ValueError:
        return data, request_id
    if not isinstance(said, dict) or not isinstance(said.get("text"), str):
        return data, request_id
    named = said.get("request_id")
    return said["text"], named if isinstance(named, str) and len(named) <= 128 else request_id


ROUTES = [web.get("/rooms/{room}/chat", chat)]
