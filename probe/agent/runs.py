"""A run from its job to its records: begun in the store, made by a worker, its facts in metrics as they come, judged, recorded,
its trace handed on.

Whatever becomes of a run, it is counted once: by its outcomes where a worker lived to tell them, as aborted where it did not.
An attempt whose worker died belongs to nobody's ratio. A bug of ours that keeps a run from being judged costs its verdict, not
its sums.

Runs are judged one at a time: each is CPU in a thread beside a loop that is to be on time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from probe.agent import slim
from probe.agent.conclude import Concluded, conclude, lost, unjudged
from probe.agent.facts import Facts
from probe.agent.figures import crash_kind
from probe.agent.handed import Handed
from probe.agent.job import CRASHED, Ended, Job
from probe.agent.tally import Tally
from probe.clock import SystemClock
from probe.export.prometheus import MetricsSink
from probe.export.spans import Span
from probe.model.clock import Wall
from probe.model.observation import Observation
from probe.model.outcome import Aborted, Cancelled
from probe.net.redact import Redactor
from probe.plan import Plan
from probe.run import logs
from probe.run.judged import count
from probe.store.records import Record, RunBegun
from probe.version import VERSION

_TOGETHER = 128  # facts taken in at once
_log = logging.getLogger(__name__)


class Workers(Protocol):
    """Who makes runs."""

    async def run(self, job: Job, put: Callable[[Observation], None]) -> Ended: ...


class Recorder(Protocol):
    """Who keeps records."""

    def put(self, record: Record) -> bool: ...


class Tracer(Protocol):
    """Who sends traces; `keep`: whatever the sampling says."""

    def traces(self, spans: Sequence[Span], keep: bool) -> None: ...


class Runs:
    """Makes runs, any number at once; `running` counts those under way by scenario."""

    def __init__(
        self,
        agent: str,
        workers: Workers,
        metrics: MetricsSink,
        store: Recorder,
        tracer: Tracer,
        clock: SystemClock,
        redactor: Redactor,
        hand: Callable[[Handed], None] | None = None,
    ) -> None:
        """`hand`: who is given each run besides, in a thread; it may raise OSError."""
        self._agent, self._hand = agent, hand
        self._workers, self._metrics, self._store, self._tracer = workers, metrics, store, tracer
        self._clock, self._redactor = clock, redactor
        self._judging = asyncio.Lock()
        self.running: Counter[str] = Counter()

    async def run(self, job: Job, metrics: MetricsSink | None = None) -> Concluded | None:
        """None where the run came to nothing that can be judged. `metrics`: where it is counted instead. A cancellation ends the
        run as planned and is raised again once all of it is recorded."""
        plan, metrics = job.plan, metrics or self._metrics
        facts = Facts(metrics)
        # By the calendar as it is now, then by what has passed: a clock stepped meanwhile makes no run end before it began.
        began, began_unix = self._clock.now(), self._clock.system()
        self._under_way(plan, +1)
        try:
            self._store.put(self._begun(job, began_unix))
            ended, interrupted = await self._made(job, facts)
            over = self._over(plan, facts, ended, metrics, lambda: began_unix + self._clock.now() - began)
            if self._hand is not None:
                over = self._handing(over, job, facts, ended, began_unix, began)
            return await _undisturbed(over, interrupted)
        finally:
            self._under_way(plan, -1)

    async def take(self, job: Job, handed: Handed) -> Concluded | None:
        """A run that was made elsewhere, as if it had been made here; `job` is of its plan."""
        facts = Facts(self._metrics)
        for number, fact in enumerate(handed.facts):
            facts.put(fact)
            if number % _TOGETHER == 0:
                await asyncio.sleep(0)  # others are on this loop
        self._store.put(replace(self._begun(job, handed.began), agent=handed.agent))
        return await self._over(job.plan, facts, handed.ended, self._metrics, lambda: handed.over)

    async def _handing(
        self, over: Coroutine[Any, Any, Concluded | None], job: Job, facts: Facts, ended: Ended, began_unix: int, began: int
    ) -> Concluded | None:
        concluded = await over
        now = began_unix + self._clock.now() - began
        handed = Handed(
            agent=self._agent, schedule=job.schedule, began=began_unix, over=now, ended=ended, facts=tuple(facts.kept)
        )
        assert self._hand is not None
        try:
            await asyncio.to_thread(self._hand, handed)
        except OSError as error:
            _log.error("run %s cannot be handed over: %s", job.plan.run_id, error.strerror, extra=logs.about(job.plan))
        return concluded

    async def _made(self, job: Job, facts: Facts) -> tuple[Ended, asyncio.CancelledError | None]:
        """How it ended, and the cancellation that ended it. Whatever happened, all that began in it has ended."""
        tally = Tally(job.plan, facts.put, self._clock)
        try:
            ended = await self._workers.run(job, tally.put)
            tally.end(ended.outcome)
            return ended, None
        except asyncio.CancelledError as error:
            tally.end(Cancelled())
            return facts.ended(), error
        except Exception:
            _log.exception("run %s could not be seen through", job.plan.run_id)
            tally.end(Aborted(f"{CRASHED}lost"))
            return facts.ended(), None

    async def _over(
        self, plan: Plan, facts: Facts, ended: Ended, metrics: MetricsSink, now: Callable[[], int]
    ) -> Concluded | None:
        if ended.crashed:
            self._metrics.figures.add("self_worker_crashes_total", {"kind": crash_kind(ended.crashed)})
        async with self._judging:
            concluded = await asyncio.to_thread(self._concluded, plan, facts.kept, ended, now())
        if concluded is None:
            metrics.count_unjudged(plan)
            return None
        count(metrics, concluded.result, concluded.judgement)
        self._tracer.traces(concluded.spans, concluded.notable)
        _log.info("%s: %s %s", plan.scenario, concluded.record.verdict, concluded.record.cause, extra=logs.about(plan))
        return concluded

    def _concluded(self, plan: Plan, facts: Sequence[Observation], ended: Ended, now: int) -> Concluded | None:
        """In a thread: judging, rendering and compressing hold no loop."""
        at = Wall(now, self._clock.wall().error_ns)
        concluded = None
        for how in (conclude, unjudged):
            try:
                concluded = how(plan, facts, ended, at, self._redactor)
                break
            except Exception:
                _log.exception("run %s could not be judged", plan.run_id)
        self._store.put(lost(plan, ended, now) if concluded is None else concluded.record)
        slim.trim()
        return concluded

    def _under_way(self, plan: Plan, more: int) -> None:
        self.running[plan.scenario] += more
        self._metrics.figures.set("self_runs_in_flight", {"scenario": plan.scenario}, self.running[plan.scenario])

    def _begun(self, job: Job, now: int) -> RunBegun:
        plan = job.plan
        return RunBegun(
            run_id=plan.run_id,
            agent=self._agent,
            schedule=job.schedule,
            scenario=plan.scenario,
            mode=plan.mode,
            publish_region=plan.publish_region,
            region=plan.region,
            target=plan.platform_url,
            seed=plan.seed,
            run_number=plan.run_number,
            trace_id=plan.trace_id,
            due_ns=job.due,
            began_ns=now,
            probe_version=VERSION,
        )


async def _undisturbed(
    over: Coroutine[Any, Any, Concluded | None], interrupted: asyncio.CancelledError | None
) -> Concluded | None:
    """What it comes to; a cancellation, this one or one that comes meanwhile, goes on its way only then."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(over)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                interrupted = error
    if interrupted is not None:
        raise interrupted
    return task.result()
