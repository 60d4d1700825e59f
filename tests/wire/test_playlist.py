"""Playlists come out as our facts or as our errors, whatever a server sends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.wire.playlist import MAX_BYTES, MAX_LINES, ByteRange, Init, Master, Media, Segment, Variant, parse

URL = "https://cdn.example/live/room/index.m3u8?token=abc"


def media(*lines: str) -> Media:
    read = parse("\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines)).encode(), URL)
    assert isinstance(read, Media)
    return read


def reason(body: bytes) -> str:
    with pytest.raises(Failure) as raised:
        parse(body, URL)
    assert raised.value.phase is Phase.PLAYLIST
    return raised.value.reason


def broken(*lines: str) -> str:
    return reason("\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines)).encode())


def test_a_master_playlist_lists_its_variants_with_absolute_uris():
    read = parse(
        b"#EXTM3U\n#EXT-X-VERSION:6\n"
        b'#EXT-X-STREAM-INF:BANDWIDTH=2000000,CODECS="avc1.64001f, mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.97\n'
        b"720/index.m3u8\n"
        b"#EXT-X-STREAM-INF:BANDWIDTH=300000\n"
        b"//edge.example/low.m3u8\n",
        URL,
    )
    assert read == Master(
        url=URL,
        version=6,
        variants=(
            Variant(
                uri="https://cdn.example/live/room/720/index.m3u8",
                bandwidth=2_000_000,
                codecs=("avc1.64001f", "mp4a.40.2"),
                resolution=(1280, 720),
                frame_rate=29.97,
            ),
            Variant(uri="https://edge.example/low.m3u8", bandwidth=300_000),
        ),
    )


def test_a_media_playlist_lists_its_segments_in_sequence():
    read = media(
        "#EXT-X-VERSION:7",
        "#EXT-X-MEDIA-SEQUENCE:41",
        '#EXT-X-MAP:URI="init.mp4",BYTERANGE="700@0"',
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:58:00.250Z",
        "#EXTINF:5.96,title, with a comma",
        "41.m4s",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF:6,",
        "/other/42.m4s",
        "#EXT-X-GAP",
        "#EXTINF:6,",
        "43.m4s",
        "#EXT-X-ENDLIST",
    )
    init = Init(uri="https://cdn.example/live/room/init.mp4", byterange=ByteRange(offset=0, length=700))
    at = int(datetime(2026, 11, 21, 8, 58, tzinfo=UTC).timestamp()) * 10**9 + 250_000_000
    assert read.segments == (
        Segment(uri="https://cdn.example/live/room/41.m4s", duration=5.96, sequence=41, program_date_time=at, init=init),
        Segment(uri="https://cdn.example/other/42.m4s", duration=6.0, sequence=42, discontinuity=True, init=init),
        Segment(uri="https://cdn.example/live/room/43.m4s", duration=6.0, sequence=43, init=init, gap=True),
    )
    assert (read.target_duration, read.media_sequence, read.endlist, read.version) == (6.0, 41, True, 7)
    assert read.duration == pytest.approx(17.96)


def test_byte_ranges_go_on_where_the_last_one_of_the_same_resource_ended():
    read = media("#EXT-X-BYTERANGE:100@50", "#EXTINF:6,", "all.ts", "#EXT-X-BYTERANGE:30", "#EXTINF:6,", "all.ts")
    assert [s.byterange for s in read.segments] == [ByteRange(offset=50, length=100), ByteRange(offset=150, length=30)]
    assert read.segments[1].byterange is not None
    assert read.segments[1].byterange.header == "bytes=150-179"


def test_start_and_hold_back_are_read():
    read = media("#EXT-X-START:TIME-OFFSET=-12.5,PRECISE=YES", "#EXT-X-SERVER-CONTROL:HOLD-BACK=18.0", "#EXTINF:6,", "1.ts")
    assert (read.start, read.hold_back) == (-12.5, 18.0)


def test_a_low_latency_playlist_reads_as_the_plain_one_it_also_is():
    read = media(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0",
        "#EXT-X-PART-INF:PART-TARGET=0.33",
        '#EXT-X-PART:DURATION=0.33,URI="1.1.mp4",INDEPENDENT=YES',
        "#EXTINF:1,",
        "1.mp4",
        '#EXT-X-PART:DURATION=0.33,URI="2.1.mp4"',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="2.2.mp4"',
    )
    assert [s.uri for s in read.segments] == ["https://cdn.example/live/room/1.mp4"]


def test_a_segment_still_to_come_is_not_listed():
    assert media("#EXTINF:6,", "1.ts", "#EXTINF:6,").segments[-1].sequence == 0


def test_nothing_listed_yet_is_a_playlist_all_the_same():
    assert media().segments == ()


def test_a_byte_order_mark_and_windows_lines_are_survived():
    read = parse(b"\xef\xbb\xbf#EXTM3U\r\n#EXT-X-TARGETDURATION:6\r\n#EXTINF:6,\r\n1.ts\r\n", URL)
    assert isinstance(read, Media)
    assert len(read.segments) == 1


def test_unknown_tags_and_comments_are_passed_over():
    assert len(media("#EXT-X-OF-THE-FUTURE:1", "# hello", "", "#EXTINF:6,", "1.ts").segments) == 1


def test_a_time_without_a_zone_is_nobodys():
    assert media("#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:58:00", "#EXTINF:6,", "1.ts").segments[0].program_date_time is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html>",
        b"\x47" * 188,
        b"\x1f\x8b\x08",
        b"#EXTM3U8\n",
        b"#EXTINF:6,\n1.ts",
        b"{}",
        b"\n#EXTM3U\n",
        "#EXTM3U".encode("utf-16"),
    ],
)
def test_what_does_not_begin_as_one_is_not_a_playlist(body: bytes):
    assert reason(body) == "not_a_playlist"


def test_bytes_are_capped_before_anything_is_read():
    assert reason(b"#EXTM3U\n" + b"x" * MAX_BYTES) == "too_large"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r", "\u2028".encode()])
def test_lines_are_capped_whatever_ends_them(ending: bytes):
    assert reason(b"#EXTM3U\n" + b"#" + ending * (MAX_LINES + 1)) == "too_many_lines"


def test_as_many_lines_as_allowed_are_read():
    body = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + b"#EXTINF:6,\n1.ts\n" * (MAX_LINES // 2 - 1)
    read = parse(body, URL)
    assert isinstance(read, Media)
    assert len(read.segments) == MAX_LINES // 2 - 1


def test_nothing_at_all_is_empty():
    assert reason(b"#EXTM3U\n") == "empty"


@pytest.mark.parametrize(
    "lines",
    [
        ("#EXTINF:soon,", "1.ts"),
        ("#EXTINF:nan,", "1.ts"),
        ("#EXTINF:inf,", "1.ts"),
        ("#EXTINF:-1,", "1.ts"),
        ("#EXTINF:1e300,", "1.ts"),
        ("#EXT-X-BYTERANGE:1@0", "1.ts"),
        ("#EXT-X-BYTERANGE:1", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-BYTERANGE:a@b", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-BYTERANGE:-5@0", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-MAP:BYTERANGE=1@0", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-MEDIA-SEQUENCE:-1", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-MEDIA-SEQUENCE:99999999999999999999", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-MEDIA-SEQUENCE:x", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-PROGRAM-DATE-TIME:yesterday", "#EXTINF:6,", "1.ts"),
        ("#EXT-X-PROGRAM-DATE-TIME:9999-12-31T23:59:59Z", "#EXTINF:3600,", "1.ts", "#EXTINF:3600,", "2.ts"),
        ("#EXT-X-KEY:METHOD", "#EXTINF:6,", "1.ts"),
        ("#EXTINF:6,", "http://[::1/1.ts"),
        ("#EXTINF:6,", "http://host:99999/1.ts"),
        ("#EXTINF:6,", "a" * 20_000),
        ("#EXTINF:6,", "1.ts", "#EXT-X-STREAM-INF:BANDWIDTH=1", "2.m3u8"),
    ],
)
def test_nonsense_is_malformed(lines: tuple[str, ...]):
    assert broken(*lines) == "malformed"


def test_a_media_playlist_without_a_target_duration_is_malformed():
    assert reason(b"#EXTM3U\n#EXTINF:6,\n1.ts\n") == "malformed"


@pytest.mark.parametrize("stream", ["RESOLUTION=big", "RESOLUTION=0x0", "BANDWIDTH=x", "BANDWIDTH=-5", "BANDWIDTH=inf"])
def test_a_variant_of_nonsense_is_malformed(stream: str):
    assert reason(f"#EXTM3U\n#EXT-X-STREAM-INF:{stream}\n1.m3u8\n".encode()) == "malformed"


def test_what_is_not_utf_8_is_malformed():
    assert reason(b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\xff\n1.ts\n") == "malformed"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "data:text/plain,x",
        "ftp://host/1.ts",
        "javascript:1",
        "concat:a|b",
        "http:///1.ts",
        "https://user:pw@host/1.ts",
    ],
)
@pytest.mark.parametrize("form", ["#EXTINF:6,\n{}", '#EXT-X-MAP:URI="{}"\n#EXTINF:6,\n1.ts'])
def test_only_http_is_gone_to(uri: str, form: str):
    assert broken(form.format(uri)) == "address_refused"


def test_a_playlist_of_a_variant_is_gone_to_by_http_only():
    assert reason(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///x.m3u8\n") == "address_refused"


def test_an_encrypted_segment_is_unsupported_and_clear_ones_are_not():
    assert media("#EXT-X-KEY:METHOD=NONE", "#EXTINF:6,", "1.ts").segments
    with pytest.raises(Unsupported, match="SAMPLE-AES"):
        media('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"', "#EXTINF:6,", "1.ts")


def test_variable_substitution_is_unsupported():
    with pytest.raises(Unsupported, match="EXT-X-DEFINE"):
        media('#EXT-X-DEFINE:NAME="host",VALUE="x"', "#EXTINF:6,", "{$host}/1.ts")


TAGS = st.sampled_from(
    [
        "#EXTM3U", "#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY",
        "#EXT-X-DISCONTINUITY-SEQUENCE", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-KEY", "#EXT-X-MAP", "#EXT-X-STREAM-INF",
        "#EXT-X-MEDIA", "#EXT-X-I-FRAME-STREAM-INF", "#EXT-X-ENDLIST", "#EXT-X-START", "#EXT-X-SERVER-CONTROL", "#EXT-X-PART",
        "#EXT-X-PART-INF", "#EXT-X-SKIP", "#EXT-X-GAP", "#EXT-X-DATERANGE", "#EXT-X-VERSION", "#EXT-X-CUE-OUT",
        "#EXT-X-CUE-OUT-CONT", "#EXT-X-SESSION-KEY", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT", "#EXT-X-BITRATE",
        "#EXT-X-TILES", "#EXT-OATCLS-SCTE35", "#EXT-X-ASSET",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            'URI="x"',
            "METHOD=AES-128",
            "METHOD=NONE",
            "BANDWIDTH=1",
            "TIME-OFFSET=-1",
            "2026-11-21T08:58:00Z",
            "5@3",
            'CODECS="avc1"',
            "6,",
        ]
    ),
)
LINES = st.one_of(
    st.tuples(TAGS, st.sampled_from(["", ":", ","]), VALUES).map("".join),
    st.sampled_from(["1.ts", "http://[", "//", "file:///x", "\x00", "http://h:x/", "#", "?", "HTTP://H/%"]),
    st.text(max_size=40),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(LINES, max_size=12), st.booleans())
@example(["#EXT-X-BYTERANGE:1", "1.ts"], True)
@example(["#EXT-X-TARGETDURATION:6", "#EXTINF:1,", "#EXT-X-DISCONTINUITY", "1.ts"], True)
def test_nothing_but_our_errors_comes_out(lines: list[str], target: bool):
    head = ["#EXTM3U", "#EXT-X-TARGETDURATION:6"] if target else ["#EXTM3U"]
    _only_ours("\n".join(head + lines).encode(errors="surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_nothing_but_our_errors_comes_out_of_bytes(body: bytes):
    _only_ours(b"#EXTM3U\n" + body)


def _only_ours(body: bytes) -> None:
    try:
        read = parse(body, URL)
    except (Failure, Unsupported):
        return
    uris = [v.uri for v in read.variants] if isinstance(read, Master) else [s.uri for s in read.segments]
    assert all(uri.lower().startswith(("http://", "https://")) for uri in uris)
    if isinstance(read, Media):
        assert 1 <= read.target_duration <= 3600
        assert 0 <= read.duration <= 3600 * len(read.segments)
        assert [s.sequence for s in read.segments] == [read.media_sequence + n for n in range(len(read.segments))]
