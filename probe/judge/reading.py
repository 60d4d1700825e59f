"""What a gate's expressions come to over their windows: met, not met, or not to be said.

What is not known is None and no answer is made up from it: too few samples (`min_n`), and too few runs of those that were due
(`min_coverage`). One slot is forgiven: it lies on the window's edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from probe.judge.gates import is_guard
from probe.scenario.gates import Expression, Term
from probe.scenario.indicators import Unit
from probe.scenario.schema import Gate


@dataclass(frozen=True, slots=True)
class Seen:
    """What a term was seen to be over its window: a value in base units (None: not measured), the samples it stands on, runs
    `made` of those `due`. `why`: what kept an answer away, where somebody else knows (Prometheus). `whole`: everybody there is
    was asked, so that few are enough."""

    value: float | None
    n: int
    made: int
    due: float
    why: str = ""
    whole: bool = False

    @property
    def coverage(self) -> float:
        """Share of the runs due that were made, at most 1."""
        return min(1.0, self.made / self.due) if self.due > 0 else float(self.made > 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an expression comes to: met, not met or (None) not to be said, with `reason`; the rest is of the term that decided."""

    met: bool | None
    reason: str = ""
    term: Term | None = None
    value: float | None = None
    n: int = 0
    coverage: float = 0.0


def windows(expression: Expression) -> tuple[int | None, ...]:
    """The window of each term; one that names none looks over the longest that another does. None: the last run alone."""
    longest = max((term.window for term in expression.terms if term.window is not None), default=None)
    return tuple(longest if term.window is None else term.window for term in expression.terms)


def answer(expression: Expression, seen: Sequence[Seen], min_n: int, min_coverage: float) -> Answer:
    """All of the terms, from what was seen of each. A conjunction with one false term is false whatever the rest; but a guard
    (`failures >= 3`) says no only where what it guards was measured: that nothing failed where nothing was seen is no news."""
    told = [_told(term, one, min_n, min_coverage) for term, one in zip(expression.terms, seen, strict=True)]
    asked = [one for one in told if one.term is not None and not is_guard(one.term)] or told
    if refused := next((one for one in asked if one.met is False), None):
        return refused
    if unknown := [one for one in asked if one.met is None]:
        reason = "; ".join(dict.fromkeys(one.reason for one in unknown))
        return Answer(None, reason, unknown[0].term, None, unknown[0].n, min(one.coverage for one in told))
    guards = [one for one in told if one not in asked]
    if refused := next((one for one in guards if one.met is not True), None):
        head = asked[0]
        reason = refused.reason or f"{head.term}, but not {refused.term}"
        return Answer(refused.met, reason, head.term, head.value, head.n, head.coverage)
    head = asked[0]
    return Answer(True, str(expression), head.term, head.value, head.n, head.coverage)


def _told(term: Term, seen: Seen, min_n: int, min_coverage: float) -> Answer:
    reason = seen.why
    value = seen.value
    needed = 1 if seen.whole or term.unit is Unit.COUNT else min_n
    if not reason and seen.made == 0 and not seen.n:
        reason = "no run in its window" if seen.due >= 1 else "no run was due in its window"
    elif not reason and seen.made < min_coverage * (seen.due - 1):
        reason = f"{seen.made} of {seen.due:.0f} runs were made, fewer than {min_coverage:.0%}"
    elif not reason and (seen.n < needed or value is None):
        reason = f"{term.indicator} stands on {seen.n} of at least {needed}"
    if reason or value is None:
        return Answer(None, reason, term, None, seen.n, seen.coverage)
    return Answer(term.meets(value), "", term, value, seen.n, seen.coverage)


Look = Callable[[Term, int | None], Seen]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gate's two expressions come to at one moment."""

    when: Answer
    resume: Answer


def read(gate: Gate, look: Look) -> Reading:
    """Ask for each term over its window. Without `resume`, what opens the gate is that `when` is known not to be so."""

    def ask(expression: Expression) -> Answer:
        seen = [look(term, window) for term, window in zip(expression.terms, windows(expression), strict=True)]
        return answer(expression, seen, gate.min_n, gate.min_coverage)

    when = ask(gate.when)
    if gate.resume is not None:
        return Reading(when, ask(gate.resume))
    opened = None if when.met is None else not when.met
    return Reading(when, Answer(opened, when.reason, when.term, when.value, when.n, when.coverage))


def terms(gate: Gate) -> Iterator[tuple[Term, int | None]]:
    """Every term of a gate with its window."""
    for expression in filter(None, (gate.when, gate.resume)):
        yield from zip(expression.terms, windows(expression), strict=True)


def longest(gate: Gate) -> int:
    """ns that a gate looks back; 0 where it asks for the last run alone."""
    return max((window or 0 for _, window in terms(gate)), default=0)
