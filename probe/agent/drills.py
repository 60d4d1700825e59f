"""Overdue drills as a metric: an agent that is given a calendar holds it against the records of its store.

Where the records cannot be read nothing is known, and what was told stays; before they were read once nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from probe.agent.loading import Loaded
from probe.export.families import Families
from probe.model.clock import Clock
from probe.store.errors import StoreError
from probe.store.reader import Records

_log = logging.getLogger(__name__)
_EVERY = 60.0  # s


class DrillWatch:
    """`loaded`: the configuration in force."""

    def __init__(self, loaded: Callable[[], Loaded], figures: Families, records: Records, clock: Clock) -> None:
        self._loaded, self._figures, self._records, self._clock = loaded, figures, records, clock
        self._told: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.warning("which drills are overdue is not known: %s", error)
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """Once. What is no longer asked for is not overdue. Raises StoreError."""
        calendar = self._loaded().drills
        states: dict[str, bool] = {}
        if calendar is not None:
            from probe.drill.core.calendar import State, dues
            from probe.drill.history import history

            for due in dues(calendar.campaigns, calendar.known, await history(self._records), self._clock.wall().unix_ns):
                states[due.name] = states.get(due.name, False) or due.state is State.OVERDUE
        for name in self._told | states.keys():
            self._figures.set("drill_overdue", {"drill": name}, float(states.get(name, False)))
        self._told |= states.keys()
