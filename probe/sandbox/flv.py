"""HTTP-FLV out, and the same over a WebSocket: an endless answer of H.264 and AAC, from the next keyframe on.

There is no cache of the last group of pictures: a viewer's first picture is the next keyframe, which is asked for where the
publisher can be asked (WHIP), and otherwise waited for. A viewer that cannot keep up loses what waits for it and goes on
from a keyframe. Over a WebSocket each message holds whole tags, the header in the first.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque

from aiohttp import WSMsgType, web

from probe.sandbox.context import MAX_SESSIONS, PLATFORM, Platform, Room
from probe.sandbox.outlet import Outlet
from probe.sandbox.regions import region_of
from probe.sandbox.unit import RATES, Unit
from probe.sandbox.web import CORS, REQUEST_ID, Refused, caller, rejoins, room_of, serves
from probe.wire.flv import flv_header, flv_tag
from probe.wire.flv_tags import Tag, TagMaker, metadata_tag

WAITING = 2 << 20  # bytes
AT_ONCE = 256 * 1024


class Viewer:
    """Who watches. `next` gives bytes to send, None at the end."""

    role = "viewer"
    protocol = "http-flv"
    sound = "aac"

    def __init__(self, platform: Platform, room: Room, region: str = "") -> None:
        self.region = region
        self.id = secrets.token_urlsafe(9)
        self.state = "up"
        self._platform = platform
        self._room = room
        self._sound = room.live.audio is not None
        self._outlet = Outlet(platform, room.live, self.id, self.protocol, self._deliver, self._end, region=region)
        self._maker = TagMaker()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._described = False

    def join(self) -> None:
        self._queue(flv_header(audio=self._sound), "header")
        self._room.live.join(self)
        self._outlet.wants_keyframe()

    def put(self, unit: Unit) -> None:
        """One unit of the room's stream."""
        if self.state == "up":
            self._outlet.put(unit)

    async def next(self) -> bytes | None:
        while not self._waiting:
            if self.state == "closed":
                return None
            self._more.clear()
            await self._more.wait()
        pieces = [self._waiting.popleft()]
        while self._waiting and len(self._waiting[0]) + sum(map(len, pieces)) < AT_ONCE:
            pieces.append(self._waiting.popleft())
        self._bytes -= sum(map(len, pieces))
        return b"".join(pieces)

    async def close(self) -> None:
        self._end()

    def _end(self) -> None:
        if self.state != "closed":
            self.state = "closed"
            self._room.live.leave(self)
            self._outlet.close()
            self._more.set()

    def _deliver(self, unit: Unit) -> bool:
        if self._bytes > WAITING:
            self._waiting.clear()
            self._bytes = 0
            self._maker = TagMaker()  # what it said of the codecs may have been among it
            return False
        timestamp = unit.pts * 1000 // RATES[unit.kind]
        if unit.kind == "audio":
            if not self._described:  # no sound before the first picture
                return True
            tags = self._maker.aac(unit.data, timestamp, unit.config)
        else:
            tags = self._maker.video(unit.data, timestamp, unit.keyframe)
            if not self._described:
                self._described = True
                tags.insert(0, self._metadata(timestamp))
        for tag in tags:
            self._queue(flv_tag(tag), "tag")
        return True

    def _queue(self, data: bytes, what: str) -> None:
        if self._platform.faults.acting("flv_garbage", room=self._room.id, at=what):
            data = os.urandom(len(data))
        self._waiting.append(data)
        self._bytes += len(data)
        self._more.set()

    def _metadata(self, timestamp: int) -> Tag:
        sound = {"audiocodecid": 10.0, "stereo": True} if self._sound else {}
        said = metadata_tag({"videocodecid": 7.0, "encoder": "stream-probe sandbox", **sound})
        return Tag(said.kind, timestamp, said.payload)


@serves("http-flv")
async def watch(request: web.Request) -> web.StreamResponse:
    """GET /rooms/{room}/live.flv, plain or upgraded to a WebSocket; 404 where nothing is published."""
    platform = request.app[PLATFORM]
    caller(request, query=True)
    room = room_of(request)
    if platform.sessions() >= MAX_SESSIONS:
        raise Refused(429, "too_many_sessions")
    if not room.live.on_air:
        raise Refused(404, "no_stream")
    rejoins(request, room)
    viewer = Viewer(platform, room, region_of(request))
    try:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _socket(request, viewer)
        return await _body(request, viewer)
    finally:
        await viewer.close()


async def _body(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    headers = {"Content-Type": "video/x-flv", "Cache-Control": "no-store", "X-Request-ID": request[REQUEST_ID]}
    response = web.StreamResponse(headers=CORS | headers)
    await response.prepare(request)
    viewer.join()
    try:
        while (data := await viewer.next()) is not None:
            await response.write(data)
    except ConnectionError:
        pass
    return response


async def _socket(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    socket = web.WebSocketResponse(heartbeat=10, timeout=0.5, max_msg_size=4096)
    socket.headers["X-Request-ID"] = request[REQUEST_ID]
    await socket.prepare(request)
    viewer.join()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(socket, viewer))
        async for message in socket:  # until the viewer leaves
            if message.type is WSMsgType.ERROR:
                break
        sending.cancel()
    return socket


async def _send(socket: web.WebSocketResponse, viewer: Viewer) -> None:
    try:
        while (data := await viewer.next()) is not None:
            await socket.send_bytes(data)
    except ConnectionError:
        return
    await socket.close(drain=False)


ROUTES = [web.get("/rooms/{room}/live.flv", watch)]
