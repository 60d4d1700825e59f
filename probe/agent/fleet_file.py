"""fleet.yaml with all it names, read: the inventory of agents, and from their schedules what is promised, where and how often.

Every mistake of every file at once, each with its line. Paths are relative to the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.rules.fleet import Fleet
from probe.scenario.fields import Vocabulary
from probe.scenario.schema import Scenario


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a fleet.yaml comes to. `oncall`: the file it names, not read here; None where it names none."""

    fleet: Fleet
    oncall: Path | None


def load_fleet(path: Path, *, env: Mapping[str, str], words: Vocabulary, find: Callable[[Path], Path]) -> FleetFile:
    """Read fleet.yaml and all it names. `words`: what the drivers can do; `find`: from a scenario's name to its file. Raises
    ConfigError with all mistakes of all files."""
    raise NotImplementedError


def fleet_of(scenario: Scenario, *, every: int, regions: Sequence[str] = ()) -> Fleet:
    """The fleet of a lone scenario: an agent in each of `regions` (default: the scenario's own), each publishing where it
    views, a run each `every` ns."""
    raise NotImplementedError
