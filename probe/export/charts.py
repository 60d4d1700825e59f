"""Geometry of the report's pictures: results → where things stand, in per cent of a width.

Per cent, because an SVG without a viewBox then stretches from a phone to a desk while its text keeps its size. Pure: no
markup here, and no colours; those are the template's and the stylesheet's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from probe.export import figures
from probe.export.words import duration, how_it_came_back, in_seconds, tick, well, what_happened
from probe.model.clock import NS
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import Done
from probe.model.stage import Stage
from probe.model.verdict import RunResult, SessionResult

MOST_ROWS = 50
_STEPS = (1, 2, 5)

# Eighteen stages in six colours: what a stage is about matters more at a glance than its name, which the hover tells.
GROUPS: dict[Stage, str] = {
    Stage.PROBE: "probe",
    **dict.fromkeys((Stage.RESOLVE, Stage.CONNECT, Stage.TLS), "network"),
    **dict.fromkeys((Stage.HANDSHAKE, Stage.AUTH, Stage.JOIN, Stage.SIGNAL), "signal"),
    **dict.fromkeys((Stage.ICE, Stage.DTLS), "transport"),
    **dict.fromkeys((Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, Stage.PART, Stage.FIRST_PACKET, Stage.KEYFRAME), "media"),
    **dict.fromkeys((Stage.FIRST_FRAME, Stage.ACK), "picture"),
}


@dataclass(frozen=True, slots=True)
class Tick:
    at: float  # per cent
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of a row. `kind` becomes a class, `said` is what hovering tells; `height` in per cent of the row."""

    at: float
    width: float
    kind: str
    said: str
    height: float = 100.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a chart: who, the bars, marks at single instants, and a value at its end."""

    label: str
    note: str
    bars: tuple[Bar, ...]
    value: str
    bad: str = ""  # what went wrong, in words
    marks: tuple[Bar, ...] = ()
    tainted: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    hidden: int = 0


def ticks(span: float, label: Callable[[float], str], most: int = 6) -> tuple[Tick, ...]:
    """Round values from 0 up to `span`; at most about `most` of them."""
    if span <= 0:
        return ()
    rough = span / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next((s * scale for s in _STEPS if s * scale >= rough), 10 * scale)
    return tuple(Tick(_per_cent(n * step, span), label(n * step)) for n in range(int(span / step + 1e-9) + 1))


def waterfall(result: RunResult) -> Chart:
    """Stages of each start on one scale, from each session's own intent."""
    shown, hidden = _chosen(result.sessions)
    longest = max((sum(p.took for p in s.slices) for s in shown), default=0)
    span = longest * 1.02
    rows = []
    for session in shown:
        bars = tuple(
            Bar(
                _per_cent(piece.began - session.began, span),
                _per_cent(piece.took, span),
                GROUPS[piece.stage],
                f"{piece.stage.value}: {duration(piece.took)}",
            )
            for piece in session.slices
        )
        total = sum(piece.took for piece in session.slices)
        failed = "" if isinstance(session.outcome, Done) else what_happened(session.outcome)
        stopped = (Bar(_per_cent(total, span), 0.0, "end", failed),) if failed else ()
        rows.append(_row(session, bars, duration(total), failed, stopped))
    return Chart(tuple(rows), ticks(span, tick), hidden)


def timeline(result: RunResult) -> Chart:
    """Frames, freezes and cuts of every session over the run's own time, and the probe's health below them."""
    shown, hidden = _chosen(result.sessions)
    begin = result.began.at
    end = result.ended or max((at for s in shown for at in (s.ended, s.started, s.began) if at is not None), default=begin)
    span = max(end - begin, NS)

    def stretch(start: int, stop: int, kind: str, said: str, height: float = 100.0) -> Bar:
        start, stop = min(max(start, begin), end), min(max(stop, begin), end)
        return Bar(_per_cent(start - begin, span), _per_cent(stop - start, span), kind, said, height)

    rows = [_row(s, *_life(s, end, stretch)) for s in shown]
    return Chart(tuple([*rows, _health(result, stretch)]), ticks(span, tick, 8), hidden)


def _life(session: SessionResult, end: int, stretch: Callable[..., Bar]) -> tuple[tuple[Bar, ...], str, str, tuple[Bar, ...]]:
    until = session.started or session.ended or end
    bars = [stretch(session.began, until, "starting", f"starting: {duration(until - session.began)}")]
    if session.role is Role.PUBLISHER and session.started is not None:
        bars.append(stretch(session.started, session.ended or end, "sending", "media acknowledged", 45.0))
    bars += _frames(session, end, stretch)
    cuts = []
    for cut in session.cuts:
        back = cut.restored or cut.ended or end
        kind = "lost" if cut.kind == figures.UNPLANNED else "cut"
        cuts.append(stretch(cut.began, back, kind, f"{cut.kind} for {duration(back - cut.began)}: {how_it_came_back(cut)}"))
        if cut.outage is not None and cut.ended is not None and cut.ended > back:
            bars.append(stretch(back, cut.ended, "out", f"path restored, no new picture for {duration(cut.ended - back)}", 8.0))
        if cut.outcome in (CutOutcome.FAILED, CutOutcome.OPEN):
            bars.append(stretch(back, session.ended or end, "away", "no verified frame", 8.0))
    for freeze in session.freezes:
        if freeze.rule != figures.FIXED:
            name = "rebuffering" if freeze.rule == figures.REBUFFER else "frozen"
            bars.append(stretch(freeze.began, freeze.began + freeze.took, "freeze", f"{name} for {duration(freeze.took)}", 26.0))
    marks = []
    stopped = session.ended if session.ended is not None else end
    wrong = ""
    if session.outcome is not None and not isinstance(session.outcome, Done):
        wrong = what_happened(session.outcome)
        marks.append(stretch(stopped, stopped, "end", wrong))
    elif not well(session) and session.ended_by is not None:
        wrong = f"crashed: {session.ended_by.phase.value}/{session.ended_by.reason}"
        marks.append(stretch(stopped, stopped, "end", wrong))
    outages = [cut.outage for cut in session.cuts if cut.outage is not None]
    value = f"{duration(max(outages))} out" if outages else ""
    return (*cuts, *bars), value, wrong, tuple(marks)


def _frames(session: SessionResult, end: int, stretch: Callable[..., Bar]) -> list[Bar]:
    """Verified frames of each window, over the part of it in which there could be any: after the start, outside outages."""
    if session.started is None:
        return []
    holes = [(cut.ended - cut.outage, cut.ended) for cut in session.cuts if cut.ended is not None and cut.outage is not None]
    holes += [(cut.began, session.ended or end) for cut in session.cuts if cut.outcome in (CutOutcome.FAILED, CutOutcome.OPEN)]
    seen = [(w, pieces(max(w.at - w.took, session.started), w.at, holes)) for w in session.windows]
    rated = [(w, parts, w.verified * NS / spent) for w, parts in seen if (spent := sum(b - a for a, b in parts)) > 0]
    whole = [w.verified * NS / w.took for w in session.windows if w.took >= NS // 2]
    usual = max(whole, default=0.0) or max((rate for *_, rate in rated), default=0.0)
    bars = []
    for window, parts, rate in rated:
        spent = sum(b - a for a, b in parts)
        # A frame or two more or less is where a window's edge happened to fall.
        thin = rate < 0.9 * usual and usual * spent / NS - window.verified >= 3
        said = f"{rate:.0f} verified frames a second" + (f", {window.lost} lost" if window.lost else "")
        height = min(100.0, 100 * rate / usual) if usual else 0.0
        bars += [stretch(a, b, "frames thin" if thin else "frames", said, height if thin else 100.0) for a, b in parts if rate]
    return bars


def pieces(low: int, high: int, holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """[low, high) without the holes."""
    out = []
    for began, ended in sorted(holes):
        if began > low:
            out.append((low, min(began, high)))
        low = max(low, ended)
    return [(a, b) for a, b in [*out, (low, high)] if b > a]


def _health(result: RunResult, stretch: Callable[..., Bar]) -> Row:
    bars = []
    worst = max((s.loop_lag for s in result.health), default=0.0)
    for sample in result.health:
        kind = "unwell" if sample.taints else "well"
        said = f"loop lag {in_seconds(sample.loop_lag)}" + (f", {', '.join(sample.taints)}" if sample.taints else "")
        bars.append(stretch(sample.at - sample.took, sample.at, kind, said, 100.0 if sample.taints else 22.0))
    return Row("the probe itself", "", tuple(bars), f"{in_seconds(worst)} lag" if result.health else "", "")


@dataclass(frozen=True, slots=True)
class Dot:
    at: float
    said: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """One line of a distribution: a dot for each value, a box from p50 to p95, and its landmarks in words."""

    label: str
    note: str
    dots: tuple[Dot, ...]
    p50: float
    p95: float
    median: str
    tail: str


@dataclass(frozen=True, slots=True)
class Distribution:
    strips: tuple[Strip, ...]
    ticks: tuple[Tick, ...]


def first_frames(result: RunResult) -> Distribution | None:
    """Viewers' first-frame latency by protocol, linear from 0."""
    viewers = [s for s in result.sessions if s.role is Role.VIEWER and s.took is not None]
    if not viewers:
        return None
    span = max(s.took or 0 for s in viewers) * 1.06
    strips = []
    for protocol in dict.fromkeys(s.protocol for s in viewers):
        alike = [s for s in viewers if s.protocol == protocol]
        seen = figures.spread(float(s.took) for s in alike if s.took is not None and not s.taints)
        dots = tuple(
            Dot(_per_cent(s.took or 0, span), f"{s.name}: {duration(s.took)}", "tainted" if s.taints else "") for s in alike
        )
        median, tail = (f"p50 {duration(seen.p50)}", f"p95 {duration(seen.p95)}") if seen else ("all tainted", "")
        count = f"{seen.n if seen else 0} of {len(alike)} untainted" if any(s.taints for s in alike) else _starts(len(alike))
        p50, p95 = (_per_cent(seen.p50, span), _per_cent(seen.p95, span)) if seen else (0.0, 0.0)
        strips.append(Strip(protocol, count, dots, p50, p95, median, tail))
    return Distribution(tuple(strips), ticks(span, tick, 4))


_DECADES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def latencies(result: RunResult) -> Distribution | None:
    """End-to-end latency of each viewer: medians of each second, on a logarithmic scale, since protocols differ hundredfold."""
    shown, _ = _chosen([s for s in result.sessions if figures.latency(s) is not None])
    spreads = [(s, found) for s in shown if (found := figures.latency(s)) is not None and found.p50 > 0]
    if not spreads:
        return None
    least = max((d for d in _DECADES if d <= min(f.p50 for _, f in spreads) * 0.9), default=_DECADES[0])
    most = min((d for d in _DECADES if d >= max(f.max for _, f in spreads)), default=_DECADES[-1])
    low, high = math.log(least), math.log(max(most, least * 10))

    def place(value: float) -> float:
        return min(100.0, max(0.0, 100 * (math.log(max(value, least)) - low) / (high - low)))

    strips = []
    for session, found in spreads:
        seconds = [q for w in figures.counted_windows(session) if (q := figures.quantile(w.latencies, 0.5)) is not None]
        error = figures.clock_error(session)
        known = f"clock ± {in_seconds(error)}" if error is not None else "clock error unknown"
        median, tail = f"p50 {in_seconds(found.p50)}", f"p95 {in_seconds(found.p95)}"
        dots = tuple(Dot(place(value), in_seconds(value)) for value in seconds[:120])
        strips.append(Strip(session.name, known, dots, place(found.p50), place(found.p95), median, tail))
    marks = tuple(Tick(place(d), tick(d * NS)) for d in _DECADES if least <= d <= max(most, least * 10))
    return Distribution(tuple(strips), marks)


def _chosen(sessions: Sequence[SessionResult]) -> tuple[list[SessionResult], int]:
    """At most fifty: what went wrong first to be kept, then the slowest starts; shown in order of beginning."""
    ranked = sorted(sessions, key=lambda s: (well(s), -(s.took or 0)))[:MOST_ROWS]
    kept = {s.session for s in ranked}
    return [s for s in sessions if s.session in kept], len(sessions) - len(kept)


def _row(session: SessionResult, bars: Iterable[Bar], value: str, bad: str, marks: tuple[Bar, ...] = ()) -> Row:
    note = f"{session.protocol} · {session.role.value}"
    return Row(session.name, note, tuple(bars), value, bad, marks, ", ".join(sorted(session.taints)))


def _starts(count: int) -> str:
    return f"{count} start{'s' if count != 1 else ''}"


def _per_cent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole > 0 else 0.0
