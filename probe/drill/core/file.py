"""A drill file: what is broken, what ought to be true before, meanwhile and after, and when to stop.

The hypothesis is `steady` (and `meanwhile`): conditions on the drill's own traffic, which runs a scenario all along, judged by
region. The method is a list of faults, each with a name, a start and a length. What stops a drill (`abort`), what recovered
means (`recovery`) and who answers for it (`owner`) are not optional: a drill without them is not one.

Models only. `check` finds what needs two places or the scenario; whether a target may be touched is the policy's (`policy`),
which is not the drill's author's to write. Chosen not to: conditions in a language of their own. They are the gates', so that a
drill asks for recovery in the words in which a gate closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from probe.scenario.fields import Model, Name, OneOrMany, SecretSource
from probe.scenario.gate import DrillExpression
from probe.scenario.units import Duration, PositiveDuration, Ratio, format_duration, format_ratio

NEEDED = ("owner", "scenario", "steady", "method", "abort", "recovery")

Conditions = Annotated[tuple[DrillExpression, ...], OneOrMany()]


class FaultUse(Model):
    """One fault of the method: `- origin-killed: {fault: process, at: 0s, for: 8s, with: {…}}`."""

    KEY = "name"
    name: Name = Field(description="Its name, one in the drill.", examples=["origin-killed"])
    fault: str = Field(description="Its kind.", examples=["process"])
    at: Duration = Field(0, description="When it begins, after the first injection.", examples=["5s"])
    lasts: PositiveDuration = Field(alias="for", description="How long it stays.", examples=["8s"])
    with_: Mapping[str, Any] = Field(
        default_factory=dict, alias="with", description="What its kind asks for.", examples=[{"pid": 4711, "do": "kill"}]
    )

    @property
    def until(self) -> int:
        """ns after the first injection at which it is put back."""
        return self.at + self.lasts


class Starts(Model):
    """Whole runs of the scenario, one after the other, each a start in the middle of it."""

    every: PositiveDuration = Field(3 * 10**9, description="How often one begins, per region.", examples=["3s"])
    most: int = Field(4, ge=1, le=64, description="Under way at once, per region.")


class Traffic(Model):
    """Who plays while it is broken."""

    stay: bool = Field(True, description="One audience per region that came before the fault and stays for all of it.")
    starts: Starts | None = Field(Starts(), description="Runs that begin meanwhile; null: none do.", examples=[{"every": "3s"}])


class Steady(Model):
    """What must be true, and proven with enough samples, before anything is touched. `of` holds, once the file is loaded, what
    `objectives` and `gates` ask for too."""

    of: Conditions = Field((), description="Conditions on this drill's traffic, of each region.", examples=[["start >= 95%"]])
    objectives: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Objectives of the scenario that are met.", examples=[["first-frame"]]
    )
    gates: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Gates of the scenario that could open again.", examples=[["hold-campaign"]]
    )
    within: PositiveDuration = Field(60 * 10**9, description="How long it may take to be proven.", examples=["60s"])

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.of or self.objectives or self.gates):
            raise ValueError('says nothing; write what steady means, such as of: ["start >= 95%"]')
        return self


class Abort(Model):
    """One condition to stop by; exactly one of them."""

    when: DrillExpression | None = Field(
        None, description="Over each of the drill's regions.", examples=["start < 20% and attempts >= 10"]
    )
    outside: DrillExpression | None = Field(
        None,
        description="Over every other region of the scenario: it went further than meant.",
        examples=["start < 90% and failures >= 2"],
    )
    budget: Ratio | None = Field(
        None, description="Of any objective's error budget, as if it had been spent by this drill.", examples=["10%"]
    )
    incident: bool | None = Field(None, description="A page that is not this drill's.", examples=[True])
    gate: Name | None = Field(
        None, description="A gate of the fleet that closes outside the drill's regions.", examples=["hold-campaign"]
    )

    @field_validator("incident")
    @classmethod
    def _incident(cls, value: bool | None) -> bool | None:
        if value is False:
            raise ValueError("to go on through a real incident is no condition to stop by; write true, or leave the line out")
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        said = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"is one condition: {', '.join(type(self).model_fields)}; here are {len(said)}")
        return self

    def __str__(self) -> str:
        if self.when is not None:
            return str(self.when)
        if self.outside is not None:
            return f"in another region: {self.outside}"
        if self.budget is not None:
            return f"{format_ratio(self.budget)} of an error budget spent"
        return "a page that is not this drill's" if self.incident else f"gate {self.gate} closes in another region"


class Recovery(Model):
    """What recovered means; one of `when` and `reconnect`. Counted from the restore that was observed."""

    within: PositiveDuration = Field(description="By then.", examples=["60s"])
    when: DrillExpression | None = Field(None, description="It holds, in each of the drill's regions.", examples=["start >= 99%"])
    reconnect: Ratio | None = Field(
        None, description="Of the viewers that played when the fault began, so many play again.", examples=["95%"]
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.when is None) == (self.reconnect is None):
            raise ValueError("is one objective: when (a condition) or reconnect (a share of the viewers that played)")
        return self

    def __str__(self) -> str:
        what = str(self.when) if self.reconnect is None else f"{format_ratio(self.reconnect)} of viewers reconnect"
        return f"{what} within {format_duration(self.within)}"


class Comms(Model):
    """Who is told, and how."""

    channel: str = Field("", description="Where people are told, for people.", examples=["#live-war-room"])
    announce: str = Field(
        "", description="What is said before anything is touched.", examples=["Drill: eu's origin restarts at 14:00"]
    )
    webhook: (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[SecretSource, Tag("reference")],
            Discriminator(lambda value: "text" if isinstance(value, str) else "reference"),
        ]
        | None
    ) = Field(
        None,
        description="Where that, and how it ended, is posted; by reference where the address is a secret.",
        examples=[{"env": "DRILL_WEBHOOK"}, "http://127.0.0.1:9099/drills"],
    )

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: str | SecretSource | None) -> str | SecretSource | None:
        if isinstance(value, str) and (not value.startswith(("http://", "https://")) or "@" in value):
            hint = "write http://… or https://… without a password, or by reference {env: NAME}"
            raise ValueError(f"is not the address of a webhook; {hint}")
        return value


class Drill(Model):
    """What is broken on purpose, and what ought to come of it."""

    model_config = ConfigDict(json_schema_extra={"required": ["drill", *NEEDED]})

    drill: Name = Field(description="Its name, a metric label.", examples=["origin-restart"])
    description: str = Field("", description="What it shows, for people.", examples=["The origin dies; viewers come back."])
    owner: str = Field("", description="Who answers for it.", examples=["media-sre"])
    comms: Comms = Field(Comms(), description="Who is told.")
    scenario: str = Field(
        "",
        description="What its traffic runs: a file beside this one, or the name of one that comes along.",
        examples=["room-start"],
    )
    regions: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Where it breaks things, of the scenario's; default: all of them.", examples=[["eu"]]
    )
    traffic: Traffic = Field(Traffic(), description="Who plays meanwhile.")
    steady: Steady = Field(description="What must be true before, and again after.", examples=[{"of": ["start >= 95%"]}])
    method: tuple[FaultUse, ...] = Field((), description="What is broken, when, for how long.")
    meanwhile: Conditions = Field((), description="Promises that are kept while it is broken.", examples=[["crash_free >= 99%"]])
    abort: Annotated[tuple[Abort, ...], OneOrMany()] = Field(
        (), description="When to stop and put everything back at once.", examples=[[{"incident": True}, {"budget": "10%"}]]
    )
    recovery: Annotated[tuple[Recovery, ...], OneOrMany()] = Field(
        (), description="What recovered means.", examples=[[{"reconnect": "95%", "within": "10s"}]]
    )
    hold: Duration = Field(
        0, description="How long the broken time lasts at least, from the first injection; default: the longest fault.",
        examples=["60s"],
    )  # fmt: skip
    min_n: int = Field(3, ge=1, description="Fewer untainted samples than this answer nothing; but `playing`, of who is there.")
    tags: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="What it rehearses; calendars go by it.", examples=[["origin", "campaign"]]
    )

    @property
    def broken(self) -> int:
        """ns from the first injection to the last restore."""
        return max((use.until for use in self.method), default=0)

    @property
    def length(self) -> int:
        """ns that it takes at most: proving steady, broken, recovering."""
        recovery = max((one.within for one in self.recovery), default=0)
        return self.steady.within + max(self.hold, self.broken + recovery)
