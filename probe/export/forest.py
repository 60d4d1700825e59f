"""The picture of a comparison: a forest plot. One line an indicator, its difference as a point, the 95 % interval as a bar.

Times, shares of time and shares of runs stand on one axis, in units of the smallest difference that matters: between −1 and 1
(shaded) is what nobody would feel, right of it is worse. So one look tells which bars lie beyond the shade, within it, or across
its edge. Geometry only, as in charts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.export.charts import Tick
from probe.export.compared_words import ANSWER, amount, by, ranked, title_of, words_of
from probe.model.comparison import Comparison, Difference

_LEAST_SPAN, _MOST_SPAN = 2.5, 8.0  # of the axis to each side, in smallest differences that matter


@dataclass(frozen=True, slots=True)
class ForestRow:
    """`low`, `high`, `at` in per cent; `low` None: there is no interval. `beyond`: it goes on past the edge, left or right."""

    label: str
    note: str
    state: str
    at: float
    low: float | None
    high: float | None
    beyond: tuple[bool, bool]
    value: str
    answer: str
    said: str


@dataclass(frozen=True, slots=True)
class Forest:
    """`zone`: where the shade begins and how wide it is, per cent."""

    rows: tuple[ForestRow, ...]
    ticks: tuple[Tick, ...]
    zone: tuple[float, float]


def forest(comparison: Comparison) -> Forest | None:
    """None where nothing was compared."""
    shown = ranked(comparison)
    if not shown:
        return None
    furthest: float = max(abs(edge) for one in shown for edge in (_scaled(one, one.worse_by), *(_ends(one) or ())))
    span = min(_MOST_SPAN, max(_LEAST_SPAN, furthest * 1.05))

    def place(value: float) -> float:
        return round(50 + 50 * min(1.0, max(-1.0, value / span)), 3)

    rows = []
    for one in shown:
        ends = _ends(one)
        rows.append(
            ForestRow(
                label=title_of(one, comparison),
                note=_ran(one),
                state="doubtful" if one.suspicious else one.change.value,
                at=place(_scaled(one, one.worse_by)),
                low=None if ends is None else place(ends[0]),
                high=None if ends is None else place(ends[1]),
                beyond=(ends is not None and ends[0] < -span, ends is not None and ends[1] > span),
                value=by(one) if one.shift else "no difference",
                answer=ANSWER[one.change],
                said=words_of(one, comparison),
            )
        )
    left = place(-1)
    marks = (Tick(left, "better"), Tick(50.0, "no difference"), Tick(place(1), "worse"))
    return Forest(tuple(rows), marks, (left, round(place(1) - left, 3)))


def _scaled(one: Difference, value: float) -> float:
    return value / one.least if one.least else 0.0


def _ends(one: Difference) -> tuple[float, float] | None:
    if one.low is None or one.high is None:
        return None
    low, high = (-one.high, -one.low) if one.unit == "runs" else (one.low, one.high)
    return _scaled(one, low), _scaled(one, high)


def _ran(one: Difference) -> str:
    return f"{amount(one, one.before)} → {amount(one, one.after)} · {one.runs_before} and {one.runs_after} runs"
