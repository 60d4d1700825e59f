"""What a run leaves on a platform: promised to the ledger before it is made, undone at the end, swept after a crash.

Undoing is idempotent and bounded; what is gone already counts as undone. Leftovers of other runs are undone with this run's
credentials, and only on the platform it has to do with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from probe.errors import Failure
from probe.model.clock import NS
from probe.model.stage import Phase
from probe.net.client import Client
from probe.plan import HttpCall, HttpStep
from probe.run.context import Context
from probe.run.ledger import Entry, Ledger, Orphan, orphans
from probe.run.vars import Vars

_SWEEP_SECONDS = 10.0
_UNDO_SECONDS = 5.0


@dataclass(slots=True)
class Leftovers:
    """Of one run. `state` is the directory that all runs keep their ledgers in."""

    ctx: Context
    vars: Vars
    client: Client
    ledger: Ledger
    state: Path
    _next_turn: int = 0

    @asynccontextmanager
    async def promised(self, step: HttpStep) -> AsyncIterator[None]:
        """Around a step's call: what undoes it is written down before, and named after, where the platform chose the name."""
        if step.undo is None:
            yield
            return
        await self._take_turn()
        unnamed = self._promise(step.name, step.undo)
        try:
            yield
        finally:
            if unnamed is not None and not self.vars.unknown(step.undo.url):
                self.ledger.named(unnamed, self.vars.url(step.undo.url))

    async def undo_all(self) -> None:
        """Everything still open, newest first."""
        for entry in self.ledger.open_entries():
            if await self.undo(entry):
                self.ledger.undone(entry.number)

    async def undo(self, entry: Entry) -> bool:
        """True once the thing is gone: deleted now, or not there."""
        if entry.url is None:
            self.ctx.note(f"what step {entry.step} created cannot be named, so it cannot be undone")
            return True
        try:
            async with asyncio.timeout(_UNDO_SECONDS):
                await self._client(entry).request(
                    entry.method,
                    entry.url,
                    purpose="undo",
                    phase=Phase.ENDING,
                    credential=self.vars.credential(entry.account),
                    ok=(*range(200, 300), 404, 410),
                )
        except (Failure, TimeoutError) as error:
            self.ctx.note(f"step {entry.step} could not be undone: {error}")
            return False
        return True

    def _client(self, entry: Entry) -> Client:
        """Its requests are the step's, by whose name they are looked up."""
        plan = self.ctx.plan
        service = next((step.service for step in (*plan.journey, *plan.final) if step.name == entry.step), "")
        return self.client.using(service=service, on_request=lambda fact: self.ctx.emit(fact, entry.step))

    async def sweep(self) -> None:
        """Undo what a killed run left on this platform, with this run's credentials."""
        with orphans(self.state) as dead:
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    for orphan in dead:
                        await self._sweep_one(orphan)
            except TimeoutError:
                self.ctx.note(f"what earlier runs left was not all swept within {_SWEEP_SECONDS:g} s; the next run goes on")

    async def _sweep_one(self, orphan: Orphan) -> None:
        for entry in list(orphan.entries):
            if entry.platform == self.ctx.plan.platform_url and await self.undo(entry):
                orphan.undone(entry)
                self.ctx.note(f"swept what step {entry.step} of run {orphan.path.stem} had left")

    async def _take_turn(self) -> None:
        """Hold the rate cap: what creates something on the platform is spaced out."""
        now = self.ctx.clock.now()
        at = max(now, self._next_turn)
        self._next_turn = at + round(NS / self.ctx.plan.rate_cap)
        await asyncio.sleep((at - now) / NS)

    def _promise(self, step: str, undo: HttpCall) -> int | None:
        """Write down what undoes the step. Returns the entry's number where its address is still to be named."""
        url = None if self.vars.unknown(undo.url) else self.vars.url(undo.url)
        number = self.ledger.will(
            step=step, platform=self.ctx.plan.platform_url, method=undo.method, url=url, account=undo.account
        )
        return number if url is None else None
