"""One run as one trace: from the broadcaster's start request to every viewer's playback confirmed.

    run → steps → requests
        → steps → sessions → stages, requests, cuts → outages
                           → playback confirmed

A session outlives the step that began it, and is its child all the same: who caused it matters more than who outlived whom.
Stages, cuts, outages and confirmations never left this process; their ids are derived from the session's. Every span says
that it is synthetic. Text passes through `redact`; URLs carry no query since they were recorded without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from probe.export.figures import Redact, outcome_name, phase_reason, seconds, wall_of
from probe.export.spans import Attribute, Event, Span, derived_id, from_plain, otlp_json
from probe.model.clock import NS
from probe.model.observation import RequestDone, Role
from probe.model.outcome import Aborted, Failed, Outcome
from probe.model.verdict import CutResult, RunResult, SessionResult, StepResult

_MAX_EVENTS = 200


def spans_of(result: RunResult, redact: Redact) -> list[Span]:
    """Every span of the run, its root first, then in order of their beginning."""
    builder = _Builder(result, redact)
    first, *rest = builder.build()
    return [first, *sorted(rest, key=lambda span: (span.start, -span.end))]


def trace_json(results: Iterable[RunResult], foreign: Iterable[Any], redact: Redact) -> str:
    """trace.json: the runs' own spans, and those of others (plain dicts) that belong to one of these traces."""
    foreign = list(foreign)
    spans: list[Span] = []
    for result in results:
        spans += spans_of(result, redact)
        spans += [_redacted(span, redact) for span in from_plain(foreign, result.began.trace_id)]
    return json.dumps(otlp_json(spans), allow_nan=False, separators=(",", ":")) + "\n"


def _redacted(span: Span, redact: Redact) -> Span:
    attributes = {key: redact(value) if isinstance(value, str) else value for key, value in span.attributes.items()}
    return replace(span, name=redact(span.name), attributes=attributes, service=redact(span.service))


class _Builder:
    def __init__(self, result: RunResult, redact: Redact) -> None:
        self._result = result
        self._redact = redact
        self._root = result.began.span_id
        self._steps = {step.step: step.span_id for step in result.steps}
        facts = [*result.health, *result.requests, *result.notes, *(w for s in result.sessions for w in s.windows)]
        self._end = result.ended if result.ended is not None else max((fact.at for fact in facts), default=result.began.at)

    def build(self) -> list[Span]:
        began, result = self._result.began, self._result
        spans = [self._step(step) for step in result.steps]
        spans += [self._request(request, self._parent(request)) for request in result.requests]
        for session in result.sessions:
            spans += self._session(session)
        attributes: dict[str, Attribute] = {
            "streamprobe.run.id": began.run,
            "streamprobe.scenario": began.scenario,
            "streamprobe.mode": began.mode,
            "streamprobe.seed": began.seed,
            "streamprobe.region": began.region,
            "streamprobe.publish_region": began.publish_region,
            "streamprobe.target": began.target,
            "streamprobe.taints": ",".join(sorted(result.taints)),
        }
        root = self._span(self._root, "", f"run {began.scenario}", began.at, self._end, attributes, outcome=result.outcome)
        return [replace(root, end=max([root.end, *(span.end for span in spans)])), *spans]

    def _step(self, step: StepResult) -> Span:
        end = self._end if step.took is None else step.began + step.took
        attributes: dict[str, Attribute] = {
            "streamprobe.step.kind": step.kind,
            "streamprobe.service": step.service,
            "streamprobe.optional": step.optional,
            "streamprobe.taints": ",".join(sorted(step.taints)),
        }
        # One that was never reached has none of its own.
        identity = step.span_id or derived_id(self._root, "step", step.step)
        return self._span(identity, self._root, f"step {step.step}", step.began, end, attributes, outcome=step.outcome)

    def _session(self, session: SessionResult) -> list[Span]:
        end = self._end if session.ended is None else session.ended
        verb = "publish" if session.role is Role.PUBLISHER else "view"
        attributes: dict[str, Attribute] = {
            "streamprobe.session.id": session.session,
            "streamprobe.session.name": session.name,
            "streamprobe.role": session.role.value,
            "streamprobe.protocol": session.protocol,
            "streamprobe.device": session.device,
            "streamprobe.region": session.region,
            "streamprobe.ending": session.ending,
            "streamprobe.taints": ",".join(sorted(session.taints)),
        }
        if (took := seconds(session.took)) is not None:
            attributes["streamprobe.start_seconds"] = took
        events = [self._event("freeze", f.began, {"rule": f.rule, "seconds": f.took / NS}) for f in session.freezes[:_MAX_EVENTS]]
        events += [
            self._event(
                f"answer {a.purpose}",
                a.at,
                {"http.response.status_code": a.status, "streamprobe.edge": a.edge, "streamprobe.cache": a.cache},
            )
            for a in session.answers[:_MAX_EVENTS]
        ]
        lost = session.ended_by if session.ending == "crashed" else None
        parent = self._steps.get(session.step, self._root)
        name = f"{verb} {session.protocol}"
        spans = [
            self._span(
                session.span_id, parent, name, session.began, end, attributes, events=events, outcome=lost or session.outcome
            )
        ]
        for number, piece in enumerate(session.slices):
            identity = derived_id(session.span_id, "stage", str(number))
            stage = {"streamprobe.stage": piece.stage.value}
            until = piece.began + piece.took
            spans.append(self._span(identity, session.span_id, f"stage {piece.stage.value}", piece.began, until, stage))
        if session.started is not None:
            what = "playback confirmed" if session.role is Role.VIEWER else "media acknowledged"
            identity = derived_id(session.span_id, what)
            spans.append(
                self._span(
                    identity, session.span_id, what, session.started, session.started, {"streamprobe.verify": session.verify}
                )
            )
        for number, cut in enumerate(session.cuts):
            spans += self._cut(session, cut, number)
        spans += [self._request(request, session.span_id) for request in session.requests]
        return spans

    def _cut(self, session: SessionResult, cut: CutResult, number: int) -> list[Span]:
        end = max(cut.began, self._end if cut.ended is None else cut.ended)
        attributes: dict[str, Attribute] = {
            "streamprobe.cut.kind": cut.kind,
            "streamprobe.step": cut.step,
            "streamprobe.cut.outcome": cut.outcome.value if cut.outcome else "in_flight",
            "streamprobe.cut.attempts": cut.attempts,
        }
        for name, took in (("outage", cut.outage), ("reconnect", cut.reconnect)):
            if took is not None:
                attributes[f"streamprobe.{name}_seconds"] = took / NS
        events = [] if cut.restored is None else [self._event("path restored", cut.restored, {})]
        identity = derived_id(session.span_id, "cut", str(number))
        spans = [
            self._span(
                identity, session.span_id, f"cut {cut.kind}", cut.began, end, attributes, events=events, outcome=cut.failure
            )
        ]
        if cut.outage is not None:
            outage = derived_id(session.span_id, "outage", str(number))
            spans.append(
                self._span(outage, identity, "outage", end - cut.outage, end, {"streamprobe.outage_seconds": cut.outage / NS})
            )
        return spans

    def _parent(self, request: RequestDone) -> str:
        """Its step's span; what undoes a step comes long after that has ended, and is the run's."""
        return self._root if request.purpose == "undo" else self._steps.get(request.session, self._root)

    def _request(self, request: RequestDone, parent: str) -> Span:
        attributes: dict[str, Attribute] = {
            "http.request.method": request.method,
            "url.full": request.url,
            "streamprobe.purpose": request.purpose,
            "streamprobe.request.id": request.request_id,
            "streamprobe.service": request.service,
            "streamprobe.edge": request.edge,
            "streamprobe.cache": request.cache,
            "http.response.body.size": request.size,
        }
        if request.status:
            attributes["http.response.status_code"] = request.status
        return self._span(
            request.span_id,
            request.parent_span_id or parent,
            f"{request.method} {request.purpose}".strip(),
            request.at - request.took,
            request.at,
            attributes,
            kind="client",
            outcome=request.failure,
        )

    def _event(self, name: str, at: int, attributes: Mapping[str, Attribute]) -> Event:
        return Event(name=self._redact(name), at=wall_of(self._result, at), attributes=self._told(attributes))

    def _told(self, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """Redacted, and without what is empty."""
        told = {key: self._redact(value) if isinstance(value, str) else value for key, value in attributes.items()}
        return {key: value for key, value in told.items() if value != ""}

    def _span(
        self,
        span_id: str,
        parent: str,
        name: str,
        start: int,
        end: int,
        attributes: Mapping[str, Attribute],
        *,
        kind: str = "internal",
        events: Iterable[Event] = (),
        outcome: Outcome | None = None,
    ) -> Span:
        said: dict[str, Attribute] = {"user_agent.synthetic.type": "test", **self._told(attributes)}
        error = None
        if outcome is not None:
            phase, reason, detail = phase_reason(outcome)
            said["streamprobe.outcome"] = outcome_name(outcome)
            if isinstance(outcome, Failed):
                said["error.type"] = f"{phase}/{reason}"
            if isinstance(outcome, Failed | Aborted):
                error = self._redact(": ".join(filter(None, ("/".join(filter(None, (phase, reason))), detail)))) or outcome.kind
        return Span(
            trace_id=self._result.began.trace_id,
            span_id=span_id,
            parent=parent,
            name=self._redact(name),
            start=wall_of(self._result, start),
            end=wall_of(self._result, max(start, end)),
            kind=kind,
            attributes=said,
            events=tuple(events),
            error=error,
            version=self._result.began.probe_version,
        )
