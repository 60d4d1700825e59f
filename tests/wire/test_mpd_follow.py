"""Following a DASH manifest: where a viewer starts, what comes next and when, and what the manifest's own mistakes come to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.model.clock import NS
from probe.wire.mpd_facts import Manifest, Period, Representation, Span, Template
from probe.wire.mpd_follow import Due, Follower

START = 1_700_000_000 * NS


def at(seconds: float) -> int:
    return START + round(seconds * NS)


def representation(template: Template, name: str = "v", kind: str = "video") -> Representation:
    return Representation(
        id=name, kind=kind, codecs="", bandwidth=1, width=None, height=None, frame_rate=None, rate=None, base="http://h/",
        template=template,
    )  # fmt: skip


def number(duration: float = 2, **options) -> Template:
    return Template(media="$Number$", initialization="", timescale=10, duration=round(duration * 10), **options)


def listed(*spans: tuple[int, int, int], start_number: int = 1, **options) -> Template:
    return Template(
        media="$Time$",
        initialization="",
        timescale=10,
        start_number=start_number,
        spans=tuple(Span(*s) for s in spans),
        **options,
    )


def live(*templates: Template, starts: tuple[float, ...] = (0,), dynamic: bool = True, **options) -> Manifest:
    periods = [
        Period(id=str(n), start=start, duration=None, representations=(representation(template),))
        for n, (template, start) in enumerate(zip(templates, starts, strict=True))
    ]
    periods = [
        Period(id=p.id, start=p.start, duration=q.start - p.start, representations=p.representations)
        for p, q in pairwise(periods)
    ] + periods[-1:]
    return Manifest(url="", dynamic=dynamic, periods=tuple(periods), **{"availability_start": START, **options})


def following(manifest: Manifest, now: float) -> Follower:
    follower = Follower(lambda period: next(iter(period.of("video")), None))
    follower.update(manifest, at(now))
    follower.to_live(at(now))
    return follower


def coming(follower: Follower, now: float) -> Due:
    due = follower.next(at(now))
    assert due is not None
    return due


def take(follower: Follower, now: float) -> Due:
    due = coming(follower, now)
    follower.take(due)
    return due


# --- computed segments


def test_a_computed_segment_is_there_when_its_end_has_passed():
    follower = following(live(number(), delay=4), 100.5)
    due = take(follower, 100.5)
    assert (due.spot.number, due.spot.time, due.at) == (49, 960, at(98))  # 96 s is nearest to 96.5 s
    assert due.anew and due.duration == 2 and due.start == 96
    following_due = take(follower, 100.5)
    assert (following_due.spot.number, following_due.at, following_due.anew) == (50, at(100), False)
    assert take(follower, 100.5).at == at(102)


def test_it_is_there_earlier_where_the_manifest_says_so():
    template = number(early=1.5, whole=False)
    follower = following(live(template, latency=2.0), 100.9)
    assert template.chunked
    assert (take(follower, 100.9).spot.time, coming(follower, 100.9).at) == (980, at(100.5))  # 98.9 is nearer to 98
    assert coming(following(live(template, latency=0.3), 100.2), 100.2).spot.time == 980  # 100 is not there yet


@pytest.mark.parametrize(
    ("options", "behind"),
    [
        ({"delay": 10}, 10),
        ({}, 6),
        ({"buffer": 8}, 8),
        ({"delay": 60, "window": 20}, 20),
        ({"delay": 0.5}, 4),
        ({"latency": 2, "delay": 8}, 8),
    ],
)
def test_how_far_behind_live_it_starts(options, behind):
    assert coming(following(live(number(), **options), 100.0), 100).start == 100 - behind


def test_a_stream_that_has_just_begun_is_played_from_its_beginning():
    assert coming(following(live(number()), 2.1), 2.1).spot.number == 1
    assert following(live(number()), 1.9).next(at(1.9)) is None
    assert following(live(number()), -50).next(at(-50)) is None


def test_what_left_the_window_is_skipped_and_counted():
    follower = following(live(number(), window=10), 100)
    first = take(follower, 100)
    due = coming(follower, 160)
    assert due.start == 154 and due.anew
    assert follower.skipped == due.spot.number - first.spot.number - 1
    follower.take(due)
    assert follower.skipped == due.spot.number - first.spot.number - 1


def test_far_behind_is_two_segments_behind_where_a_new_viewer_starts():
    follower = following(live(number()), 100)
    take(follower, 100)
    assert not follower.far_behind(at(104))
    assert follower.far_behind(at(110))
    assert follower.to_live(at(110)) == 4
    due = coming(follower, 110)
    assert (due.start, due.jumped) == (104, True)
    follower.take(due)
    assert not coming(follower, 110).jumped


def test_another_availability_start_is_another_presentation():
    follower = following(live(number()), 100)
    take(follower, 100)
    follower.update(live(number(), availability_start=at(97)), at(102))
    follower.to_live(at(102))
    due = take(follower, 102)
    assert (due.spot.number, due.anew, follower.restarts) == (1, True, 1)


# --- listed segments


def test_a_listed_segment_is_there_and_the_list_is_walked_through():
    follower = following(live(listed((0, 20, 10), start_number=7)), 50)
    assert [take(follower, 50).spot.number for _ in range(3)] == [14, 15, 16]
    assert follower.next(at(50)) is None and not follower.ended(at(50))
    assert follower.update(live(listed((20, 20, 10), start_number=8)), at(52))
    due = take(follower, 52)
    assert (due.spot.number, due.spot.time, due.anew, follower.skipped) == (17, 200, False, 0)


def test_without_delay_a_list_is_started_three_segments_before_its_end():
    assert coming(following(live(listed((0, 20, 10))), 999), 999).spot.time == 140


def test_with_delay_the_wall_clock_says_where_within_what_is_listed():
    manifest = live(listed((0, 20, 10)), delay=8)
    assert coming(following(manifest, 21), 21).start == 12
    assert coming(following(manifest, 99), 99).start == 18  # our clock is ahead of the list
    assert coming(following(manifest, 5), 5).start == 0


def test_segments_of_uneven_length_follow_each_other():
    follower = following(live(listed((0, 19, 1), (19, 21, 1), (40, 20, 2)), delay=60), 10)
    assert [(d.spot.time, d.anew) for d in (take(follower, 10) for _ in range(4))] == [
        (0, True),
        (19, False),
        (40, False),
        (60, False),
    ]


def test_a_hole_in_the_list_is_gone_over_and_said():
    follower = following(live(listed((0, 20, 5))), 10)
    for _ in range(3):
        take(follower, 10)
    follower.update(live(listed((20, 20, 4), (36_000, 20, 1), start_number=2)), at(12))
    due = take(follower, 12)
    assert (due.spot.time, due.spot.number, due.anew, follower.skipped) == (36_000, 6, True, 0)


def test_a_lagging_edge_is_no_news_and_a_list_that_goes_on_behind_is_a_new_one():
    follower = following(live(listed((0, 20, 10))), 50)
    for _ in range(3):
        take(follower, 50)
    assert not follower.update(live(listed((0, 20, 8))), at(52))
    assert follower.next(at(52)) is None and follower.backwards == 1 and follower.restarts == 0
    assert follower.unmoved(at(54)) == 2 * NS
    assert follower.update(live(listed((20, 20, 10))), at(54))
    assert take(follower, 54).spot.time == 200 and follower.unmoved(at(54)) == 0
    for second, count in ((56, 1), (58, 2), (60, 3)):
        follower.update(live(listed((0, 20, count))), at(second))
    follower.to_live(at(60))
    due = take(follower, 60)
    assert (due.spot.time, due.anew, follower.backwards, follower.restarts) == (0, True, 2, 1)


def test_a_list_that_slid_past_us_is_caught_up_with():
    follower = following(live(listed((0, 20, 10))), 50)
    take(follower, 50)
    follower.update(live(listed((1000, 20, 10), start_number=51)), at(150))
    due = take(follower, 150)
    assert (due.spot.number, due.anew, follower.skipped) == (58, True, 49)


def test_a_list_that_cannot_be_had_is_not_called_still():
    follower = following(live(listed((0, 20, 10))), 50)
    follower.update(live(listed((0, 20, 10))), at(52))
    assert follower.unmoved(at(60)) == 8 * NS
    follower.unreachable()
    assert follower.unmoved(at(60)) == 0


def test_computed_segments_need_no_news():
    follower = following(live(number()), 100)
    follower.update(live(number()), at(500))
    assert follower.unmoved(at(900)) == 0 and not follower.listed


# --- periods, ends


def test_the_next_period_follows_where_this_one_ends():
    follower = following(live(number(), number(), starts=(0, 100)), 103.5)
    dues = [take(follower, 103.5) for _ in range(4)]
    assert [(d.period.id, d.spot.number, d.start) for d in dues] == [("0", 50, 98), ("1", 1, 100), ("1", 2, 102), ("1", 3, 104)]
    assert [d.anew for d in dues] == [True, True, False, False] and dues[1].at == at(102) and follower.skipped == 0


def test_the_next_listed_period_follows_too():
    follower = following(live(listed((0, 20, 10))), 20)
    for _ in range(3):
        take(follower, 20)
    follower.update(live(listed((0, 20, 10)), listed((500, 20, 1), offset=500), starts=(0, 20)), at(24))
    due = take(follower, 24)
    assert (due.start, due.anew) == (20, True)


def test_a_manifest_that_becomes_static_is_played_out():
    follower = following(live(listed((0, 20, 10))), 50)
    assert follower.update(live(listed((0, 20, 10)), dynamic=False), at(52))
    assert [take(follower, 52).spot.time for _ in range(3)] == [140, 160, 180]
    assert follower.ended(at(52))


def test_sound_starts_where_the_picture_does():
    video, audio = number(2), Template(media="$Number$", initialization="", timescale=48_000, duration=95_232)
    period = Period(id="", start=0, duration=None, representations=(representation(video), representation(audio, "a", "audio")))
    manifest = Manifest(url="", dynamic=True, periods=(period,), availability_start=START)
    picture = following(manifest, 100)
    due = take(picture, 100)
    sound = Follower(lambda period: next(iter(period.of("audio")), None))
    sound.update(manifest, at(100))
    sound.begin_with(due)
    heard = take(sound, 100)
    assert heard.start <= due.start < heard.start + heard.duration


@pytest.mark.timeout(10)
def test_a_list_of_very_many_very_short_segments_is_followed_in_no_time():
    spans = [(n * 30, 1, 30) for n in range(15_000)]
    manifest = live(listed(*spans, (450_000, 36_000, 1)))
    follower = following(manifest, 50_000)
    for n in range(50):
        follower.update(manifest, at(50_000 + n))
        if (due := follower.next(at(50_000 + n))) is not None:
            follower.take(due)
            follower.begin_with(due)
        follower.far_behind(at(50_000 + n))


SPANS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40), st.integers(1, 30)), max_size=4).map(
    lambda spans: tuple((start + n * 2000, d, c) for n, (start, d, c) in enumerate(spans))
)
COMPUTED = st.builds(
    lambda d, o, e: number(d, offset=o, early=e, whole=e == 0),
    st.sampled_from([0.1, 1, 7.3]), st.integers(0, 50), st.sampled_from([0, 0.5]),
)  # fmt: skip
TEMPLATES = st.one_of(SPANS.map(lambda spans: listed(*spans)), COMPUTED)
MANIFESTS = st.tuples(TEMPLATES, st.booleans(), st.sampled_from([START, START + 60 * NS]), st.none() | st.floats(0, 30))


@settings(max_examples=80, deadline=None)
@given(st.lists(MANIFESTS, min_size=1, max_size=5), st.floats(-10, 500), st.none() | st.floats(0, 20))
def test_whatever_manifests_come_what_is_taken_moves_on_or_is_said_to_be_anew(manifests, began, delay):
    follower = Follower(lambda period: next(iter(period.of("video")), None))
    now, last = began, None
    for template, dynamic, start, window in manifests:
        before = follower.restarts
        follower.update(live(template, dynamic=dynamic, availability_start=start, window=window, delay=delay), at(now))
        if follower.restarts > before or last is None:
            follower.to_live(at(now))
        for _ in range(5):
            due = follower.next(at(now))
            if due is None:
                break
            if last is not None and not due.anew:
                assert due.spot.time > last.spot.time
            follower.take(due)
            last = due
            follower.far_behind(at(now))
        now += 5
