"""An SRT connection on a socket: the sans-IO caller of wire/ between a datagram endpoint and its stages.

Stages: resolve, then handshake until the conclusion is answered. Of several addresses the next is tried where one's port is
closed. Everything runs in the socket's and the timer's callbacks; whoever reads `events` may be late and nothing else is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure, Misconfigured, Unsupported
from probe.model.clock import MS
from probe.model.srt import latency_misfit, passphrase_misfit
from probe.model.stage import Phase, Stage
from probe.model.text import quoted
from probe.net.datagram import Endpoint
from probe.wire.srt.caller import LATENCY, Caller, Connected, Ended, Event

_UNREAD = 16_384
_REASONS = {"closed": "closed", "timeout": "silence", "malformed": "malformed"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where, and as what. The query's streamid, latency (ms) and passphrase, unless the spec has its own."""

    host: str
    port: int
    streamid: str = field(repr=False)
    passphrase: str = field(repr=False)
    latency: int

    @classmethod
    def of(cls, spec: Spec) -> Target:
        """Raises Failure(resolve, failed) for what is no SRT address, Unsupported for another mode, Misconfigured for a
        passphrase that SRT cannot have. A `#` belongs to the query: stream ids begin with it."""
        address, _, query = spec.url.partition("?")
        values = {}
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            values[name] = unquote(value)
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Failure(Phase.RESOLVE, "failed", "no SRT address") from error
        if parts.scheme != "srt" or not host or not port:
            raise Failure(Phase.RESOLVE, "failed", "an SRT address is srt://host:port")
        if values.get("mode", "caller") != "caller":
            raise Unsupported(f"SRT mode {quoted(values['mode'], 20)}")
        passphrase = spec.passphrase or values.get("passphrase", "")
        if passphrase and (misfit := passphrase_misfit(passphrase)):
            raise Misconfigured(f"the passphrase is {misfit}")
        if (said := values.get("latency")) and (misfit := latency_misfit(said)):
            raise Failure(Phase.RESOLVE, "failed", misfit)
        latency = spec.latency if spec.latency is not None else int(said) * MS if said else LATENCY
        return cls(host, port, spec.streamid or values.get("streamid", ""), passphrase, latency)


class Link:
    """One connection. `events` end by raising Failure: of the handshake as it came, later for whoever reads to fit to his
    phase."""

    def __init__(self, target: Target, ip: str, port: int, io: SessionIO) -> None:
        self._io = io
        self._loop = asyncio.get_running_loop()
        self.caller = Caller(now=io.clock.now(), streamid=target.streamid, passphrase=target.passphrase, latency=target.latency)
        self._waiting: deque[tuple[Event, int]] = deque(maxlen=_UNREAD)
        self._wake = asyncio.Event()
        self._failure: Failure | Unsupported | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._endpoint = Endpoint(ip, port, io.clock, self._received, self._broken)
        self._tick()

    @property
    def up(self) -> bool:
        return self.caller.sender is not None and self._failure is None

    async def connected(self) -> Connected:
        """The handshake's end. Raises Failure, Unsupported."""
        async with aclosing(self.events()) as events:
            async for event, _ in events:
                if isinstance(event, Connected):
                    return event
        raise AssertionError("events end by raising")

    def send(self, payloads: list[bytes]) -> None:
        now = self._io.clock.now()
        for payload in payloads:
            self.caller.send(payload, now)
        self._turn(now)

    async def events(self) -> AsyncGenerator[tuple[Event, int], None]:
        """(event, when we knew of it)."""
        while True:
            while self._waiting:
                event, at = self._waiting.popleft()
                if isinstance(event, Ended):
                    raise Failure(Phase.FIRST_PACKET, _REASONS[event.reason], event.detail)
                yield event, at
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Goodbye, as far as one datagram can say it."""
        if self._failure is None:
            self.caller.close(self._io.clock.now())
            self._endpoint.send(self.caller.outgoing())
        if self._timer is not None:
            self._timer.cancel()
        self._endpoint.close()

    def tell(self) -> None:
        """What SRT itself saw, into the facts."""
        facts, receiver, sender = self._io.facts, self.caller.receiver, self.caller.sender
        if receiver is None or sender is None:
            return
        rtt = sender.rtt if sender.rtt is not None else receiver.rtt if receiver.measured else None
        if rtt is not None:
            facts["srt_rtt_ms"] = f"{rtt / MS:.1f}"
        if receiver.count.packets:
            count = receiver.count
            facts["srt_packets"], facts["srt_lost"] = str(count.packets), str(count.lost)
            facts["srt_recovered"], facts["srt_dropped"] = str(count.recovered), str(count.dropped)
        else:
            sent = sender.count
            facts["srt_packets"], facts["srt_lost"] = str(sent.packets), str(sent.lost)
            facts["srt_retransmitted"], facts["srt_dropped"] = str(sent.resent), str(sent.dropped)
        if self.caller.strange:
            facts["srt_strange"] = str(self.caller.strange)
        if self.caller.unreadable:
            facts["srt_unreadable"] = str(self.caller.unreadable)
        if self._endpoint.lost:
            facts["srt_unsent"] = str(self._endpoint.lost)

    # -- callbacks

    def _received(self, batch: list[tuple[bytes, int]]) -> None:
        try:
            for datagram, at in batch:
                self.caller.receive(datagram, at)
                self._collect(at)
        except (Failure, Unsupported) as error:
            self._fail(error)
        self._turn(self._io.clock.now())

    def _broken(self, error: OSError) -> None:
        if not self.up:
            self._fail(Failure(Phase.HANDSHAKE, "refused", f"nobody listens there ({error.strerror})"))
        elif isinstance(error, ConnectionRefusedError):  # a way that is gone may come back, and silence would tell
            self._fail(Failure(Phase.PLAYING, "reset", f"the far side's port is closed ({error.strerror})"))

    def _tick(self) -> None:
        self._timer = None
        now = self._io.clock.now()
        try:
            self.caller.timer(now)
        except Failure as failure:
            self._fail(failure)
        self._turn(now)

    def _turn(self, now: int) -> None:
        """Send what is to be sent, hand on what happened, see when there is something to do again."""
        self._endpoint.send(self.caller.outgoing())
        self._collect(now)
        due = self.caller.next_timer() if self._failure is None else None
        if self._timer is not None:
            if due is not None and due >= self._timer_at:
                return  # it will look again then
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            wait = -(-max(0, due - self._io.clock.now()) // MS)  # uvloop rounds to ms: too early would be in vain
            self._timer = self._loop.call_later(wait / 1000, self._tick)

    def _collect(self, now: int) -> None:
        events = self.caller.events()
        if events:
            self._waiting.extend((event, now) for event in events)
            self._wake.set()

    def _fail(self, error: Failure | Unsupported) -> None:
        if self._failure is None:
            self._failure = error
            self._wake.set()


@asynccontextmanager
async def joined(spec: Spec, io: SessionIO) -> AsyncIterator[Link]:
    """The connection stands. Raises Failure (resolve, handshake, auth), Unsupported. Says goodbye at the end."""
    target = Target.of(spec)
    addresses = await io.http.resolve(target.host, target.port, stages=io.stages, phase=Phase.HANDSHAKE)
    io.stages.enter(Stage.HANDSHAKE, io.clock.now())
    link = await _first(target, addresses, io)
    try:
        yield link
    finally:
        link.close()
        link.tell()


async def _first(target: Target, addresses: list[tuple[str, int]], io: SessionIO) -> Link:
    refused: Failure | None = None
    for ip, port in addresses:
        near = await io.path.udp(ip, port) if io.path else (ip, port)
        try:
            link = Link(target, *near, io)
        except OSError as error:
            refused = refused or Failure(Phase.HANDSHAKE, "refused", f"no way there ({error.strerror})")
            continue
        try:
            connected = await link.connected()
        except Failure as failure:
            link.close()
            if (failure.phase, failure.reason) != (Phase.HANDSHAKE, "refused"):
                raise
            refused = refused or failure
        except BaseException:
            link.close()
            raise
        else:
            io.http.reached(ip)
            io.facts["srt_latency_ms"] = str(connected.latency // MS)
            io.facts["srt_version"] = connected.version
            io.facts["encryption"] = f"AES-{connected.encrypted}" if connected.encrypted else "none"
            return link
    assert refused is not None
    raise refused
