"""HLS playlists: bytes → frozen facts, or one of our errors (RFC 8216).

The tags are read by m3u8, which merges no state of ours, trusts every number and leaks whatever Python raises on
nonsense; so bytes, lines and line lengths are capped before it sees any, and every number and URI is checked after.
A fault of the playlist is a Failure in phase `playlist`; what we cannot play (encryption, variables) is Unsupported.
Not here: LL-HLS parts and delta updates (a low-latency playlist reads as the plain one it also is), I-frame and
separate audio renditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

from m3u8.parser import parse as read_tags

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase

MAX_BYTES = 1 << 20
MAX_LINES = 20_000
MAX_LINE = 16 * 1024
LONGEST = 3600.0  # seconds, of a segment or a target duration
_SEQUENCES = 1 << 63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """`[offset, offset + length)` of the resource."""

    offset: int
    length: int

    @property
    def header(self) -> str:
        """Value of a Range request header (RFC 9110 §14.2)."""
        return f"bytes={self.offset}-{self.offset + self.length - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """EXT-X-MAP: what precedes every segment that names it."""

    uri: str
    byterange: ByteRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """EXT-X-STREAM-INF. `bandwidth` bit/s, `resolution` width × height, `codecs` as listed (empty: not said)."""

    uri: str
    bandwidth: int | None
    codecs: tuple[str, ...] = ()
    resolution: tuple[int, int] | None = None
    frame_rate: float | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    url: str
    variants: tuple[Variant, ...]
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """`start` is EXT-X-START's offset in seconds (negative: from the end), `hold_back` EXT-X-SERVER-CONTROL's HOLD-BACK."""

    url: str
    target_duration: float
    media_sequence: int
    segments: tuple[Segment, ...]
    endlist: bool = False
    version: int = 1
    start: float | None = None
    hold_back: float | None = None

    @property
    def duration(self) -> float:
        """Seconds from the first listed segment's beginning to the last one's end."""
        return sum(s.duration for s in self.segments)


def parse(body: bytes, url: str) -> Master | Media:
    """Read a playlist that was fetched from `url` (after redirects); its URIs come out absolute.

    Raises Failure(playlist): too_large, too_many_lines, not_a_playlist, malformed, empty (nothing listed and no target
    duration), address_refused (a URI that is not http or https); Unsupported for encryption and variable substitution.
    Takes about 5 µs a line: give a long one to a thread.
    """
    data = _tags(_text(body))
    if data["playlists"] or data["is_variant"]:
        if data["segments"]:
            raise _malformed("lists both variants and segments")
        return Master(url=url, variants=tuple(_variants(data, url)), version=_version(data))
    if "targetduration" not in data:
        if not data["segments"]:
            raise Failure(Phase.PLAYLIST, "empty", "neither variants nor segments")
        raise _malformed("no EXT-X-TARGETDURATION")
    sequence = data["media_sequence"]
    if not 0 <= sequence < _SEQUENCES:
        raise _malformed("EXT-X-MEDIA-SEQUENCE out of range")
    return Media(
        url=url,
        target_duration=max(1.0, _seconds(data["targetduration"], "EXT-X-TARGETDURATION")),
        media_sequence=sequence,
        segments=tuple(_segments(data, url, sequence)),
        endlist=data["is_endlist"],
        version=_version(data),
        start=_optional(data.get("start", {}).get("time_offset")),
        hold_back=_optional(data.get("server_control", {}).get("hold_back")),
    )


def _malformed(detail: str) -> Failure:
    return Failure(Phase.PLAYLIST, "malformed", detail)


def _text(body: bytes) -> str:
    if len(body) > MAX_BYTES:
        raise Failure(Phase.PLAYLIST, "too_large", f"{len(body)} bytes")
    body = body.removeprefix(b"\xef\xbb\xbf")  # forbidden by the RFC, dropped by every browser
    first = body[:64].split(b"\n", 1)[0].strip()
    if first != b"#EXTM3U" and not first.startswith(b"#EXTM3U "):
        raise Failure(Phase.PLAYLIST, "not_a_playlist", "does not begin with #EXTM3U")
    if body.count(b"\n") + body.count(b"\r") >= 2 * MAX_LINES:
        raise Failure(Phase.PLAYLIST, "too_many_lines", f"more than {MAX_LINES}")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _malformed("not UTF-8") from error
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise Failure(Phase.PLAYLIST, "too_many_lines", f"{len(lines)}")
    for line in lines:
        if len(line) > MAX_LINE:
            raise _malformed(f"a line of {len(line)} characters")
        if line.startswith("#EXT-X-DEFINE"):
            raise Unsupported("EXT-X-DEFINE: variable substitution in a playlist")
    return text


def _tags(text: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = read_tags(text)
    except Exception as error:  # whatever nonsense makes the library trip over
        raise _malformed(f"{type(error).__name__} while reading its tags") from error
    return data


def _variants(data: Mapping[str, Any], url: str) -> Iterator[Variant]:
    for entry in data["playlists"]:
        info = entry["stream_info"]
        bandwidth = info.get("bandwidth")
        if bandwidth is not None and not 0 <= bandwidth < _SEQUENCES:
            raise _malformed("BANDWIDTH out of range")
        yield Variant(
            uri=_uri(url, entry["uri"]),
            bandwidth=bandwidth,
            codecs=tuple(c.strip() for c in info.get("codecs", "").split(",") if c.strip()),
            resolution=_resolution(info.get("resolution")),
            frame_rate=_optional(info.get("frame_rate")),
        )


def _segments(data: Mapping[str, Any], url: str, sequence: int) -> Iterator[Segment]:
    ends: dict[str, int] = {}  # where the last sub-range of each resource ended
    for entry in data["segments"]:
        if "uri" not in entry:  # the tags of a segment still to come
            continue
        method = (entry.get("key") or {}).get("method", "NONE")
        if method != "NONE":
            raise Unsupported(f"encrypted segments (METHOD={method[:32]})")
        uri = _uri(url, entry["uri"])
        byterange = _byterange(entry.get("byterange"), ends.get(uri))
        if byterange:
            ends[uri] = byterange.offset + byterange.length
        yield Segment(
            uri=uri,
            duration=_seconds(entry.get("duration"), "EXTINF"),
            sequence=sequence,
            discontinuity=entry["discontinuity"],
            program_date_time=_unix_ns(entry.get("program_date_time")),
            byterange=byterange,
            init=_init(entry.get("init_section"), url),
            gap=bool(entry.get("gap_tag")),
        )
        sequence += 1


def _init(section: Mapping[str, str] | None, url: str) -> Init | None:
    if not section:
        return None
    if "uri" not in section:
        raise _malformed("EXT-X-MAP without URI")
    return Init(uri=_uri(url, section["uri"]), byterange=_byterange(section.get("byterange"), 0))


def _uri(base: str, uri: str) -> str:
    try:
        joined = urljoin(base, uri)
        parts = urlsplit(joined)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _malformed("a URI that is none") from error
    if parts.scheme not in ("http", "https"):
        raise Failure(Phase.PLAYLIST, "address_refused", f"a URI of scheme {parts.scheme[:16]!r}")
    if not host or parts.username is not None or parts.password is not None:
        raise Failure(Phase.PLAYLIST, "address_refused", "a URI without a host, or with a user")
    if not joined.isprintable():
        raise _malformed("control characters in a URI")
    return joined


def _byterange(text: str | None, implied: int | None) -> ByteRange | None:
    """`<length>[@<offset>]`; without offset it goes on where the last one of the same resource ended."""
    if text is None:
        return None
    length_text, at, offset_text = text.partition("@")
    try:
        length = int(length_text)
        offset = int(offset_text) if at else implied
    except ValueError as error:
        raise _malformed("a byte range that is none") from error
    if offset is None or offset < 0 or length <= 0 or offset + length >= _SEQUENCES:
        raise _malformed("a byte range that is none")
    return ByteRange(offset=offset, length=length)


def _resolution(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height)
    except ValueError as error:
        raise _malformed("a RESOLUTION that is none") from error
    if not all(0 < side <= 65_536 for side in size):
        raise _malformed("a RESOLUTION out of range")
    return size


def _seconds(value: float | None, what: str) -> float:
    if value is None:
        raise _malformed(f"a segment without {what}")
    if not math.isfinite(value) or not 0 <= value <= LONGEST:
        raise _malformed(f"{what} out of range")
    return float(value)


def _optional(value: float | None) -> float | None:
    """A number that may be absent; one that makes no sense is as good as absent."""
    return value if value is not None and math.isfinite(value) and abs(value) <= 1e9 else None


def _unix_ns(moment: datetime | None) -> int | None:
    """Unix ns; None without a time zone: such a time is nobody's."""
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _version(data: Mapping[str, Any]) -> int:
    version = data.get("version", 1)
    return version if 0 < version < 1000 else 1
