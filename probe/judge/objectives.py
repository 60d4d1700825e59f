"""A run's part in an objective: good, bad or inconclusive.

Viewers of one run stand and fall together, so the unit is the run, per region and protocol: good when every untainted,
unskipped viewer of them is (room start: at least one), bad when one is not. Judged here, before export, so that a threshold
needs no bucket edge.

A run counts exactly once in each cell that its plan has (objective × protocol), so that the outcomes of a cell add up to the
runs that were made. Where nothing can be told it is inconclusive, and said so: nothing could be counted, all of it was tainted,
or the viewers never came to try because a login failed before them. What share of runs could be told at all is an objective's
coverage, and a promise kept on half of them is no promise kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from probe.judge.fold import taints_between
from probe.judge.indicators import MEDIA, NS, Select, edge_failed, edge_requests, events, freezing, latencies, quantile, viewers
from probe.judge.sums import counts_until
from probe.model.observation import CutOutcome
from probe.model.outcome import Done, Failed
from probe.model.verdict import CutResult, RunResult, SessionResult
from probe.scenario.indicators import INDICATORS, Bound
from probe.scenario.schema import Objective

LATENCY_QUANTILE = "p95"  # of one viewer's frames, held against `within`
Judged = Literal["good", "bad", "inconclusive"]


@dataclass(frozen=True, slots=True)
class ObjectiveRun:
    """`protocol` is empty where the objective is the whole run's."""

    slo: str
    publish_region: str
    region: str
    protocol: str
    outcome: Judged


def objective_runs(result: RunResult, cells: Iterable[tuple[Objective, str]]) -> list[ObjectiveRun]:
    """One for each of the plan's `cells`."""
    began = result.began
    return [
        ObjectiveRun(objective.name, began.publish_region, began.region, protocol, _part(result, objective, protocol))
        for objective, protocol in cells
    ]


def untold(result: RunResult, cells: Iterable[tuple[Objective, str]]) -> list[ObjectiveRun]:
    """As `objective_runs` of a run that could not be judged: it was made, and nothing is known of it."""
    began = result.began
    return [
        ObjectiveRun(objective.name, began.publish_region, began.region, protocol, "inconclusive")
        for objective, protocol in cells
    ]


def _part(result: RunResult, objective: Objective, protocol: str) -> Judged:
    goods = _goods(result, objective, Select(protocol=protocol))
    if not goods:
        return "inconclusive"
    return "good" if all(goods) else "bad"


def _goods(result: RunResult, objective: Objective, select: Select) -> list[bool]:
    """Whether each that counts was good: a viewer, a step, a cut, or the run."""
    if INDICATORS[objective.indicator].bound is Bound.NONE:
        return events(result, objective.indicator, select)
    if objective.at_most is not None and objective.indicator == "taint_ratio":
        # The one objective in which tainted attempts count: they are what it is about.
        taints = [bool(session.taints) for session in result.sessions]
        return [sum(taints) <= objective.at_most * len(taints)] if taints else []
    clean = [session for session in viewers(result, select) if not session.taints]
    if objective.at_most is not None:
        return _small(result, objective.indicator, objective.at_most, clean)
    if objective.at_least is not None:
        rates = [_bitrate(result, session) for session in clean]
        return [rate >= objective.at_least for rate in rates if rate is not None]
    assert objective.within is not None  # the schema holds the bound to the indicator
    return _timely(result, objective.indicator, objective.within, viewers(result, select))


def _small(result: RunResult, indicator: str, at_most: float, clean: list[SessionResult]) -> list[bool]:
    if indicator == "freeze_ratio":
        shares = [freezing(result, session) for session in clean]
        return [frozen <= at_most * watched for frozen, watched in shares if watched]
    asked = [request for session in clean for request in edge_requests(session) if request.purpose in MEDIA]
    return [sum(edge_failed(request) for request in asked) <= at_most * len(asked)] if asked else []


def _bitrate(result: RunResult, session: SessionResult) -> float | None:
    """bit/s of media over all that was watched, up to a cut of our own and without the seconds in which the probe was unwell. A
    second alone says little: key frames are large, and segments come in bursts."""
    until = counts_until(session)
    windows = [
        w
        for w in session.windows
        if w.media_seconds > 0 and (until is None or w.at <= until) and not taints_between(result.health, w.at - w.took, w.at)
    ]
    seconds = sum(w.media_seconds for w in windows)
    return 8 * sum(w.bytes for w in windows) / seconds if seconds else None


def _timely(result: RunResult, indicator: str, within: int, found: list[SessionResult]) -> list[bool]:
    match indicator:
        case "first_frame":
            # A start that failed had no first frame in time either: it is bad, not absent.
            tried = [s for s in found if isinstance(s.outcome, Done | Failed) and not s.taints]
            return [isinstance(s.outcome, Done) and s.took is not None and s.took <= within for s in tried]
        case "e2e_latency":
            worst = [quantile(latencies(result, s), LATENCY_QUANTILE) for s in found if not s.taints]
            return [value <= within / NS for value in worst if value is not None]
        case _:
            cuts = [cut for s in found for cut in s.cuts if not cut.taints]
            told = [_cut_good(cut, indicator, within) for cut in cuts]
            return [good for good in told if good is not None]


def _cut_good(cut: CutResult, indicator: str, within: int) -> bool | None:
    if cut.outcome is CutOutcome.FAILED:
        return False
    if cut.outcome is CutOutcome.UNAFFECTED:
        return True
    if cut.outcome is CutOutcome.OPEN and indicator == "outage_seconds":
        return False if cut.so_far is not None and cut.so_far > within else None  # it can only have become longer
    took = cut.reconnect if indicator == "reconnect_seconds" else cut.outage
    return None if took is None else took <= within
