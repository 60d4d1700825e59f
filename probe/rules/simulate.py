"""A month of a fleet's runs, made up: its schedules played through the faults that a pattern draws.

Every run has one draw for all faults, so objectives of one run fall together; noise is drawn for each objective and cell by
itself. A run is known half a minute after it was due. The same seed is the same month.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.rules.faults import Breaks, Fault, outcome
from probe.rules.fleet import Cell, Fleet, Slo, Source
from probe.rules.history import Beats, History, Incident, Seen, Series, coverage, due_times, rates
from probe.rules.patterns import DAY, MONDAY, Chosen, Random, World

KNOWN_AFTER = 30 * NS
TAINTED_FAIL = 0.4  # of a starved probe's runs


def simulate(fleet: Fleet, chosen: Chosen, *, days: float, seed: int) -> History:
    """The fleet's runs over `days` at that pattern."""
    began, ended = MONDAY, MONDAY + int(days * DAY)
    world = World.of(fleet, began, ended)
    faults: list[Fault] = []
    incidents: list[Incident] = []
    for n, (pattern, given) in enumerate(chosen.parts):
        more, truths = pattern.draw(world, np.random.default_rng((seed, n)), given)
        faults += more
        incidents += truths
    noise = max(given.noise for _, given in chosen.parts)
    draw = np.random.default_rng((seed, 1_000))
    runs = [_schedule(key, rate, faults, began, ended, draw) for key, rate in rates(fleet).items()]
    series = {slo.name: _series(slo, runs, faults, noise, draw) for slo in fleet.slos}
    return History(
        name=chosen.text,
        spoken=chosen.spoken,
        began=began,
        ended=ended,
        judged=min(began + DAY, (began + ended) // 2),
        beats=tuple(run.beats for run in runs),
        series=series,
        incidents=tuple(sorted(incidents, key=lambda i: i.began)),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Runs:
    beats: Beats
    draws: NDArray[np.float64]  # one a run: which runs a fault breaks


def _schedule(key: tuple[str, str, str], rate: float, faults: Sequence[Fault], began: int, ended: int, draw: Random) -> _Runs:
    due = due_times(began, ended, rate, draw.random())
    draws = draw.random(len(due))
    made, tainted = np.ones(len(due), dtype=np.bool_), np.zeros(len(due), dtype=np.bool_)
    for fault in faults:
        # The probe is where the viewer is: its own faults are of that region alone.
        if fault.breaks in (Breaks.SILENCE, Breaks.TAINT) and fault.place.covers("", key[2], "", key[0]):
            part = _within(due, fault)
            broken = draws[part] < fault.loss
            if fault.breaks is Breaks.SILENCE:
                made[part] &= ~broken
            else:
                tainted[part] |= broken
    return _Runs(Beats(*key, due, made, tainted), draws)


def _series(slo: Slo, runs: Iterable[_Runs], faults: Sequence[Fault], noise: float, draw: Random) -> tuple[Series, ...]:
    if slo.source is Source.COVERAGE:
        return coverage(slo, (run.beats for run in runs))
    by_pair = {(r.beats.publish_region, r.beats.region): r for r in runs if r.beats.scenario == slo.scenario}
    return tuple(
        _cell(slo, cell, run, faults, noise, draw)
        for cell in slo.cells
        if (run := by_pair.get((cell.publish_region, cell.region))) is not None
    )


def _cell(slo: Slo, cell: Cell, runs: _Runs, faults: Sequence[Fault], noise: float, draw: Random) -> Series:
    due, made, tainted = runs.beats.due, runs.beats.made, runs.beats.tainted
    out = np.where(draw.random(len(due)) < noise, Seen.BAD, Seen.GOOD).astype(np.int8)
    for fault in faults:
        seen = outcome(fault, slo.indicator)
        if seen is not None and fault.place.covers(cell.publish_region, cell.region, cell.protocol, slo.scenario):
            part = _within(due, fault)
            out[part][runs.draws[part] < fault.loss] = seen
    if slo.indicator == "taint_ratio":
        out[tainted] = Seen.BAD
    elif tainted.any():
        out[tainted & (draw.random(len(due)) < TAINTED_FAIL)] = Seen.BAD
        out[tainted & (out == Seen.GOOD)] = Seen.TAINTED_GOOD
        out[tainted & (out == Seen.BAD)] = Seen.TAINTED_BAD
    return Series(cell, due[made] + KNOWN_AFTER, out[made])


def _within(due: NDArray[np.int64], fault: Fault) -> slice:
    return slice(int(np.searchsorted(due, fault.began)), int(np.searchsorted(due, fault.ended)))
