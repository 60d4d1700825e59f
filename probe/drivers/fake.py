"""The fake step: a scripted outcome, for tests, examples and dry runs. It touches no network."""

from __future__ import annotations

import asyncio

from probe.drivers.base import StepIO
from probe.errors import DriverBug
from probe.model.clock import NS
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.plan import FakeStep, Step


class FakeDriver:
    """Runs FakeStep: takes `took` ns, then ends as the script says."""

    async def run(self, step: Step, io: StepIO) -> Outcome:
        """Raises DriverBug for a script that names no outcome or an impossible failure."""
        if not isinstance(step, FakeStep):
            raise DriverBug(f"not a fake step: {step.kind}")
        outcome = _scripted(step)
        await asyncio.sleep(step.took / NS)
        return outcome


def _scripted(step: FakeStep) -> Outcome:
    match step.outcome:
        case "done":
            return Done()
        case "failed":
            try:
                return Failed(Phase(step.phase), step.reason, "scripted")
            except (KeyError, ValueError) as error:
                raise DriverBug(f"{step.phase}/{step.reason} is no failure") from error
        case "skipped":
            return Skipped(step.reason or "scripted", "scripted")
        case "cancelled":
            return Cancelled()
        case "aborted":
            return Aborted(step.reason or "scripted")
        case other:
            raise DriverBug(f"{other!r} is no outcome")
