"""Since when a first viewer of a broadcast could start, and waiting for it.

A viewer in mid-stream is not to be charged for a playlist that did not exist yet, so viewers wait until somebody could start;
how long that took is told. Looking begins when the publisher's start has ended, whatever the journey does before anybody views:
of several broadcasts the first would otherwise be charged with the starts of the others. A look at a playlist is a moment, and
what it finds began since the look before it; at a continuous stream it is a wait, which sees the first picture come however
long that takes. Where nobody could look at once (what the address needs was only kept later) since when is not known, nor told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from probe.drivers.base import SessionRow
from probe.errors import Failure
from probe.model.clock import NS
from probe.model.observation import Available, Role
from probe.plan import ViewSpec, ViewStep
from probe.run.broadcasts import Broadcast, Broadcasts
from probe.run.context import Context

PAUSE = NS // 4  # between two looks, and the latest that the first may begin after the start for its answer to tell since when
_WITHIN = NS  # between the last look that said no and the first yes, when looking itself takes long


@dataclass(slots=True)
class _Look:
    """One for each broadcast and protocol."""

    task: asyncio.Task[bool | None] | None = None
    again: bool = False  # it was over before anybody viewed, or could not be asked, and has been done again


@dataclass(slots=True)
class Scouts:
    """`ask(view)` makes one look as a viewer of `view` would; it raises Failure, and whatever keeps that viewer from asking."""

    ctx: Context
    group: asyncio.TaskGroup
    on_air: Broadcasts
    row: Callable[[Role, str], SessionRow]
    ask: Callable[[ViewSpec], Awaitable[bool]]
    _looks: dict[tuple[str, str], _Look] = field(default_factory=dict)

    def begin(self) -> None:
        """A broadcast has started: look for it over every protocol that the journey will watch it by."""
        for step in self.ctx.plan.journey:
            for view in step.views if isinstance(step, ViewStep) else ():
                broadcast = self._watched(view)
                if broadcast is not None and (key := (broadcast.step.name, view.protocol)) not in self._looks:
                    self._looks[key] = _Look(self.group.create_task(self._early(view, broadcast), name=f"look {key}"))

    async def wait(self, view: ViewSpec) -> None:
        """Until a first viewer of `view` could start, or there was time enough for it; then the viewers will say so themselves.
        Raises what kept it from being asked."""
        broadcast = self._watched(view)
        if broadcast is None:
            return
        look = self._looks.setdefault((broadcast.step.name, view.protocol), _Look())
        found: bool | None = None
        if look.task is not None:
            before = look.task.done()
            await asyncio.wait({look.task})
            found = look.task.result()
            if not found and before:
                found = None  # it gave up when nobody was waiting yet
        if found is None and not look.again:
            look.again = True
            await self._look(view, broadcast)

    def close(self) -> None:
        for look in self._looks.values():
            if look.task is not None:
                look.task.cancel()

    def _watched(self, view: ViewSpec) -> Broadcast | None:
        """The broadcast to look for; None where there is no such question."""
        if self.row(Role.VIEWER, view.protocol).scout is None or view.join == "at_go_live" or view.verify != "code":
            return None
        return next(iter(self.on_air.started(view)), None)

    async def _early(self, view: ViewSpec, broadcast: Broadcast) -> bool | None:
        """None: it could not be asked yet, or never can; the view asks again, and what keeps that from being asked is heard."""
        try:
            return await self._look(view, broadcast)
        except Exception:
            return None

    async def _look(self, view: ViewSpec, broadcast: Broadcast) -> bool:
        row, clock, began = self.row(Role.VIEWER, view.protocol), self.ctx.clock, broadcast.started_at
        assert began is not None
        deadline = clock.now() + (view.start or row.start)
        timely = clock.now() - began <= PAUSE
        not_yet = began
        while (looked := clock.now()) < deadline:
            try:
                async with asyncio.timeout((deadline - looked) / NS):
                    there = await self.ask(view)
                if there:
                    now = clock.now()
                    if timely and (now if row.buffered else looked) - not_yet <= _WITHIN:
                        self.ctx.emit(Available(protocol=view.protocol, took=now - began, ingest=broadcast.step.protocol))
                    return True
            except (Failure, TimeoutError):
                pass  # not yet: what it is worth is told by the viewers
            not_yet = looked if row.buffered else clock.now()
            await asyncio.sleep(PAUSE / NS)
        return False
