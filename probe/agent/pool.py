"""Workers, kept warm: each run in a process of its own, so that what breaks in it is broken for one run.

    async with Pool.started(2, recycle=200, grace=20 * NS, clock=clock) as pool:
        ended = await pool.run(job, put)

Chosen: processes forked from one warm process (forkserver.py) before a job is due, one for each run, against long-lived
processes that run many. Measured on two cores with everything imported and used once: a spawned worker has 63 MiB of its own
and takes 1.3 s of CPU to come; a forked one 3.6 MiB and 3 ms, and none while it waits: two and what they are forked from make
71 MiB (anonymous, shared pages counted once). From job to first step it takes 12 ms, 10 of them CPU, and what preparing a
publisher's programme takes. A process that makes one run cannot grow from run to run, and
reads the wall clock anew for each; `recycle` is how many are forked before the process that they come from is replaced,
preferably while nothing runs.

A process that cannot be started is tried again with growing pauses; after five times in a row `trouble` says why, a run is
answered at once instead of waiting, and it is tried on every half minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from probe.agent.forks import Fork, Forks, NotStarted
from probe.agent.job import Ended, Job
from probe.agent.oversight import Oversight
from probe.agent.seed import Seed
from probe.agent.tally import Tally
from probe.model.clock import Clock
from probe.model.observation import Observation
from probe.model.outcome import Aborted, Cancelled
from probe.run import logs

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # s
_TROUBLE = 5  # failures in a row
_READY_WITHIN = 15.0  # s for a job that finds no worker ready
_log = logging.getLogger(__name__)

Put = Callable[[Observation], None]


class Pool:
    """Made by `started`. `trouble`: why there are no workers, empty while there are."""

    def __init__(self, size: int, recycle: int, grace: int, clock: Clock, seed: Seed | None) -> None:
        self._size, self._recycle, self._grace, self._clock = size, recycle, grace, clock
        self._slots = asyncio.Semaphore(size)
        self._seed = seed
        self._forks: Forks | None = None
        self._retired: list[Forks] = []
        self._idle: deque[Fork] = deque()
        self._busy: dict[int, Fork] = {}
        self._wanted, self._news = asyncio.Event(), asyncio.Event()
        self._failures = 0
        self.trouble = ""

    @classmethod
    @asynccontextmanager
    async def started(cls, size: int, recycle: int, grace: int, clock: Clock, seed: Seed | None = None) -> AsyncIterator[Pool]:
        """`size` workers; `recycle` forks of one process; `grace` ns for a cancelled run to end as planned; `seed` of the first
        such process, where `sow` gave one. Entered once a worker is ready, or `trouble` says why none is. Leaving kills what
        still runs."""
        pool = cls(size, recycle, grace, clock, seed)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(pool._keep(), name="workers")
            try:
                while not pool._idle and not pool.trouble:
                    pool._news.clear()
                    await pool._news.wait()
                yield pool
            finally:
                keeping.cancel()
                await pool._close()

    @property
    def ready(self) -> int:
        """Workers that are warm and wait."""
        return len(self._idle)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers: those that run, then those that wait."""
        return tuple(fork.pid for fork in (*self._busy.values(), *self._idle))

    async def run(self, job: Job, put: Put) -> Ended:
        """See a job through; `put` gets every fact, from one RunBegan to one RunEnded, whatever happens to the worker.

        Raises CancelledError only, once the run has ended as planned, or was killed after the grace time."""
        tally = Tally(job.plan, put, self._clock)
        try:
            async with self._slots:
                fork = await self._take()
                if fork is None:
                    outcome = Aborted(f"no worker: {self.trouble or 'none came in time'}")
                    tally.end(outcome)
                    return Ended(outcome=outcome, crashed="start")
                self._busy[fork.pid] = fork
                try:
                    return await self._see_through(Oversight(job, fork, tally, self._clock, self._grace))
                finally:
                    del self._busy[fork.pid]
                    self._wanted.set()
        except asyncio.CancelledError:
            tally.end(Cancelled())  # where it never began
            raise

    async def _see_through(self, oversight: Oversight) -> Ended:
        interrupted: asyncio.CancelledError | None = None
        oversight.begin()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(oversight.run(), name=f"run {oversight.job.plan.run_id}")
            while not running.done():
                try:
                    await asyncio.wait({running})
                except asyncio.CancelledError as error:
                    if interrupted is None:
                        oversight.cancel()
                    interrupted = error
        ended = running.result()
        if ended.crashed:
            _log.error("a worker crashed: %s %s", ended.crashed, oversight.words, extra=logs.about(oversight.job.plan))
        if interrupted is not None:
            raise interrupted
        return ended

    async def _take(self) -> Fork | None:
        """A worker that is ready, None where none comes."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while True:
                    if self._idle:
                        return self._idle.popleft()
                    if self.trouble:
                        return None
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None

    async def _keep(self) -> None:
        """As many ready as there may be."""
        while True:
            while len(self._busy) + self.ready < self._size:
                try:
                    fork = await (await self._source()).fork()
                except NotStarted as error:
                    await self._pause(error)
                    continue
                self._failures, self.trouble = 0, ""
                fork.gone.add_done_callback(partial(self._missing, fork))
                self._idle.append(fork)
                self._news.set()
            await self._renew()
            self._wanted.clear()
            if len(self._busy) + self.ready >= self._size:
                await self._wanted.wait()

    def _missing(self, fork: Fork, _: object) -> None:
        """It died while it waited."""
        if fork in self._idle:
            self._idle.remove(fork)
            fork.close()
            self._wanted.set()

    async def _source(self) -> Forks:
        """Where the next worker comes from."""
        if self._forks is None or self._forks.lost:
            if self._forks is not None:
                self._retired.append(self._forks)
            seed, self._seed = self._seed, None
            self._forks = await Forks.start(seed)
        return self._forks

    async def _renew(self) -> None:
        """A new process where the old one has served its time; workers of the old one still run, or wait."""
        old = self._forks
        if old is not None and old.forked >= self._recycle * (2 if self._busy else 1):
            try:
                self._forks = await Forks.start()
                self._retired.append(old)
                old.retire()
            except NotStarted as error:
                old.forked = 0
                _log.warning("the process that workers come from cannot be replaced, and serves on: %s", error)
        for gone in [gone for gone in self._retired if gone.lost]:
            self._retired.remove(gone)
            await gone.close()

    async def _pause(self, error: NotStarted) -> None:
        self._failures += 1
        _log.warning("no worker, %d times now: %s", self._failures, error)
        if self._failures >= _TROUBLE:
            if not self.trouble:
                _log.error("workers do not start: %s", error)
            self.trouble = str(error)
            self._news.set()
            if self._forks is not None and not self._busy:
                await self._forks.close()  # whatever it has come to: the next try begins anew
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self._failures - 1))
        await asyncio.sleep(pause if self._failures < _TROUBLE else _LONGEST_PAUSE)

    async def _close(self) -> None:
        for fork in (*self._idle, *self._busy.values()):
            fork.close()
        for forks in (self._forks, *self._retired):
            if forks is not None:
                await forks.close()
