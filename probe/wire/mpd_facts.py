"""What a DASH manifest says of live media, as facts, and the arithmetic of its segments (ISO/IEC 23009-1 §5.3.9).

Media time is counted in a representation's own ticks, as `tfdt` counts it; a segment's place on the wall clock is
availabilityStartTime + Period@start + (its ticks − presentationTimeOffset). Nothing is listed out: a timeline of a million
segments is a few runs, and which of them is next is a search and a division: real archives list tens of thousands of runs.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from probe.model.clock import NS


@dataclass(frozen=True, slots=True)
class Span:
    """`count` segments of `duration` ticks from `time` on (an `S` element)."""

    time: int
    duration: int
    count: int

    @property
    def end(self) -> int:
        return self.time + self.duration * self.count


@dataclass(frozen=True, slots=True)
class Spot:
    """A segment's place: its number, and its time and duration in ticks."""

    number: int
    time: int
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """SegmentTemplate, inherited and resolved. `media` and `initialization` are patterns; exactly one of `duration` (ticks)
    and `spans` is there. `early`: availabilityTimeOffset in seconds; `whole`: availabilityTimeComplete."""

    media: str
    initialization: str
    timescale: int = 1
    start_number: int = 1
    offset: int = 0  # presentationTimeOffset, ticks
    duration: int | None = None
    spans: tuple[Span, ...] | None = None
    early: float = 0.0
    whole: bool = True
    before: tuple[int, ...] = field(init=False, compare=False, repr=False)  # segments of the spans before each
    longest_span: int = field(init=False, compare=False, repr=False)  # ticks

    def __post_init__(self) -> None:
        counts = accumulate((span.count for span in self.spans or ()), initial=0)
        object.__setattr__(self, "before", tuple(counts))
        object.__setattr__(self, "longest_span", max((span.duration for span in self.spans or ()), default=0))

    @property
    def chunked(self) -> bool:
        """Segments are there before they are whole: low latency."""
        return not self.whole and (self.early > 0 or self.spans is not None)

    def seconds(self, ticks: int) -> float:
        return ticks / self.timescale

    def at_or_after(self, ticks: int) -> Spot | None:
        """The first segment that begins at `ticks` or later; None where none is listed."""
        if self.duration is not None:
            index = max(0, -((self.offset - ticks) // self.duration))
            return Spot(self.start_number + index, self.offset + index * self.duration, self.duration)
        at = self._begun(ticks)
        if at >= 0 and (index := -((self._spans[at].time - ticks) // self._spans[at].duration)) < self._spans[at].count:
            return self._spot(at, index)
        return self._spot(at + 1, 0) if at + 1 < len(self._spans) else None

    def at_or_before(self, ticks: int) -> Spot | None:
        """The last segment that begins at `ticks` or earlier; None where none does."""
        if self.duration is not None:
            index = (ticks - self.offset) // self.duration
            return None if index < 0 else Spot(self.start_number + index, self.offset + index * self.duration, self.duration)
        at = self._begun(ticks)
        if at < 0:
            return None
        span = self._spans[at]
        return self._spot(at, min(span.count - 1, (ticks - span.time) // span.duration))

    @property
    def _spans(self) -> tuple[Span, ...]:
        return self.spans or ()

    def _begun(self, ticks: int) -> int:
        """Place of the last span that begins at `ticks` or earlier; -1 where none does."""
        return bisect_right(self._spans, ticks, key=lambda span: span.time) - 1

    def _spot(self, at: int, index: int) -> Spot:
        span = self._spans[at]
        return Spot(self.start_number + self.before[at] + index, span.time + index * span.duration, span.duration)

    @property
    def first(self) -> int | None:
        """Ticks at which what is listed begins; None for an empty timeline."""
        return self.offset if self.spans is None else self.spans[0].time if self.spans else None

    @property
    def end(self) -> int | None:
        """Ticks at which what is listed ends; None where only time says what is there, or nothing is."""
        return self.spans[-1].end if self.spans else None

    @property
    def longest(self) -> float:
        """The longest segment's seconds."""
        return (self.duration or self.longest_span) / self.timescale


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One rendition of one kind of media. `base` is where its segments' addresses are taken from."""

    id: str
    kind: str  # video | audio
    codecs: str
    bandwidth: int | None
    width: int | None
    height: int | None
    frame_rate: float | None
    rate: int | None
    base: str
    template: Template
    protection: str = ""  # the scheme it is encrypted by


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """`start` and `duration` in seconds of the presentation; `skipped`: why representations were left out."""

    id: str
    start: float
    duration: float | None
    representations: tuple[Representation, ...]
    skipped: tuple[str, ...] = ()

    def of(self, kind: str) -> tuple[Representation, ...]:
        return tuple(r for r in self.representations if r.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An MPD. Times of day in Unix ns, lengths in seconds; None: not said. `clocks`: UTCTiming's (scheme, value) pairs."""

    url: str
    dynamic: bool
    periods: tuple[Period, ...]
    availability_start: int | None = None
    published: int | None = None
    update: float | None = None  # minimumUpdatePeriod
    window: float | None = None  # timeShiftBufferDepth
    delay: float | None = None  # suggestedPresentationDelay
    buffer: float | None = None  # minBufferTime
    latency: float | None = None  # ServiceDescription's target
    clocks: tuple[tuple[str, str], ...] = ()
    location: str = ""  # where to load it again, if not where it came from

    def wall(self, period: Period, template: Template, ticks: int) -> int:
        """Unix ns at which the media time `ticks` was due to be presented at the live edge."""
        offset = period.start + template.seconds(ticks - template.offset)
        return (self.availability_start or 0) + round(offset * NS)
