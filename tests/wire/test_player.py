"""The player's clock: when each picture is shown, and what the picture standing costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.model.clock import MS, NS
from probe.wire.player import Player, Rebuffer


def test_nothing_plays_before_the_first_piece():
    player = Player()
    assert not player.started
    assert player.level(5) == 0.0
    assert player.standing(5) is None
    assert player.ratio(5) is None


def test_the_first_piece_is_shown_at_once_wherever_its_clock_stands():
    player = Player()
    placed = player.append(95_443.7, 95_449.7, 10 * NS)
    assert player.due(round(95_443.7 * NS) + placed.offset) == 10 * NS
    assert player.due(round(95_444.7 * NS) + placed.offset) == 11 * NS
    assert player.level(10 * NS) == pytest.approx(6.0)
    assert player.level(13 * NS) == pytest.approx(3.0)
    assert player.level(99 * NS) == 0.0


def test_pieces_that_follow_each_other_keep_their_own_spacing():
    player = Player()
    first = player.append(0.0, 6.0, 0)
    second = player.append(6.04, 12.0, NS)
    assert second.offset == first.offset
    assert second.hole == 0.0
    assert player.level(NS) == pytest.approx(11.0)


def test_the_picture_stands_when_the_buffer_is_dry_and_goes_on_where_it_stood():
    player = Player()
    player.append(0.0, 2.0, 0)
    assert player.standing(2 * NS) is None
    assert player.standing(3 * NS) == Rebuffer(began=2 * NS, took=NS)
    placed = player.append(2.0, 4.0, 5 * NS)
    assert placed.rebuffer == Rebuffer(began=2 * NS, took=3 * NS)
    assert player.due(2 * NS + placed.offset) == 5 * NS
    assert player.level(5 * NS) == pytest.approx(2.0)
    assert (player.rebuffers, player.rebuffered) == (1, 3 * NS)
    assert player.ratio(6 * NS) == pytest.approx(0.5)
    assert player.standing(6 * NS) is None


def test_the_ratio_counts_the_rebuffering_under_way():
    player = Player()
    player.append(0.0, 1.0, 0)
    assert player.ratio(4 * NS) == pytest.approx(0.75)
    assert player.rebuffers == 0


def test_a_piece_a_moment_late_shifts_the_clock_and_is_no_rebuffering():
    player = Player()
    player.append(0.0, 1.0, 0)
    placed = player.append(1.0, 2.0, NS + 50 * MS)
    assert placed.rebuffer is None
    assert player.rebuffers == 0
    assert player.due(NS + placed.offset) == NS + 50 * MS


@pytest.mark.parametrize("jump", [100.0, -100.0])
def test_a_clock_that_begins_anew_goes_on_where_the_one_before_ended(jump: float):
    player = Player()
    player.append(200.0, 206.0, 0)
    placed = player.append(206.0 + jump, 212.0 + jump, NS, anew=True)
    assert placed.hole is None
    assert player.due(round((206.0 + jump) * NS) + placed.offset) == 6 * NS
    assert player.dry_at() == 12 * NS


@pytest.mark.parametrize("hole", [30.0, -30.0])
def test_a_hole_nobody_announced_is_closed_up_and_told(hole: float):
    player = Player()
    player.append(100.0, 106.0, 0)
    placed = player.append(106.0 + hole, 112.0 + hole, NS)
    assert placed.hole == pytest.approx(hole)
    assert player.dry_at() == 12 * NS


@pytest.mark.parametrize("piece", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_a_piece_without_length_is_refused(piece: tuple[float, float]):
    with pytest.raises(ValueError):
        Player().append(*piece, 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 8000), st.integers(100, 6000), st.integers(-3000, 9000), st.booleans()), min_size=1, max_size=30
    )
)
def test_pictures_are_shown_in_order_never_before_they_came_and_never_hurried(pieces: list[tuple[int, int, int, bool]]):
    """`pieces`: ms until it comes, its length, the shift of its clock, whether that was announced."""
    player, now, clock, played, shown_until = Player(), 0, 50_000, 0, 0
    for wait, length, shift, anew in pieces:
        now += wait * MS
        clock += shift
        placed = player.append(clock / 1000, (clock + length) / 1000, now, anew=anew)
        begin = player.due(round(clock / 1000 * NS) + placed.offset)
        end = player.due(round((clock + length) / 1000 * NS) + placed.offset)
        assert begin >= now - 500 * MS  # a small overlap reaches back
        assert begin >= shown_until - 500 * MS - 2
        assert end - begin == pytest.approx(length * MS, abs=2)
        assert player.dry_at() >= end
        shown_until, clock, played = player.dry_at(), clock + length, played + length
    assert player.rebuffered <= now
    assert (player.ratio(now + NS) or 0) <= 1


def test_play_begins_a_lead_into_the_first_piece_once_it_is_there():
    player = Player()
    assert player.append(100.0, 100.5, 0, lead=0.75).offset == -round(100.75 * NS)
    assert not player.started
    assert player.began is None
    assert player.append(100.5, 101.0, NS).rebuffer is None
    assert player.began == NS
    assert player.due(0) == NS  # 100.75 is shown at once
    assert player.level(NS) == pytest.approx(0.25)


def test_the_wall_clock_of_what_is_on_screen_moves_with_it():
    player = Player()
    assert player.wall(0) is None
    player.append(10.0, 12.0, 0, wall=1000 * NS)
    player.append(12.0, 14.0, NS)
    player.append(20.0, 22.0, NS, anew=True, wall=5000 * NS)
    assert player.wall(NS) == 1001 * NS
    assert player.wall(3 * NS) is None  # of the second piece nothing was said
    assert player.wall(5 * NS) == 5001 * NS
    assert player.wall(60 * NS) == 5002 * NS  # it stands at the end


def test_dates_of_many_pieces_are_bounded():
    player = Player()
    for n in range(10_000):
        player.append(n, n + 1.0, 0, wall=n * NS)
    assert len(player._dates) <= 4096
