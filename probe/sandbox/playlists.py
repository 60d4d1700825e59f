"""Playlists as text (RFC 8216, and RFC 8216bis for low latency): pure, from what a window holds.

A delta update is the same playlist with its older segments left out and everything else as it stands: what a skipped
segment said of the following ones (EXT-X-MAP) is not said again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from probe.model.clock import NS

PLAYLIST = "application/vnd.apple.mpegurl"
PART_TARGET = 0.21  # six pictures at 30 a second and some rounding, five at 25 or 24, three at 15
HOLD_BACK = 4 * PART_TARGET
PARTS_FOR = 3  # target durations from the end for which parts are listed (6.2.2)
SKIP_UNTIL = 6  # target durations from the end that are never skipped


@dataclass(frozen=True, slots=True)
class ListedPart:
    name: str
    data: bytes
    duration: float
    independent: bool


@dataclass(slots=True, kw_only=True)
class Listed:
    """A segment, or the beginning of one: `data` is empty while it grows. `unix_ns`: when its first picture arrived."""

    number: int
    name: str
    unix_ns: int
    init: str  # file name
    discontinuity: bool
    data: bytes = b""
    duration: float = 0.0
    parts: list[ListedPart] = field(default_factory=list)
    part_count: int = 0  # remains when the parts are let go


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where another rendition is (EXT-X-RENDITION-REPORT)."""

    uri: str
    msn: int
    part: int | None

    def line(self) -> str:
        part = "" if self.part is None else f",LAST-PART={self.part}"
        return f'#EXT-X-RENDITION-REPORT:URI="{self.uri}",LAST-MSN={self.msn}{part}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One EXT-X-STREAM-INF; rates in bit/s."""

    url: str
    bandwidth: int
    average: int
    codecs: str
    size: tuple[int, int]
    frame_rate: float

    def lines(self) -> list[str]:
        width, height = self.size
        attributes = f'BANDWIDTH={self.bandwidth},AVERAGE-BANDWIDTH={self.average},CODECS="{self.codecs}"'
        return [f"#EXT-X-STREAM-INF:{attributes},RESOLUTION={width}x{height},FRAME-RATE={self.frame_rate:.3f}", self.url]


def master(variants: Iterable[Variant]) -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    return "\n".join(lines + [line for variant in variants for line in variant.lines()]) + "\n"


def media(segments: Sequence[Listed], *, target: int, discontinuities: int) -> str:
    """A plain media playlist. `discontinuities`: how many went before it."""
    lines = _head(7, segments, target, discontinuities)
    init = ""
    for segment in segments:
        lines += [*_tags(segment, init), f"#EXTINF:{segment.duration:.5f},", segment.name]
        init = segment.init
    return "\n".join(lines) + "\n"


def low_latency(
    segments: Sequence[Listed],
    growing: Listed | None,
    *,
    target: int,
    discontinuities: int,
    hint: str,
    reports: Iterable[Report] = (),
    skip: bool = False,
) -> str:
    """A media playlist with parts; `hint` names the part to come; `skip`: as a delta update where it is worth one."""
    lines = _head(9, segments, target, discontinuities)
    control = f"CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={HOLD_BACK:.3f},CAN-SKIP-UNTIL={SKIP_UNTIL * target:.1f}"
    lines[3:3] = [f"#EXT-X-SERVER-CONTROL:{control}", f"#EXT-X-PART-INF:PART-TARGET={PART_TARGET:.3f}"]
    ages, age = [], sum(part.duration for part in growing.parts) if growing else 0.0
    for segment in reversed(segments):
        ages.append(age)  # from its end to the playlist's
        age += segment.duration
    ages.reverse()
    skipped = 0
    if skip:
        starts = [after + segment.duration for segment, after in zip(segments, ages, strict=True)]
        skipped = sum(start > SKIP_UNTIL * target for start in starts)
        lines += [f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"] if skipped else []
    init = segments[skipped - 1].init if skipped else ""
    for segment, after in list(zip(segments, ages, strict=True))[skipped:]:
        lines += _tags(segment, init)
        lines += _parts(segment) if after < PARTS_FOR * target else []
        lines += [f"#EXTINF:{segment.duration:.5f},", segment.name]
        init = segment.init
    if growing is not None:
        lines += _tags(growing, init) + _parts(growing)
    lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{hint}"')
    lines += [report.line() for report in reports]
    return "\n".join(lines) + "\n"


def _head(version: int, segments: Sequence[Listed], target: int, discontinuities: int) -> list[str]:
    first = [f"#EXT-X-MEDIA-SEQUENCE:{segments[0].number}"] if segments else []
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{version}",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        *first,
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}",
    ]


def _tags(segment: Listed, init: str) -> list[str]:
    lines = ["#EXT-X-DISCONTINUITY"] if segment.discontinuity else []
    lines += [f'#EXT-X-MAP:URI="{segment.init}"'] if segment.init != init else []
    date = datetime.fromtimestamp(segment.unix_ns / NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [*lines, f"#EXT-X-PROGRAM-DATE-TIME:{date}"]


def _parts(segment: Listed) -> list[str]:
    return [
        f'#EXT-X-PART:DURATION={part.duration:.5f},URI="{part.name}"' + (",INDEPENDENT=YES" if part.independent else "")
        for part in segment.parts
    ]
