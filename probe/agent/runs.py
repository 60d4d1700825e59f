"""A run from its job to its records: begun in the store, made by a worker, its facts in metrics as they come, judged, recorded,
its trace handed on.

Whatever becomes of a run, it is counted once: by its outcomes where a worker lived to tell them, as aborted where it did not.
An attempt whose worker died belongs to nobody's ratio.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from probe.agent.conclude import Concluded, conclude
from probe.agent.job import Ended, Job
from probe.export.prometheus import OBJECTIVES, MetricsSink
from probe.export.spans import Span
from probe.model.clock import Clock
from probe.model.ids import trace_id
from probe.model.observation import Observation
from probe.model.outcome import Cancelled
from probe.model.verdict import Verdict
from probe.net.redact import Redactor
from probe.plan import Plan
from probe.store.records import Record, RunBegun, RunFinished
from probe.version import VERSION

_log = logging.getLogger(__name__)
MOST_FACTS = 200_000  # of one run that are kept for its report; metrics see them all


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
        clock: Clock,
        redactor: Redactor,
    ) -> None:
        self._agent = agent
        self._workers, self._metrics, self._store, self._tracer = workers, metrics, store, tracer
        self._clock, self._redactor = clock, redactor
        self.running: Counter[str] = Counter()

    async def run(self, job: Job, metrics: MetricsSink | None = None) -> Concluded | None:
        """None where the run came to nothing that can be judged. `metrics`: where it is counted instead. A cancellation ends the
        run as planned and is raised again once all of it is recorded."""
        plan, metrics = job.plan, metrics or self._metrics
        self.running[plan.scenario] += 1
        facts: list[Observation] = []

        def put(fact: Observation) -> None:
            metrics.put(fact)
            if len(facts) < MOST_FACTS:
                facts.append(fact)
            else:
                metrics.count_dropped("report")

        self._store.put(self._begun(job))
        try:
            try:
                ended = await self._workers.run(job, put)
            except asyncio.CancelledError:
                await asyncio.shield(self._over(plan, facts, Ended(outcome=Cancelled()), metrics))
                raise
            return await asyncio.shield(self._over(plan, facts, ended, metrics))
        finally:
            self.running[plan.scenario] -= 1

    async def _over(self, plan: Plan, facts: list[Observation], ended: Ended, metrics: MetricsSink) -> Concluded | None:
        about = {"run_id": plan.run_id, "trace_id": trace_id(plan.run_number, plan.trace_low), "region": plan.region}
        if ended.crashed:
            self._metrics.figures.add("self_worker_crashes_total", {"kind": ended.crashed})
        concluded = await asyncio.to_thread(self._concluded, plan, facts, ended)
        if concluded is None:
            metrics.count_unjudged(plan)
            return None
        metrics.count_result(concluded.result, concluded.judgement.result)
        for one in concluded.judgement.objectives:
            metrics.count_objective(concluded.result.began, one.slo, OBJECTIVES[one.outcome], one.protocol)
        self._tracer.traces(concluded.spans, concluded.notable)
        _log.info("%s: %s %s", plan.scenario, concluded.record.verdict, concluded.record.cause, extra=about)
        return concluded

    def _concluded(self, plan: Plan, facts: list[Observation], ended: Ended) -> Concluded | None:
        """In a thread: judging, rendering and compressing hold no loop."""
        concluded = None
        try:
            concluded = conclude(plan, facts, ended, self._clock, self._redactor)
        except Exception:
            _log.exception("run %s could not be judged", plan.run_id)
        lost = RunFinished(
            run_id=plan.run_id,
            state="aborted",
            verdict=Verdict.INCONCLUSIVE.value,
            cause="nothing of it could be judged",
            ended_ns=self._clock.wall().unix_ns,
            crashed=ended.crashed,
        )
        self._store.put(lost if concluded is None else concluded.record)
        return concluded

    def _begun(self, job: Job) -> RunBegun:
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
            trace_id=trace_id(plan.run_number, plan.trace_low),
            due_ns=job.due,
            began_ns=self._clock.wall().unix_ns,
            probe_version=VERSION,
        )
