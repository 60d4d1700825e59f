"""DASH manifests: bytes → frozen facts, or one of our errors (ISO/IEC 23009-1 §5).

Read by defusedxml, which refuses entities and document types, through a builder that stops at too many elements or too deep
ones before they cost anything. What is inherited (BaseURL, SegmentTemplate, mimeType, codecs) is resolved here, so that a
Representation stands for itself. Every number is checked, every address is http or https.

Left out: SegmentList and SegmentBase (Unsupported where nothing else is offered), subtitles, and whatever carries an
EssentialProperty, which by the standard is to be ignored by who does not know it. Never fetched: xlink, patches, events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.wire.mpd_facts import Manifest, Period, Representation, Span, Spot, Template
from probe.wire.playlist_values import LONGEST, absolute, malformed

__all__ = ["MAX_BYTES", "Manifest", "Period", "Representation", "Spot", "Template", "address", "parse"]

MAX_BYTES = 2 << 20
MAX_ELEMENTS = 30_000
_DEPTH = 24
_REPRESENTATIONS = 200
_SPANS = 100_000  # of all representations' timelines; one that many inherit counts for each
_SEGMENTS = 10_000_000  # of one S: eight months of two seconds each
_TICKS = 1 << 62
_SECONDS = 1e9
_TEXT = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(
    r"P(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12}(?:\.\d{0,20})?)S)?)?"
)
_UNITS = (365 * 86400, 30 * 86400, 86400, 3600, 60, 1)
_IDENTIFIER = re.compile(r"\$(?:(RepresentationID|Number|Bandwidth|Time)(?:%0(\d{1,2})d)?)?\$")


def parse(body: bytes, url: str) -> Manifest:
    """Read an MPD that was fetched from `url` (after redirects); its addresses come out absolute.

    Raises Failure(playlist): too_large, too_many_lines (elements), not_a_playlist, malformed, empty (no Period with
    media), address_refused; Unsupported where nothing offered can be addressed by a template."""
    root = _tree(body)
    base = _base(root, url)
    periods = _periods(root, base, _duration(root.get("mediaPresentationDuration")), _Room())
    if not any(period.representations for period in periods):
        skipped = [reason for period in periods for reason in period.skipped]
        if skipped:
            raise Unsupported(quoted("; ".join(dict.fromkeys(skipped)), 300))
        raise Failure(Phase.PLAYLIST, "empty", "no Period with video or audio")
    dynamic = root.get("type", "static") == "dynamic"
    start = _moment(root.get("availabilityStartTime"))
    if dynamic and start is None:
        raise malformed("a live manifest without availabilityStartTime")
    target = root.find("{*}ServiceDescription/{*}Latency")
    location = root.findtext("{*}Location", "").strip()
    return Manifest(
        url=url,
        dynamic=dynamic,
        periods=periods,
        availability_start=start,
        published=_moment(root.get("publishTime")),
        update=_duration(root.get("minimumUpdatePeriod")),
        window=_duration(root.get("timeShiftBufferDepth")),
        delay=_duration(root.get("suggestedPresentationDelay")),
        buffer=_duration(root.get("minBufferTime")),
        latency=None if target is None or (ms := _whole(target, "target")) is None else ms / 1000,
        clocks=tuple(
            (quoted(e.get("schemeIdUri", ""), 200), quoted(e.get("value", ""), 2000)) for e in root.findall("{*}UTCTiming")[:8]
        ),
        location=absolute(url, location) if location else "",
    )


def address(representation: Representation, spot: Spot | None) -> str:
    """Where a segment is (§5.3.9.4.4); for None, the initialization segment, empty where there is none."""
    pattern = representation.template.media if spot is not None else representation.template.initialization
    if not pattern:
        return ""

    def fill(match: re.Match[str]) -> str:
        name, width = match.group(1), int(match.group(2) or 1)
        if name is None:
            return "$"
        if name == "RepresentationID":
            return representation.id
        value = representation.bandwidth if name == "Bandwidth" else None
        if spot is not None and name != "Bandwidth":
            value = spot.number if name == "Number" else spot.time
        if value is None:
            raise malformed(f"${name}$ without a value")
        return f"{value:0{width}d}"

    filled = _IDENTIFIER.sub(fill, pattern)
    return absolute(representation.base, filled)


class _Builder(TreeBuilder):
    """Stops before a tree becomes large. Only what has no namespace or some: names are matched without theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._elements = self._depth = 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        self._elements += 1
        self._depth += 1
        if self._elements > MAX_ELEMENTS:
            raise Failure(Phase.PLAYLIST, "too_many_lines", f"more than {MAX_ELEMENTS} elements")
        if self._depth > _DEPTH:
            raise malformed(f"elements more than {_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _tree(body: bytes) -> Element:
    if len(body) > MAX_BYTES:
        raise Failure(Phase.PLAYLIST, "too_large", f"{len(body)} bytes")
    parser = DefusedXMLParser(target=_Builder(), forbid_dtd=True)
    try:
        parser.feed(body)
        root: Element = parser.close()
    except Failure:
        raise
    except ParseError as error:
        reason = "malformed" if b"<MPD" in body[:4096] else "not_a_playlist"
        raise Failure(Phase.PLAYLIST, reason, f"no XML: {quoted(str(error), 100)}") from error
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise malformed(f"{type(error).__name__} while reading its XML") from error
    if _name(root) != "MPD":
        raise Failure(Phase.PLAYLIST, "not_a_playlist", f"its root is {quoted(_name(root), 40)!r}")
    return root


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _base(element: Element, above: str) -> str:
    """The first BaseURL; others are the same media elsewhere."""
    text = element.findtext("{*}BaseURL", "").strip()
    return absolute(above, text) if text else above


class _Room:
    """What a manifest may come to once its parts have inherited all they inherit."""

    def __init__(self) -> None:
        self._representations, self._spans = _REPRESENTATIONS, _SPANS

    def representation(self) -> None:
        self._representations -= 1
        if self._representations < 0:
            raise Failure(Phase.PLAYLIST, "too_many_lines", f"more than {_REPRESENTATIONS} representations")

    def spans(self, count: int) -> None:
        self._spans -= count
        if self._spans < 0:
            raise Failure(Phase.PLAYLIST, "too_many_lines", f"timelines of more than {_SPANS} entries")


def _periods(root: Element, base: str, length: float | None, room: _Room) -> tuple[Period, ...]:
    out: list[Period] = []
    end: float | None = 0.0
    elements = root.findall("{*}Period")
    starts = [_duration(element.get("start")) for element in elements]
    for n, element in enumerate(elements):
        start = starts[n] if starts[n] is not None else end
        if start is None:
            continue  # an early available period (§5.3.2.1): not begun
        following = starts[n + 1] if n + 1 < len(elements) else None
        duration = _duration(element.get("duration"))
        if following is not None and following > start:
            duration = min(following - start, duration or _SECONDS)
        elif duration is None and length is not None and length > start:
            duration = length - start
        end = None if duration is None else start + duration
        skipped: list[str] = []
        found = tuple(_representations(element, _base(element, base), skipped, duration, room))
        out.append(
            Period(
                id=quoted(element.get("id", ""), 200),
                start=start,
                duration=duration,
                representations=found,
                skipped=tuple(skipped[:8]),
            )
        )
    return tuple(out)


def _representations(
    period: Element, base: str, skipped: list[str], length: float | None, room: _Room
) -> Iterator[Representation]:
    for group in period.findall("{*}AdaptationSet"):
        if (essential := _essential(group)) is not None:
            skipped.append(essential)
            continue
        above = _base(group, base)
        for element in group.findall("{*}Representation"):
            kind = _kind(group, element)
            if kind is None:
                continue
            if (essential := _essential(element)) is not None:
                skipped.append(essential)
                continue
            room.representation()
            template = _template([period, group, element], length, room)
            if template is None:
                skipped.append(f"{kind} not addressed by a SegmentTemplate")
                continue
            yield _representation(group, element, kind, _base(element, above), template)


def _representation(group: Element, element: Element, kind: str, base: str, template: Template) -> Representation:
    both = {**group.attrib, **element.attrib}
    protections = [*group.findall("{*}ContentProtection"), *element.findall("{*}ContentProtection")]
    return Representation(
        id=quoted(element.get("id", ""), 200),
        kind=kind,
        codecs=quoted(both.get("codecs", ""), 200),
        bandwidth=_whole(element, "bandwidth"),
        width=_number(both, "width", 65_536),
        height=_number(both, "height", 65_536),
        frame_rate=_ratio(both.get("frameRate")),
        rate=_number(both, "audioSamplingRate", 1_000_000),
        base=base,
        template=template,
        protection=quoted(protections[0].get("schemeIdUri", "") or "a scheme without a name", 200) if protections else "",
    )


def _kind(group: Element, element: Element) -> str | None:
    said = group.get("contentType") or (element.get("mimeType") or group.get("mimeType") or "").partition("/")[0]
    codecs = element.get("codecs") or group.get("codecs") or ""
    if not said:
        said = "audio" if codecs.startswith(("mp4a", "opus", "ac-3", "ec-3")) else "video" if codecs else ""
    return said if said in ("video", "audio") else None


def _essential(element: Element) -> str | None:
    found = element.find("{*}EssentialProperty")
    return None if found is None else f"an essential property {quoted(found.get('schemeIdUri', ''), 100)!r}"


def _template(levels: Sequence[Element], length: float | None, room: _Room) -> Template | None:
    """SegmentTemplate's attributes come from every level, the nearest one's first, and so does its timeline (§5.3.9.1)."""
    found = [t for level in levels if (t := level.find("{*}SegmentTemplate")) is not None]
    if not found:
        return None
    said: dict[str, str] = {}
    timeline: Element | None = None
    for element in found:
        said.update(element.attrib)
        timeline = element.find("{*}SegmentTimeline") if element.find("{*}SegmentTimeline") is not None else timeline
    timescale = _needed(said, "timescale", (1 << 32) - 1, 1)
    duration = _needed(said, "duration", _TICKS, 0) or None
    if not timescale or (timeline is None and duration is None):
        raise malformed("a SegmentTemplate with neither a duration nor a timeline")
    longest = duration if timeline is None else 0
    if longest and longest / timescale > LONGEST:
        raise malformed("segments longer than an hour")
    media, initialization = said.get("media", ""), said.get("initialization", "")
    for pattern in (media, initialization):
        if len(pattern) > _TEXT or "$" in _IDENTIFIER.sub("", pattern):
            raise malformed("a template that is none")
    if not media or (timeline is None and "$Number" not in media and "$Time" not in media):
        raise malformed("a SegmentTemplate whose segments all have one address")
    offset = _needed(said, "presentationTimeOffset", _TICKS, 0)
    return Template(
        media=media,
        initialization=initialization,
        timescale=timescale,
        start_number=_needed(said, "startNumber", 1 << 53, 1),
        offset=offset,
        duration=duration if timeline is None else None,
        spans=None if timeline is None else _spans(timeline, timescale, offset, length, room),
        early=_early(said.get("availabilityTimeOffset")),
        whole=said.get("availabilityTimeComplete", "true").strip() != "false",
    )


def _spans(timeline: Element, timescale: int, offset: int, length: float | None, room: _Room) -> tuple[Span, ...]:
    spans: list[Span] = []
    elements = timeline.findall("{*}S")
    room.spans(len(elements))
    end = 0
    for n, element in enumerate(elements):
        time = _needed(element.attrib, "t", _TICKS, end)
        duration = _needed(element.attrib, "d", _TICKS, 0)
        repeat = element.get("r", "0")
        if not 0 < duration <= LONGEST * timescale or (spans and time <= spans[-1].end - spans[-1].duration):
            raise malformed("a timeline that runs backwards, or a segment longer than an hour")
        if repeat.strip() == "-1":
            limit = _needed(elements[n + 1].attrib, "t", _TICKS, 0) if n + 1 < len(elements) else None
            if limit is None:
                if length is None:
                    raise Unsupported("a timeline that goes on without end")
                limit = offset + round(length * timescale)
            count = -(-(limit - time) // duration)
        else:
            count = 1 + _needed(element.attrib, "r", _SEGMENTS, 0)
        if not 0 < count <= _SEGMENTS:
            raise malformed("a timeline's repetition out of range")
        spans.append(Span(time, duration, count))
        end = spans[-1].end
    if end >= _TICKS:
        raise malformed("a timeline out of range")
    return tuple(spans)


def _early(text: str | None) -> float:
    """availabilityTimeOffset; INF (everything is there at once) is as early as an hour."""
    if text is None:
        return 0.0
    if text.strip() == "INF":
        return LONGEST
    try:
        value = float(text)
    except ValueError as error:
        raise malformed("availabilityTimeOffset is no number") from error
    if not 0 <= value <= LONGEST:
        raise malformed("availabilityTimeOffset out of range")
    return value


def _needed(said: Mapping[str, str], name: str, most: int, default: int) -> int:
    """An attribute that, where it is there, must be a whole number from 0 to `most`."""
    text = said.get(name)
    if text is None:
        return default
    value = _digits(text)
    if value is None or value > most:
        raise malformed(f"{name} is no number, or out of range")
    return value


def _whole(element: Element, name: str) -> int | None:
    return _number(element.attrib, name, 1 << 53)


def _number(said: Mapping[str, str], name: str, most: int) -> int | None:
    """An attribute we can do without: what makes no sense is as good as absent."""
    value = _digits(said.get(name, ""))
    return value if value is not None and 0 < value <= most else None


def _digits(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def _ratio(text: str | None) -> float | None:
    """`30`, `30000/1001`."""
    above, _, below = (text or "").partition("/")
    numerator, denominator = _digits(above), _digits(below) if below else 1
    return numerator / denominator if numerator and denominator and numerator / denominator < 1000 else None


def _duration(text: str | None) -> float | None:
    """xs:duration in seconds."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None or text.strip().endswith(("P", "T")):
        raise malformed("a duration that is none")
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)
    return min(seconds, _SECONDS)


def _moment(text: str | None) -> int | None:
    """xs:dateTime in Unix ns; without a time zone it is UTC, as every player takes it."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError) as error:
        raise malformed("a time of day that is none") from error
