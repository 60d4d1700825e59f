"""Whether so few runs can say it: synthetic probes are few, and an alert that one failed run sets off is switched off by people.

14.4 × 0.5 % is 7.2 % of an hour's runs: of 12 runs one failure is 8.3 %, a page. The workbook's answer for low traffic is to add
artificial traffic, which is what we are; so the sum is made for each cell, and one of three things follows:

- **guard**: a count beside the ratio, so that at least `n` runs must have failed. `n` is 2 at least, and for pages as many as
  chance alone brings together less than `FALSE_PAGES` times in 30 days of an objective that just keeps its promise (`chance`).
- **pool**: where a cell is so thin that a guard would make a total loss known later than `SLOW`, cells are counted together:
  those of all publishing regions, and where nothing else helps those of all regions. Never protocols: one run brings forth all
  of them, so they are the same evidence again. What is pooled is diluted, and an alert of all regions can name none.
- **refuse**: where even that is not enough, the objective is a mistake, told with its place, the sum and the remedy.

A short window must hold a run whenever it is looked at, or the alert would end and come again between two runs; so it is
stretched to the gap between them. And a page whose long window remembers an incident for hours asks for `FRESH` failures in its
short one: else the first stray failure after the incident would page again, and a slow burn, which is for triage, at each
failure. It makes no total loss known later. Where runs are too few for two to be seen at once, one must do.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from probe.model.clock import NS
from probe.rules.chance import failures, false_pages
from probe.rules.conditions import Below, Burn, Condition
from probe.rules.fleet import Severity, Slo, Source
from probe.rules.windows import HOUR, LADDER, MINUTE, Pair, at_least, pairs, prom
from probe.scenario.units import format_ratio

FALSE_PAGES = 1.0  # in 30 days, of one objective that just keeps its promise
FRESH = 2  # failures that say it still goes on, where one would do after an incident
AFTERWARDS = HOUR  # what a long window remembers for no longer is the incident itself
SLOW = HOUR  # later than this a total loss must not page
ROOM = 0.8  # of the runs that a window holds on average; what a guard may ask for
JITTER = 1.1  # the longest gap between two starts, in gaps
LATE = 90 * NS  # a run's own length varies, and a scrape comes later
DIRECT_WINDOW, DIRECT_LONGEST = 10 * MINUTE, 30 * MINUTE
DIRECT = 0.9  # below this share a start is broken, whatever its objective
_STARTS = frozenset({"room_start", "start", "publisher_start"})  # what the direct rule is for
_OF_THE_PROBE = frozenset({"taint_ratio", "coverage"})
_DIMENSIONS = ("publish_region", "region", "protocol")


class Unsound(ValueError):
    """So few runs cannot carry this objective. The message holds the sum and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """How an objective is alerted on. `cells`: the labels its runs are counted by; `rates`: runs an hour of each such group;
    `why`: the choice with its arithmetic, a sentence each, and
    of which alert."""

    cells: tuple[str, ...]
    rates: Mapping[tuple[str, ...], float]
    page: tuple[Condition, ...]
    triage: tuple[Condition, ...]
    why: tuple[tuple[Severity | None, str], ...]

    def because(self, severity: Severity) -> tuple[str, ...]:
        """The sentences about its alert of that severity, and those about both."""
        return tuple(sentence for about, sentence in self.why if about in (None, severity))


def pages(slo: Slo) -> bool:
    """Whether anybody is woken for it: not where its objective says so, nor for what is wrong with the probe alone."""
    return slo.page and not _of_the_probe(slo)


def _of_the_probe(slo: Slo) -> bool:
    return slo.source is Source.COVERAGE or slo.indicator in _OF_THE_PROBE


@functools.lru_cache(maxsize=4096)
def sound(slo: Slo) -> Sound:
    """How to alert on it. Raises Unsound."""
    if not slo.cells:
        raise Unsound("no agent runs this scenario on a schedule, so that nothing is ever counted; give one a schedule of it")
    tried = [_Level(slo, cells) for cells in _levels(slo)]
    chosen = _chosen(tried)
    if chosen.loss == math.inf:
        raise Unsound(_refusal(slo, tried[-1]))
    return Sound(
        cells=chosen.cells,
        rates=chosen.rates,
        page=chosen.page,
        triage=chosen.triage,
        why=((None, _counted(tried, chosen)), *chosen.why),
    )


class _Level:
    """An objective looked at with its cells pooled so far that these labels are left."""

    def __init__(self, slo: Slo, cells: tuple[str, ...]) -> None:
        rates: defaultdict[tuple[str, ...], float] = defaultdict(float)
        densest: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for cell in slo.cells:
            group = tuple(str(getattr(cell, label)) for label in cells)
            rates[group] += cell.runs_per_hour
            densest[group] = max(densest[group], cell.runs_per_hour)
        self.cells, self.rates, self._slo = cells, dict(rates), slo
        self.gap = int(HOUR / min(densest.values()))  # agents may run at the same moment: pooling fills no gap for sure
        self.why: list[tuple[Severity | None, str]] = []
        self.page: tuple[Condition, ...] = ()
        self.triage: tuple[Condition, ...] = ()
        reachable = [pair for pair in pairs(slo.window, slo.budget) if not self._left_out(pair)]
        paging = pages(slo)
        if not paging:
            what = "what is wrong with the probe alone" if _of_the_probe(slo) else "by its objective (page: false) it"
            self.why.append((None, f"{what} is triaged, and pages nobody"))
        direct = list(self._direct()) if paging else []
        burning = [burn for pair in reachable if pair.severity is Severity.P1 and paging for burn in self._burn(pair)]
        self.page = (*direct, *burning)
        self.triage = tuple(burn for pair in reachable if pair.severity is Severity.P2 for burn in self._burn(pair))
        wanted = self.page if paging and (direct or any(p.severity is Severity.P1 for p in reachable)) else self.triage
        self.loss = min((self._known(condition) for condition in wanted), default=math.inf)
        self.quick = self.loss <= SLOW if wanted is self.page else self.loss < math.inf

    def _known(self, condition: Condition) -> float:
        """ns from a total loss until it is met, in the thinnest group."""
        assert isinstance(condition, Burn | Below)
        return max(failures(rate, self._slo.budget, condition) * HOUR / rate for rate in self.rates.values())

    def _left_out(self, pair: Pair) -> bool:
        if pair.why_not:
            words = f"{prom(pair.short)} and {prom(pair.long)} above {pair.factor:g} left out: {pair.why_not}"
            self.why.append((pair.severity, words))
        return bool(pair.why_not)

    def _burn(self, pair: Pair) -> Iterator[Burn]:
        name = f"{prom(pair.long)} above {pair.factor:g}"
        remembers = pair.severity is Severity.P1 and pair.long > AFTERWARDS
        fresh = FRESH if remembers and at_least(self._held(FRESH)) < pair.long else 0
        short = at_least(max(pair.short, self._held(fresh or 1)))
        if short >= pair.long:
            words = f"{name} left out: with {self._each} its short window would have to be as long, to hold a run"
            self.why.append((pair.severity, words))
            return
        guard = self._guard(Burn(short=short, long=pair.long, factor=pair.factor), pair.long, pages_for=pair.severity)
        if guard > ROOM * min(self.rates.values()) * pair.long / HOUR:
            words = f"{name} left out: it would have to wait for {guard} failures, with {self._each}"
            self.why.append((pair.severity, words))
            return
        if short > pair.short:
            held = f"{fresh} runs" if fresh else "a run"
            words = f"{name}: short window {prom(short)} in place of {prom(pair.short)}, so that it always holds {held}"
            self.why.append((pair.severity, words))
        yield Burn(short=short, long=pair.long, factor=pair.factor, bad=guard, fresh=fresh)

    def _direct(self) -> Iterator[Below]:
        slo = self._slo
        ratio = slo.below if slo.below is not None else min(DIRECT, 1 - 5 * slo.budget)
        if slo.below is None and (slo.indicator not in _STARTS or ratio < 0.01):
            return
        for window in LADDER:
            if not DIRECT_WINDOW <= window <= DIRECT_LONGEST or window < self._held(1):
                continue
            bare = Below(window=window, ratio=round(ratio, 6), runs=1)
            enough = self._guard(bare, window, pages_for=Severity.P1, tell=False)
            if enough <= ROOM * min(self.rates.values()) * window / HOUR:
                chance = sum(false_pages(rate, slo.budget, window, enough) for rate in self.rates.values())
                words = f"below {format_ratio(round(ratio, 6))} for {prom(window)}: {enough} failures at least"
                self.why.append((Severity.P1, f"{words} (chance alone: {chance:.2g} in 30 days)"))
                yield Below(window=window, ratio=round(ratio, 6), runs=enough, bad=enough)
                return
        words = f"direct rule left out: {self._each} brings too few runs into {prom(DIRECT_LONGEST)} to tell a loss from chance"
        self.why.append((Severity.P1, words))

    def _guard(self, condition: Burn | Below, window: int, *, pages_for: Severity, tell: bool = True) -> int:
        """How many failures to ask for beside the ratio. Two where the ratio asks for more anyway: of a history that has just
        begun, or has a gap, one run is a large share."""
        budget, guard = self._slo.budget, 2
        for rate in set(self.rates.values()):
            alone = failures(rate, budget, condition)
            needed = max(2, alone)
            if pages_for is Severity.P1:
                most = int(rate * window / HOUR) + 1
                while needed <= most and self._by_chance(rate, window, needed) > FALSE_PAGES:
                    needed += 1
            if needed > alone:
                guard = max(guard, needed)
                if tell:
                    self._tell_guard(pages_for, condition, window, rate, alone, needed)
        return guard

    def _by_chance(self, rate: float, window: int, bad: int) -> float:
        """Pages in 30 days, of all groups."""
        return false_pages(rate, self._slo.budget, window, bad) * len(self.rates)

    def _tell_guard(self, severity: Severity, condition: Burn | Below, window: int, rate: float, alone: int, needed: int) -> None:
        assert isinstance(condition, Burn)
        budget = self._slo.budget
        share = f"{condition.factor:g} × {budget:.4g} = {condition.factor * budget:.4g}"
        runs = rate * window / HOUR
        sentence = (
            f"{prom(window)} above {condition.factor:g}: {share} of {runs:g} runs is {runs * condition.factor * budget:.3g},"
            f" so that {alone} failure{'s' if alone > 1 else ''} would do; guarded: {needed} failures at least"
        )
        if needed > 2:
            now, before = (self._by_chance(rate, window, bad) for bad in (needed, needed - 1))
            sentence += f" (chance alone: {now:.2g} in 30 days; {needed - 1} would come {before:.2g} times)"
        self.why.append((severity, sentence))

    def _held(self, runs: int) -> int:
        """As long a window always holds so many."""
        return int(runs * self.gap * JITTER) + LATE

    @property
    def _each(self) -> str:
        return f"{min(self.rates.values()):g} runs an hour"


def _chosen(tried: list[_Level]) -> _Level:
    """The finest that is quick enough, else the quickest. All regions are counted together only where nothing else can alert:
    a region that is lost would drown in those that are well."""
    apart = [level for level in tried if "region" in level.cells]
    quickest = min(apart, key=lambda level: level.loss)
    return next((level for level in apart if level.quick), quickest if quickest.loss < math.inf else tried[-1])


def _levels(slo: Slo) -> Iterator[tuple[str, ...]]:
    """As fine as can be first; each pools one thing more."""
    values = {label: {str(getattr(cell, label)) for cell in slo.cells} for label in _DIMENSIONS}
    cells = tuple(label for label in _DIMENSIONS if values[label] != {""})
    yield cells
    for pooled in ("publish_region", "region"):
        cells = tuple(label for label in cells if label != pooled)
        if len(values[pooled]) > 1:
            yield cells


def _counted(tried: list[_Level], chosen: _Level) -> str:
    if chosen is tried[0]:
        return f"each of {len(chosen.rates)} cells apart, {_rates(chosen)} runs an hour"
    gone = ", ".join(label for label in tried[0].cells if label not in chosen.cells)
    return (
        f"pooled over {gone}: a cell has {_rates(tried[0])} runs an hour, and a total loss would be known"
        f" {_minutes(tried[0].loss)}; pooled, {_rates(chosen)} runs an hour and {_minutes(chosen.loss)}. A loss in one of them is"
        " diluted by the others"
    )


def _refusal(slo: Slo, widest: _Level) -> str:
    rate = sum(widest.rates.values())
    wanted, longest = (Severity.P1, 6) if pages(slo) else (Severity.P2, 72)
    needed = 2 / (ROOM * longest)
    sums = "; ".join(sentence for about, sentence in widest.why if about is wanted)
    return (
        f"can never alert soundly: all cells together have {rate:g} runs an hour ({sums}). Remedy: more runs (at least"
        f" {needed:.2g} an hour of a cell, better 12), a lower target than"
        f" {format_ratio(slo.target)}, a longer window than {prom(slo.window)}" + (", or page: false" if pages(slo) else "")
    )


def _rates(level: _Level) -> str:
    low, high = min(level.rates.values()), max(level.rates.values())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _minutes(ns: float) -> str:
    return "never" if ns == math.inf else f"after {ns / MINUTE:.3g} minutes"
