"""A worker: one process, forked warm, for one run.

    READY →            it is warm and waits
         ← JOB         the plan; secrets are resolved here, and nowhere else
    FACTS → …          as they are made, 50 ms together
    STARTED →          the CPU it took until the first step
         ← CANCEL      end as planned: sessions leave, `finally` steps run, the ledger is undone
    OVER →             the outcome; then it is gone

It ends at once when the agent does: nobody would hear what it measures, and what it leaves on the platform stands in the
ledger for the next run. A run of its own process means that nothing grows from run to run, that the wall clock's anchor is
as old as the run, and that what a codec breaks is broken for one run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from typing import NoReturn

import uvloop

from probe.agent.cleaning import Cleaner
from probe.agent.job import Job
from probe.agent.pipe import BATCH, Kind, facts_frames, frame, outcome_frame, read, read_job, started_frame
from probe.clock import SystemClock
from probe.drivers.table import table
from probe.errors import ConfigError
from probe.model.observation import Observation, StepBegan
from probe.model.outcome import Aborted, Cancelled, Outcome
from probe.run import logs
from probe.run.engine import Engine

BROKE, ORPHANED = 70, 71  # exit codes: a bug before or after the run; the agent is gone
_TOGETHER = 0.05  # s
_log = logging.getLogger(__name__)


def work(agent: socket.socket, words: int) -> NoReturn:
    """What a forked process does with the rest of its life. `words`: the file for its last ones. Leaves without the
    interpreter's tidying: it would wait for threads, and touch every page that is shared."""
    try:
        logs.set_up(Cleaner(), verbose=False, fields={})
        table()  # other distributions' drivers are loaded now: they may bring threads along
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(agent))
    except BaseException as error:
        _log.exception("a worker broke outside of its run")
        os.write(words, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
    finally:
        os._exit(BROKE)


async def _serve(agent: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=agent)
    writer.write(frame(Kind.READY))
    order = await read(reader)
    if order is not None:  # else it was never needed
        await _run(read_job(order[1]), reader, writer)
    os._exit(0)


async def _run(job: Job, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    plan, cleaner = job.plan, Cleaner()
    logs.set_up(cleaner, verbose=False, fields=logs.about(plan))
    shipping = _Shipping(writer, cleaner)
    engine = Engine(plan, clock=SystemClock(), put=shipping.put, table=table(), state=job.state, redactor=cleaner)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_outcome(engine), name="run")
        obeying = group.create_task(_obey(reader, running), name="orders")
        await asyncio.wait({running})
        obeying.cancel()
    shipping.flush()
    outcome: Outcome = Cancelled() if running.cancelled() else running.result()  # cancelled: before it began
    writer.write(outcome_frame(cleaner.value(outcome)))
    writer.close()
    await writer.wait_closed()


async def _outcome(engine: Engine) -> Outcome:
    try:
        return await engine.run()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return Cancelled()
    except ConfigError as error:
        return Aborted(str(error))
    except Exception as bug:
        _log.exception("the run broke; what it measured is kept")
        return Aborted(f"{type(bug).__name__}: {bug}")


async def _obey(reader: asyncio.StreamReader, running: asyncio.Task[Outcome]) -> None:
    while (order := await read(reader)) is not None:
        if order[0] is Kind.CANCEL:
            running.cancel()
    os._exit(ORPHANED)


class _Shipping:
    """Facts on their way to the agent. What waits to be sent is bounded by the worker's memory cap alone: a fact that was
    made is not thrown away because the agent is busy."""

    def __init__(self, writer: asyncio.StreamWriter, cleaner: Cleaner) -> None:
        self._writer, self._cleaner = writer, cleaner
        self._waiting: list[Observation] = []
        self._timer: asyncio.TimerHandle | None = None
        self._started = False

    def put(self, fact: Observation) -> None:
        if not self._started and isinstance(fact, StepBegan):
            self._started = True
            self._writer.write(started_frame(_cpu()))
        self._waiting.append(fact)
        if len(self._waiting) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        facts, self._waiting = self._waiting, []
        for one in facts_frames([self._cleaner.fact(fact) for fact in facts]):
            self._writer.write(one)


def _cpu() -> float:
    """Seconds of CPU that this process has used since it was forked, its children's included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
