"""A scripted session driver and the context it runs in: the fake that `run/` is tested with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from probe.clock import SystemClock
from probe.drivers.base import SessionIO, SessionRow, Spec
from probe.model.clock import MS, NS
from probe.model.frames import FrameCode, FrameRecord, Reading
from probe.model.observation import Observation, Role, SessionBegan
from probe.model.stage import Stage
from probe.net.client import Client
from probe.plan import Plan
from probe.run.context import Context
from probe.run.stay import Stay
from probe.run.watch import ViewerWatch
from probe.wire.playback import Expected, Playback

RUN, TRACE = 5, 6
Script = Callable[[SessionIO, int], Coroutine[Any, Any, None]]


@dataclass
class Scripted:
    """Runs `script(io, attempt)` beside the reader of the feed. Remembers how often it was entered and left."""

    script: Script
    connect: Script | None = None
    entered: int = 0
    left: int = 0

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        attempt = self.entered
        self.entered += 1
        io.stages.enter(Stage.SIGNAL, io.clock.now())
        try:
            if self.connect is not None:
                await self.connect(io, attempt)
            io.stages.enter(Stage.FIRST_PACKET, io.clock.now())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.script(io, attempt))
                try:
                    yield
                finally:
                    task.cancel()
        finally:
            self.left += 1


@dataclass
class Source:
    """A broadcast: consecutive coded frames, and ways to spoil them."""

    sequence: int = 0
    facts: list[Observation] = field(default_factory=list)

    def frame(self, io: SessionIO, *, run: int = RUN, old_ms: int = 20, coded: bool = True, same: bool = False) -> FrameRecord:
        self.sequence += 0 if same else 1
        now = io.clock.now()
        code = FrameCode(
            run=run, trace=TRACE, publish=1, sequence=self.sequence, stamp_ms=io.clock.wall(now).unix_ns // MS - old_ms
        )
        return FrameRecord(
            arrived=now, decoded=now, shown=now, media_time=None, size=100, keyframe=False, width=64, height=36,
            reading=Reading.CODE if coded else Reading.NONE, code=code if coded else None, black=False, changed=True,
        )  # fmt: skip

    async def play(self, io: SessionIO, frames: int = 10_000, every: float = 0.02) -> None:
        io.stages.enter(Stage.KEYFRAME, io.clock.now())
        for _ in range(frames):
            io.feed.post(self.frame(io))
            await asyncio.sleep(every)


def make_stay(
    driver: Scripted, *, start: int = NS // 2, stall: int = NS // 4, reconnect: int = NS, **more: Any
) -> tuple[Stay, list[Observation]]:
    """A viewer's stay around the driver, and the list its observations go to."""
    facts: list[Observation] = []
    plan = Plan(
        scenario="s", description="", owner="o", mode="adhoc", seed=1, region="r", publish_region="r", run_id="run",
        run_number=RUN, trace_low=TRACE, platform_url="http://127.0.0.1", allow=(), ice_servers=(), accounts={}, secrets={},
        journey=(), final=(), run_deadline=10 * NS, reconnect_deadline=reconnect,
    )  # fmt: skip
    clock = SystemClock()
    ctx = Context(plan, clock, facts.append, random.Random(1))
    row = SessionRow(
        role=Role.VIEWER, protocol="whep", driver=driver, stages=(Stage.SIGNAL,), start=start, stall=stall, max_age=2 * NS
    )
    began = SessionBegan(
        session="s1", step="view", name="whep-1", role=Role.VIEWER, protocol="whep", device="default", region="r",
        publish_region="r", join="mid_stream", verify="code", buffered=False, optional=False, span_id="0" * 16,
    )  # fmt: skip
    expected = Expected(run=RUN, trace=TRACE, publishes=[1], max_age=2 * NS)
    offset = clock.wall().unix_ns - clock.now()
    stay = Stay(
        ctx=ctx,
        row=row,
        began=began,
        spec=lambda: Spec(role=Role.VIEWER, protocol="whep", url="http://127.0.0.1/whep"),
        client=Client(clock=clock, trace_id="0" * 32, new_span=lambda: "0" * 16),
        watch=ViewerWatch(Playback(expected, offset, clock.now())),
        start_deadline=start,
        reconnect_deadline=reconnect,
        **more,
    )
    return stay, facts
