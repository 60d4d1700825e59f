"""Clients of the ways in and out that are not WebRTC: an RTMP publisher, an FLV viewer, a reader of playlists."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import aiohttp
import av

from probe.errors import Failure
from probe.media.demux import Demuxer
from probe.media.inspect import Inspector
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.model.frames import Chirp, FrameCode, FrameRecord
from probe.wire.flv import FlvReader
from probe.wire.flv_tags import TagMaker
from probe.wire.packet import EncodedPacket
from probe.wire.rtmp import Client, Joined, Target
from probe.wire.rtmp_peer import Acknowledged
from tests.sandbox.clients import CLOCK, RUN, User
from tests.tools import wait_until


def first(pattern: str, text: str) -> str:
    """The first group of the first match. AssertionError where there is none."""
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return found[1]


@dataclass
class Rtmp:
    """A connection, and what came of it."""

    client: Client
    writer: asyncio.StreamWriter
    acknowledged: int = 0
    shift: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: Failure | None = None

    async def read(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(65536):
                for event in self.client.feed(data):
                    if isinstance(event, Joined):
                        self.joined.set()
                    elif isinstance(event, Acknowledged):
                        self.acknowledged = event.received
                self.writer.write(self.client.take())
        except Failure as failure:
            self.refusal = failure
        except ConnectionError:
            pass
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def rtmp(owner: User, key: str, app: str = "") -> AsyncIterator[Rtmp]:
    """A publisher's connection; `key`: room and query, below `app`."""
    target = Target.of(app or owner.sandbox.rtmp_url, key)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    one = Rtmp(Client(target, publish=True, random=os.urandom(1528)), writer)
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(one.read(reader))
            writer.write(one.client.take())
            yield one
            reading.cancel()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def on_rtmp(owner: User, room: str, *, publish: int = 0, audio: bool = True) -> AsyncIterator[Rtmp]:
    """A programme published by RTMP until the end of the block; its `shift` in ms may be set at any time."""
    async with rtmp(owner, f"{room}?token={owner.token}") as one:
        async with asyncio.timeout(5):
            await one.joined.wait()
        ids = ProgrammeIds(RUN, 7, publish)
        programme = Programme("360p30", clock=CLOCK, ids=ids, bitrate=400_000, audio=audio, audio_codec="aac")
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(programme, one))
            yield one
            sending.cancel()


async def _send(programme: Programme, one: Rtmp) -> None:
    maker = TagMaker()

    def tags(unit: EncodedUnit) -> list:
        ms = int(unit.pts * unit.time_base * 1000) + one.shift
        if unit.kind == "video":
            return maker.video(unit.data, ms, unit.keyframe)
        return maker.aac(unit.data, ms, programme.audio_config)

    async with programme:
        async for unit in programme.units():
            if unit.pts < 0 or one.ended.is_set():
                continue
            for tag in tags(unit):
                one.client.put(tag)
            one.writer.write(one.client.take())


@dataclass
class Seen:
    """Packets as they came, pictures decoded and read, chirps heard, in the stream's own seconds."""

    packets: list[EncodedPacket] = field(default_factory=list)
    pictures: list[FrameRecord] = field(default_factory=list)
    chirps: list[Chirp] = field(default_factory=list)
    _inspector: Inspector = field(default_factory=lambda: Inspector(CLOCK))
    _decoders: dict[str, Any] = field(default_factory=dict)

    def take(self, packet: EncodedPacket) -> None:
        self.packets.append(packet)
        decoder: Any = self._decoders.get(packet.kind)
        if decoder is None:
            decoder = self._decoders[packet.kind] = av.CodecContext.create(packet.codec, "r")
            if packet.extradata:
                decoder.extradata = packet.extradata
        with contextlib.suppress(av.FFmpegError):
            for frame in decoder.decode(av.Packet(packet.data)):
                if isinstance(frame, av.VideoFrame):
                    record = self._inspector.picture(frame, arrived=CLOCK.now(), size=0, keyframe=packet.keyframe,
                                                     media_time=packet.pts)  # fmt: skip
                    self.pictures.append(record)
                else:
                    self.chirps += self._inspector.sound(frame, shown=0, media_time=packet.pts)

    @property
    def ours(self) -> list[FrameRecord]:
        return [p for p in self.pictures if p.code is not None and p.code.run == RUN]

    @property
    def codes(self) -> list[FrameCode]:
        return codes(self.ours)

    @property
    def times(self) -> list[float]:
        """Of the pictures, as they came."""
        return [packet.pts for packet in self.packets if packet.kind == "video" and packet.pts is not None]

    def skews(self) -> list[float]:
        """How far each chirp is from its whole second of the pictures' stamps, in seconds."""
        picture = self.ours[0]
        assert picture.code is not None and picture.media_time is not None
        stamp = picture.code.stamp_ms / 1000 - picture.media_time
        return [(chirp.media_time + stamp + 0.5) % 1 - 0.5 for chirp in self.chirps if chirp.media_time is not None]


def codes(pictures: list[FrameRecord]) -> list[FrameCode]:
    return [picture.code for picture in pictures if picture.code is not None]


@contextlib.asynccontextmanager
async def flv(viewer: User, room: str, *, socket: bool = False) -> AsyncIterator[Seen]:
    """An HTTP-FLV viewer, or one over a WebSocket, until the end of the block."""
    seen, reader = Seen(), FlvReader()
    url, headers = f"{viewer.sandbox.url}/rooms/{room}/live.flv", {"Authorization": f"Bearer {viewer.token}"}

    async def chunks() -> AsyncGenerator[bytes, None]:
        if socket:
            async with viewer.http.ws_connect(url, headers=headers) as one:
                async for message in one:
                    yield message.data
        else:
            async with viewer.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as one:
                assert one.status == 200, one.status
                async for data in one.content.iter_any():
                    yield data

    async def read() -> None:
        async with contextlib.aclosing(chunks()) as stream:
            async for data in stream:
                for packet in reader.feed(data):
                    seen.take(packet)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        yield seen
        reading.cancel()


class Playlist:
    """A media playlist as text, and what stands in it."""

    def __init__(self, url: str, text: str) -> None:
        self.url, self.text = url, text

    def __getitem__(self, tag: str) -> str:
        found = re.search(rf"#EXT-X-{tag}:(.*)", self.text)
        assert found, (tag, self.text)
        return found[1]

    @property
    def sequence(self) -> int:
        return int(self["MEDIA-SEQUENCE"])

    @property
    def segments(self) -> list[str]:
        return [line for line in self.text.split("\n") if line and not line.startswith("#")]

    @property
    def next(self) -> tuple[int, int]:
        """(msn, part) of the part to come."""
        skipped = re.search(r"SKIPPED-SEGMENTS=(\d+)", self.text)
        msn = self.sequence + self.text.count("#EXTINF") + (int(skipped[1]) if skipped else 0)
        return msn, self.text.rpartition("#EXTINF")[2].count("#EXT-X-PART:")

    @property
    def hint(self) -> str:
        return first(r'URI="(.*?)"', self["PRELOAD-HINT"])

    def parts(self) -> dict[str, list[str]]:
        """Names of the parts of each whole segment that lists them."""
        found: dict[str, list[str]] = {}
        waiting: list[str] = []
        for line in self.text.split("\n"):
            if line.startswith("#EXT-X-PART:"):
                waiting.append(first(r'URI="(.*?)"', line))
            elif line and not line.startswith("#"):
                if waiting:
                    found[line] = waiting
                waiting = []
        return found


async def variants(viewer: User, room: str, folder: str = "ll") -> list[str]:
    """URLs of the media playlists, the source's first, once there are any."""
    found: list[str] = []

    async def there() -> bool:
        reply = await viewer.call("GET", f"/rooms/{room}/{folder}/index.m3u8")
        found[:] = [line for line in reply.text.splitlines() if line.startswith("http")]
        return reply.status == 200

    await wait_until(there, 10, "the first segment")
    return found


async def playlist(viewer: User, url: str) -> Playlist:
    reply = await viewer.call("GET", url)
    assert reply.status == 200, reply
    return Playlist(url, reply.text)


async def read(viewer: User, media: Playlist, names: list[str]) -> Seen:
    """Files of a playlist, decoded."""
    seen, demuxer = Seen(), Demuxer()
    init = (await viewer.call("GET", urljoin(media.url, first(r'MAP:URI="(.*?)"', media.text)))).body
    for name in names:
        reply = await viewer.call("GET", urljoin(media.url, name))
        assert reply.status == 200, (name, reply)
        for packet in demuxer.feed(init, reply.body):
            seen.take(packet)
    return seen
