"""RTMP in: rtmp://…/live/{room}?token=…, or /live and the stream key {room}?token=…, as encoders ask for it.

The room's owner publishes; a new publisher, by WHIP or by RTMP, takes the old one's place. H.264 goes on as it came, AAC
too where it is AAC-LC at 48 kHz. RTMP tells times in whole milliseconds: sound is put back to its samples' own times where
it is told within ten. A publisher cannot be asked for a keyframe, so new viewers wait for the next one. Not spoken: RTMPS,
playing, B frames (WebRTC viewers could not be shown them; such a publisher is told so and let go).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from urllib.parse import parse_qs

from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.sandbox.context import MAX_SESSIONS, Platform, Room
from probe.sandbox.sound import track
from probe.sandbox.telemetry import Span, log
from probe.sandbox.tokens import BadToken
from probe.sandbox.unit import RATES, Unit
from probe.wire.amf import Broken
from probe.wire.flv_tags import AUDIO, Tag, TagReader
from probe.wire.fmp4 import AudioTrack
from probe.wire.packet import EncodedPacket
from probe.wire.rtmp_peer import Media
from probe.wire.rtmp_server import Asked, Left, Server

APP = "live"
BEGUN_WITHIN = 10.0  # seconds from the connection to publishing
SILENT = 15.0  # seconds without a byte that end a connection
AT_ONCE = 64 * 1024
NEAR = RATES["audio"] // 100
JUMP_BACK, JUMP_AHEAD = 1.0, 10.0  # seconds; nearer a time that goes back is one of B frames
SOUND_WITHIN = RATES["video"] // 2  # of pictures that are held back until sound is told of
HELD = 64  # pictures
FRAME = 1024  # samples
MAX_CONNECTIONS = 2 * MAX_SESSIONS


class Denied(Exception):
    """A publisher that may not: code and description of its status."""

    def __init__(self, code: str, description: str) -> None:
        self.code, self.description = code, description
        super().__init__(description)


class Publisher:
    """Who is on air."""

    role = "publisher"
    protocol = "rtmp"

    def __init__(self, platform: Platform, room: Room, writer: asyncio.StreamWriter, span: Span) -> None:
        self.id = secrets.token_urlsafe(9)
        self.state = "up"
        self.sound: AudioTrack | None = None
        self._platform = platform
        self._room = room
        self._writer = writer
        self._span: Span | None = platform.telemetry.span("rtmp", "rtmp first keyframe", parent=span)
        self._reader = TagReader()
        self._source = self.id
        self._changes = 0
        self._told: dict[str, float] = {}  # the last time told, in seconds, by kind
        self._config = b""
        self._heard: float | None = None  # where the last frame of sound ended, in samples at 48 kHz
        self._shown = -1
        self._held: list[Unit] | None = []  # the first pictures, until it is known whether there is sound

    def request_keyframe(self) -> None:
        """RTMP has no word for it."""

    def take(self, tag: Tag) -> None:
        """One tag. Raises Broken, Unsupported, Denied."""
        if tag.kind == AUDIO and len(tag.payload) > 3 and tag.payload[0] >> 4 == 10 and tag.payload[1] == 0:
            self._configure(tag.payload[2:66])
        packet = self._reader.read(tag)
        if packet is not None and self.state == "up":
            self._pass(packet)

    async def close(self) -> None:
        if self.state == "closed":
            return
        self.state = "closed"
        self._room.live.leave(self)
        if self._span is not None:
            self._span.end(error=True)
        self._writer.close()

    def _configure(self, config: bytes) -> None:
        """Sound is told of. Another sound than before, or sound after pictures, is another source to viewers."""
        if config == self._config:
            return
        if self._config or self._held is None:
            self._begin_anew()
        self._config, self._heard = config, None
        self.sound = track("aac", config)
        self._let_go()

    def _begin_anew(self) -> None:
        """What comes now has nothing to do with what came: to viewers it is another source."""
        self._changes += 1
        self._source = f"{self.id}/{self._changes}"
        self._shown, self._heard = -1, None
        self._told.clear()

    def _let_go(self) -> None:
        held, self._held = self._held or [], None
        for unit in held:
            self._room.live.put(unit)

    def _pass(self, packet: EncodedPacket) -> None:
        now = self._platform.clock.now()
        if packet.codec not in ("h264", "aac") or packet.pts is None:
            raise Unsupported(f"{packet.codec} by RTMP")
        before = self._told.get(packet.kind, packet.pts)
        if not -JUMP_BACK < packet.pts - before < JUMP_AHEAD:
            self._begin_anew()
        self._told[packet.kind] = packet.pts
        if packet.kind == "audio":
            pts = self._heard_at(packet.pts, packet.rate or RATES["audio"])
            unit = Unit(self._source, "audio", packet.data, pts, True, now, "aac", self._config, synced=True)
            return self._room.live.put(unit)
        pts = round(packet.pts * RATES["video"])
        if pts < self._shown:
            raise Denied("NetStream.Publish.Rejected", "B frames are not supported")
        self._shown = pts
        if packet.keyframe and self._span is not None:
            self._span.end()
            self._span = None
        unit = Unit(self._source, "video", packet.data, pts, packet.keyframe, now, synced=True)
        if self._held is None:
            return self._room.live.put(unit)
        self._held.append(unit)
        told = self._reader.metadata
        long = pts - self._held[0].pts > SOUND_WITHIN or len(self._held) >= HELD  # time may stand still
        if long or (told and "audiocodecid" not in told):
            self._let_go()
        return None

    def _heard_at(self, seconds: float, rate: int) -> int:
        told = seconds * RATES["audio"]
        if self._heard is None or abs(told - self._heard) > NEAR:
            self._heard = told
        began, self._heard = self._heard, self._heard + FRAME * RATES["audio"] / rate
        return round(began)


class Ingest:
    """The port. `connected` takes each connection."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._writers: set[asyncio.StreamWriter] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._writers.add(writer)
        self._platform.spawn(self._serve(reader, writer), "an RTMP connection")

    def close(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._platform, writer)
        try:
            await connection.run(reader)
        except (Failure, Unsupported, Broken) as error:
            log(f"an RTMP connection is closed: {type(error).__name__}", service="rtmp")
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._writers.discard(writer)
            await connection.close()
            writer.close()


class _Connection:
    """One publisher's, from the handshake to its end."""

    def __init__(self, platform: Platform, writer: asyncio.StreamWriter) -> None:
        self._platform = platform
        self._writer = writer
        self._server = Server(os.urandom(1528))
        self._publisher: Publisher | None = None
        self._began = platform.clock.now()
        self._span = platform.telemetry.span("rtmp", "rtmp publish", server=True)
        self._ending: asyncio.TimerHandle | None = None

    async def run(self, reader: asyncio.StreamReader) -> None:
        faults = self._platform.faults
        while True:
            waits = SILENT
            if self._publisher is None:
                waits = BEGUN_WITHIN - (self._platform.clock.now() - self._began) / NS
            if waits <= 0:
                return
            async with asyncio.timeout(waits):  # wait_for loses a cancellation that comes with the bytes
                data = await reader.read(AT_ONCE)
            if not data:
                return
            if faults.hit("rtmp_hangs", at="handshake"):
                await self._platform.stopping.wait()
            alive = True
            for event in self._server.feed(data):
                match event:
                    case Asked():
                        alive = await self._asked(event) and alive
                    case Media() if self._publisher is not None and alive:
                        alive = self._media(event.tag)
                    case Left():
                        alive = False
                    case _:
                        pass
            self._writer.write(self._server.take())
            async with asyncio.timeout(SILENT):
                await self._writer.drain()
            if not alive:
                return

    async def close(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        if self._publisher is not None:
            await self._publisher.close()
        self._span.end(error=self._publisher is None)

    async def _asked(self, asked: Asked) -> bool:
        """Grant or refuse; False to close the connection."""
        faults = self._platform.faults
        room = asked.name.partition("?")[0]
        if faults.hit("rtmp_hangs", at=asked.what, room=room or None):
            self._writer.write(self._server.take())  # what was answered before
            await self._platform.stopping.wait()
        if faults.hit("rtmp_refuses", at=asked.what, room=room or None):
            code = "NetConnection.Connect.Rejected" if asked.what == "connect" else "NetStream.Publish.BadName"
            self._server.reject(code, "Refused on purpose.")
            return False
        try:
            if asked.what == "connect":
                if asked.app.partition("?")[0].strip("/") != APP:
                    raise Denied("NetConnection.Connect.InvalidApp", "There is no such application.")
            elif asked.what == "publish":
                await self._publish(asked)
            else:
                raise Denied("NetStream.Play.StreamNotFound", "Nothing is played here.")
        except Denied as denied:
            self._server.reject(denied.code, denied.description)
            return False
        self._server.accept()
        return True

    async def _publish(self, asked: Asked) -> None:
        name, _, query = asked.name.partition("?")
        token = (parse_qs(query).get("token") or parse_qs(asked.app.partition("?")[2]).get("token") or [""])[0]
        try:
            user = self._platform.user_of(token)
        except BadToken as error:
            raise Denied("NetStream.Publish.Denied", f"Authentication failed: token {error.reason}.") from None
        room = self._platform.rooms.get(name)
        if room is None:
            raise Denied("NetStream.Publish.BadName", "There is no such room.")
        if room.owner != user:
            raise Denied("NetStream.Publish.Denied", "Access denied: not your room.")
        if self._publisher is not None or self._platform.sessions() >= MAX_SESSIONS:
            raise Denied("NetStream.Publish.BadName", "Too many streams.")
        self._publisher = Publisher(self._platform, room, self._writer, self._span)
        await room.live.publish(self._publisher)
        if fault := self._platform.faults.hit("rtmp_ends", room=room.id):
            self._ending = asyncio.get_running_loop().call_later(fault["seconds"], self._writer.close)

    def _media(self, tag: Tag) -> bool:
        assert self._publisher is not None
        try:
            self._publisher.take(tag)
        except Denied as denied:
            self._server.reject(denied.code, denied.description)
            return False
        return True
