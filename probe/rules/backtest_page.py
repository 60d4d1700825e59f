"""backtest.html: who would have been woken, as a picture; one file like the reports, without script or network.

Where things stand is worked out here, in per cent of a width (heights in px), as probe.export.charts does; colours and words of
the page are its template's. What a colour says is said by height and figures too.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from probe.export import report as reports
from probe.export.charts import Bar, Tick, ticks
from probe.rules.backtest import OURS
from probe.rules.backtest_report import DAY, HOUR, MINUTE, Report, aim, lasting, rounded, sentence, share
from probe.rules.history import History, Incident, Needs
from probe.rules.patterns import PATTERNS
from probe.rules.score import Score, belongs
from probe.rules.told import Notice

_TEMPLATES = Path(__file__).parent / "templates"
_SLOTS = 400  # of a strip, each as wide as the thinnest mark
HEIGHT = 300  # px of the overview
_GAP = 17  # px between labels
_LETTER = 0.72  # per cent of the width, on a desk


def backtest_html(report: Report) -> str:
    """The whole page."""
    sheets = (Path(reports.__file__).parent / "templates" / "report.css", _TEMPLATES / "backtest.css")
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        reports.environment(str, _TEMPLATES)
        .get_template("backtest.html.j2")
        .render(
            style=Markup(style),  # noqa: S704 - our own files, and their hash stands in the policy
            digest=digest,
            report=report,
            headlines=[(report.label(*row), report.spoken[row[0]], sentence(report.total(*row))) for row in report.rows],
            overview=overview(report) if report.known else None,
            columns=[report.label(*row) for row in report.rows],
            matrix=[_Row.of(report, history) for history in report.histories],
            panels=[_Panel.of(report, history) for history in report.histories],
            budgets=_budgets(report),
            targets=[aim(target) for target in report.targets],
            every=lasting(report.interval),
        )
    )


@dataclass(frozen=True, slots=True)
class Dot:
    """A ruleset in the overview: `x` per cent, `y` and the label's `at` px."""

    x: float
    y: float
    at: float
    label: str
    said: str
    kind: str  # ours or rival; never: it found nothing
    left: bool = False  # its label stands on its left


@dataclass(frozen=True, slots=True)
class Overview:
    """Soon and quiet is below and left."""

    dots: tuple[Dot, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]  # px


def overview(report: Report) -> Overview:
    """Median detection against false pages a week, both logarithmic, of every ruleset over all histories."""
    scores = {row: report.total(*row) for row in report.rows}
    most = max((_false(s) for s in scores.values()), default=0.0)
    top = max(1.0, most * 1.3)
    latest = max([s.found_in or 0 for s in scores.values()] + [30 * MINUTE]) * 1.5
    low, high = math.log(MINUTE / 2), math.log(latest)

    def across(ns: float) -> float:
        return round(4 + 92 * (math.log(max(ns, MINUTE / 2)) - low) / (high - low), 2)

    def up(value: float) -> float:
        return round(HEIGHT - 28 - (HEIGHT - 60) * math.log1p(value * 4) / math.log1p(top * 4), 1)

    dots = []
    for row, score in scores.items():
        never = score.found_in is None
        kind = ("ours" if row[0] == OURS else "rival") + (" never" if never else "")
        x = 97.0 if never or score.found_in is None else across(score.found_in)
        dots.append(Dot(x, up(_false(score)), 0.0, f"{report.label(*row)}: {_missed(score)}", sentence(score), kind))
    steps = [ns for ns in (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, DAY) if ns < latest]
    heights = [0.0, *(v for v in (0.25, 1, 4, 16, 64, 256) if v <= top)]
    return Overview(
        _sided(_apart(dots)),
        tuple(Tick(across(ns), lasting(ns)) for ns in steps),
        tuple(Tick(up(value), rounded(value)) for value in heights),
    )


def _apart(dots: Sequence[Dot]) -> list[Dot]:
    """With labels that do not lie on each other: pushed down in order, then the whole back up where it overflows."""
    out: list[Dot] = []
    below = 0.0
    for dot in sorted(dots, key=lambda d: d.y):
        out.append(replace(dot, at=max(dot.y, below)))
        below = out[-1].at + _GAP
    floor = HEIGHT - 28.0
    for n in range(len(out) - 1, -1, -1):
        out[n] = replace(out[n], at=min(out[n].at, floor))
        floor = out[n].at - _GAP
    return out


def _sided(dots: Sequence[Dot]) -> tuple[Dot, ...]:
    """Each label on the side where fewer other dots lie under it; to the left where the right has no room for it."""

    def under(dot: Dot, left: bool) -> tuple[bool, int, bool]:
        width = len(dot.label) * _LETTER + 2
        low, high = (dot.x - width, dot.x) if left else (dot.x, dot.x + width)
        covered = sum(other is not dot and low <= other.x <= high and abs(other.y - dot.at) < _GAP / 2 for other in dots)
        return (low < 0 or high > 100, covered, left is not (dot.x > 55))

    return tuple(replace(dot, left=min((False, True), key=lambda left: under(dot, left))) for dot in dots)


@dataclass(frozen=True, slots=True)
class Box:
    """One cell of the matrix."""

    state: str
    sign: str
    first: str
    small: str


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    spoken: str
    boxes: tuple[Box, ...]

    @classmethod
    def of(cls, report: Report, history: History) -> _Row:
        boxes = tuple(_box(report.of(history, *row).score) for row in report.rows)
        return cls(history.name, _plain(history), boxes)


def _plain(history: History) -> str:
    pattern = PATTERNS.get(history.name)
    return pattern.spoken if pattern else history.spoken


def _box(score: Score) -> Box:
    pages = f"{rounded(score.pages_a_week)} pages a week"
    if score.incidents is None:
        return Box("pass", "", pages, "")
    small = pages + (f", {score.false_pages} false" if score.false_pages else "")
    quiet = not score.false_pages
    if not score.incidents:
        return Box("pass", "✓", "quiet", "") if not score.pages else Box("warn", "!", pages, share(score))
    if score.missed:
        found = score.incidents - score.missed
        return Box("fail", "✕", f"{score.missed} of {score.incidents} missed", small if not found else f"{_soon(score)}; {small}")
    return Box("pass" if quiet else "warn", "✓" if quiet else "!", _soon(score), small)


def _soon(score: Score) -> str:
    return "" if score.found_in is None else f"in {lasting(score.found_in)}"


def _missed(score: Score) -> str:
    if not score.incidents:
        return "nothing to find"
    return "all found" if not score.missed else f"{score.missed} of {score.incidents} missed"


def _false(score: Score) -> float:
    return (score.false_pages or 0) / score.weeks if score.weeks else 0.0


@dataclass(frozen=True, slots=True)
class Strip:
    label: str
    note: str
    bars: tuple[Bar, ...]
    value: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class _Panel:
    """One history: all of it, and its first incident from near."""

    name: str
    spoken: str
    whole: tuple[Strip, ...]
    days: tuple[Tick, ...]
    near: tuple[Strip, ...]
    hours: tuple[Tick, ...]
    about: str

    @classmethod
    def of(cls, report: Report, history: History) -> _Panel:
        span = history.ended - history.began
        days = ticks(span / DAY, lambda day: f"{day:.0f} d", 6)
        whole = (*_truth(history, history.began, span), *(_strip(report, history, row) for row in report.rows))
        first = next((i for i in history.incidents or () if i.needs is not Needs.NOBODY), None)
        near: tuple[Strip, ...] = ()
        hours: tuple[Tick, ...] = ()
        if first is not None:
            lasts = first.ended - first.began
            margin = max(10 * MINUTE, lasts // 8)
            began, width = first.began - margin, lasts + margin + max(30 * MINUTE, lasts // 2)
            near = (*_truth(history, began, width), *(_close(report, history, row, first, began, width) for row in report.rows))
            hours = _hours(margin, width)
        about = "" if first is None else f"{first.name}, {first.place}, {lasting(first.ended - first.began)}"
        return cls(history.name, history.spoken, whole, days, near, hours, about)


def _hours(margin: int, width: int) -> tuple[Tick, ...]:
    """Round durations after the incident began."""
    unit = next((u for u in (MINUTE, HOUR, DAY) if (width - margin) / u <= 100), DAY)
    found = ticks((width - margin) / unit, lambda value: lasting(int(value * unit)) if value else "0", 5)
    scale = (width - margin) / width
    return tuple(Tick(round(100 * margin / width + tick.at * scale, 3), tick.label) for tick in found)


def _truth(history: History, began: int, span: int) -> tuple[Strip, ...]:
    if history.incidents is None:
        return ()
    bars = tuple(
        _bar(one.began, one.ended, began, span, "truth", f"{one.name}, {one.place}, {lasting(one.ended - one.began)}", 100.0)
        for one in history.incidents
        if one.ended > began and one.began < began + span
    )
    return (Strip("what was wrong", "", bars, str(len(history.incidents))),)


def _strip(report: Report, history: History, row: tuple[str, float | None]) -> Strip:
    """A mark a page; pages that would lie on each other are one, with their count."""
    result = report.of(history, *row)
    span = history.ended - history.began
    marks: dict[tuple[int, str], list[Notice]] = {}
    for page in result.pages:
        true = history.incidents is None or any(_real(page, i) for i in history.incidents)
        slot = (page.began - history.began) * _SLOTS // span
        marks.setdefault((slot, "paged" if true else "false"), []).append(page)
    bars = tuple(
        _bar(
            pages[0].began,
            max(page.ended or history.ended for page in pages),
            history.began,
            span,
            kind,
            _said(pages) + ("" if kind == "paged" else "; for nothing"),
            100.0 if kind == "paged" else 55.0,
        )
        for (_, kind), pages in marks.items()
    )
    score = result.score
    value = f"{score.pages} page{'' if score.pages == 1 else 's'}" + (f", {score.false_pages} false" if score.false_pages else "")
    return Strip(report.label(*row), "", bars, value, bool(score.false_pages or score.missed))


def _said(pages: Sequence[Notice]) -> str:
    if len(pages) > 1:
        return f"{len(pages)} pages"
    return f"{pages[0].slo} {pages[0].region}: {', '.join(pages[0].alerts)}"


def _real(page: Notice, incident: Incident) -> bool:
    return incident.needs is not Needs.NOBODY and belongs(page, incident)


def _close(report: Report, history: History, row: tuple[str, float | None], incident: Incident, began: int, span: int) -> Strip:
    result = report.of(history, *row)
    told: list[tuple[Notice, str]] = [(page, "paged") for page in result.pages] + [(t, "ticketed") for t in result.tickets]
    mine = [(notice, kind) for notice, kind in told if belongs(notice, incident)]
    counts = [n for n, kind in mine if belongs(n, incident, 0) and (kind == "paged" or incident.needs is Needs.TRIAGE)]
    bars = tuple(
        _bar(n.began, n.ended or history.ended, began, span, kind, _said([n]), 100.0 if kind == "paged" else 45.0)
        for n, kind in mine[:_SLOTS]
    )
    if not counts:
        return Strip(report.label(*row), "", bars, "missed", True)
    return Strip(report.label(*row), "", bars, f"in {lasting(max(0, min(n.began for n in counts) - incident.began))}")


def _bar(began: int, ended: int, origin: int, span: int, kind: str, said: str, height: float) -> Bar:
    low, high = min(max(began, origin), origin + span), min(max(ended, origin), origin + span)
    at = 100 * (low - origin) / span
    width = max(100 * (high - low) / span, 0.25)
    return Bar(round(min(at, 99.75), 3), round(width, 3), kind, said, height)


def _budgets(report: Report) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """For each history what the worst objective used, by target."""
    out = []
    for history in report.histories:
        cells = []
        for target in report.targets:
            budget = next(b for b in report.budgets if b.history is history and b.target == target)
            cells.append(("", "") if budget.worst is None else (f"{budget.worst[1]:.0%}", budget.worst[0]))
        out.append((history.name, tuple(cells)))
    return out
