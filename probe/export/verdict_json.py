"""verdict.json: an evaluation as the contract of the design words it.

Above fifty sessions a run lists groups, and by name only what failed or was cut off for good. Everything that is text goes
through `redact` last of all, so that no field can be forgotten.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from probe.export import figures, quality
from probe.export.compared_json import comparison_document
from probe.export.figures import Redact, outcome_name, phase_reason, redacted, rfc3339, seconds, wall_of
from probe.export.results import Evaluation, JudgedRun, regional
from probe.export.verdict_model import (
    AttemptsDoc,
    BitrateDoc,
    CauseDoc,
    CellDoc,
    CheckDoc,
    ClockDoc,
    EdgeDoc,
    EndedDoc,
    FramesDoc,
    FreezesDoc,
    GroupDoc,
    HealthDoc,
    LatencyDoc,
    ObjectiveDoc,
    ProbeDoc,
    QuorumDoc,
    ReconnectDoc,
    RegionDoc,
    RunDoc,
    SessionDoc,
    SkewDoc,
    SplitDoc,
    SpreadDoc,
    StepDoc,
    VerdictDoc,
    json_schema,
)
from probe.model.clock import NS
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import Done
from probe.model.verdict import Check, CutResult, MatrixCell, RunResult, SessionResult, StepResult, Verdict

MANY = 50
_OBEYED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # what a terminal obeys, and what no UTF-8 can hold


def verdict_document(evaluation: Evaluation, redact: Redact) -> dict[str, Any]:
    """The document as plain JSON values, redacted; it validates against the published schema."""
    cause = evaluation.cause
    document = VerdictDoc(
        kind=evaluation.kind,
        result=evaluation.verdict.value,
        cause=None if cause is None else CauseDoc(words=cause.words, fields=dict(cause.fields), count=cause.count, of=cause.of),
        started_at=rfc3339(evaluation.started),
        evaluated_at=rfc3339(evaluation.evaluated),
        expires_at=None if evaluation.expires is None else rfc3339(evaluation.expires),
        probe=_probe(evaluation),
        target=evaluation.target,
        release=evaluation.release or None,
        regions=[_region(name, runs, evaluation) for name, runs in evaluation.regions().items()],
        runs=[_run(run) for run in evaluation.runs],
        checks=[_check(check) for check in evaluation.checks],
        comparison=None if evaluation.comparison is None else comparison_document(evaluation.comparison.found),
        drill=None if evaluation.drill is None else evaluation.drill.document,
    )
    plain = redacted(document.model_dump(mode="json", exclude_none=True), redact)
    assert isinstance(plain, dict)
    return plain


def verdict_json(evaluation: Evaluation, redact: Redact) -> str:
    """The file's text, indented, with a newline at its end."""
    text = json.dumps(verdict_document(evaluation, redact), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def schema() -> dict[str, Any]:
    """The published JSON Schema of verdict.json."""
    return json_schema()


def _probe(evaluation: Evaluation) -> ProbeDoc:
    samples = [sample for run in evaluation.runs for sample in run.result.health]
    errors = [run.result.began.wall_error_ns for run in evaluation.runs]
    worst = None if not errors or None in errors else max(error for error in errors if error is not None)
    return ProbeDoc(
        version=evaluation.probe_version,
        health=HealthDoc(
            samples=len(samples),
            tainted_samples=sum(bool(s.taints) for s in samples),
            loop_lag_seconds_max=_most(s.loop_lag for s in samples),
            decode_backlog_seconds_max=_most(s.decode_backlog for s in samples),
            run_delay_ratio_max=_most(s.run_delay for s in samples),
            throttled_ratio_max=_most(s.throttled for s in samples),
            pressure_ratio_max=_most(s.pressure for s in samples),
            taints=sorted({taint for s in samples for taint in s.taints}),
        ),
        clock=ClockDoc(error_seconds=seconds(worst)),
    )


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _region(name: str, runs: list[JudgedRun], evaluation: Evaluation) -> RegionDoc:
    """Under a drill a region is as the drill is: its runs were to suffer."""
    quorum = evaluation.quorum
    conclusive = sum(run.verdict is not Verdict.INCONCLUSIVE for run in runs)
    verdict = evaluation.verdict if evaluation.drill is not None else regional(runs, quorum)
    return RegionDoc(region=name, result=verdict.value, quorum=QuorumDoc(have=conclusive, need=quorum))


def _run(run: JudgedRun) -> RunDoc:
    result = run.result
    began = result.began
    many = len(result.sessions) > MANY
    listed = [s for s in result.sessions if not many or noteworthy(s)]
    return RunDoc(
        run_id=began.run,
        trace_id=began.trace_id,
        scenario=began.scenario,
        mode=began.mode,
        seed=began.seed,
        publish_region=began.publish_region,
        region=began.region,
        result=run.verdict.value,
        outcome=outcome_name(result.outcome),
        started_at=rfc3339(began.wall_unix_ns),
        seconds=None if result.ended is None else seconds(result.ended - began.at),
        release=result.release or None,
        taints=sorted(result.taints),
        attempts=attempts(result.sessions),
        available_seconds=_available(result),
        matrix=[_cell(cell) for cell in run.matrix],
        objectives=[ObjectiveDoc(slo=one.slo, protocol=one.protocol or None, outcome=one.outcome) for one in run.objectives],
        steps=[_step(step) for step in result.steps],
        sessions=[_session(result, session) for session in listed],
        groups=_groups(result.sessions) if many else None,
        notes=[note.text for note in result.notes],
    )


def _available(result: RunResult) -> dict[str, float]:
    """`hls`, or where there are several broadcasts `hls of rtmp`."""
    several = len({ingest for ingest, _ in result.available}) > 1
    return {
        f"{protocol} of {ingest}" if several else protocol: took / NS for (ingest, protocol), took in result.available.items()
    }


def _cell(cell: MatrixCell) -> CellDoc:
    return CellDoc(
        of=cell.of,
        ingest=cell.ingest,
        protocol=cell.protocol,
        device=cell.device,
        result=cell.result.value,
        viewers=cell.viewers,
        started=cell.started,
        first_frame_seconds=cell.first_frame,
        e2e_latency_seconds=cell.latency,
        sound=cell.sound,
        reason=cell.reason or None,
    )


def noteworthy(session: SessionResult) -> bool:
    """A failure is listed however many sessions there are."""
    came_back = all(cut.outcome not in (CutOutcome.FAILED, CutOutcome.OPEN) for cut in session.cuts)
    return not isinstance(session.outcome, Done) or session.ending == "crashed" or not came_back


def attempts(sessions: Iterable[SessionResult]) -> AttemptsDoc:
    """Sessions by outcome, each split by taint."""
    counts = Counter((outcome_name(s.outcome), bool(s.taints)) for s in sessions)
    names = ("done", "failed", "skipped", "cancelled", "aborted", "in_flight")
    split = {name: SplitDoc(untainted=counts[name, False], tainted=counts[name, True]) for name in names}
    return AttemptsDoc(total=counts.total(), **split)


def _step(step: StepResult) -> StepDoc:
    phase, reason, detail = phase_reason(step.outcome)
    return StepDoc(
        step=step.step,
        kind=step.kind,
        service=step.service or None,
        outcome=outcome_name(step.outcome),
        phase=phase or None,
        reason=reason or None,
        detail=detail or None,
        taints=sorted(step.taints),
        seconds=seconds(step.took),
        optional=step.optional,
        final=step.final,
        span_id=step.span_id,
    )


def _session(result: RunResult, session: SessionResult) -> SessionDoc:
    phase, reason, detail = phase_reason(session.outcome)
    viewer = session.role is Role.VIEWER
    frames = figures.frames(session) if viewer else None
    ended = session.ended_by
    return SessionDoc(
        session_id=session.session,
        name=session.name,
        step=session.step,
        role=session.role.value,
        protocol=session.protocol,
        device=session.device,
        region=session.region,
        join=session.join or None,
        verify=session.verify,
        optional=session.optional,
        span_id=session.span_id,
        began_at=rfc3339(wall_of(result, session.began)),
        outcome=outcome_name(session.outcome),
        phase=phase or None,
        reason=reason or None,
        detail=detail or None,
        ending=session.ending or None,
        ended_by=EndedDoc(phase=ended.phase.value, reason=ended.reason, detail=ended.detail or None) if ended else None,
        taints=sorted(session.taints),
        start_seconds=None if viewer else seconds(session.took),
        first_frame_seconds=seconds(session.took) if viewer else None,
        stages={stage.value: took / NS for stage, took in session.stages.items()},
        e2e_latency_seconds=_latency(session),
        frames=FramesDoc(**frames) if frames else None,
        freezes=_freezes(session) if viewer and session.started is not None else None,
        bitrate=_bitrate(session),
        av_skew_seconds=_skew(session),
        reconnects=[_reconnect(cut) for cut in session.cuts],
        edges=[
            EdgeDoc(edge=edge or None, cache=cache or None, status=status, requests=count)
            for edge, cache, status, count in figures.edges(figures.counted_requests(session))
        ],
        ingest=session.ingest or None,
        of=session.of or None,
        sounds=quality.sounds(session) if viewer and session.started is not None else None,
        ladder=quality.ladder(session) if viewer else [],
        delivery=quality.delivery(session),
        facts=dict(session.facts),
    )


def _latency(session: SessionResult) -> LatencyDoc | None:
    seen = figures.latency(session)
    if seen is None:
        return None
    error, faults = figures.clock_error(session), figures.clock_faults(session)
    return LatencyDoc(n=seen.n, p50=seen.p50, p95=seen.p95, max=seen.max, clock_error=error, clock_faults=faults)


def _freezes(session: SessionResult) -> FreezesDoc:
    watched = figures.watched(session)
    frozen = figures.counted_freezes(session, figures.W3C)
    spent = sum(f.took for f in frozen)
    document: dict[str, Any] = {
        "count": len(frozen),
        "seconds": spent / NS,
        "ratio": spent / watched if watched else None,
        "fixed": len(figures.counted_freezes(session, figures.FIXED)),
    }
    if session.buffered:
        dry = figures.counted_freezes(session, figures.REBUFFER)
        waited = sum(f.took for f in dry)
        document |= {
            "rebuffers": len(dry),
            "rebuffer_seconds": waited / NS,
            "rebuffer_ratio": waited / watched if watched else None,
        }
    return FreezesDoc(**document)


def _bitrate(session: SessionResult) -> BitrateDoc | None:
    seen = figures.bitrate(session)
    if seen is None:
        return None
    names = list(dict.fromkeys(w.rendition for w in session.windows if w.rendition))
    return BitrateDoc(p50=seen.p50, min=seen.min, max=seen.max, renditions=names)


def _skew(session: SessionResult) -> SkewDoc | None:
    seen = figures.skew(session)
    return None if seen is None else SkewDoc(n=seen.n, p50=seen.p50, max_abs=max(abs(seen.min), abs(seen.max)))


def _reconnect(cut: CutResult) -> ReconnectDoc:
    phase, reason, detail = phase_reason(cut.failure)
    return ReconnectDoc(
        step=cut.step,
        kind=cut.kind,
        outcome=cut.outcome.value if cut.outcome else None,
        outage_seconds=seconds(cut.outage),
        reconnect_seconds=seconds(cut.reconnect),
        so_far_seconds=seconds(cut.so_far),
        attempts=cut.attempts,
        phase=phase or None,
        reason=reason or None,
        detail=detail or None,
        taints=sorted(cut.taints),
    )


def _groups(sessions: Iterable[SessionResult]) -> list[GroupDoc]:
    alike: dict[tuple[Role, str, str, str], list[SessionResult]] = {}
    for session in sessions:
        alike.setdefault((session.role, session.protocol, session.device, session.region), []).append(session)
    return [_group(key, members) for key, members in alike.items()]


def _group(key: tuple[Role, str, str, str], members: list[SessionResult]) -> GroupDoc:
    role, protocol, device, region = key
    starts = [s.took / NS for s in members if s.took is not None and not s.taints and role is Role.VIEWER]
    latencies = [value for s in members for w in figures.counted_windows(s) for value in w.latencies]
    return GroupDoc(
        role=role.value,
        protocol=protocol,
        device=device,
        region=region,
        sessions=len(members),
        outcomes=dict(Counter(outcome_name(s.outcome) for s in members)),
        tainted=sum(bool(s.taints) for s in members),
        first_frame_seconds=_spread(starts),
        e2e_latency_seconds=_spread(latencies),
        reconnects=dict(Counter(cut.outcome.value for s in members for cut in s.cuts if cut.outcome)),
    )


def _spread(values: list[float]) -> SpreadDoc | None:
    seen = figures.spread(values)
    return None if seen is None else SpreadDoc(n=seen.n, p50=seen.p50, p95=seen.p95, max=seen.max)


def _check(check: Check) -> CheckDoc:
    return CheckDoc(
        name=check.name,
        result=check.result.value,
        value=check.value,
        unit=check.unit or None,
        threshold=check.threshold or None,
        n=check.n,
        min_n=check.min_n,
        window=check.window or None,
        region=check.region or None,
        owner=check.owner or None,
        action=check.action or None,
        phase=check.phase or None,
        reason=check.reason or None,
        subject=check.subject or None,
    )
