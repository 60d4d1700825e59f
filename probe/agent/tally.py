"""A run's facts on their way through the agent: whole at the end, whatever became of the worker.

Whoever folds them finds one beginning and one end of the run, of each step and of each session. What a dead worker could not
say is said here: sessions and steps that were under way are `aborted`, which is never the platform's, and drop out of ratios
even where a first frame had been seen; steps that it never came to are skipped, as the engine tells it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from probe.agent.pipe import Garbled
from probe.model.clock import Clock
from probe.model.ids import span_id
from probe.model.observation import Observation, RunBegan, RunEnded, SessionBegan, SessionEnded, StepBegan, StepDone
from probe.model.outcome import Outcome, Skipped
from probe.plan import Plan, Step
from probe.run.context import began


@dataclass(slots=True)
class Tally:
    """`ended` is the outcome that the facts tell, None before the last of them."""

    plan: Plan
    sink: Callable[[Observation], None]
    clock: Clock
    ended: Outcome | None = None
    _last: int = 0
    _sessions: dict[str, None] = field(default_factory=dict)  # under way
    _steps: dict[str, int | None] = field(default_factory=dict)  # when each began; None once it is done

    def put(self, fact: Observation) -> None:
        """Raises Garbled for a fact that cannot be of this run."""
        if fact.run != self.plan.run_id or fact.seq <= self._last or self.ended is not None:
            raise Garbled("a fact out of place")
        if isinstance(fact, RunBegan) is not (self._last == 0):
            raise Garbled("a run begins once, and first")
        self._last = fact.seq
        match fact:
            case RunEnded():
                self.ended = fact.outcome
            case SessionBegan():
                self._sessions[fact.session] = None
            case SessionEnded():
                self._sessions.pop(fact.session, None)
            case StepBegan():
                self._steps[fact.step] = fact.at
            case StepDone():
                self._steps[fact.step] = None
            case _:
                pass
        self.sink(fact)

    def end(self, outcome: Outcome) -> None:
        """No more facts come. Where the run has not said that it ended, it ended so, and so did what was under way."""
        if self.ended is not None:
            return
        if not self._last:
            self.put(self._began())
        for session in list(self._sessions):
            self._say(SessionEnded(session=session, outcome=outcome))
        for final, steps in ((False, self.plan.journey), (True, self.plan.final)):
            for step in steps:
                if step.name not in self._steps or self._steps[step.name] is not None:
                    self._say(self._done(step, outcome, final))
        self._say(RunEnded(outcome=outcome))

    def _done(self, step: Step, outcome: Outcome, final: bool) -> StepDone:
        began = self._steps.get(step.name)
        return StepDone(
            session=step.name if began is not None else "",
            step=step.name,
            kind=step.kind,
            service=step.service,
            outcome=Skipped("not_reached") if began is None else outcome,
            took=0 if began is None else self.clock.now() - began,
            optional=step.optional,
            final=final,
        )

    def _say(self, fact: Observation) -> None:
        self.put(replace(fact, run=self.plan.run_id, seq=self._last + 1, at=self.clock.now()))

    def _began(self) -> RunBegan:
        at = self.clock.now()
        fact = began(self.plan, self.clock.wall(at), span_id(random.SystemRandom()))
        return replace(fact, run=self.plan.run_id, seq=1, at=at)
