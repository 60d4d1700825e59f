"""One drill, whole: prepared, leased, written down, guarded, played, measured, recorded.

What is opened here is closed here, in the order that keeps a fault from being left: the watchdog is awake before traffic begins
and goes last, the ledger is closed when everything that could break something is over. Nothing is touched before the runner
(runner.py) has seen a steady state.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from probe.clock import BootClock, SystemClock
from probe.drill import announcing
from probe.drill.core.compared import compared
from probe.drill.core.facts import DrillBegan, DrillEnded, DrillFact, to_json
from probe.drill.core.file import FaultUse
from probe.drill.core.measure import measure
from probe.drill.core.policy import Own, PolicyFile
from probe.drill.core.readings import Readings
from probe.drill.core.score import CostScore, Score
from probe.drill.guard import Guard, guarded
from probe.drill.lease import leased
from probe.drill.ledger import FOLDER, Ledger
from probe.drill.load import Loaded
from probe.drill.prepare import Ready, prepared, targets
from probe.drill.recording import Recording, recording
from probe.drill.runner import INJECT_WITHIN, SPARE, Ended, Job, Runner
from probe.drill.sources import Sources
from probe.drill.traffic import Surroundings, Traffic
from probe.drill.undoing import BOUND, Bound
from probe.drill.watching import Watching
from probe.drivers.table import table
from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.model.ids import uuid7
from probe.model.observation import Observation
from probe.net.redact import Redactor
from probe.run.health import Bounds
from probe.version import VERSION

_log = logging.getLogger(__name__)
_MARGIN = 60 * NS  # beyond what a drill says it takes: cleaning up, and undoing what does not go at once
_LINKS = frozenset({"link", "publisher-storm"})  # kinds of faults that impair the paths of our own clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A drill, and everything it is carried out with. `store`: URL of the shared store, None: no leases; `bounds`: beyond which
    the probe is unwell; `before`: what to compare with, instead of its last run in the store; `told` is called as it goes, with
    the runner and its traffic."""

    loaded: Loaded
    policy: PolicyFile
    own: Own
    clock: SystemClock
    redactor: Redactor
    state: Path
    out: Path
    store: str | None = None
    sources: Sources = Sources()  # noqa: RUF009  # frozen
    seed: int | None = None
    before: Score | None = None
    bounds: Bounds | None = None
    bound: Bound = BOUND
    boot: BootClock = field(default_factory=BootClock)
    told: Callable[[Runner, Traffic], None] = lambda *_: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conducted:
    """What came of it. `score` None: it could not be measured, by a bug of ours; `broken`: bugs of ours on the way."""

    drill: str
    run: str
    ended: Ended
    facts: Sequence[DrillFact]
    traffic: Traffic
    ready: Sequence[Ready]
    score: Score | None
    cost: CostScore
    broken: tuple[str, ...] = ()


async def conduct(asked: Asked) -> Conducted:
    """Carry it out. Raises ConfigError, LeaseTaken, StoreError or NoWatchdog before anything is touched."""
    drill, clock = asked.loaded.drill, asked.clock
    run = uuid7(clock.wall().unix_ns // 1_000_000, random.SystemRandom())
    began, cpu = clock.now(), _cpu()
    ready = await ready_for(asked)
    hit = targets(ready)
    async with AsyncExitStack() as stack:
        lasts = drill.length + drill.steady.within + _MARGIN  # it is given that long to be steady again
        recorded: Recording | None = None
        if asked.store is not None:
            await stack.enter_async_context(leased(asked.store, hit, drill=drill.drill, run=run, lasts=lasts))
            recorded = await stack.enter_async_context(recording(asked.store, clock, asked.state, drill, run))
        ledger = stack.enter_context(
            await asyncio.to_thread(
                partial(
                    Ledger.opened, asked.state / FOLDER, drill=drill.drill, run=run, redactor=asked.redactor, clock=clock,
                    boot=asked.boot,
                )
            )
        )  # fmt: skip
        guard = await stack.enter_async_context(guarded(ledger, kinds=[one.use.fault for one in ready]))
        log = stack.enter_context(_Log.opened(asked.out / "drill.jsonl", asked.redactor, recorded))
        log.put(
            DrillBegan(
                at=clock.now(), drill=drill.drill, run=run, owner=drill.owner, scenario=asked.loaded.scenario.name,
                regions=drill.regions, targets=hit, wall_unix_ns=clock.wall().unix_ns, probe_version=VERSION,
            )
        )  # fmt: skip
        ended, traffic = await _played(asked, run, ready, ledger, guard, log, lasts)
        log.put(DrillEnded(at=clock.now(), verdict=ended.verdict, reason=ended.reason, wall_unix_ns=clock.wall().unix_ns))
        cost = _cost(clock.now() - began, _cpu() - cpu + _cpu_of(guard.pid))
        if failed := await announcing.ended(drill, run, ended.verdict, ended.reason, asked.redactor):
            _log.warning("how the drill ended could not be told: %s", failed)
        before = asked.before or (await recorded.before() if recorded is not None else None)
        about = {"cost": cost, "ledger": f"open: {', '.join(ended.left)}" if ended.left else "nothing open"}
        score, broken = await _measured(asked, ready, traffic, log.facts, about, before)
        if recorded is not None:
            recorded.ended(ended.verdict, ended.reason, score)
    return Conducted(
        drill=drill.drill,
        run=run, ended=ended, facts=tuple(log.facts), traffic=traffic, ready=ready, score=score, cost=cost,
        broken=(*traffic.broken, *broken),
    )  # fmt: skip


async def ready_for(asked: Asked) -> tuple[Ready, ...]:
    """Every fault prepared and allowed; nothing is touched. Raises ConfigError."""
    drill = asked.loaded.drill

    def expires(use: FaultUse) -> int:
        return asked.boot.now() + drill.steady.within + use.until + INJECT_WITHIN + SPARE

    return await prepared(asked.loaded, asked.policy, clock=asked.clock, expires=expires, own=asked.own, redactor=asked.redactor)


async def _played(
    asked: Asked, run: str, ready: Sequence[Ready], ledger: Ledger, guard: Guard, log: _Log, lasts: int
) -> tuple[Ended, Traffic]:
    drill, scenario = asked.loaded.drill, asked.loaded.scenario
    seen: list[Callable[[Observation], None]] = []

    def put(fact: Observation) -> None:
        for saw in seen:
            saw(fact)

    given = Surroundings(clock=asked.clock, table=table(), state=asked.state, redactor=asked.redactor, bounds=asked.bounds)
    links = any(one.use.fault in _LINKS for one in ready)
    traffic = Traffic(
        scenario, drill.traffic, lasts=lasts, given=given, put=put, links=links, regions=drill.regions, seed=asked.seed
    )
    readings = Readings(stays=traffic.stays.values(), min_n=drill.min_n)
    watching = Watching(
        drill, traffic.plans, clock=asked.clock, put=log.put, redactor=asked.redactor, sources=asked.sources,
        regions=len(scenario.regions), stays=traffic.stays.values(),
    )  # fmt: skip
    seen += [readings.saw, watching.saw]
    async with watching, traffic:
        job = Job(
            drill=drill,
            regions=scenario.regions,
            faults=ready,
            ledger=ledger,
            guard=guard,
            traffic=traffic,
            readings=readings,
            outlook=watching,
            clock=asked.clock,
            boot=asked.boot,
            redactor=asked.redactor,
            announce=partial(announcing.begins, drill, run, targets(ready), asked.redactor),
            put=log.put,
            told=lambda runner: asked.told(runner, traffic),
            bound=asked.bound,
        )
        ended = await Runner(job).run()
    return ended, traffic


async def _measured(
    asked: Asked,
    ready: Sequence[Ready],
    traffic: Traffic,
    facts: Sequence[DrillFact],
    about: Mapping[str, object],
    before: Score | None,
) -> tuple[Score | None, tuple[str, ...]]:
    """A bug of ours here costs the score, never the verdict. `about`: fields of it that are not measured of the facts."""
    try:
        score = await asyncio.to_thread(
            measure, facts, traffic.everything(), asked.loaded.drill, plans=traffic.plans, stays=tuple(traffic.stays.values()),
            prepared={one.use.name: one.prepared for one in ready}, regions=len(asked.loaded.scenario.regions),
        )  # fmt: skip
        score = score.model_copy(update=about)
        if before is not None:
            score = score.model_copy(update={"compared": await asyncio.to_thread(compared, score, before)})
    except Exception as bug:
        _log.exception("the drill could not be measured")
        return None, (f"{type(bug).__name__}: {bug}",)
    return score, ()


@dataclass(slots=True)
class _Log:
    """The facts of a drill, in memory and line by line in a file, so that they outlive us."""

    file: IO[str]
    redactor: Redactor
    recorded: Recording | None = None
    facts: list[DrillFact] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path, redactor: Redactor, recorded: Recording | None) -> _Log:
        """Raises ConfigError where nothing can be written there."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(path.open("w", encoding="utf-8"), redactor, recorded)
        except OSError as error:
            raise ConfigError([Located(str(path), 0, 0, "--out", f"cannot be written: {error.strerror}")]) from error

    def put(self, fact: DrillFact) -> None:
        self.facts.append(fact)
        try:
            if self.recorded is not None:
                self.recorded.put(fact)
            self.file.write(self.redactor.redact(json.dumps(to_json(fact))) + "\n")
            self.file.flush()
        except Exception as error:  # a disk that fills up, or a bug here, must not keep a fault in place
            _log.error("a fact of the drill could not be written: %s: %s", type(error).__name__, error)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _cpu() -> float:
    """Seconds that this process and its children that ended have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _cpu_of(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    except psutil.Error:
        return 0.0


def _cost(took: int, cpu: float) -> CostScore:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return CostScore(seconds=took / NS, cpu_seconds=cpu, memory_bytes=most, processors=os.cpu_count() or 1)
