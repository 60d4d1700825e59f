"""The wait step: time passes, sessions go on."""

from __future__ import annotations

import asyncio

from probe.drivers.base import StepIO
from probe.errors import DriverBug
from probe.model.clock import NS
from probe.model.outcome import Done, Outcome
from probe.plan import Step, WaitStep


class WaitDriver:
    """Runs WaitStep."""

    async def run(self, step: Step, io: StepIO) -> Outcome:
        if not isinstance(step, WaitStep):
            raise DriverBug(f"not a wait step: {step.kind}")
        await asyncio.sleep(step.duration / NS)
        return Done()
