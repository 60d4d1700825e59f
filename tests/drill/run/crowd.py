"""A drill's traffic without a platform: an audience whose pictures move while it is told so, and runs that end at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from probe.drill.core.conclude import Told
from probe.model.clock import NS, Clock
from probe.model.observation import (
    CutOutcome,
    HealthSample,
    Observation,
    Resumed,
    Role,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StepBegan,
    StepDone,
    Window,
)
from probe.model.outcome import Done, Failed
from probe.model.stage import Phase

STAY = "stay"
_numbers = count(1)


def run_began(run: str, at: int, region: str = "eu") -> RunBegan:
    return RunBegan(
        run=run, at=at, seq=next(_numbers), scenario="s", mode="drill", seed=1, publish_region=region, region=region,
        run_number=1, trace_id="0" * 32, span_id="0" * 16, wall_unix_ns=0, target="http://127.0.0.1", probe_version="0",
    )  # fmt: skip


def session_began(
    run: str, session: str, at: int, *, step: str = "view", role: Role = Role.VIEWER, region: str = "eu"
) -> SessionBegan:
    return SessionBegan(
        run=run, session=session, at=at, seq=next(_numbers), step=step, name=session, role=role, protocol="whep",
        device="default", region=region, publish_region=region, join="mid_stream", verify="code", buffered=False,
        optional=False, span_id="0" * 16,
    )  # fmt: skip


def started(run: str, session: str, at: int) -> SessionStarted:
    return SessionStarted(run=run, session=session, at=at, seq=next(_numbers), took=at)


def window(run: str, session: str, at: int, verified: int = 30) -> Window:
    return Window(run=run, session=session, at=at, seq=next(_numbers), took=NS, decoded=verified, verified=verified)


def health(run: str, at: int, *taints: str) -> HealthSample:
    return HealthSample(run=run, at=at, seq=next(_numbers), took=NS // 2, loop_lag=0.0, taints=taints)


def resumed(run: str, session: str, at: int, outcome: CutOutcome, reconnect: int | None = None) -> Resumed:
    return Resumed(
        run=run, session=session, at=at, seq=next(_numbers), kind="drill", step="f", outcome=outcome, reconnect=reconnect
    )


def whole_run(
    run: str, began: int, ended: int, *, good: bool = True, region: str = "eu", taint: str = ""
) -> Iterator[Observation]:
    """A run of one publisher and one viewer, whose start went well or not."""
    failed = Failed(Phase.FIRST_FRAME, "none")
    yield run_began(run, began, region)
    if taint:
        yield HealthSample(run=run, seq=next(_numbers), at=ended, took=ended - began, loop_lag=1.0, taints=(taint,))
    for name, kind, role in (("publish", "publish", Role.PUBLISHER), ("view", "view", Role.VIEWER)):
        well = good or role is Role.PUBLISHER
        session = f"{run}-{kind}"
        yield StepBegan(run=run, seq=next(_numbers), at=began, session=name, step=name, kind=kind, service="", span_id="")
        yield session_began(run, session, began, step=name, role=role, region=region)
        if well:
            yield SessionStarted(run=run, seq=next(_numbers), at=ended, session=session, took=ended - began)
        yield SessionEnded(
            run=run,
            seq=next(_numbers),
            at=ended,
            session=session,
            outcome=Done() if well else failed,
            ending="planned" if well else "",
        )
        outcome = Done() if well else failed
        yield StepDone(
            run=run,
            seq=next(_numbers),
            at=ended,
            session=name,
            step=name,
            kind=kind,
            service="",
            outcome=outcome,
            took=ended - began,
        )
    yield RunEnded(run=run, seq=next(_numbers), at=ended, outcome=Done() if good else failed)


@dataclass
class Crowd:
    """The runner's traffic. `moving`: whether pictures move; `rooms`: whether rooms start; `taints`: what ails the probe. Comes
    back at once when a fault is restored, unless `returns` says otherwise."""

    clock: Clock
    put: Callable[[Observation], None]
    viewers: int = 4
    every: float = 0.05
    moving: bool = True
    rooms: bool = True
    taints: tuple[str, ...] = ()
    returns: bool = True
    missed: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _runs: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def arrived(self) -> Told:
        return Told(True)

    @property
    def names(self) -> Sequence[str]:
        return [f"v{number}" for number in range(self.viewers)]

    async def __aenter__(self) -> Crowd:
        now = self.clock.now()
        self.put(run_began(STAY, now))
        for name in self.names:
            self.put(session_began(STAY, name, now))
        self._tell()
        self._task = asyncio.create_task(self._play())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _play(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            self._tell()

    def _tell(self) -> None:
        now = self.clock.now()
        self.put(replace(health(STAY, now, *self.taints), took=int(self.every * NS)))
        for name in self.names:
            self.put(window(STAY, name, now, 30 if self.moving else 0))
        for fact in whole_run(f"r{next(self._runs)}", now, now + 1, good=self.rooms, taint=self.taints[0] if self.taints else ""):
            self.put(fact)

    def cut_began(self, fault: str) -> None:
        self.told.append(("cut", fault))

    def restored(self, fault: str, at: int, since: int | None = None) -> None:
        self.told.append(("restored", fault))
        for name in self.names if self.returns else ():
            self.put(resumed(STAY, name, self.clock.now(), CutOutcome.RESTARTED, self.clock.now() - at))

    # -- the rest of faults.base.Clients, which the fake fault may use

    def paths(self, who: str) -> Sequence[Any]:
        return ()

    def arriving(self, token: str, who: str, act: Any) -> None:
        pass

    def playing(self, who: str) -> int:
        return self.viewers if self.moving else 0

    async def depart(self, who: str) -> int:
        self.moving = False
        return self.viewers

    def away(self, who: str) -> int:
        return 0 if self.moving else self.viewers

    async def come_back(self, who: str) -> int:
        self.moving = True
        return self.viewers

    async def join(self, count: int, within: int) -> int:
        return 0

    def joined(self) -> int:
        return 0

    async def leave(self) -> None:
        pass
