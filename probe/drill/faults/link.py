"""The last mile of our own clients: the path between them and the platform is cut, impaired, flaps, or leads to the wrong place.

In user space, without root, on every kernel; what the paths of `link/` do is what happens, so to look at them is to look at the
target. Whoever comes while it lasts is hit too, before its first connection. Only the runner has these clients, and the fault
ends with its process: whether that runs is all that another process can see, and ending it is the undo of last resort.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import psutil
from pydantic import Field, field_validator, model_validator

from probe.drill.faults.base import (
    Clients,
    Command,
    FaultIO,
    Klass,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    State,
)
from probe.link.path import Path
from probe.plan import Network as Between
from probe.planning import network_of
from probe.scenario.devices import Network
from probe.scenario.units import PositiveDuration

WHO = "viewers"
LIMIT = "it ends with the process whose clients they are"


class Flap(Params):
    down: PositiveDuration = Field(description="How long it is down.", examples=["1s"])
    up: PositiveDuration = Field(description="And how long it is up between.", examples=["2s"])


class LinkParams(Params):
    """One of the ways in which a last mile goes bad."""

    who: str = Field(WHO, description="Whose: viewers, publisher, everybody, or the viewers of a protocol.", examples=["whep"])
    network: Network | None = Field(
        None, description="What it does to every packet.", examples=[{"loss": "20%", "delay": "80ms"}]
    )
    cut: Literal["down", "rebind"] | None = Field(
        None, description="down: nothing passes. rebind: nor that, and then they have another address.", examples=["rebind"]
    )
    flap: Flap | None = Field(None, description="It is down again and again.", examples=[{"down": "1s", "up": "2s"}])
    resolves_to: str | None = Field(
        None, description="What every name leads to, as after a wrong answer of the DNS.", examples=["127.66.66.66"]
    )

    @field_validator("resolves_to")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value if value is None else str(ipaddress.ip_address(value))

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(part is not None for part in (self.network, self.cut, self.flap, self.resolves_to)) != 1:
            raise ValueError("does one thing to a path: network, cut, flap or resolves_to")
        return self


class LinkFault:
    about: ClassVar[str] = "the paths of our own clients: loss, delay, rate, cuts, flapping, wrong addresses; no root needed"
    params: ClassVar[type[Params]] = LinkParams

    async def prepare(self, params: LinkParams, given: Preparing) -> Prepared:
        bad, well = _words(params)
        return of_clients(
            params.who,
            {"bad": params.model_dump(mode="json", exclude={"who"}, exclude_none=True) | _network(params)},
            Command(f"in this process, the paths of {params.who}: {bad}", f"the same paths: {well}"),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        clients, who = here(io), record["who"]
        act = _acts(record["bad"])
        if not (paths := clients.paths(who)):
            raise ValueError(f"nobody is there: no path of {who}")
        clients.arriving(io.token, who, act)
        for path in paths:
            act(path)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if io.clients is None:
            return elsewhere(record)
        paths = io.clients.paths(record["who"])
        hit = sum(_is(path, record["bad"]) for path in paths)
        if not paths:
            return Observed(State.GONE, "nobody is there any more")
        if hit in (0, len(paths)):
            return Observed(State.INJECTED if hit else State.RESTORED, f"{hit} of {len(paths)} paths")
        return Observed(State.UNKNOWN, f"{hit} of {len(paths)} paths")

    async def restore(self, record: Record, io: FaultIO) -> None:
        if io.clients is None:
            return
        io.clients.arriving(io.token, record["who"], None)
        for path in io.clients.paths(record["who"]):
            if _is(path, record["bad"]):
                await _well(path, record["bad"])


def of_clients(who: str, record: dict[str, Any], command: Command) -> Prepared:
    """A fault of our own clients, made concrete; it belongs to this process."""
    me = psutil.Process()
    return Prepared(
        klass=Klass.SELF_HEALING,
        targets=(f"clients:{who}",),
        of=1,
        record={"who": who, "process": [os.getpid(), me.create_time()], **record},
        commands=(command,),
        limit=LIMIT,
    )


def here(io: FaultIO) -> Clients:
    """The clients; a fault of theirs is injected by the runner or not at all."""
    if io.clients is None:
        raise ValueError("there are no clients in this process")
    return io.clients


def elsewhere(record: Record) -> Observed:
    """As seen from a process that has not these clients."""
    pid, began = record["process"]
    try:
        process = psutil.Process(pid)
        runs = process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        runs = False
    except psutil.Error as error:
        return Observed(State.UNKNOWN, f"whether process {pid} runs cannot be seen: {type(error).__name__}")
    if runs:
        return Observed(State.UNKNOWN, f"they are clients of process {pid}, which runs and alone can put it back")
    return Observed(State.GONE, f"they ended with process {pid}")


def _network(params: LinkParams) -> dict[str, Any]:
    """As a path takes it: plain numbers."""
    if params.network is None:
        return {}
    between = network_of(params.network)
    return {"network": {name: getattr(between, name) for name in Between.__dataclass_fields__}}


def _acts(bad: Record) -> Callable[[Path], object]:
    """What is done to a path."""
    if "network" in bad:
        network = Between(**bad["network"])
        return lambda path: path.impair(network)
    if "flap" in bad:
        return lambda path: path.flap(bad["flap"]["down"], bad["flap"]["up"])
    if "cut" in bad:
        return lambda path: path.cut()
    return lambda path: path.lead_astray(bad["resolves_to"])


def _is(path: Path, bad: Record) -> bool:
    if "network" in bad:
        return path.network == Between(**bad["network"])
    if "flap" in bad:
        return path.flapping
    return path.is_cut if "cut" in bad else path.astray == bad["resolves_to"]


async def _well(path: Path, bad: Record) -> None:
    if "network" in bad:
        path.impair(None)
    elif "flap" in bad:
        path.settle()
    elif "cut" in bad:
        if bad["cut"] == "rebind":
            await path.rebind()
        path.restore()
    else:
        path.lead_astray(None)


def _words(params: LinkParams) -> tuple[str, str]:
    """What is done, and what undoes it."""
    if params.network is not None:
        said = params.network.model_dump(exclude_defaults=True)
        return f"impaired ({', '.join(said)})", "as they were"
    if params.flap is not None:
        return "down and up in turns", "up"
    if params.cut is not None:
        return "down", "up, with another address" if params.cut == "rebind" else "up"
    return f"every name leads to {params.resolves_to}", "names lead where they did"
