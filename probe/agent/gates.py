"""The gates of an agent: told of runs and of what was due, asked at a moment, they say how each stands and what changed. No IO.

A gate is judged apart for each group (`by`): in an agent's own runs that is its region, its publishing region and each protocol
of the journey; from Prometheus every region of the scenario. Its windows and holds are of the monotonic clock, so that a stepped
clock opens and closes nothing; what people and records are told is Unix time. Overrides end by the monotonic clock too, and after
a restart by the calendar, which is all that is left then.

After a restart windows are made anew from the measures of runs in the records, and holds begin anew (`judged` has the rest).
Where the records could not be read it is not known whether a gate was closed, and it passes only once `resume` was met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from probe.agent.gate_runs import GateRuns
from probe.agent.judged import Group, Judged, reason, restore, state
from probe.agent.loading import Loaded
from probe.agent.service.view import GateState
from probe.judge.hold import Held, Override, Position, step
from probe.judge.reading import Seen, read
from probe.judge.windows import RunParts
from probe.model.verdict import Verdict
from probe.scenario.gates import Term
from probe.scenario.schema import Gate, Scenario

Answers = Mapping[tuple[int, Group], Seen]  # of Prometheus: term, group
Asked = Callable[[str, Gate], Answers | str]  # scenario, gate → what it answered, or why it did not


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


class Gates:
    """All gates of a configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self._runs: dict[str, GateRuns] = {}  # by scenario
        self._scenarios: dict[str, str] = {}  # of schedules
        self._judged: dict[str, Judged] = {}
        self._asked: Asked = lambda _scenario, _gate: "Prometheus was not asked yet"
        self.take(loaded)

    def take(self, loaded: Loaded) -> frozenset[str]:
        """Another configuration. What is the same in it goes on; returns schedules whose runs are to be read anew."""
        before, runs = self._judged, self._runs
        unread: set[str] = set()
        self._scenarios = {name: prepared.scenario.name for name, prepared in loaded.schedules.items()}
        self._judged, self._runs = {}, {}
        for scenario in dict.fromkeys(self._scenarios.values()):
            schedules = {name: one for name, one in loaded.schedules.items() if one.scenario.name == scenario}
            known = runs.get(scenario)
            if known is None or not known.take(schedules):
                known = GateRuns(schedules, loaded.region)
                unread |= schedules.keys()
            self._runs[scenario] = known
            for one in _judged(known, loaded.region):
                old = before.get(one.key)
                self._judged[one.key] = one if old is None else replace(old, gate=one.gate, owner=one.owner)
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
        return max((runs.keep for runs in self._runs.values()), default=0)

    def scenario(self, schedule: str) -> str:
        """Whose runs a schedule makes; empty where there is no such schedule."""
        return self._scenarios.get(schedule, "")

    # -- what is told

    def ran(self, schedule: str, run: RunParts, now: int, unix: int) -> None:
        """A run that was made has ended; its times are of the monotonic clock, at which `now` is Unix `unix`."""
        if run.parts and (runs := self._of(schedule)) is not None:
            runs.ran(schedule, run, now, unix)

    def due(self, schedule: str, count: int, now: int) -> None:
        """So many slots of a schedule have come in all, since the agent began."""
        if (runs := self._of(schedule)) is not None:
            runs.due(schedule, count, now)

    def was_due(self, schedule: str, slots: Iterable[int]) -> None:
        """Slots of the time before the agent began, by the monotonic clock."""
        if (runs := self._of(schedule)) is not None:
            runs.was_due(schedule, slots)

    def released(self, schedule: str, at: int) -> None:
        """A release of the platform was first seen then, by the monotonic clock."""
        if (runs := self._of(schedule)) is not None:
            runs.released(at)

    def _of(self, schedule: str) -> GateRuns | None:
        return self._runs.get(self.scenario(schedule))

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

    def look(self, now: int, unix: int, scenarios: Iterable[str] | None = None) -> list[Change]:
        """Judge all gates, or those of some scenarios, at this moment. Returns what changed."""
        some = None if scenarios is None else frozenset(scenarios)
        changes = []
        for one in self._judged.values():
            if some is None or one.scenario in some:
                changes += self._look(one, now, unix)
        return changes

    def override(self, name: str, region: str, override: Override | None, now: int, unix: int) -> list[Change] | None:
        """Put somebody's word in place of the rule's, or (None) take it away, for a gate in a region (empty: everywhere). None:
        there is no such gate."""
        found = [one for one in self._judged.values() if one.gate.name == name and matches(one.group[0], region)]
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

    def asked(self) -> Iterator[tuple[Scenario, Gate]]:
        """The gates that are asked of Prometheus."""
        for runs in self._runs.values():
            for gate in runs.scenario.gates:
                if gate.source == "prometheus":
                    yield runs.scenario, gate

    def expected(self, scenario: str, window: int, now: int) -> int:
        """Runs that were due here in the last `window` ns; what an agent elsewhere is taken to have been asked for too."""
        runs = self._runs.get(scenario)
        return runs.expected("", now - window, now) if runs is not None else 0

    # -- inside

    def _look(self, one: Judged, now: int, unix: int) -> list[Change]:
        runs, (_, origin, protocol) = self._runs[one.scenario], one.group
        if one.gate.source == "prometheus":
            one.reading = read(one.gate, _answered(one, self._asked(one.scenario, one.gate)))
        else:
            one.reading = read(one.gate, lambda term, window: runs.seen(one.gate, origin, protocol, term, window, now))
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


def _judged(runs: GateRuns, region: str) -> Iterator[Judged]:
    """Each gate of a scenario in each of its groups."""
    scenario = runs.scenario
    protocols = sorted({protocol for prepared in runs.schedules.values() for protocol in prepared.protocols}) or [""]
    for gate in scenario.gates:
        # An agent's own word is of its own region, whatever it is judged by.
        everywhere = scenario.regions if "region" in gate.by else ("",)
        regions = (region,) if gate.source == "agent" else everywhere
        origins = runs.origins if gate.source == "agent" else scenario.regions
        froms = origins if "publish_region" in gate.by else ("",)
        ways = protocols if "protocol" in gate.by else [""]
        for group in ((one, origin, way) for one in regions for origin in froms for way in ways):
            yield Judged(scenario.name, gate.owner or scenario.owner, gate, group)


def _answered(one: Judged, answers: Answers | str) -> Callable[[Term, int | None], Seen]:
    """A term as Prometheus answered it; terms are asked in their order, `when` first."""
    numbers = iter(range(64))

    def look(_term: Term, _window: int | None) -> Seen:
        number = next(numbers)
        if isinstance(answers, str):
            return Seen(None, 0, 0, 0, answers)
        return answers.get((number, one.group)) or Seen(None, 0, 0, 0, "Prometheus has nothing of it")

    return look
