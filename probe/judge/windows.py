"""Windows of many runs: what is kept of each, and what an indicator is over them.

Of a run stays what adds up (`Part`): good and total, how many samples, and for a quantile the samples. So a ratio over a window
is the ratio of all its events and a quantile one of all its samples, and not a mean of means. Of samples a run keeps at most
`KEPT` for each indicator and protocol: as many ranks at equal distance, each for those up to it. That is exact up to KEPT samples
(starts, reconnects), and beyond them (latencies, one for each frame) at most 1/KEPT of the run's ranks too high, never too low.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.judge.indicators import NOTHING, Part, Select, part, viewers
from probe.model.verdict import RunResult
from probe.scenario.indicators import INDICATORS, Unit

KEPT = 256  # samples of a run, indicator and protocol
MOST = 20_000  # runs of a history; of more the oldest go, and coverage says so
Cell = tuple[str, str]  # indicator, protocol (empty: all)


# -- what is kept of a run


@dataclass(frozen=True, slots=True)
class RunParts:
    """One run: when it was `due` and when it had ended (`at`), ns of one clock; what it gives by cell."""

    at: int
    due: int
    parts: Mapping[Cell, Part]


def parts_of(result: RunResult) -> dict[Cell, Part]:
    """What a run gives to every indicator that a gate may ask for, whole and by protocol. Empty for a run that did not end by
    itself: it does not count as made."""
    if result.outcome is None or result.outcome.kind in ("cancelled", "aborted"):
        return {}
    protocols = ["", *sorted({s.protocol for s in viewers(result)})]
    cells = ((name, protocol) for name, row in INDICATORS.items() if row.gate for protocol in protocols)
    return {cell: thinned(part(result, cell[0], Select(protocol=cell[1]))) for cell in cells}


def thinned(whole: Part) -> Part:
    """With at most KEPT samples, sorted; what each stands for follows from `n`."""
    samples, count = sorted(whole.samples), len(whole.samples)
    if count > KEPT:
        samples = [samples[count * (i + 1) // KEPT - 1] for i in range(KEPT)]
    return Part(whole.good, whole.total, whole.n, tuple(samples))


def to_json(parts: Mapping[Cell, Part]) -> dict[str, Any]:
    """As the records keep it: indicator → protocol → [good, total, n, samples], without what is nothing."""
    found: dict[str, Any] = {}
    for (indicator, protocol), one in parts.items():
        if one != NOTHING:
            numbers = [one.good, one.total, one.n, *([[round(s, 6) for s in one.samples]] if one.samples else [])]
            found.setdefault(indicator, {})[protocol] = numbers
    return found


def from_json(kept: Mapping[str, Any]) -> dict[Cell, Part]:
    """Raises ValueError, TypeError or AttributeError for what is none."""
    found = {}
    for indicator, cells in kept.items():
        for protocol, (good, total, n, *samples) in cells.items():
            whole = Part(int(good), int(total), int(n), tuple(float(s) for s in samples[0]) if samples else ())
            found[str(indicator), str(protocol)] = whole
    return found


# -- a history and its windows


class History:
    """The runs of one schedule, in the order they ended, for `keep` ns. Of each only the cells `wanted` stay."""

    def __init__(self, wanted: Collection[Cell], keep: int, most: int = MOST) -> None:
        self.wanted = frozenset(wanted)
        self.keep = keep
        self._runs: deque[RunParts] = deque()
        self._first = 0  # number of the oldest that is kept
        self._most = most
        self._sliding: dict[tuple[Cell, int, str], _Sliding] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def last(self) -> RunParts | None:
        return self._runs[-1] if self._runs else None

    @property
    def lag(self) -> int:
        """ns from due to ended, the longest of the last few runs."""
        return max((run.at - run.due for run in list(self._runs)[-8:]), default=0)

    def add(self, run: RunParts) -> None:
        """One that has ended. Those told out of order are put in place, and windows begin anew."""
        kept = RunParts(run.at, run.due, {cell: run.parts[cell] for cell in self.wanted if cell in run.parts})
        if self._runs and run.at < self._runs[-1].at:
            self._runs = deque(sorted([*self._runs, kept], key=lambda one: one.at))
            self._sliding.clear()
        else:
            self._runs.append(kept)
        while len(self._runs) > self._most or self._runs[0].at <= self._runs[-1].at - self.keep:
            self._runs.popleft()
            self._first += 1

    def over(self, cell: Cell, quantile: str, begin: int, window: int | None, of: str = "") -> tuple[float | None, int, int]:
        """Value, samples and runs of what ended after `begin`. `window` and `of` name a window, whose `begin` is to move one way;
        one of None is the last run alone."""
        if window is None:
            if (last := self.last) is None or last.at <= begin:
                return None, 0, 0
            one, unit = last.parts.get(cell, NOTHING), INDICATORS[cell[0]].unit
            value = weighted_quantile(list(_weighted(one)), quantile) if unit is Unit.SECONDS else one.value(unit)
            return value, one.n, 1
        sliding = self._sliding.get((cell, window, of))
        if sliding is None or begin < sliding.begin:
            sliding = self._sliding[cell, window, of] = _Sliding(INDICATORS[cell[0]].unit, self._first)
        sliding.move(self._runs, self._first, cell, begin)
        return sliding.value(quantile), sliding.n, sliding.made


class _Sliding:
    """Sums over the runs of a window, which moves one way: each run is taken and given back once."""

    def __init__(self, unit: Unit, first: int) -> None:
        self.begin = -(2**63)
        self.n = self.made = self._good = self._total = 0
        self._unit = unit
        self._held: deque[tuple[int, Part]] = deque()  # when each ended
        self._next = first  # number of the run to be taken next
        self._samples: list[tuple[float, int]] = []  # sorted, with how many each stands for
        self._quantiles: dict[str, float | None] = {}

    def move(self, runs: deque[RunParts], first: int, cell: Cell, begin: int) -> None:
        self.begin = begin
        self._next = max(self._next, first)
        for number in range(self._next, first + len(runs)):
            run = runs[number - first]
            if run.at > begin:
                taken = run.parts.get(cell, NOTHING)
                self.take(taken)
                self._held.append((run.at, taken))
        self._next = first + len(runs)
        while self._held and self._held[0][0] <= begin:
            self._give_back(self._held.popleft()[1])

    def take(self, one: Part) -> None:
        self._count(one, 1)
        for pair in _weighted(one):
            insort(self._samples, pair)

    def _give_back(self, one: Part) -> None:
        self._count(one, -1)
        for pair in _weighted(one):
            del self._samples[bisect_left(self._samples, pair)]

    def _count(self, one: Part, sign: int) -> None:
        self.made += sign
        self.n += sign * one.n
        self._good += sign * one.good
        self._total += sign * one.total
        self._quantiles.clear()

    def value(self, quantile: str) -> float | None:
        if self._unit is not Unit.SECONDS:
            return Part(self._good, self._total).value(self._unit)
        if quantile not in self._quantiles:
            self._quantiles[quantile] = weighted_quantile(self._samples, quantile)
        return self._quantiles[quantile]


def _weighted(one: Part) -> Iterator[tuple[float, int]]:
    count = len(one.samples)
    for i, sample in enumerate(one.samples):
        yield sample, one.n * (i + 1) // count - one.n * i // count


def weighted_quantile(samples: Sequence[tuple[float, int]], name: str) -> float | None:
    """`p95` or `max` by nearest rank of sorted (value, how many); None of none."""
    if not samples:
        return None
    if name == "max":
        return samples[-1][0]
    rank = -(-int(name[1:]) * sum(weight for _, weight in samples) // 100)  # rounded up
    passed = 0
    for value, weight in samples:
        passed += weight
        if passed >= rank:
            return value
    return samples[-1][0]
