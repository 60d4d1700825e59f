"""RTMP, HTTP-FLV and WebSocket-FLV servers of our own on port 0, and what may be wrong with them.

`guests` listens and hands every connection to a behaviour: an async function of a Guest, which has the serving session of wire/
and the sockets. What a behaviour raises because its guest is gone is nobody's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from probe.media.encode import aac_config
from probe.media.source import AudioSource, ProgrammeIds, VideoSource
from probe.wire.flv import flv_header, flv_tag
from probe.wire.flv_tags import Tag, TagMaker, metadata_tag
from probe.wire.rtmp_peer import Media
from probe.wire.rtmp_server import Asked, Event, Left, Server
from tests.drivers.hls_origin import FPS, clip
from tests.drivers.rtc_session import RUN, TRACE

Behaviour = Callable[["Guest"], Awaitable[None]]
HOUR_MS = 3_600_000


@dataclass
class Guest:
    """One connection. `tags` are what a publisher sent."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: Server = field(default_factory=lambda: Server(os.urandom(1528)))
    asked: list[Asked] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    left: bool = False

    async def events(self) -> list[Event]:
        """What one read came to, answered as far as the session answers by itself."""
        data = await self.reader.read(65536)
        if not data:
            raise ConnectionResetError
        events = list(self.session.feed(data))
        for event in events:
            match event:
                case Asked():
                    self.asked.append(event)
                case Media(tag):
                    self.tags.append(tag)
                case Left():
                    self.left = True
                case _:
                    pass
        return events

    async def until(self, what: str) -> None:
        """Read until the client asks for `what`."""
        while not self.asked or self.asked[-1].what != what:
            await self.events()
            if self.asked and self.asked[-1].what == what:
                return
            self.flush()

    async def accept(self, *whats: str) -> None:
        """Grant each of `whats` in turn."""
        for what in whats:
            await self.until(what)
            self.session.accept()
            self.flush()

    async def refuse(self, what: str, code: str, description: str = "") -> None:
        await self.until(what)
        self.session.reject(code, description)
        self.flush()
        await self.writer.drain()
        self.writer.close()

    def send(self, *tags: Tag) -> None:
        for tag in tags:
            self.session.put(tag)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.session.take())

    async def listen(self) -> None:
        """Read on until the client is gone."""
        while True:
            await self.events()
            self.flush()


@dataclass
class Platform:
    port: int
    secure: bool
    guests: list[Guest] = field(default_factory=list)

    def url(self, path: str = "live/room", host: str = "127.0.0.1") -> str:
        return f"{'rtmps' if self.secure else 'rtmp'}://{host}:{self.port}/{path}"


@contextlib.asynccontextmanager
async def guests(behaviour: Behaviour, tls: ssl.SSLContext | None = None, limit: int = 1 << 16) -> AsyncIterator[Platform]:
    platform = Platform(0, tls is not None)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        guest = Guest(reader, writer)
        platform.guests.append(guest)
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await behaviour(guest)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=limit)
    platform.port = server.sockets[0].getsockname()[1]
    try:
        yield platform
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=0.3)  # what guests said last is heard
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for guest in platform.guests:
            with contextlib.suppress(AttributeError):  # closed already
                guest.writer.transport.abort()
        await server.wait_closed()


async def hang(guest: Guest) -> None:
    """Take whatever comes, say nothing."""
    while await guest.reader.read(65536):
        pass


def tags(count: int, start: int = 0, *, sound: bool = False) -> Iterator[Tag]:
    """The clip's first pictures, 20 a second from `start` ms on, a keyframe every half second; with silence beside them."""
    maker, config = TagMaker(), aac_config(1)
    for n in range(count):
        data, keyframe = clip().units[n]
        yield from maker.video(data, start + n * 1000 // FPS, keyframe)
        if sound:
            yield from maker.aac(b"\x01\x18\x20\x07", start + n * 1000 // FPS, config)


def marked(seconds: int) -> list[Tag]:
    """The programme of a publisher, with its sound."""
    ids = ProgrammeIds(RUN, TRACE)
    video, audio, maker, config = (
        VideoSource("portrait30", ids, 300_000),
        AudioSource(0, 1, 64_000, "aac"),
        TagMaker(),
        aac_config(1),
    )
    found: list[Tag] = []
    for slot in range(seconds * 30):
        data, keyframe = video.make(slot, slot * 33_333_333, keyframe=slot % 30 == 0)
        found += maker.video(data, slot * 100 // 3, keyframe)
    for number in range(1, seconds * 48_000 // 1024):
        frame, pts = audio.make(number)
        found += maker.aac(frame, max(0, pts * 1000 // 48_000), config)
    return sorted(found, key=lambda tag: tag.timestamp)


async def show(guest: Guest, what: list[Tag], pace: float = 0.01) -> None:
    """Tags one after another, a timestamp's worth every `pace` seconds."""
    last = -1
    for tag in what:
        if tag.timestamp != last:
            await asyncio.sleep(pace)
            last = tag.timestamp
        guest.send(tag)
        await guest.writer.drain()


def player(*what: Tag, then: Behaviour = hang, pace: float = 0.01) -> Behaviour:
    """Plays `what` to whoever comes, then goes on to `then`."""

    async def behaviour(guest: Guest) -> None:
        await guest.accept("connect", "play")
        guest.send(metadata_tag({"width": 320.0}))
        await show(guest, list(what), pace)
        await then(guest)

    return behaviour


def flv(*what: Tag) -> bytes:
    return flv_header() + b"".join(flv_tag(tag) for tag in what)
