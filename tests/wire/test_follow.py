"""Following a moving playlist: where a viewer starts, what it takes, when it looks again, what it calls still."""

from __future__ import annotations

import pytest

from probe.model.clock import NS
from probe.wire.follow import Follower, start_index
from probe.wire.playlist import Media, Segment


def listing(
    first: int,
    count: int,
    *,
    duration: float = 6.0,
    target: float = 6.0,
    endlist: bool = False,
    start: float | None = None,
    hold_back: float | None = None,
    name: str = "/live/{}.ts",
    gaps: tuple[int, ...] = (),
    breaks: tuple[int, ...] = (),
) -> Media:
    segments = tuple(
        Segment(uri=f"http://cdn{name.format(n)}", duration=duration, sequence=n, gap=n in gaps, discontinuity=n in breaks)
        for n in range(first, first + count)
    )
    return Media(
        url="http://cdn/live/index.m3u8",
        target_duration=target,
        media_sequence=first,
        segments=segments,
        endlist=endlist,
        start=start,
        hold_back=hold_back,
    )


def take_all(follower: Follower) -> list[int]:
    got = []
    while taken := follower.take():
        got.append(taken.segment.sequence)
    return got


@pytest.mark.parametrize(
    ("media", "index"),
    [
        (listing(0, 10), 7),  # three targets before the end
        (listing(0, 2), 0),  # bounded by what is there
        (listing(0, 1), 0),
        (listing(0, 10, duration=5.9), 7),  # the boundary nearest to it
        (listing(0, 10, duration=2.0), 1),
        (listing(0, 10, hold_back=24.0), 6),
        (listing(0, 10, start=-12.0), 8),
        (listing(0, 10, start=13.0), 2),
        (listing(0, 10, start=-1e6), 0),
        (listing(0, 10, start=1e6), 9),
        (listing(0, 10, endlist=True), 0),
        (listing(0, 10, endlist=True, start=-6.0), 9),
    ],
)
def test_the_start_is_near_live_and_within_what_is_listed(media: Media, index: int):
    assert start_index(media) == index


def test_segments_are_taken_once_and_in_order_as_they_are_listed():
    follower = Follower()
    assert follower.take() is None
    assert follower.update(listing(10, 5), 0)
    assert take_all(follower) == [12, 13, 14]
    assert follower.update(listing(12, 5), 6 * NS)
    assert take_all(follower) == [15, 16]
    assert (follower.skipped, follower.restarts) == (0, 0)


def test_only_the_first_and_what_follows_a_break_begins_anew():
    follower = Follower()
    follower.update(listing(0, 5, breaks=(3,)), 0)
    anew = []
    while taken := follower.take():
        anew.append((taken.segment.sequence, taken.anew))
    assert anew == [(2, True), (3, True), (4, False)]


def test_it_looks_again_after_a_target_duration_or_half_of_it():
    follower = Follower()
    follower.update(listing(0, 5), 100 * NS)
    assert follower.reload_at == 106 * NS
    assert not follower.update(listing(0, 5), 106 * NS)
    assert follower.reload_at == 109 * NS
    assert follower.update(listing(0, 6), 109 * NS)
    assert follower.reload_at == 115 * NS


def test_how_long_the_list_has_not_moved_is_counted_while_it_can_be_seen():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    assert follower.unmoved(50 * NS) == 0  # nobody has looked
    follower.update(listing(0, 5), 6 * NS)
    follower.update(listing(0, 5), 9 * NS)
    assert follower.unmoved(10 * NS) == 4 * NS
    follower.unreachable()
    assert follower.unmoved(20 * NS) == 0
    follower.update(listing(0, 5), 20 * NS)
    assert follower.unmoved(21 * NS) == NS
    follower.update(listing(0, 6), 22 * NS)
    assert follower.unmoved(30 * NS) == 0


def test_what_could_not_be_fetched_is_given_again_as_it_was():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    first = follower.take()
    assert first is not None and first.anew
    follower.put_back(first)
    assert follower.take() == first


def test_what_is_given_up_makes_the_next_begin_anew_and_is_counted():
    follower = Follower()
    follower.update(listing(0, 6), 0)
    follower.take()
    follower.take()
    follower.give_up()
    taken = follower.take()
    assert taken is not None and taken.anew
    assert follower.skipped == 1


def test_gaps_are_passed_over_and_counted():
    follower = Follower()
    follower.update(listing(0, 6, gaps=(4,)), 0)
    follower.take()
    taken = follower.take()
    assert taken is not None
    assert (taken.segment.sequence, taken.anew, follower.skipped) == (5, True, 1)


def test_what_left_the_window_is_skipped_to_the_live_position_and_counted():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    assert take_all(follower) == [2, 3, 4]
    assert follower.update(listing(20, 5), 90 * NS)
    taken = follower.take()
    assert taken is not None
    assert (taken.segment.sequence, taken.anew) == (22, True)
    assert follower.skipped == 22 - 5


def test_a_put_back_after_the_window_moved_changes_nothing():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    taken = follower.take()
    assert taken is not None
    follower.update(listing(20, 5), 90 * NS)
    follower.put_back(taken)
    after = follower.take()
    assert after is not None and after.segment.sequence == 22


def test_an_edge_that_lags_is_no_news_and_no_way_back():
    follower = Follower()
    follower.update(listing(10, 5), 0)
    take_all(follower)
    assert not follower.update(listing(8, 5), 6 * NS)
    assert not follower.update(listing(9, 5), 9 * NS)
    assert follower.take() is None
    assert follower.update(listing(11, 5), 12 * NS)
    assert take_all(follower) == [15]
    assert follower.restarts == 0


@pytest.mark.parametrize("first", [0, 11])
def test_a_packager_that_counts_anew_is_followed_from_its_live_position(first: int):
    follower = Follower()
    follower.update(listing(10, 5), 0)
    take_all(follower)
    assert follower.update(listing(first, 5, name="/second/{}.ts"), 6 * NS)
    taken = follower.take()
    assert taken is not None
    assert (taken.segment.sequence, taken.anew) == (first + 2, True)
    assert follower.restarts == 1


def test_a_packager_that_counts_anew_under_the_old_names_is_believed_once_the_old_list_stands():
    follower = Follower()
    follower.update(listing(10, 5), 0)
    follower.update(listing(0, 15), 3 * NS)  # all names known
    take_all(follower)
    now = 6 * NS
    last = 1
    while follower.restarts == 0 and now < 60 * NS:
        follower.update(listing(0, last), now)
        last += 1
        now += 3 * NS
    assert 12 * NS <= now - 6 * NS <= 24 * NS
    assert follower.take() is not None


def test_signatures_in_the_query_do_not_make_a_new_packager():
    follower = Follower()
    follower.update(listing(10, 5, name="/live/{}.ts?sig=a"), 0)
    take_all(follower)
    assert follower.update(listing(11, 5, name="/live/{}.ts?sig=b"), 6 * NS)
    assert follower.restarts == 0


def test_an_ended_list_is_over_when_everything_was_taken():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    assert follower.update(listing(0, 5, endlist=True), 6 * NS)
    assert not follower.ended
    take_all(follower)
    assert follower.ended


def test_an_end_that_lists_nothing_more_is_an_end():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    take_all(follower)
    assert follower.update(listing(5, 0, endlist=True), 6 * NS)
    assert follower.ended


def test_a_list_emptied_for_a_while_is_no_news():
    follower = Follower()
    assert not follower.update(listing(0, 0), 0)
    assert follower.update(listing(0, 5), NS)
    assert not follower.update(listing(0, 0), 2 * NS)
    assert take_all(follower) == [2, 3, 4]


def test_far_behind_is_one_target_duration_more_than_a_new_viewer():
    follower = Follower()
    assert follower.to_live() == 0
    follower.update(listing(0, 5), 0)
    assert not follower.far_behind()
    follower.update(listing(0, 7), 6 * NS)
    assert follower.behind == 30.0
    assert follower.far_behind()
    assert follower.to_live() == 2
    assert (follower.behind, follower.skipped) == (18.0, 2)
    assert follower.to_live() == 0
    taken = follower.take()
    assert taken is not None and taken.anew and taken.jumped
    follower.put_back(taken)
    assert follower.take() == taken
    after = follower.take()
    assert after is not None and not after.jumped


def test_what_the_platform_does_not_deliver_is_no_jump_of_ours():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    follower.take()
    follower.give_up()
    taken = follower.take()
    assert taken is not None and taken.anew and not taken.jumped


def test_what_left_the_list_before_we_came_is_a_jump_of_ours():
    follower = Follower()
    follower.update(listing(0, 5), 0)
    take_all(follower)
    follower.update(listing(20, 5), 60 * NS)
    taken = follower.take()
    assert taken is not None and taken.jumped and follower.skipped > 0


def test_memory_of_names_is_bounded():
    follower = Follower()
    for n in range(0, 3000, 4):
        follower.update(listing(n, 5), n * NS)
    assert len(follower._paths) == 256
