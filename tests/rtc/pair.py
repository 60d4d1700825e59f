"""Two peers of ours, connected over loopback: one sends pictures of H.264's shape, the other receives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction

from aiortc import RTCSessionDescription

from probe.clock import SystemClock
from probe.rtc.assembly import AccessUnit
from probe.rtc.peer import Link, Peer, new_peer, prefer
from probe.rtc.receiver import UnitReceiver, ours, receive_units
from probe.rtc.sender import UnitSender, UnitTrack
from probe.rtc.sender import ours as our_sender
from tests.tools import wait_until

CLOCK = SystemClock()


def picture(number: int, keyframe: bool) -> bytes:
    """Annex B of a picture's shape (no decoder would take it): parameter sets and IDR, or a slice that refers back."""
    body = bytes([0x88]) + number.to_bytes(4, "big").replace(b"\0", b"\xff") + b"\xaa" * (9000 if keyframe else 3000)
    head = b"\0\0\0\1\x67\x42\xc0\x1e\xda\0\0\0\1\x68\xce\x3c\x80" if keyframe else b""
    return head + b"\0\0\0\1" + (b"\x65" if keyframe else b"\x41") + body


@dataclass
class Pair:
    server: Peer
    client: Peer
    track: UnitTrack
    sender: UnitSender
    receiver: UnitReceiver
    units: list[AccessUnit] = field(default_factory=list)
    first_packets: list[int] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    sent: int = 0

    async def connect(self) -> None:
        await self.server.setRemoteDescription(RTCSessionDescription(sdp=await self.client.offer(), type="offer"))
        await self.server.setLocalDescription(await self.server.createAnswer())
        await self.client.accept(self.server.localDescription.sdp)
        async with asyncio.timeout(5):
            assert await self.client.up() is Link.UP and await self.server.up() is Link.UP
        await wait_until(lambda: self.track.reading, what="the sender's reading")

    async def send(self, count: int, pause: float = 0.005, every: int = 30) -> None:
        """`count` more pictures, a keyframe each `every`."""
        for _ in range(count):
            keyframe = self.sent % every == 0
            data = picture(self.sent, keyframe)
            self.track.push(data, self.sent * 3000, Fraction(1, 90_000), keyframe)
            self.sent += 1
            await asyncio.sleep(pause)

    def lose(self, lost: Callable[[bytes], bool]) -> None:
        """Drop media packets on their way in where `lost` (of the encrypted packet) says so."""
        agent = self.receiver._secure.agent
        media = agent.media
        assert media is not None
        agent.media = lambda data: lost(data) or media(data)


@contextlib.asynccontextmanager
async def pair(connect: bool = True) -> AsyncIterator[Pair]:
    server, client = new_peer(loopback=True), new_peer(loopback=True)
    try:
        track = UnitTrack("video")
        sender = our_sender(server.addTrack(track))
        prefer(server.getTransceivers()[0], "h264")
        video = client.addTransceiver("video", direction="recvonly")
        prefer(video, "h264", "vp8")
        two = Pair(server, client, track, sender, ours(video.receiver))
        receive_units(video.receiver, CLOCK, two.units.append, two.first_packets.append)
        client.on_link = two.links.append
        if connect:
            await two.connect()
        yield two
    finally:
        await client.close()
        await server.close()
