"""The test programme: a live, encoded source whose pictures say when they were sent.

    programme = Programme("360p30", clock=clock, ids=ProgrammeIds(run, trace, publish), bitrate=800_000)
    async with programme:
        async for unit in programme.units():
            send(unit)                      # at unit.due, and unit.late_ns says how much later
    programme.request_keyframe()            # from any thread: an IDR in the next picture made

A stamp is honest only if the picture leaves when it says so. So picture k is stamped with the instant of its release,
made before it, held, and let go then; what our own machine delays is in `late_ns` and never hidden in the stamp.
Video and audio each have a thread that makes one unit ahead and keeps the time; the loop pays one callback per
unit. One thread for both would wake as often, for their units fall together but once in 100 ms, and sound would wait where
a picture is encoded live. Queues are bounded: a consumer that stands still loses whole units, counted, and goes on from a
keyframe.

A machine that falls more than a quarter of a second behind skips ahead: presentation times jump, sequence numbers do
not, for a gap in them means loss on the platform's side.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType

from probe.media.encode import AUDIO_CLOCK, VIDEO_CLOCK, aac_config
from probe.media.loop import Stopped
from probe.media.source import FPS, SIZES, TICKS, AudioSource, ProgrammeIds, VideoSource
from probe.model.clock import MS, NS, Clock

__all__ = ["KEYFRAME_APART", "SIZES", "EncodedUnit", "Programme", "ProgrammeIds"]

VIDEO_CODECS = ("h264", "vp8")
AUDIO_BITRATES = {"opus": 32_000, "aac": 64_000}
KEYFRAME_APART = 250 * MS  # requests that come faster wait
_LEAD = 40 * MS  # from ready to the first release: the first picture is encoded in it
_BEHIND = 250 * MS
_QUEUE = 128
_JOIN = 2.0
_TIME_BASES = {"video": Fraction(1, VIDEO_CLOCK), "audio": Fraction(1, AUDIO_CLOCK)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedUnit:
    """One access unit (Annex B), VP8 frame, Opus packet or raw AAC frame. `pts` counts `time_base` from the programme's first
    picture, audio in step with video. `due` is the monotonic instant of its release and `stamp_ns` the same in Unix time;
    for a picture it is the stamp inside. `late_ns` is how much later it was really handed over."""

    kind: str  # video | audio
    data: bytes
    pts: int
    time_base: Fraction
    keyframe: bool
    due: int
    stamp_ns: int
    late_ns: int = 0


class Programme:
    """One live source for one consumer. `black` and `frozen` may be set at any time and hold from the next picture on:
    black blanks the picture and keeps its code, frozen repeats picture and code. `codec`: h264 or vp8; `audio_codec`: opus
    or aac, whose AudioSpecificConfig is `audio_config`. ValueError for an unknown name or codec."""

    def __init__(
        self,
        name: str = "360p30",
        *,
        clock: Clock,
        ids: ProgrammeIds,
        bitrate: int = 800_000,
        audio: bool = True,
        codec: str = "h264",
        audio_codec: str = "opus",
        channels: int = 1,
        audio_bitrate: int | None = None,
        black: bool = False,
        frozen: bool = False,
    ) -> None:
        if name not in SIZES:
            raise ValueError(f"unknown programme {name!r}: one of {', '.join(SIZES)}")
        if codec not in VIDEO_CODECS or audio_codec not in AUDIO_BITRATES:
            raise ValueError(f"no programme in {codec} and {audio_codec}")
        self.name = name
        self.codec, self.audio_codec = codec, audio_codec
        self.audio_config = aac_config(channels) if audio_codec == "aac" else b""
        self.width, self.height = SIZES[name]
        self.bitrate, self.audio, self.channels = bitrate, audio, channels
        self.ids = ids
        self.black, self.frozen = black, frozen
        self.rate: int | None = None  # bit/s of the picture as it is sent, once that is known; None: encoded live
        self.dropped = 0  # units the consumer was too slow for
        self._clock = clock
        self._audio_bitrate = audio_bitrate or AUDIO_BITRATES[audio_codec]
        self._want_keyframe = threading.Event()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._origin = 0  # monotonic instant of pts 0, on a whole ms of the wall clock
        self._threads: list[threading.Thread] = []
        self._bells: list[threading.Lock] = []
        self._release: Callable[[EncodedUnit | BaseException | None], None] = lambda unit: None
        self._queue: asyncio.Queue[EncodedUnit | BaseException | None] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resync = False

    def request_keyframe(self) -> None:
        """An IDR in the next picture made, at most four times a second. Any thread."""
        self._want_keyframe.set()

    def start(self, release: Callable[[EncodedUnit | BaseException | None], None]) -> None:
        """Begin without a loop: `release` is called on the programme's own threads, with each unit at its instant, with
        the exception that ended a thread, and with None when a thread ended as asked."""
        self._release = release
        for job in [self._video] + ([self._sound] if self.audio else []):
            bell = threading.Lock()  # held until the end; an Event's wait costs several times as much, eighty times a second
            bell.acquire()
            self._bells.append(bell)
            name = f"programme-{job.__name__}"
            self._threads.append(threading.Thread(target=self._guard, args=(job, bell), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop and join, within a few ms as a rule and two seconds at worst. Safe to call twice."""
        self._stop.set()
        self._ready.set()
        for bell in self._bells:
            bell.release()
        self._bells = []
        for thread in self._threads:
            thread.join(_JOIN)

    async def __aenter__(self) -> Programme:
        self._loop = asyncio.get_running_loop()
        self.start(self._hand_over)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def units(self) -> AsyncIterator[EncodedUnit]:
        """Units in order of release, until closed. Raises what broke the programme."""
        running = len(self._threads)
        while running:
            item = await self._queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, EncodedUnit):
                yield replace(item, late_ns=max(0, self._clock.now() - item.due))
            else:
                raise item

    def _hand_over(self, item: EncodedUnit | BaseException | None) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._put, item)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self._stop.set()

    def _put(self, item: EncodedUnit | BaseException | None) -> None:
        if isinstance(item, EncodedUnit):
            video = item.kind == "video"
            if self._queue.qsize() >= _QUEUE or (self._resync and video and not item.keyframe):
                self.dropped += 1
                if video and not self._resync:
                    self._resync = True
                    self.request_keyframe()
                return
            if video:
                self._resync = False
        self._queue.put_nowait(item)

    def _guard(self, job: Callable[[threading.Lock], None], bell: threading.Lock) -> None:
        try:
            job(bell)
        except Exception as error:  # whatever it was, it is the consumer's to hear
            self._release(error)
        else:
            self._release(None)

    def _wait_and_release(self, bell: threading.Lock, kind: str, data: bytes, pts: int, keyframe: bool, due: int) -> bool:
        """False when asked to stop."""
        delay = due - self._clock.now()
        if self._stop.is_set() or (delay > 0 and bell.acquire(timeout=delay / NS)):
            return False
        unit = EncodedUnit(
            kind=kind,
            data=data,
            pts=pts,
            time_base=_TIME_BASES[kind],
            keyframe=keyframe,
            due=due,
            stamp_ns=self._clock.wall(due).unix_ns,
            late_ns=max(0, self._clock.now() - due),
        )
        self._release(unit)
        return True

    def _video(self, bell: threading.Lock) -> None:
        try:
            source = VideoSource(self.name, self.ids, self.bitrate, self.codec, self._stop.is_set)
        except Stopped:
            return
        self.rate = source.rate
        begin = self._clock.now() + _LEAD
        self._origin = begin + -self._clock.wall(begin).unix_ns % MS
        self._ready.set()
        slot = 0
        last_keyframe = self._origin - NS
        while True:
            slot = max(slot, -(-(self._clock.now() - _BEHIND - self._origin) * FPS // NS))
            due = self._origin + round(slot * 1000 / FPS) * MS  # whole ms, as the stamp can say
            stamp_ns = self._clock.wall(due).unix_ns
            wanted = self._want_keyframe.is_set() and due - last_keyframe >= KEYFRAME_APART
            if wanted:
                self._want_keyframe.clear()
            data, keyframe = source.make(slot, stamp_ns, keyframe=wanted, black=self.black, frozen=self.frozen)
            if keyframe:
                last_keyframe = due
            if not self._wait_and_release(bell, "video", data, slot * TICKS, keyframe, due):
                return
            slot += 1

    def _sound(self, bell: threading.Lock) -> None:
        self._ready.wait()
        if self._stop.is_set():
            return
        source = AudioSource(self._clock.wall(self._origin).unix_ns, self.channels, self._audio_bitrate, self.audio_codec)
        number = 1
        while True:
            number = max(number, source.number_at(self._clock.now() - _BEHIND - self._origin))
            data, pts = source.make(number)
            due = self._origin + pts * NS // AUDIO_CLOCK
            if not self._wait_and_release(bell, "audio", data, pts, True, due):
                return
            number += 1
