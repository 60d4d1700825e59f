"""The seam every protocol stands on.

A driver speaks one protocol for one role and knows nothing of deadlines, retries, metrics or verdicts: `run/` gives it
a SessionIO or StepIO, cancels it when time is up, and judges what comes out of its feed. A session driver's `open` is
one attempt: entering it brings the transport up, marking stages as it goes; inside, records flow through the feed;
leaving it, however it is left, ends the session politely (DELETE, goodbye) in bounded time and leaves no task, thread
or descriptor behind.

After `open` has been entered the driver goes on marking the stages of the start (first_packet, keyframe, then PROBE at
the arrival of the picture's last byte); `run/stay` closes the timer at the first verified frame.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from probe.drivers.spoken import Spoken
from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.observation import Observation, Role
from probe.model.outcome import Outcome
from probe.model.stage import StageTimer
from probe.net.client import Client, Credential
from probe.plan import Device, IceServer, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One session, concrete: `url` absolute, `credential` bound to origins. The code fields are for publishers.

    `key`, `streamid`, `passphrase` and `latency` (ns) as plan.Access, filled in. `family`: any, ipv4 or ipv6; `pin`: the one
    address to use of the host `pinned`, whatever else its name stands for. `io.http` obeys both already."""

    role: Role
    protocol: str
    url: str = field(repr=False)  # may be, or hold, a secret
    credential: Credential | None = None
    session: str = ""  # our own id of it
    device: Device = field(default_factory=Device)
    key: str = field(default="", repr=False)
    streamid: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    latency: int | None = None
    ice: str = "all"  # all | relay | direct
    ice_servers: tuple[IceServer, ...] = ()
    family: str = "any"
    pin: str = ""
    pinned: str = ""
    cmcd: bool = True
    loopback: bool = True  # gather 127.0.0.1 as well: the platform is on this machine
    run_number: int = 0
    trace_low: int = 0
    publish: int = 0  # ordinal of the publish session within the run
    programme: str = "360p30"
    bitrate: int = 800_000
    audio: bool = True
    codec: str = "h264"  # h264 | vp8


class SessionIO(Protocol):
    """What one attempt is given."""

    clock: Clock
    http: Client
    stages: StageTimer
    feed: Feed
    path: Path | None  # our impairable path to the platform, absent when there is nothing to impair
    facts: dict[str, str]  # what the session learnt: codec, ice pair, server; for the report, never for labels

    def emit(self, fact: Observation) -> None:
        """Record a fact of this session; run, session, seq and (where 0) `at` are filled in."""
        ...

    def note(self, text: str) -> None:
        """Something people should read: `DELETE was answered 405`."""
        ...


class SessionDriver(Protocol):
    """One attempt at being a publisher or viewer."""

    def open(self, spec: Spec, io: SessionIO) -> AbstractAsyncContextManager[None]: ...


class StepIO(Protocol):
    """What a step is given. Templates are resolved by `text`; values that came from secrets stay out of logs."""

    clock: Clock
    http: Client

    def text(self, template: str) -> str: ...
    def data(self, template: Any) -> Any: ...
    def url(self, template: str) -> str:
        """Absolute URL: paths are taken under the platform's URL."""
        ...

    def credential(self, account: str | None) -> Credential | None: ...
    def keep(self, name: str, value: Any) -> None: ...
    def viewers(self, who: str = "viewers") -> list[str]:
        """Ids of the viewer sessions now playing: all of them, or those of the protocol that `who` names."""
        ...

    def emit(self, fact: Observation) -> None: ...
    def note(self, text: str) -> None: ...


class StepDriver(Protocol):
    """One step done. Raises Failure or Unsupported, or returns the outcome."""

    async def run(self, step: Step, io: StepIO) -> Outcome: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow(Spoken):
    """One row of the table: a protocol in a role, and who speaks it. `scout` tells whether a first viewer could start yet (None:
    no such question for this protocol)."""

    driver: SessionDriver
    scout: Callable[[Spec, SessionIO], Any] | None = None
