"""What a run came to, once all its facts are there: verdict, record, report, spans. CPU only; done in a thread, beside a loop
that measures its own lag."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from probe.agent.job import Ended
from probe.export.figures import MEDIA_PURPOSES, wall_of
from probe.export.report import report_html
from probe.export.sampling import notable
from probe.export.spans import Span
from probe.export.trace import spans_of
from probe.export.verdict_json import verdict_json
from probe.judge.compare_figures import RunFigures, figures_of
from probe.judge.fold import fold
from probe.judge.indicators import Part
from probe.judge.objectives import untold
from probe.judge.sums import sums
from probe.judge.verdict import Judgement, judge
from probe.judge.windows import Cell, parts_of, to_json
from probe.model.clock import Wall
from probe.model.observation import Observation, RequestDone, RunBegan
from probe.model.verdict import RunResult, Verdict
from probe.net.redact import Redactor
from probe.plan import Plan
from probe.run.judged import evaluation
from probe.store.records import Request, RunFinished

_log = logging.getLogger(__name__)
_MOST_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class Concluded:
    """`notable`: a run whose trace is kept whatever the sampling says."""

    result: RunResult
    judgement: Judgement
    record: RunFinished
    spans: list[Span]
    notable: bool
    parts: Mapping[Cell, Part] = field(default_factory=dict)  # what gates over windows of runs need of it
    figures: tuple[RunFigures, ...] = ()  # what is held against another release, where the scenario says which one it is


def conclude(plan: Plan, facts: Sequence[Observation], ended: Ended, now: Wall, redactor: Redactor) -> Concluded | None:
    """None where its worker died before it said how it began: there is nothing to judge."""
    if not any(isinstance(fact, RunBegan) for fact in facts):
        return None
    result = fold(facts)
    judgement = judge(result, plan.gates, now, cells=plan.cells, owner=plan.owner)
    done = evaluation("run", [(result, judgement)], started=result.began.wall_unix_ns, evaluated=now.unix_ns)
    redact = redactor.redact
    record = _record(plan, result, ended, now, done.verdict, redact(done.cause.words) if done.cause is not None else "")
    parts = parts_of(result) if plan.gates and not ended.crashed else {}
    record = replace(
        record, verdict_json=verdict_json(done, redact), report_html=report_html(done, redact), measures=to_json(parts)
    )
    figures = _figures(record.verdict_json) if plan.release else ()
    spans = spans_of(result, redact)
    return Concluded(result, judgement, record, spans, notable(result, done.verdict, ended.crashed), parts, figures)


def _figures(verdict: str) -> tuple[RunFigures, ...]:
    """None where a number in it is none that a comparison takes: that is no reason to lose the verdict."""
    try:
        return tuple(figures_of(json.loads(verdict)))
    except ValueError:
        _log.exception("a run cannot be compared with others")
        return ()


def unjudged(plan: Plan, facts: Sequence[Observation], ended: Ended, now: Wall, redactor: Redactor) -> Concluded | None:
    """As `conclude`, where that broke: its sums are right, and nothing is said of it."""
    if not any(isinstance(fact, RunBegan) for fact in facts):
        return None
    result = fold(facts)
    judgement = Judgement(Verdict.INCONCLUSIVE, None, (), tuple(untold(result, plan.cells)), now)
    record = _record(plan, result, ended, now, Verdict.INCONCLUSIVE, "the probe could not judge it")
    return Concluded(result, judgement, record, [], notable=True)


def lost(plan: Plan, ended: Ended, now: int) -> RunFinished:
    """The record of a run of which nothing can be said; `now` Unix ns."""
    return RunFinished(
        run_id=plan.run_id,
        state="aborted",
        verdict=Verdict.INCONCLUSIVE.value,
        cause="nothing of it could be judged",
        ended_ns=now,
        crashed=ended.crashed,
    )


def _record(plan: Plan, result: RunResult, ended: Ended, now: Wall, verdict: Verdict, cause: str) -> RunFinished:
    attempts = sums(result.sessions)
    return RunFinished(
        run_id=plan.run_id,
        state="aborted" if ended.crashed else "ended",
        verdict=verdict.value,
        cause=cause,
        ended_ns=now.unix_ns,
        attempts={**attempts.clean, **{f"{kind}_tainted": count for kind, count in attempts.tainted.items()}},
        crashed=ended.crashed,
        release=result.release,
        requests=tuple(_requests(result)),
    )


def _requests(result: RunResult) -> list[Request]:
    """The journey's requests and its sessions' signalling, as they can be asked for by their ids."""
    asked = [(r, r.session) for r in result.requests]
    # Segments and playlists nobody looks up by an id.
    asked += [(r, session.step) for session in result.sessions for r in session.requests if r.purpose not in MEDIA_PURPOSES]
    return [_request(result, fact, step) for fact, step in asked[:_MOST_REQUESTS] if fact.request_id]


def _request(result: RunResult, fact: RequestDone, step: str) -> Request:
    return Request(
        request_id=fact.request_id,
        service=fact.service,
        step=step,
        method=fact.method,
        status=fact.status,
        span_id=fact.span_id,
        at_ns=wall_of(result, fact.at - fact.took),
    )
