"""What a drill's own traffic says at this moment: conditions of the gate language, read region by region. Pure.

Two kinds of runs feed it. Whole runs that begin and end meanwhile each give what `judge/windows` keeps of a run, and a window
takes those that ended within it. The one long run whose audience stays gives what its sessions live through second by second:
a window takes what happened within it, and `playing` is how many of them have a moving picture now (with a window: for which
share of it). A picture moves where the last second that was told of had a verified frame.

What the probe measured while it was unwell is not counted, and `playing` says nothing then; the minimum count decides what is
left. Chosen not to: runs under way count for nothing until they have ended, so that each counts once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from probe.drill.core.conclude import Told
from probe.judge.fold import fold, taints_between
from probe.judge.indicators import NOTHING, Part, part
from probe.judge.reading import Answer, Seen, answer, windows
from probe.judge.windows import RunParts, parts_of
from probe.model.observation import (
    CutOutcome,
    Freeze,
    HealthSample,
    Observation,
    RequestDone,
    Resumed,
    Role,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StepDone,
    Window,
)
from probe.model.outcome import Aborted, Cancelled, Done, Skipped
from probe.model.verdict import RunResult, SessionResult
from probe.scenario.gates import Expression, Term
from probe.scenario.indicators import IN_A_DRILL, Of

NS = 1_000_000_000
CUT = "drill"  # the kind of a cut that is a fault's
CROWD = "joined"  # the step of viewers that a fault brought, who are no audience
_NOW = 3 * NS  # what was told longer ago says nothing of now
_UNWELL = 2 * NS  # so long after an unwell moment what is seen may still be its doing
_KEEP = 120 * NS  # of what a staying audience tells by the second
_START = frozenset({Of.ROOM, Of.PUBLISHERS, Of.STEPS})  # of a run's beginning, whole
_STARTING = frozenset({"start", "first_frame", "attempts", "failures", "taint_ratio"})  # of each session's beginning
_TURNS = (SessionBegan, SessionStarted, SessionEnded, StepDone)
_HIGH_RATE = (Window, Freeze, RequestDone, HealthSample)


@dataclass(frozen=True, slots=True)
class Begun:
    """When runs began that are asked of; monotonic ns."""

    since: int = 0
    until: int | None = None

    def has(self, at: int) -> bool:
        return at >= self.since and (self.until is None or at <= self.until)


ANYTIME = Begun()


@dataclass(slots=True)
class _Viewer:
    """One of the audience, as it is told of."""

    started: int | None = None
    seconds: deque[tuple[int, bool]] = field(default_factory=deque)  # when told, whether the picture moved
    ended: SessionEnded | None = None
    returns: list[Resumed] = field(default_factory=list)

    def moves(self, now: int) -> bool:
        """By the last second that was told of; before there is one, by its first picture."""
        at, moved = self.seconds[-1] if self.seconds else (self.started, True)
        return self.ended is None and at is not None and moved and now - at <= _NOW

    @property
    def counts(self) -> bool:
        """It tried, and what became of it was the platform's doing."""
        return self.ended is None or not isinstance(self.ended.outcome, Skipped | Cancelled | Aborted)


@dataclass(slots=True)
class _Run:
    began: RunBegan | None = None
    stays: bool = False
    facts: list[Observation] = field(default_factory=list)
    viewers: dict[str, _Viewer] = field(default_factory=dict)
    health: deque[HealthSample] = field(default_factory=deque)
    forgot: int = 0  # when what is told by the second was forgotten last
    turned: int = 0  # when a session or a step began or ended last
    starts: tuple[int, RunResult] | None = None  # folded when `turned` was that
    lived: tuple[int, RunResult] | None = None  # folded when the newest fact was of that instant

    def of_starts(self) -> RunResult:
        """Good for what is told of beginnings."""
        if self.starts is None or self.starts[0] != self.turned:
            self.starts = self.turned, fold(self.facts)
        return self.starts[1]

    def of_life(self) -> RunResult:
        """Good for what is told by the second: folding all of it takes its time."""
        newest = self.facts[-1].at
        if self.lived is None or newest - self.lived[0] >= NS:
            self.lived = newest, fold(self.facts)
        return self.lived[1]


class Readings:
    """`saw` every observation of every run; then ask. `stays`: run ids of those whose audience stays; `min_n` as in a drill."""

    def __init__(self, *, stays: Collection[str], min_n: int = 3) -> None:
        self._stays = frozenset(stays)
        self._min_n = min_n
        self._runs: dict[str, _Run] = {}
        self._ended: dict[str, list[RunParts]] = {}  # by region
        self._held: dict[tuple[str, str, str], int] = {}  # since when a condition with `for` has been met

    # -- what happens

    def saw(self, fact: Observation) -> None:
        run = self._runs.setdefault(fact.run, _Run(stays=fact.run in self._stays))
        if isinstance(fact, RunBegan):
            run.began = fact
        run.facts.append(fact)
        if isinstance(fact, _TURNS):
            run.turned = fact.at
        if run.stays:
            _of_stay(run, fact)
        elif isinstance(fact, RunEnded):
            del self._runs[fact.run]
            self._take(fold(run.facts))

    def _take(self, result: RunResult) -> None:
        if result.ended is not None and (parts := parts_of(result)):
            self._ended.setdefault(result.began.region, []).append(RunParts(result.ended, result.began.at, parts))

    # -- what is asked

    def read(self, key: str, expression: Expression, region: str, now: int, *, since: int = 0, begun: Begun = ANYTIME) -> Answer:
        """What a condition comes to in a region at `now`, from what was seen after `since`, of runs that began within `begun`
        (whatever their windows, where that has an end). `key` names who asks: what is asked `for` a while must have been met
        at each of their looks."""
        back = windows(expression) if begun.until is None else (None,) * len(expression.terms)
        looks = zip(expression.terms, back, strict=True)
        seen = [self._seen(term, region, now, max(since, now - (window or now)), begun) for term, window in looks]
        told = answer(expression, seen, self._min_n, 0.0)
        if expression.hold is None:
            return told
        place = (key, str(expression), region)
        if told.met is not True:
            self._held.pop(place, None)
            return told
        if now - self._held.setdefault(place, now) >= expression.hold:
            return told
        return replace(told, met=False, reason=f"{told.reason}: not for long enough yet")

    def playing(self, region: str, now: int) -> tuple[int, int]:
        """How many of the audience have a moving picture, of how many."""
        there = [viewer for run in self._of(region) for viewer in run.viewers.values() if viewer.counts]
        return sum(viewer.moves(now) for viewer in there), len(there)

    def rooms(self) -> tuple[int, int]:
        """Rooms that started and that failed, of the runs that have ended."""
        parts = [run.parts.get(("room_start", ""), NOTHING) for runs in self._ended.values() for run in runs]
        good = sum(one.good for one in parts)
        return good, sum(one.total for one in parts) - good

    def audience(self, regions: Collection[str], now: int) -> frozenset[str]:
        """Sessions whose picture moves now."""
        return frozenset(
            name for region in regions for run in self._of(region) for name, viewer in run.viewers.items() if viewer.moves(now)
        )

    def reconnected(self, played: Collection[str], restored: int, share: float, within: int, now: int) -> Told:
        """Whether of those who `played` when it began a `share` saw a verified frame within so many ns of `restored`. None: there
        is time left, nobody played, or the probe was unwell while more than half of them were to return."""
        good = bad = tainted = 0
        for run in self._runs.values():
            for name, viewer in run.viewers.items():
                if name in played:
                    back = _back(viewer, restored, within, now)
                    until = min(now, restored + within, viewer.returns[-1].at if back and viewer.returns else now)
                    if taints_between(run.health, restored, max(until, restored + 1)):
                        tainted += 1
                    elif back is not None:
                        good, bad = good + back, bad + (not back)
        told = len(played) - tainted
        words = f"{good} of {told} viewers were back within {within / NS:g} s" + (f", {tainted} tainted" if tainted else "")
        if not played:
            return Told(None, "nobody played when it began")
        if told < max(1, (len(played) + 1) // 2):
            return Told(None, f"the probe was unwell: {words}")
        if good >= share * told - 1e-9:
            return Told(True, words)
        if bad > (1 - share) * told + 1e-9 or now >= restored + within:
            return Told(False, words)
        return Told(None, f"{words} so far")

    # -- inside

    def _of(self, region: str) -> Iterator[_Run]:
        return (run for run in self._runs.values() if run.stays and run.began is not None and run.began.region == region)

    def _seen(self, term: Term, region: str, now: int, begin: int, begun: Begun) -> Seen:
        if term.indicator == "playing":
            return self._playing(region, now, begin, windowed=term.window is not None)
        runs = [run for run in self._ended.get(region, ()) if run.at > begin and begun.has(run.due)]
        whole = sum((run.parts.get((term.indicator, ""), NOTHING) for run in runs), NOTHING)
        for stay in self._of(region):
            whole += _stay_part(stay, term.indicator, max(begin, begun.since))
        return Seen(whole.value(term.unit, term.quantile), whole.n, max(len(runs), bool(whole.n)), 1.0)

    def _playing(self, region: str, now: int, begin: int, *, windowed: bool) -> Seen:
        runs = list(self._of(region))
        if any(taints_between(run.health, now - _UNWELL, now) for run in runs):
            return Seen(None, 0, 1, 0.0, why="the probe is unwell")
        moving, there = self.playing(region, now)
        if not windowed:
            return Seen(moving / there if there else None, there, bool(there), 0.0, whole=True)
        viewers = [(run, viewer) for run in runs for viewer in run.viewers.values() if viewer.counts]
        told = [
            moved
            for run, viewer in viewers
            for at, moved in viewer.seconds
            if at > begin and not taints_between(run.health, at - NS, at)
        ]
        told += [False for _, viewer in viewers if viewer.ended is not None]
        return Seen(sum(told) / len(told) if told else None, len(told), bool(told), 0.0)


def _of_stay(run: _Run, fact: Observation) -> None:
    viewer = run.viewers.get(fact.session)
    match fact:
        case SessionBegan() if fact.role is Role.VIEWER and fact.step != CROWD:
            run.viewers[fact.session] = _Viewer()
        case SessionStarted() if viewer is not None:
            viewer.started = fact.at
        case Window() if viewer is not None:
            viewer.seconds.append((fact.at, fact.verified > 0))
            _forget(viewer.seconds, fact.at - _KEEP)
        case Resumed() if viewer is not None and fact.kind == CUT:
            viewer.returns.append(fact)
        case SessionEnded() if viewer is not None:
            viewer.ended = fact
        case HealthSample():
            run.health.append(fact)
            while run.health[0].at < fact.at - _KEEP:
                run.health.popleft()
            if fact.at - run.forgot >= _KEEP // 4:
                run.forgot = fact.at
                run.facts = [one for one in run.facts if one.at > fact.at - _KEEP or not isinstance(one, _HIGH_RATE)]
        case _:
            pass


def _forget(seconds: deque[tuple[int, bool]], before: int) -> None:
    while seconds[0][0] < before:
        seconds.popleft()


def _back(viewer: _Viewer, restored: int, within: int, now: int) -> bool | None:
    """Whether a viewer came back in time; None: it still may."""
    for told in viewer.returns:
        if told.at >= restored:
            if told.outcome in (CutOutcome.FAILED, CutOutcome.OPEN):
                return False
            return told.reconnect is None or told.reconnect <= within
    return False if viewer.ended is not None or now >= restored + within else None


def _stay_part(run: _Run, indicator: str, begin: int) -> Part:
    """What a staying audience gives to an indicator after `begin`."""
    assert run.began is not None
    of = IN_A_DRILL[indicator].of
    if of in _START:
        if run.began.at <= begin:
            return NOTHING
        result = run.of_starts()
        return part(replace(result, sessions=tuple(_begun(s) for s in result.sessions)), indicator)
    if indicator in _STARTING:
        if run.turned <= begin:
            return NOTHING
        result = run.of_starts()
        kept = [_begun(s) for s in result.sessions if (s.started or s.ended or 0) > begin]
        return part(replace(result, sessions=tuple(kept), steps=()), indicator)
    result = run.of_life()
    return part(replace(result, sessions=tuple(_after(s, begin) for s in result.sessions)), indicator)


def _begun(session: SessionResult) -> SessionResult:
    """A start is over when it has begun to play, however long it stays."""
    return replace(session, outcome=Done()) if session.outcome is None and session.started is not None else session


def _after(session: SessionResult, begin: int) -> SessionResult:
    """What a session lived through after `begin`."""
    return replace(
        session,
        started=None if session.started is None else max(session.started, begin),
        windows=tuple(window for window in session.windows if window.at > begin),
        cuts=tuple(cut for cut in session.cuts if cut.ended is None or cut.ended > begin),
        requests=tuple(request for request in session.requests if request.at > begin),
    )


def told(answers: Mapping[str, Answer]) -> Told:
    """One word for all regions: not met where one is not, not known where one is not known."""
    if not answers:
        return Told(None, "no region")
    named = len(answers) > 1
    for met in (False, None):
        if words := [f"{region}: {_words(a)}" if named else _words(a) for region, a in answers.items() if a.met is met]:
            return Told(met, "; ".join(words))
    return Told(True, "; ".join(f"{region}: {_words(a)}" if named else _words(a) for region, a in answers.items()))


def _words(one: Answer) -> str:
    """What was read, and against what."""
    if one.term is None or one.value is None:
        return one.reason
    value = f"{one.value:.1%}" if one.term.threshold.endswith("%") else f"{one.value:.4g}"
    more = f", {one.reason}" if one.reason and one.met is not True else ""
    return f"{one.term.indicator} {value} of {one.n} ({one.term}{more})"
