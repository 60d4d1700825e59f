"""How soon an alert notices, worked out rather than believed: a clean past, then a steady loss, replayed until it fires.

The loss is spread evenly and begins at its worst moment, right after a good run: at 2 % the fiftieth run is the first bad one.
Chance makes single cases sooner or later than that; `probe backtest` shows how much. One group of cells, runs evenly spaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.model.clock import NS
from probe.rules.conditions import Alert, Silent
from probe.rules.replay import INTERVAL, Grid, Tally, firings

HOUR = 3600 * NS
MOST_STEPS = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """`took` ns from the loss's beginning until the alert fired, when `failures` runs were bad; `reset` ns from the loss's end
    until it had resolved."""

    took: int
    failures: int
    reset: int


def detect(alert: Alert, runs_per_hour: float, loss: float = 1.0, *, interval: int = INTERVAL) -> Detection | None:
    """What the alert does about a steady share `loss` (0..1] of bad runs in a group of that many runs an hour; of a Silent one:
    of runs that are not made. The loss ends as soon as it fires, which is the quickest reset there is. None: it never does."""
    longest = max(window for condition in alert.conditions for window in _windows(condition))
    interval = max(interval, -(-(5 * longest + alert.hold) // MOST_STEPS))
    clean = longest + interval
    span = 2 * clean + longest + alert.hold + alert.keep
    period = HOUR / runs_per_hour
    times = (np.arange(1, int(span / period) + 2) * period).astype(np.int64)
    since = times > clean
    order = np.cumsum(since)
    lost = since & (np.floor(order * loss + 1e-9) > np.floor((order - 1) * loss + 1e-9))
    # The first run of the loss follows its beginning by a whole period: that is the worst moment.
    start = int(times[~since][-1]) if (~since).any() else 0
    fired = _fired(alert, times, lost, interval, span, start)
    if fired is None:
        return None
    healed = lost & (times <= fired)
    return Detection(took=fired - start, failures=int(healed.sum()), reset=_reset(alert, times, healed, interval, span, fired))


def _fired(alert: Alert, times: NDArray[np.int64], lost: NDArray[np.bool_], interval: int, span: int, start: int) -> int | None:
    found = firings(alert, _tally(alert, times, lost, interval, span))
    return next((one.began for one in found if one.began > start), None)


def _reset(alert: Alert, times: NDArray[np.int64], lost: NDArray[np.bool_], interval: int, span: int, fired: int) -> int:
    ends = [one.ended for one in firings(alert, _tally(alert, times, lost, interval, span)) if one.began == fired]
    return (ends[0] if ends and ends[0] is not None else span) - fired


def _tally(alert: Alert, times: NDArray[np.int64], lost: NDArray[np.bool_], interval: int, span: int) -> Tally:
    grid = Grid(began=0, steps=int(span // interval), interval=interval)
    if any(isinstance(condition, Silent) for condition in alert.conditions):
        none = grid.counted(times[:0])
        return Tally(grid, good=none, bad=none, made=grid.counted(times[~lost]), due=grid.counted(times))
    return Tally(grid, good=grid.counted(times[~lost]), bad=grid.counted(times[lost]))


def _windows(condition: object) -> tuple[int, ...]:
    return tuple(getattr(condition, name) for name in ("window", "short", "long") if hasattr(condition, name))
