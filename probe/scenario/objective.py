"""An objective (SLO): an indicator, what of it makes a run good, the share of good runs that is promised, and over how long.

The unit is the run, not the viewer: viewers of one run stand and fall together, and counting them would make one bad run look
like many (SRE workbook, ch. 2 "SLIs", and the field's own experience with few synthetic probes). So what is good is said of a
run, per viewer where there are several, and the target is a share of runs.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from probe.scenario.fields import Model, Name, OneOrMany, one_of
from probe.scenario.indicators import INDICATORS, Bound
from probe.scenario.units import PositiveDuration, Rate, Ratio, format_duration, format_rate, format_ratio

_ASKED = tuple(row.name for row in INDICATORS.values() if row.objective)
_REMEDY = {Bound.WITHIN: "within: 2s", Bound.AT_MOST: "at_most: 2%", Bound.AT_LEAST: "at_least: 400kbps"}


class Objective(Model):
    """A promise over a window, judged per run."""

    name: Name = Field(description="Its name, the label `slo`.", examples=["room-start"])
    indicator: str = Field(description="What is promised.", examples=["room_start"])
    target: Ratio = Field(description="Share of good runs; never 100%.", examples=["99.5%"])
    window: PositiveDuration = Field(description="Over how long.", examples=["30d"])
    within: PositiveDuration | None = Field(None, description="What is good, of indicators in seconds.", examples=["2s"])
    at_most: Ratio | None = Field(None, description="What is good, of shares that are to be small.", examples=["2%"])
    at_least: Rate | None = Field(None, description="What is good, of the bitrate.", examples=["400kbps"])
    regions: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Only there; default: in all of the scenario's.", examples=["eu", ["eu", "us"]]
    )
    protocols: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Only of these; default: of all that are viewed, or published.", examples=["whep", ["hls", "dash"]]
    )
    owner: str = Field("", description="Who is called; default: the scenario's owner.", examples=["payments"])
    service: str = Field(
        "", description="Whose it is, a label of its alerts; default: by indicator.", examples=["checkout"], max_length=63
    )
    action: str = Field(
        "", description="What whoever is called does first. No alert without it.", examples=["drain the ingest that is named"]
    )

    below: Ratio | None = Field(
        None, description="The direct rule: a page where less than this share was good for 10 minutes.", examples=["90%"]
    )
    page: bool = Field(
        True, description="Whether anybody is woken for it; false: its alert is triaged, at the loudest.", examples=[False]
    )
    shadow: bool = Field(
        False, description="Its alerts are evaluated and counted, and sent to nobody: would have paged.", examples=[True]
    )

    @field_validator("indicator")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, _ASKED)

    @field_validator("target")
    @classmethod
    def _reachable(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("a target of 100% leaves no room for any failure and 0% promises nothing; write for example 99.5%")
        return value

    @field_validator("window")
    @classmethod
    def _whole(cls, value: int) -> int:
        if value % 60_000_000_000:
            raise ValueError("a window is of whole minutes; write for example 30d, or 6h")
        return value

    @field_validator("at_most")
    @classmethod
    def _possible(cls, value: float | None) -> float | None:
        if value is not None and value >= 1:
            raise ValueError("at most 100% is always so; write for example 2%")
        return value

    @model_validator(mode="after")
    def _bound(self) -> Objective:
        row = INDICATORS[self.indicator]
        given: dict[Bound, Any] = {
            Bound.WITHIN: self.within, Bound.AT_MOST: self.at_most, Bound.AT_LEAST: self.at_least
        }  # fmt: skip
        for bound, value in given.items():
            if value is not None and bound is not row.bound:
                own = f"it takes {row.bound}" if row.bound else "a good run is one in which all went well"
                raise ValueError(f"{self.indicator} takes no {bound}: {own}")
        if self.below is not None and self.below >= self.target:
            raise ValueError("below is for what cannot wait for the budget: write less than the target")
        if self.below is not None and not self.page:
            raise ValueError("below is a page, and page: false wakes nobody: leave one of them away")
        if row.bound and given[row.bound] is None:
            raise ValueError(f"{self.indicator} needs to know what is good: say for example {_REMEDY[row.bound]}")
        return self

    @property
    def bound(self) -> str:
        """What a good run is, as written: `2s`, `2%`, `400kbps`, or empty."""
        if self.within is not None:
            return format_duration(self.within)
        if self.at_most is not None:
            return format_ratio(self.at_most)
        return format_rate(self.at_least) if self.at_least is not None else ""

    @property
    def meaning(self) -> str:
        """What a good run is, in words."""
        return INDICATORS[self.indicator].promise(self.bound)

    @property
    def of_service(self) -> str:
        return self.service or INDICATORS[self.indicator].service
