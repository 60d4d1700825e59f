"""The timeline picture of a drill: where everything stands on one axis of time, in per cent of its width. Pure: no markup here,
and no colours; those are the template's and the stylesheet's, as with export/charts.

Rows from above: the phases; each fault with the instants at which it was injected, seen, put back and seen to be gone; alerts and
gates; what was done about it; each cohort as verified frames of each slice of time, of its viewers together, so that a gap is a
gap; whole runs as ticks at the end of each viewer's start. The instants of faults go through all rows as lines.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from probe.drill.core.cohorts import Cohort, played, union
from probe.drill.core.facts import ActionSeen, DrillFact, Entered, Phase
from probe.drill.core.marks import FaultMarks, Marks
from probe.drill.core.readings import CROWD
from probe.drill.core.score import AlarmScore, StripScore
from probe.export.charts import Bar, Row, Tick, ticks
from probe.export.figures import quantile
from probe.export.words import duration, tick, what_happened
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.outcome import Done, Failed
from probe.model.verdict import RunResult, SessionResult

SLICES = 180  # at most; a slice is a second at least
_THIN = 0.9  # of the usual frames: less is fewer than usual
_NAMES = {
    Phase.CHECK: "check",
    Phase.STEADY: "steady state",
    Phase.ANNOUNCE: "announce",
    Phase.INJECT: "inject",
    Phase.OBSERVE: "seen?",
    Phase.HOLD: "broken",
    Phase.RESTORE: "restore",
    Phase.OBSERVE_RESTORED: "seen gone?",
    Phase.RECOVERY: "recovery",
}
_BANDS = {
    **dict.fromkeys((Phase.INJECT, Phase.OBSERVE, Phase.HOLD), "broken"),
    **dict.fromkeys((Phase.RESTORE, Phase.OBSERVE_RESTORED), "mending"),
    Phase.RECOVERY: "recovering",
}
_LABELLED = 7.0  # per cent of the width that a phase's name needs


@dataclass(frozen=True, slots=True)
class Line:
    """An instant that goes through all rows: `kind` is inject or restore."""

    at: float
    kind: str
    said: str


@dataclass(frozen=True, slots=True)
class Named:
    """A phase's name over its band."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`bands` stand behind every row. `step`: what one slice of a cohort's strip is, in words."""

    phases: Row
    names: tuple[Named, ...]
    bands: tuple[Bar, ...]
    lines: tuple[Line, ...]
    faults: tuple[Row, ...]
    alarms: tuple[Row, ...]
    actions: Row | None
    cohorts: tuple[Row, ...]
    starts: tuple[Row, ...]
    health: Row | None
    ticks: tuple[Tick, ...]
    step: str


def timeline(
    facts: Sequence[DrillFact],
    at: Marks,
    results: Sequence[RunResult],
    stays: Collection[str],
    alarms: Sequence[AlarmScore],
) -> Picture:
    """Everything from the drill's beginning to its end."""
    axis = _Axis(at.began, max(at.ended, at.began + NS))
    phases, names = _phases(facts, axis)
    return Picture(
        phases=phases,
        names=names,
        bands=tuple(bar for bar in phases.bars if bar.kind in _BANDS.values()),
        lines=tuple(_lines(at, axis)),
        faults=tuple(_fault(fault, axis) for fault in at.faults),
        alarms=tuple(_alarm(alarm, axis) for alarm in alarms),
        actions=_actions(facts, axis),
        cohorts=tuple(_strips([r for r in results if r.began.run in stays], at, axis)),
        starts=tuple(_starts([r for r in results if r.began.run not in stays], at, axis)),
        health=_health(results, axis),
        ticks=ticks(axis.end - axis.begin, tick, 8),
        step=f"{axis.slice / NS:g} s",
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    begin: int
    end: int

    @property
    def slice(self) -> int:
        """ns of a slice of a strip."""
        return max(NS, math.ceil((self.end - self.begin) / SLICES / NS) * NS)

    def at(self, when: int) -> float:
        when = min(max(when, self.begin), self.end)
        return round(100 * (when - self.begin) / (self.end - self.begin), 3)

    def bar(self, low: int, high: int, kind: str, said: str, height: float = 100.0) -> Bar:
        began = self.at(low)
        return Bar(began, round(self.at(high) - began, 3), kind, said, height)


def _phases(facts: Sequence[DrillFact], axis: _Axis) -> tuple[Row, tuple[Named, ...]]:
    entered = [fact for fact in facts if isinstance(fact, Entered)]
    ends = [fact.at for fact in entered[1:]] + [axis.end]
    bars, names = [], []
    for fact, end in zip(entered, ends, strict=True):
        if fact.phase is Phase.DONE:
            continue
        kind = _BANDS.get(fact.phase, "calm")
        said = f"{_NAMES[fact.phase]}: {duration(end - fact.at)}" + (f"; {fact.why}" if fact.why else "")
        bar = axis.bar(fact.at, end, kind, said)
        bars.append(bar)
        if bar.width >= _LABELLED:
            names.append(Named(bar.at, _NAMES[fact.phase]))
    return Row("phases", "", tuple(bars), ""), tuple(names)


def _lines(at: Marks, axis: _Axis) -> Iterable[Line]:
    for fault in at.faults:
        if fault.seen is not None:
            yield Line(axis.at(fault.seen), "inject", f"{fault.name} seen to be there")
        if fault.back is not None:
            yield Line(axis.at(fault.back), "restore", f"{fault.name} seen to be gone")


def _fault(fault: FaultMarks, axis: _Axis) -> Row:
    """From the call to the last look: pale until it was seen to be there, and again while it was put back."""
    bars, marks = [], []
    end = fault.back if fault.back is not None else axis.end
    seen = fault.seen if fault.seen is not None else fault.restoring or end
    restoring = fault.restoring if fault.restoring is not None else end
    if fault.injecting is not None:
        bars.append(axis.bar(fault.injecting, seen, "pending", "injected, not seen yet", 60.0))
        if fault.seen is not None:
            stood = f"{fault.name}: {duration(restoring - fault.seen)} seen to be there"
            bars.append(axis.bar(fault.seen, max(restoring, fault.seen), "fault", stood))
        bars.append(axis.bar(restoring, end, "pending", f"put back, seen after {duration(end - restoring)}", 60.0))
        marks.append(axis.bar(fault.injecting, fault.injecting, "at", "injection begins"))
    if fault.restoring is not None:
        marks.append(axis.bar(fault.restoring, fault.restoring, "at", f"restore begins, by {fault.by}"))
    wrong = "" if fault.injecting is None or fault.back is not None else "never seen to be gone"
    wrong = wrong or ("never seen to be there" if fault.injecting is not None and fault.seen is None else "")
    value = duration(end - fault.injecting) if fault.injecting is not None else "not touched"
    return Row(fault.name, fault.kind, tuple(bars), value, wrong, tuple(marks))


def _alarm(alarm: AlarmScore, axis: _Axis) -> Row:
    begin = axis.begin + round(alarm.at * NS)
    end = axis.end if alarm.ended_at is None else axis.begin + round(alarm.ended_at * NS)
    kind = "alarm" if alarm.ours else "strange"
    where = " · ".join(filter(None, (alarm.source, alarm.severity, alarm.region)))
    said = f"{alarm.name} fires for {duration(end - begin)}" + ("" if alarm.ours else "; not this drill's")
    return Row(alarm.name, where, (axis.bar(begin, end, kind, said, 60.0),), f"at {duration(begin - axis.begin)}")


def _actions(facts: Sequence[DrillFact], axis: _Axis) -> Row | None:
    found = [fact for fact in facts if isinstance(fact, ActionSeen)]
    marks = tuple(axis.bar(fact.at, fact.at, "action", f"{fact.who}: {fact.words}") for fact in found)
    return Row("actions", "", (), str(len(found)), marks=marks) if found else None


def _health(results: Iterable[RunResult], axis: _Axis) -> Row | None:
    """When any look found the probe unwell; None where it was well all along."""
    unwell = [sample for result in results for sample in result.health if sample.taints]
    if not unwell:
        return None
    bars = [
        axis.bar(
            low, high, "unwell", ", ".join(sorted({t for s in unwell if s.at - s.took < high and s.at > low for t in s.taints}))
        )
        for low, high in union((sample.at - sample.took, sample.at) for sample in unwell)
    ]
    return Row(
        "the probe itself", "unwell", tuple(bars), duration(sum(round(bar.width * (axis.end - axis.begin) / 100) for bar in bars))
    )


# -- viewers who stay


def _strips(results: Iterable[RunResult], at: Marks, axis: _Axis) -> Iterable[Row]:
    by: defaultdict[Cohort, list[SessionResult]] = defaultdict(list)
    since = at.injecting if at.injecting is not None else axis.end
    for result in results:
        for session in result.sessions:
            if _stayed(session):
                by[Cohort.of(session)].append(session)
    for cohort in sorted(by):
        sessions = by[cohort]
        note = " · ".join(filter(None, (cohort.region, "" if cohort.device == "default" else cohort.device)))
        there = sum(played(session, since) for session in sessions) if at.injecting is not None else len(sessions)
        yield Row(cohort.protocol, note, tuple(_strip(sessions, axis)), f"{there} viewer{'s' if there != 1 else ''}")


def _strip(sessions: Sequence[SessionResult], axis: _Axis) -> Iterable[Bar]:
    """A bar of each slice: as high as its frames are of the usual; a thin line at the ground where nobody saw any."""
    for low, high, rate, share in _slices(sessions, axis):
        kind = "away" if rate == 0 else "frames" if share >= _THIN else "frames thin"
        said = f"{rate:.1f} verified frames a second and viewer" if rate else "no verified frame"
        height = 10.0 if rate == 0 else 100.0 if share >= _THIN else max(12.0, 100 * share)
        yield axis.bar(low, high, kind, said, round(height, 1))


def strip_of(results: Iterable[RunResult], stays: Collection[str], at: Marks) -> list[StripScore]:
    """Verified frames of all viewers who stayed together, slice by slice, as shares of the usual."""
    axis = _Axis(at.began, max(at.ended, at.began + NS))
    sessions = [s for r in results if r.began.run in stays for s in r.sessions if _stayed(s)]
    return [
        StripScore(at=round((low - axis.begin) / NS, 3), took=round((high - low) / NS, 3), share=round(share, 3))
        for low, high, _, share in _slices(sessions, axis)
    ]


def _stayed(session: SessionResult) -> bool:
    return session.role is Role.VIEWER and session.step != CROWD and session.started is not None


def _slices(sessions: Sequence[SessionResult], axis: _Axis) -> Iterable[tuple[int, int, float, float]]:
    """Begin, end, verified frames a second and viewer, and that as a share of the usual; of slices that anybody watched."""
    count = math.ceil((axis.end - axis.begin) / axis.slice)
    frames, watched = [0.0] * count, [0.0] * count  # of all viewers: verified frames, ns in which there could have been some
    for session in sessions:
        assert session.started is not None
        end = axis.end if session.ending == "crashed" or session.ended is None else min(session.ended, axis.end)
        for number, spent in _over(session.started, end, axis):
            watched[number] += spent
        for window in session.windows:
            low = max(window.at - window.took, session.started)
            for number, spent in _over(low, window.at, axis):
                frames[number] += window.verified * spent / max(window.at - low, 1)
    rates = [f / (w / NS) if w >= axis.slice / 4 else None for f, w in zip(frames, watched, strict=True)]
    usual = quantile([rate for rate in rates if rate], 0.5)
    if usual is None:
        return
    for number, rate in enumerate(rates):
        if rate is not None:
            low = axis.begin + number * axis.slice
            yield low, min(low + axis.slice, axis.end), rate, rate / usual


def _over(low: int, high: int, axis: _Axis) -> Iterable[tuple[int, int]]:
    """The slices that [low, high) touches, and for how many ns."""
    low, high = max(low, axis.begin), min(high, axis.end)
    while low < high:
        number = (low - axis.begin) // axis.slice
        until = min(high, axis.begin + (number + 1) * axis.slice)
        yield number, until - low
        low = until


# -- whole runs


def _starts(results: Iterable[RunResult], at: Marks, axis: _Axis) -> Iterable[Row]:
    """A tick where each start was decided; by region and protocol."""
    by: defaultdict[tuple[str, str], list[SessionResult]] = defaultdict(list)
    for result in results:
        for session in result.sessions:
            if session.role is Role.VIEWER and isinstance(session.outcome, Done | Failed):
                by[session.protocol, session.region].append(session)
    for (protocol, region), sessions in sorted(by.items()):
        marks = []
        for session in sessions:
            when = session.started if session.started is not None else session.ended
            if when is None or when > at.ended:
                continue
            good = isinstance(session.outcome, Done)
            kind = "unsure" if session.taints else "good" if good else "bad"
            took = f" in {duration(session.took)}" if session.took is not None else ""
            said = f"{what_happened(session.outcome)}{took}" + (", while the probe was unwell" if session.taints else "")
            marks.append(axis.bar(when, when, kind, said))
        told = [s for s in sessions if not s.taints]
        begun = sum(isinstance(s.outcome, Done) for s in told)
        yield Row(f"starts, {protocol}", region, (), f"{begun} of {len(told)}", marks=tuple(marks))
