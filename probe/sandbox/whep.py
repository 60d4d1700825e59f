"""WHEP out: the publisher's access units to each viewer, from a keyframe on (draft-ietf-wish-whep).

A viewer that cannot keep up loses units and starts again at a keyframe; its requests for one are passed to the publisher,
who is asked no more than about twice a second by all of them together.
"""

from __future__ import annotations

from fractions import Fraction

from aiohttp import web

from probe.rtc import UnitTrack, on_keyframe_request, prefer
from probe.sandbox.context import PLATFORM, Platform, Room
from probe.sandbox.outlet import Outlet
from probe.sandbox.peers import PeerSession, accept, leave, offered
from probe.sandbox.regions import region_of
from probe.sandbox.telemetry import Span
from probe.sandbox.unit import RATES, Unit
from probe.sandbox.web import SPAN, Refused, caller, rejoins, room_of, serves


class Viewer(PeerSession):
    """Who watches."""

    role = "viewer"
    protocol = "whep"
    sound = "opus"
    _seen = False

    def __init__(self, platform: Platform, room: Room, user: str, span: Span, region: str = "") -> None:
        super().__init__(platform, room, user, span)
        self.region = region
        self._tracks: dict[str, UnitTrack] = {}
        self._outlet = Outlet(
            platform, room.live, self.id, self.protocol, self._deliver, self.end, sound=self.sound, region=region
        )

    def prepare(self, offer: str) -> None:
        for kind, codec in (("video", "h264"), ("audio", "opus")):
            if f"\nm={kind} " in offer:
                track = self._tracks[kind] = UnitTrack(kind)
                transceiver = self.peer.addTransceiver(track, direction="sendonly")
                prefer(transceiver, codec)
                on_keyframe_request(transceiver.sender, self._outlet.wants_keyframe)

    async def join(self) -> None:
        self.room.live.join(self)

    def up(self) -> None:
        self.phase("whep first keyframe")
        self._outlet.wants_keyframe()

    def put(self, unit: Unit) -> None:
        """One unit of the room's stream."""
        if self.state == "up":
            self._outlet.put(unit)

    async def close(self) -> None:
        self._outlet.close()
        await super().close()

    def _deliver(self, unit: Unit) -> bool:
        track = self._tracks.get(unit.kind)
        if track is None or not track.push(unit.data, unit.pts, Fraction(1, RATES[unit.kind]), unit.keyframe):
            return False
        if unit.kind == "video" and not self._seen:
            self._seen = True
            self.phase("")
        return True


@serves("whep")
async def watch(request: web.Request) -> web.Response:
    """POST /rooms/{room}/whep; 404 where nothing is published."""
    user = caller(request)
    room = room_of(request)
    offer = await offered(request)
    if not room.live.on_air:
        raise Refused(404, "no_stream")
    rejoins(request, room)
    session = Viewer(request.app[PLATFORM], room, user, request[SPAN], region_of(request))
    return await accept(request, session, offer)


@serves("whep")
async def stop_watching(request: web.Request) -> web.Response:
    """DELETE /rooms/{room}/whep/{session}."""
    return await leave(request)


ROUTES = [web.post("/rooms/{room}/whep", watch), web.delete("/rooms/{room}/whep/{session}", stop_watching)]
