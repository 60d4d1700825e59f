"""What a viewer of segments sees: pieces demuxed, placed on the player's clock, decoded ahead and shown when they are due.

Packets are handed to their decoder some at a time, a little before their pictures' instants, and an encoder's B frames as much
earlier as they need. What comes of them is told as a viewer sees it: at each picture's instant on the player's clock
(hls_shown.py). The first picture is due at once. What lies before the place where play begins (`Piece.lead`) is decoded and not
shown, as a player that seeks there does it.

Sound of its own rendition lies on the picture's clock, as RFC 8216 §6.2.4 has it; around a discontinuity it follows the
picture's offset as it is when it comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from probe.drivers.base import SessionIO
from probe.drivers.hls_shown import Shown
from probe.drivers.hls_source import Piece
from probe.errors import Failure, Unsupported
from probe.media.decoder import DecoderThread, Unit
from probe.media.demux import Demuxer
from probe.model.clock import MS, NS
from probe.model.observation import UNHEARD, Freeze, Switched
from probe.model.stage import Phase
from probe.wire.packet import EncodedPacket
from probe.wire.player import Player
from probe.wire.playlist_values import LONGEST

AHEAD = 500 * MS  # how much before its instant a packet is decoded at least: longer than a busy machine makes us wait
# What is due so soon after it goes along, and then nothing until the next is due: decoding a few pictures at a time costs a
# third more than a second of them.
TOGETHER = 1000 * MS
# What was shown meanwhile is told, each with its own instant: a timer for each picture costs more than telling it. For all who
# watch at the same instants: they wake the loop once.
EVERY = 100 * MS
_EARLY = 5 * MS  # by which a timer may come before its instant: it is not to come twice
_MAX_SECONDS = 30.0  # hls.js: maxBufferLength
_MAX_BYTES = 32 << 20
_MAX_UNITS = 20_000
_FRAME = 1 / 30  # seconds, where a stream tells nothing of how long its pictures last
_LATEST = 1e10  # seconds: beyond it a double no longer tells microseconds
HEARD = ("aac", "opus", "mp3")


@dataclass(slots=True)
class _Unit:
    """A packet on the player's own timeline: handed over at `at`, shown at `due` (ns)."""

    packet: EncodedPacket
    at: int
    due: int
    arrived: int
    rendition: str = ""


class Screen:
    """One viewer's. `take` segments in order; `present` runs beside it. `ending` set: what is there is played out, then
    the feed is closed with it. `rendition`: of pieces that do not name theirs."""

    def __init__(self, io: SessionIO) -> None:
        self.player = Player()
        self.rendition = ""
        self.ending: Failure | None = None
        self._bytes = 0  # of what waits to be decoded
        self._holes = 0
        self._io = io
        self._demuxer = Demuxer()
        self._sound_demuxer = Demuxer(self._demuxer)
        self._units: deque[_Unit] = deque()
        self._sounds: deque[_Unit] = deque()  # of a rendition of its own
        self._offset: int | None = None
        self._taken = self._on_screen = ""  # renditions: of the last piece taken, of the last picture handed over
        self._shown, self._heard = Shown(io.feed, io.clock), Shown(io.feed, io.clock)
        self._switches: deque[Switched] = deque()  # not on screen yet
        self._handed = 0  # until this instant there is something to show
        self._told = 0  # when that was last told
        self._more = asyncio.Event()
        self._video: DecoderThread | None = None
        self._audio: DecoderThread | None = None
        self._audio_kind: tuple[str, bytes] | None = None

    @property
    def level(self) -> float:
        """Seconds of media not shown yet."""
        return self.player.level(self._io.clock.now())

    @property
    def full(self) -> bool:
        """As much waits as a player keeps; by bytes and packets too, for a stream may lie about its time."""
        return self.level >= _MAX_SECONDS or self._bytes >= _MAX_BYTES or len(self._units) >= _MAX_UNITS

    @property
    def standing(self) -> bool:
        """The buffer is dry and the picture stands."""
        return self.player.standing(self._io.clock.now()) is not None

    @property
    def sound_full(self) -> bool:
        """As much sound of its own rendition waits as a player keeps."""
        ahead = self.player.due(self._sounds[-1].due) - self._io.clock.now() if self._sounds and self.player.started else 0
        return len(self._sounds) >= _MAX_UNITS or ahead >= _MAX_SECONDS * NS

    @property
    def live_latency(self) -> float | None:
        """Seconds from the wall clock the platform puts on what is on screen to ours; None where it says none."""
        now = self._io.clock.now()
        wall = self.player.wall(now)
        return None if wall is None else (self._io.clock.wall(now).unix_ns - wall) / NS

    async def take(self, piece: Piece, duration: float, anew: bool, jumped: bool = False) -> None:
        """A segment or part of `duration` seconds by its playlist; `jumped`: we left out what was before it. Raises
        Failure(segment or part | keyframe), Unsupported."""
        rendition = piece.rendition or self.rendition
        packets = await self._demuxed(self._demuxer, piece)
        sound = [p for p in packets if p.kind == "audio" and p.codec in HEARD and p.pts is not None]
        if not sound:
            self._unheard(packets)
        if piece.phase is Phase.PART and self._offset is not None and sound and len(sound) == len(packets):
            self._queue(self._units, _sounds(sound, self._offset, piece.arrived))
            return
        with _named(piece.phase):
            fresh = anew or self._offset is None or rendition != self._taken
            video, begin, end = _pictures(packets, duration, fresh)
        if self._video is None:
            self._video = DecoderThread("h264", self._shown, self._io.clock)
            self._io.facts["codec"] = "h264"
            self._io.facts["size"] = f"{video[0].width}x{video[0].height}"
        lead = 0.0
        if self._offset is None and piece.lead:
            lead = piece.lead - (begin - min(p.pts for p in packets if p.kind == "video" and p.pts is not None))
            self._shown.until = begin + lead - (end - begin) / len(video) if lead > 0 else None
        placed = self.player.append(begin, end, self._io.clock.now(), anew=anew, lead=max(0.0, lead), wall=piece.wall)
        if placed.rebuffer is not None:
            self._io.emit(Freeze(began=placed.rebuffer.began, took=placed.rebuffer.took, rule="rebuffer"))
        self._holes += bool(placed.hole)
        self._offset, self._taken = placed.offset, rendition
        if jumped and self.player.started:
            self._shown.jumped(self.player.due(round(begin * NS) + placed.offset))
        units = _timed(video, placed.offset, piece.arrived, rendition) + _sounds(sound, placed.offset, piece.arrived)
        units.sort(key=lambda unit: unit.at)
        self._queue(self._units, units)

    async def take_sound(self, piece: Piece) -> None:
        """A piece of the sound's own rendition. Raises Failure(segment or part); Unsupported for what we cannot hear."""
        packets = await self._demuxed(self._sound_demuxer, piece)
        sound = [p for p in packets if p.kind == "audio" and p.codec in HEARD and p.pts is not None]
        if not sound:
            self._io.facts[UNHEARD] = packets[0].codec
            raise Unsupported(f"{packets[0].codec} where sound was to be")
        if self._offset is not None:
            self._queue(self._sounds, _sounds(sound, self._offset, piece.arrived))

    async def present(self) -> None:
        """Hand packets over and tell of pictures as they fall due, until everything was shown and `ending` is set."""
        while True:
            while self.player.started and (at := self._next_at()) is not None:
                await self._until(at)
                if self._low(at + EVERY):
                    self._hand_over()
                self._tell()
            if self.ending is not None:
                if self.player.started:
                    await self._until(self.player.dry_at())
                    self._tell()
                if not self._units or not self.player.started:
                    self._io.feed.close(self.ending)
                    return
                continue
            self._more.clear()
            await self._more.wait()

    def end(self, failure: Failure) -> None:
        """No more will come, and why."""
        self.ending = self.ending or failure
        self._more.set()

    def close(self) -> None:
        """Stop decoding; tell what was seen, and what the buffer went through."""
        self._tell()
        for decoder in (self._video, self._audio):
            if decoder is not None:
                decoder.close()
        self._units.clear()
        self._sounds.clear()
        now = self._io.clock.now()
        standing = self.player.standing(now)
        if standing is not None and self.ending is None:
            self._io.emit(Freeze(began=standing.began, took=standing.took, rule="rebuffer"))
        if self._holes:
            self._io.facts["holes_closed_up"] = str(self._holes)
        if self.player.began is not None:
            self._io.facts["startup"] = f"{(self.player.began - self._io.stages.intent) / NS:.3f} s"
        ratio = self.player.ratio(now)
        if ratio is not None:
            self._io.facts["rebuffers"] = str(self.player.rebuffers + (standing is not None and self.ending is None))
            self._io.facts["rebuffer_ratio"] = f"{ratio:.4f}"

    def _unheard(self, packets: Sequence[EncodedPacket]) -> None:
        """Sound beside the pictures that we cannot hear is told, once."""
        codec = next((p.codec for p in packets if p.kind == "audio" and p.codec not in HEARD), None)
        if codec is not None and UNHEARD not in self._io.facts:
            self._io.facts[UNHEARD] = codec
            self._io.note(f"the sound is not listened to: {codec}")

    def _next_at(self) -> int | None:
        """The instant at which there is something to do; None while nothing waits."""
        instants = [self.player.due(queue[0].at) - AHEAD for queue in (self._units, self._sounds) if queue]
        if self._handed > self._told or self._shown.holding or self._heard.holding:
            instants.append(self._told + EVERY)
        return (min(instants) + _EARLY) // EVERY * EVERY if instants else None

    def _low(self, by: int) -> bool:
        """Whether the next packet has to be with its decoder by then."""
        return any(self.player.due(queue[0].at) - AHEAD <= by for queue in (self._units, self._sounds) if queue)

    def _tell(self) -> None:
        """Of what is on screen by now."""
        self._told = now = self._io.clock.now()
        while self._switches and self._switches[0].at <= now:
            self._io.emit(self._switches.popleft())
        self._shown.release(now)
        self._heard.release(now)

    def _queue(self, queue: deque[_Unit], units: Sequence[_Unit]) -> None:
        queue.extend(units)
        self._bytes += sum(len(unit.packet.data) for unit in units)
        if self.player.started and self._low(self._io.clock.now()):
            self._hand_over()
        self._more.set()

    async def _demuxed(self, demuxer: Demuxer, piece: Piece) -> list[EncodedPacket]:
        with _named(piece.phase):
            return await demuxer.feed_async(piece.init, piece.data)

    def _hand_over(self) -> None:
        if not self.player.started:
            return
        now, zero = self._io.clock.now(), self.player.due(0)
        limit = now + AHEAD + TOGETHER - zero
        handed: dict[DecoderThread, list[Unit]] = {}
        for queue in (self._units, self._sounds):
            while queue and queue[0].at <= limit:
                unit = queue.popleft()
                packet, due = unit.packet, unit.due + zero
                self._bytes -= len(packet.data)
                if due > self._handed:
                    self._handed = due
                decoder = self._eye(unit, due) if packet.kind == "video" else self._ear(packet)
                if decoder is not None:
                    keyframe = packet.keyframe or packet.kind == "audio"
                    handed.setdefault(decoder, []).append(
                        Unit(packet.data, packet.pts, unit.arrived, packet.size, keyframe, due, unit.rendition, now)
                    )
        for decoder, units in handed.items():
            decoder.submit_all(units)

    def _eye(self, unit: _Unit, due: int) -> DecoderThread | None:
        """The decoder for this picture; a rendition that it goes over to is on screen from `due` on."""
        if unit.rendition != self._on_screen:
            if self._on_screen:
                self._switches.append(Switched(at=due, before=self._on_screen, after=unit.rendition))
            self._on_screen = unit.rendition
        return self._video

    def _ear(self, packet: EncodedPacket) -> DecoderThread | None:
        """The decoder for this sound; a new one where its kind changed."""
        kind = (packet.codec, packet.extradata)
        if self._audio_kind != kind:
            if self._audio is not None:
                self._audio.close()
            self._audio_kind, self._audio = kind, None
            try:
                self._audio = DecoderThread(
                    packet.codec,
                    self._heard,
                    self._io.clock,
                    packet.extradata or None,
                    sample_rate=packet.rate or 48_000,
                    channels=packet.channels or 2,
                )
            except Unsupported as unsupported:  # the picture is what we came for
                self._io.facts[UNHEARD] = packet.codec
                self._io.note(f"the sound is not listened to: {unsupported}")
            self._io.facts["audio"] = packet.codec
        return self._audio

    async def _until(self, at: int) -> None:
        await asyncio.sleep(max(0, at - self._io.clock.now()) / NS)


@contextmanager
def _named(phase: Phase) -> Iterator[None]:
    """What is wrong with a segment is wrong with the part that it is."""
    try:
        yield
    except Failure as failure:
        if phase is not Phase.PART or failure.phase is not Phase.SEGMENT:
            raise
        raise Failure(phase, failure.reason, failure.outcome.detail) from failure


def _pictures(packets: Sequence[EncodedPacket], duration: float, from_keyframe: bool) -> tuple[list[EncodedPacket], float, float]:
    """The segment's pictures in decoding order, and the stretch of the stream's clock they cover, in seconds."""
    video = [p for p in packets if p.kind == "video" and p.pts is not None]
    if not video:
        raise Failure(Phase.SEGMENT, "empty", "a segment without a picture")
    if video[0].codec != "h264":
        raise Unsupported(f"{video[0].codec} in the segments")
    if from_keyframe:
        first = next((n for n, p in enumerate(video) if p.keyframe), None)
        if first is None:
            raise Failure(Phase.KEYFRAME, "none", f"{len(video)} pictures of a segment, no keyframe")
        key = video[first].pts or 0.0
        video = [p for p in video[first:] if (p.pts or 0.0) >= key]  # those before it lean on what we never had
    times = sorted(p.pts or 0.0 for p in video)
    spacing = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else duration or _FRAME
    end = times[-1] + (video[-1].duration or spacing or _FRAME)
    if not times[0] < end <= times[0] + LONGEST or abs(times[0]) > _LATEST:
        raise Failure(Phase.SEGMENT, "malformed", f"its pictures lie from {times[0]:g} s to {end:g} s")
    return video, times[0], end


def _sounds(packets: Sequence[EncodedPacket], offset: int, arrived: int) -> list[_Unit]:
    due = ((p, round((p.pts or 0.0) * NS) + offset) for p in packets)
    return [_Unit(p, at, at, arrived) for p, at in due if at >= 0]


def _timed(video: Sequence[EncodedPacket], offset: int, arrived: int, rendition: str) -> list[_Unit]:
    """When each picture is shown, and when its packet must be with the decoder: a stream that reorders by n pictures has its
    packets n pictures earlier."""
    due = [round((p.pts or 0.0) * NS) + offset for p in video]
    shown = sorted(due)
    place = {at: n for n, at in enumerate(shown)}
    depth = max(n - place[at] for n, at in enumerate(due))
    return [_Unit(p, shown[max(0, n - depth)], at, arrived, rendition) for n, (p, at) in enumerate(zip(video, due, strict=True))]
