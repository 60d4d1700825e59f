"""When runs are due. Pure: the time is an argument, chance comes from a `random.Random`.

A schedule's slots lie on a grid of Unix time (`every`, with a phase of its own that a restart keeps) or where its cron
expression puts them; a run starts at its slot plus a random part of the gap to the next one, because a probe that always
starts at the same moment of the platform's keyframe interval reports its extremes. A slot whose run cannot start yet (its
scenario still runs, the budget is spent) waits, one per schedule, oldest first, until the next slot comes; then it is missed,
and counted by what held it. So slots = started + missed + waiting, always.

The wall clock may be stepped. Forward, or after a machine slept: one run starts late and the slots between are missed as
`late`. Backward: slots are made anew from the earlier time, so that nobody waits for hours until the old one comes again.
Chosen not to: catching up on missed runs. A measurement of an hour ago cannot be taken now.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from probe.model.clock import NS

_MANY = 1_000  # slots that a jump of the clock is charged with; beyond them it has gone on for the better part of a day
_NEVER = 2**63 - 1
_PAST = 20_000
_FIRST = 5 * NS  # a run on start waits at most so long, so that a fleet restarted at once does not start at once


@dataclass(frozen=True, slots=True)
class Every:
    """A slot each `period` ns; at least a second."""

    period: int

    def __post_init__(self) -> None:
        if self.period < NS:
            raise ValueError("a schedule has at most one slot a second")

    def after(self, at: int, phase: float) -> int:
        """The first slot later than `at`."""
        offset = int(phase * self.period)
        return (at - offset) // self.period * self.period + self.period + offset


@dataclass(frozen=True, slots=True)
class Cron:
    """Slots by a cron expression in a time zone, daylight saving as Debian's cron treats it. Raises ValueError for what is no
    expression or no zone, or never comes."""

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder of the database
            raise ValueError(f"{self.zone!r} is not a time zone; write for example Asia/Jakarta") from None
        try:
            never = next(self._slots(0), None) is None
        except CronSimError as error:
            raise ValueError(f"{self.expression!r} is not a cron expression: {error}") from None
        if never:
            raise ValueError(f"{self.expression!r} never comes")

    def _slots(self, at: int) -> Iterator[int]:
        start = datetime.fromtimestamp(at // NS, UTC).astimezone(ZoneInfo(self.zone))
        return (int(slot.timestamp()) * NS for slot in CronSim(self.expression, start))

    def after(self, at: int, phase: float = 0.0) -> int:
        """The first slot later than `at`."""
        return next((slot for slot in self._slots(at) if slot > at), _NEVER)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of Unix time, ns; the end is not in it."""

    begin: int
    end: int

    def holds(self, at: int) -> bool:
        return self.begin <= at < self.end

    def begins_after(self, at: int) -> int:
        return self.begin if self.begin > at else _NEVER


@dataclass(frozen=True, slots=True)
class Recurring:
    """`length` ns from each slot of a cron expression."""

    cron: Cron
    length: int

    def holds(self, at: int) -> bool:
        return self.cron.after(at - self.length) <= at

    def begins_after(self, at: int) -> int:
        return self.cron.after(at)


Window = Span | Recurring


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One schedule. Two entries of the same `scenario` never run at once. `jitter` is the share of the gap to the next slot
    within which a start falls; `bandwidth` bit/s; `only` empty: always; `blackouts`: no slot of them starts."""

    name: str
    scenario: str
    when: Every | Cron
    jitter: float = 0.1
    bandwidth: int = 0
    only: tuple[Window, ...] = ()
    blackouts: tuple[Window, ...] = ()
    run_on_start: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What of the budget is free: runs, and bit/s (None: no limit)."""

    runs: int
    bandwidth: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A run to start now. `slot` is when it was planned for, `late` how long after its own start (jitter included) it is."""

    name: str
    slot: int
    late: int


@dataclass(slots=True)
class _State:
    entry: Entry
    phase: float
    slot: int  # the next one to come
    start: int  # the slot and its jitter
    waiting: int | None = None  # the start of a slot that came and could not begin
    waiting_slot: int = 0
    held_by: str = ""


class Schedule:
    """`agent` gives each schedule its phase, so that agents of many regions are spread and a restart keeps them."""

    def __init__(self, entries: Iterable[Entry], *, agent: str, now: int, rng: random.Random) -> None:
        self._agent, self._rng = agent, rng
        self._last = now
        self._states: dict[str, _State] = {}
        self.slots: Counter[str] = Counter()  # that came, by schedule
        self.missed: Counter[tuple[str, str]] = Counter()  # by schedule and why: overlap, budget, blackout, late
        self._take(entries, now)

    def replace(self, entries: Iterable[Entry], now: int) -> None:
        """Other schedules from now on; those that are unchanged keep their place, and what waits."""
        self._take(entries, now)

    def next_at(self) -> int | None:
        """When `due` is to be asked again, Unix ns, unless a run ends before; None where nothing is to come."""
        return min((state.start for state in self._states.values() if state.start < _NEVER), default=None)

    def due(self, now: int, running: Collection[str], room: Room) -> list[Due]:
        """The runs to start at `now`, oldest first. `running`: scenarios of the runs under way."""
        if now < self._last:
            self._went_back(now)
        self._last = now
        for state in self._states.values():
            if state.start <= now:
                self._came(state, now)
        started: list[Due] = []
        busy = set(running)
        full = False
        for state in sorted(self._states.values(), key=lambda s: s.waiting or 0):
            if state.waiting is None:
                continue
            if any(window.holds(now) for window in state.entry.blackouts):  # it has begun since the slot came
                self.missed[state.entry.name, "blackout"] += 1
                state.waiting = None
            elif state.entry.scenario in busy:
                state.held_by = "overlap"
            elif full or room.runs < 1 or (room.bandwidth is not None and room.bandwidth < state.entry.bandwidth):
                state.held_by, full = "budget", True  # in order: a large one is not starved by small ones
            else:
                started.append(Due(state.entry.name, state.waiting_slot, now - state.waiting))
                state.waiting = None
                busy.add(state.entry.scenario)
                left = None if room.bandwidth is None else room.bandwidth - state.entry.bandwidth
                room = Room(room.runs - 1, left)
        return started

    def waiting(self) -> dict[str, str]:
        """Schedules whose slot came and could not start yet, and what holds them."""
        return {name: state.held_by for name, state in self._states.items() if state.waiting is not None}

    def upcoming(self) -> dict[str, int | None]:
        """When the next run of each is to start, Unix ns; None where none is to come."""
        return {name: state.start if state.start < _NEVER else None for name, state in self._states.items()}

    def past(self, name: str, since: int, until: int) -> list[int]:
        """The slots of a schedule between two moments at which a run was wanted; the latest, where there are very many."""
        if (state := self._states.get(name)) is None:
            return []
        when = state.entry.when
        at = max(since, until - _PAST * when.period) if isinstance(when, Every) else since
        found: list[int] = []
        while len(found) < _PAST and (at := self._following(state, at)) <= until:
            if not any(window.holds(at) for window in state.entry.blackouts):
                found.append(at)
        return found

    # -- inside

    def _take(self, entries: Iterable[Entry], now: int) -> None:
        states: dict[str, _State] = {}
        for entry in entries:
            known = self._states.get(entry.name)
            if known is not None and known.entry == entry:
                states[entry.name] = known
                continue
            if known is not None and known.waiting is not None:
                self.missed[entry.name, known.held_by] += 1
            states[entry.name] = self._planned(entry, now, first=known is None and entry.run_on_start)
        for name, state in self._states.items():
            if name not in states and state.waiting is not None:
                self.missed[name, state.held_by] += 1
        self._states = states

    def _planned(self, entry: Entry, now: int, *, first: bool) -> _State:
        digest = hashlib.sha256(f"{self._agent}\0{entry.name}".encode()).digest()
        state = _State(entry, int.from_bytes(digest[:6], "big") / 2**48, 0, 0)
        self._next(state, now)
        if first:
            wait = min(_FIRST, entry.jitter * (state.start - now))
            state.slot, state.start = now, now + int(self._rng.random() * wait)
        return state

    def _next(self, state: _State, at: int) -> None:
        """The slot to come after `at`, and when in its gap to start."""
        state.slot = state.start = self._following(state, at)
        if state.slot < _NEVER:
            gap = state.entry.when.after(state.slot, state.phase) - state.slot
            state.start += int(self._rng.random() * state.entry.jitter * gap)

    def _following(self, state: _State, at: int) -> int:
        """The first slot later than `at` in which runs are wanted."""
        entry = state.entry
        for _ in range(_MANY):
            slot = entry.when.after(at, state.phase)
            if slot == _NEVER or not entry.only or any(window.holds(slot) for window in entry.only):
                return slot
            at = min(window.begins_after(slot) for window in entry.only) - 1
            if at >= _NEVER - 1:
                break
        return _NEVER

    def _came(self, state: _State, now: int) -> None:
        """Its start is past: it waits for room from now on, in place of one that still does."""
        entry, name = state.entry, state.entry.name
        last, passed = state.slot, 1
        while passed < _MANY and (following := self._following(state, last)) <= now:
            last, passed = following, passed + 1
        self.slots[name] += passed
        if state.waiting is not None:
            self.missed[name, state.held_by] += 1
        if passed > 1:
            self.missed[name, "late"] += passed - 1
        state.waiting, state.waiting_slot, state.held_by = (state.start if passed == 1 else last), last, "late"
        if any(window.holds(last) for window in entry.blackouts):
            self.missed[name, "blackout"] += 1
            state.waiting = None
        self._next(state, last if passed < _MANY else now)

    def _went_back(self, now: int) -> None:
        """What waits has waited since now; what is to come is planned from the earlier time."""
        for state in self._states.values():
            if state.waiting is not None:
                state.waiting = min(state.waiting, now)
            self._next(state, now)
