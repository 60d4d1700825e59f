"""What the judge decided, in the exporters' types: judge/ and export/ do not know each other, and commands and agent need it
alike."""

from __future__ import annotations

from collections.abc import Sequence

from probe.export.prometheus import MetricsSink
from probe.export.results import Cause, Evaluation, JudgedRun, ObjectiveRun, counted
from probe.judge.verdict import Judgement, join
from probe.model.verdict import RunResult
from probe.version import VERSION

Judged = Sequence[tuple[RunResult, Judgement]]


def evaluation(kind: str, judged: Judged, *, started: int, evaluated: int, release: str = "", quorum: int = 1) -> Evaluation:
    """One verdict of these runs and the cause they share. `kind`: run, smoke or drill; times are Unix ns; `quorum`: how many
    conclusive runs of a scenario and region it takes."""
    runs = tuple(
        JudgedRun(
            result=result,
            verdict=judgement.result,
            checks=judgement.checks,
            matrix=judgement.matrix,
            objectives=_objectives(judgement),
        )
        for result, judgement in judged
    )
    kept = {run.result.began.run for run in counted(runs, quorum)}
    standing = [(result, judgement) for result, judgement in judged if result.began.run in kept]
    verdict, cause = join([judgement for _, judgement in standing], [result for result, _ in standing])
    return Evaluation(
        kind=kind,
        verdict=verdict,
        runs=runs,
        started=started,
        evaluated=evaluated,
        cause=None if cause is None else Cause(words=cause.words, fields=cause.fields, count=cause.count, of=cause.of),
        release=release or ", ".join(dict.fromkeys(result.release for result, _ in judged if result.release)),
        probe_version=VERSION,
        quorum=quorum,
    )


def _objectives(judgement: Judgement) -> tuple[ObjectiveRun, ...]:
    return tuple(ObjectiveRun(one.slo, one.protocol, one.outcome) for one in judgement.objectives)


def count(metrics: MetricsSink, result: RunResult, judgement: Judgement) -> None:
    """All that metrics can know only once a run is judged. Call it once a run."""
    metrics.count_result(result, judgement.result)
    for one in judgement.objectives:
        metrics.count_objective(result.began, one.slo, one.outcome, one.protocol)
