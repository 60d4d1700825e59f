"""A run's part in an objective: good, bad, or none.

Viewers of one run stand and fall together, so the unit is the run, per region and protocol: good when every untainted,
unskipped viewer of them is (room start: at least one), bad when one is not, none where nothing could be counted. Judged
here, before export, so that a threshold needs no bucket edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.judge.indicators import NS, Select, events, latencies, quantile, viewers
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import Done, Failed
from probe.model.verdict import CutResult, RunResult
from probe.scenario.schema import Objective

_PER_PROTOCOL = frozenset(
    {"start", "first_frame", "reconnect", "reconnect_seconds", "outage_seconds", "crash_free", "e2e_latency"}
)
LATENCY_QUANTILE = "p95"  # of one viewer's frames, held against `within`


@dataclass(frozen=True, slots=True)
class ObjectiveRun:
    """`outcome`: good, bad or none. `protocol` is empty where the objective has none."""

    slo: str
    publish_region: str
    region: str
    protocol: str
    outcome: str


def objective_runs(result: RunResult, objectives: Sequence[Objective]) -> list[ObjectiveRun]:
    """One per objective, and per protocol where viewers or publishers are what it asks about."""
    began = result.began
    out = []
    for objective in objectives:
        for protocol in _protocols(result, objective.indicator):
            goods = _goods(result, objective, Select(protocol=protocol))
            outcome = "none" if not goods else "good" if all(goods) else "bad"
            out.append(ObjectiveRun(objective.name, began.publish_region, began.region, protocol, outcome))
    return out


def _protocols(result: RunResult, indicator: str) -> list[str]:
    if indicator == "publisher_start":
        return sorted({s.protocol for s in result.sessions if s.role is Role.PUBLISHER})
    return sorted({s.protocol for s in viewers(result)}) if indicator in _PER_PROTOCOL else [""]


def _goods(result: RunResult, objective: Objective, select: Select) -> list[bool]:
    if objective.within is None:
        return events(result, objective.indicator, select)
    within = objective.within
    found = viewers(result, select)
    match objective.indicator:
        case "first_frame":
            # A start that failed had no first frame in time either: it is bad, not absent.
            tried = [s for s in found if isinstance(s.outcome, Done | Failed) and not s.taints]
            return [isinstance(s.outcome, Done) and s.took is not None and s.took <= within for s in tried]
        case "e2e_latency":
            worst = [quantile(latencies(result, s), LATENCY_QUANTILE) for s in found if not s.taints]
            return [value <= within / NS for value in worst if value is not None]
        case _:
            cuts = [cut for s in found for cut in s.cuts if not cut.taints]
            told = [_cut_good(cut, objective.indicator, within) for cut in cuts]
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
