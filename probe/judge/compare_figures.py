"""What a run comes to, in one number for each thing that is compared: read from verdict.json, whoever wrote it.

Viewers of one run stand and fall together: ten of them are no ten samples. So a run gives one value for each indicator, the
median over its viewers of a protocol, or one word, good or bad, as for objectives; the runs are the samples. Both builds are read
from the same document by the same lines, so that no difference can come from how they were read. What was measured while the
probe was unwell is left out, and so is what was skipped, cancelled or aborted.

Of the document only what is used here is looked at: a file of a later program may hold more.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from probe.judge.sums import OWN_CUTS
from probe.model.clock import NS
from probe.model.comparison import About, Place

_SERVICES = frozenset({"auth", "room", "payment", "chat", "gift", "moderation"})
_NO_SERVICE = frozenset({"publish", "view", "cut", "wait", "fake"})
_Seconds = Annotated[float, Field(ge=0, le=1e6)]
_Name = Annotated[str, Field(max_length=300)]
_Latency = Annotated[float, Field(ge=-1e6, le=1e6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One run. `occasion`: what it was part of; runs of one are of the same hour. `began` in Unix ns. `values`: seconds, or
    shares of time. `stages`: medians of seconds, of starts in `values`."""

    run_id: str
    place: Place
    release: str = ""
    occasion: str = ""
    began: int = 0
    values: Mapping[About, float] = field(default_factory=dict)
    good: Mapping[About, bool] = field(default_factory=dict)
    stages: Mapping[About, Mapping[str, float]] = field(default_factory=dict)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Cut(_Part):
    kind: _Name
    outcome: str | None = None
    outage_seconds: _Seconds | None = None
    reconnect_seconds: _Seconds | None = None
    taints: list[str] = []


class _Spread(_Part):
    n: int
    p50: _Latency


class _Middle(_Part):
    p50: _Latency


class _Freezes(_Part):
    ratio: Annotated[float, Field(ge=0)] | None = None
    rebuffer_ratio: Annotated[float, Field(ge=0)] | None = None


class _Session(_Part):
    role: Literal["publisher", "viewer"]
    protocol: _Name
    device: _Name
    ingest: _Name | None = None
    outcome: str
    ending: str | None = None
    taints: list[str] = []
    start_seconds: _Seconds | None = None
    first_frame_seconds: _Seconds | None = None
    stages: dict[str, _Seconds] = {}
    e2e_latency_seconds: _Middle | None = None
    freezes: _Freezes | None = None
    reconnects: list[_Cut] = []

    @property
    def counts(self) -> bool:
        return self.outcome in ("done", "failed") and not self.taints


class _Group(_Part):
    role: Literal["publisher", "viewer"]
    protocol: _Name
    device: _Name
    first_frame_seconds: _Spread | None = None
    e2e_latency_seconds: _Spread | None = None
    reconnects: dict[str, int] = {}


class _Step(_Part):
    step: _Name
    kind: str
    service: str | None = None
    outcome: str
    taints: list[str] = []
    seconds: _Seconds | None = None
    optional: bool = False
    final: bool = False


class _Run(_Part):
    run_id: _Name
    scenario: _Name
    publish_region: _Name
    region: _Name
    release: _Name | None = None
    started_at: datetime
    taints: list[str] = []
    available_seconds: dict[str, _Seconds] = {}
    steps: list[_Step] = []
    sessions: list[_Session] = []
    groups: list[_Group] | None = None


class _Probe(_Part):
    version: _Name = ""


class Document(_Part):
    """verdict.json, as far as it is compared. Validating raises pydantic's ValidationError."""

    schema_version: Literal[1]
    result: str
    started_at: datetime
    target: _Name = ""
    release: _Name | None = None
    probe: _Probe = _Probe()
    runs: list[_Run]


def figures_of(document: Document | Mapping[str, Any], occasion: str = "") -> list[RunFigures]:
    """Every run of a document. `occasion`: by default the moment it began. Raises pydantic's ValidationError where it is none."""
    found = document if isinstance(document, Document) else Document.model_validate(document)
    name = occasion or found.started_at.isoformat()
    return [_figures(run, run.release or found.release or "", name) for run in found.runs]


def _figures(run: _Run, release: str, occasion: str) -> RunFigures:
    values: dict[About, float] = {}
    good: dict[About, bool] = {}
    stages: dict[About, Mapping[str, float]] = {}
    several = len({s.ingest for s in run.sessions if s.role == "viewer" and s.ingest}) > 1
    alike: dict[tuple[str, str, str, str], list[_Session]] = defaultdict(list)
    for session in run.sessions:
        ingest = session.ingest or "" if several and session.role == "viewer" else ""
        alike[session.role, session.protocol, ingest, _device(session.device)].append(session)
    for (role, *rest), sessions in alike.items():
        if role == "publisher":
            _publishers(sessions, values, good, *rest)
        elif run.groups is None:
            _viewers(run, sessions, values, good, stages, *rest)
    for group in run.groups or ():
        if group.role == "viewer":
            _group(group, [s for (role, p, _, d), found in alike.items() for s in found
                           if (role, p, d) == ("viewer", group.protocol, _device(group.device))], values, good)  # fmt: skip
    if (started := _room_start(run)) is not None:
        good[About("room_start")] = started
    for label, took in run.available_seconds.items():
        protocol, _, ingest = label.partition(" of ")
        values[About("available_seconds", protocol, ingest)] = took
    _services(run.steps, values, good)
    return RunFigures(
        run_id=run.run_id,
        place=Place(run.scenario, run.publish_region, run.region),
        release=release,
        occasion=occasion,
        began=round(run.started_at.timestamp() * NS),
        values={_once(about): value for about, value in values.items()},
        good={_once(about): word for about, word in good.items()},
        stages={_once(about): {sys.intern(stage): took for stage, took in of.items()} for about, of in stages.items()},
    )


@lru_cache(maxsize=4096)
def _once(about: About) -> About:
    """The same object for all runs: an agent holds hundreds of them."""
    return about


def _device(name: str) -> str:
    return "" if name == "default" else name


def _publishers(
    sessions: list[_Session], values: dict[About, float], good: dict[About, bool], protocol: str, ingest: str, device: str
) -> None:
    told = [s for s in sessions if s.counts]
    if told:
        good[About("publisher_start", protocol, ingest, device)] = all(s.outcome == "done" for s in told)
    _median(values, About("publisher_seconds", protocol, ingest, device), (s.start_seconds for s in told if s.outcome == "done"))


def _viewers(
    run: _Run,
    sessions: list[_Session],
    values: dict[About, float],
    good: dict[About, bool],
    stages: dict[About, Mapping[str, float]],
    protocol: str,
    ingest: str,
    device: str,
) -> None:
    def about(indicator: str) -> About:
        return About(indicator, protocol, ingest, device)

    told = [s for s in sessions if s.counts]
    well = [s for s in told if s.outcome == "done"]
    if told:
        good[about("start")] = len(well) == len(told)
    _median(values, about("first_frame"), (s.first_frame_seconds for s in well))
    if well:
        used = dict.fromkeys(stage for s in well for stage in s.stages)
        stages[about("first_frame")] = {stage: median(s.stages.get(stage, 0.0) for s in well) for stage in used}
    _median(values, about("e2e_latency"), (s.e2e_latency_seconds.p50 for s in well if s.e2e_latency_seconds))
    _median(values, about("freeze_ratio"), (_frozen(s.freezes) for s in well if s.freezes))
    cuts = [cut for s in sessions for cut in s.reconnects if not cut.taints]
    ended = [cut for cut in cuts if cut.outcome not in (None, "open")]
    if ended:
        good[about("reconnect")] = all(cut.outcome != "failed" for cut in ended)
    _median(values, about("reconnect_seconds"), (cut.reconnect_seconds for cut in cuts))
    _median(values, about("outage_seconds"), (cut.outage_seconds for cut in cuts))
    if well and not (run.taints and any(_crashed(s) for s in well)):  # it may have been our own breath that was short
        good[about("crash_free")] = not any(_crashed(s) for s in well)


def _group(group: _Group, noteworthy: list[_Session], values: dict[About, float], good: dict[About, bool]) -> None:
    """A run of very many sessions: by name only those that went wrong, which would be no median of all."""
    protocol, device = group.protocol, _device(group.device)

    def about(indicator: str) -> About:
        return About(indicator, protocol, "", device)

    failed = any(s.counts and s.outcome == "failed" for s in noteworthy)
    if failed or group.first_frame_seconds is not None:
        good[about("start")] = not failed
    for indicator, spread in (("first_frame", group.first_frame_seconds), ("e2e_latency", group.e2e_latency_seconds)):
        if spread is not None:
            values[about(indicator)] = spread.p50
    lost = any(cut.outcome == "failed" and not cut.taints for s in noteworthy for cut in s.reconnects)
    if lost or any(group.reconnects.get(word, 0) for word in ("unaffected", "resumed", "restarted")):
        good[about("reconnect")] = not lost


def _median(values: dict[About, float], about: About, samples: Iterable[float | None]) -> None:
    if told := [sample for sample in samples if sample is not None]:
        values[about] = median(told)


def _frozen(freezes: _Freezes) -> float | None:
    return freezes.ratio if freezes.rebuffer_ratio is None else freezes.rebuffer_ratio


def _crashed(session: _Session) -> bool:
    return session.ending == "crashed" and not any(cut.kind in OWN_CUTS for cut in session.reconnects)


def _room_start(run: _Run) -> bool | None:
    """As `indicators.room_start` has it; None where that was not planned, or cannot be told."""
    path = [step for step in run.steps if not step.final]
    if not {"publish", "view"} <= {step.kind for step in path}:
        return None
    live = any(s.role == "publisher" and s.outcome == "done" for s in run.sessions)
    viewers = [s for s in run.sessions if s.role == "viewer" and s.outcome == "done"]
    grouped = any(g.role == "viewer" and g.first_frame_seconds is not None for g in run.groups or ())
    if live and (grouped or any(not s.taints for s in viewers)):
        return True
    if live and viewers:
        return None  # started, and the probe was unwell
    last = max(place for place, step in enumerate(path) if step.kind == "view")
    failed = any(s.counts and s.outcome == "failed" for s in run.sessions)
    failed = failed or any(s.outcome == "failed" and not s.taints and not s.optional for s in path[:last])
    return False if failed else None


def _services(steps: list[_Step], values: dict[About, float], good: dict[About, bool]) -> None:
    for step in steps:
        if step.kind in _NO_SERVICE or step.taints or step.outcome not in ("done", "failed"):
            continue
        if step.service in _SERVICES:
            about = About(str(step.service))
            good[about] = good.get(about, True) and step.outcome == "done"
        if step.outcome == "done" and step.seconds is not None and not step.final:
            values[About("step_seconds", step=step.step)] = step.seconds
