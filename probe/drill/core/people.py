"""A drill of people: a war room rehearsed on paper, without a fault, in the same calendar as the drills that break things.

The file is what whoever leads it reads from: the scene, who plays which part, what is told to whom and when, and what a good
answer looks like. Held, it becomes a record: who took part, what was learned. Chosen not to: a verdict. What people learn is not
passed or failed, and nobody takes part twice in what graded them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from probe.scenario.check import Finding
from probe.scenario.fields import Model, Name, OneOrMany
from probe.scenario.jsonschema import schema_of
from probe.scenario.units import Duration, PositiveDuration, describe, format_duration

EVERYBODY = "everybody"


class Inject(Model):
    """Something that is told in the middle of it."""

    at: Duration = Field(0, description="When, since it began.", examples=["5m"])
    tell: str = Field(min_length=1, description="What is told.", examples=["The pager: RoomStartBurn, P1, eu"])
    to: str = Field(EVERYBODY, description="Which role; default: everybody.", examples=["on-call"])
    good: str = Field(
        "", description="What a good answer looks like.", examples=["Acknowledged within 5 minutes, war room opened"]
    )


class Rehearsal(Model):
    """A scenario on paper."""

    name: Name = Field(alias="rehearsal", description="Its name.", examples=["war-room-origin-lost"])
    description: str = Field("", description="What it is about.", examples=["The origin of eu dies on a campaign night."])
    owner: str = Field(min_length=1, description="Who answers for it.", examples=["incident-lead"])
    lasts: PositiveDuration = Field(description="How long it takes.", examples=["45m"])
    scene: str = Field(min_length=1, description="What is so when it begins.", examples=["Saturday 20:10, two million viewers."])
    roles: dict[Name, str] = Field(
        min_length=1,
        description="Who plays a part, and what it is.",
        examples=[{"on-call": "has the pager, and starts the room"}],
    )
    injects: tuple[Inject, ...] = Field(min_length=1, description="What is told, when, to whom.")
    good: Annotated[tuple[str, ...], OneOrMany()] = Field(
        min_length=1, description="What good looks like, by the end.", examples=[["The campaign was held within ten minutes"]]
    )
    tags: Annotated[tuple[Name, ...], OneOrMany()] = Field((), description="What it rehearses.", examples=[["origin"]])


def findings(rehearsal: Rehearsal) -> Iterator[Finding]:
    """What is wrong between its parts."""
    told = (*rehearsal.roles, EVERYBODY)
    last = 0
    for index, inject in enumerate(rehearsal.injects):
        if inject.to not in told:
            yield Finding(("injects", index, "to"), f"{describe(inject.to)} is not one of the roles: {', '.join(told)}")
        if inject.at < last:
            yield Finding(
                ("injects", index, "at"), f"is before the one above it, at {format_duration(last)}; write them in order"
            )
        if inject.at > rehearsal.lasts:
            yield Finding(("injects", index, "at"), f"comes after its end: it lasts {format_duration(rehearsal.lasts)}")
        last = max(last, inject.at)


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of a rehearsal, for editors."""
    return schema_of(Rehearsal, "stream-probe rehearsal")
