"""Observations → metrics.

Two moments, because they know different things. **Live**, from observations: attempts, frames, freezes, latencies, edges,
and the probe's own health; these move while a long run goes on. **At the end**, from the folded result: outcomes, starts,
stages, reconnects, steps, failures, verdict; only then is it known what the probe's own health spoilt, since that needs the
health samples on both sides of it.

Kept out of distributions: clock faults (never in `latencies`), what a tainted probe measured, and everything of a session after
our own link cut it, except how it came back. What the probe's health spoilt it says only afterwards, so a second of media and a
freeze wait for the next look at it (half a second); both sides of frozen ÷ watched leave out what it found wanting. The sink
never awaits, never raises, and holds a bounded number of open sessions; what it cannot take it counts.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry

from probe.export.families import Families, plain
from probe.export.figures import (
    FIXED,
    FRAME_KINDS,
    MEDIA_PURPOSES,
    OWN_CUTS,
    REBUFFER,
    UNPLANNED,
    W3C,
    counts_until,
    status_class,
    unwell,
)
from probe.export.zeros import CACHE_STATES, CLASSES, SESSION_STEPS, Protocols, series
from probe.model.clock import NS
from probe.model.metrics import OTHER
from probe.model.observation import (
    CutBegan,
    Delivery,
    Freeze,
    HealthSample,
    Observation,
    RequestDone,
    Role,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionStarted,
    Switched,
    Window,
)
from probe.model.outcome import Done, Failed
from probe.model.verdict import CutResult, RunResult, SessionResult, StepResult, Verdict
from probe.plan import Plan

_log = logging.getLogger(__name__)
MAX_OPEN = 10_000
_SAMPLES = 64  # looks at the probe's health that are remembered: half a minute, longer than a freeze that ends

ObjectiveOutcome = Literal["good", "bad", "inconclusive"]
Labels = dict[str, str]


@dataclass(slots=True)
class _Run:
    labels: Labels
    trace: str
    health: deque[HealthSample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    waiting: deque[_Watched] = field(default_factory=deque)


@dataclass(slots=True)
class _Session:
    media: Labels
    viewer: bool
    started: bool = False
    severed: bool = False


@dataclass(frozen=True, slots=True)
class _Watched:
    """A fact of a viewer's media, and whether the session had started by then."""

    fact: Window | Freeze
    media: Labels
    started: bool


class MetricsSink:
    """A sink of observations; its metrics live in `registry` (one of its own where none is given)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._to = Families(self.registry)
        self._runs: dict[str, _Run] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._edges: set[tuple[str, ...]] = set()  # whose every class exists: at most 21 for each protocol of a run
        self.count_dropped("metrics", 0)

    @property
    def figures(self) -> Families:
        """The table itself, for what is no observation."""
        return self._to

    def declare(self, plan: Plan, protocols: Protocols | None = None) -> None:
        """Every series that `plan` can produce exists from now on, at 0. `protocols`: the phases each can fail in."""
        for name, labels in series(plan, protocols or {}):
            self._to.touch(name, labels)

    def put(self, observation: Observation) -> None:
        """Take one fact. Constant time; never awaits, never raises."""
        try:
            self._to.add("self_observations_total", {})
            self._live(observation)
        except Exception:
            # A bug of ours here must not end a measurement; it is counted where an alert can see it.
            self.count_dropped("metrics")
            _log.exception("an observation could not be counted")

    def count_dropped(self, sink: str, count: int = 1) -> None:
        """`count` observations that the sink of that name could not take."""
        self._to.add("self_observations_dropped_total", {"kind": sink}, count)

    def count_result(self, result: RunResult, verdict: Verdict) -> None:
        """All of a run that is known only once it is folded and judged. Call it once a run."""
        run = run_labels(result.began)
        trace = result.began.trace_id
        for session in result.sessions:
            self._count_session(run, session, trace)
        for step in result.steps:
            self._count_step(run, step, trace)
        publishers = [s for s in result.sessions if s.role is Role.PUBLISHER]
        if not any(s.taints for s in publishers):
            for (ingest, protocol), took in result.available.items():
                self._to.observe("available_seconds", {**run, "protocol": protocol, "ingest": ingest}, took / NS, trace)
        self._to.add("runs_total", {**run, "verdict": verdict.value}, trace=trace)

    def count_unjudged(self, plan: Plan) -> None:
        """A run of which nothing came that could be judged. It was due and it was made: objectives know it, as inconclusive."""
        run = run_labels(plan)
        self._to.add("runs_total", {**run, "verdict": Verdict.INCONCLUSIVE.value})
        for objective, protocol in plan.cells:
            labels = {**run, "protocol": protocol, "slo": objective.name, "outcome": "inconclusive"}
            self._to.add("objective_runs_total", labels)

    def count_objective(self, began: RunBegan, slo: str, outcome: ObjectiveOutcome, protocol: str = "") -> None:
        """One run judged against one objective; `protocol` empty where the objective is the whole run's."""
        labels = {**run_labels(began), "protocol": protocol, "slo": slo, "outcome": outcome}
        self._to.add("objective_runs_total", labels, trace=began.trace_id)

    # -- live

    def _live(self, fact: Observation) -> None:
        match fact:
            case RunBegan():
                self._bounded(self._runs)
                self._runs[fact.run] = _Run(run_labels(fact), fact.trace_id)
            case RunEnded():
                if run := self._runs.pop(fact.run, None):
                    self._settle(run, fact.at)
                for key in [key for key in self._sessions if key[0] == fact.run]:
                    del self._sessions[key]
            case SessionBegan():
                self._began(fact)
            case SessionStarted():
                if session := self._sessions.get((fact.run, fact.session)):
                    session.started = True
            case CutBegan():
                if fact.kind in OWN_CUTS and (session := self._sessions.get((fact.run, fact.session))):
                    session.severed = True
            case Window() | Freeze():
                self._watched(fact)
            case Switched() | Delivery():
                self._delivered(fact)
            case RequestDone():
                self._request(fact)
            case HealthSample():
                self._health(fact)
            case _:
                pass

    def _delivered(self, fact: Switched | Delivery) -> None:
        """What the platform itself says of its media: no health of ours spoils it."""
        run, session = self._runs.get(fact.run), self._sessions.get((fact.run, fact.session))
        if run is None or session is None or session.severed:
            return
        if isinstance(fact, Switched):
            self._to.add("rendition_switches_total", session.media, trace=run.trace)
            return
        for kind, count in (("discontinuity", fact.discontinuities), ("backwards", fact.backwards)):
            if count:
                self._to.add("manifest_events_total", {**session.media, "kind": kind}, count)
        if fact.live_latency is not None and fact.live_latency >= 0:  # the future is a clock's fault: the records keep it
            self._to.observe("live_latency_seconds", session.media, fact.live_latency, run.trace)

    def _bounded(self, held: Sized) -> None:
        if len(held) >= MAX_OPEN:
            raise OverflowError(f"more than {MAX_OPEN} open at once")

    def _began(self, fact: SessionBegan) -> None:
        run = self._runs[fact.run]
        media = {
            **run.labels, "role": fact.role.value, "protocol": fact.protocol, "ingest": fact.ingest, "device": fact.device,
        }  # fmt: skip
        self._to.add("attempts_total", {**media, "join": fact.join, "kind": fact.verify}, trace=run.trace)
        self._bounded(self._sessions)
        self._sessions[fact.run, fact.session] = _Session(media, fact.role is Role.VIEWER)

    def _watched(self, fact: Window | Freeze) -> None:
        run = self._runs.get(fact.run)
        session = self._sessions.get((fact.run, fact.session))
        if run is None or session is None or session.severed or not session.viewer:
            return
        run.waiting.append(_Watched(fact, session.media, session.started))
        if not run.health:  # nobody looks at the probe's health: nothing to wait for
            self._settle(run, fact.at)
        elif len(run.waiting) > MAX_OPEN:
            self._settle(run, run.waiting[0].fact.at)

    def _settle(self, run: _Run, until: int) -> None:
        """Count what waited and lies before `until`, now that it is known how the probe was."""
        while run.waiting and run.waiting[0].fact.at <= until:
            watched = run.waiting.popleft()
            fact = watched.fact
            tainted = unwell(run.health, fact.at - fact.took, fact.at)
            if isinstance(fact, Window):
                self._window(run, watched, fact, tainted)
            elif not tainted:
                self._freeze(run, watched.media, fact)

    def _freeze(self, run: _Run, media: Labels, freeze: Freeze) -> None:
        if freeze.rule == W3C:
            self._to.add("freezes_total", media, trace=run.trace)
            self._to.add("frozen_seconds_total", {**media, "kind": "freeze"}, freeze.took / NS)
        elif freeze.rule == FIXED:
            self._to.add("freezes_fixed_total", media, trace=run.trace)
        elif freeze.rule == REBUFFER:
            self._to.add("rebuffers_total", media, trace=run.trace)
            self._to.add("frozen_seconds_total", {**media, "kind": "rebuffer"}, freeze.took / NS)

    def _window(self, run: _Run, watched: _Watched, window: Window, tainted: bool) -> None:
        media = watched.media
        for kind in FRAME_KINDS:
            if count := getattr(window, kind):
                self._to.add("frames_total", {**media, "kind": kind}, count)
        self._to.set("clock_error_seconds", run.labels, window.clock_error)
        if tainted:
            return
        if watched.started:
            self._to.add("watched_seconds_total", media, window.took / NS)
        if window.latencies:
            self._to.observe_all("e2e_latency_seconds", media, window.latencies, run.trace)
        for value in window.skews:
            kind = "early" if value < 0 else "late"
            self._to.observe("av_skew_seconds", {**media, "kind": kind}, abs(value), run.trace)
        if window.media_seconds > 0:
            rendition, _ = self._to.collapse(run.labels["scenario"], "rendition", window.rendition)
            self._to.observe(
                "bitrate_bytes_per_second", {**media, "rendition": rendition}, window.bytes / window.media_seconds, run.trace
            )

    def _request(self, fact: RequestDone) -> None:
        run = self._runs.get(fact.run)
        if run is None or fact.purpose not in MEDIA_PURPOSES:
            return
        session = self._sessions.get((fact.run, fact.session))
        if session and session.severed:
            return
        edge, _ = self._to.collapse(run.labels["scenario"], "edge", fact.edge)
        cache = plain(fact.cache).lower()
        labels = {**run.labels, "protocol": session.media["protocol"] if session else "", "edge": edge}
        if (born := tuple(labels.values())) not in self._edges:
            self._edges.add(born)
            for state in (*CACHE_STATES, OTHER):
                for family in CLASSES:
                    self._to.touch("edge_requests_total", {**labels, "cache": state, "class": family})
        counted = {**labels, "cache": cache if cache in CACHE_STATES else OTHER, "class": status_class(fact.status)}
        self._to.add("edge_requests_total", counted, trace=run.trace)

    def _health(self, fact: HealthSample) -> None:
        run = self._runs.get(fact.run)
        if run is None:
            return
        run.health.append(fact)
        self._settle(run, fact.at)
        region = {"region": run.labels["region"]}
        self._to.add("self_health_samples_total", {**region, "tainted": _bool(bool(fact.taints))})
        self._to.observe("self_loop_lag_seconds", region, fact.loop_lag, run.trace)
        self._to.set("self_decode_backlog_seconds", region, fact.decode_backlog)
        self._to.set("self_run_delay_ratio", region, fact.run_delay)
        self._to.set("self_throttled_ratio", region, fact.throttled)
        self._to.set("self_pressure_ratio", region, fact.pressure)

    # -- at the end

    def _count_session(self, run: Labels, session: SessionResult, trace: str) -> None:
        media = {
            **run, "role": session.role.value, "protocol": session.protocol, "ingest": session.ingest, "device": session.device,
        }  # fmt: skip
        of = {**media, "join": session.join}
        outcome = session.outcome
        if outcome is not None:
            labels = {**of, "kind": session.verify, "outcome": outcome.kind, "tainted": _bool(bool(session.taints))}
            self._to.add("outcomes_total", labels, trace=trace)
            self._taints(run, session.taints)
        if isinstance(outcome, Done) and session.took is not None and not session.taints:
            if session.role is Role.VIEWER:
                self._to.observe("first_frame_seconds", {**of, "kind": session.verify}, session.took / NS, trace)
            for stage, took in session.stages.items():
                self._to.observe("stage_seconds", {**of, "stage": stage.value}, took / NS, trace)
        for cut in session.cuts:
            self._count_cut(run, media, cut, trace)
        if session.ending:
            # It counts up to the cut; whether it came back after it is what `reconnects_total` says.
            ending = session.ending if counts_until(session) is None else "planned"
            self._to.add("sessions_ended_total", {**of, "kind": ending}, trace=trace)
        # A session lost for good carries its reason in `ended_by`; where a cut lost it that is the cut's own failure.
        cuts = (cut.failure for cut in session.cuts if cut.kind != UNPLANNED)
        for failure in dict.fromkeys(f for f in (outcome, *cuts, session.ended_by) if isinstance(f, Failed)):
            self._failed(run, failure, trace, session)

    def _count_cut(self, run: Labels, media: Labels, cut: CutResult, trace: str) -> None:
        if cut.outcome is None:
            return
        of = {**media, "kind": cut.kind}
        self._to.add("reconnects_total", {**of, "outcome": cut.outcome.value, "tainted": _bool(bool(cut.taints))}, trace=trace)
        self._taints(run, cut.taints)
        if not cut.taints:
            for name, took in (("outage_seconds", cut.outage), ("reconnect_seconds", cut.reconnect)):
                self._to.observe(name, of, None if took is None else took / NS, trace)

    def _count_step(self, run: Labels, step: StepResult, trace: str) -> None:
        if step.outcome is None:
            return
        of = {**run, "step": step.step, "service": step.service, "kind": step.kind}
        self._to.add("steps_total", {**of, "outcome": step.outcome.kind, "tainted": _bool(bool(step.taints))}, trace=trace)
        self._taints(run, step.taints)
        if isinstance(step.outcome, Done) and step.took is not None and not step.taints:
            self._to.observe("step_seconds", of, step.took / NS, trace)
        if isinstance(step.outcome, Failed) and step.kind not in SESSION_STEPS:
            self._failed(run, step.outcome, trace, service=step.service)

    def _failed(
        self, run: Labels, failure: Failed, trace: str, session: SessionResult | None = None, *, service: str = ""
    ) -> None:
        who = (session.role.value, session.protocol, session.ingest) if session is not None else ("", "", "")
        of = dict(zip(("role", "protocol", "ingest"), who, strict=True))
        of |= {"service": service, "phase": failure.phase.value, "reason": failure.reason}
        self._to.add("failures_total", {**run, **of}, trace=trace)

    def _taints(self, run: Labels, taints: frozenset[str]) -> None:
        for taint in taints:
            self._to.add("taints_total", {**run, "taint": taint})


def run_labels(began: RunBegan | Plan) -> Labels:
    return {"scenario": began.scenario, "mode": began.mode, "publish_region": began.publish_region, "region": began.region}


def _bool(value: bool) -> str:
    return "true" if value else "false"
