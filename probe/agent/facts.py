"""A run's facts as they come: into the metrics at once, and kept for its verdict, its report and its trace.

A run that tells without end must not take the agent's memory: beyond a bound what is told each second is left out of the report,
and counted. What began and ended, and how, is kept far beyond it: sums and verdict stand on that.
"""

from __future__ import annotations

from probe.agent.job import CRASHED, Ended
from probe.export.prometheus import MetricsSink
from probe.model.observation import AnswerBegan, Delivery, Freeze, HealthSample, Note, Observation, RequestDone, RunEnded, Window
from probe.model.outcome import Aborted, Cancelled

MOST = 50_000
_PLENTIFUL = (Window, Freeze, HealthSample, RequestDone, AnswerBegan, Delivery, Note)


class Facts:
    """Of one run; `metrics` see them all."""

    def __init__(self, metrics: MetricsSink, most: int = MOST) -> None:
        self.kept: list[Observation] = []
        self._metrics, self._most = metrics, most

    def put(self, fact: Observation) -> None:
        self._metrics.put(fact)
        room = self._most if isinstance(fact, _PLENTIFUL) else 2 * self._most
        if len(self.kept) < room or isinstance(fact, RunEnded):
            self.kept.append(fact)
        else:
            self._metrics.count_dropped("report")

    def ended(self) -> Ended:
        """How it ended, where nothing else says it: a run that was told to end has ended by then, or has been killed."""
        last = self.kept[-1] if self.kept else None
        outcome = last.outcome if isinstance(last, RunEnded) else Cancelled()
        told = outcome.detail if isinstance(outcome, Aborted) else ""
        return Ended(outcome=outcome, crashed=told.removeprefix(CRASHED) if told.startswith(CRASHED) else "")
