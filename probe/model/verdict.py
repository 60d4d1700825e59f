"""Verdicts and results: what fold makes of observations, and what judge makes of that. Times in ns, absent is None."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from probe.model.observation import (
    AnswerBegan,
    CutOutcome,
    Delivery,
    Freeze,
    HealthSample,
    Note,
    RequestDone,
    Role,
    RunBegan,
    Rung,
    Switched,
    Window,
)
from probe.model.outcome import Failed, Outcome
from probe.model.stage import Slice, Stage


class Verdict(StrEnum):
    """No data is its own verdict. When several are joined the worst counts: fail > inconclusive > warn > pass."""

    PASS = "pass"
    WARN = "warn"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"

    @property
    def rank(self) -> int:
        return list(Verdict).index(self)


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict of the whole; of nothing at all, inconclusive."""
    return max(verdicts, key=lambda v: v.rank, default=Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutResult:
    """One cut as one session lived it."""

    step: str
    kind: str
    began: int
    restored: int | None
    ended: int | None
    outcome: CutOutcome | None  # None: the run ended before it could be told
    outage: int | None
    reconnect: int | None
    attempts: int
    failure: Failed | None
    taints: frozenset[str] = frozenset()
    so_far: int | None = None  # the picture was away for so long when the stay was ended


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """`outcome` None: still in flight when the observations end. `started` is the monotonic instant of the first verified
    frame, `took` intent → there. `ending`: planned, crashed or empty."""

    session: str
    step: str
    name: str
    role: Role
    protocol: str
    device: str
    region: str
    publish_region: str
    join: str
    verify: str
    buffered: bool
    optional: bool
    span_id: str
    began: int
    outcome: Outcome | None = None
    started: int | None = None
    took: int | None = None
    ended: int | None = None
    ending: str = ""
    ended_by: Failed | None = None
    stages: dict[Stage, int] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    cuts: tuple[CutResult, ...] = ()
    requests: tuple[RequestDone, ...] = ()
    taints: frozenset[str] = frozenset()  # of the start: intent → started or ended
    facts: dict[str, str] = field(default_factory=dict)
    ingest: str = ""  # protocol of the publisher that is watched, or its own
    of: str = ""  # its step
    sound: bool = False  # sound is to be heard
    ladder: tuple[Rung, ...] = ()
    switches: tuple[Switched, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    answers: tuple[AnswerBegan, ...] = ()  # bodies without end, as they began


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    step: str
    kind: str
    service: str
    span_id: str
    began: int
    outcome: Outcome | None = None
    took: int | None = None
    optional: bool = False
    final: bool = False
    taints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    began: RunBegan
    ended: int | None
    outcome: Outcome | None
    sessions: tuple[SessionResult, ...]
    steps: tuple[StepResult, ...]
    requests: tuple[RequestDone, ...]  # of steps and of the run itself
    available: dict[tuple[str, str], int]  # (ingest, protocol) → ns
    health: tuple[HealthSample, ...]
    notes: tuple[Note, ...]
    taints: frozenset[str]
    release: str = ""  # of the platform; empty: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixCell:
    """One cell of broadcast × viewers' protocol. Medians in seconds; `sound` None: none was sent, or it cannot be said."""

    of: str
    ingest: str
    protocol: str
    device: str
    result: Verdict
    viewers: int
    started: int
    first_frame: float | None
    latency: float | None
    sound: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question asked of the result, with its answer. `value` None: it could not be measured."""

    name: str
    result: Verdict
    value: float | None = None
    unit: str = ""
    threshold: str = ""
    n: int = 0
    min_n: int = 0
    window: str = ""
    region: str = ""
    owner: str = ""
    action: str = ""
    reason: str = ""
    phase: str = ""
    subject: str = ""  # the step or session it is about, empty for gates
