"""A build against the last good one: what became of each indicator, and of the whole.

Made by `judge/`, rendered by `export/`. `shift` is after − before in base units (seconds; shares of time or of runs), [`low`,
`high`] its 95 % interval; what cannot be said is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Unit = Literal["seconds", "share", "runs"]  # a time; a share of time; a share of good runs


class Change(StrEnum):
    """`same`: any difference there may be is smaller than one that matters."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Only runs of one scenario between the same two regions are held against each other."""

    scenario: str
    publish_region: str
    region: str


@dataclass(frozen=True, slots=True, order=True)
class About:
    """What a figure is of. Empty: it has none, or there is only one. `ingest`: the broadcast's protocol, where there are
    several."""

    indicator: str
    protocol: str = ""
    ingest: str = ""
    device: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One indicator in one place. `before` and `after` are medians over runs, or the share of good runs. `least` is the smallest
    difference that matters. `pairs`: of all pairs of a run before and a run after, those in which the later was the worse.
    `runs_needed` on each side would probably tell. `stages`: of a start, how much longer each stage takes, largest first."""

    place: Place
    about: About
    unit: Unit
    change: Change
    before: float
    after: float
    runs_before: int
    runs_after: int
    least: float
    shift: float
    low: float | None = None
    high: float | None = None
    pairs: tuple[int, int] | None = None
    runs_needed: int | None = None
    suspicious: bool = False  # it looks worse: by more than `least`, and were it the only question, by chance in 2.5 % of cases
    tellable: bool = True  # as many runs as these could have shown it worse
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def worse_by(self) -> float:
        """`shift`, positive where it is for the worse."""
        return -self.shift if self.unit == "runs" else self.shift


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of them, and the whole. `occasions`: from how many invocations the runs before come. `apart` says in words what could
    not be held against each other, `notes` what else to bear in mind."""

    change: Change
    differences: tuple[Difference, ...]
    release_before: str = ""
    release_after: str = ""
    runs_before: int = 0
    runs_after: int = 0
    occasions: int = 0
    apart: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, change: Change) -> list[Difference]:
        return [one for one in self.differences if one.change is change]
