"""What a journey is made of: one model per kind of step.

A step stands in the file as `name: body`. Its kind is its name where that is a kind, else the field that names one:
`login: {http: POST /auth/login}` is an http step, `publish: {via: whip}` and `go-live: {publish: whip}` are the same.
`shape` brings a body into the one form the models know and remembers how to find its way back to the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from probe.model.clock import MS
from probe.model.outcome import REASONS
from probe.model.srt import LATENCY
from probe.model.stage import Phase
from probe.scenario.devices import Network, devices, known_device
from probe.scenario.fields import (
    AnyCall,
    MediaUrl,
    Model,
    Name,
    OneOrMany,
    Request,
    SocketUrl,
    Variable,
    one_of,
    vocabulary,
)
from probe.scenario.text import Path
from probe.scenario.units import Duration, PositiveDuration, Rate

Service = Literal["auth", "room", "payment", "gift", "chat", "moderation"]
Ice = Literal["all", "relay", "direct"]
Family = Literal["any", "ipv4", "ipv6"]


def _secret_text(value: Any) -> Any:
    if isinstance(value, str) and value and not value.startswith("${secret."):
        raise ValueError('must be a reference, such as "${secret.passphrase}"; never write one down')
    return value


def _srt_latency(ns: int) -> int:
    if ns % MS or ns // MS not in LATENCY:
        raise ValueError(f"SRT tells its latency in whole ms, at most {LATENCY[-1]}; write for example 200ms")
    return ns


SecretText = Annotated[str, BeforeValidator(_secret_text)]
SrtLatency = Annotated[PositiveDuration, AfterValidator(_srt_latency)]
LINK_CUTS = frozenset({"flap", "rebind"})  # cuts that we make ourselves, in link/


def _jmespath(text: str) -> str:
    try:
        jmespath.compile(text)
    except JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{text!r} is not a jmespath: {reason}") from None
    return text


JmesPath = Annotated[str, AfterValidator(_jmespath)]


class StepModel(Model):
    """What every step has."""

    KIND: ClassVar[str] = ""
    KEY: ClassVar[str] = "name"

    name: Name = Field(description="The step's name, unique in the scenario; in the file it is the key of the step.")
    optional: bool = Field(False, description="Its failure does not fail the run.", examples=[True])
    within: PositiveDuration | None = Field(None, description="Deadline of the step.", examples=["2s"])


class Expectation(Model):
    """What an answer must be."""

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], OneOrMany()] = Field(
        (), description="Any of these statuses; any 2xx where none is given.", examples=[200, [200, 201]]
    )
    body: dict[JmesPath, Any] = Field(
        {}, alias="json", description="jmespath of the answer → its value.", examples=[{"state": "live"}]
    )


class Http(StepModel):
    """One request to a service of the platform."""

    KIND: ClassVar[str] = "http"
    http: Request = Field(
        description="Method and address: a path under the platform's url, or absolute.", examples=["POST /rooms"]
    )
    service: Service | None = Field(
        None, description="Whose step it is; default: the step's name if that is one, else room.", examples=["auth"]
    )
    account: Name | None = Field(None, alias="as", description="Whose token goes with it.", examples=["broadcaster"])
    body: Any = Field(None, alias="json", description="JSON body; templates are filled.", examples=[{"kind": "rose"}])
    headers: dict[str, str] = Field({}, description="Further headers.", examples=[{"Accept-Language": "en"}])
    expect: Expectation = Field(Expectation(), description="What the answer must be.", examples=[{"status": 201}])
    keep: dict[Variable, JmesPath] = Field({}, description="Variable → jmespath of the answer.", examples=[{"room": "id"}])
    until: JmesPath | None = Field(
        None, description="Repeat until this jmespath is truthy, within the deadline.", examples=["state == 'removed'"]
    )
    once: JmesPath | None = Field(
        None, description="This jmespath must come to the number 1: counted, and once.", examples=["count"]
    )
    seen_by: str | None = Field(
        None, description="Viewers that must see it on a socket: viewers, or a protocol.", examples=["viewers"]
    )
    socket: SocketUrl | None = Field(
        None, description="Address of that socket; default: the journey's websocket step.", examples=["/rooms/${room}/chat"]
    )
    seen: str | None = Field(None, description="What a socket must show; default: the request's id.", examples=["gift ${run.id}"])
    undo: AnyCall | None = Field(
        None, description="What undoes it, noted before the call is made.", examples=["DELETE /rooms?tag=${run.tag}"]
    )

    @model_validator(mode="after")
    def _together(self) -> Http:
        if self.seen_by is None and (self.socket is not None or self.seen is not None):
            raise ValueError("socket and seen mean nothing without seen_by")
        if self.within is None and self.until is not None:
            raise ValueError("until repeats a call and so needs a deadline: add within, such as within: 5s")
        return self


class Websocket(StepModel):
    """A message sent on a socket, and seen by others on theirs."""

    KIND: ClassVar[str] = "websocket"
    websocket: SocketUrl = Field(description="Address of the socket.", examples=["/rooms/${room}/chat"])
    send: str = Field(
        min_length=1,
        max_length=16_384,
        description="The message; carry ${run.id} so that it is ours alone.",
        examples=["hello ${run.id}"],
    )
    service: Service | None = Field(
        None, description="Whose step it is; default: the step's name if that is one, else chat.", examples=["chat"]
    )
    account: Name | None = Field(None, alias="as", description="Who sends.", examples=["broadcaster"])
    seen_by: str | None = Field(None, description="Viewers that must see it: viewers, or a protocol.", examples=["viewers"])


class Publish(StepModel):
    """A broadcaster goes live and stays until the journey ends."""

    KIND: ClassVar[str] = "publish"
    publish: str = Field(description="Protocol; written `via` where the step is called publish.", examples=["whip"])
    url: MediaUrl = Field(description="Where to.", examples=["/rooms/${room}/whip"])
    account: Name | None = Field(None, alias="as", description="Whose token goes with it.", examples=["broadcaster"])
    programme: str = Field("360p30", validate_default=True, description="The test programme.", examples=["360p30", "720p30"])
    bitrate: Rate = Field(800_000, description="Video bitrate.", examples=["800kbps"])
    audio: bool = Field(True, description="With sound.", examples=[False])
    codec: Literal["h264", "vp8"] = Field("h264", description="Of the picture; vp8 over WHIP only.", examples=["vp8"])
    device: Name = Field("default", description="What the broadcaster's device imitates.", examples=["desktop-fibre"])
    network: Network | None = Field(
        None, description="The network between; over what the device's is.", examples=[{"delay": "50ms", "up": "2Mbps"}]
    )
    stream: str = Field(
        "", description="The stream's name: ${stream} in the addresses of its viewers.", examples=["${room}", "probe-1"]
    )
    key: str = Field("", description="RTMP stream key, appended to the url's path.", examples=["${secret.stream_key}"])
    streamid: str = Field("", description="SRT streamid.", examples=["publish:${room}"])
    passphrase: SecretText = Field("", description="SRT passphrase.", examples=["${secret.srt_passphrase}"])
    latency: SrtLatency | None = Field(None, description="SRT latency; default: 120 ms.", examples=["200ms"])
    ice: Ice = Field("all", description="Which ICE candidates: all, only relayed ones, only direct ones.", examples=["relay"])
    family: Family = Field("any", description="IP version.", examples=["ipv6"])

    @field_validator("publish")
    @classmethod
    def _protocol(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, vocabulary(info).publish)

    @field_validator("device")
    @classmethod
    def _device(cls, value: str, info: ValidationInfo) -> str:
        known = devices(info)
        return value if known is None else known_device(value, known)

    @field_validator("programme")
    @classmethod
    def _programme(cls, value: str, info: ValidationInfo) -> str:
        known = vocabulary(info).programmes
        return one_of(value, known) if known else value


class Viewers(Model):
    """`count` viewers alike."""

    via: str = Field(
        description="Protocol; all: one group for each of platform.views; default: the first that the device prefers of those.",
        examples=["whep", "all"],
    )
    of: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        (), description="Publish steps it watches; default: all of them so far, one group each.", examples=["publish"]
    )
    url: MediaUrl | None = Field(
        None, description="Where from; default: platform.views of the protocol.", examples=["/rooms/${room}/whep"]
    )
    account: Name | None = Field(None, alias="as", description="Whose token goes with it.", examples=["viewer"])
    count: int = Field(1, ge=1, le=10_000, description="How many.", examples=[3])
    device: Name = Field("default", description="What the viewer's device imitates.", examples=["android-4g"])
    network: Network | None = Field(
        None, description="The network between; over what the device's is.", examples=[{"delay": "50ms", "loss": "1%"}]
    )
    verify: Literal["code", "moving"] = Field(
        "code", description="code: our own frame code; moving: for rooms that are not ours.", examples=["moving"]
    )
    join: Literal["mid_stream", "at_go_live"] = Field(
        "mid_stream", description="When it joins; two separate series.", examples=["at_go_live"]
    )
    max_age: PositiveDuration | None = Field(
        None, description="Oldest frame that counts as verified; default: the protocol's.", examples=["2s"]
    )
    start: PositiveDuration | None = Field(
        None, description="Start deadline; default: the scenario's, else the protocol's.", examples=["5s"]
    )
    optional: bool = Field(False, description="Its failure does not fail the run.", examples=[True])
    streamid: str = Field("", description="SRT streamid.", examples=["read:${stream}"])
    passphrase: SecretText = Field("", description="SRT passphrase.", examples=["${secret.srt_passphrase}"])
    latency: SrtLatency | None = Field(None, description="SRT latency; default: 120 ms.", examples=["200ms"])
    ice: Ice = Field("all", description="Which ICE candidates: all, only relayed ones, only direct ones.", examples=["relay"])
    family: Family = Field("any", description="IP version.", examples=["ipv6"])
    edges: Literal["any", "each"] = Field(
        "any", description="each: a group of viewers for every address of the host's name.", examples=["each"]
    )
    cmcd: bool = Field(True, description="Tell the CDN what a player would (CTA-5004), as request headers.", examples=[False])
    over: Variable | None = Field(
        None, description="A kept list; one group for each item, ${item} in the address.", examples=["rooms"]
    )
    at_most: int = Field(5, ge=1, le=100, description="Items of that list that are watched.", examples=[3])

    @model_validator(mode="before")
    @classmethod
    def _preferred(cls, data: Any, info: ValidationInfo) -> Any:
        """Without `via`: what the device prefers of what the platform declares."""
        known, declared = devices(info), (info.context or {}).get("views", ())
        if not isinstance(data, dict) or "via" in data or known is None:
            return data
        name = data.get("device")
        if not isinstance(name, str) or name not in known:
            # The unknown device is the one mistake; `via` is not missing then.
            return {**data, "via": "all"} if isinstance(name, str) else data
        for protocol in known[name].prefer:
            if protocol in declared:
                return {**data, "via": protocol}
        prefers = ", ".join(known[name].prefer) or "nothing"
        raise ValueError(f"names no protocol: {name} prefers {prefers}; platform.views has {', '.join(declared)}. Add via")

    @field_validator("via")
    @classmethod
    def _protocol(cls, value: str, info: ValidationInfo) -> str:
        return value if value == "all" else one_of(value, vocabulary(info).view)

    @field_validator("device")
    @classmethod
    def _device(cls, value: str, info: ValidationInfo) -> str:
        known = devices(info)
        return value if known is None else known_device(value, known)

    @model_validator(mode="after")
    def _together(self) -> Viewers:
        if self.via == "all" and self.url is not None:
            raise ValueError("all takes the addresses of platform.views; a view with a url names its protocol")
        if self.over is not None and self.verify == "code":
            raise ValueError("over goes through rooms that are not ours: add verify: moving")
        if self.of and self.verify == "moving":
            raise ValueError("of names a publisher whose code is expected; verify: moving expects none")
        return self


class View(StepModel):
    """Viewers join and stay until the journey ends."""

    KIND: ClassVar[str] = "view"
    view: Annotated[tuple[Viewers, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="Groups of viewers.", examples=[[{"via": "whep", "count": 3}]]
    )
    phase: Duration = Field(
        10**9, description="Spread their starts over so much time at random: keyframe phase.", examples=["1s"]
    )


class Cut(StepModel):
    """Something is broken for a while, and everybody is expected back."""

    KIND: ClassVar[str] = "cut"
    cut: str = Field(description="What happens; written `kind` where the step is called cut.", examples=["rebind"])
    of: str = Field(description="Whom: viewers, publisher, platform, or a protocol.", examples=["viewers"])
    duration: Duration | None = Field(None, alias="for", description="How long.", examples=["2s"])
    call: AnyCall | None = Field(
        None, description="The platform's own switch, for restart and token_expiry.", examples=["POST /admin/restart"]
    )

    @field_validator("cut")
    @classmethod
    def _kind(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, vocabulary(info).cut)

    @field_validator("of")
    @classmethod
    def _of(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, ("viewers", "publisher", "platform", *vocabulary(info).view))

    @model_validator(mode="after")
    def _together(self) -> Cut:
        if self.cut in LINK_CUTS and self.of in ("platform", "publisher"):
            raise ValueError(f"a {self.cut} is made on the path of viewers; a publisher can drop, a platform restart")
        if self.cut == "drop" and self.of != "publisher":
            raise ValueError("only the publisher can drop; cut viewers by flap or rebind")
        if self.cut in ("restart", "token_expiry") and self.call is None:
            raise ValueError(f"{self.cut} is the platform's own switch: add call, such as call: POST /admin/restart")
        if self.cut in (*LINK_CUTS, "drop") and not self.duration:
            raise ValueError(f"how long? add for, such as {self.cut} for: 2s")
        return self


class Wait(StepModel):
    """Time passes, and viewers watch."""

    KIND: ClassVar[str] = "wait"
    wait: PositiveDuration = Field(description="How long.", examples=["5s"])


class Fake(StepModel):
    """A scripted outcome, for tests, examples and dry runs."""

    KIND: ClassVar[str] = "fake"
    fake: Literal["done", "failed", "skipped", "cancelled", "aborted"] = Field(description="How it ends.", examples=["done"])
    phase: str = Field("", description="Of a failure.", examples=["signal"])
    reason: str = Field("", description="Of a failure or a skip.", examples=["http_404"])
    took: Duration = Field(0, description="How long it takes.", examples=["100ms"])

    @model_validator(mode="after")
    def _pair(self) -> Fake:
        if self.fake == "failed":
            phases = {p.value: p for p in Phase}
            if self.phase not in phases:
                raise ValueError(f"a failure needs a phase, one of {', '.join(phases)}")
            reasons = REASONS[phases[self.phase]]
            if self.reason not in reasons:
                close = get_close_matches(self.reason, sorted(reasons), 3, 0.4)
                hint = f"; did you mean {' or '.join(close)}?" if close else ""
                raise ValueError(f"({self.phase}, {self.reason}) is not a known failure{hint}")
        return self


AnyStep = Http | Websocket | Publish | View | Cut | Wait | Fake
MODELS: dict[str, type[StepModel]] = {m.KIND: m for m in (Http, Websocket, Publish, View, Cut, Wait, Fake)}
NAMED_KINDS = ("publish", "view", "cut", "wait")
SHORT = {"publish": "via", "cut": "kind"}


@dataclass(frozen=True, slots=True)
class Shaped:
    """A step's kind, its body as its model wants it, and the way from a place in that body to one in the file's."""

    kind: str
    body: dict[str, Any]
    back: Callable[[Path], Path]


def shape(name: str, body: Any) -> Shaped:
    """Find a step's kind and bring its body into the one form. Raises ValueError where it has no kind."""
    kind = name if name in NAMED_KINDS else None
    if kind is None:
        found = [k for k in MODELS if isinstance(body, dict) and k in body]
        # `publish: {…}` inside an http step would be two kinds; the models then name the field that does not belong.
        if not found:
            raise ValueError(f"what does it do? give it one of {', '.join(MODELS)}, or call it one of {', '.join(NAMED_KINDS)}")
        kind = found[0]
        return Shaped(kind, dict(body), lambda path: path)
    if kind == "wait" and not isinstance(body, dict):
        return Shaped(kind, {"wait": body}, lambda path: path[1:])
    if kind == "view" and not (isinstance(body, dict) and "view" in body):
        if isinstance(body, dict):
            return Shaped(kind, {"view": [body]}, lambda path: path[2:])
        return Shaped(kind, {"view": body}, lambda path: path[1:])
    if not isinstance(body, dict):
        raise ValueError(f"expected a mapping such as {{{SHORT.get(kind, kind)}: …}}")
    short = SHORT.get(kind)
    if short is None or kind in body:
        return Shaped(kind, dict(body), lambda path: path)
    renamed = {(kind if key == short else key): value for key, value in body.items()}
    return Shaped(kind, renamed, lambda path: (short, *path[1:]) if path[:1] == (kind,) else path)
