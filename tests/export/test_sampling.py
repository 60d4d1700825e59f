"""Every trace that somebody may ask about is kept; of the others a share, the same in every agent."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.export.sampling import drawn, notable
from probe.model.ids import new_run_ids
from probe.model.outcome import Aborted, Done, Failed
from probe.model.stage import Phase
from probe.model.verdict import RunResult, Verdict
from tests.export import sample

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


def well() -> RunResult:
    return sample.healthy().runs[0].result


def test_a_run_in_which_all_was_well_is_left_to_chance() -> None:
    assert not notable(well(), Verdict.PASS)


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.PASS])
def test_whatever_did_not_pass_is_kept(verdict: Verdict) -> None:
    assert notable(well(), verdict)


def _session(**changes: Any) -> RunResult:
    result = well()
    first, *rest = result.sessions
    return replace(result, sessions=(replace(first, **changes), *rest))


FAILED = Failed(Phase.ICE, "timeout", "")


@pytest.mark.parametrize(
    "result",
    [
        replace(well(), outcome=Aborted("a bug")),
        replace(well(), taints=frozenset({"loop_lag"})),
        _session(outcome=FAILED),
        _session(ending="crashed"),
        _session(taints=frozenset({"loop_lag"})),
        replace(well(), steps=(replace(well().steps[0], outcome=FAILED, optional=True),)),
        replace(well(), steps=(replace(well().steps[0], taints=frozenset({"x"})),)),
    ],
)
def test_whatever_failed_or_was_tainted_in_a_run_that_passed_is_kept(result: RunResult) -> None:
    assert notable(result, Verdict.PASS)
    assert isinstance(well().outcome, Done)


def test_a_run_that_crashed_is_kept() -> None:
    assert notable(well(), Verdict.PASS, "signal 11")


@given(IDS, st.floats(0, 1), st.floats(0, 1))
def test_who_is_among_few_is_among_more(trace_id: str, one: float, other: float) -> None:
    few, more = sorted((one, other))
    assert not drawn(trace_id, few) or drawn(trace_id, more)
    assert drawn(trace_id, 1.0) and not drawn(trace_id, 0.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_what_was_asked_for(share: float) -> None:
    rng = random.Random(3)
    count = sum(drawn(new_run_ids(0, rng).trace_id, share) for _ in range(20_000))
    assert count / 20_000 == pytest.approx(share, rel=0.15)


def test_the_rule_is_opentelemetrys() -> None:
    # OTEP 235: kept where the 56 low bits are not below the threshold, (1 - share) × 2^56.
    assert drawn("0" * 18 + "c0000000000000", 0.25)
    assert not drawn("f" * 18 + "bfffffffffffff", 0.25)
