"""A WHEP viewer (draft-ietf-wish-whep): everything that comes is decoded and goes into the feed.

Stages after the transport is up: first_packet until the first RTP packet of video, keyframe until the last packet of
the first whole keyframe has arrived, then probe: what decoding and reading take is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from probe.drivers.base import SessionIO, Spec
from probe.drivers.ice import peer_for
from probe.drivers.webrtc import connected
from probe.media.decoder import DecoderThread
from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.frames import Chirp, Record, Undecodable
from probe.model.stage import Stage
from probe.rtc.assembly import AccessUnit
from probe.rtc.peer import prefer
from probe.rtc.receiver import UnitReceiver, ours, receive_units

SOUNDS = {
    "opus": ("opus", 48_000, 2),
    "pcmu": ("pcm_mulaw", 8_000, 1),
    "pcma": ("pcm_alaw", 8_000, 1),
}  # FFmpeg's name, Hz, channels
VIDEO_RATE = 90_000


class WhepViewer:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        peer = peer_for(spec)
        video = peer.addTransceiver("video", direction="recvonly")
        prefer(video, "h264", "vp8")
        audio = peer.addTransceiver("audio", direction="recvonly")
        prefer(audio, *SOUNDS)  # as browsers do: a server may have no Opus, or put an empty G.711 track beside a silent picture
        player = _Player(io, ours(video.receiver))
        receive_units(video.receiver, io.clock, player.picture, player.first_packet)
        receive_units(audio.receiver, io.clock, player.sound)
        try:
            async with connected(peer, spec, io, sending=False) as accepted:
                player.decoder(accepted.codec)
                player.ready()
                yield
        finally:
            for kind, receiver in (("picture", video.receiver), ("sound", audio.receiver)):
                if told := _told(ours(receiver)):
                    io.facts[f"rtp {kind}"] = told
            player.close()
            io.feed.close()


def _told(receiver: UnitReceiver) -> str:
    """What came over RTP, in a line; empty where nothing did. Sound is not asked for again: what is lost of it stays lost."""
    counts = receiver.counts
    if not counts.packets:
        return ""
    names = (("lost", counts.lost), ("nacks", counts.nacks), ("plis", counts.plis))
    return ", ".join([f"{counts.packets} packets", *(f"{n} {name}" for name, n in names if n)])


class _Player:
    """Units into decoders, one per codec that comes."""

    def __init__(self, io: SessionIO, receiver: UnitReceiver) -> None:
        self._io = io
        self._receiver = receiver
        self._tap = _Tap(io.feed, io.clock, receiver.ask_keyframe)
        self._decoders: dict[str, DecoderThread] = {}
        self._heard = False
        self._begun = False
        self._closed = False

    def decoder(self, codec: str) -> DecoderThread:
        """The codec's decoder; made before the first unit where the answer says which, so that no frame waits for it."""
        if codec not in self._decoders:
            name, rate, channels = SOUNDS.get(codec, (codec, 48_000, 2))
            self._decoders[codec] = DecoderThread(name, self._tap, self._io.clock, sample_rate=rate, channels=channels)
        return self._decoders[codec]

    def ready(self) -> None:
        """The transport is up: we wait for media, unless some came before we looked."""
        if not self._heard:
            self._io.stages.enter(Stage.FIRST_PACKET, self._io.clock.now())

    def first_packet(self, at: int) -> None:
        self._heard = True
        self._io.stages.enter(Stage.FIRST_PACKET, at)
        self._io.stages.enter(Stage.KEYFRAME, at)

    def picture(self, unit: AccessUnit) -> None:
        if self._closed:
            return
        if not self._begun:  # the receiver begins with a keyframe
            self._begun = True
            self._io.stages.enter(Stage.PROBE, unit.last_arrived)
        self._submit(unit, VIDEO_RATE)

    def sound(self, unit: AccessUnit) -> None:
        if not self._closed:
            self._submit(unit, SOUNDS[unit.codec][1] if unit.codec in SOUNDS else 48_000)

    def _submit(self, unit: AccessUnit, rate: int) -> None:
        self.decoder(unit.codec).submit(unit.data, unit.timestamp / rate, unit.last_arrived, unit.size, unit.keyframe)

    def close(self) -> None:
        self._closed = True
        for decoder in self._decoders.values():
            decoder.close()


class _Tap(Feed):
    """The feed as decoders see it: what they refuse is also told to the receiver, which asks for a keyframe. RTP's clocks of
    sound and picture have nothing in common (RFC 3550 section 5.1), so a sound mark has no place in the picture's stream."""

    def __init__(self, feed: Feed, clock: Clock, refused: Callable[[], None]) -> None:
        super().__init__(clock, 1)
        self._feed, self._refused = feed, refused
        self._home = asyncio.get_running_loop()

    def put(self, record: Record) -> None:
        self._feed.put(replace(record, media_time=None) if isinstance(record, Chirp) else record)
        if isinstance(record, Undecodable):
            try:
                self._home.call_soon_threadsafe(self._refused)
            except RuntimeError:  # the loop is closed: nobody to ask for
                pass

    def ring(self) -> None:
        self._feed.ring()
