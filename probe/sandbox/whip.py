"""WHIP in: H.264 and Opus, as access units (RFC 9725). One publisher a room; a new one takes the old one's place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiohttp import web

from probe.rtc import AccessUnit, prefer, receive_units, request_keyframe
from probe.sandbox.context import PLATFORM
from probe.sandbox.peers import PeerSession, accept, leave, offered
from probe.sandbox.rooms import own_room
from probe.sandbox.sound import MADE
from probe.sandbox.unit import Unit
from probe.sandbox.web import SPAN, serves
from probe.wire.fmp4 import AudioTrack


class Publisher(PeerSession):
    """Who is on air."""

    role = "publisher"
    protocol = "whip"
    sound: AudioTrack | None = None
    _ask: Callable[[], None] | None = None
    _seen = False

    def prepare(self, offer: str) -> None:
        for kind, codec in (("video", "h264"), ("audio", "opus")):
            if f"\nm={kind} " in offer:
                transceiver = self.peer.addTransceiver(kind, direction="recvonly")
                prefer(transceiver, codec)
                receive_units(transceiver.receiver, self.platform.clock, partial(self._take, kind))
                if kind == "video":
                    self._ask = partial(request_keyframe, transceiver.receiver)
                else:
                    self.sound = MADE

    async def join(self) -> None:
        await self.room.live.publish(self)

    def up(self) -> None:
        self.phase("whip first keyframe")

    def request_keyframe(self) -> None:
        if self._ask is not None and self.state == "up":
            self._ask()

    def _take(self, kind: str, unit: AccessUnit) -> None:
        if kind == "video" and unit.keyframe and not self._seen:
            self._seen = True
            self.phase("")
        codec = "h264" if kind == "video" else "opus"
        self.room.live.put(Unit(self.id, kind, unit.data, unit.timestamp, unit.keyframe, unit.first_arrived, codec))


@serves("whip")
async def publish(request: web.Request) -> web.Response:
    """POST /rooms/{room}/whip: by the room's owner."""
    room = own_room(request)
    offer = await offered(request)
    session = Publisher(request.app[PLATFORM], room, room.owner, request[SPAN])
    return await accept(request, session, offer)


@serves("whip")
async def unpublish(request: web.Request) -> web.Response:
    """DELETE /rooms/{room}/whip/{session}."""
    return await leave(request)


ROUTES = [web.post("/rooms/{room}/whip", publish), web.delete("/rooms/{room}/whip/{session}", unpublish)]
