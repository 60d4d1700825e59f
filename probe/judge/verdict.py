"""judge: a run's result → checks, a verdict, and its cause.

A run fails when a step that is not optional fails, or a session fails to start, to come back or to stay, untainted. What
happened while the probe was unwell, what it could not support, what it broke itself and what was cut short is
inconclusive: never pass, never fail. Each group of sessions (step × protocol) needs at least one untainted outcome. What
is optional is at worst a warning, and so are an interruption that healed by itself, or that was still open and young when the
stay was ended, and a picture without its sound.
Order: fail > inconclusive > warn > pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from probe.judge.cause import Cause, common_cause, silent_cause, why_inconclusive
from probe.judge.gates import check_gates
from probe.judge.groups import checks_of, groups, softened, worth
from probe.judge.matrix import matrix
from probe.judge.objectives import ObjectiveRun, objective_runs
from probe.model.clock import Wall
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Skipped
from probe.model.verdict import Check, MatrixCell, RunResult, SessionResult, StepResult, Verdict, worst
from probe.scenario.schema import Gate, Objective

_SESSION_KINDS = frozenset({"publish", "view"})
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """`cause` None: nothing to explain."""

    result: Verdict
    cause: Cause | None
    checks: tuple[Check, ...]
    objectives: tuple[ObjectiveRun, ...]
    evaluated_at: Wall
    matrix: tuple[MatrixCell, ...] = ()


def judge(
    result: RunResult, gates: Sequence[Gate], now: Wall, *, cells: Sequence[tuple[Objective, str]] = (), owner: str = ""
) -> Judgement:
    """Judge one run. `cells`: the objectives and protocols it counts in, as its plan has them; `owner`: of the checks that have
    none of their own (the scenario's)."""
    checks = [_run(result), *(_step(s) for s in result.steps if not _told_by_sessions(s, result))]
    for group in groups(result.sessions):
        checks += (replace(check, result=softened(check.result, group.optional)) for check in checks_of(result, group))
    checks += check_gates(result, gates)
    region = result.began.region
    finished = tuple(_with(check, region=check.region or region, owner=check.owner or owner) for check in checks)
    verdict = worst([check.result for check in finished])
    return Judgement(
        verdict, _cause(verdict, result, finished), finished, tuple(objective_runs(result, cells)), now, matrix(result)
    )


def join(judgements: Sequence[Judgement], results: Sequence[RunResult]) -> tuple[Verdict, Cause | None]:
    """One verdict of several runs, and one cause: the common factor over all of them."""
    verdict = worst([judgement.result for judgement in judgements])
    several = {Verdict.FAIL: lambda: common_cause(results), Verdict.INCONCLUSIVE: lambda: why_inconclusive(results)}
    found = several[verdict]() if verdict in several else None
    return verdict, found or next((j.cause for j in judgements if j.result is verdict), None)


def _with(check: Check, *, region: str, owner: str) -> Check:
    return replace(check, region=region, owner=owner)


def _cause(verdict: Verdict, result: RunResult, checks: Sequence[Check]) -> Cause | None:
    if verdict is Verdict.PASS:
        return None
    found: Cause | None = None
    if verdict is Verdict.FAIL:
        found = common_cause([result])
    elif verdict is Verdict.INCONCLUSIVE:
        found = why_inconclusive([result])
    else:
        found = common_cause([result], optional=True) or silent_cause([result])
    if found is not None:
        return found
    first = next(check for check in checks if check.result is verdict)
    return Cause(f"{first.name}: {first.reason}")


# -- the run and its steps


def _run(result: RunResult) -> Check:
    match result.outcome:
        case None:
            return Check(name="run", result=Verdict.INCONCLUSIVE, reason="the record ends before the run did")
        case Cancelled():
            return Check(name="run", result=Verdict.INCONCLUSIVE, reason="cancelled")
        case Aborted(detail):
            return Check(name="run", result=Verdict.INCONCLUSIVE, reason=f"aborted: {detail}" if detail else "aborted")
        case _:
            pass
    told: list[StepResult | SessionResult] = [*result.steps, *result.sessions]
    if not any(isinstance(x.outcome, Done | Failed) for x in told):
        return Check(name="run", result=Verdict.INCONCLUSIVE, reason="nothing was tried")
    return Check(name="run", result=Verdict.PASS)


def _told_by_sessions(step: StepResult, result: RunResult) -> bool:
    """A publish or view step says nothing that its sessions do not say themselves, unless it has none or broke."""
    has = any(s.step == step.step for s in result.sessions)
    return step.kind in _SESSION_KINDS and has and isinstance(step.outcome, Done | Failed | Skipped)


def _step(step: StepResult) -> Check:
    verdict, reason, phase = worth(step.outcome, bool(step.taints), step.taints)
    return Check(
        name=f"step {step.step}",
        subject=step.step,
        result=softened(verdict, step.optional),
        value=step.took / NS if step.took is not None and isinstance(step.outcome, Done) else None,
        unit="seconds",
        n=int(isinstance(step.outcome, Done | Failed) and not step.taints),
        reason=reason,
        phase=phase,
    )
