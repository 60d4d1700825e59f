"""So many viewers of one broadcast, whole sessions as a run has them, and what this process spends on them.

python -m tests.bench.watching JSON — {"protocol", "urls", "token", "few", "many", "warm", "seconds"}. Says `steady` when all
have played for `warm` seconds, and `seconds` later prints what it came to as JSON: CPU-seconds (user and system, of this
process) for a viewer's second, and how much of that is looking, which no other player does: reading the code, checking the
picture below it, listening for the chirp; MiB a viewer by the difference of `few` and `many`, pictures verified for a viewer's
second.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import uvloop
from yarl import URL

from probe.clock import SystemClock
from probe.drivers.base import Spec
from probe.drivers.table import table
from probe.media.decoder import warm_up
from probe.media.inspect import Inspector
from probe.model.clock import NS
from probe.model.ids import span_id
from probe.model.observation import Observation, Role, SessionBegan
from probe.model.outcome import Done
from probe.net.client import AddressPolicy, Client, Credential
from probe.net.credential import origin_of
from probe.plan import Plan
from probe.run.context import Context
from probe.run.stay import Stay
from probe.run.watch import ViewerWatch
from probe.wire.playback import Expected, Playback, Sight

RUN, TRACE, PUBLISH = 0x0BE4C400, 0x0123_4567_89AB_CDEF, 1
_SPREAD = 1.0  # s within which they start


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """For each viewer and second: CPU-seconds, those of them that went into looking at pictures and at sound, and verified
    pictures. `mib`: more resident memory for each more viewer."""

    cpu: float
    seeing: float
    hearing: float
    mib: float
    pictures: float
    viewers: int


def plan(url: str) -> Plan:
    """As little of one as a session needs."""
    return Plan(
        scenario="bench", description="", owner="tests", mode="adhoc", seed=1, region="local", publish_region="local",
        run_id="bench", run_number=RUN, trace_low=TRACE, platform_url=url, allow=(), ice_servers=(), accounts={}, secrets={},
        journey=(), final=(), run_deadline=600 * NS, reconnect_deadline=10 * NS,
    )  # fmt: skip


class Meter:
    """CPU-seconds of whatever thread, spent in the methods it was put around."""

    def __init__(self) -> None:
        self._spent: list[int] = []  # appended to by several threads

    def around(self, kind: type, name: str) -> Meter:
        method: Callable[..., Any] = getattr(kind, name)

        def metered(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time_ns()
            try:
                return method(*args, **kwargs)
            finally:
                self._spent.append(time.thread_time_ns() - began)

        setattr(kind, name, metered)
        return self

    def total(self) -> float:
        return sum(self._spent) / 1e9


class Audience:
    """Viewers of one broadcast, and the pictures they verified."""

    def __init__(self, protocol: str, urls: list[str], token: str, group: asyncio.TaskGroup) -> None:
        self._protocol, self._urls, self._group = protocol, urls, group
        url = urls[0]
        self._row = table().sessions[Role.VIEWER, protocol]
        self._clock = SystemClock()
        self._credential = Credential(token, frozenset({origin_of(url)})) if token else None
        self._context = Context(plan(url), self._clock, _forget, random.Random(1))
        self._client = Client(
            clock=self._clock,
            trace_id="0af7651916cd43dd8448eb211c80319c",
            new_span=lambda: span_id(self._context.ids),
            allow=AddressPolicy.of(str(URL(url).host)),
        )
        self.stays: list[Stay] = []

    @property
    def pictures(self) -> int:
        """Verified so far."""
        return sum(stay.watch.tally[Sight.VERIFIED] for stay in self.stays)

    async def grow(self, count: int) -> None:
        """Until so many play. RuntimeError where one does not."""
        new = [self._stay(n) for n in range(len(self.stays), count)]
        self.stays += new
        for stay in new:
            self._group.create_task(stay.run())
            await asyncio.sleep(_SPREAD / max(1, len(new)))
        for stay in new:
            await stay.started.wait()
            if not isinstance(stay.outcome, Done):
                raise RuntimeError(f"{self._protocol}: {stay.outcome}")

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            now = self._clock.now()
            for stay in self.stays:
                stay.tick(now)

    async def leave(self) -> None:
        for stay in self.stays:
            stay.end()
        for stay in self.stays:
            await stay.done.wait()
        await self._client.close()

    def _stay(self, number: int) -> Stay:
        row, clock = self._row, self._clock
        began = SessionBegan(
            session=f"s{number}", step="view", name=f"{row.protocol}-{number}", role=Role.VIEWER, protocol=row.protocol,
            device="default", region="local", publish_region="local", join="mid_stream", verify="code", buffered=row.buffered,
            optional=False, span_id=self._context.new_span(),
        )  # fmt: skip
        expected = Expected(run=RUN, trace=TRACE, publishes=[PUBLISH], max_age=row.max_age * 4)
        watch = ViewerWatch(Playback(expected, clock.wall().unix_ns - clock.now(), clock.now()))
        spec = Spec(
            role=Role.VIEWER,
            protocol=row.protocol,
            url=self._urls[number % len(self._urls)],
            credential=self._credential,
            session=began.session,
            run_number=RUN,
            trace_low=TRACE,
        )
        return Stay(
            ctx=self._context, row=row, began=began, spec=lambda: spec, client=self._client.using(parent_span=began.span_id),
            watch=watch, start_deadline=20 * NS, reconnect_deadline=10 * NS,
        )  # fmt: skip


async def watch(order: dict[str, Any]) -> Spent:
    """The figures of one order."""
    warm, seconds, few, many = order["warm"], order["seconds"], order["few"], order["many"]
    seeing, hearing = Meter().around(Inspector, "picture"), Meter().around(Inspector, "sound")
    async with asyncio.TaskGroup() as group:
        audience = Audience(order["protocol"], order["urls"], order["token"], group)
        ticking = group.create_task(audience.tick())
        await audience.grow(few)
        await asyncio.sleep(warm)
        rss_few = await _rss(1.0)
        await audience.grow(many)
        await asyncio.sleep(warm)
        print("steady", flush=True)
        cpu, began, pictures = _cpu(), asyncio.get_running_loop().time(), audience.pictures
        seen, heard = seeing.total(), hearing.total()
        rss_many = await _rss(seconds)
        cpu, took, pictures = _cpu() - cpu, asyncio.get_running_loop().time() - began, audience.pictures - pictures
        seen, heard = seeing.total() - seen, hearing.total() - heard
        ticking.cancel()
        await audience.leave()
    each = many * took
    return Spent(
        cpu=cpu / each, seeing=seen / each, hearing=heard / each, mib=(rss_many - rss_few) / (many - few),
        pictures=pictures / each, viewers=many,
    )  # fmt: skip


def _forget(fact: Observation) -> None:
    """What a run would keep."""


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _rss(seconds: float) -> float:
    """MiB, the median over so long."""
    process, looks = psutil.Process(), []
    for _ in range(5):
        await asyncio.sleep(seconds / 5)
        looks.append(process.memory_info().rss / 2**20)
    return statistics.median(looks)


if __name__ == "__main__":
    warm_up(SystemClock())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(watch(json.loads(sys.argv[1]))))), flush=True)
