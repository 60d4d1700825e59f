"""Plan: scenario × region × seed, made concrete. Pure; no IO in making it.

A plan is data a worker can be sent: every step with its deadline, every address as a template whose variables are
known to be provided by then. Secrets stay references (`${secret.password}`) and never become values here. Durations
are ns, rates bit/s, ratios 0..1. A deadline of None is the protocol's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.model import ids
from probe.scenario.produced import Produced


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One request as written: method, URL template (absolute, or a path under the platform's URL), body template."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    account: str | None = None  # whose bearer token goes with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """`status` any of these (empty: any 2xx); each jmespath in `json` must equal its value."""

    status: frozenset[int] = frozenset()
    json: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBase:
    name: str
    kind: str = ""
    service: str = ""
    optional: bool = False
    deadline: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStep(StepBase):
    """`keep` maps variable → jmespath of the answer. `until` repeats the call until the jmespath is truthy, within the
    deadline. `once` is a jmespath that must come to the number 1 (0: not counted, more: counted twice). `seen_by`
    opens one socket at `socket` per viewer before the call and waits for `seen` (default: our request id) on each.
    `undo` is written to the ledger before the call."""

    kind: str = "http"
    call: HttpCall
    expect: Expect = Expect()
    keep: Mapping[str, str] = field(default_factory=dict)
    until: str | None = None
    once: str | None = None
    seen_by: str | None = None
    socket: str | None = None
    socket_account: str | None = None
    seen: str | None = None
    undo: HttpCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebsocketStep(StepBase):
    """Sends `send` on a socket of `account`; every session named by `seen_by` must see it on a socket of its own."""

    kind: str = "websocket"
    url: str
    send: str
    account: str | None = None
    seen_by: str | None = None
    seen_account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """`stun:host`, `turn:host?transport=tcp`, `turns:host`; `username` and `credential` are templates."""

    url: str
    username: str = ""
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the path between us and the platform does to everything on it, each way. Delay and jitter in ns one way (jitter:
    standard deviation); loss, reorder and duplicate are shares of packets; `burst` is the mean length of a run of losses;
    rates in bit/s, None: unlimited. TCP feels loss as a retransmission's wait, since bytes of a stream are never lost."""

    delay: int = 0
    jitter: int = 0
    loss: float = 0.0
    burst: float = 1.0
    rate_up: int | None = None
    rate_down: int | None = None
    reorder: float = 0.0
    duplicate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a session gets to its media beside its address: all templates. `key`: an RTMP stream key; `streamid`, `passphrase`,
    `latency` (ns) are SRT's."""

    key: str = ""
    streamid: str = ""
    passphrase: str = ""
    latency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a device can do. `codecs` of the picture in its order of preference; `max_height` in lines of the
    highest rendition; `network` None: the one we are on."""

    name: str = "default"
    codecs: tuple[str, ...] = ("h264", "vp8")
    max_height: int | None = None
    user_agent: str = ""
    network: Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishStep(StepBase):
    """`stream` (a template) names what is published, as `${stream}` in the addresses of its viewers."""

    kind: str = "publish"
    protocol: str
    url: str
    account: str | None = None
    programme: str = "360p30"
    bitrate: int = 800_000
    device: Device = Device()
    audio: bool = True
    codec: str = "h264"
    stream: str = ""
    access: Access = Access()
    ice: str = "all"  # all | relay | direct
    family: str = "any"  # any | ipv4 | ipv6


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """`count` viewers alike. `of`: the publish steps whose code they expect, empty for rooms that are not ours. `over`: the
    variable that holds a list; one group of viewers for each of its items, `${item}` in the address, at most `at_most`.
    `edges`: `any` address of the host's name, or `each` of them with viewers of its own."""

    protocol: str
    url: str
    account: str | None = None
    count: int = 1
    of: tuple[str, ...] = ()
    device: Device = Device()
    access: Access = Access()
    ice: str = "all"  # all | relay | direct
    family: str = "any"  # any | ipv4 | ipv6
    edges: str = "any"  # any | each
    cmcd: bool = True
    over: str = ""
    at_most: int = 5
    verify: str = "code"  # code | moving
    join: str = "mid_stream"  # mid_stream | at_go_live
    max_age: int | None = None
    start: int | None = None
    optional: bool = False
    impaired: frozenset[str] = frozenset()  # kinds of cut that this plan will inflict on it: it needs a link


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStep(StepBase):
    kind: str = "view"
    views: tuple[ViewSpec, ...]
    phase: int = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CutStep(StepBase):
    """Breaks what `of` names (viewers, publisher, platform, or a protocol such as whep) for `duration` ns, then waits until
    every session came back or its reconnect deadline passed. Kinds: flap, rebind (ours, through link/), drop (the
    publisher goes and returns), restart and token_expiry (the platform's own switch, by `call`)."""

    kind: str = "cut"
    of: str
    cut: str
    duration: int
    call: HttpCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStep(StepBase):
    kind: str = "wait"
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStep(StepBase):
    """The journey waits here, its sessions staying, until whoever holds the run from outside releases it."""

    kind: str = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStep(StepBase):
    """A scripted outcome, for tests, examples and --dry-run."""

    kind: str = "fake"
    outcome: str = "done"
    phase: str = ""
    reason: str = ""
    took: int = 0


Step = HttpStep | WebsocketStep | PublishStep | ViewStep | CutStep | WaitStep | HoldStep | FakeStep


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """Where a secret comes from, and the only origins it may be sent to. `source` is (kind, argument): env, file or command."""

    name: str
    source: tuple[str, str]
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    scenario: str
    description: str
    owner: str
    mode: str
    seed: int
    region: str
    publish_region: str
    run_id: str
    run_number: int
    trace_low: int
    platform_url: str
    allow: tuple[str, ...]  # hosts or networks a server may name although private
    ice_servers: tuple[IceServer, ...]
    accounts: Mapping[str, str]  # account → template of its bearer token
    secrets: Mapping[str, SecretRef]
    journey: tuple[Step, ...]
    final: tuple[Step, ...]
    run_deadline: int
    reconnect_deadline: int
    gates: tuple[Any, ...] = ()  # scenario.gates.Gate
    objectives: tuple[Any, ...] = ()
    release: str = ""  # template of what the platform runs; may name what a step keeps
    rate_cap: float = 5.0  # requests a second that create something

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return ids.trace_id(self.run_number, self.trace_low)

    @property
    def cells(self) -> tuple[tuple[Any, str], ...]:
        """Each objective and protocol that a run of this plan is counted in: once, whatever becomes of it. The protocol is empty
        where the objective is the whole run's."""
        produced = self._produced()
        return tuple(
            (objective, protocol)
            for objective in self.objectives
            if not objective.regions or self.region in objective.regions
            for protocol in produced.cells(objective.indicator)
            if not objective.protocols or protocol in objective.protocols
        )

    def _produced(self) -> Produced:
        viewed: set[str] = set()
        coded: set[str] = set()
        cut: set[str] = set()
        steps = (*self.journey, *self.final)
        for step in steps:
            if isinstance(step, ViewStep):
                viewed |= {view.protocol for view in step.views}
                coded |= {view.protocol for view in step.views if view.verify == "code"}
            elif isinstance(step, CutStep):
                cut |= viewed if step.of in ("viewers", "publisher", "platform") else viewed & {step.of}
        return Produced(
            published=frozenset(step.protocol for step in steps if isinstance(step, PublishStep)),
            viewed=frozenset(viewed),
            coded=frozenset(coded),
            cut=frozenset(cut),
            services=frozenset(step.service for step in steps if step.service),
            tries=any(not isinstance(step, WaitStep) for step in steps),
        )
