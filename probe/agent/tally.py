"""A run's facts on their way through the agent: whole at the end, whatever became of the worker.

Whoever folds them finds one beginning and one end. What a dead worker could not say is said here, and it says so: an outcome
of `aborted`, which is never the platform's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from probe.agent.pipe import Garbled
from probe.model.clock import Clock
from probe.model.ids import span_id, trace_id
from probe.model.observation import Observation, RunBegan, RunEnded
from probe.model.outcome import Outcome
from probe.plan import Plan
from probe.version import VERSION


@dataclass(slots=True)
class Tally:
    """`ended` is the outcome that the facts tell, None before the last of them."""

    plan: Plan
    sink: Callable[[Observation], None]
    clock: Clock
    ended: Outcome | None = None
    _last: int = 0

    def put(self, fact: Observation) -> None:
        """Raises Garbled for a fact that cannot be of this run."""
        if fact.run != self.plan.run_id or fact.seq <= self._last or self.ended is not None:
            raise Garbled("a fact out of place")
        if isinstance(fact, RunBegan) is not (self._last == 0):
            raise Garbled("a run begins once, and first")
        self._last = fact.seq
        if isinstance(fact, RunEnded):
            self.ended = fact.outcome
        self.sink(fact)

    def end(self, outcome: Outcome) -> None:
        """No more facts come. Where the run has not said that it ended, it ended so."""
        if self.ended is not None:
            return
        if not self._last:
            self.put(self._began())
        self.put(RunEnded(run=self.plan.run_id, seq=self._last + 1, at=self.clock.now(), outcome=outcome))

    def _began(self) -> RunBegan:
        plan, at = self.plan, self.clock.now()
        wall = self.clock.wall(at)
        return RunBegan(
            run=plan.run_id,
            seq=1,
            at=at,
            scenario=plan.scenario,
            mode=plan.mode,
            seed=plan.seed,
            publish_region=plan.publish_region,
            region=plan.region,
            run_number=plan.run_number,
            trace_id=trace_id(plan.run_number, plan.trace_low),
            span_id=span_id(random.SystemRandom()),
            wall_unix_ns=wall.unix_ns,
            wall_error_ns=wall.error_ns,
            target=plan.platform_url,
            probe_version=VERSION,
        )
