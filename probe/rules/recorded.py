"""Recorded runs as a history: what an agent wrote of each run, held against the inventory.

What a run said about each objective stands in its verdict.json. What was due is the inventory's over the whole time, what was
made is what was recorded: an agent that was added meanwhile seems silent before. Tainted runs are inconclusive in the records,
so rivals, which know nothing of taint, are told the same counts as we are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.rules.fleet import Fleet, Slo, Source
from probe.rules.history import HOUR, Beats, History, Seen, Series, coverage, due_times, rates

_SEEN = {"good": Seen.GOOD, "bad": Seen.BAD, "inconclusive": Seen.NONE}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run of the records. `outcomes`: objective and protocol (or empty) → how it stood."""

    at: int
    scenario: str
    publish_region: str
    region: str
    outcomes: Mapping[tuple[str, str], Seen]
    tainted: bool = False


def of_verdict(document: Mapping[str, Any], at: int) -> list[Recorded]:
    """The scheduled runs of a verdict.json of ours, known since `at` (Unix ns): objectives read no others."""
    return [_run(run, at) for run in document["runs"] if run["mode"] == "scheduled"]


def _run(run: Mapping[str, Any], at: int) -> Recorded:
    outcomes = dict(_outcomes(run.get("objectives", ())))
    return Recorded(at, run["scenario"], run["publish_region"], run["region"], outcomes, bool(run.get("taints")))


def _outcomes(objectives: Iterable[Mapping[str, str]]) -> Iterable[tuple[tuple[str, str], Seen]]:
    for one in objectives:
        yield (one["slo"], one.get("protocol", "")), _SEEN[one["outcome"]]


def recorded(name: str, fleet: Fleet, runs: Sequence[Recorded], began: int, ended: int) -> History:
    """As one history of the fleet from `began` to `ended`, Unix ns; runs of schedules that it does not have are left out."""
    by_beat: dict[tuple[str, str, str], list[Recorded]] = {}
    for run in sorted(runs, key=lambda r: r.at):
        by_beat.setdefault((run.scenario, run.publish_region, run.region), []).append(run)
    beats = tuple(_attended(key, rate, by_beat.get(key, []), began, ended) for key, rate in rates(fleet).items())
    series = {slo.name: _of(slo, by_beat) if slo.source is Source.RUNS else coverage(slo, beats) for slo in fleet.slos}
    return History(name=name, spoken="as it was recorded", began=began, ended=ended, judged=began, beats=beats, series=series)


def _attended(key: tuple[str, str, str], rate: float, runs: Sequence[Recorded], began: int, ended: int) -> Beats:
    """Each due run takes the next recorded one that is less than a period away."""
    due, period = due_times(began, ended, rate, 0.5), HOUR / rate
    made, tainted = np.zeros(len(due), dtype=np.bool_), np.zeros(len(due), dtype=np.bool_)
    taken = 0
    for turn, when in enumerate(due.tolist()):
        while taken < len(runs) and runs[taken].at <= when - period:
            taken += 1
        if taken < len(runs) and runs[taken].at < when + period:
            made[turn], tainted[turn] = True, runs[taken].tainted
            taken += 1
    return Beats(*key, due, made, tainted)


def _of(slo: Slo, by_beat: Mapping[tuple[str, str, str], Sequence[Recorded]]) -> tuple[Series, ...]:
    out = []
    for cell in slo.cells:
        runs = by_beat.get((slo.scenario, cell.publish_region, cell.region), ())
        told = [(run.at, run.outcomes.get((slo.name, cell.protocol))) for run in runs]
        kept = [(at, seen) for at, seen in told if seen is not None]
        times = np.array([at for at, _ in kept], dtype=np.int64)
        out.append(Series(cell, times, np.array([seen for _, seen in kept], dtype=np.int8)))
    return tuple(out)
