"""campaigns.yaml: the evenings that must go well, what could spoil each, and which drill has shown that it does not.

A campaign names the failures that it fears most, five unless the file says otherwise; each has a drill, by name, and somebody who
answers for it. Drills are due every so often by `policy`, and before each campaign: late enough to be of what will run then,
early enough for what they find to be mended.

Models only; reading is `campaigns_file`, what is due when is `calendar`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from probe.model.clock import NS
from probe.scenario.fields import Model, Name, OneOrMany
from probe.scenario.jsonschema import schema_of
from probe.scenario.oncall import LocalMoment, Zone
from probe.scenario.units import Duration, PositiveDuration, format_duration

DAY = 86_400 * NS
TOP = 5  # failures that a campaign is rehearsed for


def unix_ns(moment: datetime, tz: str) -> int:
    """Of a moment by the clock of a zone."""
    return int(moment.replace(tzinfo=ZoneInfo(tz)).timestamp()) * NS


class Rule(Model):
    """So often something is done: every drill, those of some names, one of a tag, or a rehearsal of people."""

    every: PositiveDuration = Field(description="How often at least.", examples=["30d"])
    drills: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Only these; default: each that there is.", examples=[["origin-restart"]]
    )
    tag: Name | None = Field(None, description="Any one drill of this tag is enough.", examples=["payment"])
    kind: Literal["drill", "people"] = Field("drill", description="Faults, or rehearsals of people without one.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.drills and self.tag is not None:
            raise ValueError("is of drills or of a tag; write two rules")
        return self


MONTHLY = tuple(Rule.model_validate({"every": "30d", "kind": kind}) for kind in ("drill", "people"))


class Before(Model):
    """When, before a campaign, its drills are done."""

    earliest: PositiveDuration = Field(14 * DAY, description="What was done before then is too old.", examples=["14d"])
    latest: Duration = Field(2 * DAY, description="Then it is overdue: what it finds wants mending.", examples=["2d"])

    @model_validator(mode="after")
    def _span(self) -> Self:
        if self.earliest <= self.latest:
            raise ValueError(
                f"leaves no time: nothing counts before {format_duration(self.earliest)}, and it is overdue"
                f" {format_duration(self.latest)} before the campaign"
            )
        return self


class Failure(Model):
    """What could spoil the evening, and who has seen to it that it does not."""

    failure: str = Field(min_length=1, description="In words.", examples=["The origin dies at the peak"])
    drill: Name = Field(description="The drill that rehearses it, by name.", examples=["origin-restart"])
    owner: str = Field(min_length=1, description="Who answers for it.", examples=["media-sre"])


class Campaign(Model):
    """An evening that must go well."""

    begin: LocalMoment = Field(alias="from", description="When it begins, by the clock of `tz`.", examples=["2026-12-31T18:00"])
    end: LocalMoment = Field(alias="to", description="When it is over.", examples=["2027-01-01T03:00"])
    tz: Zone = Field(description="Its time zone.", examples=["Europe/Berlin"])
    owner: str = Field(min_length=1, description="Who answers for it.", examples=["growth-lead"])
    regions: Annotated[tuple[Name, ...], OneOrMany()] = Field((), description="Where, for people.", examples=[["eu"]])
    failures: tuple[Failure, ...] = Field(description="What could spoil it, the worst first.")
    people: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Rehearsals that are held before it, by name.", examples=[["war-room-new-year"]]
    )
    before: Before | None = Field(None, description="When its drills are done; default: as for all.")

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.begins >= self.ends:
            raise ValueError("it ends before it begins")
        return self

    @property
    def begins(self) -> int:
        """Unix ns."""
        return unix_ns(self.begin, self.tz)

    @property
    def ends(self) -> int:
        """Unix ns."""
        return unix_ns(self.end, self.tz)


class Campaigns(Model):
    """The whole file."""

    name: Name = Field(alias="calendar", description="Its name.", examples=["live"])
    drills: Annotated[tuple[str, ...], OneOrMany()] = Field(
        ("drills",),
        min_length=1,
        description="Where drills and rehearsals are: folders or files, beside this one.",
        examples=[["drills"]],
    )
    policy: tuple[Rule, ...] = Field(MONTHLY, description="What is due how often, campaigns apart.")
    before: Before = Field(Before(), description="When, before each campaign, its drills are done.")
    top: int = Field(TOP, ge=1, le=50, description="How many failures a campaign is rehearsed for at least.")
    campaigns: dict[Name, Campaign] = Field({}, description="By name.")


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of campaigns.yaml, for editors."""
    return schema_of(Campaigns, "stream-probe campaigns")
