"""Who plays while a drill lasts: one audience per region that came before the fault and stays, and whole runs that begin then.

Both are runs of the scenario by the ordinary engine, in this process, of mode `drill`; so every rule of measuring is the one that
always holds, and what they create on the platform is undone as always. The staying run is the journey up to its last view step,
held open from outside (run/outside.py). The other runs are the whole journey, one after another in each region, at most so many
under way: what could not begin because of that is counted, for it is a hole in what is known. Cuts of the journey's own are left
out of both: what breaks here is the drill's.

Regions begin apart by an even share of the pace, so that one machine is not asked for all of it at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from types import TracebackType

from probe.drill.core.conclude import Told
from probe.drill.core.file import Traffic as Wanted
from probe.drivers.table import Table
from probe.errors import ConfigError
from probe.link.path import Path
from probe.model.clock import NS, Clock
from probe.model.ids import new_run_ids
from probe.model.observation import Observation, Role
from probe.net.redact import Redactor
from probe.plan import CutStep, HoldStep, Plan, PublishStep, ViewStep
from probe.planning import make_plan
from probe.run.engine import Engine
from probe.run.health import Bounds
from probe.run.outside import Outside, meant
from probe.scenario.schema import Scenario

_log = logging.getLogger(__name__)
HOLD = "(hold)"
MODE = "drill"
_SPARE = 3600 * NS  # that a staying run may last beyond what the drill says it takes: the drill ends it, not a deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every run of this process is given. `bounds`: beyond which the probe is unwell."""

    clock: Clock
    table: Table
    state: FilePath
    redactor: Redactor
    bounds: Bounds | None = None


@dataclass(slots=True)
class _Arriving:
    """What is done to the paths of those who come from now on."""

    acts: dict[str, tuple[str, Callable[[Path], object]]] = field(default_factory=dict)  # by token

    def on_path(self, path: Path, role: Role, protocol: str) -> None:
        for who, act in self.acts.values():
            if meant(who, role, protocol):
                act(path)


class Traffic:
    """An async context: begun when entered, ended and cleaned up when left, however. Implements `faults.base.Clients` for the
    audience that stays, in the drill's own `regions` (default: all): whoever plays elsewhere is not a fault's to touch. `put` is
    given every observation; `links`: every session has a path that a fault may impair."""

    def __init__(
        self,
        scenario: Scenario,
        wanted: Wanted,
        *,
        lasts: int,
        given: Surroundings,
        put: Callable[[Observation], None],
        links: bool = False,
        regions: Sequence[str] = (),
        seed: int | None = None,
    ) -> None:
        self._scenario = scenario
        self._wanted = wanted
        self._given = given
        self._put = put
        self._links = links
        self._regions = frozenset(regions or scenario.regions)
        self._rng = random.Random(seed) if seed is not None else random.SystemRandom()
        self._arriving = _Arriving()
        self._stack = AsyncExitStack()
        self.observations: dict[str, list[Observation]] = {}  # by run
        self.missed = 0  # runs that could not begin in time
        self.broken: list[str] = []  # runs that a bug of ours ended
        self._under_way: dict[str, int] = dict.fromkeys(scenario.regions, 0)
        self._outsides: dict[str, Outside] = {}
        self._engines: list[tuple[str, Engine]] = []
        self._starting: set[asyncio.Task[None]] = set()
        self.plans: dict[str, Plan] = {region: whole(self._plan(region)) for region in scenario.regions}
        self.stays: dict[str, str] = {}  # region → run id of the audience that stays
        for region in scenario.regions if wanted.stay else ():
            plan = staying(self._plan(region), lasts + _SPARE)
            if plan is not None:
                self.stays[region] = plan.run_id
                self._outsides[region] = self._outside(region)
                self._engines.append((region, self._engine(plan, self._outsides[region])))

    async def __aenter__(self) -> Traffic:
        """Raises ConfigError where a secret is missing, before the first socket."""
        for plan in self.plans.values():
            self._engine(plan, Outside()).vars.load_secrets()
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            tasks = [group.create_task(self._run(engine), name=f"audience of {region}") for region, engine in self._engines]
            if self._wanted.starts is not None:
                for number, region in enumerate(self._scenario.regions):
                    tasks.append(group.create_task(self._starts(region, number, group), name=f"starts in {region}"))
            stack.callback(self._end, tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Every run is ended as planned and cleaned up after; within the bounds of each."""
        await self._stack.aclose()

    def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for outside in self._outsides.values():
            outside.release()
        for region, task in zip(self._outsides, tasks, strict=False):
            if not self._outsides[region].held.is_set():
                task.cancel()
        for task in (*tasks[len(self._outsides) :], *self._starting):
            task.cancel()

    # -- what it has seen

    @property
    def arrived(self) -> Told:
        """Whether everybody who is to stay is there."""
        if gone := [region for region, outside in self._outsides.items() if outside.over]:
            return Told(False, f"the audience of {', '.join(gone)} could not begin, or has gone")
        if missing := [region for region, outside in self._outsides.items() if not outside.held.is_set()]:
            return Told(None, f"the audience of {', '.join(missing)} is not there yet")
        return Told(True)

    def everything(self) -> list[Observation]:
        return [fact for facts in self.observations.values() for fact in facts]

    # -- what a fault tells those who stay

    def cut_began(self, fault: str) -> None:
        for outside in self._outsides.values():
            outside.cut_began(fault)

    def restored(self, fault: str, at: int, since: int | None = None) -> None:
        for outside in self._outsides.values():
            outside.restored(fault, at, since)

    # -- faults.base.Clients

    def paths(self, who: str) -> Sequence[Path]:
        return [path for outside in self._there for path in outside.paths(who)]

    def arriving(self, token: str, who: str, act: Callable[[Path], object] | None) -> None:
        if act is None:
            self._arriving.acts.pop(token, None)
        else:
            self._arriving.acts[token] = who, act

    def playing(self, who: str) -> int:
        return sum(outside.playing(who) for outside in self._there)

    async def depart(self, who: str) -> int:
        return sum(outside.depart(who) for outside in self._there)

    def away(self, who: str) -> int:
        return sum(outside.away(who) for outside in self._there)

    async def come_back(self, who: str) -> int:
        return sum(outside.come_back(who) for outside in self._there)

    async def join(self, count: int, within: int) -> int:
        """Spread over the regions."""
        there = self._there
        shares = [count * (i + 1) // len(there) - count * i // len(there) for i in range(len(there))]
        return sum(outside.join(share, within) for outside, share in zip(there, shares, strict=True))

    def joined(self) -> int:
        return sum(outside.joined() for outside in self._there)

    async def leave(self) -> None:
        for outside in self._there:
            await outside.leave()

    @property
    def _there(self) -> list[Outside]:
        """Those whom a fault may touch."""
        return [outside for region, outside in self._outsides.items() if region in self._regions]

    # -- runs

    def _plan(self, region: str) -> Plan:
        ids = new_run_ids(self._given.clock.wall().unix_ns // 1_000_000, random.SystemRandom())
        return make_plan(self._scenario, region, self._rng.getrandbits(32), ids, mode=MODE)

    def _outside(self, region: str) -> Outside:
        return Outside(links=self._links, on_path=self._arriving.on_path if region in self._regions else None)

    def _engine(self, plan: Plan, outside: Outside) -> Engine:
        facts: list[Observation] = []

        def put(fact: Observation) -> None:
            if not facts:
                self.observations[plan.run_id] = facts
            facts.append(fact)
            self._put(fact)

        given = self._given
        return Engine(
            plan, clock=given.clock, put=put, table=given.table, state=given.state, redactor=given.redactor,
            bounds=given.bounds, outside=outside,
        )  # fmt: skip

    async def _run(self, engine: Engine) -> None:
        """A run, which never takes the drill with it."""
        try:
            await engine.run()
        except ConfigError as error:  # a secret that is gone since the drill began
            self.broken.append(str(error))
        except Exception as bug:
            _log.exception("a run of the drill broke; what it measured is kept")
            self.broken.append(f"{type(bug).__name__}: {bug}")

    async def _starts(self, region: str, number: int, group: asyncio.TaskGroup) -> None:
        assert self._wanted.starts is not None
        every, most = self._wanted.starts.every, self._wanted.starts.most
        due = self._given.clock.now() + every * number // len(self._scenario.regions)
        while True:
            await asyncio.sleep(max(0, due - self._given.clock.now()) / NS)
            due += every
            if self._under_way[region] >= most:
                self.missed += 1
                continue
            task = group.create_task(self._start(region), name=f"a start in {region}")
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, region: str) -> None:
        self._under_way[region] += 1
        try:
            await self._run(self._engine(whole(self._plan(region)), self._outside(region)))
        finally:
            self._under_way[region] -= 1


def whole(plan: Plan) -> Plan:
    """The journey without its own cuts."""
    return replace(plan, journey=tuple(step for step in plan.journey if not isinstance(step, CutStep)))


def staying(plan: Plan, lasts: int) -> Plan | None:
    """The journey up to its last view step, then held open. None where nobody publishes or views in it."""
    last = max((i for i, step in enumerate(plan.journey) if isinstance(step, PublishStep | ViewStep)), default=None)
    if last is None:
        return None
    journey = [step for step in plan.journey[: last + 1] if not isinstance(step, CutStep)]
    return replace(plan, journey=(*journey, HoldStep(name=HOLD)), run_deadline=lasts)
