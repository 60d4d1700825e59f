"""Whatever viewers live through: what is counted adds up, nothing is negative, and who is away for longer is no better off."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from probe.model.observation import CutOutcome
from tests.drill.score.told import REFUSED, Told

GAPS = st.one_of(
    st.none(),
    st.tuples(st.floats(10.1, 17.9), st.floats(0.6, 11.0)).map(lambda pair: (round(pair[0], 3), round(pair[0] + pair[1], 3))),
)
BACK = st.sampled_from([CutOutcome.RESUMED, CutOutcome.RESTARTED, CutOutcome.FAILED])


@settings(max_examples=40, deadline=None)
@given(viewers=st.lists(st.tuples(GAPS, BACK), min_size=1, max_size=6), unwell=st.lists(st.floats(5.0, 29.0), max_size=3))
def test_cohorts_add_up_and_nothing_is_negative(viewers: list[tuple[Any, CutOutcome]], unwell: list[float]) -> None:
    told = Told()
    run = told.run("stay", stays=True)
    for i, (gap, outcome) in enumerate(viewers):
        told.viewer(run, f"v{i}", gap=gap, outcome=outcome if gap else CutOutcome.UNAFFECTED)
    for at in unwell:
        told.unwell(run, at)
    (found,) = told.score().cohorts
    kinds = (found.unaffected, found.resumed, found.restarted, found.failed, found.open, found.untold, found.tainted)
    assert sum(kinds) == found.viewers == len(viewers)
    assert min(kinds) >= 0
    assert found.watched is not None and found.without_picture is not None and found.tainted_seconds is not None
    assert 0 <= found.without_picture <= found.watched + 1e-6
    assert found.watched + found.tainted_seconds <= 20.0 * len(viewers) + 1e-6
    for spread in (found.outage, found.reconnect):
        if spread is not None:
            assert 0 < spread.p50 <= spread.p95 <= spread.max
            assert spread.n == len(spread.samples) <= len(viewers)
    if found.outage is not None and found.reconnect is not None and not unwell:
        assert found.reconnect.max <= found.outage.max + 1e-6, "who was away at the restore was away at least since then"


@settings(max_examples=30, deadline=None)
@given(low=st.floats(10.1, 17.0), shorter=st.floats(0.6, 6.0), more=st.floats(0.0, 4.0))
def test_who_is_away_for_longer_is_longer_without_a_picture(low: float, shorter: float, more: float) -> None:
    dark = []
    for length in (shorter, shorter + more):
        told = Told()
        gap = (round(low, 3), round(low + length, 3))
        told.viewer(told.run("stay", stays=True), "v", gap=gap, outcome=CutOutcome.RESTARTED)
        (found,) = told.score().cohorts
        assert found.without_picture is not None
        assert abs(found.without_picture - length) <= 1.0, "to the second at worst"
        dark.append(found.without_picture)
    assert dark[1] >= dark[0] - 1.0


@settings(max_examples=30, deadline=None)
@given(starts=st.lists(st.tuples(st.floats(0.5, 28.0), st.booleans()), max_size=12))
def test_every_start_is_in_one_phase_and_one_count(starts: list[tuple[float, bool]]) -> None:
    told = Told()
    for i, (at, well) in enumerate(starts):
        told.run(f"r{i}", at)
        told.start(f"r{i}", at, failed=None if well else REFUSED)
    found = told.score().starts
    assert sum(one.done + one.failed + one.tainted + one.other for one in found) == len(starts)
    assert sum(one.done for one in found) == sum(well for _, well in starts)
    for one in found:
        assert (one.first_frame.n if one.first_frame is not None else 0) == one.done


@settings(max_examples=30, deadline=None)
@given(alarms=st.lists(st.floats(0.0, 29.0), max_size=5))
def test_detection_is_the_first_of_those_since_the_injection(alarms: list[float]) -> None:
    told = Told()
    for i, at in enumerate(alarms):
        told.alarm(at, name=f"a{i}")
    score = told.score()
    since = [at for at in alarms if round(at, 9) >= 10.0]
    assert (score.detection is None) is (not since)
    if score.detection is not None:
        assert score.detection.took >= 0
        assert abs(score.detection.took - max(0.0, min(since) - 10.5)) < 1e-5
    assert len(score.alarms) == len(alarms)
