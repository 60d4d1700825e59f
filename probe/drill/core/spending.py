"""Error budget that a drill would have spent: the objectives' own rules applied to the drill's runs. Pure.

Objectives read scheduled runs only; a drill never enters them. What is said here is hypothetical: had scheduled runs fared, from
the injection on, as the drill's runs did. Then of the runs that are due in an objective's window, the part that falls into this
time would have been bad in the share in which the drill's were, and the budget is 1 − target of all of them:

    spent = share of bad runs × time ÷ (window × (1 − target))

How often runs are scheduled cancels out; that they are spread evenly is assumed. An objective counts the runs of all its regions
and protocols alike, so the share is the mean over its cells (region × protocol); a region in which the drill had no traffic is
taken to be well. Whole runs count (`starts`), which are what a schedule makes; who stayed for the whole drill is no such run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from probe.judge.objectives import objective_runs
from probe.model.clock import NS
from probe.model.verdict import RunResult
from probe.plan import Plan
from probe.scenario.schema import Objective

ASSUMES = (
    "hypothetical: as if scheduled runs, evenly spread over time and over the objective's regions and protocols, had fared from "
    "the injection on as the drill's whole runs did; regions without traffic are taken to be well"
)
_DAY = 86_400 * NS
Cell = tuple[str, str]  # region, protocol


@dataclass(slots=True)
class _Cell:
    good: int = 0
    bad: int = 0
    inconclusive: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Of one objective. `share` of its budget; None: nothing could be told."""

    objective: Objective
    good: int
    bad: int
    inconclusive: int
    share: float | None


@dataclass(slots=True)
class Spending:
    """Told of runs as they end, asked at any time. `regions`: how many the scenario has."""

    plans: Mapping[str, Plan]
    regions: int
    _cells: dict[str, dict[Cell, _Cell]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for plan in self.plans.values():
            for objective, protocol in plan.cells:
                self._cells.setdefault(objective.name, {})[plan.region, protocol] = _Cell()

    def ended(self, result: RunResult) -> None:
        """A whole run that met the fault, or came after it."""
        plan = self.plans.get(result.began.region)
        if plan is None:
            return
        for one in objective_runs(result, plan.cells):
            cell = self._cells[one.slo][one.region, one.protocol]
            setattr(cell, one.outcome, getattr(cell, one.outcome) + 1)

    def spent(self, time: int) -> list[Spent]:
        """Of each objective, over `time` ns since the injection."""
        objectives = {o.name: o for plan in self.plans.values() for o in plan.objectives}
        return [self._spent(objectives[name], cells, time) for name, cells in self._cells.items()]

    def _spent(self, objective: Objective, cells: Mapping[Cell, _Cell], time: int) -> Spent:
        told = [cell.bad / (cell.good + cell.bad) for cell in cells.values() if cell.good + cell.bad]
        seen = len({region for (region, _), cell in cells.items() if cell.good + cell.bad + cell.inconclusive})
        everywhere = len(objective.regions) or max(self.regions, seen)
        share = None
        if told:
            bad = sum(told) / len(told) * seen / everywhere
            share = bad * time / (objective.window * (1 - objective.target))
        return Spent(
            objective=objective,
            good=sum(cell.good for cell in cells.values()),
            bad=sum(cell.bad for cell in cells.values()),
            inconclusive=sum(cell.inconclusive for cell in cells.values()),
            share=share,
        )


def spending(results: Iterable[RunResult], plans: Mapping[str, Plan], regions: int, since: int, until: int) -> Sequence[Spent]:
    """Of the whole runs that were still under way at `since` or began after it."""
    sums = Spending(plans, regions)
    for result in results:
        if result.ended is not None and result.ended > since:
            sums.ended(result)
    return sums.spent(until - since)


def days(objective: Objective) -> float:
    """Its window."""
    return objective.window / _DAY
