"""A fleet as it comes together: agent by agent, schedule by schedule, each run put into the cells that its plan has.

Two agents of one region that make the same runs fill the same cells: their runs add up. An objective is one thing in a whole
fleet, so its name is of one scenario only: `slo` is what alerts are grouped and silenced by.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from probe.agent.cadence import Cadence
from probe.errors import ConfigError, Located
from probe.model.ids import new_run_ids
from probe.planning import make_plan
from probe.rules.fleet import Agent, Beat, Cell, Fleet, Links, Severity, Slo, Source
from probe.scenario.gate import Gate
from probe.scenario.indicators import INDICATORS, Of
from probe.scenario.objective import Objective
from probe.scenario.schema import Scenario

_Key = tuple[str, str, str]  # publish region, region, protocol


@dataclass(frozen=True, slots=True)
class _Promise:
    scenario: Scenario
    objective: Objective
    place: str
    cells: dict[_Key, list[Cadence]] = field(default_factory=dict)


class Inventory:
    """Told of agents and of what each runs again and again; then it is a Fleet, or all that keeps it from being one."""

    def __init__(self) -> None:
        self._scenarios: dict[str, tuple[str, Scenario]] = {}  # by name, with the agent it was first seen with
        self._agents: dict[str, tuple[str, str]] = {}
        self._beats: dict[str, list[Beat]] = defaultdict(list)
        self._promises: dict[str, _Promise] = {}
        self._mistakes: list[Located] = []

    def agent(self, name: str, region: str, address: str = "") -> None:
        self._agents[name] = (region, address)

    def differs(self, agent: str, scenario: Scenario) -> str | None:
        """Takes note of a scenario. Where another of that name, with other promises, is known: the agent it is known from."""
        other, known = self._scenarios.setdefault(scenario.name, (agent, scenario))
        same = (known.owner, known.objectives, known.gates) == (scenario.owner, scenario.objectives, scenario.gates)
        return None if same else other

    def beat(
        self, agent: str, scenario: Scenario, region: str, publish_region: str, often: Cadence, places: Mapping[str, str]
    ) -> None:
        """What one schedule brings. `places`: file:line of each objective, by name."""
        self.differs(agent, scenario)
        beat = Beat(scenario=scenario.name, publish_region=publish_region, runs_per_hour=often.runs_per_hour, share=often.share)
        self._beats[agent].append(beat)
        try:
            ids = new_run_ids(0, random.Random(0))
            plan = make_plan(scenario, region, 0, ids, mode="scheduled", publish_region=publish_region)
        except ConfigError as error:
            self._mistakes += error.mistakes
            return
        protocols: dict[str, list[str]] = defaultdict(list)
        for objective, protocol in plan.cells:
            protocols[objective.name].append(protocol)
        for objective in scenario.objectives:
            place = places.get(objective.name, scenario.name)
            promise = self._promises.setdefault(objective.name, _Promise(scenario, objective, place))
            if promise.scenario.name != scenario.name:
                taken = f"is promised by {promise.scenario.name} too ({promise.place})"
                self._mistakes.append(_at(place, f"{objective.name!r} {taken}; in a fleet a name is one objective"))
                continue
            if INDICATORS[objective.indicator].of is Of.DUE:
                protocols[objective.name] = [""]
            for protocol in protocols[objective.name]:
                promise.cells.setdefault((publish_region, region, protocol), []).append(often)

    def fleet(
        self,
        *,
        name: str,
        owner: str,
        links: Links | None = None,
        sla: Mapping[Severity, int] | None = None,
        drills: bool = False,
    ) -> Fleet:
        """All of it. Raises ConfigError."""
        mistakes = [*self._mistakes]
        for promise in self._promises.values():
            if not promise.cells:
                message = (
                    f"{promise.objective.name!r} is measured by no agent of the fleet: none of its regions or protocols is there"
                )
                mistakes.append(_at(promise.place, message))
        if mistakes:
            raise ConfigError(list(dict.fromkeys(mistakes)))
        scenarios = {name: scenario for name, (_, scenario) in self._scenarios.items()}
        return Fleet(
            name=name,
            owner=owner,
            agents=tuple(
                Agent(name=agent, region=region, instance=address, beats=tuple(self._beats[agent]))
                for agent, (region, address) in self._agents.items()
            ),
            scenarios=scenarios,
            slos=tuple(_slo(promise) for promise in self._promises.values()),
            gates=tuple((one.name, _owned(gate, one)) for one in scenarios.values() for gate in one.gates),
            links=links or Links(),
            sla=sla or {},
            drills=drills,
        )


def _slo(promise: _Promise) -> Slo:
    scenario, objective = promise.scenario, promise.objective
    return Slo(
        name=objective.name,
        scenario=scenario.name,
        indicator=objective.indicator,
        meaning=objective.meaning,
        target=objective.target,
        window=objective.window,
        within=objective.bound,
        service=objective.of_service,
        owner=objective.owner or scenario.owner,
        action=objective.action,
        source=Source.COVERAGE if INDICATORS[objective.indicator].of is Of.DUE else Source.RUNS,
        cells=tuple(_cell(*key, often) for key, often in promise.cells.items()),
        place=promise.place,
        below=objective.below,
        page=objective.page,
        shadow=objective.shadow,
    )


def _cell(publish_region: str, region: str, protocol: str, often: Iterable[Cadence]) -> Cell:
    """Of several schedules: the runs of a week add up, and come for as long as those of any do."""
    several = list(often)
    share = max(one.share for one in several)
    per_hour = sum(one.runs_per_hour * one.share for one in several) / share
    return Cell(publish_region=publish_region, region=region, protocol=protocol, runs_per_hour=per_hour, share=share)


def _owned(gate: Gate, scenario: Scenario) -> Gate:
    return gate if gate.owner else gate.model_copy(update={"owner": scenario.owner})


def _at(place: str, message: str) -> Located:
    """A mistake at `file:line`, or of a scenario whose file is not known."""
    file, _, line = place.rpartition(":")
    return Located(file, int(line), 1, "objectives", message) if file else Located(place, 0, 0, "objectives", message)
