"""Plain clients of the sandbox, written against its HTTP interface and nothing else of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from probe.clock import SystemClock
from probe.media.decoder import DecoderThread
from probe.media.feed import Feed
from probe.media.programme import Programme, ProgrammeIds
from probe.model.frames import FrameRecord, Undecodable
from probe.rtc import AccessUnit, Link, Peer, UnitTrack, new_peer, on_keyframe_request, prefer, receive_units
from probe.sandbox.launch import Sandbox

CLOCK = SystemClock()
RUN = 0xC0FFEE
SDP = {"Content-Type": "application/sdp"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any = None

    @property
    def text(self) -> str:
        return self.body.decode()


class User:
    """One account, logged in, over a connection pool of its own."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession, name: str) -> None:
        self.sandbox, self.http, self.name, self.token = sandbox, http, name, ""

    async def login(self) -> None:
        body = {"user": self.name, "password": self.sandbox.accounts[self.name]}
        self.token = (await self.call("POST", "/auth/login", json=body)).json["token"]

    async def call(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **kwargs: Any) -> Reply:
        """`url`: absolute, or a path of the platform. The token goes with the latter."""
        sent = dict(headers or {})
        if url.startswith("/"):
            url = self.sandbox.url + url
            if self.token:
                sent.setdefault("Authorization", f"Bearer {self.token}")
        async with self.http.request(method, url, headers=sent, allow_redirects=False, **kwargs) as response:
            body = await response.read()
            json = await response.json() if response.content_type == "application/json" and body else None
            return Reply(response.status, response.headers, body, json)

    async def room(self, tag: str = "a-test", unlisted: bool = True) -> str:
        reply = await self.call("POST", "/rooms", json={"unlisted": unlisted, "synthetic": True, "tag": tag})
        assert reply.status == 201
        return str(reply.json["id"])

    def socket(self, room: str) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        url = f"{self.sandbox.url}/rooms/{room}/chat"
        return self.http.ws_connect(url, headers={"Authorization": f"Bearer {self.token}"})


@contextlib.asynccontextmanager
async def user(sandbox: Sandbox, name: str = "probe") -> AsyncIterator[User]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        one = User(sandbox, http, name)
        await one.login()
        yield one


async def goodbye(who: User, location: str) -> None:
    """End a session, where there is still somebody to tell."""
    with contextlib.suppress(aiohttp.ClientError):
        await who.call("DELETE", location)


@dataclass
class OnAir:
    location: str
    peer: Peer
    tracks: dict[str, UnitTrack]
    reply: Reply


@contextlib.asynccontextmanager
async def on_air(owner: User, room: str, *, publish: int = 0, audio: bool = True, delete: bool = True) -> AsyncIterator[OnAir]:
    """A programme published by WHIP until the end of the block; `delete`: said goodbye then."""
    peer = new_peer(loopback=True)
    tracks = {kind: UnitTrack(kind) for kind in ("video", *(["audio"] if audio else []))}
    programme = Programme("360p30", clock=CLOCK, ids=ProgrammeIds(RUN, 7, publish), bitrate=400_000, audio=audio)
    try:
        for kind, track in tracks.items():
            transceiver = peer.addTransceiver(track, direction="sendonly")
            if kind == "video":
                prefer(transceiver, "h264")
                on_keyframe_request(transceiver.sender, programme.request_keyframe)
        reply = await owner.call("POST", f"/rooms/{room}/whip", data=await peer.offer(), headers=SDP)
        assert reply.status == 201, reply
        await peer.accept(reply.text)
        assert await peer.up() is Link.UP
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(programme, tracks))
            yield OnAir(reply.headers["Location"], peer, tracks, reply)
            sending.cancel()
        if delete:
            await goodbye(owner, reply.headers["Location"])
    finally:
        await peer.close()


async def _send(programme: Programme, tracks: Mapping[str, UnitTrack]) -> None:
    async with programme:
        async for unit in programme.units():
            tracks[unit.kind].push(unit.data, unit.pts, unit.time_base, unit.keyframe)


@dataclass
class Watching:
    """What one WHEP viewer has seen so far. `pictures` are decoded and read; `units` are counted by kind."""

    reply: Reply
    peer: Peer
    pictures: list[FrameRecord] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    units: dict[str, int] = field(default_factory=lambda: {"video": 0, "audio": 0})
    links: list[Link] = field(default_factory=list)

    @property
    def ours(self) -> list[FrameRecord]:
        return [p for p in self.pictures if p.code is not None and p.code.run == RUN]

    @property
    def location(self) -> str:
        return self.reply.headers["Location"]


async def offer(peer: Peer, on_unit: Callable[[str, AccessUnit], None]) -> str:
    """A viewer's offer."""
    for kind in ("video", "audio"):
        transceiver = peer.addTransceiver(kind, direction="recvonly")

        def take(unit: AccessUnit, kind: str = kind) -> None:
            on_unit(kind, unit)

        receive_units(transceiver.receiver, CLOCK, take)
    return await peer.offer()


@contextlib.asynccontextmanager
async def watching(viewer: User, room: str, query: str = "") -> AsyncIterator[Watching]:
    """A WHEP viewer, up, until the end of the block; says goodbye then."""
    peer = new_peer(loopback=True)
    feed = Feed(CLOCK)
    decoder = DecoderThread("h264", feed, CLOCK)
    seen: Watching | None = None

    def take(kind: str, unit: AccessUnit) -> None:
        assert seen is not None
        seen.units[kind] += 1
        if kind == "video":
            seen.stamps.append(unit.timestamp)
            decoder.submit(unit.data, unit.timestamp / 90_000, unit.last_arrived, unit.size, unit.keyframe)

    async def read(seen: Watching) -> None:
        while (record := await feed.get()) is not None:
            if isinstance(record, FrameRecord):
                seen.pictures.append(record)
            elif isinstance(record, Undecodable):
                seen.undecodable.append(record)

    try:
        sdp = await offer(peer, take)
        reply = await viewer.call("POST", f"/rooms/{room}/whep{query}", data=sdp, headers=SDP)
        assert reply.status == 201, reply
        seen = Watching(reply, peer)
        peer.on_link = seen.links.append
        await peer.accept(reply.text)
        assert await peer.up() is Link.UP
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(seen))
            yield seen
            reading.cancel()
        await goodbye(viewer, reply.headers["Location"])
    finally:
        decoder.close()
        await peer.close()
