"""Low-latency playlists: what their tags say, how deltas are put together, what a player takes next and asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.wire.delta import may_skip, merged
from probe.wire.follow import Taken
from probe.wire.ll_follow import LowLatencyFollower
from probe.wire.playlist import parse
from probe.wire.playlist_facts import Hint, Init, Media, Part, Report, Segment, Sound
from probe.wire.playlist_values import ByteRange
from tests.tools import cost

URL = "https://cdn.example/live/room/index.m3u8"
HERE = "https://cdn.example/live/room/"
DRAFT = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-VERSION:9
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=12.0,HOLD-BACK=12
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-MEDIA-SEQUENCE:270
#EXT-X-MAP:URI="init.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:00Z
#EXTINF:4.00008,
s270.mp4
#EXT-X-PART:DURATION=2.0,URI="all.mp4",BYTERANGE="100@40",INDEPENDENT=YES
#EXT-X-PART:DURATION=2.0,URI="all.mp4",BYTERANGE="50",GAP=YES
#EXTINF:4.0,
s271.mp4
#EXT-X-DISCONTINUITY
#EXT-X-PART:DURATION=0.33334,URI="p272.0.mp4",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33334,URI="p272.1.mp4"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p272.2.mp4",BYTERANGE-START=7,BYTERANGE-LENGTH=9
#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="init2.mp4"
#EXT-X-RENDITION-REPORT:URI="../low/index.m3u8",LAST-MSN=272,LAST-PART=1
"""


def media(text: str = DRAFT) -> Media:
    read = parse(text.encode(), URL)
    assert isinstance(read, Media)
    return read


# --- what the tags say


def test_the_drafts_example_is_read():
    read = media()
    assert (read.can_block, read.part_hold_back, read.skip_until, read.hold_back) == (True, 1.0, 12.0, 12.0)
    assert read.part_target == 0.33334
    assert [len(segment.parts) for segment in read.segments] == [0, 2]
    assert read.segments[1].parts == (
        Part(uri=HERE + "all.mp4", duration=2.0, independent=True, byterange=ByteRange(offset=40, length=100)),
        Part(uri=HERE + "all.mp4", duration=2.0, gap=True, byterange=ByteRange(offset=140, length=50)),
    )
    assert read.opening is not None
    assert (read.opening.sequence, read.opening.discontinuity, read.opening.init) == (272, True, Init(uri=HERE + "init.mp4"))
    assert [part.uri for part in read.opening.parts] == [HERE + "p272.0.mp4", HERE + "p272.1.mp4"]
    assert read.opening.duration == pytest.approx(0.66668)
    assert read.hint == Hint(uri=HERE + "p272.2.mp4", start=7, length=9)
    assert read.init_hint == Init(uri=HERE + "init2.mp4")
    assert read.reports == (Report(uri="https://cdn.example/live/low/index.m3u8", last_sequence=272, last_part=1),)


def test_where_no_part_follows_the_last_segment_nothing_is_being_made():
    assert media(DRAFT.split("#EXT-X-DISCONTINUITY")[0]).opening is None


def test_sound_of_its_own_rendition_is_listed_with_its_group():
    read = parse(
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="en",DEFAULT=YES,URI="a.m3u8"\n'
        b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="in the picture"\n'
        b'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="en",URI="s.m3u8"\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"\nv.m3u8\n',
        URL,
    )
    assert not isinstance(read, Media)
    assert read.sounds == (Sound(uri=HERE + "a.m3u8", group="g", name="en", default=True),)
    assert read.variants[0].audio == "g"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("#EXT-X-PART:DURATION=1", "malformed"),
        ('#EXT-X-PART:URI="p.mp4"', "malformed"),
        ('#EXT-X-PART:DURATION=-1,URI="p.mp4"', "malformed"),
        ('#EXT-X-PART:DURATION=1,URI="p.mp4",BYTERANGE="x"', "malformed"),
        ('#EXT-X-PART:DURATION=1,URI="file:///p.mp4"', "address_refused"),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART", "malformed"),
        ('#EXT-X-PRELOAD-HINT:TYPE=PART,URI="ftp://h/p"', "address_refused"),
        ('#EXT-X-RENDITION-REPORT:URI="file:///p",LAST-MSN=1', "address_refused"),
        ("#EXT-X-SKIP:SKIPPED-SEGMENTS=99999999", "malformed"),
    ],
)
def test_tags_that_make_no_sense_are_refused(line: str, reason: str):
    with pytest.raises(Failure) as raised:
        media(DRAFT + line)
    assert raised.value.reason == reason


# --- deltas


def segment(sequence: int, **more: object) -> Segment:
    base = Segment(uri=f"{HERE}s{sequence}.mp4", duration=1.0, sequence=sequence)
    return replace(base, **more)  # type: ignore[arg-type]


def listing(first: int, last: int, opened: int = 0, **more: object) -> Media:
    """Segments `first` … `last` of four parts of 0.25 s, `opened` parts of the one that is being made."""

    def parts(sequence: int, count: int = 4) -> tuple[Part, ...]:
        return tuple(Part(uri=f"{HERE}p{sequence}.{n}.mp4", duration=0.25, independent=n == 0) for n in range(count))

    opening = segment(last + 1, uri="", duration=opened / 4, parts=parts(last + 1, opened)) if opened else None
    base = Media(
        url=URL,
        target_duration=1.0,
        media_sequence=first,
        segments=tuple(segment(n, parts=parts(n) if n > last - 3 else ()) for n in range(first, last + 1)),
        part_target=0.25,
        part_hold_back=0.75,
        can_block=True,
        skip_until=6.0,
        opening=opening,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def test_a_delta_is_put_together_with_what_is_known():
    known = listing(10, 20, 2)
    whole = listing(12, 21, 1)
    delta = replace(whole, segments=whole.segments[6:], skipped=6)
    put = merged(known, delta)
    assert put is not None
    assert [s.uri for s in put.segments] == [s.uri for s in whole.segments]
    assert (put.skipped, put.opening) == (0, whole.opening)


def test_an_init_section_named_in_what_was_skipped_goes_on_holding():
    init = Init(uri=HERE + "init.mp4")
    known = listing(10, 20)
    known = replace(known, segments=tuple(replace(s, init=init) for s in known.segments))
    put = merged(known, replace(listing(10, 21, 2), segments=listing(10, 21).segments[8:], skipped=8))
    assert put is not None and put.opening is not None
    assert {s.init for s in (*put.segments, put.opening)} == {init}


@pytest.mark.parametrize("known", [None, listing(14, 20), listing(0, 4)], ids=["nothing", "too-late", "too-early"])
def test_a_delta_against_what_is_not_known_means_nothing(known: Media | None):
    assert merged(known, replace(listing(12, 21), skipped=6)) is None


def test_a_delta_is_asked_for_while_half_of_what_it_leaves_out_has_not_passed():
    assert may_skip(listing(0, 5), 2.9)
    assert not may_skip(listing(0, 5), 3.0)
    assert not may_skip(None, 0.0)
    assert not may_skip(replace(listing(0, 5), skip_until=None), 0.0)


# --- following


def taken(follower: LowLatencyFollower) -> list[tuple[int, int | None]]:
    got = []
    while one := follower.take():
        got.append((one.segment.sequence, one.part))
    return got


def following(*lists: Media) -> LowLatencyFollower:
    follower = LowLatencyFollower()
    for n, one in enumerate(lists):
        follower.update(one, n * NS)
    return follower


def test_it_begins_at_the_last_independent_part_before_the_place_the_server_asks_for():
    follower = following(listing(10, 20, 2))
    first = follower.take()
    assert first is not None
    assert (first.segment.sequence, first.part, first.anew) == (20, 0, True)  # 0.75 s before the end lies 0.75 s into 20
    assert first.lead == pytest.approx(0.75)
    assert taken(follower) == [(20, 1), (20, 2), (20, 3), (21, 0), (21, 1)]


def test_without_a_hold_back_it_is_three_parts_and_never_less_than_one():
    assert following(listing(10, 20, 2, part_hold_back=None)).take().lead == pytest.approx(0.75)  # type: ignore[union-attr]
    near = following(listing(10, 20, 2, part_hold_back=0.0)).take()
    assert near is not None and near.segment.sequence == 21 and near.lead == pytest.approx(0.25)


def test_where_no_part_is_marked_the_first_of_a_segment_will_do():
    def plain(one: Segment) -> Segment:
        return replace(one, parts=tuple(replace(part, independent=False) for part in one.parts))

    marked = listing(10, 20, 2)
    assert marked.opening is not None
    unmarked = replace(marked, segments=tuple(map(plain, marked.segments)), opening=plain(marked.opening))
    assert taken(following(unmarked))[0] == (20, 0)


def test_a_list_without_parts_is_followed_by_segments():
    follower = following(replace(listing(10, 20), segments=tuple(segment(n) for n in range(10, 21)), part_target=None))
    assert taken(follower) == [(18, None), (19, None), (20, None)]
    assert not follower.parted
    assert follower.directives(0) == {"_HLS_msn": "21", "_HLS_skip": "YES"}


def test_what_opens_is_gone_on_with_once_it_is_closed():
    follower = following(listing(10, 20, 2))
    taken(follower)
    assert follower.update(listing(10, 21, 1), NS)
    assert taken(follower) == [(21, 2), (21, 3), (22, 0)]


def test_the_next_load_waits_for_the_next_part():
    follower = following(listing(10, 20, 2))
    assert follower.directives(NS) == {"_HLS_msn": "21", "_HLS_part": "2", "_HLS_skip": "YES"}
    assert follower.directives(NS, skip=False) == {"_HLS_msn": "21", "_HLS_part": "2"}
    assert follower.directives(10 * NS) == {"_HLS_msn": "21", "_HLS_part": "2"}
    assert following(listing(10, 20)).directives(0)["_HLS_part"] == "0"
    assert following(listing(10, 20, endlist=True)).directives(0) == {}


def test_the_hint_is_for_when_everything_listed_was_taken():
    follower = following(listing(10, 20, 2, hint=Hint(uri=HERE + "p21.2.mp4")))
    assert follower.hinted() is None
    taken(follower)
    assert follower.hinted() == Hint(uri=HERE + "p21.2.mp4")


def test_an_edge_that_lags_by_a_part_brings_no_news():
    follower = following(listing(10, 20, 3))
    assert not follower.update(listing(10, 20, 2), NS)
    assert follower.media is not None and follower.media.opening is not None
    assert len(follower.media.opening.parts) == 3


def test_numbers_that_go_back_are_counted():
    follower = following(listing(10, 20, 3), listing(9, 19, 3), listing(11, 21), listing(11, 22))
    assert follower.backwards == 1


def test_what_could_not_be_fetched_is_given_again_and_what_was_given_up_is_not():
    follower = following(listing(10, 20, 2))
    first = follower.take()
    assert isinstance(first, Taken)
    follower.put_back(first)
    assert follower.take() == first
    second = follower.take()
    follower.give_up()
    assert second is not None and taken(follower) == [(21, 0), (21, 1)]  # the next that can be begun with


def test_the_rest_of_a_segment_whose_parts_are_no_longer_listed_is_left_out():
    follower = following(listing(10, 20, 2))
    follower.take()
    old = listing(10, 24, 1)
    follower.update(old, NS)
    got = follower.take()
    assert got is not None and (got.segment.sequence, got.part, got.anew) == (21, None, True)
    assert follower.skipped == 1


def test_far_behind_it_goes_to_live_and_never_back():
    follower = following(listing(10, 20, 2))
    follower.take()
    follower.update(listing(14, 26, 2), NS)
    assert follower.far_behind()
    assert follower.to_live() > 0
    taken = follower.take()
    assert taken is not None and taken.segment.sequence == 26 and taken.jumped
    assert follower.to_live() == 0
    follower.put_back(taken)
    assert follower.take() == taken
    assert not follower.take().jumped  # type: ignore[union-attr]


def test_overdue_counts_from_when_a_part_should_have_come():
    follower = LowLatencyFollower()
    follower.update(listing(10, 20, 2), 0, NS)
    assert follower.overdue(NS + NS // 5) == 0
    assert follower.overdue(2 * NS) == NS - NS // 4


def test_walls_are_carried_on_and_back_through_what_says_none():
    dated = listing(10, 20, 2)
    dated = replace(dated, segments=(*dated.segments[:5], segment(15, program_date_time=100 * NS), *dated.segments[6:]))
    follower = following(dated)
    first = follower.take()
    assert first is not None and first.wall == 105 * NS
    second = follower.take()
    assert second is not None and second.wall == 105 * NS + NS // 4
    assert follower._walls[10] == 95 * NS


def test_another_rendition_is_gone_on_with_at_the_same_wall_clock_else_at_the_same_number():
    def dated(first: int, last: int, wall: int) -> Media:
        one = listing(first, last)
        return replace(one, segments=(replace(one.segments[0], program_date_time=wall * NS), *one.segments[1:]))

    before = following(dated(10, 20, 1000))
    taken(before)
    other = following(dated(510, 520, 1000))
    assert other.align(before)
    other.update(dated(510, 521, 1000), NS)
    assert taken(other)[0] == (521, 0)
    plain = following(listing(10, 20))
    taken(plain)
    same = following(listing(10, 21))
    assert same.align(plain)
    assert taken(same)[0] == (21, 0)
    assert not following(listing(500, 520)).align(plain)


# --- hostile lists


def test_a_list_of_parts_only_as_long_as_is_read_is_followed_in_time():
    lines = [f'#EXT-X-PART:DURATION=0.1,URI="p{n}"' for n in range(6000)]
    text = DRAFT + "\n".join(f"{line}\n#EXTINF:1,\ns{n}.mp4" for n, line in enumerate(lines))

    def follow() -> None:
        follower = following(media(text))
        while follower.take():
            pass
        follower.to_live()

    assert cost(follow) < 250


PARTS = st.builds(
    Part,
    uri=st.sampled_from(["http://h/a", "http://h/b"]),
    duration=st.floats(0, 3600),
    independent=st.booleans(),
    gap=st.booleans(),
)
SEGMENTS = st.builds(
    Segment,
    uri=st.sampled_from(["http://h/1", "http://h/2", "http://h/3"]),
    duration=st.floats(0, 3600),
    sequence=st.just(0),
    discontinuity=st.booleans(),
    gap=st.booleans(),
    program_date_time=st.none() | st.integers(0, 1 << 62),
    parts=st.lists(PARTS, max_size=3).map(tuple),
)


@st.composite
def lists(draw: st.DrawFn) -> Media:
    first = draw(st.integers(0, 12))
    count = draw(st.integers(0, 4))
    numbered = [replace(draw(SEGMENTS), sequence=first + n) for n in range(count)]
    parts = tuple(draw(st.lists(PARTS, min_size=1, max_size=3)))
    opening = Segment(uri="", duration=sum(p.duration for p in parts), sequence=first + count, parts=parts)
    return Media(
        url=URL,
        target_duration=draw(st.floats(1, 3600)),
        media_sequence=first,
        segments=tuple(numbered),
        endlist=draw(st.booleans()),
        start=draw(st.none() | st.floats(-1e9, 1e9)),
        part_target=draw(st.none() | st.floats(0.001, 10)),
        part_hold_back=draw(st.none() | st.floats(-1e9, 1e9)),
        can_block=draw(st.booleans()),
        skip_until=draw(st.none() | st.floats(-1e9, 1e9)),
        opening=draw(st.sampled_from([None, opening])),
        hint=draw(st.sampled_from([None, Hint(uri="http://h/c")])),
    )


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(lists(), st.sampled_from(["take", "back", "up", "live", "align"])), max_size=5))
def test_whatever_is_listed_following_it_ends_and_goes_on(steps: list[tuple[Media, str]]):
    follower = LowLatencyFollower()
    for n, (one, what) in enumerate(steps):
        follower.update(one, n * NS)
        follower.directives(n * NS)
        follower.hinted()
        got, count = follower.take(), 0
        if what == "back" and got:
            follower.put_back(got)
        elif what == "up":
            follower.give_up()
        elif what == "live":
            follower.to_live()
        elif what == "align":
            other = LowLatencyFollower()
            other.update(one, n * NS)
            other.align(follower)
            follower = other
        while follower.take():
            count += 1
            assert count < 100
        assert follower.behind >= -1e-6
        assert follower.overdue((n + 1) * NS) >= 0


HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
TAGS = st.sampled_from([line for line in DRAFT.splitlines() if line.startswith("#EXT-X")])
MANGLED = st.tuples(TAGS, st.sampled_from(["", "YES", "=", ",", '"', ":"]), st.integers(0, 60)).map(
    lambda made: made[0][: made[2]] + made[1]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(TAGS | MANGLED | st.sampled_from(["#EXTINF:1,", "s.mp4", ""]), max_size=14))
def test_nothing_but_our_errors_comes_out_of_mangled_tags(lines: list[str]):
    try:
        read = parse((HEAD + "\n".join(lines)).encode(), URL)
    except (Failure, Unsupported):
        return
    if isinstance(read, Media):
        following(read).take()
        merged(read, read)
