"""Figures of one session, worked out once for every rendering: JSON, report, table.

A quantile is the nearest rank: always a value that was measured. What was not measured is None. A session that our own
link cut is counted up to the cut, after it only for its reconnect: what the cut broke is our own doing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from probe.model.clock import NS
from probe.model.observation import CutOutcome, Delivery, Freeze, HealthSample, Observation, RequestDone, Role, Window
from probe.model.outcome import REASONS, Failed, Outcome, Skipped
from probe.model.stage import Phase, Stage
from probe.model.verdict import RunResult, SessionResult, Verdict

Redact = Callable[[str], str]

FRAME_KINDS = (
    "decoded", "verified", "lost", "duplicate", "reordered", "corrupt", "broken", "uncoded", "foreign", "stale",
    "undecodable", "skipped",
)  # fmt: skip
MEDIA_PURPOSES = frozenset({"playlist", "init", "segment", "part", "http-flv", "http-ts"})  # media, or what leads to it
OWN_CUTS = frozenset({"flap", "rebind"})  # what our own link/ inflicts
UNPLANNED = "unplanned"  # an interruption that nobody made
W3C, FIXED, REBUFFER = "w3c", "fixed_500ms", "rebuffer"
_OUR_WORDS = frozenset(
    {
        *(word.value for words in (Verdict, Role, Phase, Stage, CutOutcome) for word in words),
        *(fact.__name__ for fact in get_args(Observation)),
        *(name for outcome in get_args(Outcome) for name in (outcome.kind, outcome.__name__)),
        *(reason for reasons in REASONS.values() for reason in reasons),
        *("in_flight", "planned", "crashed", "run", "smoke", "drill", "scheduled", "ramp", "adhoc"),
        *(*OWN_CUTS, "drop", "restart", "token_expiry", UNPLANNED, W3C, FIXED, REBUFFER),
        *("good", "bad"),
        *("mid_stream", "at_go_live", "code", "moving", "http", "websocket", "publish", "view", "cut", "wait", "fake"),
    }
)


def seconds(ns: int | None) -> float | None:
    """ns → s, to the microsecond."""
    return None if ns is None else round(ns / NS, 6)


def rfc3339(unix_ns: int) -> str:
    """UTC with milliseconds, `2026-11-21T09:00:00.000Z`."""
    whole, rest = divmod(unix_ns, NS)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def wall_of(result: RunResult, at: int) -> int:
    """Unix ns of a monotonic instant of the run."""
    return result.began.wall_unix_ns + at - result.began.at


def quantile(values: Sequence[float], q: float) -> float | None:
    """Nearest rank, `q` in 0..1; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def outcome_name(outcome: Outcome | None) -> str:
    return "in_flight" if outcome is None else outcome.kind


def phase_reason(outcome: Outcome | None) -> tuple[str, str, str]:
    """(phase, reason, detail) of an outcome; empty where it has none."""
    match outcome:
        case Failed():
            return outcome.phase.value, outcome.reason, outcome.detail
        case Skipped():
            return "", outcome.reason, outcome.detail
        case None:
            return "", "", ""
        case _:
            return "", "", getattr(outcome, "detail", "")


def status_class(status: int) -> str:
    """`2xx`…`5xx`; `none` where no answer came."""
    return f"{status // 100}xx" if 100 <= status < 600 else "none"


def unwell(health: Iterable[HealthSample], began: int, ended: int) -> bool:
    """Whether any look at the probe's health that touches [began, ended] found something wanting."""
    return any(sample.taints and sample.at > began and sample.at - sample.took < ended for sample in health)


def counts_until(session: SessionResult) -> int | None:
    """When our own link first cut the session: from then on it counts for its reconnect only."""
    return min((cut.began for cut in session.cuts if cut.kind in OWN_CUTS), default=None)


def counted_windows(session: SessionResult) -> list[Window]:
    """Windows that ended before our own link cut the session."""
    cut = counts_until(session)
    return [w for w in session.windows if cut is None or w.at <= cut]


def counted_freezes(session: SessionResult, rule: str) -> list[Freeze]:
    """Freezes of `rule` that were over before our own link cut the session."""
    cut = counts_until(session)
    return [f for f in session.freezes if f.rule == rule and (cut is None or f.began + f.took <= cut)]


def counted_requests(session: SessionResult) -> list[RequestDone]:
    """Requests that ended before our own link cut the session."""
    cut = counts_until(session)
    return [r for r in session.requests if cut is None or r.at <= cut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution by its landmarks."""

    n: int
    p50: float
    p95: float
    min: float
    max: float


def spread(values: Iterable[float]) -> Spread | None:
    ordered = sorted(v for v in values if math.isfinite(v))
    if not ordered:
        return None
    p50, p95 = quantile(ordered, 0.5), quantile(ordered, 0.95)
    assert p50 is not None and p95 is not None
    return Spread(n=len(ordered), p50=p50, p95=p95, min=ordered[0], max=ordered[-1])


def latency(session: SessionResult) -> Spread | None:
    """End-to-end latency in seconds."""
    return spread(value for w in counted_windows(session) for value in w.latencies)


def clock_error(session: SessionResult) -> float | None:
    """The worst bound any window carried, in seconds."""
    return max((w.clock_error for w in session.windows if w.clock_error is not None), default=None)


def clock_faults(session: SessionResult) -> int:
    return sum(w.clock_faults for w in session.windows)


def skew(session: SessionResult) -> Spread | None:
    """Sound against picture in seconds."""
    return spread(value for w in counted_windows(session) for value in w.skews)


def bitrate(session: SessionResult) -> Spread | None:
    """Bytes per media second, one value a window."""
    return spread(w.bytes / w.media_seconds for w in counted_windows(session) if w.media_seconds > 0)


def frames(session: SessionResult) -> dict[str, int] | None:
    """Sums of the windows by kind; None where there was no window."""
    windows = counted_windows(session)
    return {kind: sum(getattr(w, kind) for w in windows) for kind in FRAME_KINDS} if windows else None


def watched(session: SessionResult) -> int:
    """ns of counted windows since the first picture; before it nobody watched."""
    return sum(w.took for w in counted_windows(session) if session.started is not None and w.at > session.started)


def seen_deliveries(session: SessionResult) -> list[Delivery]:
    """Seconds of a segmented player that ended before our own link cut the session."""
    cut = counts_until(session)
    return [d for d in session.deliveries if cut is None or d.at <= cut]


def edges(requests: Iterable[RequestDone]) -> list[tuple[str, str, str, int]]:
    """(edge, cache, class, count) of media requests, most frequent first."""
    seen = Counter((r.edge, r.cache, status_class(r.status)) for r in requests if r.purpose in MEDIA_PURPOSES)
    return [(*key, count) for key, count in sorted(seen.items(), key=lambda item: (-item[1], item[0]))]


def redacted(value: Any, redact: Redact) -> Any:
    """Every string within a JSON-like value, redacted; but for a string that is one of our own words and nothing else. An
    account whose password is `viewer` must not make its records unreadable, and the word tells nobody anything."""
    if isinstance(value, str):
        return value if value in _OUR_WORDS else redact(value)
    if isinstance(value, dict):
        return {key: redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, redact) for item in value]
    return value
