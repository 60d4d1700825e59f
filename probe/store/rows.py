"""What is read back of the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.store.records import Request, RunBegun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(RunBegun):
    """A run as it stands. `state`: running, ended or aborted; `verdict` empty and `ended_ns` None while it runs. `attempts` as in
    RunFinished. A run whose beginning was lost with the outbox has empty fields there, and began when it ended."""

    state: str
    verdict: str
    cause: str
    ended_ns: int | None
    attempts: Mapping[str, int]
    crashed: str
    release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A request, and the run it belongs to."""

    request: Request
    run: RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A scheduled run's end and its verdict.json."""

    run_id: str
    ended_ns: int
    verdict_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What windows of many runs need of one; `data` as RunFinished.measures."""

    run_id: str
    schedule: str
    mode: str
    due_ns: int
    ended_ns: int
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What retention removed: runs with all that belongs to them, reports and verdicts of runs that are kept, events."""

    runs: int = 0
    reports: int = 0
    events: int = 0
