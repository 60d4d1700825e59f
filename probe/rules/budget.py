"""How much of an objective's budget is left, in PromQL and in Python, and on how many of the runs that were due that stands.

A budget is the ratio of two increases over the whole window: bad ÷ (good + bad). Sloth takes the mean of 30 days of five-minute
ratios instead: there an hour with one run weighs as much as one with a hundred, and a single 0/0 makes all thirty days NaN. The
increase of a counter over 30 days is asked of every sample of them, though, and 500 objectives would read a billion. So what is
read is a copy of the counters, one sample a quarter of an hour, of each agent as a whole.

The copy is the greatest value of each quarter (`max_over_time` skips a NaN among numbers, and bridges a scrape that failed), so
that at a restart nothing is lost that was scraped before it. An agent's counters all begin anew at one moment: their sum is reset
as they are, and `increase` mends it; of a sum over agents it would take the fall of one for a reset of all. Over a gap, of an
agent or of Prometheus, the counter goes on where it is; what nobody counted is missing from the coverage and from nothing else.
A quarter that is all NaN in one of the series makes the sum NaN, which `>= 0` leaves out: a gap like any other.

Chosen not to: 1 where nothing was counted. Where there is no run there is no ratio, and the coverage beside it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from probe.model.clock import NS
from probe.rules.fleet import Slo, Source
from probe.rules.promql import DUE, DUE_INTERVAL, RUNS, RUNS_MADE, error_name, matching, number, of
from probe.rules.windows import HOUR, prom

STEP = 900 * NS  # between two samples of the copy: the interval of its group
INTERVAL = 240 * NS  # between two evaluations of a budget: rare, and not so rare that an instant query (5 minutes) finds none
COPY = "slo:runs:total"  # by agent (job, instance, region) and outcome: good, bad, or made where runs that were due are counted
REMAINING = "slo:period_error_budget_remaining:ratio"  # as Sloth names it; below 0 it is overspent
COVERAGE = "slo:coverage:ratio"  # of runs that were due over the window, those that count
Points = Sequence[tuple[int, float]]  # (ns, value), in order


def copy(slo: Slo) -> str:
    """What `COPY` is recorded from, each STEP."""
    if slo.source is Source.COVERAGE:
        made = f"{RUNS_MADE}{matching(mode='scheduled', scenario=slo.scenario)}"
        summed = f"(sum by (job, instance, region) (max_over_time({made}[{prom(STEP)}])) >= 0)"
        return f'label_replace({summed}, "outcome", "made", "", "")'
    runs = f'{RUNS}{{mode="scheduled",scenario="{slo.scenario}",slo="{slo.name}",outcome=~"good|bad"}}'
    return f"sum by (job, instance, region, outcome) (max_over_time({runs}[{prom(STEP)}])) >= 0"


def rules(slo: Slo) -> list[tuple[str, str]]:
    """(name, expression) of what is recorded of the whole window, in this order, each INTERVAL."""
    ratio = error_name(slo.window)
    return [
        (ratio, error_over_window(slo)),
        (REMAINING, f"1 - {ratio}{of(slo)} / {number(slo.budget)}"),
        (COVERAGE, coverage(slo)),
    ]


def error_over_window(slo: Slo, by: str = "") -> str:
    """Bad ÷ all over the objective's window, of the copy; by one of its labels, `region`, or of all."""
    if slo.source is Source.COVERAGE:
        due = _due_since(slo, by)
        return f"clamp_min({due} - ({_counted(slo, 'made', by)} or {due} * 0), 0)\n/\n({due} > 0)"
    return f"{_counted(slo, 'bad', by)}\n/\n({_counted(slo, 'good|bad', by)} > 0)"


def coverage(slo: Slo) -> str:
    """Runs that count ÷ runs that were due over the whole window, at most 1. 0 is an answer: none was counted."""
    counted = _counted(slo, "made" if slo.source is Source.COVERAGE else "good|bad", "")
    return f"clamp_max(({counted} or vector(0)) / {number(due(slo))}, 1)"


def due(slo: Slo) -> float:
    """Runs that the inventory says are due over the window, in all cells."""
    return sum(cell.due for cell in slo.cells) * slo.window / HOUR


def _counted(slo: Slo, outcomes: str, by: str) -> str:
    matchers = f'scenario="{slo.scenario}",slo="{slo.name}",outcome=~"{outcomes}"'
    return f"sum by ({by}) (increase({COPY}{{{matchers}}}[{prom(slo.window)}]))"


def _due_since(slo: Slo, by: str) -> str:
    """What the inventory said was due, for as long as it has been said: a new fleet has not missed the month before it."""
    per_sample = number(DUE_INTERVAL / HOUR)
    return f"sum by ({by}) (sum_over_time({DUE}{matching(scenario=slo.scenario)}[{prom(slo.window)}])) * {per_sample}"


# -- the same in Python


@dataclass(frozen=True, slots=True)
class Budget:
    """Of a window that ended at one moment: increases of good and bad runs, and how many were due."""

    good: float
    bad: float
    due: float
    target: float

    @property
    def error(self) -> float | None:
        """Bad ÷ all; None where nothing was counted."""
        counted = self.good + self.bad
        return self.bad / counted if counted > 0 else None

    @property
    def remaining(self) -> float | None:
        """Share of the budget that is left: 1 untouched, below 0 overspent."""
        return None if self.error is None else 1 - self.error / (1 - self.target)

    @property
    def coverage(self) -> float | None:
        """None where none was due."""
        return min((self.good + self.bad) / self.due, 1.0) if self.due > 0 else None


def budget(slo: Slo, agents: Iterable[Mapping[str, Sequence[Points]]], at: int) -> Budget:
    """What the rules come to at `at`, of raw counters: of each agent, by outcome (good, bad), each of its series."""
    good = bad = 0.0
    for agent in agents:
        good += _of_agent(agent.get("good", ()), at, slo.window)
        bad += _of_agent(agent.get("bad", ()), at, slo.window)
    return Budget(good, bad, due(slo), slo.target)


def _of_agent(series: Sequence[Points], at: int, window: int) -> float:
    return increase(copied(series, at), at - window, at) or 0.0


def copied(series: Sequence[Points], until: int) -> list[tuple[int, float]]:
    """The copy of one agent's series: at each whole STEP up to `until`, the sum of their greatest values of the STEP before."""
    quarters: dict[int, float] = {}
    for points in series:
        greatest: dict[int, float] = {}
        for at, value in points:
            # A sample on the boundary belongs to both: Prometheus' ranges are closed at both ends.
            first = -(-at // STEP) * STEP
            for quarter in (first, first + STEP) if at == first else (first,):
                known = greatest.get(quarter, math.nan)
                if quarter <= until:
                    greatest[quarter] = value if math.isnan(known) or value > known else known
        for quarter, value in greatest.items():
            quarters[quarter] = quarters.get(quarter, 0.0) + value
    return [(quarter, value) for quarter, value in sorted(quarters.items()) if not math.isnan(value)]


def increase(points: Points, begin: int, end: int) -> float | None:
    """As Prometheus' `increase` has it (promql/functions.go, extrapolatedRate): of the samples in [begin, end], resets mended,
    extrapolated to the edges of the range, but by no more than half a gap where samples are missing there, and not below 0. None
    of fewer than two samples."""
    inside = [(at, value) for at, value in points if begin <= at <= end]
    if len(inside) < 2:
        return None
    (first, low), (last, high) = inside[0], inside[-1]
    grown = high - low + sum(before for (_, before), (_, after) in pairwise(inside) if after < before)
    sampled = last - first
    gap = sampled / (len(inside) - 1)
    to_begin, to_end = float(first - begin), float(end - last)
    if grown > 0 and low >= 0:
        to_begin = min(to_begin, sampled * low / grown)  # a counter was 0 no earlier than this
    reach = float(sampled)
    reach += to_begin if to_begin < gap * 1.1 else gap / 2
    reach += to_end if to_end < gap * 1.1 else gap / 2
    return grown * reach / sampled
