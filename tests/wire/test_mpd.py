"""DASH manifests: what is read from good ones, and that bad ones come to nothing but our errors."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.wire import mpd
from probe.wire.mpd import MAX_BYTES, MAX_ELEMENTS, Spot, address, parse
from probe.wire.mpd_facts import Span

URL = "https://cdn.example/live/room.mpd?token=s3cret"
DURATION = (
    '<SegmentTemplate media="$RepresentationID$/$Number%05d$.m4s" initialization="$RepresentationID$/i.mp4" '
    'duration="4" timescale="2" />'
)
VIDEO = '<Representation id="v" codecs="avc1.42c01e" bandwidth="800000" width="640" height="360" frameRate="30000/1001"/>'


LIVE = 'type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z"'


def manifest(sets: str, head: str = LIVE, period: str = 'id="p" start="PT10S"', more: str = "") -> bytes:
    root = f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {head}>'
    return f'<?xml version="1.0"?>{root}{more}<Period {period}>{sets}</Period></MPD>'.encode()


def timeline(segments: str, attributes: str = "") -> str:
    return f'<SegmentTemplate media="$Time$" {attributes}><SegmentTimeline>{segments}</SegmentTimeline></SegmentTemplate>'


def video(template: str = DURATION, representation: str = VIDEO, attributes: str = 'contentType="video"', more: str = "") -> str:
    return f"<AdaptationSet {attributes}>{more}{template}{representation}</AdaptationSet>"


def template_of(text: str, **options: Any) -> mpd.Template:
    return parse(manifest(video(text), **options), URL).periods[0].representations[0].template


def test_a_live_manifest_is_read() -> None:
    head = (
        'type="dynamic" availabilityStartTime="2026-01-01T00:00:00.5Z" publishTime="2026-01-01T01:00:00+01:00" '
        'minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M0.5S" suggestedPresentationDelay="PT6S" minBufferTime="PT1.5S"'
    )
    more = (
        '<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="https://time.example/"/>'
        '<ServiceDescription><Latency target="3500"/></ServiceDescription>'
    )
    audio = (
        '<AdaptationSet mimeType="audio/mp4"><Representation id="a" codecs="mp4a.40.2" audioSamplingRate="48000">'
        + DURATION
        + "</Representation></AdaptationSet>"
    )
    read = parse(manifest(video() + audio, head, more=more), URL)
    assert read.dynamic and read.availability_start == 1_767_225_600 * NS + NS // 2 and read.published == 1_767_225_600 * NS
    assert (read.update, read.window, read.delay, read.buffer, read.latency) == (2, 60.5, 6, 1.5, 3.5)
    assert read.clocks == (("urn:mpeg:dash:utc:http-iso:2014", "https://time.example/"),)
    period = read.periods[0]
    assert (period.id, period.start, period.duration) == ("p", 10, None)
    (seen,), (heard,) = period.of("video"), period.of("audio")
    assert (seen.codecs, seen.bandwidth, seen.width, seen.height) == ("avc1.42c01e", 800_000, 640, 360)
    assert seen.frame_rate == pytest.approx(29.97, abs=0.001) and heard.rate == 48_000 and heard.frame_rate is None
    assert read.wall(period, seen.template, 4) == 1_767_225_600 * NS + NS // 2 + 12 * NS


def test_addresses_are_filled_in_and_taken_from_every_base_url() -> None:
    based = "<BaseURL>https://a.example/x/</BaseURL>", "<BaseURL>y/</BaseURL>", "<BaseURL>z/</BaseURL>", "<BaseURL>/r/</BaseURL>"
    representation = VIDEO.replace("/>", f">{based[3]}</Representation>")
    read = (
        parse(manifest(based[1] + video(representation=representation, more=based[2]), more=based[0]), URL)
        .periods[0]
        .representations[0]
    )
    assert address(read, Spot(42, 7, 4)) == "https://a.example/r/v/00042.m4s"
    assert address(read, None) == "https://a.example/r/v/i.mp4"
    plain = parse(manifest(video()), URL).periods[0].representations[0]
    assert address(plain, Spot(1, 0, 4)) == "https://cdn.example/live/v/00001.m4s"  # without the manifest's token


@pytest.mark.parametrize(
    ("pattern", "filled"),
    [
        ("$Time$.m4s", "8000000000.m4s"),
        ("$RepresentationID$_$Bandwidth%010d$_$Number$$$.m4s", "v_0000800000_7$.m4s"),
        ("$Number%03d$/$Time%03d$", "007/8000000000"),
    ],
)
def test_identifiers_are_replaced(pattern: str, filled: str) -> None:
    read = parse(manifest(video(f'<SegmentTemplate media="{pattern}" duration="4"/>')), URL).periods[0].representations[0]
    assert address(read, Spot(7, 8_000_000_000, 4)) == f"https://cdn.example/live/{filled}"


def test_a_template_inherits_attribute_by_attribute_from_period_and_set() -> None:
    period = '<SegmentTemplate timescale="1000" startNumber="5" presentationTimeOffset="9"/>'
    group = '<SegmentTemplate media="$Number$" duration="2000"/>'
    representation = VIDEO.replace(
        "/>", '><SegmentTemplate timescale="500" availabilityTimeOffset="1.5" availabilityTimeComplete="false"/></Representation>'
    )
    read = parse(manifest(period + video(group, representation)), URL).periods[0].representations[0].template
    assert (read.timescale, read.start_number, read.offset, read.duration) == (500, 5, 9, 2000)
    assert (read.early, read.whole, read.chunked, read.longest) == (1.5, False, True, 4)


def test_a_timeline_is_runs_of_segments() -> None:
    read = template_of(timeline('<S t="100" d="20" r="2"/><S d="30"/><S t="200" d="20"/>', 'timescale="10" startNumber="3"'))
    assert read.spans == (Span(100, 20, 3), Span(160, 30, 1), Span(200, 20, 1))
    assert [read.at_or_after(t) for t in (0, 101, 159, 161, 201)] == [
        Spot(3, 100, 20), Spot(4, 120, 20), Spot(6, 160, 30), Spot(7, 200, 20), None,
    ]  # fmt: skip
    assert [read.at_or_before(t) for t in (99, 100, 159, 199, 999)] == [
        None, Spot(3, 100, 20), Spot(5, 140, 20), Spot(6, 160, 30), Spot(7, 200, 20),
    ]  # fmt: skip
    assert (read.first, read.end, read.longest) == (100, 220, 3.0)


def test_a_run_without_end_reaches_the_next_or_the_end_of_its_period() -> None:
    def endless(more: str = "") -> str:
        return timeline(f'<S t="1000" d="20" r="-1"/>{more}', 'timescale="10" presentationTimeOffset="1000"')

    assert template_of(endless('<S t="1050" d="20"/>')).spans == (Span(1000, 20, 3), Span(1050, 20, 1))
    assert template_of(endless(), period='start="PT0S" duration="PT9S"').spans == (Span(1000, 20, 5),)
    with pytest.raises(Unsupported, match="without end"):
        template_of(endless())


def test_periods_begin_where_they_say_or_where_the_one_before_ends() -> None:
    three = "".join(f"<Period {said}>{video()}</Period>" for said in ('duration="PT5S"', "", 'start="PT60S"'))
    assert [(p.start, p.duration) for p in parse(f"<MPD {LIVE}>{three}</MPD>".encode(), URL).periods] == [
        (0, 5),
        (5, 55),
        (60, None),
    ]


def test_what_has_an_essential_property_we_do_not_know_is_left_out() -> None:
    tiles = video(more='<EssentialProperty schemeIdUri="http://dashif.org/guidelines/thumbnail_tile" value="10x1"/>')
    assert len(parse(manifest(tiles + video()), URL).periods[0].representations) == 1
    with pytest.raises(Unsupported, match="thumbnail_tile"):
        parse(manifest(tiles), URL)


def test_encryption_is_told_of_each_representation() -> None:
    locked = video(more='<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="cenc"/>')
    assert [r.protection for r in parse(manifest(locked + video()), URL).periods[0].representations] == [
        "urn:mpeg:dash:mp4protection:2011",
        "",
    ]


def test_a_type_nobody_gave_is_static() -> None:
    assert not parse(manifest(video(), head=""), URL).dynamic


def test_what_lies_elsewhere_is_never_fetched_and_does_no_harm() -> None:
    link = 'xmlns:x="http://www.w3.org/1999/xlink" x:href="http://169.254.169.254/period" x:actuate="onLoad"'
    remote = f"<Period {link}/><PatchLocation>p.mpp</PatchLocation>"
    assert len(parse(manifest(video(), more=remote), URL).periods) == 2


def test_segments_addressed_otherwise_are_unsupported() -> None:
    with pytest.raises(Unsupported, match="SegmentTemplate"):
        parse(manifest(video('<SegmentList duration="2"><SegmentURL media="1.m4s"/></SegmentList>')), URL)


LAUGHS = (
    b'<!DOCTYPE MPD [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "&%c;&%c;">' % (c + 1, c, c) for c in range(97, 117))
    + b"]><MPD>&u;</MPD>"
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_a_playlist"),
        (b"<!doctype html><h1>It works!</h1>", "not_a_playlist"),
        (b"<html><body/></html>", "not_a_playlist"),
        (b"#EXTM3U\n", "not_a_playlist"),
        (manifest(video())[:-40], "malformed"),
        (LAUGHS, "malformed"),
        (b'<!DOCTYPE MPD [<!ENTITY x SYSTEM "file:///etc/passwd">]><MPD>&x;</MPD>', "malformed"),
        (b'<?xml version="1.0" encoding="utf-7"?><MPD/>', "malformed"),
        (b"<MPD>" + b" " * MAX_BYTES + b"</MPD>", "too_large"),
        (b"<MPD>" + b"<S/>" * MAX_ELEMENTS + b"</MPD>", "too_many_lines"),
        (b"<MPD>" + b"<S>" * 100, "malformed"),
        (b"<MPD/>", "empty"),
        (manifest(""), "empty"),
        (manifest("<AdaptationSet contentType='text'><Representation id='t'/></AdaptationSet>"), "empty"),
        (manifest(video(more="<BaseURL>file:///etc/passwd</BaseURL>")), "address_refused"),
        (manifest(video(more="<BaseURL>http://user:secret@cdn.example/</BaseURL>")), "address_refused"),
        (manifest(video(), more="<Location>ftp://cdn.example/</Location>"), "address_refused"),
        (manifest(video(DURATION.replace('"4"', '"0"'))), "malformed"),
        (manifest(video(DURATION.replace('timescale="2"', 'timescale="0"'))), "malformed"),
        (manifest(video(DURATION.replace('"4"', '"99999999"'))), "malformed"),
        (manifest(video(DURATION.replace("$Number%05d$", "$Number%5d$"))), "malformed"),
        (manifest(video(DURATION.replace("$Number%05d$", "one"))), "malformed"),
        (manifest(video('<SegmentTemplate media="$Time$"/>')), "malformed"),
        (manifest(video(timeline('<S t="5" d="1"/><S t="3" d="1"/>'))), "malformed"),
        (manifest(video(timeline('<S t="5" d="-1"/>'))), "malformed"),
        (manifest(video(timeline('<S d="1" r="99999999"/>'))), "malformed"),
        (manifest(video(), head='type="dynamic" availabilityStartTime="soon"'), "malformed"),
        (manifest(video(), head='minimumUpdatePeriod="2"'), "malformed"),
        (manifest(video(), head='type="dynamic"'), "malformed"),
        (manifest(video(representation=VIDEO * 201)), "too_many_lines"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(body: bytes, reason: str) -> None:
    with pytest.raises(Failure) as raised:
        parse(body, URL)
    assert (raised.value.phase, raised.value.reason) == ("playlist", reason)
    assert "s3cret" not in str(raised.value) and "secret" not in str(raised.value)


ELEMENTS = ["Period", "AdaptationSet", "Representation", "SegmentTemplate", "SegmentTimeline", "S", "BaseURL", "Location"]
ATTRIBUTES = [
    *("type", "availabilityStartTime", "start", "duration", "timescale", "media", "initialization", "t", "d", "r", "contentType"),
    *("codecs", "availabilityTimeOffset", "presentationTimeOffset", "startNumber", "bandwidth", "width", "frameRate", "mimeType"),
]
VALUES = [
    *("dynamic", "2026-01-01T00:00:00Z", "PT0S", "P1Y", "PT", "$Time$", "$Number%099d$", "$Number$", "$", "-1", "0", "1", "30/0"),
    *("4611686018427387904", "9" * 30, "INF", "NaN", "1e999", "video", "video/mp4", "http://[::1", "//x", "file:/", "é", "&#0;"),
]
WORDS = st.sampled_from([*ELEMENTS, *ATTRIBUTES, *VALUES, "&", "<", '"', "\x00"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(st.sampled_from(ELEMENTS)) if draw(st.booleans()) else ELEMENTS[min(depth, 5)]
    said = draw(st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(VALUES), max_size=5))
    inner = "".join(draw(st.lists(elements(depth + 1), max_size=2))) if depth < 6 else ""
    attributes = "".join(f' {key}="{value}"' for key, value in said.items())
    return f"<{name}{attributes}>{inner or draw(st.sampled_from(VALUES))}</{name}>"


def _read(body: bytes) -> None:
    with contextlib.suppress(Failure, Unsupported):
        read = parse(body, URL)
        for period in read.periods:
            for representation in period.representations:
                for ticks in (0, 1, -(1 << 62), 1 << 62):
                    spot = representation.template.at_or_after(ticks)
                    address(representation, None)
                    if spot is not None:
                        address(representation, spot)


@settings(max_examples=60, deadline=None)
@given(elements())
def test_any_xml_comes_to_facts_or_to_our_errors(text: str) -> None:
    _read(f"<MPD>{text}</MPD>".encode())


GOOD = manifest(
    video(timeline('<S t="100" d="20" r="2"/><S d="30"/>', 'timescale="10" startNumber="3"')) + video(),
    head=f'{LIVE} minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M"',
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 20), WORDS | st.text(max_size=8)), min_size=1, max_size=4)
)
def test_a_good_manifest_with_anything_put_into_it_comes_to_facts_or_to_our_errors(edits: list[tuple[int, int, str]]) -> None:
    body = bytearray(GOOD)
    for at, length, text in edits:
        body[at : at + length] = text.encode()
    _read(bytes(body))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_come_to_our_errors(body: bytes) -> None:
    _read(body)
    _read(b"<MPD>" + body)
