"""What an alert would have done over a history: `Alert.conditions` evaluated at every evaluation of Prometheus, by numpy, so that
a month of a fleet takes seconds.

As Prometheus does it: a rule is asked every `interval`; a run counts from the first evaluation after it (a scrape's delay
stays below that); a window holds what came within it; a ratio of nothing is no answer and meets no condition; `for` begins at
the first evaluation that met the condition and ends with the first that did not; an alert resolves at once.
What differs, and how much: counts are exact, where `increase` extrapolates from first to last sample to the window's edges. A
ratio of two such counts keeps its value but for a counter that is younger than its window, as Prometheus extrapolates none
below 0; a threshold on a count stands between whole numbers (2.5), where the few per cent of extrapolation do not reach. A window
here is whole evaluations, there it ends at the samples within it, one scrape shorter. So firing times agree within an
evaluation or two, which a test holds against promtool.
Not modelled: stale markers of a target that went away (its runs stop, its counts stay in the window) and Alertmanager's
waiting, which `score` adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.rules.conditions import Alert, Below, Burn, Condition, Silent

INTERVAL = 30 * NS
Counts = NDArray[np.int32]
Shares = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Evaluations: `steps` of them every `interval` ns, the first one interval after `began` (Unix ns)."""

    began: int
    steps: int
    interval: int = INTERVAL

    @property
    def ended(self) -> int:
        return self.began + self.steps * self.interval

    def at(self, step: int) -> int:
        """Unix ns of an evaluation; step 0 is the first."""
        return self.began + (step + 1) * self.interval

    def counted(self, times: NDArray[np.int64]) -> Counts:
        """Cumulative count of events at Unix ns `times` (any order) by evaluation: length steps + 1, beginning at 0. Events
        outside the grid are left out."""
        slots = -((self.began - times) // self.interval)  # ceil: seen by the first evaluation that is not before it
        slots = slots[(slots > 0) & (slots <= self.steps)]
        return np.cumsum(np.bincount(slots, minlength=self.steps + 1), dtype=np.int32)


class Tally:
    """Runs of one group of cells: cumulative counts as Grid.counted gives them. `made`: recorded, whatever came of them; `due`:
    by the inventory. Windows that were asked for are kept, since many conditions ask the same."""

    def __init__(self, grid: Grid, *, good: Counts, bad: Counts, made: Counts | None = None, due: Counts | None = None) -> None:
        self.grid = grid
        self.any_bad = bool(bad[-1])
        self._cumulative = {"bad": bad, "all": good + bad}
        if made is not None and due is not None:
            self._cumulative |= {"made": made, "due": due}
        self._windows: dict[tuple[str, int], Counts] = {}

    @property
    def inventoried(self) -> bool:
        """Whether it is known how many runs were due."""
        return "due" in self._cumulative

    def within(self, what: str, window: int) -> Counts:
        """How many (bad, all, made, due) within the last `window` ns of each evaluation."""
        key = what, window
        if key not in self._windows:
            cumulative, size = self._cumulative[what], min(max(1, round(window / self.grid.interval)), self.grid.steps)
            found = cumulative[1:].copy()
            found[size:] -= cumulative[1:-size]
            self._windows[key] = found
        return self._windows[key]

    def above(self, window: int, share: float) -> Flags:
        """Where more than that share was bad; of nothing, none was."""
        found: Flags = self.within("bad", window) > share * self.within("all", window)
        return found

    def bad_share(self, window: int) -> Shares:
        """Bad ÷ all, NaN of nothing."""
        every = self.within("all", window)
        out: Shares = np.full(len(every), np.nan)
        np.divide(self.within("bad", window), every, out=out, where=every > 0)
        return out


@dataclass(frozen=True, slots=True)
class Firing:
    """Unix ns: when the condition was first met, when the alert fired, when it resolved; None: it still fires at the end."""

    pending: int
    began: int
    ended: int | None


def firings(alert: Alert, tally: Tally) -> list[Firing]:
    """When the alert fired for that group, in order."""
    return spans(met(alert, tally), tally.grid, alert.hold, alert.keep)


def met(alert: Alert, tally: Tally) -> Flags:
    """At which evaluations any of its conditions was met."""
    out = np.zeros(tally.grid.steps, dtype=np.bool_)
    for condition in alert.conditions:
        out |= holds(condition, tally, alert.slo.budget if alert.slo else 0.0)
    return out


def holds(condition: Condition, tally: Tally, budget: float) -> Flags:
    """At which evaluations this one was met."""
    never = np.zeros(tally.grid.steps, dtype=np.bool_)
    match condition:
        case Burn(short=short, long=long, factor=factor, bad=bad, fresh=fresh):
            if not tally.any_bad:
                return never
            burning = tally.above(long, factor * budget)
            for least, window in ((bad, long), (fresh, short)):
                if least:
                    burning &= tally.within("bad", window) >= least
            return burning & tally.above(short, factor * budget) if burning.any() else never
        case Below(window=window, ratio=ratio, runs=runs, bad=bad):
            if not tally.any_bad:
                return never
            enough = (tally.within("all", window) >= runs) & (tally.within("bad", window) >= bad)
            return enough & tally.above(window, 1 - ratio) if enough.any() else never
        case Silent(window=window, share=share):
            if not tally.inventoried:
                return never
            due = tally.within("due", window)
            return (due > 0) & (tally.within("made", window) < share * due)
        case _:
            assert_never(condition)


def spans(flags: Flags, grid: Grid, hold: int = 0, keep: int = 0) -> list[Firing]:
    """Stretches in which `flags` stood for longer than `hold` ns; each lasts until they have not stood for `keep` ns, and what
    stands again by then is the same one."""
    padded = np.concatenate(([False], flags, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    wait, kept = -(-hold // grid.interval), -(-keep // grid.interval)
    out: list[Firing] = []
    open_until = -1  # step at which the last one resolves
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        again = first <= open_until
        if again or first + wait < stop:
            open_until = stop + kept
            ended = grid.at(open_until) if open_until < grid.steps else None
            out.append(replace(out.pop(), ended=ended) if again else Firing(grid.at(first), grid.at(first + wait), ended))
    return out


def merged(found: Sequence[Firing], gap: int = 0) -> list[Firing]:
    """Firings of several alerts as one: what overlaps, or follows within `gap` ns, is joined."""
    out: list[Firing] = []
    for one in sorted(found, key=lambda f: f.began):
        last = out[-1] if out else None
        if last is not None and (last.ended is None or one.began <= last.ended + gap):
            ended = None if last.ended is None or one.ended is None else max(last.ended, one.ended)
            out[-1] = Firing(min(last.pending, one.pending), last.began, ended)
        else:
            out.append(one)
    return out
