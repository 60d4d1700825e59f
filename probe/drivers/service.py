"""What steps against a product's services have in common: whose failure it is, and how long they may take."""

from __future__ import annotations

import asyncio

from probe.model.clock import NS
from probe.model.outcome import REASONS
from probe.model.stage import Phase
from probe.plan import StepBase

_DEADLINE = 10 * NS
_PHASES = {p.value: p for p in (Phase.AUTH, Phase.ROOM, Phase.PAYMENT, Phase.GIFT, Phase.CHAT, Phase.MODERATION, Phase.ENDING)}


def phase_of(service: str) -> Phase:
    """The phase a failure of this service belongs to; a service nobody has named counts as the room."""
    return _PHASES.get(service, Phase.ROOM)


def reason_of(phase: Phase, *wanted: str) -> str:
    """The first of `wanted` that this phase knows, else `unexpected`."""
    return next((reason for reason in wanted if reason in REASONS[phase]), "unexpected")


class Deadline:
    """A step's end, on the loop's clock."""

    def __init__(self, step: StepBase) -> None:
        self._loop = asyncio.get_running_loop()
        self.at = self._loop.time() + (step.deadline or _DEADLINE) / NS

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self.at - self._loop.time())
