"""Is somebody on at every moment of the year, and never two? And who, at one moment.

The windows that routing writes are laid over the calendar: for each queue, severity and region, in Unix time, so that every
change of every clock is in it. A hole or an overlap is named by its first moment, in UTC and by the clocks of those beside it,
and how often it comes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from probe.model.clock import NS
from probe.rules.shifts import Duty, Remit, begins, duties, remits, taking
from probe.rules.walltime import joined, local, without
from probe.scenario.check import Finding
from probe.scenario.oncall import BACKUP, ON_SHIFT, PAGED, OnCall, Paged, Policy
from probe.scenario.units import format_duration


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody's time on, Unix seconds."""

    begin: int
    end: int
    duty: Duty


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that is nobody's, or two's (`second`). `before`, `after`: whose turns it lies between; None: none at all."""

    begin: int
    end: int
    before: Duty | None
    after: Duty | None
    second: Duty | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is on in a remit between two Unix times."""

    remit: Remit
    begin: int
    end: int
    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, oncall: OnCall, remit: Remit, begin: int, end: int) -> Roster:
        """Laid over the calendar."""
        found = (Turn(*span, duty) for duty in duties(oncall, remit, begin, end) for span in duty.on(begin, end))
        return cls(remit, begin, end, tuple(sorted(found, key=lambda turn: (turn.begin, turn.end))))

    def at(self, moment: int) -> Turn | None:
        """Whose it is."""
        return next((turn for turn in self.turns if turn.begin <= moment < turn.end), None)

    def after(self, moment: int) -> Turn | None:
        """Whoever begins next."""
        return next((turn for turn in self.turns if turn.begin > moment), None)

    def holes(self) -> tuple[Gap, ...]:
        """When nobody is on."""
        covered = joined((turn.begin, turn.end) for turn in self.turns)
        ends = {turn.end: turn.duty for turn in self.turns}
        starts = {turn.begin: turn.duty for turn in self.turns}
        gaps = without(((self.begin, self.end),), covered)
        return tuple(Gap(begin, end, ends.get(begin), starts.get(end)) for begin, end in gaps)

    def overlaps(self) -> tuple[Gap, ...]:
        """When two are."""
        out = []
        for n, turn in enumerate(self.turns):
            for other in self.turns[n + 1 :]:
                if other.begin >= turn.end:
                    break
                out.append(Gap(other.begin, min(turn.end, other.end), turn.duty, None, other.duty))
        return tuple(out)


def needs_shifts(policy: Policy) -> bool:
    """Whether any step calls whoever is on."""
    return any(step.call in (ON_SHIFT, BACKUP) for step in policy.steps)


def rosters(oncall: OnCall, begin: int, end: int) -> Iterator[Roster]:
    """Of every queue, severity and group of regions that has, or needs, somebody on. Where shifts take the regions that they
    name and none takes the others, those are all there are; what a fleet says of it is routing's to ask."""
    for queue in oncall.queues:
        for severity in PAGED:
            if not needs_shifts(oncall.escalation.of(severity)):
                continue
            parts = remits(oncall, severity, queue)
            for remit in parts:
                roster = Roster.of(oncall, remit, begin, end)
                if roster.turns or remit.regions or len(parts) == 1:
                    yield roster


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with one remit; others may have the same."""

    path: tuple[str | int, ...]
    words: str
    remedy: str


def examine(oncall: OnCall, begin: int, end: int) -> Iterator[Finding]:
    """Every hole and overlap between two Unix times, by the lines that make it."""
    faults: defaultdict[_Fault, list[Remit]] = defaultdict(list)
    for roster in rosters(oncall, begin, end):
        together = list(_together(oncall, roster.remit, begin, end))
        for fault in together or (*_overlaps(roster), *_holes(oncall, roster)):
            faults[fault].append(roster.remit)
    for fault, found in faults.items():
        where = "; ".join(remit.words for remit in found)
        yield Finding(fault.path, f"{fault.words} ({where}): {fault.remedy}", key=len(fault.path) == 2)


def _overlaps(roster: Roster) -> Iterator[_Fault]:
    groups: defaultdict[frozenset[object], list[Gap]] = defaultdict(list)
    for gap in roster.overlaps():
        groups[frozenset((gap.before and gap.before.path, gap.second and gap.second.path))].append(gap)
    for gaps in groups.values():
        first, second = sorted((d for d in (gaps[0].before, gaps[0].second) if d), key=lambda duty: (duty.path[2], duty.path[3]))
        yield _Fault(
            second.path, f"overlaps with {first.name}, both are on {_times(gaps, first, second)}", _remedy(first, second)
        )


def _holes(oncall: OnCall, roster: Roster) -> Iterator[_Fault]:
    if not roster.turns:
        yield _Fault(("queues", roster.remit.queue), "nobody is ever on", "give it a shift")
        return
    if oncall.escalation.of(roster.remit.severity).clock == "shifts":
        return  # alerts wait; a shift comes once a week at least
    groups: defaultdict[tuple[object, ...], list[Gap]] = defaultdict(list)
    for gap in roster.holes():
        groups[gap.before and gap.before.path, gap.after and gap.after.path, gap.end - gap.begin].append(gap)
    for gaps in groups.values():
        before, after = gaps[0].before, gaps[0].after
        beside = before or after
        assert beside is not None  # there are turns
        yield _Fault(beside.path, f"nobody is on {_times(gaps, before, after)}", _remedy(before, after))


def _together(oncall: OnCall, remit: Remit, begin: int, end: int) -> Iterator[_Fault]:
    """Shifts that begin at one moment, of which one would never be on."""
    begun: dict[int, str] = {}
    for index, shift in taking(oncall, remit):
        here = list(begins(shift, begin, end))
        same = next((at for at in here if at in begun), None)
        if same is not None:
            words = f"begins when shift {begun[same]} does, first at {_utc(same)}"
            yield _Fault(("queues", remit.queue, "shifts", index), words, "give them other times, days or regions")
        begun |= dict.fromkeys(here, shift.name)


def _remedy(*beside: Duty | None) -> str:
    duties = [duty for duty in beside if duty is not None]
    if any(duty.exception for duty in duties):
        return "change its times"
    if duties and all(duty.handed for duty in duties):
        return "the clocks of these zones differ by more over the year than a shift lasts; give both one tz"
    return "leave `to` of a shift away, and it lasts until the next one begins"


def _times(gaps: Sequence[Gap], *beside: Duty | None) -> str:
    """The first of several like it, by UTC and by the clocks of those beside it; how many, and the last."""
    zones = tuple(dict.fromkeys(duty.tz for duty in beside if duty is not None))
    words = f"from {moment(gaps[0].begin, zones)} to {moment(gaps[0].end, zones)}"
    if len(gaps) > 1:
        words += f", and {len(gaps) - 1} times more until {_utc(gaps[-1].end)}"
    return words


def moment(at: int, zones: Sequence[str] = ()) -> str:
    """`Wed 2026-11-25 09:30 UTC (10:30 Berlin)`: a Unix time, also by other clocks."""
    there = []
    for tz in zones:
        when = local(at, tz)
        day = "" if when.date() == datetime.fromtimestamp(at, UTC).date() else f"{when:%a} "
        if tz not in ("UTC", "Etc/UTC"):
            there.append(f"{day}{when:%H:%M} {city(tz)}")
    return _utc(at) + (f" ({', '.join(there)})" if there else "")


def city(tz: str) -> str:
    """What people call a zone."""
    return tz.rpartition("/")[2].replace("_", " ")


def _utc(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%a %Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Call:
    """One step of an escalation, with its Unix time. `duty`: who is on then; None where the step calls somebody fixed."""

    at: int
    after: int  # ns
    call: str
    by: str
    duty: Duty | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Who is called for an alert that begins at a moment. `remit` None: no queue answers for its owner, the fallback does.
    `due`: when somebody must have looked, Unix seconds; None where that is not within the horizon."""

    at: int
    severity: Paged
    remit: Remit | None
    now: Turn | None
    next: Turn | None
    calls: tuple[Call, ...]
    within: int  # ns
    due: int | None


def who(oncall: OnCall, remit: Remit, at: int, horizon: tuple[int, int]) -> Answer:
    """Who is called for an alert of this remit that begins `at`, within the horizon; Unix seconds."""
    policy = oncall.escalation.of(remit.severity)
    roster = Roster.of(oncall, remit, *horizon)
    calls = tuple(_calls(oncall, policy, roster, at))
    seconds = policy.within // NS
    due = at + seconds if policy.clock == "always" else _due(roster, at, seconds)
    return Answer(at, remit.severity, remit, roster.at(at), _following(roster, at), calls, policy.within, due)


def nobodys(oncall: OnCall, severity: Paged, at: int) -> Answer:
    """Who is called for an alert that no queue answers for."""
    within = oncall.escalation.of(severity).within
    calls = (Call(at, 0, oncall.fallback, "alertmanager"),)
    return Answer(at, severity, None, None, None, calls, within, at + within // NS)


def _following(roster: Roster, at: int) -> Turn | None:
    """The next turn of somebody else, or after a break."""
    now = roster.at(at)
    return roster.after(at) if now is None else next((turn for turn in roster.turns if turn.begin >= now.end), None)


def _calls(oncall: OnCall, policy: Policy, roster: Roster, at: int) -> Iterator[Call]:
    for step in policy.steps:
        then = at + step.after // NS
        if step.by == "pager" or step.call not in (ON_SHIFT, BACKUP):
            yield Call(then, step.after, step.call, step.by)
            continue
        turn = roster.at(then)
        if turn is None and policy.clock == "shifts":
            turn = roster.after(then)
            then = turn.begin if turn else then
        if turn is None:
            yield Call(then, step.after, oncall.fallback, step.by)
        else:
            yield Call(then, step.after, turn.duty.backup if step.call == BACKUP else turn.duty.call, step.by, turn.duty)


def _due(roster: Roster, at: int, seconds: int) -> int | None:
    """When somebody has been on for so long."""
    for turn in roster.turns:
        begin = max(turn.begin, at)
        if turn.end > begin:
            if turn.end - begin >= seconds:
                return begin + seconds
            seconds -= turn.end - begin
    return None


def sla_words(policy: Policy) -> str:
    """`15m`, or `4h while somebody is on`."""
    return format_duration(policy.within) + (" while somebody is on" if policy.clock == "shifts" else "")
