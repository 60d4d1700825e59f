"""What a gate or an objective may ask for, and in which unit it answers.

One table, so that a threshold in the wrong unit is refused when the file is read and not when the gate is needed. How
each is computed stands in `judge/`; that both agree is a test. What a journey must hold for one to be measured at all stands
in `produced`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    RATIO = "ratio"  # written as 99.5%
    SECONDS = "seconds"  # written as 2s
    COUNT = "count"  # written as 3
    RATE = "bits_per_second"  # written as 400kbps


class Of(StrEnum):
    """What an indicator is counted of."""

    ROOM = "room"  # a broadcaster and whoever sees it
    VIEWERS = "viewers"
    CODED = "coded"  # viewers of what we publish
    PUBLISHERS = "publishers"
    CUTS = "cuts"  # viewers that a step cuts
    EDGES = "edges"  # viewers that fetch their media over HTTP
    STEPS = "steps"  # of the service of its name
    SESSIONS = "sessions"
    ANYTHING = "anything"
    DUE = "due"  # runs that the inventory says are due
    STAY = "stay"  # the audience that stays for the whole of a drill


class Bound(StrEnum):
    """The field of an objective that says what a good run is."""

    NONE = ""
    WITHIN = "within"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"


@dataclass(frozen=True, slots=True)
class Indicator:
    """`good`: what a good run is, with `{}` for the bound; empty where no objective can ask for it. `higher` is whether more is
    better; `service` whose it is, unless an objective says another. `gate`: a gate can ask for it."""

    name: str
    unit: Unit
    meaning: str
    of: Of
    good: str = ""
    bound: Bound = Bound.NONE
    service: str = "playback"
    higher: bool = True
    gate: bool = True

    @property
    def objective(self) -> bool:
        """Whether it can be good or bad for a run."""
        return bool(self.good)

    def promise(self, bound: str) -> str:
        """What a good run is, in words; `bound` as written."""
        return self.good.format(bound)


def _table(*rows: Indicator) -> dict[str, Indicator]:
    return {row.name: row for row in rows}


INDICATORS = _table(
    Indicator(
        "room_start", Unit.RATIO, "rooms that went live and could be watched, of those begun",
        Of.ROOM, "the broadcaster went live and at least one viewer saw it", service="room",
    ),
    Indicator(
        "start", Unit.RATIO, "viewers that saw a verified frame in time, of those that tried",
        Of.VIEWERS, "every viewer saw a verified frame before its start deadline",
    ),
    Indicator(
        "publisher_start", Unit.RATIO, "publishers whose media was acknowledged in time",
        Of.PUBLISHERS, "every publisher's media was acknowledged in time", service="ingest",
    ),
    Indicator(
        "first_frame", Unit.SECONDS, "intent to play → first verified frame",
        Of.VIEWERS, "every viewer saw its first verified frame within {}", Bound.WITHIN, higher=False,
    ),
    Indicator(
        "reconnect", Unit.RATIO, "cuts that a session came back from", Of.CUTS, "every viewer came back from every cut",
    ),
    Indicator(
        "reconnect_seconds", Unit.SECONDS, "path restored → first verified frame after it",
        Of.CUTS, "every viewer saw a verified frame within {} of the path's return", Bound.WITHIN, higher=False,
    ),
    Indicator(
        "outage_seconds", Unit.SECONDS, "last verified frame → first newer one",
        Of.CUTS, "no viewer's picture was away for longer than {}", Bound.WITHIN, higher=False,
    ),
    Indicator(
        "crash_free", Unit.RATIO, "sessions with a first frame that did not end unplanned",
        Of.VIEWERS, "no viewer that had a first frame ended unplanned",
    ),
    Indicator(
        "e2e_latency", Unit.SECONDS, "frame leaves the publisher → decoded at the viewer",
        Of.CODED, "95% of each viewer's frames were on screen within {} of leaving the publisher", Bound.WITHIN, higher=False,
    ),
    Indicator(
        "freeze_ratio", Unit.RATIO, "share of viewing time frozen (W3C rule; rebuffering for buffered players)",
        Of.VIEWERS, "every viewer's picture was frozen for at most {} of its time", Bound.AT_MOST, higher=False,
    ),
    Indicator(
        "bitrate", Unit.RATE, "media bits per second of media, over a viewer's stay",
        Of.VIEWERS, "every viewer was sent at least {} of media", Bound.AT_LEAST, gate=False,
    ),
    Indicator(
        "edge_errors", Unit.RATIO, "media requests to edges that failed",
        Of.EDGES, "at most {} of the viewers' requests to edges failed", Bound.AT_MOST, service="edge", higher=False,
    ),
    Indicator(
        "auth", Unit.RATIO, "steps of the auth service that were done",
        Of.STEPS, "every step of the auth service was done", service="auth",
    ),
    Indicator(
        "room", Unit.RATIO, "steps of the room service that were done",
        Of.STEPS, "every step of the room service was done", service="room",
    ),
    Indicator(
        "payment", Unit.RATIO, "payments that were taken once", Of.STEPS, "every payment was taken, once", service="payment",
    ),
    Indicator(
        "chat", Unit.RATIO, "messages that every viewer saw in time",
        Of.STEPS, "every message was seen in time by everybody who was to see it", service="chat",
    ),
    Indicator(
        "gift", Unit.RATIO, "gifts that were seen and counted once",
        Of.STEPS, "every gift was seen, and counted once", service="gift",
    ),
    Indicator(
        "moderation", Unit.RATIO, "flags that were acted on in time",
        Of.STEPS, "every flag was acted on in time", service="moderation",
    ),
    Indicator(
        "taint_ratio", Unit.RATIO, "attempts measured while the probe was unwell",
        Of.SESSIONS, "at most {} of the attempts were measured while the probe was unwell", Bound.AT_MOST, "probe", higher=False,
    ),
    Indicator(
        "coverage", Unit.RATIO, "runs that were made, of those that were due", Of.DUE, "the run that was due was made",
        service="probe", gate=False,
    ),
    Indicator("failures", Unit.COUNT, "untainted attempts that failed", Of.ANYTHING, higher=False),
    Indicator("attempts", Unit.COUNT, "attempts counted at intent", Of.SESSIONS),
)  # fmt: skip
GATED = tuple(name for name, row in INDICATORS.items() if row.gate)
# What a drill may ask for besides: it has an audience that stays, and looks at it from moment to moment.
IN_A_DRILL = INDICATORS | _table(
    Indicator("playing", Unit.RATIO, "viewers of a drill's audience whose picture is moving now, of those that stay", Of.STAY),
)
