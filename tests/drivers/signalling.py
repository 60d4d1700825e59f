"""A WHIP and WHEP server that can be told to behave badly. Its answers are real ones, made by a peer, before they are
spoiled; so each test spoils exactly one thing."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiortc import RTCSessionDescription

from probe.rtc.peer import Peer, new_peer, prefer
from probe.rtc.sender import UnitTrack


@dataclass
class Rogue:
    """What it does, and what it has seen."""

    url: str = ""
    status: int = 201
    headers: dict[str, str] = field(default_factory=lambda: {"Location": "/session/1"})
    body: bytes | None = None  # instead of an answer
    content_type: str = "application/sdp"
    spoil: Callable[[str], str] = str
    hang: bool = False
    deaf: bool = False  # ICE is answered, DTLS is not
    delete_status: int = 200
    redirect: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    authorizations: list[str | None] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    tracks: list[UnitTrack] = field(default_factory=list)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization"))
        offer = await request.text()
        self.offers.append(offer)
        if self.redirect and request.path == "/session":
            return web.Response(status=307, headers={"Location": self.redirect})
        if self.hang:
            await self.over.wait()
            return web.Response(status=503)
        if self.body is not None or self.status >= 300:
            return web.Response(status=self.status, headers=self.headers, body=self.body or b"", content_type=self.content_type)
        answer = self.spoil(await self._answer(offer))
        return web.Response(status=self.status, headers=self.headers, text=answer, content_type=self.content_type)

    async def _answer(self, offer: str) -> str:
        peer = new_peer(loopback=True)
        self.peers.append(peer)
        if "a=recvonly" in offer:
            for kind, codec in (("video", "h264"), ("audio", "opus")):
                track = UnitTrack(kind)
                self.tracks.append(track)
                peer.addTrack(track)
                prefer(peer.getTransceivers()[-1], codec)
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        if self.deaf:
            for transport in peer._secures:
                transport.agent.data_received = lambda data, component: None  # type: ignore[method-assign]
        return peer.localDescription.sdp

    async def _delete(self, request: web.Request) -> web.Response:
        self.deletes.append(request.path_qs)
        return web.Response(status=self.delete_status)


@contextlib.asynccontextmanager
async def rogue(**behaviour: object) -> AsyncIterator[Rogue]:
    """A server at `url` (POST it /session), behaving as its fields say."""
    server = Rogue(**behaviour)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_post("/{where:.*}", server._post)
    app.router.add_delete("/{where:.*}", server._delete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        server.url = f"http://127.0.0.1:{port}"
        yield server
    finally:
        server.over.set()
        for peer in server.peers:
            await peer.close()
        await runner.cleanup()


def without_video(answer: str) -> str:
    head, *sections = re.split(r"(?=^m=)", answer, flags=re.M)
    return head + "".join(s for s in sections if not s.startswith("m=video"))


def without(prefix: str) -> Callable[[str], str]:
    return lambda answer: "".join(line for line in answer.splitlines(keepends=True) if not line.startswith(prefix))


def replaced(pattern: str, by: str) -> Callable[[str], str]:
    return lambda answer: re.sub(pattern, by, answer, flags=re.M)


def only_codec(name: str) -> Callable[[str], str]:
    """The video section with every H.264 under another codec's name."""
    return lambda answer: re.sub(r"^a=fmtp:.*profile-level-id.*\r\n", "", answer, flags=re.M).replace("H264/", f"{name}/")


def to(ip: str, port: int | None = None) -> Callable[[str], str]:
    """Every candidate at another address."""

    def move(match: re.Match[str]) -> str:
        return f"{match[1]}{ip} {port or match[2]} typ"

    return lambda answer: re.sub(r"^(a=candidate:\S+ \d+ \S+ \d+ )\S+ (\d+) typ", move, answer, flags=re.M)


def without_payload(answer: str) -> str:
    """Media sections that name no codec at all, as one known server's are."""
    bare = "".join(x for x in answer.splitlines(keepends=True) if not x.startswith(("a=rtpmap", "a=fmtp", "a=rtcp-fb")))
    return re.sub(r"^(m=\w+ \d+ \S+) .*\r$", "\\1 0\r", bare, flags=re.M)


def only_family(family: str) -> Callable[[str], str]:
    """Without the candidates of the other family."""

    def keep(line: str) -> bool:
        return not line.startswith("a=candidate") or (":" in line.split()[4]) == (family == "ipv6")

    return lambda answer: "".join(line for line in answer.splitlines(keepends=True) if keep(line))
