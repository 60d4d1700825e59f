"""What a viewer saw: the machine that verifies frames, finds gaps and folds a second into a Window.

Pure: it takes records and instants, it reads no clock. One per session; it outlives reconnects, because loss and freezes
are the viewer's experience and not the transport's.

A frame *progresses* when it is verified and newer than every verified frame before it; only progress feeds the stall
timer, ends an outage or counts as shown. A picture repeated for a minute is decoded every time and progresses once.

Loss is judged against the rendition's own frame rate: a ladder that halves it steps the sequence by two and loses nothing. At
a switch the rate is learnt anew, and the step across it is judged by the slower of the two. What our own player jumped over is
skipped by us and not lost.

End-to-end latency is taken when a picture is shown. Without a buffer that is when it was decoded. A buffered player decodes
ahead, by as much as suits it, and nobody sees a picture before its instant on the player's clock; decoded late, it is shown then.

Media seconds are the seconds of the stream that came. Its own clock tells them: a step of it that would be a freeze by the
W3C's rule is a hole, and counts as one ordinary step. A picture or two missing within 150 ms are no hole: no clock tells them
from pictures that are shown for longer.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from probe.model.clock import MS, NS
from probe.model.frames import SEQUENCE_MODULUS, Chirp, FrameCode, FrameRecord, Reading, Record, Undecodable
from probe.model.observation import Freeze, Window

STAMP_ERROR = 0.001  # seconds: the stamp in the picture counts whole milliseconds
_FIXED_FREEZE = 500 * MS
_LEARN = 6  # deltas seen before a rendition's step is believed
_CHIRP_SCORE = 0.6
_TOGETHER = 2.0  # seconds between sound and picture beyond which their clock has begun anew


class Sight(StrEnum):
    """What one decoded picture was."""

    VERIFIED = "verified"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    FOREIGN = "foreign"
    STALE = "stale"
    BLACK = "black"
    BROKEN = "broken"  # the code is fresh and the picture below it is not the programme's
    CORRUPT = "corrupt"
    UNCODED = "uncoded"
    STILL = "still"


@dataclass(slots=True, kw_only=True)
class Expected:
    """What counts as verified. `publishes` are the ordinals of this run's publish sessions so far (shared, growing).

    `clock_error` in seconds is that between the publisher's clock and ours; None: unknown, so no latency is told."""

    run: int
    trace: int
    publishes: Collection[int]
    max_age: int
    verify: str = "code"
    clock_error: float | None = 0.0


@dataclass(slots=True)
class Progress:
    """The newest verified frame: when its bytes arrived, when it was shown."""

    arrived: int
    shown: int


class Playback:
    """`unix_offset` turns monotonic ns into Unix ns. Feed it records in order; call `tick` now and then."""

    def __init__(self, expected: Expected, unix_offset: int, began: int) -> None:
        self._expected = expected
        self._offset = unix_offset
        self._window_began = began
        self._counts: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._skews: list[float] = []
        self._media_seconds = 0.0
        self._media_time: float | None = None
        self._media_steps: deque[float] = deque(maxlen=30)
        self._media_step = 0.0  # the last one that was no hole
        self._rendition = ""
        self._mixed = False  # pictures of several renditions in this window
        self._size = 0, 0
        self._newest: FrameCode | None = None
        self._deltas: deque[int] = deque(maxlen=30)
        self._unjudged: list[int] = []
        self._switched: tuple[int, int] | None = None  # the rendition's step before a switch, and the delta across it
        self._counted = ""  # the rendition the deltas are of
        self._gaps: deque[int] = deque(maxlen=30)
        self._video_delay: float | None = None
        # Of the newest verified picture: its media time, and that less its stamp.
        self._video_place: tuple[float, float] | None = None
        self._resync = False
        self.progress: Progress | None = None
        self.tally: Counter[Sight] = Counter()
        self.undecodable = 0
        self.decoded = 0

    def on_record(self, record: Record) -> list[Freeze]:
        """Take one record; returns the freezes it ended. Records of publishers and refills are ignored."""
        match record:
            case FrameRecord():
                return self._on_frame(record)
            case Undecodable():
                self.undecodable += 1
                self._counts["undecodable"] += 1
            case Chirp():
                self._on_chirp(record)
            case _:
                pass
        return []

    def interrupted(self) -> None:
        """A new transport begins: media time starts anew; neither loss nor the freeze rule counts the gap it made."""
        self._media_time = self._video_place = None
        self._gaps.clear()
        self._media_steps.clear()
        self._resync = True

    def standing(self, now: int) -> int | None:
        """Since when the picture stands, where it has done so for long enough to be a freeze by both rules; None: it does not."""
        if self.progress is None:
            return None
        gap = now - self.progress.shown
        return self.progress.shown if gap >= _FIXED_FREEZE and (len(self._gaps) < 2 or self._froze(gap)) else None

    def tick(self, now: int, *, force: bool = False) -> Window | None:
        """The window that ended, once a second has passed (or at once with `force`); None before."""
        took = now - self._window_began
        if (took < NS and not force) or took <= 0:
            return None
        error = self._expected.clock_error
        counts: dict[str, Any] = {name: self._counts[name] for name in _COUNTS}
        window = Window(
            at=now,
            took=took,
            **counts,
            media_seconds=0.0 if self._mixed else self._media_seconds,  # a rate of two renditions at once is neither's
            latencies=tuple(self._latencies),
            clock_error=None if error is None else error + STAMP_ERROR,
            clock_faults=self._counts["clock_faults"],
            skews=tuple(self._skews),
            rendition=self._rendition,
            width=self._size[0],
            height=self._size[1],
        )
        self._window_began = now
        self._counts.clear()
        self._latencies.clear()
        self._skews.clear()
        self._media_seconds = 0.0
        self._mixed = False
        return window

    def _on_frame(self, record: FrameRecord) -> list[Freeze]:
        self.decoded += 1
        self._mixed = self._mixed or (self._counts["decoded"] > 0 and record.rendition != self._rendition)
        self._counts["decoded"] += 1
        self._counts["bytes"] += record.size
        self._rendition = record.rendition
        self._size = record.width, record.height
        if record.media_time is not None:
            if self._media_time is not None and 0 < (step := record.media_time - self._media_time) < 1:
                self._media_seconds += self._came(step)
            self._media_time = record.media_time
        sight = self._look(record)
        self.tally[sight] += 1
        match sight:
            case Sight.VERIFIED:
                self._counts["verified"] += 1
                return self._progressed(record)
            case Sight.BLACK | Sight.UNCODED | Sight.STILL:
                self._counts["uncoded"] += 1
            case _:
                self._counts[sight.value] += 1
        return []

    def _came(self, step: float) -> float:
        """How much of a step of the stream's clock is media that came."""
        steps = self._media_steps
        average = sum(steps) / len(steps) if steps else step
        steps.append(step)
        if len(steps) <= 2 or step < max(3 * average, average + 0.15):
            self._media_step = step
        return self._media_step

    def _look(self, record: FrameRecord) -> Sight:
        if self._expected.verify == "moving":
            return Sight.BLACK if record.black else Sight.VERIFIED if record.changed else Sight.STILL
        code = record.code
        if code is None:
            if record.black:
                return Sight.BLACK
            return Sight.CORRUPT if record.reading is Reading.CORRUPT else Sight.UNCODED
        expected = self._expected
        if (code.run, code.trace) != (expected.run, expected.trace) or code.publish not in expected.publishes:
            return Sight.FOREIGN
        latency = record.shown + self._offset - code.stamp_ms * MS
        if latency > expected.max_age:
            return Sight.STALE
        if record.intact is False:
            return Sight.BROKEN
        newest = self._newest
        if newest is not None and newest.publish == code.publish:
            delta = (code.sequence - newest.sequence) % SEQUENCE_MODULUS
            behind = delta == 0 or delta > SEQUENCE_MODULUS // 2
            # Ordinals go round after 15 publish sessions: sent later with no later number, it is of a new session.
            if behind and code.stamp_ms <= newest.stamp_ms:
                return Sight.REORDERED if delta else Sight.DUPLICATE
            if not behind:
                self._count_loss(delta, record.rendition, record.jumped)
        elif newest is not None and code.stamp_ms < newest.stamp_ms:
            return Sight.REORDERED
        self._newest = code
        self._video_delay = (record.shown + self._offset) / NS - code.stamp_ms / 1000
        self._video_place = None
        if record.media_time is not None:
            self._video_place = record.media_time, record.media_time - code.stamp_ms / 1000
        self._tell_latency(latency / NS)
        return Sight.VERIFIED

    def _tell_latency(self, latency: float) -> None:
        error = self._expected.clock_error
        if error is None:
            return
        if latency < -(error + STAMP_ERROR):
            self._counts["clock_faults"] += 1
        else:
            self._latencies.append(latency)

    def _count_loss(self, delta: int, rendition: str, jumped: bool) -> None:
        if self._resync:
            self._resync = False
            return
        if jumped:
            self._counts["skipped"] += max(0, round(delta / (self._step() if self._deltas else 1)) - 1)
            return
        if rendition != self._counted:
            known = len(self._deltas) >= _LEARN
            if known:
                self._switched = self._step(), delta
            self._counted = rendition
            self._deltas.clear()
            self._unjudged.clear()
            if known:
                return
        self._deltas.append(delta)
        if len(self._deltas) < _LEARN:
            self._unjudged.append(delta)
            return
        step = self._step()
        for seen in (*self._unjudged, delta):
            self._counts["lost"] += max(0, round(seen / step) - 1)
        self._unjudged.clear()
        if self._switched is not None:
            before, across = self._switched
            self._counts["lost"] += max(0, round(across / max(before, step)) - 1)
            self._switched = None

    def _step(self) -> int:
        """How far apart in sequence the rendition's frames are."""
        first = self._deltas[0]
        if self._deltas.count(first) == len(self._deltas):
            return first
        return Counter(self._deltas).most_common(1)[0][0]

    def _progressed(self, record: FrameRecord) -> list[Freeze]:
        freezes: list[Freeze] = []
        before = self.progress
        self.progress = Progress(record.arrived, record.shown)
        if before is None:
            self._window_began = max(self._window_began, record.shown)  # seconds of watching are counted from the first picture
            return freezes
        gap = record.shown - before.shown
        if gap <= 0:
            return freezes
        if len(self._gaps) >= 2 and self._froze(gap):
            freezes.append(Freeze(at=record.shown, began=before.shown, took=gap, rule="w3c"))
        if gap >= _FIXED_FREEZE:
            freezes.append(Freeze(at=record.shown, began=before.shown, took=gap, rule="fixed_500ms"))
        self._gaps.append(gap)
        return freezes

    def _froze(self, gap: int) -> bool:
        """The W3C's rule."""
        average = sum(self._gaps) / len(self._gaps)
        return gap >= max(3 * average, average + 150 * MS)

    def _on_chirp(self, chirp: Chirp) -> None:
        """Chirps sound at whole seconds of the stamp clock; against the picture's own delay that leaves the skew, modulo 1 s.

        By the stream's own clock where sound and picture share one, for by it a player puts them together again, however far
        apart they came; else by when they were here."""
        if chirp.score < _CHIRP_SCORE:
            return
        self._counts["sounds"] += 1
        if self._video_delay is None:
            return
        sound, picture = ((chirp.shown + self._offset) % NS) / NS, self._video_delay
        if chirp.media_time is not None and self._video_place is not None:
            place, late = self._video_place
            if abs(chirp.media_time - place) <= _TOGETHER:
                sound, picture = chirp.media_time, late
        self._skews.append((sound - picture + 0.5) % 1.0 - 0.5)


_COUNTS = (
    "decoded", "verified", "lost", "duplicate", "reordered", "corrupt", "uncoded", "foreign", "stale", "undecodable", "bytes",
    "broken", "sounds", "skipped",
)  # fmt: skip
