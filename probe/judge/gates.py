"""Gates over one run.

A gate is a rule on windows of many runs. In a single run there is one window, the run, and nothing to hold for: windows and
`for` count as met, and so do the guards against small numbers (`failures >= 3`, `attempts >= 20`) beside another
term. A gate of guards alone is taken at its word. Too few samples to answer is inconclusive, unless another term
already says no: a conjunction with one false term is false whatever the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from probe.judge.indicators import Select, measure, viewers
from probe.model.verdict import Check, RunResult, Verdict
from probe.scenario.gates import Expression, Term
from probe.scenario.indicators import Unit
from probe.scenario.schema import Gate
from probe.scenario.units import format_duration


def check_gates(result: RunResult, gates: Sequence[Gate]) -> list[Check]:
    """One check per gate and group (`by`), in order."""
    return [_check(result, gate, select) for gate in gates for select in _groups(result, gate)]


def _groups(result: RunResult, gate: Gate) -> list[Select]:
    protocols = sorted({s.protocol for s in viewers(result)}) if "protocol" in gate.by else []
    base = Select(
        region=result.began.region if "region" in gate.by else "",
        publish_region=result.began.publish_region if "publish_region" in gate.by else "",
    )
    return [Select(base.region, base.publish_region, p) for p in protocols] or [base]


def is_guard(term: Term) -> bool:
    """`failures >= n` and the like: there so that few attempts do not close a gate."""
    return term.unit is Unit.COUNT and term.comparison in (">", ">=")


def asked(expression: Expression) -> tuple[Term, ...]:
    """The terms that a single run is asked."""
    return tuple(t for t in expression.terms if not is_guard(t)) or expression.terms


def _check(result: RunResult, gate: Gate, select: Select) -> Check:
    terms = asked(gate.when)
    measures = [measure([result], t.indicator, t.quantile, select) for t in terms]
    answers: list[bool | None] = [
        None if m.value is None or m.n < gate.min_n else t.meets(m.value) for t, m in zip(terms, measures, strict=True)
    ]
    told = measures[0]
    if all(answers):
        verdict = Verdict.WARN if gate.severity == "warn" else Verdict.FAIL
        reason = f"{gate.when}"
    elif any(answer is False for answer in answers):
        verdict, reason = Verdict.PASS, ""
        told = measures[answers.index(False)]
    else:
        verdict = Verdict.INCONCLUSIVE
        missing = [(t, m) for t, m, a in zip(terms, measures, answers, strict=True) if a is None]
        reason = "; ".join(f"{t.indicator} stands on {m.n} of at least {gate.min_n}" for t, m in missing)
    window = terms[0].window
    return Check(
        name=f"{gate.name}/{select.protocol}" if select.protocol else gate.name,
        result=verdict,
        value=told.value,
        unit=told.unit,
        threshold=str(gate.when),
        n=told.n,
        min_n=gate.min_n,
        window=format_duration(window) if window is not None else "",
        region=select.region,
        owner=gate.owner,
        action=gate.action,
        reason=reason,
    )
