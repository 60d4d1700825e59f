"""Is this build worse than the last good one? An answer for each indicator, and one for the whole.

A sample is a run (compare_figures says why). Times are compared by ranks, exactly (compare_ranks); shares of good runs by
Fisher's test (compare_shares). A difference nobody would feel is not worse, however certain it is: each indicator has a smallest
one that matters (`LEAST`), and is

- worse: shown to be worse by more than that (the runs since, taken to be better by just that, still rank too high);
- better: the same the other way;
- same: the 95 % interval of the difference lies within it, on both sides (two one-sided tests, Schuirmann 1987);
- else it cannot be told, and it is said how many runs would probably tell.

Shares of runs have no such margin in the test, as 10 runs could never leave one: Fisher's test says that fewer are good, and by
`LEAST` at least.

All questions together are wrong in 2.5 % of cases at most, in each direction (compare_family).

The whole: worse where anything is. It cannot be told where nothing could have been (one run against one tells nothing, ever) or
where something looks worse: by more than matters, the interval leaves no difference out, and only the number of questions keeps
it from being shown. Else better or same: nothing is worse as far as such a comparison sees; what each indicator might hide stands
with it. A rare failure it cannot see: that a run failed at all is that run's verdict.

Not done: runs before and after are not paired (they share no hour), and the hour itself is not told from the build. Where all
runs before are of one occasion, that is said. Times are of what succeeded: a build that fails what was slow is quicker, and has
fewer good runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from probe.judge import compare_ranks as ranks
from probe.judge import compare_shares as shares
from probe.judge.compare_family import ALPHA, Chance, answerable, shown
from probe.judge.compare_figures import RunFigures
from probe.model.comparison import About, Change, Comparison, Difference, Place

MOST_RUNS = 200  # of one side in one place: the latest
_MOST_APART = 100  # lines of what could not be compared
_TOO_MANY = 500  # runs that nobody makes: that so many would tell is no advice


@dataclass(frozen=True, slots=True)
class Least:
    """The smallest difference that matters: seconds or a share, or that part of what was, whichever is more."""

    absolute: float
    relative: float = 0.0

    def of(self, before: float) -> float:
        return max(self.absolute, self.relative * abs(before))


LEAST: Mapping[str, Least] = {
    "first_frame": Least(0.1, 0.1),
    "publisher_seconds": Least(0.2, 0.1),
    "available_seconds": Least(0.25, 0.1),
    "e2e_latency": Least(0.1, 0.1),
    "reconnect_seconds": Least(0.25, 0.1),
    "outage_seconds": Least(0.25, 0.1),
    "step_seconds": Least(0.1, 0.2),
    "freeze_ratio": Least(0.01),
}
LEAST_RUNS = Least(0.1)  # of the share of good runs
RATIOS = ("room_start", "start", "publisher_start", "reconnect", "crash_free", "auth", "room", "payment", "chat", "gift",
          "moderation")  # fmt: skip


def compare(before: Sequence[RunFigures], after: Sequence[RunFigures], least: Mapping[str, Least] | None = None) -> Comparison:
    """The runs of one build against those of another. `least` replaces defaults, by indicator."""
    wanted = {**LEAST, **dict.fromkeys(RATIOS, LEAST_RUNS), **(least or {})}
    asked: list[_Question] = []
    apart: list[str] = []
    places = sorted({run.place for run in (*before, *after)})
    shared = []
    for place in places:
        old, new = _latest(before, place), _latest(after, place)
        if not old or not new:
            apart.append(f"{_where(place)}: no run {'before' if not old else 'now'}")
            continue
        shared.append((old, new))
        asked += _questions(place, old, new, wanted, apart)
    worse, better = shown([q.worse for q in asked]), shown([q.better for q in asked])
    tellable = answerable([q.worse for q in asked])
    told = tuple(
        _told(question, number in worse, number in better, number in tellable, len(asked))
        for number, question in enumerate(asked)
    )
    return Comparison(
        change=_whole(told),
        differences=told,
        release_before=_release(before),
        release_after=_release(after),
        runs_before=sum(len(old) for old, _ in shared),
        runs_after=sum(len(new) for _, new in shared),
        occasions=len({run.occasion for old, _ in shared for run in old}),
        apart=tuple(apart[:_MOST_APART]),
    )


def runs_to_tell(questions: int = 1) -> int:
    """Runs on each side from which on something can be told at all, of so many questions."""
    return next(n for n in range(1, 99) if ranks.smallest_chance(n, n) <= ALPHA / questions)


# -- the questions


@dataclass(frozen=True, slots=True)
class _Question:
    found: Difference  # all but its answer
    worse: Chance
    better: Chance


def _questions(
    place: Place, before: Sequence[RunFigures], after: Sequence[RunFigures], least: Mapping[str, Least], apart: list[str]
) -> list[_Question]:
    asked = []
    for pick, ask in ((_values, _of_values), (_goods, _of_goods)):
        old, new = _by_about(before, pick), _by_about(after, pick)
        for about in sorted({*old, *new}):
            if about in old and about in new:
                asked.append(ask(place, about, old[about], new[about], least))
            else:
                side = "before" if about not in old else "now"
                apart.append(f"{_where(place)}: {' '.join(filter(None, _parts(about)))} was not measured {side}")
    return [_with_stages(question, before, after) for question in asked]


def _values(run: RunFigures) -> Mapping[About, float]:
    return run.values


def _goods(run: RunFigures) -> Mapping[About, float]:
    return run.good


def _by_about(runs: Sequence[RunFigures], pick: Callable[[RunFigures], Mapping[About, float]]) -> dict[About, list[float]]:
    found: dict[About, list[float]] = {}
    for run in runs:
        for about, value in pick(run).items():
            found.setdefault(about, []).append(value)
    return found


def _of_values(place: Place, about: About, before: list[float], after: list[float], least: Mapping[str, Least]) -> _Question:
    margin = least[about.indicator].of(median(before))
    estimate, low, high = ranks.shift(after, before, ALPHA)
    found = Difference(
        place=place,
        about=about,
        unit="share" if about.indicator == "freeze_ratio" else "seconds",
        change=Change.CANNOT_TELL,
        before=median(before),
        after=median(after),
        runs_before=len(before),
        runs_after=len(after),
        least=margin,
        shift=estimate,
        low=low,
        high=high,
        pairs=ranks.pairs(after, before),
        suspicious=estimate > margin and low is not None and low > 0,
    )
    together = [*before, *after]
    # Nothing so close together could be shown to differ by more than matters, however it were dealt to the two sides.
    apart_enough = max(together) - min(together) > least[about.indicator].absolute
    smallest = ranks.smallest_chance(len(after), len(before)) if apart_enough else 1.0
    seen = [
        ranks.chance_larger([value - margin for value in one], other) if apart_enough else 1.0
        for one, other in ((after, before), (before, after))
    ]
    return _Question(found, Chance(seen[0], smallest), Chance(seen[1], smallest))


def _of_goods(place: Place, about: About, before: list[float], after: list[float], least: Mapping[str, Least]) -> _Question:
    old, new = sum(map(bool, before)), sum(map(bool, after))
    n, m = len(after), len(before)
    margin = least[about.indicator].of(0.0)
    low, high = shares.interval_of_difference(new, n, old, m, ALPHA)
    drop = old / m - new / n
    found = Difference(
        place=place,
        about=about,
        unit="runs",
        change=Change.CANNOT_TELL,
        before=old / m,
        after=new / n,
        runs_before=m,
        runs_after=n,
        least=margin,
        shift=-drop,
        low=low,
        high=high,
        suspicious=drop >= margin and high < 0,
    )
    bad = n + m - old - new
    worse = Chance(
        shares.chance_of_fewer(new, n, old, m) if drop >= margin else 1.0, shares.smallest_chance(bad, n, m) if bad else 1.0
    )
    better = Chance(
        shares.chance_of_fewer(old, m, new, n) if -drop >= margin else 1.0, shares.smallest_chance(bad, m, n) if bad else 1.0
    )
    return _Question(found, worse, better)


def _with_stages(question: _Question, before: Sequence[RunFigures], after: Sequence[RunFigures]) -> _Question:
    about = question.found.about
    old, new = ([run.stages[about] for run in runs if about in run.stages] for runs in (before, after))
    if not old or not new:
        return question
    names = dict.fromkeys(name for stages in (*old, *new) for name in stages)
    longer = {
        name: median(stages.get(name, 0.0) for stages in new) - median(stages.get(name, 0.0) for stages in old) for name in names
    }
    ranked = dict(sorted(longer.items(), key=lambda item: -item[1]))
    return replace(question, found=replace(question.found, stages=ranked))


# -- the answers


def _told(question: _Question, worse: bool, better: bool, tellable: bool, questions: int) -> Difference:
    found = question.found
    if worse:
        return replace(found, change=Change.WORSE, suspicious=False)
    if better:
        return replace(found, change=Change.BETTER)
    within = found.low is not None and found.high is not None and -found.least < found.low and found.high < found.least
    if within:
        return replace(found, change=Change.SAME)
    return replace(found, tellable=tellable, runs_needed=_needed(found, questions))


def _needed(found: Difference, questions: int) -> int | None:
    """Runs on each side that would probably tell. The interval narrows with the root of their number; it is to fit between what
    is seen and the margin, or a quarter of the margin where that is less."""
    fewest = runs_to_tell(questions)
    if found.unit == "runs" or found.low is None or found.high is None:
        return fewest if min(found.runs_before, found.runs_after) < fewest else None
    reach = max(abs(abs(found.shift) - found.least), found.least / 4)
    now = found.runs_before * found.runs_after / (found.runs_before + found.runs_after)
    wanted = math.ceil(2 * now * ((found.high - found.low) / 2 / reach) ** 2)
    return max(fewest, wanted) if wanted <= _TOO_MANY else None


def _whole(told: Sequence[Difference]) -> Change:
    changes = {one.change for one in told}
    if Change.WORSE in changes:
        return Change.WORSE
    answered = any(one.change is not Change.CANNOT_TELL or one.tellable for one in told)
    if not answered or any(one.suspicious and one.change is Change.CANNOT_TELL for one in told):
        return Change.CANNOT_TELL
    return Change.BETTER if Change.BETTER in changes else Change.SAME


def _latest(runs: Sequence[RunFigures], place: Place) -> list[RunFigures]:
    """Each run once, the latest where there are too many."""
    here = {run.run_id: run for run in runs if run.place == place}
    return sorted(here.values(), key=lambda run: run.began)[-MOST_RUNS:]


def _release(runs: Sequence[RunFigures]) -> str:
    return ", ".join(dict.fromkeys(run.release for run in runs if run.release))


def _where(place: Place) -> str:
    return f"{place.scenario} {place.publish_region} → {place.region}"


def _parts(about: About) -> tuple[str, ...]:
    return (
        about.indicator,
        about.protocol,
        about.ingest and f"of {about.ingest}",
        about.device and f"on {about.device}",
        about.step,
    )
