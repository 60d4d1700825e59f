"""What a drill leaves in the shared records while it goes, and the last run of the same drill that it finds there.

Records never hold a drill up: what the database does not take waits on disk, under the drill's state, for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from probe.drill.core.facts import DrillBegan, DrillFact, FaultDid, Verdict
from probe.drill.core.file import Drill
from probe.drill.core.score import Score
from probe.drill.records import last_drill, record_began, record_drill, record_fault
from probe.model.clock import Clock
from probe.store.errors import StoreError
from probe.store.store import Store

_log = logging.getLogger(__name__)
_OUTBOX = "drill-records"


@dataclass(slots=True)
class Recording:
    """One drill's. Nothing here raises."""

    store: Store
    clock: Clock
    drill: Drill
    run: str

    def put(self, fact: DrillFact) -> None:
        """What of a drill's facts is kept as it happens."""
        at = self.clock.wall(fact.at).unix_ns
        if isinstance(fact, DrillBegan):
            about = {"scenario": fact.scenario, "regions": list(fact.regions), "targets": list(fact.targets)}
            record_began(self.store, drill=fact.drill, run=self.run, at_ns=at, owner=fact.owner, about=about)
        elif isinstance(fact, FaultDid):
            record_fault(self.store, drill=self.drill.drill, run=self.run, at_ns=at, fact=fact)

    def ended(self, verdict: Verdict, reason: str, score: Score | None) -> None:
        document = {} if score is None else score.model_dump(mode="json", exclude_none=True)
        record_drill(
            self.store, drill=self.drill.drill, run=self.run, at_ns=self.clock.wall().unix_ns, owner=self.drill.owner,
            verdict=str(verdict), reason=reason, score=document,
        )  # fmt: skip

    async def before(self) -> Score | None:
        """The score of the same drill's last run; None where there is none that can be read."""
        try:
            found = await last_drill(self.store, self.drill.drill, before=self.run)
            return None if found is None or not found.score else Score.model_validate(found.score)
        except (StoreError, ValidationError) as error:
            _log.warning("the drill's last run could not be read: %s", str(error).splitlines()[0])
            return None


@asynccontextmanager
async def recording(url: str, clock: Clock, state: Path, drill: Drill, run: str) -> AsyncIterator[Recording]:
    """While the drill goes. Raises StoreRefused, SpoolInUse."""
    async with Store.opened(url, clock, state / _OUTBOX) as store:
        yield Recording(store, clock, drill, run)
