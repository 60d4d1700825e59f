"""A backtest on the console: each pattern by each set of rules, then what it comes to."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from probe.rules.backtest import OURS
from probe.rules.backtest_report import Report, aim, lasting, rounded, sentence
from probe.rules.history import History
from probe.rules.score import Score

_COLUMNS = ("rules", "found", "median", "worst", "pages/wk", "false", "tickets/wk")


def title(report: Report) -> Text:
    """What was asked."""
    how = "recorded" if report.seed is None else f"simulated, seed {report.seed}"
    return Text(f"{report.fleet}: {report.days:g} days each, {how}")


def of_history(report: Report, history: History) -> tuple[Text, Table]:
    """One history, as soon as it is known."""
    said = f"  {history.spoken}; {_budgets(report, history)}"
    return Text.assemble("\n", (history.name, "bold"), said), _history(report, history)


def closing(report: Report) -> Iterator[Text]:
    """What it comes to."""
    for row in report.rows:
        label = report.label(*row)
        yield Text.assemble((f"{label}: ", "bold" if row[0] == OURS else ""), sentence(report.total(*row)))


def _history(report: Report, history: History) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    width = max(len(report.label(*row)) for row in report.rows)
    for name in _COLUMNS:
        left = name == "rules"
        table.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=width if left else len(name))
    for row in report.rows:
        table.add_row(report.label(*row), *_cells(report.of(history, *row).score))
    return table


def _cells(score: Score) -> tuple[Text | str, ...]:
    """Nothing where nothing is known, or nothing was to be found."""
    found = "" if not score.incidents else f"{score.incidents - (score.missed or 0)} of {score.incidents}"
    return (
        Text(found, style="red" if score.missed else ""),
        "" if score.found_in is None else lasting(score.found_in),
        "" if score.found_at_last is None else lasting(score.found_at_last),
        rounded(score.pages_a_week),
        "" if score.false_pages is None else Text(str(score.false_pages), style="red" if score.false_pages else "dim"),
        rounded(score.tickets / score.weeks),
    )


def _budgets(report: Report, history: History) -> str:
    """What the objective that used most of its budget used, at each target."""
    found = []
    for target in report.targets:
        worst = next(b for b in report.budgets if b.history is history and b.target == target).worst
        if worst is not None:
            where = "" if len(report.targets) == 1 else f" at {aim(target)}"
            found.append(f"{worst[1]:.0%} of {worst[0]}'s budget{where}")
    return ", ".join(found)
