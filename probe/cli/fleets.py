"""What a command is given for a fleet: a fleet.yaml, or a scenario alone, as if one agent in each of its regions ran it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from probe.agent.fleet_file import FleetFile, fleet_of, load_fleet
from probe.cli.files import find, vocabulary
from probe.model.clock import NS
from probe.rules.fleet import Fleet, Severity
from probe.scenario.load import load
from probe.scenario.located import read
from probe.scenario.text import parse

EVERY = 60 * NS  # of a scenario alone
_SLA = {Severity.P1: 300 * NS, Severity.P2: 4 * 3600 * NS}
_SOMEWHERE = "https://platform.invalid"  # of a scenario whose platform is told when it runs: nobody is asked here


def fleet_at(file: Path, *, every: int | None = None, regions: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Fleet:
    """The fleet that a file means. Of a scenario, each region makes a run each `every` ns. Raises ConfigError with every mistake
    of every file it names."""
    return fleet_file_at(file, every=every, regions=regions, env=env).fleet


def fleet_file_at(
    file: Path, *, every: int | None = None, regions: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> FleetFile:
    """As `fleet_at`, with what else a fleet.yaml names."""
    env = os.environ if env is None else env
    file = find(file)
    document = parse(read(file), str(file))
    if isinstance(document.data, dict) and "scenario" in document.data:
        scenario = load(file, env={"PLATFORM_URL": _SOMEWHERE, **env}, words=vocabulary())
        return FleetFile(replace(fleet_of(scenario, every=every or EVERY, regions=regions, file=str(file)), sla=_SLA), None)
    return load_fleet(file, env=env, words=vocabulary(), find=find)
