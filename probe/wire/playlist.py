"""HLS playlists: bytes → frozen facts, or one of our errors (RFC 8216, RFC 8216bis).

The tags are read by m3u8, which merges no state of ours, trusts every number and leaks whatever Python raises on
nonsense; so bytes, lines and line lengths are capped before it sees any, and every number and URI is checked after.
A fault of the playlist is a Failure in phase `playlist`; what we cannot play (encryption, variables) is Unsupported.

The segment that is being made has parts and no URI yet; m3u8 would forget the tags before them, so it is shown a last line
that closes it. Preload hints are read here, because m3u8 keeps only the last. Not here: I-frame renditions, subtitles, date
ranges; merging delta updates, which is delta.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from m3u8.parser import parse as read_tags

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.wire.playlist_facts import Hint, Init, Master, Media, Part, Report, Segment, Sound, Variant
from probe.wire.playlist_values import (
    LONGEST,
    SEQUENCES,
    ByteRange,
    absolute,
    attributes,
    byterange,
    malformed,
    optional,
    resolution,
    seconds,
    unix_ns,
    whole,
)

__all__ = [
    "LONGEST", "MAX_BYTES", "ByteRange", "Hint", "Init", "Master", "Media", "Part", "Report", "Segment", "Sound", "Variant",
    "parse",
]  # fmt: skip

MAX_BYTES = 1 << 20
MAX_LINES = 20_000
MAX_LINE = 16 * 1024
_CLOSING = "#EXTINF:0,\nopening\n"  # ends the segment that is being made, for m3u8


def parse(body: bytes, url: str) -> Master | Media:
    """Read a playlist that was fetched from `url` (after redirects); its URIs come out absolute.

    Raises Failure(playlist): too_large, too_many_lines, not_a_playlist, malformed, empty (nothing listed and no target
    duration), address_refused (a URI that is not http or https); Unsupported for encryption and variable substitution.
    Takes about 5 µs a line: give a long one to a thread.
    """
    text, lines = _text(body)
    opening = _has_opening(lines)
    data = _tags(f"{text}\n{_CLOSING}" if opening else text)
    if data["playlists"] or data["is_variant"]:
        if data["segments"]:
            raise malformed("lists both variants and segments")
        return Master(url=url, variants=tuple(_variants(data, url)), version=_version(data), sounds=tuple(_sounds(data, url)))
    if "targetduration" not in data:
        if not data["segments"]:
            raise Failure(Phase.PLAYLIST, "empty", "neither variants nor segments")
        raise malformed("no EXT-X-TARGETDURATION")
    sequence = data["media_sequence"]
    skipped = whole(data.get("skip", {}).get("skipped_segments")) or 0
    if not 0 <= sequence < SEQUENCES - MAX_LINES:
        raise malformed("EXT-X-MEDIA-SEQUENCE out of range")
    if skipped > MAX_LINES:
        raise malformed("SKIPPED-SEGMENTS out of range")
    segments = list(_segments(data, url, sequence + skipped))
    control = data.get("server_control", {})
    hint, init_hint = _hints(lines, url)
    return Media(
        url=url,
        target_duration=max(1.0, seconds(data["targetduration"], "EXT-X-TARGETDURATION")),
        media_sequence=sequence,
        opening=_opened(segments.pop()) if opening else None,
        segments=tuple(segments),
        endlist=data["is_endlist"],
        version=_version(data),
        start=optional(data.get("start", {}).get("time_offset")),
        hold_back=optional(control.get("hold_back")),
        part_hold_back=optional(control.get("part_hold_back")),
        part_target=_part_target(data),
        can_block=control.get("can_block_reload") == "YES",
        skip_until=optional(control.get("can_skip_until")),
        skipped=skipped,
        hint=hint,
        init_hint=init_hint,
        reports=tuple(_reports(data, url)),
    )


def _text(body: bytes) -> tuple[str, list[str]]:
    """The whole, and line by line."""
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
        raise malformed("not UTF-8") from error
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise Failure(Phase.PLAYLIST, "too_many_lines", f"{len(lines)}")
    if (longest := max(map(len, lines), default=0)) > MAX_LINE:
        raise malformed(f"a line of {longest} characters")
    if "#EXT-X-DEFINE" in text and any(line.startswith("#EXT-X-DEFINE") for line in lines):
        raise Unsupported("EXT-X-DEFINE: variable substitution in a playlist")
    return text, lines


def _has_opening(lines: Sequence[str]) -> bool:
    """Whether parts are listed after the last segment's URI."""
    for line in reversed(lines):
        if line.startswith("#EXT-X-PART:"):
            return True
        if line.strip() and not line.startswith("#"):
            return False
    return False


def _tags(text: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = read_tags(text)
    except Exception as error:  # whatever nonsense makes the library trip over
        raise malformed(f"{type(error).__name__} while reading its tags") from error
    return data


def _variants(data: Mapping[str, Any], url: str) -> Iterator[Variant]:
    for entry in data["playlists"]:
        info = entry["stream_info"]
        bandwidth = info.get("bandwidth")
        if bandwidth is not None and not 0 <= bandwidth < SEQUENCES:
            raise malformed("BANDWIDTH out of range")
        yield Variant(
            uri=absolute(url, entry["uri"]),
            bandwidth=bandwidth,
            codecs=tuple(c.strip() for c in info.get("codecs", "").split(",") if c.strip()),
            resolution=resolution(info.get("resolution")),
            frame_rate=optional(info.get("frame_rate")),
            audio=info.get("audio", ""),
        )


def _sounds(data: Mapping[str, Any], url: str) -> Iterator[Sound]:
    for entry in data["media"]:
        if entry.get("type") == "AUDIO" and entry.get("uri"):
            yield Sound(
                uri=absolute(url, entry["uri"]),
                group=entry.get("group_id", ""),
                name=entry.get("name", ""),
                default=entry.get("default") == "YES",
            )


def _segments(data: Mapping[str, Any], url: str, sequence: int) -> Iterator[Segment]:
    ends: dict[str, int] = {}  # where the last sub-range of each resource ended
    for entry in data["segments"]:
        if "uri" not in entry:  # the tags of a segment still to come
            continue
        method = (entry.get("key") or {}).get("method", "NONE")
        if method != "NONE":
            raise Unsupported(f"encrypted segments (METHOD={quoted(method, 32)})")
        uri = absolute(url, entry["uri"])
        parts = tuple(_part(part, url, ends) for part in entry.get("parts", ()))
        window = byterange(entry.get("byterange"), ends.get(uri))
        if window:
            ends[uri] = window.offset + window.length
        yield Segment(
            uri=uri,
            duration=seconds(entry.get("duration"), "EXTINF"),
            sequence=sequence,
            discontinuity=entry["discontinuity"],
            program_date_time=unix_ns(entry.get("program_date_time")),
            byterange=window,
            init=_init(entry.get("init_section"), url),
            gap=bool(entry.get("gap_tag")),
            parts=parts,
        )
        sequence += 1


def _part(entry: Mapping[str, Any], url: str, ends: dict[str, int]) -> Part:
    if not entry.get("uri"):
        raise malformed("EXT-X-PART without URI")
    uri = absolute(url, entry["uri"])
    text = entry.get("byterange")
    window = byterange(text.strip('"') if text is not None else None, ends.get(uri, 0))
    if window:
        ends[uri] = window.offset + window.length
    return Part(
        uri=uri,
        duration=seconds(entry.get("duration"), "DURATION of a part"),
        independent=entry.get("independent") == "YES",
        byterange=window,
        gap=entry.get("gap") == "YES",
    )


def _opened(closed: Segment) -> Segment:
    """The segment that is being made, with what it has so far."""
    return Segment(
        uri="",
        duration=sum(part.duration for part in closed.parts),
        sequence=closed.sequence,
        discontinuity=closed.discontinuity,
        program_date_time=closed.program_date_time,
        init=closed.init,
        parts=closed.parts,
    )


def _part_target(data: Mapping[str, Any]) -> float | None:
    target = optional(data.get("part_inf", {}).get("part_target"))
    return target if target is not None and 0 < target <= LONGEST else None


def _hints(lines: Iterable[str], url: str) -> tuple[Hint | None, Init | None]:
    hint, init = None, None
    for line in lines:
        if not line.startswith("#EXT-X-PRELOAD-HINT:"):
            continue
        named = attributes(line)
        if not named.get("URI"):
            raise malformed("EXT-X-PRELOAD-HINT without URI")
        uri, start, length = (
            absolute(url, named["URI"]),
            whole(named.get("BYTERANGE-START")),
            whole(named.get("BYTERANGE-LENGTH")),
        )
        if named.get("TYPE") == "PART":
            hint = Hint(uri=uri, start=start or 0, length=length or None)
        elif named.get("TYPE") == "MAP" and (length or not start):
            init = Init(uri=uri, byterange=ByteRange(offset=start or 0, length=length) if length else None)
    return hint, init


def _reports(data: Mapping[str, Any], url: str) -> Iterator[Report]:
    for entry in data.get("rendition_reports", ()):
        last = whole(entry.get("last_msn"))
        if entry.get("uri") and last is not None:
            yield Report(uri=absolute(url, entry["uri"]), last_sequence=last, last_part=whole(entry.get("last_part")))


def _init(section: Mapping[str, str] | None, url: str) -> Init | None:
    if not section:
        return None
    if "uri" not in section:
        raise malformed("EXT-X-MAP without URI")
    return Init(uri=absolute(url, section["uri"]), byterange=byterange(section.get("byterange"), 0))


def _version(data: Mapping[str, Any]) -> int:
    version = data.get("version", 1)
    return version if 0 < version < 1000 else 1
