"""Gates over a history: when each would have been closed, by the rules of `judge.reading` and `judge.hold`, by numpy.

What is recorded of a run is whether each objective was kept, so a gate is replayed over runs and not over viewers, and only where
an objective of its scenario asks for the same thing: a ratio of good events by the runs that were good, a quantile against the
objective's own bound by the share that kept it (p95 > 2s is more than 5 % beyond 2s), `failures` and `attempts` by bad and by all
runs of the term beside them. `unreplayed` names the others. A gate of an agent sees that agent's region alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.judge.gates import is_guard
from probe.judge.reading import terms, windows
from probe.rules.fleet import Slo
from probe.rules.history import History, attendance, grouped, tally
from probe.rules.replay import Counts, Firing, Flags, Grid, Shares, Tally
from probe.scenario.gates import Expression, Term
from probe.scenario.indicators import INDICATORS, Unit
from probe.scenario.schema import Gate
from probe.scenario.units import parse_duration


@dataclass(frozen=True, slots=True)
class Answers:
    """At each evaluation: met, not met; neither is not to be said."""

    yes: Flags
    no: Flags


def unreplayed(gate: Gate, slos: Sequence[Slo]) -> str:
    """Why not; empty where it can be."""
    for term, window in terms(gate):
        if term.unit is not Unit.COUNT and _promise(term, slos) is None:
            return f"no objective is kept or broken by {term}"
        if window is None:
            return f"{term} has no window"
    return "" if any(term.unit is not Unit.COUNT for term in gate.when.terms) else "it counts, but not what"


def closings(gate: Gate, slos: Sequence[Slo], history: History, grid: Grid) -> list[tuple[dict[str, str], Firing]]:
    """From closed to open, for each group the gate is judged apart for. `slos`: of its scenario."""
    by: tuple[str, ...] = tuple(dict.fromkeys(("region", *gate.by) if gate.source == "agent" else gate.by))
    promises = {term: slo for term, _ in terms(gate) if (slo := _promise(term, slos)) is not None}
    head = next(iter(promises.values()))
    out = []
    for values in grouped(history.series.get(head.name, ()), by):
        labels = dict(zip(by, values, strict=True))
        made = attendance(grid, [beat for beat in history.beats if beat.scenario == head.scenario and _of(beat, labels)])
        tallies = {
            slo.name: tally(grid, [one for one in history.series.get(slo.name, ()) if _of(one.cell, labels)])
            for slo in {slo.name: slo for slo in promises.values()}.values()
        }
        over = _Over(gate, promises, head, tallies, made)
        out += [(labels, firing) for firing in over.closed(grid)]
    return out


@dataclass(frozen=True, slots=True)
class _Over:
    gate: Gate
    promises: Mapping[Term, Slo]
    head: Slo  # whose runs `failures` and `attempts` count
    tallies: Mapping[str, Tally]
    made: Tally

    def closed(self, grid: Grid) -> list[Firing]:
        when = self.answers(self.gate.when)
        resume = when.no if self.gate.resume is None else self.answers(self.gate.resume).yes
        hold = self.gate.when.hold or 0
        back = hold if self.gate.resume is None else self.gate.resume.hold or 0
        return positions(when.yes & ~resume, resume & ~when.yes, hold, back, grid)

    def answers(self, expression: Expression) -> Answers:
        told = [
            (term, self.answer(term, window))
            for term, window in zip(expression.terms, windows(expression), strict=True)
            if window
        ]
        asked = [answer for term, answer in told if not is_guard(term)] or [answer for _, answer in told]
        guards = [answer for term, answer in told if is_guard(term)] if any(not is_guard(term) for term, _ in told) else []
        met = np.logical_and.reduce([answer.yes for answer in asked])
        refused = np.logical_or.reduce([answer.no for answer in asked])
        for guard in guards:
            refused |= met & guard.no
        return Answers(np.logical_and.reduce([met, *(guard.yes for guard in guards)]), refused)

    def answer(self, term: Term, window: int) -> Answers:
        counted = self.tallies[self.promises.get(term, self.head).name]
        every = counted.within("all", window)
        made, due = self.made.within("made", window), self.made.within("due", window)
        known = (made > 0) & (made >= self.gate.min_coverage * (due - 1))
        if term.unit is Unit.COUNT:
            met = _compared(term, counted.within("bad", window) if term.indicator == "failures" else every)
            return Answers(met & known, ~met & known)
        known &= every >= max(1, self.gate.min_n)
        with np.errstate(invalid="ignore"):
            bad = counted.bad_share(window)
            met = _compared(term, 1 - bad) if term.unit is Unit.RATIO else _beyond(term, bad)
        return Answers(met & known, ~met & known)


def positions(closing: Flags, opening: Flags, hold: int, back: int, grid: Grid) -> list[Firing]:
    """From open: closed once `closing` has stood for `hold` ns, open again once `opening` has for `back`."""
    out = []
    at = -1
    while (closed := _next(closing, at, hold, grid)) is not None:
        opened = _next(opening, closed[1], back, grid)
        out.append(Firing(grid.at(closed[0]), grid.at(closed[1]), None if opened is None else grid.at(opened[1])))
        if opened is None:
            break
        at = opened[1]
    return out


def _next(flags: Flags, after: int, hold: int, grid: Grid) -> tuple[int, int] | None:
    """Where the first stretch after that evaluation begins which stands for `hold`, and where it has."""
    wait = -(-hold // grid.interval)
    padded = np.concatenate(([False], flags[after + 1 :], [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    long = np.flatnonzero(edges[1::2] - edges[::2] > wait)
    if not len(long):
        return None
    began = int(edges[::2][long[0]]) + after + 1
    return began, began + wait


def _compared(term: Term, values: Shares | Counts) -> Flags:
    compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[term.comparison]
    found: Flags = compare(values, term.value)
    return found


def _beyond(term: Term, bad: Shares) -> Flags:
    """A quantile above the bound is more than the rest of the samples beyond it."""
    rest = 1 - int(term.quantile[1:]) / 100
    found: Flags = bad > rest + 1e-12 if term.comparison in (">", ">=") else bad <= rest + 1e-12
    return found


def _promise(term: Term, slos: Sequence[Slo]) -> Slo | None:
    """The objective whose good runs tell about the term."""
    if term.unit is Unit.RATIO and INDICATORS[term.indicator].higher:
        return next((slo for slo in slos if slo.indicator == term.indicator and slo.service != "probe"), None)
    if term.unit is Unit.SECONDS and term.quantile != "max":
        return next((s for s in slos if s.indicator == term.indicator and _bound(s) == term.amount), None)
    return None


def _bound(slo: Slo) -> int | None:
    return parse_duration(slo.within) if slo.within else None


def _of(cell: object, labels: Mapping[str, str]) -> bool:
    return all(getattr(cell, name, value) in (value, "") for name, value in labels.items())
