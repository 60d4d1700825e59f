"""The files of a drill (scorecard.html and .json, verdict.json, junit.xml, drill.jsonl, observations.jsonl), and the index of
several."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from probe.drill.facts import DrillFact
from probe.drill.score import Score
from probe.export.figures import Redact
from probe.model.observation import Observation
from probe.plan import Plan


def write(
    score: Score,
    out: Path,
    *,
    facts: Sequence[DrillFact],
    observations: Iterable[Observation],
    plans: Mapping[str, Plan],
    redact: Redact,
    stays: Collection[str] | None = None,
) -> list[str]:
    """Every file; names of those that could not be written."""
    raise NotImplementedError


def write_index(scores: Sequence[tuple[Score, str]], out: Path, *, redact: Redact) -> None:
    """index.html of several drills: each with the folder, below `out`, its scorecard is in. Raises OSError."""
    raise NotImplementedError
