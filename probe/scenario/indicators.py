"""What a gate or an objective may ask for, and in which unit it answers.

One table, so that a threshold in the wrong unit is refused when the file is read and not when the gate is needed. How
each is computed stands in `judge/`; that both agree is a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    RATIO = "ratio"  # written as 99.5%
    SECONDS = "seconds"  # written as 2s
    COUNT = "count"  # written as 3


@dataclass(frozen=True, slots=True)
class Indicator:
    """`objective`: it can be good or bad for a run. For seconds an objective's `within` says what good is; `higher` is
    whether more is better."""

    name: str
    unit: Unit
    meaning: str
    objective: bool = False
    higher: bool = True


def _table(*rows: Indicator) -> dict[str, Indicator]:
    return {row.name: row for row in rows}


INDICATORS = _table(
    Indicator("room_start", Unit.RATIO, "rooms that went live and could be watched, of those begun", objective=True),
    Indicator("start", Unit.RATIO, "viewers that saw a verified frame in time, of those that tried", objective=True),
    Indicator("publisher_start", Unit.RATIO, "publishers whose media was acknowledged in time", objective=True),
    Indicator("first_frame", Unit.SECONDS, "intent to play → first verified frame", objective=True, higher=False),
    Indicator("reconnect", Unit.RATIO, "cuts that a session came back from", objective=True),
    Indicator("reconnect_seconds", Unit.SECONDS, "path restored → first verified frame after it", objective=True, higher=False),
    Indicator("outage_seconds", Unit.SECONDS, "last verified frame → first newer one", objective=True, higher=False),
    Indicator("crash_free", Unit.RATIO, "sessions with a first frame that did not end unplanned", objective=True),
    Indicator("e2e_latency", Unit.SECONDS, "frame leaves the publisher → decoded at the viewer", objective=True, higher=False),
    Indicator(
        "freeze_ratio", Unit.RATIO, "share of viewing time frozen (W3C rule; rebuffering for buffered players)", higher=False
    ),
    Indicator("edge_errors", Unit.RATIO, "media requests to edges that failed", higher=False),
    Indicator("auth", Unit.RATIO, "steps of the auth service that were done", objective=True),
    Indicator("room", Unit.RATIO, "steps of the room service that were done", objective=True),
    Indicator("payment", Unit.RATIO, "payments that were taken once", objective=True),
    Indicator("chat", Unit.RATIO, "messages that every viewer saw in time", objective=True),
    Indicator("gift", Unit.RATIO, "gifts that were seen and counted once", objective=True),
    Indicator("moderation", Unit.RATIO, "flags that were acted on in time", objective=True),
    Indicator("taint_ratio", Unit.RATIO, "attempts measured while the probe was unwell", higher=False),
    Indicator("failures", Unit.COUNT, "untainted attempts that failed", higher=False),
    Indicator("attempts", Unit.COUNT, "attempts counted at intent"),
)
