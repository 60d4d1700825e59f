"""The way a drill goes, as a pure machine: it is told what happened and what time it is, and answers with what to do next.

    check → steady state proven → announce → inject → observed injected → hold → restore → observed restored → recovery → verdict

Each fault goes its own way through the middle of it; several may stand at once, or follow one another. The phase that is told is
that of the fault which is furthest from its end. Whatever happens (an abort, a failed injection, a fault nobody can see, another
that cannot be undone) leads over the restore of every fault that was willed: `end` is answered only when each of them was seen
to be gone, or is said not to be. An event that comes late, twice or out of order changes nothing it should not.

Nothing here reads a clock. Times are monotonic ns of the runner's clock; `due` is when the machine wants to be asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from probe.drill.core.conclude import Cause, Ending, Fate, Kept, Told, conclude
from probe.drill.core.facts import Phase, Verdict

NS = 1_000_000_000
_UNTOLD = Told(None, "nothing has been seen yet")
_PATIENCE = NS  # a goal's last look may come so late; without one by then it is what it was told last
_EARLY = NS  # a fault that is gone by so much before its time, or by a tenth of it, went without our doing


# -- what is to happen


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One fault: `at` after the first injection, held for `lasts`; `inject_within` the call may take, `seen_within` it must then
    be seen. `returns`: what restores it is not us (a killed process), and it may be back before its time."""

    name: str
    at: int
    lasts: int
    inject_within: int = 5 * NS
    seen_within: int = 2 * NS
    returns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What recovered means: to be met within so many ns of the last observed restore."""

    words: str
    within: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A drill as the machine needs it. `promises` are kept while it is broken; `goals` are met after it; `hold`: it is not over
    before so many ns after the first injection."""

    faults: tuple[Course, ...]
    steady_within: int
    goals: tuple[Goal, ...]
    promises: tuple[str, ...] = ()
    hold: int = 0


# -- what happened


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything is checked and prepared, the ledger open, the watchdog awake, the traffic begun."""


@dataclass(frozen=True, slots=True)
class Announced:
    """Everybody who is to know has been told. `failed`: why not."""

    failed: str = ""


@dataclass(frozen=True, slots=True)
class Injected:
    """The call that breaks it came back. `failed`: what it raised."""

    fault: str
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at the target: injected, restored, gone or unknown."""

    fault: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Undone:
    """What undoing it came to: restored or gone, seen `at`; or failed."""

    fault: str
    state: str
    at: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """Conditions as they were read just now; `promises` and `goals` in the script's order, where they are to be read now.
    `abort`: why to stop, empty: go on."""

    steady: Told
    promises: tuple[Told, ...] = ()
    goals: tuple[Told, ...] = ()
    abort: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody, or what keeps us safe, wants an end."""

    why: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Ready | Announced | Injected | Seen | Undone | Looked | Stop | Tick


# -- what to do


@dataclass(frozen=True, slots=True)
class Enter:
    phase: Phase
    why: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell everybody; answered by Announced."""


@dataclass(frozen=True, slots=True)
class Inject:
    """Write it down, break it, and look at it until told otherwise; answered by Injected and Seen."""

    fault: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Put it back, whatever was done by then; answered by Undone."""

    fault: str
    why: str


@dataclass(frozen=True, slots=True)
class Recover:
    """Everything is back since `at`: from here on goals are read."""

    at: int


@dataclass(frozen=True, slots=True)
class End:
    verdict: Verdict
    reason: str


Do = Enter | Announce | Inject | Restore | Recover | End


@dataclass(slots=True)
class _Fault:
    course: Course
    fate: Fate = Fate.PLANNED
    since: int = 0  # of the fate
    seen: bool = False
    back_at: int = 0
    why: str = ""

    def to(self, fate: Fate, now: int) -> None:
        self.fate, self.since = fate, now

    @property
    def due(self) -> int | None:
        """When time alone changes something."""
        course = self.course
        waits = {Fate.WILLED: course.inject_within, Fate.INJECTED: course.seen_within, Fate.HELD: course.lasts}
        return self.since + waits[self.fate] if self.fate in waits else None


@dataclass(slots=True)
class _Promise:
    words: str
    told: Told = _UNTOLD

    def hear(self, told: Told) -> None:
        """Once broken stays broken; once known to be kept is kept until broken."""
        if self.told.met is None or (self.told.met and told.met is not None):
            self.told = told


@dataclass(slots=True)
class _Goal:
    goal: Goal
    told: Told = _UNTOLD
    decided: bool = False

    def hear(self, told: Told, late: int) -> None:
        """Met at any time before its end is met; what it is at its end decides the rest. `late`: ns since that end."""
        if self.decided:
            return
        if told.met is True and late > _PATIENCE:
            told = Told(False, f"only later: {told.reason}")
        self.told = told
        self.decided = told.met is True or late >= 0


@dataclass(slots=True)
class Machine:
    """`on` until it answers End. `phase`, `due` and `fates` may be looked at any time."""

    script: Script
    phase: Phase = Phase.CHECK
    _faults: list[_Fault] = field(init=False)
    _promises: list[_Promise] = field(init=False)
    _goals: list[_Goal] = field(init=False)
    _cause: Cause | None = None
    _steady: Told = _UNTOLD
    _entered: int = 0  # this phase
    _began: int | None = None  # the first injection
    _restored: int = 0
    _do: list[Do] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults = [_Fault(course) for course in self.script.faults]
        self._promises = [_Promise(words) for words in self.script.promises]
        self._goals = [_Goal(goal) for goal in self.script.goals]

    @property
    def fates(self) -> dict[str, Fate]:
        return {fault.course.name: fault.fate for fault in self._faults}

    @property
    def due(self) -> int | None:
        """When it wants to be asked again, if nothing happens before; None: time alone changes nothing."""
        times = [fault.due for fault in self._faults]
        if self.phase is Phase.STEADY:
            times.append(self._entered + self.script.steady_within)
        elif self.phase is Phase.RECOVERY:
            waited = [self._restored + goal.goal.within for goal in self._goals if not goal.decided]
            # The hold is waited for last: as long as a goal is open it may long be over, and is no reason to be asked again.
            times += waited or [None if self._began is None else self._began + self.script.hold]
        elif self._began is not None:
            times += [self._began + f.course.at for f in self._faults if f.fate is Fate.PLANNED and self._cause is None]
        return min((time for time in times if time is not None), default=None)

    def on(self, event: Event, now: int) -> Sequence[Do]:
        """What to do now. Nothing more once it has answered End."""
        self._do = []
        if self.phase is Phase.DONE:
            return ()
        match event:
            case Ready():
                if self.phase is Phase.CHECK:
                    self._enter(Phase.STEADY, now)
            case Announced():
                self._announced(event, now)
            case Injected():
                self._injected(event, now)
            case Seen():
                self._seen(event, now)
            case Undone():
                self._undone(event, now)
            case Looked():
                self._looked(event, now)
            case Stop():
                self._stop(Verdict.ABORTED, event.why)
            case Tick():
                pass
            case _:
                assert_never(event)
        self._advance(now)
        return tuple(self._do)

    # -- what happened

    def _announced(self, event: Announced, now: int) -> None:
        if self.phase is not Phase.ANNOUNCE:
            return
        if event.failed:
            self._stop(Verdict.ABORTED, f"nobody could be told: {event.failed}")
        elif self._cause is None:
            self._began = now
            self._enter(Phase.INJECT, now)

    def _injected(self, event: Injected, now: int) -> None:
        fault = self._named(event.fault)
        if fault is None or fault.fate is not Fate.WILLED:
            return
        if event.failed:
            self._stop(Verdict.INVALID, f"{event.fault} could not be injected: {event.failed}")
        else:
            fault.to(Fate.INJECTED, now)

    def _seen(self, event: Seen, now: int) -> None:
        fault = self._named(event.fault)
        if fault is None:
            return
        if fault.fate is Fate.INJECTED and event.state == "injected":
            fault.seen = True
            fault.to(Fate.HELD, now)
        elif fault.fate is Fate.HELD and event.state in ("restored", "gone"):
            left = fault.since + fault.course.lasts - now
            if not fault.course.returns and left > max(_EARLY, fault.course.lasts // 10):
                words = "its target vanished" if event.state == "gone" else "it was gone"
                self._stop(Verdict.INVALID, f"{event.fault}: {words} {left / NS:.1f} s before its time, without our doing")
            self._restore(fault, "it is back by itself", now)

    def _undone(self, event: Undone, now: int) -> None:
        fault = self._named(event.fault)
        if fault is None or fault.fate is not Fate.RESTORING:
            return
        if event.state not in ("restored", "gone"):
            fault.why = event.detail or "its undo failed"
            fault.to(Fate.NOT_RESTORED, now)
            self._stop(Verdict.NOT_RESTORED, f"{event.fault}: {fault.why}")
            return
        fault.back_at = event.at
        fault.to(Fate.RESTORED if event.state == "restored" else Fate.GONE, now)

    def _looked(self, event: Looked, now: int) -> None:
        self._steady = event.steady
        if event.abort:
            self._stop(Verdict.ABORTED, event.abort)
        if self._began is not None:
            for promise, told in zip(self._promises, event.promises, strict=False):
                promise.hear(told)
        if self.phase is Phase.RECOVERY:
            for goal, told in zip(self._goals, event.goals, strict=False):
                goal.hear(told, now - self._restored - goal.goal.within)

    # -- what follows

    def _advance(self, now: int) -> None:
        match self.phase:
            case Phase.CHECK | Phase.ANNOUNCE:
                if self._cause is not None:
                    self._end(now)
            case Phase.STEADY:
                self._prove(now)
            case Phase.RECOVERY:
                self._recover(now)
            case _:
                self._break(now)

    def _prove(self, now: int) -> None:
        if self._cause is None and self._steady.met is not True and now >= self._entered + self.script.steady_within:
            verdict = Verdict.ABORTED if self._steady.met is False else Verdict.INCONCLUSIVE
            words = "it was not steady" if self._steady.met is False else "whether it was steady could not be told"
            self._stop(verdict, f"{words}: {self._steady.reason}")
        if self._cause is not None:
            self._end(now)
        elif self._steady.met is True:
            self._enter(Phase.ANNOUNCE, now, self._steady.reason)
            self._do.append(Announce())

    def _break(self, now: int) -> None:
        """Every fault on its way, and out of it."""
        assert self._began is not None
        for fault in self._faults:
            self._late(fault, now)
        for fault in self._faults:
            if self._cause is not None:
                self._restore(fault, self._cause.reason, now)
            elif fault.fate is Fate.PLANNED and now >= self._began + fault.course.at:
                fault.to(Fate.WILLED, now)
                self._do.append(Inject(fault.course.name))
            elif fault.fate is Fate.HELD and now >= fault.since + fault.course.lasts:
                self._restore(fault, "its time is over", now)
        if not all(fault.fate.over for fault in self._faults):
            self._tell_phase(now)
        elif self._cause is not None:
            self._end(now)
        elif not any(fault.fate is Fate.PLANNED for fault in self._faults):
            self._restored = max((fault.back_at for fault in self._faults), default=now)
            self._enter(Phase.RECOVERY, now)
            self._do.append(Recover(self._restored))

    def _late(self, fault: _Fault, now: int) -> None:
        if fault.due is None or now < fault.due:
            return
        name, course = fault.course.name, fault.course
        if fault.fate is Fate.WILLED:
            self._stop(Verdict.INVALID, f"{name}: its injection did not end within {course.inject_within / NS:g} s")
        elif fault.fate is Fate.INJECTED:
            self._stop(Verdict.INVALID, f"{name}: not seen to be injected within {course.seen_within / NS:g} s")

    def _recover(self, now: int) -> None:
        if self._cause is not None:
            self._end(now)
            return
        for goal in self._goals:
            goal.decided = goal.decided or now > self._restored + goal.goal.within + _PATIENCE
        assert self._began is not None
        if all(goal.decided for goal in self._goals) and now >= self._began + self.script.hold:
            self._end(now)

    def _restore(self, fault: _Fault, why: str, now: int) -> None:
        if fault.fate not in (Fate.WILLED, Fate.INJECTED, Fate.HELD):
            return
        fault.to(Fate.RESTORING, now)
        self._do.append(Restore(fault.course.name, why))

    def _stop(self, verdict: Verdict, why: str) -> None:
        """The first cause is the cause."""
        self._cause = self._cause or Cause(verdict, why)

    def _end(self, now: int) -> None:
        endings = [Ending(f.course.name, f.fate, f.seen, f.why) for f in self._faults]
        promises = [Kept(promise.words, promise.told) for promise in self._promises]
        goals = [Kept(goal.goal.words, goal.told) for goal in self._goals]
        verdict, reason = conclude(self._cause, endings, promises, goals)
        if all(fault.fate is Fate.PLANNED for fault in self._faults):
            reason += "; nothing was touched"
        self._enter(Phase.DONE, now, reason)
        self._do.append(End(verdict, reason))

    def _tell_phase(self, now: int) -> None:
        """The phase of the fault that is furthest from its end; between two faults it is held."""
        fates = {fault.fate for fault in self._faults}
        for fate, phase in (
            (Fate.WILLED, Phase.INJECT), (Fate.INJECTED, Phase.OBSERVE), (Fate.HELD, Phase.HOLD), (Fate.RESTORING, Phase.RESTORE),
            (Fate.PLANNED, Phase.HOLD),
        ):  # fmt: skip
            if fate in fates:
                self._enter(phase, now, self._cause.reason if self._cause is not None else "")
                return

    def _enter(self, phase: Phase, now: int, why: str = "") -> None:
        if phase is not self.phase:
            self.phase, self._entered = phase, now
            self._do.append(Enter(phase, why))

    def _named(self, name: str) -> _Fault | None:
        return next((fault for fault in self._faults if fault.course.name == name), None)
