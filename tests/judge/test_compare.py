"""Worse, better, same, cannot tell: of one indicator and of the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.judge.compare import LEAST, Least, compare, runs_to_tell
from probe.model.comparison import About, Change, Difference, Place
from tests.judge.builds import FIRST_FRAME, ending, run, taking

USUAL = [0.40, 0.44, 0.38, 0.41, 0.47, 0.39, 0.43, 0.42]
START = About("start", "whep")
OPPOSITE = {Change.WORSE: Change.BETTER, Change.BETTER: Change.WORSE}


def only(before: list[float], after: list[float], about: About = FIRST_FRAME, least: Least | None = None) -> Difference:
    wanted = {} if least is None else {about.indicator: least}
    (found,) = compare(taking(about, before), taking(about, after), wanted).differences
    return found


def test_slower_by_more_than_people_feel_is_worse_with_its_size_interval_and_pairs() -> None:
    found = only(USUAL, [value + 0.25 for value in USUAL])
    assert found.change is Change.WORSE and found.shift == pytest.approx(0.25) and found.pairs == (64, 64)
    assert found.low is not None and found.high is not None and 0.1 < found.low < 0.25 < found.high
    assert (found.runs_before, found.runs_after) == (8, 8) and found.worse_by == found.shift


def test_slower_by_less_than_people_feel_is_the_same_though_it_is_certain() -> None:
    found = only(USUAL, [value + 0.06 for value in USUAL], least=Least(0.12))
    assert found.low is not None and found.low > 0 and found.change is Change.SAME


def test_across_the_edge_of_what_people_feel_it_cannot_be_told_and_runs_are_named_that_would() -> None:
    found = only(USUAL, [0.5, 0.62, 0.41, 0.58, 0.45, 0.6, 0.44, 0.57])
    assert found.change is Change.CANNOT_TELL and found.runs_needed is not None and found.runs_needed > 8


def test_what_matters_grows_with_what_was() -> None:
    """200 ms on 3 s of HLS are nothing."""
    slow = [3 + value for value in USUAL]
    assert only(slow, [value + 0.2 for value in slow], About("first_frame", "hls")).least == pytest.approx(0.3415)


def test_one_run_against_one_cannot_tell_anything_ever() -> None:
    found = compare(taking(FIRST_FRAME, [0.2]), taking(FIRST_FRAME, [9.0]))
    (one,) = found.differences
    assert found.change is one.change is Change.CANNOT_TELL
    assert one.low is None and one.runs_needed == 4 and not one.tellable and not one.suspicious


def test_four_runs_of_each_are_enough_for_one_question_and_not_for_two() -> None:
    apart = compare(taking(FIRST_FRAME, [1, 2, 3, 4]), taking(FIRST_FRAME, [11, 12, 13, 14]))
    assert apart.change is Change.WORSE and runs_to_tell(1) == 4 < runs_to_tell(2)
    two = [run(i, {FIRST_FRAME: 1.0 + i, About("e2e_latency", "whep"): 1.0 + i}) for i in range(4)]
    later = [run(i, {about: value + 10 for about, value in one.values.items()}) for i, one in enumerate(two)]
    found = compare(two, later)
    assert found.change is Change.CANNOT_TELL and all(one.suspicious for one in found.differences)


def test_what_looks_worse_and_is_not_shown_keeps_the_whole_from_being_called_same() -> None:
    quiet = {About("step_seconds", step=f"step-{n}"): 0.05 for n in range(3)}
    before = [run(i, {FIRST_FRAME: value, **{a: v + i / 3 for a, v in quiet.items()}}) for i, value in enumerate(USUAL[:4])]
    after = [run(i, {FIRST_FRAME: value + 1, **{a: v + i / 3 for a, v in quiet.items()}}) for i, value in enumerate(USUAL[:4])]
    found = compare(before, after)
    assert found.change is Change.CANNOT_TELL and [one.about for one in found.differences if one.suspicious] == [FIRST_FRAME]


def test_nothing_worse_and_something_better_is_better() -> None:
    found = compare(taking(FIRST_FRAME, [value + 1 for value in USUAL]), taking(FIRST_FRAME, USUAL))
    assert found.change is Change.BETTER


@given(st.lists(st.floats(0, 5), min_size=4, max_size=9), st.lists(st.floats(0, 5), min_size=4, max_size=9))
def test_held_the_other_way_round_worse_is_better(one: list[float], other: list[float]) -> None:
    fixed = {"first_frame": Least(0.1)}  # not a part of what was, which is another thing each way
    there = compare(taking(FIRST_FRAME, one), taking(FIRST_FRAME, other), fixed).differences[0]
    back = compare(taking(FIRST_FRAME, other), taking(FIRST_FRAME, one), fixed).differences[0]
    assert back.change is OPPOSITE.get(there.change, there.change)


@given(st.permutations(range(16)))
def test_the_order_of_runs_means_nothing(order: list[int]) -> None:
    values = [*USUAL, *(value + 0.3 for value in USUAL)]
    runs = taking(FIRST_FRAME, values)
    before = [runs[i] for i in order if i < 8]
    after = [replace(runs[i], run_id=f"after {i}") for i in order if i >= 8]
    found = compare(before, after).differences[0]
    assert found.change is Change.WORSE and found.shift == pytest.approx(0.3)


# -- shares of good runs


def test_fewer_good_runs_are_worse_where_chance_does_not_explain_them() -> None:
    found = compare(ending(START, [True] * 20), ending(START, [True] * 12 + [False] * 8))
    (one,) = found.differences
    assert found.change is one.change is Change.WORSE
    assert (one.before, one.after, one.shift) == pytest.approx((1, 0.6, -0.4)) and one.worse_by == pytest.approx(0.4)
    assert one.low is not None and one.high is not None and one.low < -0.4 < one.high < 0


def test_one_failure_in_ten_is_no_difference_that_can_be_told() -> None:
    (one,) = compare(ending(START, [True] * 10), ending(START, [True] * 9 + [False])).differences
    assert one.change is Change.CANNOT_TELL and not one.suspicious


def test_forty_good_runs_of_each_are_the_same() -> None:
    (one,) = compare(ending(START, [True] * 40), ending(START, [True] * 40)).differences
    assert one.change is Change.SAME


def test_more_good_runs_are_better() -> None:
    assert compare(ending(START, [False] * 10), ending(START, [True] * 10)).change is Change.BETTER


def test_a_drop_smaller_than_what_matters_is_not_worse_however_certain() -> None:
    before, after = ending(START, [True] * 200), ending(START, [True] * 188 + [False] * 12)
    assert compare(before, after).differences[0].change is not Change.WORSE
    assert compare(before, after, {"start": Least(0.05)}).differences[0].change is Change.WORSE


# -- what can be held against what


def test_only_runs_of_one_scenario_between_the_same_regions_are_compared_and_the_rest_is_named() -> None:
    us = Place("live", "eu", "us")
    found = compare(
        [*taking(FIRST_FRAME, USUAL), *[replace(one, place=us) for one in taking(FIRST_FRAME, USUAL)]],
        [*taking(FIRST_FRAME, USUAL), run("9", {FIRST_FRAME: 1.0}, place=Place("other", "eu", "eu"))],
    )
    assert [one.place for one in found.differences] == [Place("live", "eu", "eu")] and found.runs_before == 8
    assert found.apart == ("live eu → us: no run now", "other eu → eu: no run before")


def test_what_one_side_did_not_measure_is_named_and_not_compared() -> None:
    hls = About("first_frame", "hls", "rtmp", "tv")
    found = compare(taking(FIRST_FRAME, USUAL), taking(hls, USUAL))
    assert found.change is Change.CANNOT_TELL and not found.differences
    assert found.apart == (
        "live eu → eu: first_frame hls of rtmp on tv was not measured before",
        "live eu → eu: first_frame whep was not measured now",
    )


def test_a_run_that_is_given_twice_counts_once_and_of_too_many_the_latest_do() -> None:
    runs = [replace(one, began=i) for i, one in enumerate(taking(FIRST_FRAME, [float(i) for i in range(250)]))]
    found = compare([*runs, *runs], taking(FIRST_FRAME, [1.0])).differences[0]
    assert found.runs_before == 200 and found.before == pytest.approx(149.5)


def test_of_a_slower_start_the_stages_that_became_longer_are_named() -> None:
    before = [replace(one, stages={FIRST_FRAME: {"signal": 0.05, "keyframe": 0.3}}) for one in taking(FIRST_FRAME, USUAL)]
    after = [replace(one, stages={FIRST_FRAME: {"signal": 0.3, "keyframe": 0.3}}) for one in taking(FIRST_FRAME, USUAL)]
    stages = compare(before, after).differences[0].stages
    assert list(stages) == ["signal", "keyframe"] and stages["signal"] == pytest.approx(0.25) and stages["keyframe"] == 0


def test_nothing_against_nothing_cannot_be_told() -> None:
    assert compare([], []).change is Change.CANNOT_TELL


def test_time_frozen_is_a_share_of_time_and_one_point_matters() -> None:
    about = About("freeze_ratio", "whep")
    calm, stuck = [0.0] * 8, [0.03, 0.05, 0.02, 0.04, 0.06, 0.03, 0.05, 0.02]
    assert only(calm, stuck, about).change is Change.WORSE and only(calm, stuck, about).unit == "share"
    assert only(calm, [0.001] * 8, about).change is Change.SAME and LEAST["freeze_ratio"].absolute == 0.01
