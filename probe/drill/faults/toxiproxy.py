"""A path through Toxiproxy (github.com/Shopify/toxiproxy, 2.x), made worse over its REST API: latency, bandwidth, timeouts,
resets, slow closes, cut-off answers, or the proxy down.

TCP only: RTMP, HTTP, WebSocket and signalling go through it, WebRTC's and SRT's media never do.

What is ours bears our name: a toxic `sp-<token>` on each proxy. A proxy that is down bears no name, so it carries a toxic of ours
that does nothing, as a mark: only with it is a proxy enabled again, and only one that was enabled before is ever disabled. A
server that was started anew has lost all toxics, and the mark with them; its proxies come back enabled or not at all. A server
that does not answer says nothing: that is no restored fault.

While it takes a toxic from a connection whose other end has just died, a server answers nothing for some seconds (about 10 seen
with 2.5; Shopify/toxiproxy#558): a restore then fails and is tried again.

The API knows no password and its answers are a stranger's: bounded in time, in bytes and in shape.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import quote

from aiohttp import ClientSession
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from probe.decide.asking import Away, Reply, ask, session
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.health import PlainUrl
from probe.drill.faults.several import of_several
from probe.model.clock import MS
from probe.scenario.fields import OneOrMany
from probe.scenario.units import Duration, Rate, Ratio, Size

_WITHIN = 2.0  # s for one answer
_MOST = 1000  # proxies of a server
_MARK: dict[str, Any] = {"type": "latency", "stream": "downstream", "toxicity": 0.0, "attributes": {"latency": 0, "jitter": 0}}
_NO_NAME = re.compile(r"[^\w.@:+/-]", re.ASCII)
KINDS = ("latency", "bandwidth", "timeout", "reset_peer", "slow_close", "limit_data", "down")

_Shape = TypeVar("_Shape")
Line = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ToxiproxyParams(Params):
    """One toxic, or `down`, on some proxies of a server."""

    server: PlainUrl = Field("http://127.0.0.1:8474", description="Its API.")
    proxies: Annotated[tuple[Line, ...], OneOrMany()] = Field(
        min_length=1, max_length=64, description="Their names, as the server has them.", examples=["origin"]
    )
    latency: Duration | None = Field(None, description="Each chunk comes so much later.", examples=["300ms"])
    jitter: Duration = Field(0, description="More or less, for latency.", examples=["50ms"])
    bandwidth: Annotated[Rate, Field(ge=8000)] | None = Field(None, description="No more than this rate.", examples=["800kbps"])
    timeout: Duration | None = Field(None, description="Nothing passes; closed after so long, 0s: never.", examples=["5s"])
    reset_peer: Duration | None = Field(None, description="Connections are reset after so long.", examples=["0s"])
    slow_close: Duration | None = Field(None, description="Closing takes so much longer.", examples=["2s"])
    limit_data: Size | None = Field(None, description="Closed after so many bytes.", examples=["64kB"])
    down: bool | None = Field(None, description="Connections are closed, and new ones refused.")
    stream: Annotated[str, StringConstraints(pattern="^(upstream|downstream)$")] = Field(
        "downstream", description="upstream: towards the server; downstream: towards the client."
    )
    toxicity: Ratio = Field(1.0, gt=0, description="The share of connections it is for.", examples=["50%"])

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(given := self._given()) != 1:
            raise ValueError(f"one thing at a time: give one of {', '.join(KINDS)}" + (f", not {given}" if given else ""))
        if self.jitter and self.latency is None:
            raise ValueError("jitter is for latency")
        if len(set(self.proxies)) < len(self.proxies):
            raise ValueError("a proxy is named twice")
        return self

    def _given(self) -> list[str]:
        return [kind for kind in KINDS if getattr(self, kind) is not None and getattr(self, kind) is not False]

    @property
    def kind(self) -> str:
        return self._given()[0]

    def toxic(self) -> dict[str, Any]:
        """As the API has it, without its name; times in whole ms, rates in KB/s."""
        match self.kind:
            case "latency":
                attributes = {"latency": (self.latency or 0) // MS, "jitter": self.jitter // MS}
            case "bandwidth":
                attributes = {"rate": (self.bandwidth or 0) // 8000}
            case "slow_close":
                attributes = {"delay": (self.slow_close or 0) // MS}
            case "limit_data":
                attributes = {"bytes": self.limit_data or 0}
            case "down":
                return _MARK
            case kind:
                attributes = {"timeout": getattr(self, kind) // MS}
        return {"type": self.kind, "stream": self.stream, "toxicity": self.toxicity, "attributes": attributes}


class _Toxic(BaseModel):
    name: Annotated[str, StringConstraints(max_length=1024)]


class _Proxy(BaseModel):
    enabled: bool
    toxics: Annotated[list[_Toxic], Field(max_length=1024)]

    def bears(self, name: str) -> bool:
        return any(toxic.name == name for toxic in self.toxics)


_PROXIES = TypeAdapter(Annotated[dict[str, _Proxy], Field(max_length=_MOST)])


class ToxiproxyFault:
    about: ClassVar[str] = "A TCP path through Toxiproxy is slow, narrow, cut, reset or down; never WebRTC's or SRT's media."
    params: ClassVar[type[Params]] = ToxiproxyParams

    async def prepare(self, params: ToxiproxyParams, given: Preparing) -> Prepared:
        name = f"sp-{given.token}"
        try:
            async with session() as client:
                there = _read(_PROXIES.validate_json, await _ask(client, "GET", f"{_base(params.server)}/proxies"))
        except Away as why:
            raise Refused(f"Toxiproxy at {params.server}: {why}", "server") from None
        for proxy in params.proxies:
            if proxy not in there:
                known = ", ".join(sorted(there)[:8]) or "none"
                raise Refused(f"Toxiproxy at {params.server} has no proxy {proxy!r}; it has {known}", "proxies")
            if not there[proxy].enabled:
                raise Refused(f"proxy {proxy!r} is disabled already, and not by us", "proxies")
        toxic = {"name": name, **params.toxic()}
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=tuple(f"toxiproxy:{_NO_NAME.sub('_', proxy)}" for proxy in params.proxies),
            of=len(there),
            record={"server": params.server, "proxies": list(params.proxies), "down": bool(params.down), "toxic": toxic},
            commands=tuple(_command(params, proxy, toxic) for proxy in params.proxies),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        async with session() as client:
            for proxy in record["proxies"]:
                place = _place(record, proxy)
                added = await _ask(client, "POST", f"{place}/toxics", record["toxic"], good=(200, 201, 409))
                if added.status == 409 and not (await _look(client, place, proxy)).bears(record["toxic"]["name"]):
                    raise Away(f"{proxy}: the server says that the toxic is there, and it is not")
                if record["down"]:
                    await _ask(client, "POST", place, {"enabled": False})

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        async with session() as client, asyncio.TaskGroup() as group:
            looks = [group.create_task(_observed(client, record, proxy)) for proxy in record["proxies"]]
        return of_several(record["proxies"], [look.result() for look in looks])

    async def restore(self, record: Record, io: FaultIO) -> None:
        async with session() as client, asyncio.TaskGroup() as group:
            tries = [group.create_task(_restored(client, record, proxy)) for proxy in record["proxies"]]
        if trouble := [words for one in tries if (words := one.result())]:
            raise NotUndone("; ".join(trouble))


async def _observed(client: ClientSession, record: Record, proxy: str) -> Observed:
    try:
        there = await _look(client, _place(record, proxy), proxy)
    except _Gone:
        return Observed(State.GONE, "the server no longer has it")
    except Away as why:
        return Observed(State.UNKNOWN, str(why))
    ours, name = there.bears(record["toxic"]["name"]), record["toxic"]["name"]
    if not record["down"]:
        return Observed(State.INJECTED, f"bears {name}") if ours else Observed(State.RESTORED, f"without {name}")
    match ours, there.enabled:
        case True, False:
            return Observed(State.INJECTED, f"disabled, marked {name}")
        case True, True:
            return Observed(State.UNKNOWN, f"enabled, and still marked {name}")
        case False, False:
            return Observed(State.UNKNOWN, "disabled without our mark: by another")
    return Observed(State.RESTORED, "enabled")


async def _restored(client: ClientSession, record: Record, proxy: str) -> str:
    """What went wrong; empty where nothing did."""
    place, name = _place(record, proxy), record["toxic"]["name"]
    try:
        there = await _look(client, place, proxy)
        if there.bears(name):
            if record["down"] and not there.enabled:
                await _ask(client, "POST", place, {"enabled": True})
            await _ask(client, "DELETE", f"{place}/toxics/{name}", good=(200, 204, 404))
        elif record["down"] and not there.enabled:
            return f"{proxy} is disabled without our mark: another did it, and it is not ours to enable"
    except _Gone:
        return ""
    except Away as why:
        return f"{proxy}: {why}"
    return ""


class _Gone(Exception):
    """The server has no such proxy."""


async def _look(client: ClientSession, place: str, proxy: str) -> _Proxy:
    reply = await _ask(client, "GET", place, good=(200, 404))
    if reply.status == 404:
        raise _Gone(proxy)
    return _read(_Proxy.model_validate_json, reply)


def _read(how: Callable[[bytes], _Shape], reply: Reply) -> _Shape:
    try:
        return how(reply.body)
    except (ValidationError, RecursionError):
        raise Away("what it answered is not what Toxiproxy answers") from None


async def _ask(client: ClientSession, method: str, url: str, body: Any = None, good: tuple[int, ...] = (200,)) -> Reply:
    raw = None if body is None else json.dumps(body).encode()
    reply = await ask(client, method, url, {"Content-Type": "application/json"}, _WITHIN, raw)
    if reply.status not in good:
        raise Away(f"{method} answered {reply.status}")
    return reply


def _base(server: str) -> str:
    return server.rstrip("/")


def _place(record: Record, proxy: str) -> str:
    return f"{_base(record['server'])}/proxies/{quote(proxy, safe='')}"


def _command(params: ToxiproxyParams, proxy: str, toxic: Record) -> Command:
    place = f"{_base(params.server)}/proxies/{quote(proxy, safe='')}"
    add, take = f"POST {place}/toxics {json.dumps(dict(toxic))}", f"DELETE {place}/toxics/{toxic['name']}"
    if params.down:
        return Command(f'{add}; POST {place} {{"enabled": false}}', f'POST {place} {{"enabled": true}}; {take}')
    return Command(add, take)
