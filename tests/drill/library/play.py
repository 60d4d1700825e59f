"""A drill of the library, really carried out against a sandbox of its own, where a weakness may be planted first.

`small`: with fewer viewers, one after the other region left out, and less patience: for `make test`. What is asked of the
platform is the drill's own either way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.drill.conduct import Asked, Conducted, conduct
from probe.drill.core.file import Starts, Traffic
from probe.drill.core.policy import Own
from probe.drill.load import Loaded, load_whole
from probe.drill.policy_file import find_policy
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.run.health import Bounds
from probe.sandbox.launch import Sandbox
from probe.scenario.steps import View
from tests.tools import ROOT

DRILLS = sorted((ROOT / "scenarios" / "drills").glob("*.yaml"))
Weakness = Mapping[str, Any]
# Small ones are about what a drill finds, not about time: a machine that others use too must not make them say nothing.
PATIENT = Bounds(loop_lag=3, decode_backlog=3, run_delay=1.1, throttled=1.1, late=3, clock_step=3, pressure=1.1)


def smaller(loaded: Loaded, protocols: tuple[str, ...], regions: tuple[str, ...]) -> Loaded:
    """Viewers of these protocols only, in these regions; starts every two seconds, and 6 s to be back."""
    scenario, drill = loaded.scenario, loaded.drill
    journey = []
    for step in scenario.journey:
        if isinstance(step, View):
            view = [step.view[0].model_copy(update={"via": via}) for via in protocols]
            step = step.model_copy(update={"view": tuple(view), "phase": 0})
        journey.append(step)
    recovery = tuple(one.model_copy(update={"within": min(one.within, 6 * NS)}) for one in drill.recovery)
    abort = tuple(one for one in drill.abort if one.outside is None or len(regions) > 1)
    traffic = Traffic(starts=Starts.model_validate({"every": "2s", "most": 3}))
    steady = drill.steady.model_copy(update={"within": 14 * NS})
    changes = {"recovery": recovery, "abort": abort, "traffic": traffic, "steady": steady, "regions": regions}
    return replace(
        loaded,
        scenario=scenario.model_copy(update={"journey": tuple(journey), "regions": regions}),
        drill=drill.model_copy(update=changes),
    )


async def played(
    name: str,
    out: Path,
    *weaknesses: Weakness,
    protocols: tuple[str, ...] = (),
    regions: tuple[str, ...] = ("eu",),
    patient: bool = False,
) -> Conducted:
    """`protocols`: smaller, with viewers of these; `patient`: however unwell the probe is."""
    out.mkdir(parents=True, exist_ok=True)
    async with Sandbox.start() as sandbox:
        with patch.dict(os.environ, environment(sandbox)):
            for weakness in weaknesses:
                await sandbox.admin("POST", "/admin/faults", weakness)
            loaded = load_whole(ROOT / "scenarios" / "drills" / f"{name}.yaml")
            if protocols:
                loaded = smaller(loaded, protocols, regions)
            return await conduct(
                Asked(
                    loaded=loaded,
                    policy=find_policy(None, os.environ),
                    own=Own(sandbox=True),
                    clock=SystemClock(),
                    redactor=Redactor(),
                    state=out / "state",
                    out=out,
                    bounds=PATIENT if protocols or patient else None,
                )
            )
