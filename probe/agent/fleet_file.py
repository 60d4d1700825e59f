"""fleet.yaml with all it names, read: the inventory of agents, and from their schedules what is promised, where and how often.

    fleet: demo
    owner: media-sre                        # of what belongs to no scenario: an agent that fell silent
    agents:
      eu-1: {region: eu, config: agent.yaml, address: "eu-1.probe.example:9464"}
      us-1: {region: us, config: agent.yaml}
    oncall: oncall.yaml
    links: {dashboards: "https://grafana.example/d", runbooks: "https://wiki.example/runbooks"}
    sla: {P1: 5m, P2: 4h}

Who watches must know what is to be there: an agent that is gone exports nothing, and nothing that it exported says so. So cells
and cadence come from the files that the agents run by, and each is planned here as its agent would plan it.

Every mistake of every file at once, each with its line. Paths are relative to the file. Chosen not to: objectives in this file.
They are judged by agents, run by run, before export; agent.yaml names their files, so that nobody alerts on what nobody counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from probe.agent.cadence import HOUR, Cadence, cadence
from probe.agent.inventory import Inventory
from probe.agent.loading import Loaded, Prepared, load_config
from probe.errors import ConfigError, Located
from probe.rules.fleet import Fleet, Links, Severity
from probe.scenario.fields import Model, Name, Vocabulary
from probe.scenario.jsonschema import schema_of
from probe.scenario.located import dotted, read, validated, with_env
from probe.scenario.schema import Scenario
from probe.scenario.text import Document, parse
from probe.scenario.units import PositiveDuration, describe

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})")


def _link(value: Any) -> Any:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{describe(value)} is not an address; write https://…")
        if parts.password is not None or parts.username is not None:
            raise ValueError("carries a password; links are read by everybody who is paged")
    return value.rstrip("/") if isinstance(value, str) else value


Link = Annotated[str, BeforeValidator(_link)]


class LinkSettings(Model):
    """Where people look."""

    dashboards: Link = Field("", description="Grafana's; /<uid> is added.", examples=["https://grafana.example/d"])
    runbooks: Link = Field("", description="/<alert> is added.", examples=["https://wiki.example/runbooks"])
    traces: Link = Field("", description="Of one trace.", examples=["https://traces.example/trace/${trace_id}"])
    runs: Link = Field("", description="An agent's runs.", examples=["http://${region}.probe.example:9464/runs"])


class AgentSettings(Model):
    """One agent of the inventory."""

    region: Name = Field(description="Where it stands.", examples=["eu"])
    config: str = Field(min_length=1, description="The agent.yaml that it runs by.", examples=["agent.yaml"])
    address: str = Field("", description="host:port, as Prometheus scrapes it.", examples=["eu-1.probe.example:9464"])
    env: dict[str, str] = Field({}, description="Of its environment, what its files ask for.", examples=[{"STAGE": "live"}])

    @field_validator("address")
    @classmethod
    def _reachable(cls, value: str) -> str:
        match = _ADDRESS.fullmatch(value)
        if value and (match is None or not 0 < int(match[2]) <= 65535):
            raise ValueError(f"{describe(value)} is not an address; write host:port, as Prometheus' label instance has it")
        return value


class FleetSettings(Model):
    """Agents, and who answers for them."""

    fleet: Name = Field(description="Its name.", examples=["demo"])
    owner: str = Field(
        min_length=1, description="Of what belongs to no scenario, such as a silent agent.", examples=["media-sre"]
    )
    agents: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], AgentSettings] = Field(
        min_length=1, description="By name."
    )
    env: dict[str, str] = Field(
        {},
        description="Of all agents' environments, what their files ask for.",
        examples=[{"PLATFORM_URL": "https://live.example"}],
    )
    oncall: str | None = Field(None, min_length=1, description="The file of queues and shifts.", examples=["oncall.yaml"])
    links: LinkSettings = Field(LinkSettings(), description="Where people look.")
    sla: dict[Severity, PositiveDuration] = Field(
        {}, description="Until somebody has looked, by severity.", examples=[{"P1": "5m", "P2": "4h"}]
    )


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of fleet.yaml, for editors."""
    return schema_of(FleetSettings, "stream-probe fleet")


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a fleet.yaml comes to. `oncall`: the file it names, not read here; None where it names none. `notes`: what of OpenSLO
    files was passed over, a line each."""

    fleet: Fleet
    oncall: Path | None
    notes: tuple[str, ...] = ()


def load_fleet(path: Path, *, env: Mapping[str, str], words: Vocabulary, find: Callable[[Path], Path]) -> FleetFile:
    """Read fleet.yaml and all it names. `words`: what the drivers can do; `find`: from a scenario's name to its file. Raises
    ConfigError with all mistakes of all files."""
    document = parse(read(path), str(path))
    settings = None
    if isinstance(document.data, dict):
        settings = validated(document, FleetSettings, with_env(document, document.data, env))
    elif not document.mistakes:
        document.mistakes.append(Located(str(path), 0, 0, "", f"is {describe(document.data)}, not a mapping with fleet:"))
    if settings is None or document.mistakes:
        raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)))
    return _Reading(path, document, settings, env, words, find).read()


def fleet_of(scenario: Scenario, *, every: int, regions: Sequence[str] = (), file: str = "") -> Fleet:
    """The fleet of a lone scenario: an agent in each of `regions` (default: the scenario's own), publishing where it views, a run
    each `every` ns. `file`: where the scenario stands, for places. Raises ConfigError for a region it does not have."""
    inventory = Inventory()
    places = objective_places(file) if file else {}
    for region in regions or scenario.regions:
        inventory.agent(region, region)
        inventory.beat(region, scenario, region, region, Cadence(HOUR / every, 1.0), places)
    return inventory.fleet(name=scenario.name, owner=scenario.owner)


class _Reading:
    """One fleet.yaml and the files of its agents."""

    def __init__(
        self,
        path: Path,
        document: Document,
        settings: FleetSettings,
        env: Mapping[str, str],
        words: Vocabulary,
        find: Callable[[Path], Path],
    ) -> None:
        self._path, self._document, self._settings = path, document, settings
        self._env, self._words, self._find = env, words, find
        self._others: list[Located] = []
        self._inventory = Inventory()
        self._places: dict[Path, Mapping[str, str]] = {}

    def read(self) -> FleetFile:
        settings = self._settings
        notes: list[str] = []
        taken: dict[str, str] = {}
        drills = False
        for name, agent in settings.agents.items():
            if agent.address and agent.address in taken:
                self._mistake(("agents", name, "address"), f"is {taken[agent.address]}'s already; two agents have two addresses")
            taken.setdefault(agent.address, name)
            self._inventory.agent(name, agent.region, agent.address)
            if (loaded := self._loaded(name, agent)) is None:
                continue
            drills = drills or loaded.drills is not None
            notes += (note for file in loaded.objectives for note in file.notes)
            for prepared in loaded.schedules.values():
                self._schedule(name, agent, loaded, prepared)
        oncall = None if settings.oncall is None else self._path.parent / settings.oncall
        if oncall is not None and not oncall.exists():
            self._mistake(("oncall",), f"there is no {oncall}")
        mistakes = [*sorted(dict.fromkeys(self._document.mistakes), key=lambda m: (m.line, m.column)), *self._others]
        if mistakes:
            raise ConfigError(list(dict.fromkeys(mistakes)))
        fleet = self._inventory.fleet(
            name=settings.fleet,
            owner=settings.owner,
            links=Links(**settings.links.model_dump()),
            sla=settings.sla,
            drills=drills,
        )
        return FleetFile(fleet, oncall, tuple(dict.fromkeys(notes)))

    def _mistake(self, path: tuple[str | int, ...], message: str) -> None:
        self._document.mistake(path, message, dotted(path))

    def _loaded(self, name: str, agent: AgentSettings) -> Loaded | None:
        """What it runs by, as it would read it."""
        place = ("agents", name, "config")
        env = {**self._env, **self._settings.env, **agent.env, "PROBE_REGION": agent.region}
        file = self._path.parent / agent.config
        try:
            loaded = load_config(file, env=env, words=self._words, find=self._find, here=False)
        except ConfigError as error:
            for mistake in error.mistakes:
                if mistake.line or mistake.file.startswith("--set"):
                    self._others.append(mistake)
                else:
                    self._mistake(place, f"{mistake.file} {mistake.where}: {mistake.message}".replace(" : ", " "))
            return None
        if loaded.region != agent.region:
            self._mistake(("agents", name, "region"), f"{file} says region: {loaded.region}; one of the two is wrong")
            return None
        return loaded

    def _schedule(self, name: str, agent: AgentSettings, loaded: Loaded, prepared: Prepared) -> None:
        settings = prepared.settings
        if prepared.file not in self._places:
            self._places[prepared.file] = objective_places(str(prepared.file))
        scenario = prepared.scenario
        placed = [one for file in loaded.objectives for one in file.placed if one.scenario == scenario.name]
        if (other := self._inventory.differs(name, scenario)) is not None:
            what = f"promises or gates other things of {scenario.name!r} than {other} does"
            self._mistake(("agents", name, "config"), f"{what}; a name is one scenario everywhere")
        elif settings.mode == "scheduled":  # objectives read nothing else
            publish = settings.publish_region or agent.region
            places = {**self._places[prepared.file], **{one.objective.name: one.place for one in placed}}
            self._inventory.beat(name, scenario, agent.region, publish, cadence(prepared.entry), places)


def objective_places(file: str) -> Mapping[str, str]:
    """file:line of a scenario's objectives, by name."""
    document = parse(read(file), file)
    objectives = document.data.get("objectives") if isinstance(document.data, dict) else None
    return {
        str(one.get("name")): f"{file}:{document.values['objectives', i].line}"
        for i, one in enumerate(objectives if isinstance(objectives, list) else ())
        if isinstance(one, dict)
    }
