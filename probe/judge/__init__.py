"""Observations → result → verdict. Pure."""

from probe.judge.cause import Cause
from probe.judge.fold import fold
from probe.judge.objectives import ObjectiveRun, objective_runs
from probe.judge.sums import Sums, sums
from probe.judge.verdict import Judgement, judge

__all__ = ["Cause", "Judgement", "ObjectiveRun", "Sums", "fold", "judge", "objective_runs", "sums"]
