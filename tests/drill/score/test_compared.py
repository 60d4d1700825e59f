"""A drill against its last run: what can be told is told, and what cannot is said to be so."""

from __future__ import annotations

from typing import Any

import pytest

from probe.drill.core.compared import compared
from probe.drill.core.facts import Verdict
from probe.drill.core.score import ComparedScore, DetectionScore, Score
from probe.model.observation import CutOutcome
from tests.drill.score.told import REFUSED, Told


def drill(*, returns: list[float], runs: int = 9, fails_after: int = 0, verdict: Verdict = Verdict.PASS, **told: Any) -> Score:
    """Viewers away from 10.2 s whose picture is back so long after the restore (18.4 s), and whole runs afterwards."""
    one = Told(verdict=verdict, **told)
    stay = one.run("stay", stays=True)
    for i, after in enumerate(returns):
        one.viewer(stay, f"v{i}", gap=(10.2, 18.4 + after), outcome=CutOutcome.RESTARTED)
    for i in range(runs):
        at = 18.6 + i
        one.whole_run(f"r{i}", at, failed=REFUSED if i < fails_after else None)
    return one.score()


def figure(found: ComparedScore, name: str) -> str:
    return next(one.change for one in found.figures if name in one.name)


QUICK = [0.5 + 0.05 * i for i in range(10)]


def test_a_reconnect_that_is_longer_by_more_than_matters_is_worse() -> None:
    found = compared(drill(returns=[value + 4 for value in QUICK]), drill(returns=QUICK))
    assert figure(found, "reconnect") == "worse"
    assert found.change == "worse"
    assert found.words.startswith("worse than last time (pass before, pass now): ")


def test_the_other_way_round_it_is_better() -> None:
    found = compared(drill(returns=QUICK), drill(returns=[value + 4 for value in QUICK]))
    assert figure(found, "reconnect") == "better"
    assert found.change == "better"


def test_alike_is_the_same_and_not_untold() -> None:
    found = compared(drill(returns=QUICK), drill(returns=[value + 0.01 for value in QUICK]))
    assert figure(found, "reconnect, whep") == "same"
    assert found.change == "same"


def test_two_viewers_on_each_side_tell_nothing() -> None:
    found = compared(drill(returns=[8.0, 9.0]), drill(returns=[0.5, 0.6]))
    assert figure(found, "reconnect, whep") == "cannot_tell"
    words = next(one.words for one in found.figures if one.name.startswith("reconnect"))
    assert "2 and 2 viewers" in words and "too few" in words


def test_a_difference_nobody_would_feel_is_not_worse() -> None:
    found = compared(drill(returns=[value + 0.15 for value in QUICK]), drill(returns=QUICK))
    assert figure(found, "reconnect, whep") != "worse", "250 ms would matter"


def test_starts_that_fail_afterwards_are_worse_where_there_are_enough() -> None:
    found = compared(drill(returns=QUICK, fails_after=9), drill(returns=QUICK))
    assert figure(found, "starts that succeeded, whep in eu, afterwards") == "worse"


def test_one_value_on_each_side_is_shown_and_not_judged() -> None:
    def well_again(at: float) -> Score:
        told = Told()
        told.checked(12.0, False)
        told.checked(at, True)
        return told.score()

    found = compared(well_again(29.0), well_again(19.0))
    (one,) = [one for one in found.figures if one.name == "time to mitigate"]
    assert (one.change, one.before, one.now, one.n_now) == ("cannot_tell", 8.5, 18.5, 1)


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (Verdict.PASS, Verdict.WEAKNESS, "worse"),
        (Verdict.WEAKNESS, Verdict.NOT_RESTORED, "worse"),
        (Verdict.WEAKNESS, Verdict.PASS, "better"),
        (Verdict.INCONCLUSIVE, Verdict.PASS, "cannot_tell"),
        (Verdict.PASS, Verdict.INVALID, "cannot_tell"),
    ],
)
def test_the_verdict_itself_is_compared_where_it_says_something_of_the_platform(
    before: Verdict, now: Verdict, change: str
) -> None:
    assert compared(drill(returns=QUICK, verdict=now), drill(returns=QUICK, verdict=before)).change == change


def test_a_fault_that_nobody_notices_any_more_is_worse() -> None:
    before = drill(returns=QUICK)
    noticed = before.model_copy(update={"detection": DetectionScore(took=3.0, source="gate", name="starts")})
    found = compared(before, noticed)
    assert figure(found, "noticed by an alert or a gate") == "worse"
    assert "by starts before, by nobody now" in next(one.words for one in found.figures if "noticed" in one.name)
    assert figure(compared(noticed, before), "noticed") == "better"


def test_who_was_hit_outside_is_compared_only_where_somebody_watched() -> None:
    def outside(hit: bool, watched: bool = True) -> Score:
        told = Told()
        told.viewer(told.run("stay", stays=True), "v")
        if watched:
            gap = (11.0, 19.0) if hit else None
            run = told.run("us", region="us", stays=True)
            told.viewer(run, "u", region="us", gap=gap, outcome=CutOutcome.RESTARTED if hit else CutOutcome.UNAFFECTED)
        return told.score()

    assert figure(compared(outside(True), outside(False)), "hit outside") == "worse"
    assert all("outside" not in one.name for one in compared(outside(True), outside(False, watched=False)).figures)


def test_another_drill_is_no_last_run_of_this_one() -> None:
    with pytest.raises(ValueError, match="another drill"):
        compared(drill(returns=QUICK), drill(returns=QUICK).model_copy(update={"drill": "other"}))


def test_what_was_measured_once_only_is_named() -> None:
    found = compared(drill(returns=QUICK), drill(returns=[]))
    assert any("was not measured before" in words for words in found.not_comparable)


def test_a_crowd_is_compared_by_as_many_as_tell() -> None:
    many = [0.5 + 0.002 * i for i in range(260)]
    found = compared(drill(returns=[value + 4 for value in many], runs=0), drill(returns=many, runs=0))
    one = next(one for one in found.figures if one.name.startswith("reconnect"))
    assert (one.change, one.n_now) == ("worse", 200)
