"""The gates of an agent: told of runs and of what was due, asked at a moment, they say how each stands and what changed. No IO.

A gate is judged apart for each group (`by`): in an agent's own runs that is its region, its publishing region and each protocol
of the journey; from Prometheus every region of the scenario. Its windows and holds are of the monotonic clock, so that a stepped
clock opens and closes nothing; what people and records are told is Unix time. Overrides end by the monotonic clock too, and after
a restart by the calendar, which is all that is left then.

After a restart windows are made anew from the measures of runs in the records, and holds begin anew (`judged` has the rest).
Where the records could not be read it is not known whether a gate was closed, and it passes only once `resume` was met.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from probe.agent.judged import Group, Judged, reason, restore, state
from probe.agent.loading import Loaded, Prepared
from probe.agent.service.view import GateState
from probe.judge.hold import Held, Override, Position, step
from probe.judge.reading import Seen, longest, read, terms
from probe.judge.windows import MOST, Cell, History, RunParts
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.scenario.gates import Term
from probe.scenario.schema import Gate

_MISSED = 3  # slots without news, after which the last run is old
Answers = Mapping[tuple[int, Group], Seen]  # of Prometheus: term, group
Asked = Callable[[str, Gate], Answers | str]  # schedule, gate → what it answered, or why it did not


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be told: from `before` (None: not known yet) to `after`; `moved` where it opened or closed. `override`: set,
    cleared, expired, or empty where the rule changed it."""

    judged: Judged
    before: Verdict | None
    after: Verdict
    moved: Position | None
    reason: str
    who: str
    override: str = ""


@dataclass(slots=True)
class _Runs:
    """What is known of one schedule's runs. Times are of the monotonic clock."""

    prepared: Prepared
    history: History
    slots: deque[int] = field(default_factory=lambda: deque(maxlen=MOST))
    counted: int | None = None  # slots of the schedule when it was last asked
    fresh: int = 0  # until then the last run is news
    released: int | None = None

    def due(self, begin: int, now: int) -> int:
        """Slots of a window whose runs should have ended, if they take as long as the last few."""
        lag = min(max(self.history.lag, 0), self.prepared.deadline)
        ordered = self.slots
        return bisect_right(ordered, now - lag) - bisect_right(ordered, begin - lag)


class Gates:
    """All gates of a configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self._region = loaded.region
        self._runs: dict[str, _Runs] = {}
        self._judged: dict[str, Judged] = {}
        self._asked: Asked = lambda _schedule, _gate: "Prometheus was not asked yet"
        self.take(loaded)

    def take(self, loaded: Loaded) -> frozenset[str]:
        """Another configuration. What is the same in it goes on; returns schedules whose history is to be read anew."""
        before, runs, unread = self._judged, self._runs, set()
        self._judged, self._runs = {}, {}
        for name, prepared in loaded.schedules.items():
            cells, keep = _looks_at(prepared)
            known = runs.get(name)
            if known is not None and known.history.wanted >= cells and known.history.keep >= keep:
                self._runs[name] = replace(known, prepared=prepared)
            else:
                self._runs[name] = _Runs(prepared, History(cells, keep))
                unread.add(name)
            for one in _judged(name, prepared, loaded.region):
                old = before.get(one.key)
                self._judged[one.key] = (
                    one if old is None else replace(old, gate=one.gate, owner=one.owner, scenario=one.scenario)
                )
        return frozenset(unread)

    def ask(self, asked: Asked) -> None:
        """Where the answers of Prometheus are."""
        self._asked = asked

    def __iter__(self) -> Iterator[Judged]:
        return iter(self._judged.values())

    def get(self, key: str) -> Judged | None:
        return self._judged.get(key)

    @property
    def longest(self) -> int:
        """ns that is looked back at most."""
        return max((runs.history.keep for runs in self._runs.values()), default=0)

    # -- what is told

    def ran(self, schedule: str, run: RunParts, now: int, unix: int) -> None:
        """A run that was made has ended; its times are of the monotonic clock, at which `now` is Unix `unix`."""
        if (runs := self._runs.get(schedule)) is None or not run.parts:
            return
        runs.history.add(run)
        at, when = unix - (now - run.at), runs.prepared.entry.when
        for _ in range(_MISSED):
            at = when.after(at, 0.0)
        runs.fresh = max(runs.fresh, min(at - unix, 2**62) + now + runs.prepared.deadline)

    def due(self, schedule: str, count: int, now: int) -> None:
        """So many slots of a schedule have come in all, since the agent began."""
        if (runs := self._runs.get(schedule)) is not None:
            new = count - runs.counted if runs.counted is not None else 0
            runs.slots.extend([now] * min(max(new, 0), MOST))
            runs.counted = count

    def was_due(self, schedule: str, slots: Iterable[int]) -> None:
        """Slots of the time before the agent began, by the monotonic clock."""
        if (runs := self._runs.get(schedule)) is not None:
            runs.slots = deque(sorted([*slots, *runs.slots]), maxlen=MOST)

    def released(self, schedule: str, at: int) -> None:
        """A release of the platform was first seen then, by the monotonic clock."""
        if (runs := self._runs.get(schedule)) is not None:
            runs.released = at

    def unknown(self) -> None:
        """What was kept cannot be read: what no run has told yet of a gate may be that it is closed."""
        for one in self._judged.values():
            if one.result is None:
                one.held = Held(Position.UNKNOWN)

    def restore(self, kept: Mapping[str, Mapping[str, Any]], now: int, unix: int) -> None:
        """What the life before knew, by key; what is damaged leaves its gate unknown."""
        for key, one in self._judged.items():
            data = kept.get(key)
            if data is None or data.get("gone") or one.result is not None:
                continue
            try:
                restore(one, data, now, unix)
            except (KeyError, TypeError, ValueError):
                one.held = Held(Position.UNKNOWN)

    # -- what is asked

    def look(self, now: int, unix: int, schedules: Iterable[str] | None = None) -> list[Change]:
        """Judge all gates, or those of some schedules, at this moment. Returns what changed."""
        some = None if schedules is None else frozenset(schedules)
        changes = []
        for one in self._judged.values():
            if some is None or one.schedule in some:
                changes += self._look(one, now, unix)
        return changes

    def override(
        self, name: str, region: str, override: Override | None, now: int, unix: int, schedule: str = ""
    ) -> list[Change] | None:
        """Put somebody's word in place of the rule's, or (None) take it away, for a gate in a region (empty: everywhere). None:
        there is no such gate."""
        found = [one for one in self._judged.values() if one.gate.name == name and matches(one.group[0], region)]
        found = [one for one in found if schedule in ("", one.schedule)]
        changes = []
        for one in found:
            before = one.override
            one.override = override
            one.ends = now + (override.until - unix) if override is not None else 0
            kind = "set" if override is not None else "cleared"
            if override is not None or before is not None:
                changes += self._settle(one, unix, kind, told=override or before)
        return changes if found else None

    def states(self, name: str = "", region: str = "") -> list[GateState]:
        """How the gates of that name (empty: all) stand in that region (empty: all)."""
        return [state(one) for one in self._judged.values() if name in ("", one.gate.name) and matches(one.group[0], region)]

    def query_terms(self) -> Iterator[tuple[str, Prepared, Gate]]:
        """The gates that are asked of Prometheus, with their schedules."""
        for name, runs in self._runs.items():
            for gate in runs.prepared.scenario.gates:
                if gate.source == "prometheus":
                    yield name, runs.prepared, gate

    def expected(self, schedule: str, window: int, now: int) -> int:
        """Runs that were due here in the last `window` ns; what an agent elsewhere is taken to have been asked for too."""
        runs = self._runs.get(schedule)
        return runs.due(now - window, now) if runs is not None else 0

    # -- inside

    def _look(self, one: Judged, now: int, unix: int) -> list[Change]:
        runs = self._runs[one.schedule]
        if one.gate.source == "prometheus":
            answers = self._asked(one.schedule, one.gate)
            one.reading = read(one.gate, _answered(one, answers))
        else:
            one.reading = read(one.gate, lambda term, window: _own(one, runs, term, window, now))
        one.held = step(one.held, one.gate, one.reading, now)
        one.evaluated = unix
        expired = one.override if one.override is not None and now >= one.ends else None
        if expired is not None:
            one.override = None
        return self._settle(one, unix, "expired" if expired is not None else "", told=expired)

    def _settle(self, one: Judged, unix: int, override: str, told: Override | None) -> list[Change]:
        """What it says now, told where it is another word than before, or where an override came or went."""
        before = one.result
        after = one.rule if one.override is None else one.override.verdict
        if before is not after:
            one.result, one.since = after, unix
        moved = one.position if one.position not in (one.acted, Position.UNKNOWN) else None
        if moved is not None:
            one.acted, one.stood = moved, unix
        news = before is not after and not (before is None and after is Verdict.INCONCLUSIVE)
        if not (news or moved is not None or override):
            return []
        who = told.who if told is not None and override != "expired" else one.owner
        why = told.why if told is not None and override == "set" else reason(one)
        return [Change(one, before, after, moved, why, who, override)]


def matches(region: str, asked: str) -> bool:
    """A gate that is judged for all regions together is every region's."""
    return asked in ("", region) or not region


def _looks_at(prepared: Prepared) -> tuple[frozenset[Cell], int]:
    """The cells that the gates of a schedule ask for, and ns that they look back."""
    gates = [gate for gate in prepared.scenario.gates if gate.source == "agent"]
    cells = {
        (term.indicator, protocol)
        for gate in gates
        for term, _ in terms(gate)
        for protocol in ("", *(prepared.protocols if "protocol" in gate.by else ()))
    }
    return frozenset(cells), max([longest(gate) for gate in gates] + [3600 * NS])


def _judged(name: str, prepared: Prepared, region: str) -> Iterator[Judged]:
    """Each gate of a schedule in each of its groups."""
    scenario = prepared.scenario
    for gate in scenario.gates:
        here = (region,), (prepared.settings.publish_region or region,)
        everywhere = (scenario.regions, scenario.regions)
        regions, publish_regions = here if gate.source == "agent" else everywhere
        # An agent's own word is of its own region, whatever it is judged by.
        ones = regions if "region" in gate.by or gate.source == "agent" else ("",)
        froms = publish_regions if "publish_region" in gate.by else ("",)
        ways = (prepared.protocols or ("",)) if "protocol" in gate.by else ("",)
        for group in ((one, origin, way) for one in ones for origin in froms for way in ways):
            yield Judged(name, scenario.name, gate.owner or scenario.owner, gate, group)


def _own(one: Judged, runs: _Runs, term: Term, window: int | None, now: int) -> Seen:
    """A term over the agent's own runs."""
    begin, of = now - (window or 0), ""
    if window is None:
        if now > runs.fresh:
            last = runs.history.last
            why = "no run has told yet" if last is None else "no run has told lately"
            return Seen(None, 0, 0, 0, why)
        begin = -(2**62)
    if one.gate.since == "release" and runs.released is not None and runs.released > begin:
        begin, of = runs.released, "release"
    elif one.gate.since == "release":
        of = "release"
    value, n, made = runs.history.over((term.indicator, one.group[2]), term.quantile, begin, window, of)
    return Seen(value, n, made, made if window is None else runs.due(begin, now))


def _answered(one: Judged, answers: Answers | str) -> Callable[[Term, int | None], Seen]:
    """A term as Prometheus answered it; terms are asked in their order, `when` first."""
    numbers = iter(range(64))

    def look(_term: Term, _window: int | None) -> Seen:
        number = next(numbers)
        if isinstance(answers, str):
            return Seen(None, 0, 0, 0, answers)
        return answers.get((number, one.group)) or Seen(None, 0, 0, 0, "Prometheus has nothing of it")

    return look
