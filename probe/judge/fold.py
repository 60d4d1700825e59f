"""fold: a run's observations → its result.

The observations may come in any order, twice, and cut off in the middle (kill -9): they are sorted by their sequence
number first, and what had begun and not ended is in flight, with no outcome. Nothing is judged here.

A result's taints are those of the health samples whose interval [at − took, at] touches its own: for a session intent →
started or ended, for a step its duration, for a cut its beginning → the end of its outage. What came before or after is
not held against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from probe.model.observation import (
    AnswerBegan,
    Available,
    CutBegan,
    CutOutcome,
    Delivery,
    Freeze,
    HealthSample,
    Ladder,
    Note,
    Observation,
    ReleaseSeen,
    RequestDone,
    Restored,
    Resumed,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StageDone,
    StepBegan,
    StepDone,
    Switched,
    Window,
)
from probe.model.stage import Slice, Stage
from probe.model.verdict import CutResult, RunResult, SessionResult, StepResult


def fold(observations: Iterable[Observation]) -> RunResult:
    """The result of one run. Raises ValueError where no RunBegan is among them, or of two runs."""
    facts = sorted(observations, key=lambda fact: fact.seq)
    began = [fact for fact in facts if isinstance(fact, RunBegan)]
    if not began or any(fact.run != began[0].run for fact in facts):
        raise ValueError("not the observations of one run: its beginning is missing" if not began else "observations of two runs")
    folding = _Folding(began[0])
    seen: set[int] = set()
    for fact in facts:
        if fact.seq not in seen or fact.seq == 0:  # 0: never numbered
            seen.add(fact.seq)
            folding.sessions_first(fact)
    seen.clear()
    for fact in facts:
        if fact.seq not in seen or fact.seq == 0:
            seen.add(fact.seq)
            folding.add(fact)
    return folding.result()


def taints_between(health: Sequence[HealthSample], began: int, ended: int) -> frozenset[str]:
    """Taints of the samples whose interval overlaps [began, ended]; touching ends do not overlap."""
    out: set[str] = set()
    for sample in health:
        low, high = sample.at - sample.took, sample.at
        if (low < ended and high > began) or (began == ended and low <= began <= high):
            out.update(sample.taints)
    return frozenset(out)


@dataclass(slots=True)
class _Session:
    began: SessionBegan
    started: SessionStarted | None = None
    ended: SessionEnded | None = None
    slices: list[Slice] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    requests: list[RequestDone] = field(default_factory=list)
    cuts: list[CutResult] = field(default_factory=list)
    ladder: Ladder | None = None
    switches: list[Switched] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    answers: list[AnswerBegan] = field(default_factory=list)

    def restored(self, fact: Restored) -> None:
        for i, cut in reversed(list(enumerate(self.cuts))):
            if cut.outcome is None and (cut.step, cut.kind) == (fact.step, fact.kind):
                self.cuts[i] = replace(cut, restored=fact.at)
                return

    def resumed(self, fact: Resumed) -> None:
        """The end of a cut; or of an interruption that nobody made, which has no beginning but the last good picture."""
        index = len(self.cuts)
        for i, cut in reversed(list(enumerate(self.cuts))):
            if cut.outcome is None and (cut.step, cut.kind) == (fact.step, fact.kind):
                index = i
                break
        else:
            away = fact.outage if fact.outage is not None else fact.so_far
            began = fact.at - away if away is not None else self._last_good(fact.at)
            self.cuts.append(_open(fact.step, fact.kind, began))
        self.cuts[index] = replace(
            self.cuts[index],
            ended=fact.at,
            outcome=fact.outcome,
            outage=fact.outage,
            reconnect=fact.reconnect,
            attempts=fact.attempts,
            failure=fact.failure,
            so_far=fact.so_far,
        )

    def _last_good(self, before: int) -> int:
        good = [w.at for w in self.windows if w.verified and w.at <= before]
        return max(good, default=self.started.at if self.started is not None else self.began.at)


def _open(step: str, kind: str, began: int) -> CutResult:
    return CutResult(
        step=step,
        kind=kind,
        began=began,
        restored=None,
        ended=None,
        outcome=None,
        outage=None,
        reconnect=None,
        attempts=0,
        failure=None,
    )


class _Folding:
    def __init__(self, began: RunBegan) -> None:
        self._began = began
        self._ended: RunEnded | None = None
        self._last = began.at
        self._sessions: dict[str, _Session] = {}
        self._steps: dict[str, tuple[StepBegan | None, StepDone | None]] = {}
        self._requests: list[RequestDone] = []
        self._available: dict[tuple[str, str], int] = {}
        self._health: list[HealthSample] = []
        self._notes: list[Note] = []
        self._release = ""

    def sessions_first(self, fact: Observation) -> None:
        """A session's beginning may have been numbered after its first facts by another worker."""
        if isinstance(fact, SessionBegan):
            self._sessions.setdefault(fact.session, _Session(fact))

    def add(self, fact: Observation) -> None:
        self._last = max(self._last, fact.at)
        session = self._sessions.get(fact.session)
        match fact:
            case RunEnded():
                self._ended = fact
            case StepBegan():
                self._steps[fact.step] = (fact, self._steps.get(fact.step, (None, None))[1])
            case StepDone():
                self._steps[fact.step] = (self._steps.get(fact.step, (None, None))[0], fact)
            case Available():
                self._available[fact.ingest, fact.protocol] = fact.took
            case HealthSample():
                self._health.append(fact)
            case Note():
                self._notes.append(fact)
            case ReleaseSeen():
                self._release = fact.release
            case RequestDone():
                (self._requests if session is None else session.requests).append(fact)
            case _ if session is not None:
                _of_session(session, fact)
            case _:
                pass  # RunBegan is known; a fact of a session whose beginning was lost belongs to nobody

    def result(self) -> RunResult:
        health = tuple(sorted(self._health, key=lambda sample: sample.at))
        return RunResult(
            began=self._began,
            ended=self._ended.at if self._ended is not None else None,
            outcome=self._ended.outcome if self._ended is not None else None,
            sessions=tuple(self._session(s, health) for s in self._sessions.values()),
            steps=tuple(self._step(name, *pair, health) for name, pair in self._steps.items()),
            requests=tuple(self._requests),
            available=self._available,
            health=health,
            notes=tuple(self._notes),
            taints=frozenset(t for sample in health for t in sample.taints),
            release=self._release,
        )

    def _session(self, session: _Session, health: Sequence[HealthSample]) -> SessionResult:
        began, started, ended = session.began, session.started, session.ended
        stages: dict[Stage, int] = {}
        for piece in session.slices:
            stages[piece.stage] = stages.get(piece.stage, 0) + piece.took
        first_end = started.at if started is not None else ended.at if ended is not None else self._last
        return SessionResult(
            session=began.session,
            step=began.step,
            name=began.name,
            role=began.role,
            protocol=began.protocol,
            device=began.device,
            region=began.region,
            publish_region=began.publish_region,
            join=began.join,
            verify=began.verify,
            buffered=began.buffered,
            optional=began.optional,
            span_id=began.span_id,
            began=began.at,
            outcome=ended.outcome if ended is not None else None,
            started=started.at if started is not None else None,
            took=started.took if started is not None else None,
            ended=ended.at if ended is not None else None,
            ending=ended.ending if ended is not None else "",
            ended_by=ended.ended_by if ended is not None else None,
            stages=stages,
            slices=tuple(session.slices),
            windows=tuple(session.windows),
            freezes=tuple(session.freezes),
            cuts=tuple(
                replace(cut, taints=taints_between(health, cut.began, self._last if cut.ended is None else cut.ended))
                for cut in session.cuts
            ),
            requests=tuple(session.requests),
            taints=taints_between(health, began.at, first_end),
            facts=dict(ended.facts) if ended is not None else {},
            ingest=began.ingest,
            of=began.of,
            sound=began.sound,
            ladder=session.ladder.rungs if session.ladder is not None else (),
            switches=tuple(session.switches),
            deliveries=tuple(session.deliveries),
            answers=tuple(session.answers),
        )

    def _step(self, name: str, began: StepBegan | None, done: StepDone | None, health: Sequence[HealthSample]) -> StepResult:
        fact = began or done
        assert fact is not None
        ended = done.at if done is not None else self._last
        at = began.at if began is not None else ended - (done.took if done is not None else 0)
        reached = began is not None
        return StepResult(
            step=name,
            kind=fact.kind,
            service=fact.service,
            span_id=began.span_id if began is not None else "",
            began=at,
            outcome=done.outcome if done is not None else None,
            took=done.took if done is not None else None,
            optional=done.optional if done is not None else False,
            final=done.final if done is not None else False,
            taints=taints_between(health, at, ended) if reached else frozenset(),
        )


def _of_session(session: _Session, fact: Observation) -> None:
    match fact:
        case StageDone():
            if fact.attempt == 0:
                session.slices.append(Slice(fact.stage, fact.began, fact.took))
        case SessionStarted():
            session.started = fact
        case SessionEnded():
            session.ended = fact
        case Window():
            session.windows.append(fact)
        case Freeze():
            session.freezes.append(fact)
        case Ladder():
            session.ladder = session.ladder or fact
        case Switched():
            session.switches.append(fact)
        case Delivery():
            session.deliveries.append(fact)
        case AnswerBegan():
            session.answers.append(fact)
        case CutBegan():
            session.cuts.append(_open(fact.step, fact.kind, fact.at))
        case Restored():
            session.restored(fact)
        case Resumed():
            session.resumed(fact)
        case _:
            pass


def came_back(cut: CutResult) -> bool | None:
    """Whether the session came back from a cut; None where the run or the stay ended before it could be told."""
    return None if cut.outcome in (None, CutOutcome.OPEN) else cut.outcome is not CutOutcome.FAILED
