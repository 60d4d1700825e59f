"""The broadcaster's side: publishers drop out and come back, or their network flaps.

A drop is what a phone does whose battery is empty: the publisher is gone without a word, and returns as a new publish session
when the fault is restored. A flap is what its network does in a tunnel: down and up, the session under it trying to live on.
Our own clients, which end with this process.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from probe.drill.faults.base import Command, FaultIO, Observed, Params, Prepared, Preparing, Record, State
from probe.drill.faults.link import Flap, LinkFault, LinkParams, elsewhere, here, of_clients

WHO = "publisher"


class PublisherStormParams(Params):
    drop: bool = Field(False, description="They leave without a word, and come back at the end.", examples=[True])
    flap: Flap | None = Field(None, description="Their network goes down and up.", examples=[{"down": "1s", "up": "2s"}])

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.drop == (self.flap is not None):
            raise ValueError("a publisher does one of the two: drop: true, or flap: {down: 1s, up: 2s}")
        return self


class PublisherStorm:
    about: ClassVar[str] = "publishers that drop out and return, or whose network flaps"
    params: ClassVar[type[Params]] = PublisherStormParams

    def __init__(self) -> None:
        self._link = LinkFault()

    async def prepare(self, params: PublisherStormParams, given: Preparing) -> Prepared:
        if params.flap is not None:
            return await self._link.prepare(LinkParams(who=WHO, flap=params.flap), given)
        return of_clients(WHO, {"drop": True}, Command("the publishers leave without a word", "they publish again"))

    async def inject(self, record: Record, io: FaultIO) -> None:
        if "drop" not in record:
            await self._link.inject(record, io)
        elif not await here(io).depart(WHO):
            raise ValueError("nobody publishes who could leave")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if "drop" not in record:
            return await self._link.observe(record, io)
        if io.clients is None:
            return elsewhere(record)
        away = io.clients.away(WHO)
        return Observed(State.INJECTED if away else State.RESTORED, f"{away} kept away")

    async def restore(self, record: Record, io: FaultIO) -> None:
        if "drop" not in record:
            await self._link.restore(record, io)
        elif io.clients is not None:
            await io.clients.come_back(WHO)
