"""Indicators over runs: the definitions of what is promised, gated and reported.

Each is either a list of good and bad events, a list of seconds, or a share of time; ratios and quantiles are taken here from
all of them, exactly. A quantile is the nearest rank: the smallest sample with at least that share of samples at or
below it; no interpolation, so that every quantile is something that happened. Only untainted attempts that were done or
failed count, and a session that we cut ourselves only up to that cut, but for reconnect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probe.judge.fold import came_back, taints_between
from probe.judge.sums import counts_until, crash_taints, crashed
from probe.model.observation import RequestDone, Role
from probe.model.outcome import Done, Failed, Outcome, Skipped
from probe.model.verdict import RunResult, SessionResult, StepResult
from probe.scenario.indicators import INDICATORS, Unit

NS = 1_000_000_000
MEDIA = frozenset({"playlist", "init", "segment", "part", "http-flv", "http-ts"})  # as export/figures counts them
_SERVICES = frozenset({"auth", "room", "payment", "chat", "gift", "moderation"})
_SESSION_KINDS = frozenset({"publish", "view"})


@dataclass(frozen=True, slots=True)
class Select:
    """Which sessions; empty: all. Steps belong to the run's own region and to no protocol."""

    region: str = ""
    publish_region: str = ""
    protocol: str = ""

    def session(self, session: SessionResult) -> bool:
        """A publisher belongs to every viewing region it was watched from."""
        return (
            (self.region in ("", session.region) or session.role is Role.PUBLISHER)
            and self.publish_region in ("", session.publish_region)
            and self.protocol in ("", session.protocol)
        )

    def run(self, result: RunResult) -> bool:
        return self.region in ("", result.began.region) and self.publish_region in ("", result.began.publish_region)


EVERYTHING = Select()


@dataclass(frozen=True, slots=True)
class Measure:
    """A value in base units (ratio, seconds, count), and how many samples it stands on. None: could not be measured."""

    value: float | None
    n: int
    unit: str


def quantile(samples: Sequence[float], name: str) -> float | None:
    """`p95` or `max` of some samples, nearest rank; None of none."""
    if not samples:
        return None
    share = 1.0 if name == "max" else int(name[1:]) / 100
    return sorted(samples)[max(0, math.ceil(share * len(samples) - 1e-9) - 1)]


@dataclass(frozen=True, slots=True)
class Part:
    """What one run, or several, gives to an indicator: `good` of `total` (events, ns or attempts; `good` alone is a count), `n`
    samples behind it, and the samples themselves where it is a quantile of them, in seconds."""

    good: int = 0
    total: int = 0
    n: int = 0
    samples: tuple[float, ...] = ()

    def __add__(self, other: Part) -> Part:
        return Part(self.good + other.good, self.total + other.total, self.n + other.n, self.samples + other.samples)

    def value(self, unit: Unit, quantile_name: str = "") -> float | None:
        """In base units; None where nothing was measured."""
        if unit is Unit.SECONDS:
            return quantile(self.samples, quantile_name)
        if unit is Unit.COUNT:
            return float(self.good)
        return self.good / self.total if self.total else None


NOTHING = Part()


def measure(results: Sequence[RunResult], indicator: str, quantile_name: str = "", select: Select = EVERYTHING) -> Measure:
    """An indicator of the selected part of some runs. `quantile_name` for those in seconds."""
    unit = INDICATORS[indicator].unit
    whole = sum((part(result, indicator, select) for result in results), NOTHING)
    return Measure(whole.value(unit, quantile_name), whole.n, unit)


def part(result: RunResult, indicator: str, select: Select = EVERYTHING) -> Part:
    """What the selected part of a run gives to an indicator; parts of several runs add up."""
    if not select.run(result):
        return NOTHING
    if indicator in ("attempts", "failures", "taint_ratio"):
        return _counted(result, indicator, select)
    if indicator == "freeze_ratio":
        shares = [freezing(result, s) for s in viewers(result, select) if not s.taints]
        return Part(sum(frozen for frozen, _ in shares), sum(watched for _, watched in shares), len(shares))
    if INDICATORS[indicator].unit is Unit.SECONDS:
        samples = seconds(result, indicator, select)
        return Part(n=len(samples), samples=tuple(samples))
    verdicts = events(result, indicator, select)
    return Part(sum(verdicts), len(verdicts), len(verdicts))


def _counted(result: RunResult, indicator: str, select: Select) -> Part:
    sessions = [s for s in result.sessions if select.session(s)]
    if indicator == "attempts":
        return Part(len(sessions), len(sessions), len(sessions))
    if indicator == "taint_ratio":
        return Part(sum(1 for s in sessions if s.taints), len(sessions), len(sessions))
    tried: list[SessionResult | StepResult] = list(sessions)
    if not select.protocol:
        tried += [s for s in result.steps if s.kind not in _SESSION_KINDS]
    told = [s.outcome for s in tried if isinstance(s.outcome, Done | Failed) and not s.taints]
    return Part(sum(1 for outcome in told if isinstance(outcome, Failed)), n=len(told))


def viewers(result: RunResult, select: Select = EVERYTHING) -> list[SessionResult]:
    return [s for s in result.sessions if s.role is Role.VIEWER and select.session(s)]


def events(result: RunResult, indicator: str, select: Select = EVERYTHING) -> list[bool]:
    """Good and bad of a ratio: untainted, done or failed."""
    if indicator == "room_start":
        outcome, taints = room_start(result, select)
        return [isinstance(outcome, Done)] if isinstance(outcome, Done | Failed) and not taints else []
    if indicator in _SERVICES:
        steps = [s for s in result.steps if s.service == indicator and s.kind not in _SESSION_KINDS and not s.taints]
        return [isinstance(s.outcome, Done) for s in steps if isinstance(s.outcome, Done | Failed)]
    if indicator == "edge_errors":
        return [edge_failed(r) for s in viewers(result, select) for r in edge_requests(s) if r.purpose in MEDIA]
    if indicator == "reconnect":
        cuts = [cut for s in viewers(result, select) for cut in s.cuts if not cut.taints]
        return [back for cut in cuts if (back := came_back(cut)) is not None]
    if indicator == "crash_free":
        told = [(s, crashed(s)) for s in viewers(result, select)]
        return [not crash for s, crash in told if crash is not None and not (crash and crash_taints(result, s))]
    role = {"start": Role.VIEWER, "publisher_start": Role.PUBLISHER}[indicator]
    sessions = [s for s in result.sessions if s.role is role and select.session(s) and not s.taints]
    return [isinstance(s.outcome, Done) for s in sessions if isinstance(s.outcome, Done | Failed)]


def seconds(result: RunResult, indicator: str, select: Select = EVERYTHING) -> list[float]:
    """The samples of an indicator in seconds."""
    found = viewers(result, select)
    match indicator:
        case "first_frame":
            return [s.took / NS for s in found if s.took is not None and isinstance(s.outcome, Done) and not s.taints]
        case "reconnect_seconds":
            return [c.reconnect / NS for s in found for c in s.cuts if c.reconnect is not None and not c.taints]
        case "outage_seconds":
            return [c.outage / NS for s in found for c in s.cuts if c.outage is not None and not c.taints]
        case _:
            return [latency for s in found if not s.taints for latency in latencies(result, s)]


def latencies(result: RunResult, session: SessionResult) -> list[float]:
    """End-to-end latencies of a session in seconds, up to a cut of our own and without the seconds in which the probe was
    unwell: what it made of a picture then it made late itself."""
    until = counts_until(session)
    windows = [w for w in session.windows if w.latencies and (until is None or w.at <= until)]
    return [value for w in windows if not taints_between(result.health, w.at - w.took, w.at) for value in w.latencies]


def edge_requests(session: SessionResult) -> list[RequestDone]:
    """A viewer's requests to edges, up to a cut of our own."""
    until = counts_until(session)
    return [r for r in session.requests if (r.edge or r.purpose in MEDIA) and (until is None or r.at <= until)]


def edge_failed(request: RequestDone) -> bool:
    return request.failure is not None or request.status == 0 or request.status >= 400


def room_start(result: RunResult, select: Select = EVERYTHING) -> tuple[Outcome | None, frozenset[str]]:
    """The outcome of the room's start and its taints: one per run, (publish_region, region).

    Counted at the journey's first step. Done: a publisher started and at least one viewer did. Failed: any failure on the way
    to that. Skipped: nothing of the kind was planned, or it was never our turn. None: still under way."""
    path = [s for s in result.steps if not s.final]
    if not {"publish", "view"} <= {s.kind for s in path}:
        return Skipped("not_planned") if result.ended is not None else None, frozenset()
    publishers = [s for s in result.sessions if s.role is Role.PUBLISHER]
    found = viewers(result, Select(region=select.region, publish_region=select.publish_region))
    if any(isinstance(s.outcome, Done) or s.started is not None for s in publishers):
        good = [s for s in found if isinstance(s.outcome, Done) or s.started is not None]
        if good:
            clean = any(not s.taints for s in good)
            return Done(), frozenset() if clean else frozenset().union(*(s.taints for s in good))
    last = next(i for i, s in enumerate(path) if s.kind == "view")
    way: list[StepResult | SessionResult] = [*path[:last], *publishers, *found]
    # A step may be optional; somebody who goes live and somebody who sees it are what the start of a room is.
    failed = [s for s in way if isinstance(s.outcome, Failed) and not (isinstance(s, StepResult) and s.optional)]
    if failed:
        first = next((s for s in failed if not s.taints), failed[0])
        return first.outcome, first.taints
    ended = [s.outcome for s in way if s.outcome is not None and not isinstance(s.outcome, Done | Failed)]
    # Aborted and cancelled say more than the steps that were not reached because of them.
    ended.sort(key=lambda outcome: isinstance(outcome, Skipped))
    return (ended[0] if ended else result.outcome if result.outcome is not None else None), frozenset()


def freezing(result: RunResult, session: SessionResult) -> tuple[int, int]:
    """ns frozen and ns watched, up to a cut of our own and without the seconds in which the probe was unwell."""
    if session.started is None:
        return 0, 0
    last = max((w.at for w in session.windows), default=session.started)
    ends = [e for e in (session.ended if session.ended is not None else last, counts_until(session)) if e is not None]
    pieces = _without(session.started, min(ends), [(h.at - h.took, h.at) for h in result.health if h.taints])
    rule = "rebuffer" if session.buffered else "w3c"
    frozen = sum(
        max(0, min(high, f.began + f.took) - max(low, f.began)) for f in session.freezes if f.rule == rule for low, high in pieces
    )
    return frozen, sum(high - low for low, high in pieces)


def _without(low: int, high: int, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """[low, high] minus `holes`."""
    pieces = []
    for began, ended in sorted(holes):
        if began > low:
            pieces.append((low, min(began, high)))
        low = max(low, ended)
    return [piece for piece in (*pieces, (low, high)) if piece[1] > piece[0]]
