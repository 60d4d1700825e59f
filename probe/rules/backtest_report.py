"""A backtest as data: what was asked, what came out, and the few sentences that matter; JSON for whoever computes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.export.figures import rfc3339
from probe.model.clock import NS
from probe.rules.backtest import OURS, Budget, Result
from probe.rules.history import History
from probe.rules.score import Score, total
from probe.rules.told import Notice
from probe.scenario.units import format_ratio

MINUTE, HOUR, DAY = 60 * NS, 3600 * NS, 86_400 * NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`spoken` by ruleset; `targets` None: each objective at its own. `seed` None: it was recorded. `unreplayed`: gates left out,
    with why."""

    fleet: str
    days: float
    seed: int | None
    interval: int
    spoken: Mapping[str, str]
    targets: tuple[float | None, ...]
    unreplayed: Mapping[str, str]
    results: tuple[Result, ...] = ()
    budgets: tuple[Budget, ...] = ()

    @property
    def histories(self) -> tuple[History, ...]:
        return tuple({id(r.history): r.history for r in self.results}.values())

    @property
    def known(self) -> bool:
        """Whether it is known what was true."""
        return any(history.incidents is not None for history in self.histories)

    @property
    def rows(self) -> tuple[tuple[str, float | None], ...]:
        """Rulesets with their targets, in order; ours first, a ruleset's targets side by side."""
        found = dict.fromkeys((r.rules, r.target) for r in self.results)
        names = dict.fromkeys(name for name, _ in found)
        return tuple(row for name in names for row in found if row[0] == name)

    def of(self, history: History, rules: str, target: float | None) -> Result:
        """The one result of these."""
        return next(r for r in self.results if r.history is history and (r.rules, r.target) == (rules, target))

    def total(self, rules: str, target: float | None) -> Score:
        """Over all histories."""
        return total([r.score for r in self.results if (r.rules, r.target) == (rules, target)])

    def label(self, rules: str, target: float | None) -> str:
        """`ours`, or `ours at 99.5%` where several targets were asked about."""
        if len(self.targets) == 1 or ((rules, target) not in {(OURS, t) for t in self.targets} and target is None):
            return rules
        return f"{rules} at {aim(target)}"


def aim(target: float | None) -> str:
    """A target in words."""
    return "its own target" if target is None else format_ratio(target)


def sentence(score: Score) -> str:
    """How it did, in one line: found, how soon, false pages, pages a week."""
    pages = f"{rounded(score.pages_a_week)} pages a week"
    if score.incidents is None:
        return pages
    found = f"{score.incidents - (score.missed or 0)} of {score.incidents} incidents found"
    soon = "" if score.found_in is None else f", half of them within {lasting(score.found_in)}"
    return f"{found}{soon}; {pages}, {share(score)}"


def share(score: Score) -> str:
    """False pages in words."""
    if not score.pages:
        return "none false"
    return f"{score.false_pages or 'none'} of {score.pages} false"


def lasting(ns: int) -> str:
    """`45 s`, `4 min`, `3.5 h`, `2 d`."""
    for unit, name in ((2 * DAY, "d"), (2 * HOUR, "h"), (2 * MINUTE, "min")):
        if ns >= unit:
            amount = ns / (unit / 2)
            return f"{amount:.1f}".removesuffix(".0") + f" {name}" if amount < 10 else f"{amount:.0f} {name}"
    return f"{ns / NS:.0f} s"


def rounded(value: float) -> str:
    """Two digits where it is small."""
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def document(report: Report) -> dict[str, Any]:
    """As JSON; absent is absent, times are RFC 3339, durations seconds."""
    return {
        "schema_version": 1,
        "kind": "backtest",
        "fleet": report.fleet,
        "days": report.days,
        **({} if report.seed is None else {"seed": report.seed}),
        "interval_seconds": report.interval / NS,
        "rules": dict(report.spoken),
        "histories": [_history(report, history) for history in report.histories],
        "totals": [{"rules": rules, **_target(target), **_score(report.total(rules, target))} for rules, target in report.rows],
        "gates_left_out": dict(report.unreplayed),
    }


def _history(report: Report, history: History) -> dict[str, Any]:
    incidents = [
        {
            "name": one.name, "began_at": rfc3339(one.began), "ended_at": rfc3339(one.ended), "where": str(one.place),
            "needs": one.needs.value, "about": one.about.value,
        }
        for one in history.incidents or ()
    ]  # fmt: skip
    return {
        "name": history.name,
        "spoken": history.spoken,
        "began_at": rfc3339(history.began),
        "judged_from": rfc3339(history.judged),
        "ended_at": rfc3339(history.ended),
        **({} if history.incidents is None else {"incidents": incidents}),
        "budget_spent": [{**_target(b.target), "objectives": _rounded(b.spent)} for b in report.budgets if b.history is history],
        "results": [
            {
                "rules": r.rules, **_target(r.target), **_score(r.score),
                "paged": _notices(r.pages), "ticketed": _notices(r.tickets), "would_have": _notices(r.shadow),
            }
            for r in report.results
            if r.history is history
        ],
    }  # fmt: skip


def _rounded(spent: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in spent.items()}


def _target(target: float | None) -> dict[str, float]:
    return {} if target is None else {"target": target}


def _score(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = {
        "weeks": round(score.weeks, 3),
        "pages": score.pages,
        "pages_a_week": round(score.pages_a_week, 3),
        "tickets": score.tickets,
        "incidents": score.incidents,
        "missed": score.missed,
        "false_pages": score.false_pages,
        "found_seconds": _spread(score.took),
        "lingered_seconds": _spread(score.lingered),
    }
    return {name: value for name, value in found.items() if value is not None}


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return {"n": len(ordered), "p50": ordered[(len(ordered) - 1) // 2] / NS, "max": ordered[-1] / NS}


def _notices(found: Iterable[Notice]) -> list[dict[str, Any]]:
    return [
        {
            "slo": one.slo, "region": one.region, "where": [str(place) for place in one.places], "alerts": list(one.alerts),
            "began_at": rfc3339(one.began), **({} if one.ended is None else {"ended_at": rfc3339(one.ended)}),
        }
        for one in found
    ]  # fmt: skip
