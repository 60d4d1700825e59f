"""Finding scenario files, and turning them into plans for the regions asked for."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from probe.cli.files import find, vocabulary
from probe.cli.options import Options
from probe.errors import ConfigError, Located
from probe.model.clock import Clock
from probe.model.ids import new_run_ids
from probe.plan import Plan
from probe.planning import make_plan
from probe.scenario.load import load
from probe.scenario.schema import EMBEDDED, Scenario


def load_all(files: Sequence[Path], options: Options, env: dict[str, str]) -> list[tuple[Path, Scenario]]:
    """Every scenario, or every mistake of every file at once."""
    scenarios: list[tuple[Path, Scenario]] = []
    mistakes: list[Located] = []
    sets = dict(_setting(text) for text in options.set)
    for file in files:
        try:
            scenario = load(find(file), env=env, sets=sets, words=vocabulary(), secrets=True)
            scenarios.append((file, _embedded(scenario, env)))
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return scenarios


def _embedded(scenario: Scenario, env: dict[str, str]) -> Scenario:
    """Its platform's address, where it asks for the embedded one and that is there."""
    if scenario.platform.url != EMBEDDED or "PLATFORM_URL" not in env:
        return scenario
    return scenario.model_copy(update={"platform": scenario.platform.model_copy(update={"url": env["PLATFORM_URL"]})})


def asks_for_sandbox(files: Sequence[Path], options: Options, provided: dict[str, str]) -> bool:
    """Whether a scenario names the embedded platform as its own. `provided`: what that would add to our environment. Mistakes
    are not told here."""
    env = {**{name: value for name, value in provided.items() if name != "PLATFORM_URL"}, **os.environ}
    try:
        return any(scenario.platform.url == EMBEDDED for _, scenario in load_all(files, options, env))
    except ConfigError:
        return False


def plans(scenarios: Sequence[tuple[Path, Scenario]], options: Options, mode: str, clock: Clock, repeat: int = 1) -> list[Plan]:
    """`repeat` plans per scenario and region, in rounds; of a seed that is given, each round takes the next. Raises ConfigError
    where the region must be named."""
    made: list[Plan] = []
    for number, (file, scenario) in ((number, one) for number in range(repeat) for one in scenarios):
        for region in _regions(file, scenario, options):
            seed = options.seed + number if options.seed is not None else random.SystemRandom().getrandbits(32)
            ids = new_run_ids(clock.wall().unix_ns // 1_000_000, random.SystemRandom())
            plan = make_plan(scenario, region, seed, ids, mode=mode)
            made.append(replace(plan, release=options.release) if options.release else plan)
    return made


def _regions(file: Path, scenario: Scenario, options: Options) -> tuple[str, ...]:
    wanted = options.region or tuple(filter(None, [os.environ.get("PROBE_REGION")]))
    known = tuple(scenario.regions)
    if not wanted:
        if len(known) == 1:
            return known
        raise ConfigError(
            [Located(str(file), 0, 0, "regions", f"say where this machine stands: --region {' or --region '.join(known)}")]
        )
    unknown = [region for region in wanted if region not in known]
    if unknown:
        raise ConfigError([Located(str(file), 0, 0, "--region", f"{unknown[0]!r} is not one of {', '.join(known)}")])
    return wanted


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError([Located("--set", 0, 0, "", f"{text!r} is not a setting; write --set platform.url=https://…")])
    return key, value
