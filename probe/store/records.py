"""What is kept of a run, a request and whatever else happened. Frozen, JSON both ways, no secret in any of them: who makes a
record has redacted it.

A run has two records, since it may never end: one when it begins, one when it is over. Both are idempotent by their run id,
an event by its own id; so a record that is put twice counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the journey, by which support finds the run. Never a segment or playlist. `status` 0: no answer came."""

    request_id: str
    service: str
    step: str
    method: str
    status: int
    span_id: str
    at_ns: int  # Unix


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegun:
    """A run that was started: from here on it is in flight. Times are Unix ns; `due_ns` 0: nobody scheduled it."""

    run_id: str
    agent: str
    schedule: str
    scenario: str
    mode: str
    publish_region: str
    region: str
    target: str
    seed: int
    run_number: int
    trace_id: str
    due_ns: int
    began_ns: int
    probe_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """How it ended. `state`: ended or aborted. `attempts`: sessions by outcome (done, failed, skipped, cancelled, aborted),
    the tainted ones of each under `<outcome>_tainted` instead. `crashed`: how the worker died, empty where it did not. `release`
    of the platform, empty where the run did not learn it."""

    run_id: str
    state: str
    verdict: str
    cause: str
    ended_ns: int
    attempts: Mapping[str, int] = field(default_factory=dict)
    crashed: str = ""
    release: str = ""
    verdict_json: str = ""
    report_html: str = ""
    requests: tuple[Request, ...] = ()
    measures: Mapping[str, object] = field(default_factory=dict)  # what windows of many runs need of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything else: a gate changed, an action was run, the agent started, its configuration was taken or refused. `subject`
    names what it is about, `who` and `why` are words for people."""

    event_id: str
    at_ns: int
    agent: str
    kind: str
    subject: str
    region: str = ""
    who: str = ""
    why: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateKept:
    """What an agent must know of a gate when it begins again; the last one counts. `key`: which of its gates, and where."""

    agent: str
    key: str
    at_ns: int
    data: Mapping[str, object]


Record = RunBegun | RunFinished | Event | GateKept
