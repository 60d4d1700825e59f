"""Crowds: all viewers leave and come back at the same instant, or so many more come within a short time.

A stampede has two instants: the one at which everybody leaves without a word (an app that crashed everywhere, a network of a
whole country), and, when the fault is restored, the one at which all of them ask again at once, which is the load it is about.
What is looked at is who is being kept away, or who came: whether the platform takes them is not the fault's, but the drill's to
find out. They are our own clients, and end with this process.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from probe.drill.faults.base import Command, FaultIO, Observed, Params, Prepared, Preparing, Record, State
from probe.drill.faults.link import WHO, elsewhere, here, of_clients
from probe.model.clock import NS
from probe.scenario.units import PositiveDuration, format_duration

CROWD = "crowd"  # a target of its own: who joins is nobody of the audience
MOST = 500


class ViewerStormParams(Params):
    do: Literal["stampede", "join"] = Field(description="stampede: all leave, all return at once. join: so many more come.")
    who: str = Field(WHO, description="Whose: viewers, or those of a protocol.", examples=["whep"])
    count: int | None = Field(None, ge=1, le=MOST, description="How many join, in each region.", examples=[50])
    within: PositiveDuration | None = Field(None, description="Over which time they join; default: 1s.", examples=["2s"])

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.do == "join") != (self.count is not None):
            raise ValueError("how many join? write count: 20" if self.do == "join" else "all of them run; count is for join")
        if self.do == "stampede" and self.within is not None:
            raise ValueError("a stampede is one instant; within is for join")
        if self.do == "join" and self.who != WHO:
            raise ValueError("who joins is what the scenario's view step has; who is for a stampede")
        return self


class ViewerStorm:
    about: ClassVar[str] = "crowds: all viewers leave and come back at once, or many more come within a second"
    params: ClassVar[type[Params]] = ViewerStormParams

    async def prepare(self, params: ViewerStormParams, given: Preparing) -> Prepared:
        if params.do == "join":
            within = params.within or NS
            command = Command(f"{params.count} more viewers come within {format_duration(within)}", "they leave")
            return of_clients(CROWD, {"do": params.do, "count": params.count, "within": within}, command)
        command = Command(f"all {params.who} leave without a word", "all of them come back at one instant")
        return of_clients(params.who, {"do": params.do}, command)

    async def inject(self, record: Record, io: FaultIO) -> None:
        clients = here(io)
        if record["do"] == "join":
            began = await clients.join(record["count"], record["within"])
            if began < record["count"]:
                raise ValueError(f"{began} of {record['count']} could join")
        elif not await clients.depart(record["who"]):
            raise ValueError(f"nobody is there who could leave: {record['who']}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if io.clients is None:
            return elsewhere(record)
        there = io.clients.joined() if record["do"] == "join" else io.clients.away(record["who"])
        words = f"{there} {'joined' if record['do'] == 'join' else 'kept away'}"
        return Observed(State.INJECTED if there else State.RESTORED, words)

    async def restore(self, record: Record, io: FaultIO) -> None:
        if io.clients is None:
            return
        if record["do"] == "join":
            await io.clients.leave()
        else:
            await io.clients.come_back(record["who"])
