"""What the exporters render: results as judged, and nothing that was not.

`judge/` and `export/` do not know each other; the command line hands what one decided to the other in these types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from probe.export.drill_model import DrillDoc
from probe.model.comparison import Comparison
from probe.model.verdict import Check, MatrixCell, RunResult, Verdict, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The common factor of what went wrong, in words and as fields (`region`, `protocol`, `edge`, `phase`, …); `count` of the
    `of` attempts that share it went wrong. None: it is none of attempts."""

    words: str
    fields: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None
    of: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectiveRun:
    """One run's part in one objective: good, bad or inconclusive. `protocol` is empty where the objective has none."""

    slo: str
    protocol: str
    outcome: Literal["good", "bad", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """One run, its verdict and the checks that made it."""

    result: RunResult
    verdict: Verdict
    checks: tuple[Check, ...] = ()
    matrix: tuple[MatrixCell, ...] = ()
    objectives: tuple[ObjectiveRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """These runs against a former build's, and the one check that this makes."""

    found: Comparison
    check: Check


@dataclass(frozen=True, slots=True)
class Drilled:
    """What runs were part of that something was broken under: its verdict is that of its conditions, not of the runs, which were
    to suffer."""

    document: DrillDoc
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One invocation: one or more runs and one verdict on them all. `kind`: run, smoke or drill. Times are Unix ns;
    `expires` None: it holds until the next one. `quorum` is how many conclusive runs a region needs."""

    kind: str
    verdict: Verdict
    runs: tuple[JudgedRun, ...]
    started: int
    evaluated: int
    expires: int | None = None
    cause: Cause | None = None
    release: str = ""
    probe_version: str = ""
    quorum: int = 1
    comparison: Compared | None = None
    drill: Drilled | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        if self.drill is not None:
            return self.drill.checks
        whole = () if self.comparison is None else (self.comparison.check,)
        return (*(check for run in self.runs for check in run.checks), *whole)

    @property
    def target(self) -> str:
        """The platforms looked at; several are joined by commas."""
        return ", ".join(dict.fromkeys(run.result.began.target for run in self.runs))

    def regions(self) -> dict[str, list[JudgedRun]]:
        """Runs by viewing region, in order of appearance."""
        grouped: dict[str, list[JudgedRun]] = {}
        for run in self.runs:
            grouped.setdefault(run.result.began.region, []).append(run)
        return grouped


def regional(runs: Sequence[JudgedRun], quorum: int = 1) -> Verdict:
    """The verdict of one region's runs."""
    return worst([run.verdict for run in counted(runs, quorum)])


def counted(runs: Sequence[JudgedRun], quorum: int) -> list[JudgedRun]:
    """The runs that a verdict stands on: of a scenario between two regions the conclusive ones, where there are as many as the
    quorum; else all, for then it is inconclusive. One run of eight made while the probe was unwell makes nothing doubtful."""
    alike: dict[tuple[str, str, str], list[JudgedRun]] = {}
    for run in runs:
        began = run.result.began
        alike.setdefault((began.scenario, began.publish_region, began.region), []).append(run)
    told = {key: [run for run in found if run.verdict is not Verdict.INCONCLUSIVE] for key, found in alike.items()}
    kept = {run.result.began.run for key, found in alike.items() for run in (told[key] if len(told[key]) >= quorum else found)}
    return [run for run in runs if run.result.began.run in kept]
