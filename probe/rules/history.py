"""What happened, run by run: recorded by an agent or made up by `patterns`; and what was true meanwhile, where that is known.

The unit is the run per cell (region, protocol), as objectives count it. Runs of one schedule share their times; each objective
has its own outcomes of them. Times are when a result could be counted, Unix ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.rules.fleet import Cell, Fleet, Slo
from probe.rules.replay import Counts, Grid, Tally

HOUR = 3600 * NS
Times = NDArray[np.int64]
Outcomes = NDArray[np.int8]


class Seen(IntEnum):
    """What one run says about one objective. Tainted runs count for nothing, except to who knows nothing of taint."""

    GOOD = 0
    BAD = 1
    NONE = 2  # nothing could be counted: what would be asked about never began
    TAINTED_GOOD = 3
    TAINTED_BAD = 4


_TAINTED = {Seen.GOOD: Seen.TAINTED_GOOD, Seen.BAD: Seen.TAINTED_BAD}


class About(StrEnum):
    """Whose fault it is; an alert about the one says nothing about the other."""

    PLATFORM = "platform"
    PROBE = "probe"


class Needs(StrEnum):
    """Who has to hear of an incident, whatever the rules say."""

    PAGE = "page"  # somebody, now
    TRIAGE = "triage"  # somebody, within days; sooner does no harm
    NOBODY = "nobody"  # a hiccup


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which cells; an empty field is any."""

    publish_region: str = ""
    region: str = ""
    protocol: str = ""
    scenario: str = ""

    def covers(self, publish_region: str, region: str, protocol: str = "", scenario: str = "") -> bool:
        """Whether that cell is within, or might be: what is empty on either side does not tell them apart."""
        asked = (self.publish_region, publish_region), (self.region, region), (self.scenario, scenario)
        return all(not mine or not other or mine == other for mine, other in (*asked, (self.protocol, protocol)))

    def __str__(self) -> str:
        way = f"published from {self.publish_region}" if self.publish_region else ""
        return ", ".join(part for part in (self.region, way, self.protocol, self.scenario) if part) or "everywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What was wrong, truly: from when to when, where, and who had to hear of it. Unix ns."""

    name: str
    began: int
    ended: int
    place: Place
    needs: Needs
    about: About = About.PLATFORM


@dataclass(frozen=True, eq=False, slots=True)
class Beats:
    """Runs of one schedule in one pair of regions: when they were due, whether they were made, and whether the probe was unwell
    meanwhile."""

    scenario: str
    publish_region: str
    region: str
    due: Times
    made: NDArray[np.bool_]
    tainted: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """An objective in one cell: each run's time and outcome (Seen)."""

    cell: Cell
    times: Times
    outcomes: Outcomes


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class History:
    """`series` by objective. `incidents` None: nobody knows, it was recorded. `spoken`: what it shows, in words. `judged`: since
    when (Unix ns) rules are held to what they say; before, their windows had no past."""

    name: str
    spoken: str = ""
    began: int
    ended: int
    judged: int
    beats: tuple[Beats, ...]
    series: Mapping[str, tuple[Series, ...]]
    incidents: tuple[Incident, ...] | None = None

    @property
    def weeks(self) -> float:
        """That are judged."""
        return (self.ended - self.judged) / (7 * 24 * HOUR)

    def grid(self, interval: int) -> Grid:
        return Grid(began=self.began, steps=int((self.ended - self.began) // interval), interval=interval)


def due_times(began: int, ended: int, runs_per_hour: float, phase: float = 0.0) -> Times:
    """Evenly spaced; `phase` 0..1 of a period after `began`."""
    period = HOUR / runs_per_hour
    count = max(0, int((ended - began) / period - phase) + 1)
    times = began + ((np.arange(count) + phase) * period).astype(np.int64)
    return times[times < ended]


def rates(fleet: Fleet) -> dict[tuple[str, str, str], float]:
    """Runs an hour by (scenario, publish_region, region), of all agents; a schedule's pauses are spread evenly."""
    out: dict[tuple[str, str, str], float] = {}
    for agent in fleet.agents:
        for beat in agent.beats:
            key = beat.scenario, beat.publish_region, agent.region
            out[key] = out.get(key, 0.0) + beat.runs_per_hour * beat.share
    return out


def coverage(slo: Slo, beats: Iterable[Beats]) -> tuple[Series, ...]:
    """An objective on runs that were due: bad is the one that was not made."""
    cells = {(cell.publish_region, cell.region): cell for cell in slo.cells}
    return tuple(
        Series(cell, one.due, np.where(one.made, Seen.GOOD, Seen.BAD).astype(np.int8))
        for one in beats
        if one.scenario == slo.scenario and (cell := cells.get((one.publish_region, one.region))) is not None
    )


def tally(grid: Grid, series: Sequence[Series], *, naive: bool = False) -> Tally:
    """Their runs as one group's. `naive`: tainted runs count as well."""
    bad, good = _counted(grid, series, naive, Seen.BAD), _counted(grid, series, naive, Seen.GOOD)
    return Tally(grid, good=good, bad=bad)


def attendance(grid: Grid, beats: Sequence[Beats]) -> Tally:
    """Runs made of the runs due, as one group's."""
    none = grid.counted(np.zeros(0, dtype=np.int64))
    made, due = _joined([one.due[one.made] for one in beats]), _joined([one.due for one in beats])
    return Tally(grid, good=none, bad=none, made=grid.counted(made), due=grid.counted(due))


def health(grid: Grid, beats: Sequence[Beats]) -> Tally:
    """Runs as one group's, of which those are bad that were made while the probe was unwell."""
    good, bad = ([one.due[one.made & (one.tainted == unwell)] for one in beats] for unwell in (False, True))
    return Tally(grid, good=grid.counted(_joined(good)), bad=grid.counted(_joined(bad)))


def _joined(times: Sequence[Times]) -> Times:
    return np.concatenate(times) if times else np.zeros(0, dtype=np.int64)


def _counted(grid: Grid, series: Sequence[Series], naive: bool, kind: Seen) -> Counts:
    wanted = (kind, _TAINTED[kind]) if naive else (kind,)
    times = [one.times[one.outcomes == what] for one in series for what in wanted]
    return grid.counted(_joined(times))


def grouped(series: Sequence[Series], by: Sequence[str]) -> dict[tuple[str, ...], list[Series]]:
    """By the labels that an alert is asked apart for; those that no cell has are one for all."""
    out: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        out.setdefault(tuple(str(getattr(one.cell, label, "")) for label in by), []).append(one)
    return out


def spent(slo: Slo, series: Iterable[Series]) -> float | None:
    """Share of the budget that the history used, 1 being all of a window of that length; None where nothing was counted."""
    good = bad = 0
    for one in series:
        good += int(np.count_nonzero(one.outcomes == Seen.GOOD))
        bad += int(np.count_nonzero(one.outcomes == Seen.BAD))
    return None if good + bad == 0 else bad / (good + bad) / slo.budget
