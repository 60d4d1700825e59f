"""How often a comparison is wrong, and how often it is right, on thousands of simulated runs whose viewers hang together."""

from __future__ import annotations

import random

import pytest

from probe.judge.compare import LEAST, RATIOS, Least, compare
from probe.model.comparison import Change
from tests.judge.builds import FIRST_FRAME, Build

ANY = dict.fromkeys((*LEAST, *RATIOS), Least(1e-9))  # whatever difference there is matters: nothing hides a wrong size


def alarms(runs: int, times: int, *, as_if_viewers_were_runs: bool) -> float:
    """The share of comparisons of a build with itself that call something worse."""
    rng = random.Random(20)
    worse = 0
    for _ in range(times):
        before, after = Build(rng, failing=0.1), Build(rng, failing=0.1)
        sides = (before.viewers(runs), after.viewers(runs)) if as_if_viewers_were_runs else (before.runs(runs), after.runs(runs))
        worse += compare(*sides, ANY).change is Change.WORSE
    return worse / times


def test_a_build_is_called_worse_than_itself_in_no_more_than_five_percent() -> None:
    found = {runs: alarms(runs, 200, as_if_viewers_were_runs=False) for runs in (6, 10)}
    print("false alarms of the whole, 20 indicators, by runs on each side:", found)
    assert all(share <= 0.05 for share in found.values())


def test_viewers_taken_for_runs_would_alarm_far_more_often() -> None:
    """What clustering by run is for; and that these simulations would notice a wrong size."""
    found = alarms(6, 60, as_if_viewers_were_runs=True)
    print(f"false alarms were viewers taken for runs: {found:.0%}")
    assert found > 0.15


@pytest.mark.parametrize(("runs", "before", "slower", "least"), [(8, 8, 0.25, 0.5), (6, 20, 0.25, 0.6), (15, 15, 0.2, 0.5)])
def test_a_difference_that_people_feel_is_found(runs: int, before: int, slower: float, least: float) -> None:
    rng = random.Random(21)
    times = 40
    found = []
    for _ in range(times):
        comparison = compare(Build(rng).runs(before), Build(rng, {FIRST_FRAME: slower}).runs(runs))
        found.append([one.about for one in comparison.of(Change.WORSE)])
    power = sum(FIRST_FRAME in one for one in found) / times
    others = sum(any(about != FIRST_FRAME for about in one) for one in found) / times
    print(f"first frame over WHEP {slower * 1000:.0f} ms slower, {before} runs before and {runs} now: found in {power:.0%}")
    assert power >= least and others <= 0.05


def test_a_difference_that_nobody_feels_is_not_worse_however_many_runs_show_it() -> None:
    rng = random.Random(22)
    worse = [compare(Build(rng).runs(30), Build(rng, {FIRST_FRAME: 0.05}).runs(30)).change is Change.WORSE for _ in range(6)]
    assert not any(worse)
