"""What WHIP and WHEP share: a session with a peer connection below it, and the answer a client gets (RFC 9725).

No trickle and no ICE restart: PATCH is answered 405, as the RFC allows. A session that is not up within UP_WITHIN, or
whose transport ends, closes itself.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from aiohttp import web

from probe.errors import Unsupported
from probe.rtc import Link, Peer, new_peer
from probe.rtc.answering import answer
from probe.sandbox.context import MAX_SESSIONS, PLATFORM, Platform, Room
from probe.sandbox.sdp import only_from, spoil
from probe.sandbox.telemetry import Span
from probe.sandbox.web import Refused, caller, room_of

UP_WITHIN = 20.0  # seconds
SDP = "application/sdp"
SPOILED = ("sdp_garbage", "sdp_no_video", "sdp_high_only", "no_candidates", "black_hole", "wrong_fingerprint")
DEAF = ("no_candidates", "black_hole")  # nothing comes from us either, or ICE would find another way
PRIVATE = "http://169.254.169.254"


class PeerSession:
    """One publisher's or viewer's stay. Subclasses say what its media is."""

    role = ""
    protocol = ""

    def __init__(self, platform: Platform, room: Room, user: str, span: Span) -> None:
        self.id = secrets.token_urlsafe(9)
        self.user = user
        self.state = "connecting"
        self.platform = platform
        self.room = room
        self.peer: Peer = new_peer(loopback=True)
        self.peer.on_link = self._linked
        self.black_hole: socket.socket | None = None
        self._request = span
        self._open: Span | None = None
        self._deadline = asyncio.get_running_loop().call_later(UP_WITHIN, self.end)

    def prepare(self, offer: str) -> None:
        """Add what media there shall be, before the offer is read."""

    async def join(self) -> None:
        """Take the session's place in the room."""

    def up(self) -> None:
        """The transport is there."""

    def phase(self, name: str) -> None:
        """The session's next span begins, under the request that made it; "" : no more."""
        if self._open is not None:
            self._open.end()
        self._open = self.platform.telemetry.span(self.protocol, name, parent=self._request) if name else None

    async def answer(self, offer: str) -> str:
        """Our answer to an offer. Raises Refused: 400 for what is no SDP, 406 for media we do not speak."""
        try:
            self.prepare(offer)
            sdp = await answer(self.peer, offer)
        except Unsupported:
            raise Refused(406, "no_common_codec") from None
        except ValueError:
            raise Refused(400, "bad_sdp") from None
        self.phase(f"{self.protocol} connect")
        return only_from(sdp, self.platform.config.host)

    def end(self) -> None:
        """Close, without waiting for it."""
        if self.state != "closed":
            self.platform.spawn(self.close(), f"closing a {self.protocol} session")

    async def close(self) -> None:
        """Close; may be called again."""
        if self.state == "closed":
            return
        self.state = "closed"
        self._deadline.cancel()
        self.room.live.leave(self)
        if self._open is not None:
            self._open.end(error=True)
        if self.black_hole is not None:
            self.black_hole.close()
        await self.peer.close()

    def _linked(self, link: Link) -> None:
        if link is Link.UP and self.state == "connecting":
            self.state = "up"
            self._deadline.cancel()
            self.up()
        elif link in (Link.ICE_FAILED, Link.DTLS_FAILED, Link.BROKEN, Link.ENDED):
            self.end()


async def offered(request: web.Request) -> str:
    """The offer sent. Raises Refused(415, 400, 429)."""
    if request.app[PLATFORM].sessions() >= MAX_SESSIONS:
        raise Refused(429, "too_many_sessions")
    if request.content_type != SDP:
        raise Refused(415, "not_sdp")
    offer = await request.text()
    if not offer.startswith("v=0") or "\nm=" not in offer:
        raise Refused(400, "bad_sdp")
    return offer


async def accept(request: web.Request, session: PeerSession, offer: str) -> web.Response:
    """201 with our answer, or with what a planted fault makes of it. Closes the session where there will be none."""
    faults = session.platform.faults
    where = {"of": session.protocol, "room": session.room.id}
    try:
        sdp = await session.answer(offer)
        if session.platform.rooms.get(session.room.id) is not session.room:
            raise Refused(404, "no_room")  # ended meanwhile
        await session.join()
    except BaseException:
        await session.close()
        raise
    location = f"/rooms/{session.room.id}/{session.protocol}/{session.id}"
    if faults.hit("private_location", **where):
        location = PRIVATE + location
    headers = {"Location": location}
    if faults.hit("sdp_html", **where):
        return web.Response(status=201, text="<!doctype html><h1>Welcome!</h1>", content_type="text/html", headers=headers)
    for name in SPOILED:
        if faults.hit(name, **where):
            if name in DEAF:
                await session.peer.close()
            sdp = spoil(sdp, name, _black_hole(session) if name == "black_hole" else ("", 0))
    return web.Response(status=201, text=sdp, content_type=SDP, headers=headers)


def _black_hole(session: PeerSession) -> tuple[str, int]:
    """A port that takes everything and says nothing."""
    session.black_hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    session.black_hole.bind((session.platform.config.host, 0))
    host, port = session.black_hole.getsockname()
    return host, port


async def leave(request: web.Request) -> web.Response:
    """DELETE of a session, by whoever opened it."""
    user = caller(request)
    session = room_of(request).live.find(request.match_info["session"])
    if not isinstance(session, PeerSession):
        raise Refused(404, "no_session")
    if session.user != user:
        raise Refused(403, "not_yours")
    await session.close()
    return web.Response(status=200)
