"""oncall.yaml: who is told what, when. Models only; reading is `oncall_file`, coverage of the year is `rules.coverage`.

An alert's label `owner` leads to a queue; a queue has shifts, each in a time zone of its own. A shift without `to` lasts until
the next one begins, wherever on earth that is: the way to follow the sun without a hole or an overlap in the weeks in which one
continent has changed its clocks and another has not. A shift with `to` ends then, and whatever nobody covers is refused.

Chosen not to: rotating people within a shift (weeks of Anna and Ben). That is what pagers are good at: a shift calls a
receiver, which may be a pager's schedule.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from probe.model.clock import NS
from probe.scenario.fields import Model, Name, OneOrMany
from probe.scenario.receivers import Receiver, Smtp
from probe.scenario.units import Duration, PositiveDuration, describe

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
MINUTE = 60 * NS
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
ON_SHIFT, BACKUP = "shift", "backup"  # what a step may call besides a receiver


def _minutes(value: Any) -> Any:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError(f'{describe(value)} is not a time of day; write "08:00", from "00:00" to "24:00"')
    return int(value[:2]) * 60 + int(value[3:])


def clock_text(minutes: int) -> str:
    """Minutes of the day → `08:00`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _days(value: Any) -> Any:
    parts = value if isinstance(value, list | tuple) else [value]
    found: set[int] = set()
    for part in parts:
        first, _, last = str(part).partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            raise ValueError(f"{describe(part)} is not a day of the week; write mon, mon-fri or [sat, sun]")
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        found |= set(range(begin, end + 1)) if begin <= end else {*range(begin, 7), *range(end + 1)}
    return tuple(sorted(found))


def _zone(value: Any) -> Any:
    if isinstance(value, str):
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder of the database
            raise ValueError(f"{describe(value)} is not a time zone; write for example Europe/Berlin") from None
    return value


def _date(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"{describe(value)} is not a day; write for example 2026-12-25")


def _moment(value: Any) -> Any:
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"{describe(value)} is not a moment; write for example 2026-12-24T18:00, in the zone that tz says")


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


TimeOfDay = Annotated[int, BeforeValidator(_minutes), _text(_TIME.pattern, "08:00")]
Days = Annotated[
    tuple[int, ...],
    BeforeValidator(_days),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "examples": ["mon-fri", ["sat", "sun"]],
        }
    ),
]
Zone = Annotated[str, BeforeValidator(_zone)]
Day = Annotated[date, BeforeValidator(_date), _text(r"^\d{4}-\d\d-\d\d$", "2026-12-25")]
LocalMoment = Annotated[datetime, BeforeValidator(_moment), _text(_MOMENT.pattern, "2026-12-24T18:00")]
Paged = Literal["P1", "P2"]
PAGED: tuple[Paged, ...] = ("P1", "P2")


class Turns(Model):
    """Somebody who is on for some alerts."""

    call: str = Field(min_length=1, description="Receiver of whoever is on.", examples=["media-eu"])
    backup: str | None = Field(
        None, min_length=1, description="Receiver of who comes second; for an override, default: `call`.", examples=["media-lead"]
    )
    regions: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Regions whose alerts are taken; default: all.", examples=[["eu"]]
    )
    severities: Annotated[tuple[Paged, ...], OneOrMany()] = Field(PAGED, min_length=1, description="Which are taken.")


class Shift(Turns):
    """Who is on, at the same times of day every week."""

    name: Name = Field(alias="shift", description="Its name, one in the queue.", examples=["eu"])
    begin: TimeOfDay = Field(0, alias="from", description="When it begins, by the clock of `tz`.", examples=["08:00"])
    end: TimeOfDay | None = Field(
        None, alias="to", description="When it ends; default: when the next shift begins.", examples=["16:00"]
    )
    tz: Zone = Field(description="Its time zone; daylight saving as that has it.", examples=["Europe/Berlin"])
    days: Days = Field(tuple(range(7)), description="Days on which it begins; default: all.")

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.end == self.begin:
            raise ValueError("it ends when it begins; for around the clock leave `to` away")
        if self.begin == DAY:
            raise ValueError('it begins at 24:00; write "00:00" and the day after')
        return self


class Override(Turns):
    """An exception: somebody else is on. Instead of one turn of a shift, on whole days, or from one moment to another."""

    shift: Name | None = Field(None, description="The shift whose turn is taken over.", examples=["eu"])
    on: Annotated[tuple[Day, ...], OneOrMany()] = Field(
        (), description="Days on which that turn begins; without a shift: whole days.", examples=[["2026-12-25"]]
    )
    begin: LocalMoment | None = Field(None, alias="from", description="First moment, by the clock of `tz`.")
    end: LocalMoment | None = Field(None, alias="to", description="Its end.")
    tz: Zone | None = Field(None, description="Time zone; of a shift's turn the shift's own.", examples=["Europe/Berlin"])
    why: str = Field("", description="For people.", examples=["Christmas"])

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.on) == bool(self.begin and self.end) or (self.begin is None) != (self.end is None):
            raise ValueError("say when: `on` (with or without `shift`), or `from` and `to`")
        if self.begin and self.end and self.begin >= self.end:
            raise ValueError("it ends before it begins")
        if self.shift is not None and not self.on:
            raise ValueError("a shift's turn is taken over `on` a day; from one moment to another needs no shift")
        if (self.shift is None) == (self.tz is None):
            raise ValueError("say whose clock is meant: tz (of a shift's turn it is the shift's)")
        return self


class Queue(Model):
    """Whoever answers for some owners' alerts."""

    owners: Annotated[tuple[str, ...], OneOrMany()] = Field(
        min_length=1, description="Owners, as objectives and alerts name them.", examples=[["media-sre"]]
    )
    shifts: tuple[Shift, ...] = Field((), description="Who is on when.")
    overrides: tuple[Override, ...] = Field((), description="Holidays and exceptions.")


class Step(Model):
    """Who is called after how long."""

    after: Duration = Field(0, description="Since the alert began.", examples=["15m"])
    call: str = Field(ON_SHIFT, min_length=1, description="shift, backup (of whoever is on), or a receiver.", examples=["backup"])
    by: Literal["alertmanager", "pager"] = Field(
        "alertmanager",
        description="Alertmanager calls if the alert still fires; it knows nothing of acknowledging. A pager that does is told "
        "elsewhere: the step is shown, not routed.",
    )


def _second(value: int) -> int:
    if value < NS:
        raise ValueError("is less than a second; people are called")
    return value


LongEnough = Annotated[PositiveDuration, AfterValidator(_second)]


class Policy(Model):
    """What a severity means."""

    within: LongEnough = Field(description="The SLA: somebody has looked by then.", examples=["15m"])
    clock: Literal["always", "shifts"] = Field(
        "always", description="Whether the SLA runs always, or only while somebody is on; alerts wait outside of shifts then."
    )
    wait: PositiveDuration | None = Field(
        None, description="What is gathered into the first message; default: P1 10s, P2 5m.", examples=["10s"]
    )
    again: LongEnough | None = Field(None, description="Repeated so often while it fires; default: `within`.", examples=["30m"])
    steps: tuple[Step, ...] = Field((Step(),), min_length=1, description="Who is called, in this order.")


class ReportPolicy(Model):
    """What P3 means: a line of the report, never an alert."""

    within: PositiveDuration = Field(7 * 86_400 * NS, description="Somebody has looked by then.", examples=["7d"])


class Escalation(Model):
    """What each severity means."""

    p1: Policy = Field(alias="P1", description="Pages, at any hour.", examples=[{"within": "15m"}])
    p2: Policy = Field(alias="P2", description="Is triaged.", examples=[{"within": "4h", "clock": "shifts"}])
    p3: ReportPolicy = Field(ReportPolicy(), alias="P3", description="Is reported.", examples=[{"within": "7d"}])

    def of(self, severity: str) -> Policy:
        """The policy of P1 or P2."""
        return self.p1 if severity == "P1" else self.p2

    @property
    def sla(self) -> dict[str, int]:
        """ns until somebody has looked, by severity."""
        return {"P1": self.p1.within, "P2": self.p2.within, "P3": self.p3.within}


class Watchdog(Model):
    """An alert that always fires is sent on and on to somebody outside, who calls when it stops coming."""

    call: str = Field(min_length=1, description="Its receiver, for nothing else.", examples=["outside"])
    every: LongEnough = Field(MINUTE, description="How often.", examples=["1m"])


class OnCall(Model):
    """Who is told what, when."""

    name: Name = Field(alias="oncall", description="Its name.", examples=["live"])
    receivers: dict[Name, Receiver] = Field(min_length=1, description="Who can be told, and how.")
    smtp: Smtp | None = Field(None, description="How mail leaves; for receivers by e-mail.")
    fallback: str = Field(
        min_length=1, description="Receiver of whatever no queue or shift takes; at any hour.", examples=["duty-phone"]
    )
    watchdog: Watchdog = Field(description="The dead man's switch.")
    escalation: Escalation = Field(description="What P1, P2 and P3 mean.")
    queues: dict[Name, Queue] = Field(min_length=1, description="Who answers for whose alerts.")

    def queue_of(self, owner: str) -> str | None:
        """The queue of an owner; None: the fallback's."""
        return next((name for name, queue in self.queues.items() if owner in queue.owners), None)


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of oncall.yaml, for editors."""
    schema = OnCall.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "stream-probe on call"}
