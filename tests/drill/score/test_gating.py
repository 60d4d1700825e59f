"""The scenario's own gates, and the budget, on a drill's whole runs."""

from __future__ import annotations

from probe.drill.core.facts import AlertChanged
from probe.drill.core.gating import Gating
from probe.drill.core.measure import results_of
from probe.drill.core.spending import Spending
from tests.drill.score.told import REFUSED, Told, ns, plans


def judged(*runs: tuple[float, bool], until: float = 40.0) -> list[AlertChanged]:
    """What changes when whole runs of eu, each (begins at, is well), are looked at twice a second."""
    told = Told()
    for i, (at, well) in enumerate(runs):
        told.whole_run(f"r{i}", at, failed=None if well else REFUSED)
    gating = Gating(plans())
    changes: list[AlertChanged] = []
    results = results_of(told.observed)
    for half in range(round(until * 2)):
        now = half / 2
        for result in results:
            if now - 0.5 < (result.began.at - ns(0)) / 1e9 <= now:
                gating.began("eu", result.began.at)
            assert result.ended is not None
            if now - 0.5 < (result.ended - ns(0)) / 1e9 <= now:
                gating.ended(result)
        changes += gating.look(ns(now))
    return changes


def test_a_gate_closes_on_the_drills_runs_and_opens_when_they_are_well_again() -> None:
    bad = [(at, False) for at in (12.0, 15.0)]
    found = judged(*[(at, True) for at in (1.0, 4.0)], *bad, *[(at, True) for at in (24.0, 27.0, 30.0)])
    assert [(one.name, one.firing, one.region) for one in found] == [("starts", True, "eu"), ("starts", False, "eu")]
    closed, opened = found
    assert 13.0 <= (closed.at - ns(0)) / 1e9 <= 17.0
    assert 25.0 <= (opened.at - ns(0)) / 1e9 <= 32.0
    assert closed.owner == "growth"


def test_a_gate_that_asks_for_ten_minutes_of_it_does_not_close_in_one() -> None:
    found = judged(*[(float(at), False) for at in range(2, 38, 3)])
    assert {one.name for one in found} == {"starts"}, "slow-to-close holds for 10m"


def test_well_runs_close_nothing() -> None:
    assert judged(*[(float(at), True) for at in range(2, 38, 3)]) == []


def test_a_run_that_was_cut_short_tells_nothing() -> None:
    told = Told()
    told.run("cut", 2.0)
    told.start("cut", 2.0, failed=REFUSED)
    gating = Gating(plans())
    gating.began("eu", ns(2.0))
    gating.began("elsewhere", ns(2.0))
    (result,) = results_of(told.observed)
    gating.ended(result)
    assert list(gating.look(ns(5.0))) == []
    assert gating.closed() == frozenset()


def test_budget_is_spent_as_runs_end_and_grows_with_time() -> None:
    told = Told()
    for i, at in enumerate((11.0, 13.0)):
        told.whole_run(f"r{i}", at, failed=REFUSED if i else None)
    spending = Spending(plans(), 2)
    shares = []
    for result in results_of(told.observed):
        spending.ended(result)
        shares.append({one.objective.name: one.share for one in spending.spent(10 * 10**9)}["room-start"])
    assert shares[0] == 0
    assert shares[1] is not None and shares[1] > 0
    later = {one.objective.name: one.share for one in spending.spent(20 * 10**9)}["room-start"]
    assert later == 2 * shares[1]


def test_a_run_of_a_region_nobody_planned_is_left_out() -> None:
    told = Told()
    told.whole_run("r", 11.0, region="mars")
    spending = Spending(plans(), 2)
    spending.ended(results_of(told.observed)[0])
    assert all(one.share is None for one in spending.spent(10**9))
