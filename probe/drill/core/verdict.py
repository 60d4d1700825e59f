"""A drill in the words of verdict.json and junit.xml: its result, its conditions and faults as checks, its section. Pure.

pass is pass; a weakness and a fault that was not put back are failures; whatever says nothing of the platform is inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from probe.drill.core.score import ConditionScore, FaultScore, Score
from probe.export.drill_model import DrillDoc, DrilledFaultDoc
from probe.export.results import Cause, Drilled, Evaluation, JudgedRun
from probe.judge.verdict import judge
from probe.model.clock import Wall
from probe.model.verdict import Check, RunResult, Verdict
from probe.plan import Plan

RESULTS = {"pass": Verdict.PASS, "weakness": Verdict.FAIL, "not_restored": Verdict.FAIL}


def evaluation(
    score: Score, results: Iterable[RunResult], plans: Mapping[str, Plan], *, started: int, evaluated: int
) -> Evaluation:
    """Times are Unix ns."""
    verdict = RESULTS.get(score.verdict, Verdict.INCONCLUSIVE)
    return Evaluation(
        kind="drill",
        verdict=verdict,
        runs=tuple(_judged(result, plans[result.began.region], evaluated) for result in results if result.began.region in plans),
        started=started,
        evaluated=evaluated,
        cause=None if verdict is Verdict.PASS else Cause(words=score.reason, fields={"drill": score.verdict}),
        release=score.release or "",
        probe_version=score.probe_version,
        drill=Drilled(_document(score), tuple(_checks(score, verdict))),
    )


def _judged(result: RunResult, plan: Plan, now: int) -> JudgedRun:
    """A run as it would have been judged by itself; its checks are not the drill's."""
    found = judge(result, plan.gates, Wall(unix_ns=now, error_ns=None), cells=plan.cells, owner=plan.owner)
    return JudgedRun(result=result, verdict=found.result, matrix=found.matrix)


def _document(score: Score) -> DrillDoc:
    blast, detection, mitigation = score.blast, score.detection, score.mitigation
    return DrillDoc(
        drill=score.drill,
        run=score.run,
        verdict=score.verdict,
        reason=score.reason,
        owner=score.owner,
        faults=[_fault(one) for one in score.faults],
        time_to_detect_seconds=detection.took if detection is not None else None,
        detected_by=f"{detection.source} {detection.name}" if detection is not None else None,
        time_to_mitigate_seconds=mitigation.took if mitigation is not None else None,
        mitigated_by=mitigation.by if mitigation is not None else None,
        viewers_hit=blast.hit_inside + blast.hit_outside,
        viewers_hit_outside=blast.hit_outside if blast.of_outside else None,
        change=score.compared.change if score.compared is not None else None,
        scorecard="scorecard.json",
    )


def _fault(one: FaultScore) -> DrilledFaultDoc:
    return DrilledFaultDoc(
        name=one.name,
        kind=one.kind,
        targets=one.targets,
        touched=one.injecting_at is not None,
        seen_injected=one.seen_injected_at is not None,
        seen_restored=_back(one),
        undone_by=one.undone_by,
    )


def _back(one: FaultScore) -> bool:
    return one.seen_restored_at is not None or one.gone_at is not None


def _checks(score: Score, verdict: Verdict) -> Iterator[Check]:
    """The whole, each fault, each condition. An abort condition that was met made the drill inconclusive, not a failure."""
    yield Check(name="drill", result=verdict, owner=score.owner, reason="" if verdict is Verdict.PASS else score.reason)
    for fault in score.faults:
        yield from _of_fault(fault, score.owner)
    for condition in score.conditions:
        yield _of_condition(condition, score.owner)


def _of_fault(fault: FaultScore, owner: str) -> Sequence[Check]:
    if fault.injecting_at is None:
        return ()
    seen, back = fault.seen_injected_at is not None, _back(fault)
    trouble = "; ".join(fault.trouble)
    return (
        Check(
            name=f"{fault.name} injected",
            result=Verdict.PASS if seen else Verdict.INCONCLUSIVE,
            value=fault.inject_seen_in,
            unit="seconds",
            n=int(seen),
            owner=owner,
            reason="" if seen else trouble or "never seen to be there",
        ),
        Check(
            name=f"{fault.name} restored",
            result=Verdict.PASS if back else Verdict.FAIL,
            value=fault.restore_seen_in,
            unit="seconds",
            n=int(back),
            owner=owner,
            reason="" if back else trouble or "never seen to be gone",
        ),
    )


def _of_condition(one: ConditionScore, owner: str) -> Check:
    if one.met is None:
        result = Verdict.PASS if one.part == "abort" else Verdict.INCONCLUSIVE
    elif one.part == "abort":
        result = Verdict.INCONCLUSIVE if one.met else Verdict.PASS
    elif one.part == "steady":
        result = Verdict.PASS if one.met else Verdict.INCONCLUSIVE
    else:
        result = Verdict.PASS if one.met else Verdict.FAIL
    return Check(
        name=f"{one.part} {one.condition}",
        result=result,
        value=one.value,
        n=one.n,
        region=one.region or "",
        owner=owner,
        reason=(one.reason or "") if result is not Verdict.PASS else "",
    )
