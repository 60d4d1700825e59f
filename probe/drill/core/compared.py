"""A drill against the last run of the same drill: better, the same or worse, figure by figure. Pure: two Scores in.

Where there are samples (outages, reconnects, first frames; shares of starts, of viewers back, of gifts) they are held against
each other by judge/compare: exact ranks, Fisher's test, a smallest difference that matters, and all questions together wrong in
2.5 % of cases. Here a sample is a viewer or a start, so what is shown is that these two drills differ: viewers of one drill stand
and fall together, and whether the platform has changed is for another run to say. The page says so.

What there is one of in each drill (time to detect, time to mitigate) has no noise that could be known: both values stand
there, and it cannot be told. What is a fact and no figure (the verdict, whether anybody noticed, who was hit outside) is compared
as such.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from probe.drill.core.score import Change, CohortScore, ComparedScore, FigureScore, Score, Spread
from probe.export.words import in_seconds
from probe.judge.compare import compare
from probe.judge.compare_figures import RunFigures
from probe.model.comparison import About, Difference, Place

_RANKS = {"pass": 0, "weakness": 1, "not_restored": 2}  # verdicts that say something of the platform
_MOST = 200  # samples of a figure
_NAMES = {"outage_seconds": "outage", "reconnect_seconds": "reconnect", "first_frame": "first frame"}
_SHARES = {"reconnect": "viewers back", "start": "starts that succeeded"}
_SAMPLES = {"first_frame": "starts", "start": "starts", "chat": "messages", "gift": "gifts", "payment": "payments"}
_WHEN = {"meanwhile": ", meanwhile", "after": ", afterwards"}


def compared(now: Score, before: Score) -> ComparedScore:
    """`now` against `before`. Raises ValueError for two drills of different names."""
    if now.drill != before.drill:
        raise ValueError(f"{before.drill} is another drill than {now.drill}")
    found = compare(list(_samples(before)), list(_samples(now)))
    figures = [*_facts(now, before), *_single(now, before), *(_figure(one) for one in found.differences)]
    change = _whole(now, before, figures)
    return ComparedScore(
        run=before.run,
        began_at=before.began,
        verdict=before.verdict,
        change=change,
        words=_words(change, now, before, figures),
        figures=figures,
        not_comparable=[words for words in found.apart if "no run" not in words],
    )


# -- samples


def _samples(score: Score) -> Iterator[RunFigures]:
    """What judge/compare takes for runs: the first holds the first sample of every figure, and so on; a figure has at most _MOST,
    and so has a place."""
    values: defaultdict[tuple[Place, int], dict[About, float]] = defaultdict(dict)
    goods: defaultdict[tuple[Place, int], dict[About, bool]] = defaultdict(dict)
    counts: Counter[tuple[Place, About, bool]] = Counter()
    for place, about, value, good in _values(score):
        number = counts[place, about, good is None]
        counts[place, about, good is None] += 1
        if value is not None:
            values[place, number][about] = value
        if good is not None:
            goods[place, number][about] = good
    for place, number in sorted({*values, *goods}):
        key = place, number
        yield RunFigures(run_id=str(number), place=place, occasion=score.run, values=values[key], good=goods[key])


def _values(score: Score) -> Iterator[tuple[Place, About, float | None, bool | None]]:
    for cohort in score.cohorts:
        place = Place(score.scenario, "", cohort.region)
        who = cohort.protocol, cohort.ingest or "", _device(cohort.device)
        yield from _spread(place, About("outage_seconds", *who), cohort.outage)
        yield from _spread(place, About("reconnect_seconds", *who), cohort.reconnect)
        back = cohort.unaffected + cohort.resumed + cohort.restarted
        yield from _share(place, About("reconnect", *who), back, cohort.failed + cohort.open)
    for start in score.starts:
        if start.when != "before":
            place = Place(score.scenario, "", start.region)
            who = start.protocol, start.ingest or "", _device(start.device)
            yield from _share(place, About("start", *who, start.when), start.done, start.failed)
            if start.when == "after":  # meanwhile only the lucky ones have a first frame
                yield from _spread(place, About("first_frame", *who, start.when), start.first_frame)
    for loss in score.losses:
        if loss.when != "before":
            place = Place(score.scenario, "", loss.region)
            lost = loss.never_seen + loss.twice + loss.not_counted + loss.failed
            yield from _share(place, About(loss.service, step=loss.when), loss.done, lost)


def _spread(place: Place, about: About, spread: Spread | None) -> Iterator[tuple[Place, About, float, None]]:
    samples = spread.samples if spread is not None else []
    count = len(samples)
    kept = samples if count <= _MOST else [samples[count * (i + 1) // _MOST - 1] for i in range(_MOST)]
    return ((place, about, value, None) for value in kept)


def _share(place: Place, about: About, good: int, bad: int) -> Iterator[tuple[Place, About, None, bool]]:
    """As many as there are, or as many as are compared in the same share."""
    total = good + bad
    if total > _MOST:
        good, total = round(good * _MOST / total), _MOST
    return ((place, about, None, i < good) for i in range(total))


def _device(name: str) -> str:
    return "" if name == "default" else name


# -- figures


def _figure(one: Difference) -> FigureScore:
    about, share = one.about, one.unit == "runs"
    where = " ".join(filter(None, (about.protocol, about.device and f"on {about.device}", f"in {one.place.region}")))
    what = _SHARES.get(about.indicator, f"{about.indicator} kept") if share else _NAMES[about.indicator]
    of = _SAMPLES.get(about.indicator, "viewers")
    change: Change = one.change.value
    told = f"{_amount(one.before, share)} before, {_amount(one.after, share)} now ({one.runs_before} and {one.runs_after} {of})"
    return FigureScore(
        name=f"{what}, {where}{_WHEN.get(about.step, '')}",
        change=change,
        before=round(one.before, 6),
        now=round(one.after, 6),
        unit="share" if share else "seconds",
        n_before=one.runs_before,
        n_now=one.runs_after,
        words=f"{told}{_why(one, of)}",
    )


def _why(one: Difference, of: str) -> str:
    if one.change.value != "cannot_tell":
        return ""
    if one.low is None or one.high is None:
        return f": too few {of} to tell"
    low, high = sorted((one.low, one.high))
    share = one.unit == "runs"
    return f": between {_signed(low, share)} and {_signed(high, share)}, and {_amount(one.least, share)} would matter"


def _amount(value: float, share: bool) -> str:
    return f"{value:.0%}" if share else in_seconds(value)


def _signed(value: float, share: bool) -> str:
    sign = "−" if value < 0 else "+"
    return f"{sign}{abs(value) * 100:.0f} points" if share else f"{sign}{in_seconds(abs(value))}"


def _single(now: Score, before: Score) -> Iterator[FigureScore]:
    """What there is one of in each."""
    for name, old, new in (
        ("time to detect", before.detection, now.detection),
        ("time to mitigate", before.mitigation, now.mitigation),
    ):
        if old is not None and new is not None:
            yield _one(name, old.took, new.took)
    again = {(one.region, one.protocol): one.took for one in before.first_frame_again}
    for one in now.first_frame_again:
        if (one.region, one.protocol) in again:
            yield _one(f"first frame again, {one.protocol} in {one.region}", again[one.region, one.protocol], one.took)
    dark = {_who(one): share for one in before.cohorts if (share := _dark(one)) is not None}
    for cohort in now.cohorts:
        if (share := _dark(cohort)) is not None and _who(cohort) in dark:
            yield _one(f"time without a picture, {cohort.protocol} in {cohort.region}", dark[_who(cohort)], share, "share")


def _one(name: str, before: float, now: float, unit: str = "seconds") -> FigureScore:
    share = unit == "share"
    words = f"{_amount(before, share)} before, {_amount(now, share)} now: one of each, so its noise is not known"
    return FigureScore(
        name=name,
        change="cannot_tell",
        before=before,
        now=now,
        unit="share" if share else "seconds",
        n_before=1,
        n_now=1,
        words=words,
    )


def _dark(cohort: CohortScore) -> float | None:
    """Share of the time watched."""
    if cohort.without_picture is None or not cohort.watched:
        return None
    return round(cohort.without_picture / cohort.watched, 6)


def _who(cohort: CohortScore) -> tuple[str, str, str, str | None]:
    return cohort.region, cohort.protocol, cohort.device, cohort.ingest


def _facts(now: Score, before: Score) -> Iterator[FigureScore]:
    """What happened, or did not."""
    if now.injected_at is None or before.injected_at is None:
        return
    if before.detection is not None or now.detection is not None:
        words = f"{_noticed(before)} before, {_noticed(now)} now"
        yield _fact(
            "noticed by an alert or a gate", before.detection is not None, now.detection is not None, words, more_is_better=True
        )
    if now.blast.of_outside and before.blast.of_outside:
        old, new = _outside(before), _outside(now)
        yield _fact("hit outside the target", old, new, f"{old} before, {new} now", more_is_better=False)


def _outside(score: Score) -> int:
    return score.blast.hit_outside + sum(hit.starts_failed for hit in score.blast.outside)


def _noticed(score: Score) -> str:
    return "by nobody" if score.detection is None else f"by {score.detection.name}"


def _fact(name: str, before: float, now: float, words: str, *, more_is_better: bool) -> FigureScore:
    change: Change = "same" if now == before else "better" if (now > before) is more_is_better else "worse"
    return FigureScore(
        name=name, change=change, before=float(before), now=float(now), unit="count", n_before=1, n_now=1, words=words
    )


# -- the whole


def _whole(now: Score, before: Score, figures: Sequence[FigureScore]) -> Change:
    """Worse where anything is; better where something is and nothing is worse. A verdict that says nothing of the platform on
    either side leaves it open."""
    ranks = _RANKS.get(now.verdict), _RANKS.get(before.verdict)
    if ranks[0] is None or ranks[1] is None:
        return "cannot_tell"
    changes = {figure.change for figure in figures}
    if ranks[0] > ranks[1] or "worse" in changes:
        return "worse"
    if ranks[0] < ranks[1] or "better" in changes:
        return "better"
    return "same" if "same" in changes else "cannot_tell"


def _words(change: Change, now: Score, before: Score, figures: Iterable[FigureScore]) -> str:
    verdicts = f"{before.verdict.replace('_', ' ')} before, {now.verdict.replace('_', ' ')} now"
    if change == "cannot_tell":
        return f"whether it is better or worse than last time cannot be told ({verdicts})"
    told = [figure.name for figure in figures if figure.change == change]
    head = "the same as last time" if change == "same" else f"{change} than last time"
    named = f": {'; '.join(told[:3])}" + (f", and {len(told) - 3} more" if len(told) > 3 else "") if told else ""
    return f"{head} ({verdicts}){named if change != 'same' else ''}"
