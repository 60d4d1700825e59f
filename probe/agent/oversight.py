"""One run seen through from outside: the job goes in, facts come out, and it ends, by itself or not.

A worker ends well when it says its outcome. Every other end is a crash, and has a word: `signal 11` and `exit 3` as the kernel
tells, `memory` and `time` for a cap, `grace` where it was asked to end and did not, `protocol` where what it wrote is no fact,
`lost` where nobody can say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from probe.agent import pipe
from probe.agent.caps import Caps
from probe.agent.forks import Fork, Gone
from probe.agent.job import CRASHED, Ended, Job
from probe.agent.pipe import Garbled, Kind
from probe.agent.tally import Tally
from probe.model.clock import Clock
from probe.model.outcome import Aborted, Outcome

_LEAVES_WITHIN = 2.0  # s, once it has said its outcome, or closed its socket
_KILLED_WITHIN = 5.0
_READS_ON = 1.0  # s for what a dead worker has left in its socket, where something else holds it open


@dataclass(slots=True)
class Oversight:
    """Of one job in one worker. `words`: the last ones of one that crashed."""

    job: Job
    fork: Fork
    tally: Tally
    clock: Clock
    grace: int
    words: str = ""
    _outcome: Outcome | None = None
    _startup: float | None = None
    _garbled: bool = False
    _caps: Caps = field(init=False)

    def __post_init__(self) -> None:
        ends = self.clock.now() + self.job.deadline
        self._caps = Caps(self.fork.pid, self.job.memory, ends, self.clock, ask=self.fork.ask, kill=self.fork.kill)

    def begin(self) -> None:
        """Hand over the job."""
        self.fork.writer.write(pipe.job_frame(self.job))

    def cancel(self) -> None:
        """End as planned, within the grace time."""
        self.fork.writer.write(pipe.frame(Kind.CANCEL))
        self._caps.end_by(self.clock.now() + self.grace, "grace")

    async def run(self) -> Ended:
        """To the end. To be cancelled by `cancel` only."""
        try:
            async with asyncio.TaskGroup() as group:
                capping = group.create_task(self._caps.watch(), name="caps")
                await self._hear_out()
                gone = await self._see_off()
                capping.cancel()
        finally:
            self.fork.kill()
            self.fork.close()
        return self._ended(gone)

    async def _hear_out(self) -> None:
        """Everything that it says."""
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear(), name="facts")
            either: set[asyncio.Future[Any]] = {hearing, self.fork.gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({hearing}, timeout=_READS_ON)
            hearing.cancel()

    async def _hear(self) -> None:
        try:
            while self._outcome is None and (heard := await pipe.read(self.fork.reader)) is not None:
                match heard:
                    case Kind.FACTS, payload:
                        for fact in pipe.read_facts(payload):
                            self.tally.put(fact)
                    case Kind.STARTED, payload:
                        self._startup = pipe.read_started(payload)
                    case Kind.OVER, payload:
                        self._outcome = pipe.read_outcome(payload)
                    case kind, _:
                        raise Garbled(f"a worker does not say {kind.name}")
                await asyncio.sleep(0)  # a frame at a time: others are on this loop
        except Garbled:
            self._garbled = True
            self.fork.kill()

    async def _see_off(self) -> Gone:
        """It has said all: it goes, or is made to."""
        gone = self.fork.gone
        await asyncio.wait({gone}, timeout=_LEAVES_WITHIN)
        if not gone.done():
            self.fork.kill()
            await asyncio.wait({gone}, timeout=_KILLED_WITHIN)
        return gone.result() if gone.done() else Gone("lost")

    def _ended(self, gone: Gone) -> Ended:
        crashed = ""
        if self._outcome is None:
            crashed = "protocol" if self._garbled else self._caps.broken or gone.how
            self.words = gone.words
        outcome = self._outcome or self.tally.ended or Aborted(f"{CRASHED}{crashed}")
        self.tally.end(outcome)
        peak = max((known for known in (gone.peak, self._caps.peak) if known is not None), default=None)
        return Ended(outcome=outcome, crashed=crashed, cpu=gone.cpu, startup=self._startup, peak=peak)
