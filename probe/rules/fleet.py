"""What rules are made from: what is promised, where and how often it is measured, and who is told.

Made by whoever reads the files (`cli`); nothing here reads any. All durations are ns, all rates runs an hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from probe.scenario.schema import Gate, Scenario


class Severity(StrEnum):
    """P1 pages, at any hour. P2 is triaged, within its SLA. P3 is a line of the weekly report and never an alert."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Source(StrEnum):
    """Where good and bad runs of an objective are counted."""

    RUNS = "runs"  # objective_runs_total{slo,outcome}: judged per run before export
    COVERAGE = "coverage"  # runs that were made, of those that the inventory says were due


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One set of labels in which an objective is counted. `protocol` is empty where the objective has none."""

    publish_region: str
    region: str
    protocol: str = ""
    runs_per_hour: float  # while they come
    share: float = 1.0  # of a week, in which they do: a schedule may have hours, `only` and blackouts

    @property
    def due(self) -> float:
        """Runs an hour, over a week."""
        return self.runs_per_hour * self.share


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """A promise, whole: of the scenario file, and how often it is measured in each cell. `within` as written: "2s", "2%", or
    empty. `place`: file and line, for whoever must mend it."""

    name: str  # the label `slo`
    scenario: str
    indicator: str
    meaning: str  # in words: what a good run is
    target: float
    window: int
    within: str = ""
    service: str
    owner: str
    action: str  # what whoever is told does first
    source: Source = Source.RUNS
    cells: tuple[Cell, ...]
    place: str = ""
    below: float | None = None  # the direct rule's: a page where less than this share was good for 10 minutes; None: the default
    page: bool = True  # False: nobody is woken for it, its alert is triaged at the loudest
    shadow: bool = False  # its alerts are evaluated and counted, and sent to nobody

    @property
    def budget(self) -> float:
        """Share of runs that may be bad."""
        return 1 - self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What one agent runs again and again. Mode `scheduled` only. `share` of a week: below 1, its silence may be its schedule."""

    scenario: str
    publish_region: str
    runs_per_hour: float  # while they come
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One of the inventory. `instance`: host:port as Prometheus scrapes it; empty where it is not known."""

    name: str
    region: str
    instance: str = ""
    beats: tuple[Beat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where people look; templates with ${…}, empty where there is none. Dashboards and runbooks: a base address, to which
    `/<uid>` and `/<alert>` are added."""

    dashboards: str = ""
    runbooks: str = ""
    traces: str = ""  # ${trace_id}
    runs: str = ""  # of an agent: ${region}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything, from one source. `owner`: of what belongs to no scenario, such as an agent that fell silent."""

    name: str
    owner: str
    agents: tuple[Agent, ...]
    scenarios: Mapping[str, Scenario]
    slos: tuple[Slo, ...]
    gates: Sequence[tuple[str, Gate]] = ()  # scenario's name, gate
    links: Links = Links()
    sla: Mapping[Severity, int] = field(default_factory=dict)  # ns until somebody has looked
    drills: bool = False  # an agent tells which are overdue
