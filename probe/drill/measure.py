"""What a drill showed: its facts and everything its runs observed → a Score. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from probe.drill.facts import DrillFact
from probe.drill.faults.base import Prepared
from probe.drill.file import Drill
from probe.drill.score import Score
from probe.model.observation import Observation
from probe.plan import Plan


def measure(
    facts: Sequence[DrillFact],
    observations: Iterable[Observation],
    drill: Drill,
    *,
    plans: Mapping[str, Plan],
    stays: Collection[str] | None = None,
    prepared: Mapping[str, Prepared] | None = None,
) -> Score:
    """`observations` of all runs, in any order. `plans`: one of the runs of each region. `stays`: run ids of those held open for
    the whole drill; without it, those in which a session was told of a cut that no step of the journey made. `prepared`: by the
    fault's name in the file."""
    raise NotImplementedError
