"""What breaks when something breaks: a fault → how each indicator's runs come out.

From the journey's own order. Where the platform is down the broadcaster gets nowhere, so sign-in, room, ingest and start are bad
and what would come later was never tried: no data, not bad. Where one ingest is broken the viewers never come, so the room
start alone tells. Where playback of one protocol is broken rooms still start, as one viewer is enough. A fault hits a run
whole: objectives of one run fail together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from probe.rules.history import Place, Seen
from probe.scenario.indicators import INDICATORS, Of


class Breaks(StrEnum):
    PLATFORM = "platform"  # nothing starts
    INGEST = "ingest"  # nobody can publish
    PLAYBACK = "playback"  # nobody can watch
    SLOW = "slow"  # it starts, late
    TAINT = "taint"  # the probe is unwell
    SILENCE = "silence"  # the probe makes no runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """From `began` to `ended` (Unix ns) a share `loss` of the runs within `place` is broken."""

    began: int
    ended: int
    place: Place
    breaks: Breaks
    loss: float = 1.0


_FIRST = frozenset({"start", "first_frame"})  # of viewers: that they started, and when
_TIMED = frozenset({"first_frame", "e2e_latency", "freeze_ratio", "reconnect_seconds", "outage_seconds"})
_EARLY = frozenset({"auth", "room"})  # before the broadcaster goes live
WATCHED = frozenset({Of.VIEWERS, Of.CODED, Of.CUTS, Of.EDGES})


def outcome(fault: Fault, indicator: str) -> Seen | None:
    """How a run that the fault broke stands to an objective on `indicator`; None: as it would without."""
    of = INDICATORS[indicator].of
    match fault.breaks:
        case Breaks.PLATFORM:
            if of in (Of.ROOM, Of.PUBLISHERS) or indicator in _FIRST or indicator in _EARLY:
                return Seen.BAD
            return Seen.NONE if of is Of.STEPS or of in WATCHED else None
        case Breaks.INGEST:
            if of in (Of.ROOM, Of.PUBLISHERS):
                return Seen.BAD
            return Seen.NONE if of in WATCHED or (of is Of.STEPS and indicator not in _EARLY) else None
        case Breaks.PLAYBACK:
            if of is Of.ROOM:
                return None if fault.place.protocol else Seen.BAD
            if indicator in _FIRST or of is Of.EDGES:
                return Seen.BAD
            return Seen.NONE if of in WATCHED else None
        case Breaks.SLOW:
            return Seen.BAD if indicator in _TIMED else None
        case Breaks.TAINT | Breaks.SILENCE:
            return None
