"""The chances and intervals that a comparison stands on, against counting by hand and against published figures.

Held equal to scipy 1.17 (mannwhitneyu exact, permutation_test with ties, fisher_exact) and statsmodels 0.15 (newcomb) to
1e-15 when they were written; neither is needed to run them.
"""

from __future__ import annotations

import math
from itertools import combinations
from statistics import median

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probe.judge import compare_ranks as ranks
from probe.judge import compare_shares as shares
from probe.judge.compare_family import ALPHA, Chance, answerable, shown

few = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=5)
some = st.lists(st.floats(0, 10), min_size=4, max_size=12)


def by_hand(after: list[float], before: list[float]) -> float:
    """Every way of dealing the values to the two sides, counted."""
    pool = [*after, *before]
    rank = [sum(other < value for other in pool) + (sum(other == value for other in pool) + 1) / 2 for value in pool]
    seen = sum(rank[: len(after)])
    dealt = [sum(rank[i] for i in chosen) for chosen in combinations(range(len(pool)), len(after))]
    return sum(one >= seen - 1e-9 for one in dealt) / len(dealt)


@given(few, few)
def test_a_rank_sums_chance_is_what_counting_every_deal_says_ties_included(after: list[float], before: list[float]) -> None:
    assert ranks.chance_larger(after, before) == pytest.approx(by_hand(after, before), abs=1e-12)


@given(some, some)
@settings(max_examples=50)
def test_a_later_value_never_makes_it_likelier_that_nothing_changed(after: list[float], before: list[float]) -> None:
    """Of values that differ: with a tie made or broken it is another distribution."""
    later = [after[0] + 5, *after[1:]]
    assume(len({*after, *before, later[0]}) == len(after) + len(before) + 1)
    assert ranks.chance_larger(later, before) <= ranks.chance_larger(after, before) + 1e-12


@given(some, some)
@settings(max_examples=50)
def test_both_directions_are_mirrors(after: list[float], before: list[float]) -> None:
    middle, low, high = ranks.shift(after, before, ALPHA)
    back, other_low, other_high = ranks.shift(before, after, ALPHA)
    assert middle == pytest.approx(-back)
    assert low is not None and high is not None and other_low is not None and other_high is not None
    assert (low, high) == pytest.approx((-other_high, -other_low)) and low <= middle <= high


def test_complete_separation_is_as_rare_as_there_are_ways_to_deal() -> None:
    assert ranks.chance_larger([5.0, 6, 7, 8], [1.0, 2, 3, 4]) == pytest.approx(1 / 70) == ranks.smallest_chance(4, 4)
    assert ranks.chance_larger([1.0, 2, 3, 4], [5.0, 6, 7, 8]) == 1


def test_three_runs_a_side_have_no_interval_of_95_percent_and_four_have() -> None:
    assert ranks.shift([1.0, 2, 3], [4.0, 5, 6], ALPHA)[1:] == (None, None)
    assert ranks.shift([11.0, 12, 13, 14], [1.0, 2, 3, 4], ALPHA) == (10.0, 7.0, 13.0)


def test_the_interval_holds_what_the_test_does_not_refuse() -> None:
    after, before = [3.1, 2.2, 4.9, 3.3, 5.2, 2.7, 3.8], [1.2, 2.9, 1.7, 3.5, 0.6, 2.1]
    middle, low, high = ranks.shift(after, before, ALPHA)
    assert middle == pytest.approx(median(a - b for a in after for b in before))
    assert low is not None and high is not None
    for edge, inside in ((low, 1e-9), (high, -1e-9)):
        refused, kept = ([a - edge + step for a in after] for step in (inside, -inside))
        sign = 1 if inside > 0 else -1
        assert ranks.chance_larger([sign * a for a in refused], [sign * b for b in before]) <= ALPHA
        assert ranks.chance_larger([sign * a for a in kept], [sign * b for b in before]) > ALPHA


def test_beyond_sixty_runs_the_approximation_is_near_what_exact_counting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    after, before = [i * 0.7 + (i * 37 % 11) + 4 for i in range(33)], [i * 0.7 + (i * 53 % 13) for i in range(31)]
    rough, rough_shift = ranks.chance_larger(after, before), ranks.shift(after, before, ALPHA)
    monkeypatch.setattr(ranks, "_EXACT_TOTAL", 100)
    ranks._rank_of_bound.cache_clear()
    exact, exact_shift = ranks.chance_larger(after, before), ranks.shift(after, before, ALPHA)
    ranks._rank_of_bound.cache_clear()
    assert rough == pytest.approx(exact, rel=0.02) and 0.01 < exact < 0.5
    assert rough_shift == pytest.approx(exact_shift, abs=0.2)
    assert ranks.chance_larger([1.0] * 40, [1.0] * 40) == 1  # nothing but ties


def test_five_against_two_hundred_are_counted_exactly() -> None:
    assert ranks.chance_larger([1000.0 + i for i in range(5)], [float(i) for i in range(200)]) == pytest.approx(
        1 / math.comb(205, 5), rel=1e-9
    )


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_a_shares_chance_is_what_counting_every_deal_says(n: int, m: int, data: st.DataObject) -> None:
    after, before = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    pool = [1] * (after + before) + [0] * (n + m - after - before)
    dealt = [sum(pool[i] for i in chosen) for chosen in combinations(range(n + m), n)]
    counted = sum(one <= after for one in dealt) / len(dealt)
    assert shares.chance_of_fewer(after, n, before, m) == pytest.approx(counted, abs=1e-12)
    assert shares.smallest_chance(n + m - after - before, n, m) <= counted + 1e-12


def test_the_difference_of_shares_has_newcombes_interval() -> None:
    """Newcombe 1998, Table II, method 10."""
    cases = {(56, 70, 48, 80): (0.0524, 0.3339), (9, 10, 3, 10): (0.1705, 0.8090), (10, 10, 0, 20): (0.6791, 1.0)}
    for (a, n, b, m), (low, high) in cases.items():
        assert shares.interval_of_difference(a, n, b, m, ALPHA) == pytest.approx((low, high), abs=1e-4)


def test_where_every_run_was_good_the_interval_still_has_a_width() -> None:
    low, high = shares.interval_of_difference(30, 30, 30, 30, ALPHA)
    assert low == pytest.approx(-0.1135, abs=1e-3) and high == pytest.approx(0.1135, abs=1e-3)


# -- many questions


def test_of_forty_questions_one_must_be_far_rarer_than_one_in_forty() -> None:
    quiet = [Chance(0.5, 1e-6)] * 39
    assert shown([Chance(0.01, 1e-6), *quiet]) == set()
    assert shown([Chance(ALPHA / 41, 1e-6), *quiet]) == {0}


def test_each_that_is_shown_makes_the_next_easier() -> None:
    """Holm: the second is asked among one fewer."""
    chances = [Chance(0.001, 1e-6), Chance(0.011, 1e-6), Chance(0.9, 1e-6)]
    assert shown(chances) == {0, 1} and shown(chances[1:]) == {0}


def test_what_could_not_be_shown_in_any_case_costs_nothing() -> None:
    """Tarone: thirty questions that have but one possible answer."""
    hopeless = [Chance(1.0, 1.0)] * 30
    assert shown([Chance(0.02, 0.001), *hopeless]) == {0} == answerable([Chance(0.02, 0.001), *hopeless])


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), max_size=12))
def test_nothing_is_shown_that_could_not_have_been_and_nothing_above_the_level(pairs: list[tuple[float, float]]) -> None:
    chances = [Chance(max(pair), min(pair)) for pair in pairs]
    found = shown(chances)
    assert all(chances[i].seen <= ALPHA for i in found)
    assert all(chances[i].seen <= chances[j].seen for i in found for j in range(len(chances)) if j not in found)
    assert not chances or answerable(chances) <= {i for i, chance in enumerate(chances) if chance.smallest <= ALPHA}
