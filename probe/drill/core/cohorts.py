"""What viewers alike lived through who came before the fault and stayed: outage, reconnect, time without a picture. Pure.

Outage and reconnect are of section 2 of the design and were measured by run/cutting; here they are gathered. What was measured
while the probe was unwell is apart: a figure is tainted where the probe was unwell in the gap that it is the length of, an
outcome where it was in any part of the cut. So a second of trouble in ten quiet minutes costs nobody his reconnect.

A Resumed fact says how long the picture was away, not when: a cut is over with the first picture after the restore, and the
picture may have been back long before. Where the seconds before its end show pictures, the gap is laid where the seconds show
none; its length stays exact, its place is then known to a second.

Time without a picture is the union of four things, since the injection: outages (exact), freezes by the rule that counts for the
player (W3C; rebuffering where it buffers; exact), seconds in which no verified frame was shown (a second's resolution), and what
follows the end of a session that did not end as planned. The time in which the probe was unwell is counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from probe.drill.core.marks import Marks
from probe.drill.core.readings import CROWD, CUT
from probe.judge.fold import taints_between
from probe.model.clock import NS
from probe.model.observation import CutOutcome, HealthSample, Role, Window
from probe.model.verdict import CutResult, RunResult, SessionResult

UNPLANNED = "unplanned"
_STRAY = 3  # pictures that a second may have too many: where its edge happened to fall
Span = tuple[int, int]
_WORST = (CutOutcome.UNAFFECTED, CutOutcome.RESUMED, CutOutcome.RESTARTED, CutOutcome.OPEN, CutOutcome.FAILED)


@dataclass(frozen=True, slots=True, order=True)
class Cohort:
    """Viewers alike. `ingest`: protocol of the broadcast that they watch; empty where there are several."""

    region: str
    protocol: str
    device: str
    ingest: str = ""

    @classmethod
    def of(cls, session: SessionResult) -> Cohort:
        return cls(session.region, session.protocol, session.device, session.ingest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """One viewer. ns. `outcome` None: it was not told. `outage`, `reconnect` None: there was none, it was tainted, or it was not
    measured. `early`: the picture was back while the fault still was there."""

    cohort: Cohort
    outcome: CutOutcome | None
    tainted: bool
    outage: int | None
    reconnect: int | None
    early: bool
    dark: int
    watched: int
    unsure: int

    @property
    def hit(self) -> bool:
        """It is certain that it was touched."""
        return not self.tainted and self.outcome not in (None, CutOutcome.UNAFFECTED)


def drill_cuts(session: SessionResult) -> Iterator[CutResult]:
    """What the drill's faults were to this session."""
    return (cut for cut in session.cuts if cut.kind == CUT)


def lived(results: Iterable[RunResult], marks: Marks) -> list[Lived]:
    """Every viewer of the runs held open that played when the first fault began. Empty where nothing was injected."""
    if marks.injecting is None:
        return []
    return [
        _lived(result, session, marks, marks.injecting)
        for result in results
        for session in result.sessions
        if session.role is Role.VIEWER and session.step != CROWD and played(session, marks.injecting)
    ]


def played(session: SessionResult, at: int) -> bool:
    """Whether it had begun to play before `at`, and its stay was not over."""
    return session.started is not None and session.started <= at and (session.ended is None or session.ended > at)


def _lived(result: RunResult, session: SessionResult, marks: Marks, since: int) -> Lived:
    own = list(drill_cuts(session))
    later = [cut for cut in session.cuts if cut.kind == UNPLANNED and (cut.ended or cut.began) > since]
    told = [cut.outcome for cut in (*own, *later) if cut.outcome is not None]
    untold = any(cut.outcome is None for cut in own) or not own
    outcome = max(told, key=_WORST.index, default=None)
    gaps = [gap for cut in (*own, *later) if (gap := _gap(session, cut)) is not None and gap[1] > since]
    well = [gap for gap in gaps if not taints_between(result.health, *gap)]
    end = marks.ended if session.ending == "crashed" or session.ended is None else min(marks.ended, session.ended)
    dark = dark_spans(session, since, end)
    unwell = union((h.at - h.took, h.at) for h in result.health if h.taints)
    whole = max(0, end - since)
    watched = _length(_without([(since, since + whole)], unwell))
    return Lived(
        cohort=Cohort.of(session),
        outcome=None if untold and outcome in (None, CutOutcome.UNAFFECTED) else outcome,
        tainted=any(cut.taints for cut in (*own, *later)) and not _proven(outcome, well, gaps),
        outage=max((high - low for low, high in well), default=None) if len(well) == len(gaps) else None,
        reconnect=_reconnect(own, dark, result.health),
        early=_early(dark, marks),
        dark=_length(_without(dark, unwell)),
        watched=watched,
        unsure=whole - watched,
    )


def _proven(outcome: CutOutcome | None, well: Sequence[Span], gaps: Sequence[Span]) -> bool:
    """Whether the outcome stands although the probe was unwell at some time: each gap is one of a time when it was well, or
    there was none, and an unwell probe makes gaps, it takes none away."""
    if outcome in (CutOutcome.FAILED, CutOutcome.OPEN, None):
        return False
    return len(well) == len(gaps)


def _gap(session: SessionResult, cut: CutResult) -> Span | None:
    """From the last picture to the next, where that is known."""
    if cut.ended is None:
        return None
    away = cut.outage if cut.outage is not None else cut.so_far
    if away is None:
        return None
    last = (cut.ended - away, cut.ended)
    windows = [w for w in session.windows if w.at > cut.began and w.at - w.took < cut.ended]
    rate = max((w.verified / w.took for w in session.windows if w.took >= NS // 2), default=0.0)
    if not any(w.verified > rate * (w.took - _common(last, (w.at - w.took, w.at))) + _STRAY for w in windows):
        return last
    blank = union((w.at - w.took, w.at) for w in windows if not w.verified)
    low, high = max(blank, key=lambda span: span[1] - span[0], default=_thinnest(windows))
    began = low - max(0, away - (high - low)) // 2
    return began, began + away


def _thinnest(windows: Sequence[Window]) -> Span:
    """The second with the fewest pictures."""
    window = min(windows, key=lambda w: w.verified / w.took)
    return window.at - window.took, window.at


def _common(one: Span, other: Span) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _reconnect(cuts: Sequence[CutResult], dark: Sequence[Span], health: Sequence[HealthSample]) -> int | None:
    """The longest return after a restore that was seen, of who had no picture when it came."""
    found = []
    for cut in cuts:
        if cut.reconnect is None or cut.restored is None or cut.ended is None:
            continue
        if any(low < cut.restored <= high for low, high in dark):
            if taints_between(health, cut.restored, cut.ended):
                return None
            found.append(cut.reconnect)
    return max(found, default=None)


def _early(dark: Sequence[Span], marks: Marks) -> bool:
    """It was without a picture after the injection, and had one when the last fault began to be put back."""
    if marks.restoring is None or marks.injecting is None:
        return False
    return any(low < marks.restoring for low, _ in dark) and not any(low < marks.restoring <= high for low, high in dark)


def dark_spans(session: SessionResult, since: int, end: int) -> list[Span]:
    """When no new verified picture was shown, within [since, end]."""
    rule = "rebuffer" if session.buffered else "w3c"
    spans = [gap for cut in session.cuts if (gap := _gap(session, cut)) is not None]
    spans += [(f.began, f.began + f.took) for f in session.freezes if f.rule == rule]
    spans += [(w.at - w.took, w.at) for w in session.windows if not w.verified]
    if session.ended is not None and session.ended < end:
        spans.append((session.ended, end))
    return union((max(low, since), min(high, end)) for low, high in spans)


def union(spans: Iterable[Span]) -> list[Span]:
    """Sorted and apart; what is empty is left out."""
    out: list[Span] = []
    for low, high in sorted(spans):
        if high <= low:
            continue
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return out


def _without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """`spans` minus `holes`, both sorted and apart."""
    out: list[Span] = []
    for low, high in spans:
        for began, ended in holes:
            if ended <= low or began >= high:
                continue
            if began > low:
                out.append((low, began))
            low = max(low, ended)
        if low < high:
            out.append((low, high))
    return out


def _length(spans: Iterable[Span]) -> int:
    return sum(high - low for low, high in spans)
