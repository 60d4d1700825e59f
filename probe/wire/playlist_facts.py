"""What HLS playlists say, as frozen facts (RFC 8216; RFC 8216bis for parts, hints, reports and delta updates)."""

from __future__ import annotations

from dataclasses import dataclass

from probe.wire.playlist_values import ByteRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """EXT-X-MAP: what precedes every segment that names it."""

    uri: str
    byterange: ByteRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """EXT-X-STREAM-INF. `bandwidth` bit/s, `resolution` width × height, `codecs` as listed (empty: not said), `audio` the
    group of its separate sound (empty: none)."""

    uri: str
    bandwidth: int | None
    codecs: tuple[str, ...] = ()
    resolution: tuple[int, int] | None = None
    frame_rate: float | None = None
    audio: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """EXT-X-MEDIA of TYPE=AUDIO that has a playlist of its own."""

    uri: str
    group: str
    name: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """EXT-X-PART: `duration` seconds of a segment. `independent`: begins with a keyframe; `gap`: listed, not there."""

    uri: str
    duration: float
    independent: bool = False
    byterange: ByteRange | None = None
    gap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`duration` in seconds; `sequence` is its media sequence number; `program_date_time` Unix ns, where this segment says it."""

    uri: str
    duration: float
    sequence: int
    discontinuity: bool = False
    program_date_time: int | None = None
    byterange: ByteRange | None = None
    init: Init | None = None
    gap: bool = False  # EXT-X-GAP: listed, not there
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """EXT-X-PRELOAD-HINT of a part to come. `length` None: to the end of the resource."""

    uri: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """EXT-X-RENDITION-REPORT: how far another rendition is."""

    uri: str
    last_sequence: int
    last_part: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    url: str
    variants: tuple[Variant, ...]
    version: int = 1
    sounds: tuple[Sound, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """`start` is EXT-X-START's offset in seconds (negative: from the end). Of EXT-X-SERVER-CONTROL: `hold_back`,
    `part_hold_back` and `skip_until` in seconds, `can_block`. `opening` is the segment that is being made: its parts are
    there, its URI is not. `skipped`: so many segments from `media_sequence` on are left out (a delta update)."""

    url: str
    target_duration: float
    media_sequence: int
    segments: tuple[Segment, ...]
    endlist: bool = False
    version: int = 1
    start: float | None = None
    hold_back: float | None = None
    part_hold_back: float | None = None
    part_target: float | None = None
    can_block: bool = False
    skip_until: float | None = None
    skipped: int = 0
    opening: Segment | None = None
    hint: Hint | None = None
    init_hint: Init | None = None
    reports: tuple[Report, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds from the first listed segment's beginning to the last one's end."""
        return sum(s.duration for s in self.segments)
