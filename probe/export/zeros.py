"""Every series a plan can bring forth, so that each exists at 0 before anything happens.

A counter born at 1 never alerts: `increase` sees no step. So the label sets are worked out from the plan: its sessions,
its steps, its objectives, and for each the (phase, reason) pairs it can end in. What only a server can name (edges,
cache states) is born at 0 when it is first seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from probe.export.figures import FRAME_KINDS, UNPLANNED
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import REASONS
from probe.model.stage import Phase
from probe.model.verdict import Verdict
from probe.plan import CutStep, FakeStep, Plan, PublishStep, Step, ViewStep

Series = tuple[str, dict[str, str]]
Protocols = Mapping[tuple[Role, str], Collection[Phase]]

OUTCOMES = ("done", "failed", "skipped", "cancelled", "aborted")
TAINTS = ("loop_lag", "decode_backlog", "cpu_starved", "cpu_throttled", "publisher_late", "clock_step", "machine_busy")
SESSION_STEPS = frozenset({"publish", "view"})  # their failures are their sessions' failures
CACHE_STATES = ("hit", "miss", "none")
CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")
_SERVICES = {
    "auth": Phase.AUTH,
    "room": Phase.ROOM,
    "chat": Phase.CHAT,
    "gift": Phase.GIFT,
    "payment": Phase.PAYMENT,
    "moderation": Phase.MODERATION,
}
_ANY_SESSION = tuple(phase for phase in Phase if phase is Phase.AUTH or phase not in _SERVICES.values())
_REACH = (Phase.RESOLVE, Phase.CONNECT, Phase.TLS, Phase.AUTH)
_WATCHED = (
    "freezes_total", "freezes_fixed_total", "rebuffers_total", "watched_seconds_total", "e2e_latency_seconds",
    "rendition_switches_total",
)  # fmt: skip
_BOTH = ("false", "true")


@dataclass(frozen=True, slots=True)
class _Session:
    role: Role
    protocol: str
    ingest: str
    join: str
    device: str
    verify: str


def series(plan: Plan, protocols: Protocols) -> Iterator[Series]:
    """(metric, labels) of all that `plan` can produce. `protocols` narrows the phases a session can fail in; one that is
    not named there may fail in any phase that is not a service's."""
    run = {"scenario": plan.scenario, "mode": plan.mode, "publish_region": plan.publish_region, "region": plan.region}
    sessions = list(dict.fromkeys(_sessions(plan.journey)))
    cuts = {UNPLANNED, *(step.cut for step in plan.journey if isinstance(step, CutStep))}
    for verdict in Verdict:
        yield "runs_total", {**run, "verdict": verdict.value}
    for taint in TAINTS:
        yield "taints_total", {**run, "taint": taint}
    for session in sessions:
        yield from _of_session(run, session, cuts)
        phases = protocols.get((session.role, session.protocol), _ANY_SESSION)
        of = {**run, "role": session.role.value, "protocol": session.protocol, "ingest": session.ingest, "service": ""}
        yield from _failures(of, phases)
    for step in (*plan.journey, *plan.final):
        yield from _of_step(run, step)
    for objective, protocol in plan.cells:
        for outcome in ("good", "bad", "inconclusive"):
            yield "objective_runs_total", {**run, "protocol": protocol, "slo": objective.name, "outcome": outcome}
    for sample in _BOTH:
        yield "self_health_samples_total", {"region": plan.region, "tainted": sample}


def _sessions(journey: Iterable[Step]) -> Iterator[_Session]:
    ingests: dict[str, str] = {}
    for step in journey:
        if isinstance(step, PublishStep):
            ingests[step.name] = step.protocol
            yield _Session(Role.PUBLISHER, step.protocol, step.protocol, "", step.device.name, "code")
        elif isinstance(step, ViewStep):
            for view in step.views:
                # As run/ names it: one protocol, or nothing where there are several or none of ours.
                watched = {protocol for name, protocol in ingests.items() if not view.of or name in view.of}
                ingest = watched.pop() if len(watched) == 1 else ""
                yield _Session(Role.VIEWER, view.protocol, ingest, view.join, view.device.name, view.verify)


def _of_session(run: dict[str, str], session: _Session, cuts: set[str]) -> Iterator[Series]:
    media = {**run, "role": session.role.value, "protocol": session.protocol, "ingest": session.ingest, "device": session.device}
    of = {**media, "join": session.join}
    yield "attempts_total", {**of, "kind": session.verify}
    for outcome in OUTCOMES:
        for tainted in _BOTH:
            yield "outcomes_total", {**of, "kind": session.verify, "outcome": outcome, "tainted": tainted}
    for ending in ("planned", "crashed"):
        yield "sessions_ended_total", {**of, "kind": ending}
    for kind in cuts:
        for cut in CutOutcome:
            for tainted in _BOTH:
                yield "reconnects_total", {**media, "kind": kind, "outcome": cut.value, "tainted": tainted}
    if session.role is Role.PUBLISHER:
        return
    yield "first_frame_seconds", {**of, "kind": session.verify}
    yield "available_seconds", {**run, "protocol": session.protocol, "ingest": session.ingest}
    for frame in FRAME_KINDS:
        yield "frames_total", {**media, "kind": frame}
    for name in _WATCHED:
        yield name, media
    for kind in ("late", "early"):
        yield "av_skew_seconds", {**media, "kind": kind}
    for kind in ("discontinuity", "backwards"):
        yield "manifest_events_total", {**media, "kind": kind}
    for kind in ("freeze", "rebuffer"):
        yield "frozen_seconds_total", {**media, "kind": kind}


def _of_step(run: dict[str, str], step: Step) -> Iterator[Series]:
    of = {**run, "step": step.name, "service": step.service, "kind": step.kind}
    yield "step_seconds", of
    for outcome in OUTCOMES:
        for tainted in _BOTH:
            yield "steps_total", {**of, "outcome": outcome, "tainted": tainted}
    failing = {**run, "role": "", "protocol": "", "ingest": "", "service": step.service}
    if isinstance(step, FakeStep):
        if step.outcome == "failed":
            yield "failures_total", {**failing, "phase": step.phase, "reason": step.reason}
    elif isinstance(step, CutStep):
        if step.call is not None:  # the platform's own switch, which may fail; all else that a cut fails is its sessions'
            yield from _failures(failing, (*_REACH, Phase.ROOM))
    elif step.kind not in SESSION_STEPS and step.kind != "wait":
        own = [_SERVICES[step.service]] if step.service in _SERVICES else list(_SERVICES.values())
        yield from _failures(failing, dict.fromkeys([*_REACH, *own, Phase.ENDING]))


def _failures(of: dict[str, str], phases: Iterable[Phase]) -> Iterator[Series]:
    for phase in phases:
        for reason in REASONS[phase]:
            yield "failures_total", {**of, "phase": phase.value, "reason": reason}
