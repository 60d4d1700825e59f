"""What a viewer of a continuous stream sees (RTMP, FLV, MPEG-TS, SRT): packets decoded as they come.

No buffer: a picture counts as shown when it is decoded, so that what the platform delayed is seen and nothing is added.
Stages: the driver enters FIRST_PACKET when it has asked for media; here the first packet opens KEYFRAME, and the first
keyframe's last byte opens PROBE. Pictures before it cannot be decoded and are not handed on.

`playing` is the whole life of such a viewer: it is entered with the first keyframe, so that what cannot be decoded is told by
raising, and reads on beside whoever is inside it.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TypeAlias

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure, Unsupported
from probe.media.decoder import DecoderThread
from probe.model.clock import NS
from probe.model.observation import UNHEARD
from probe.model.outcome import REASONS
from probe.model.stage import Phase, Stage
from probe.wire.packet import EncodedPacket

HEARD = ("aac", "opus", "mp3")
SEEN = ("h264", "vp8")
SOUND_ALONE = 3 * NS  # sound for so long and not one picture: there will be none
_SCOUT_SECONDS = 2.0
_SOUNDS = 32  # decoders of one session; a stream that wants more is playing with us
_NEAREST = {"closed": "ended", "timeout": "ended", "protocol": "malformed"}


@asynccontextmanager
async def playing(io: SessionIO, streamed: Streamed, packets: Packets) -> AsyncIterator[None]:
    """Decode `packets` (each with the arrival of its last byte) while the block lasts; entered with the first keyframe.

    `packets` never ends but by raising Failure or Unsupported: before that keyframe it comes out here, later it ends the feed."""
    try:
        while not streamed.begun:
            packet, arrived = await anext(packets)
            streamed.put(packet, arrived)

        async def rest() -> None:
            async for packet, arrived in packets:
                streamed.put(packet, arrived)

        async with alongside(io, rest()):
            yield
    finally:
        streamed.close()
        io.feed.close()


Packets: TypeAlias = AsyncIterator[tuple[EncodedPacket, int]]


class StreamViewer(ABC):
    """A SessionDriver of a stream that is decoded as it comes. A protocol says no more than where its packets come from."""

    @abstractmethod
    def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AbstractAsyncContextManager[Packets]:
        """Entered when media has been asked for. Raises Failure, Unsupported, and so do the packets."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … keyframe, auth), Unsupported."""
        streamed = Streamed(io)
        async with self.source(spec, io, streamed) as packets, playing(io, streamed, packets):
            yield

    async def scout(self, spec: Spec, io: SessionIO) -> bool:
        """Whether a first viewer could start: pictures come within two seconds. Raises Failure where the stream cannot be had."""
        try:
            async with asyncio.timeout(_SCOUT_SECONDS), self.source(spec, io, Streamed(io)) as packets:
                async for packet, _ in packets:
                    if packet.kind == "video":
                        return True
        except TimeoutError:
            return False
        except Unsupported:
            return True  # there is something, though not for us: the viewers will say so
        return False


async def unpacked(pieces: Pieces, take: Take, streamed: Streamed) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    """The packets that `take` finds in the pieces of a body, each with the arrival of the piece that completed it. Raises Failure
    of where the stream is, also when the body ends."""
    try:
        async with aclosing(pieces):
            async for data, arrived in pieces:
                for packet in take(data, arrived):
                    yield packet, arrived
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
    raise fitted(Failure(Phase.JOIN, "closed", "the body ended"), streamed.phase)


Pieces: TypeAlias = AsyncGenerator[tuple[bytes, int], None]
Take: TypeAlias = Callable[[bytes, int], Iterable[EncodedPacket]]


@asynccontextmanager
async def alongside(io: SessionIO, *jobs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `jobs` while the block lasts; what they raise of ours ends the feed, anything else is a bug and comes out here."""
    failed: Exception | None = None  # the block's own: it is not to come out as the group's
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_ending(io, job)) for job in jobs]
            try:
                yield
            except Exception as error:
                failed = error
            finally:
                for task in tasks:
                    task.cancel()
                for job in jobs:
                    if inspect.getcoroutinestate(job) == inspect.CORO_CREATED:  # left before it could begin
                        job.close()
    except ExceptionGroup as bugs:
        failed = bugs.exceptions[0]
    if failed is not None:
        raise failed


async def _ending(io: SessionIO, job: Coroutine[None, None, None]) -> None:
    try:
        await job
    except Failure as failure:
        io.feed.close(failure)
    except Unsupported as unsupported:
        io.feed.close(Failure(Phase.PLAYING, "undecodable", str(unsupported)))


def fitted(failure: Failure, phase: Phase) -> Failure:
    """What happened on an open connection, told of `phase`, in the nearest reason that it has. TLS's own stays TLS's."""
    if failure.phase in (phase, Phase.TLS):
        return failure
    known = REASONS[phase]
    nearest = _NEAREST.get(failure.reason, failure.reason)
    reason = next(r for r in (failure.reason, nearest, "closed", "ended") if r in known)
    return Failure(phase, reason, failure.outcome.detail)


class Streamed:
    """One viewer's. `put` packets in decoding order; close it."""

    def __init__(self, io: SessionIO, rendition: str = "") -> None:
        self._io = io
        self._rendition = rendition
        self._video: DecoderThread | None = None
        self._audio: DecoderThread | None = None
        self._audio_kind: tuple[str, bytes] | None = None
        self._sounds = 0
        self._first: int | None = None
        self._seen = False
        self.begun = False  # the first keyframe is with the decoder

    @property
    def phase(self) -> Phase:
        """Where a failure of the stream belongs now."""
        return Phase.PLAYING if self.begun else Phase.FIRST_PACKET if self._first is None else Phase.KEYFRAME

    def put(self, packet: EncodedPacket, arrived: int) -> None:
        """One packet whose last byte arrived at `arrived`. Raises Unsupported for a picture we cannot decode, Failure(keyframe,
        no_video) where nothing but sound comes."""
        if self._first is None:
            self._first = arrived
            self._io.stages.enter(Stage.KEYFRAME, arrived)
        if packet.kind == "audio":
            if self.begun:  # before that nobody reads what is heard, and it would pass for a decoder that lags behind
                self._hear(packet, arrived)
            if not self._seen and arrived - self._first >= SOUND_ALONE:
                raise Failure(Phase.KEYFRAME, "no_video", f"sound for {SOUND_ALONE // NS} s, and not one picture")
        else:
            self._see(packet, arrived)

    def close(self) -> None:
        for decoder in (self._video, self._audio):
            if decoder is not None:
                decoder.close()

    def _see(self, packet: EncodedPacket, arrived: int) -> None:
        self._seen = True
        if not self.begun:
            if packet.codec not in SEEN:
                raise Unsupported(f"{packet.codec} in the stream")
            if not packet.keyframe:
                return
            self.begun = True
            self._io.stages.enter(Stage.PROBE, arrived)
            self._io.facts["codec"] = packet.codec
        if self._video is None:
            self._video = DecoderThread(packet.codec, self._io.feed, self._io.clock)
        self._video.submit(packet.data, packet.pts, arrived, packet.size, packet.keyframe, None, self._rendition)

    def _hear(self, packet: EncodedPacket, arrived: int) -> None:
        kind = (packet.codec, packet.extradata)
        if self._audio_kind != kind:
            if self._audio is not None:
                self._audio.close()
            self._audio_kind, self._audio = kind, None
            self._sounds += 1
            if self._sounds > _SOUNDS:
                if self._sounds == _SOUNDS + 1:
                    self._io.note(f"the sound is not listened to any more: it has changed {_SOUNDS} times")
                return
            self._io.facts["audio"] = packet.codec
            try:
                if packet.codec not in HEARD:
                    raise Unsupported(packet.codec)
                self._audio = DecoderThread(
                    packet.codec,
                    self._io.feed,
                    self._io.clock,
                    packet.extradata or None,
                    sample_rate=packet.rate or 48_000,
                    channels=packet.channels or 2,
                )
            except Unsupported as unsupported:  # the picture is what we came for
                self._io.facts[UNHEARD] = packet.codec
                self._io.note(f"the sound is not listened to: {unsupported}")
        if self._audio is not None:
            self._audio.submit(packet.data, packet.pts, arrived, packet.size, True)
