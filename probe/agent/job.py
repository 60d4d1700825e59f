"""What the agent gives a worker to do, and what it hears when that is over. Picklable; secrets are references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.model.outcome import Outcome
from probe.plan import Plan

CRASHED = "the probe crashed: "  # in the outcome of a run whose worker died, before the word for how


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run. `due` is Unix ns, 0 where nobody scheduled it; `deadline` ns for the whole of it, its ending included, after which
    the worker is killed; `memory` bytes of resident memory that its process may reach; `state` the directory of the ledger."""

    plan: Plan
    schedule: str
    due: int
    deadline: int
    memory: int
    state: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended. `crashed` says how the worker died (`signal 11`, `exit 3`, `memory`, `time`, `protocol`; `grace`: told to
    end, it did not; `lost`: nobody can say; `start`: there was none), empty where it lived. `startup` is the part of `cpu`, in
    seconds, that came before the first step; `peak` bytes of resident memory."""

    outcome: Outcome
    crashed: str = ""
    cpu: float | None = None
    startup: float | None = None
    peak: int | None = None
