"""A month's backtest of the fleet that comes along: our rules and gates, static thresholds and Sloth's shapes.

One pattern after the other, as `probe backtest` does it, each made and asked in this process; the picture is drawn of all.

python -m tests.bench.backtest
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

from probe.cli.fleets import fleet_at
from probe.rules.alerts import alerts
from probe.rules.backtest import Budget, Panel, Question, Result
from probe.rules.backtest_page import backtest_html
from probe.rules.backtest_report import Report
from probe.rules.patterns import PATTERNS, parse_pattern
from probe.rules.replay import INTERVAL
from probe.rules.simulate import simulate
from tests.tools import ROOT

BOUND_SECONDS = 60.0
DAYS = 30
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of each pattern's month, wall time; of the picture of all; what there was to be asked."""

    months: dict[str, float]
    picture: float
    objectives: int
    cells: int
    runs: int
    peak_mb: float


def measure() -> Figures:
    fleet = fleet_at(ROOT / "scenarios" / "fleet.yaml")
    panel = Panel(Question(fleet=fleet, rules=alerts))
    months: dict[str, float] = {}
    results: list[Result] = []
    budgets: list[Budget] = []
    for name in PATTERNS:
        began = time.perf_counter()
        more, spent = panel.over(simulate(fleet, parse_pattern(name), days=DAYS, seed=1))
        months[name] = time.perf_counter() - began
        results += more
        budgets += spent
    report = Report(
        fleet=fleet.name, days=DAYS, seed=1, interval=INTERVAL, targets=(None,), results=tuple(results), budgets=tuple(budgets),
        spoken={name: ruleset.spoken for (name, _), ruleset in panel.rulesets.items()}, unreplayed=panel.unreplayed,
    )  # fmt: skip
    began = time.perf_counter()
    backtest_html(report)
    picture = time.perf_counter() - began
    cells = [len(slo.cells) for slo in fleet.slos]
    runs = sum(len(beats.due) for beats in results[0].history.beats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Figures(months, picture, len(cells), sum(cells), runs, peak)


def rows(figures: Figures) -> list[Row]:
    """For a table."""
    slowest = max(figures.months, key=lambda name: figures.months[name])
    return [
        ("objectives, cells, runs a month", f"{figures.objectives}, {figures.cells}, {figures.runs:,}"),
        (f"s of a month, the slowest ({slowest})", f"{figures.months[slowest]:.1f}"),
        (f"s of all {len(figures.months)} patterns", f"{sum(figures.months.values()):.1f}"),
        ("s of the picture of all", f"{figures.picture:.1f}"),
        ("MB this process had at most", f"{figures.peak_mb:.0f}"),
    ]


def targets(figures: Figures) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    slowest = max(figures.months.values())
    return {f"a month's backtest of the shipped fleet ≤ {BOUND_SECONDS:g} s: {slowest:.1f}": slowest <= BOUND_SECONDS}


def main() -> None:
    figures = measure()
    for what, value in rows(figures):
        print(f"{what:45} {value}")
    for target, ok in targets(figures).items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")


if __name__ == "__main__":
    main()
