"""`probe check`: what a file is, by its first key, and whether it is well."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from probe.cli.files import find, vocabulary
from probe.errors import ConfigError
from probe.scenario.load import load
from probe.scenario.located import read
from probe.scenario.text import parse
from probe.scenario.units import format_duration


def checked(file: Path, *, secrets: bool = False) -> str:
    """What is said of a file that is well. `secrets`: of a scenario, ask that they are there. Raises ConfigError with all
    mistakes."""
    path = find(file)
    other = _KINDS.get(_kind(path))
    return _scenario(path, secrets) if other is None else other(path)


def _kind(path: Path) -> str:
    from probe.drill.toolkit.experiment import is_experiment

    try:
        data = parse(read(path), str(path)).data
    except ConfigError:
        return ""  # told by whoever reads it next
    if is_experiment(data):
        return "drill"
    return next((key for key in data if key in _KINDS), "") if isinstance(data, dict) else ""


def _scenario(path: Path, secrets: bool) -> str:
    scenario = load(path, words=vocabulary(), secrets=secrets)
    return f"{scenario.name}: {len(scenario.journey)} steps, {len(scenario.regions)} regions: valid"


def _drill(path: Path) -> str:
    from probe.drill.load import load_whole

    drill = load_whole(path).drill
    kinds = ", ".join(dict.fromkeys(use.fault for use in drill.method))
    return f"{drill.drill}: {kinds} in {', '.join(drill.regions)}, {format_duration(drill.length)} at most: valid"


def _rehearsal(path: Path) -> str:
    from probe.drill.people_file import load_rehearsal

    rehearsal = load_rehearsal(path, env=os.environ)
    return f"{rehearsal.name}: {len(rehearsal.injects)} injects, {format_duration(rehearsal.lasts)}: valid"


def _policy(path: Path) -> str:
    from probe.drill.policy_file import load_policy

    policy = load_policy(path, env=os.environ).policy
    return f"{policy.name}: {len(policy.allow)} rules: valid"


def _campaigns(path: Path) -> str:
    from probe.drill.campaigns_file import load_campaigns

    found = load_campaigns(path, env=os.environ)
    return f"{found.campaigns.name}: {len(found.campaigns.campaigns)} campaigns, {len(found.known)} drills and rehearsals: valid"


_KINDS: dict[str, Callable[[Path], str]] = {
    "drill": _drill,
    "rehearsal": _rehearsal,
    "drill_policy": _policy,
    "calendar": _campaigns,
}
