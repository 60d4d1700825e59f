"""ICE as the probe needs it: the ways that were asked for, the first check at once, bounded memory, media past the queue.

What is changed in aioice 0.13, each for a reason:

- 127.0.0.1 and ::1 are never gathered upstream; a platform on this machine is reached by nothing else. Asked for per agent.
- Gathering waits 5 s for a STUN or TURN server, of each kind one, and swallows why it came to nothing. Here gathering is host
  candidates alone; servers are asked by `reflexive` and `relay_through`, which say what went wrong.
- `connect` sleeps 20 ms after the first check before it looks at the answer, always. Here the first check leaves at
  once and `connect` goes on waiting for the result; further checks are paced by a timer, at the 5 ms that RFC 8445
  section 14.2 allows.
- A check that arrives while ours on the same pair waits for its answer triggers nothing upstream. Whoever answers an
  offer checks before the offerer knows its addresses: behind a relay, as behind a NAT, that first check is lost, and
  the pair stood still until it was repeated after 500 ms. RFC 8445 section 7.3.1.4 wants a check at once.
- What arrives before the handshake is queued without bound although anybody may send it. Bounded here.
- Every packet is tried as STUN and wakes a task through a queue. Media goes straight from the socket to its receiver: a
  third of the work, and the arrival time is that of the read. What only looks like STUN raises in the callback; dropped here.
- A relay that will not relay to the other side lets the check time out after a minute. Here the pair has failed.

Not done: trickle, restarts, ICE over TCP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from socket import SO_RCVBUF, SOL_SOCKET

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol, TransportPolicy
from aioice.stun import Class, Message, Method, TransactionError
from aioice.turn import UDP_SOCKET_BUFFER_SIZE, TurnTransport

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.lookup import family_of
from probe.rtc.stun import Socket
from probe.rtc.turn import Relay, TurnServer, allocate

__all__ = ["Agent", "Reach", "Selected", "TurnServer"]

PACE = 0.005
EARLY = 256  # datagrams held while the handshake is on its way
STUN_SECONDS = 1.5
_STUN_TRIES = 2  # again, after 0.5 s


@dataclass(frozen=True, slots=True)
class Reach:
    """Which ways an agent may take. `loopback`: this machine's own addresses too. `relayed`: nothing but relays. `family`:
    any, ipv4 or ipv6, of its sockets."""

    loopback: bool
    relayed: bool = False
    family: str = "any"


@dataclass(frozen=True, slots=True)
class Selected:
    """The pair in use: types of the candidates (host, srflx, prflx, relay), ours first. `transport`: udp, or how our relay is
    reached: udp, tcp, tls. `family` of the address that is sent to."""

    ours: str
    theirs: str
    transport: str
    family: str

    def __str__(self) -> str:
        return f"{self.ours}/{self.transport} → {self.theirs}, {self.family}"


Media = Callable[[bytes], bool]


class Agent(Connection):
    """An aioice connection taken over after it was made: see `adopt`."""

    loopback: bool
    refusal: str  # why a relay does not reach the other side, or no more
    media: Media | None
    _timer: asyncio.TimerHandle | None
    _repeated: set[bytes]

    @staticmethod
    def adopt(connection: Connection, reach: Reach) -> Agent:
        """Turn a connection that has not begun to gather into an Agent."""
        connection.__class__ = Agent
        assert isinstance(connection, Agent)
        connection.loopback = reach.loopback
        connection._use_ipv4, connection._use_ipv6 = reach.family != "ipv6", reach.family != "ipv4"
        connection._transport_policy = TransportPolicy.RELAY if reach.relayed else TransportPolicy.ALL
        connection.refusal = ""
        connection.media = None
        connection._timer = None
        connection._repeated = set()
        return connection

    @property
    def selected(self) -> Selected | None:
        """The pair in use."""
        pair = self._nominated.get(1)
        if pair is None:
            return None
        transport = pair.protocol.server.transport if isinstance(pair.protocol, Relay) else "udp"
        return Selected(pair.local_candidate.type, pair.remote_candidate.type, transport, family_of(pair.remote_addr[0]))

    def send_now(self, data: bytes) -> bool:
        """Hand one datagram to the socket. False when there is no path for it."""
        pair = self._nominated.get(1)
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    async def relay_through(self, server: TurnServer, tls: ssl.SSLContext) -> None:
        """Add a relayed candidate to an agent that has gathered already, checking perhaps.

        The far side need not be told: it learns the address from our checks (RFC 8445 section 7.3.1.3). Raises Failure where
        the server gives no allocation: see `allocate`."""
        hide = self._transport_policy is TransportPolicy.RELAY
        candidate, protocol = await allocate(server, self, self._not_relayed, tls, hide=hide)
        self._protocols.append(protocol)
        self._local_candidates.append(candidate)
        for remote in self._remote_candidates:
            self._pair_remote_candidate(remote)
        self.sort_check_list()
        if self._early_checks_done and not self._check_list_done:
            self._stop_timer()
            self._check_periodic()

    async def reflexive(self, ip: str, port: int) -> None:
        """Ask a STUN server (RFC 8489) under which address each of our sockets is seen, for the far side to be told.

        Raises Failure(ICE, timeout) where it answers none of them."""
        seen: list[Candidate | None] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(STUN_SECONDS), asyncio.TaskGroup() as asking:
                for socket in self._protocols:
                    own = socket.local_candidate.host
                    if family_of(own) == family_of(ip) and _is_loopback(own) == _is_loopback(ip):
                        asking.create_task(self._seen_as(socket, ip, port, seen))
        if not seen:
            raise Failure(Phase.ICE, "timeout", "no answer from the STUN server")
        self._local_candidates += filter(None, seen)

    async def _seen_as(self, socket: StunProtocol, ip: str, port: int, seen: list[Candidate | None]) -> None:
        """Adds the server-reflexive candidate of one socket; None where no NAT stands between."""
        request = Message(message_method=Method.BINDING, message_class=Class.REQUEST)
        try:
            response, _ = await socket.request(request, (ip, port), retransmissions=_STUN_TRIES)
            host, mapped = response.attributes["XOR-MAPPED-ADDRESS"]
        except (TransactionError, KeyError):
            return
        own = socket.local_candidate
        seen.append(None if (host, mapped) == (own.host, own.port) else _reflexive(own, host, mapped))

    def _not_relayed(self, relay: Relay, peers: frozenset[tuple[str, int]], why: str) -> None:
        """The pairs of this relay with these peers have failed."""
        if self._closing:
            return
        self.refusal = why
        for pair in [p for p in self._check_list if p.protocol is relay and p.remote_addr in peers]:
            if pair.state is CandidatePair.State.IN_PROGRESS:
                if pair.task is not None:
                    pair.task.cancel()
                self.check_state(pair, CandidatePair.State.FAILED)
                self.check_complete(pair)

    async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:
        """Host candidates. Loopback first, and IPv4: of equal priorities the earlier pair is checked first."""
        if self.loopback and self._transport_policy is TransportPolicy.ALL:
            own = [ip for ip, wanted in (("127.0.0.1", self._use_ipv4), ("::1", self._use_ipv6)) if wanted]
            addresses = [*own, *addresses]
        loop = asyncio.get_running_loop()
        found = []
        for address in addresses:
            try:
                transport, socket = await loop.create_datagram_endpoint(lambda: Socket(self), local_addr=(address, 0))
            except OSError:  # an address that went away, or a family this machine has not
                continue
            transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, UDP_SOCKET_BUFFER_SIZE)
            ip, port = transport.get_extra_info("sockname")[:2]
            socket.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", ip),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=ip,
                port=port,
                type="host",
            )
            self._protocols.append(socket)
            found.append(socket.local_candidate)
        return found

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """Leave out what cannot work: no packet from 127.0.0.1 leaves this machine."""
        super()._pair_remote_candidate(remote_candidate)
        if not _is_loopback(remote_candidate._network_host):
            self._check_list = [
                p for p in self._check_list if not (p.remote_candidate is remote_candidate and _from_loopback(p.local_candidate))
            ]

    def _check_periodic(self) -> bool:
        """Upstream's pacing loop asks this and sleeps as long as the answer is True; a timer paces instead.

        Only where there is nothing to check yet is the loop left to wait for candidates.
        """
        more = super()._check_periodic()
        if not more or not self._check_list:
            return more
        self._timer = asyncio.get_running_loop().call_later(PACE, self._check_periodic)
        return False

    def check_incoming(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Where our own check on this pair is under way, send it again: that this one came says the way is open now.

        The same request, not a new one: an answer to either counts, as the RFC wants. Once each: two agents that did so
        without end would keep each other busy where no answer gets through.
        """
        if "PRIORITY" not in message.attributes:  # RFC 8445 section 7.1.1 wants one; upstream stumbles
            return
        super().check_incoming(message, addr, protocol)
        waiting = CandidatePair.State.IN_PROGRESS
        if any(p.protocol is protocol and p.remote_addr == addr and p.state is waiting for p in self._check_list):
            for number, transaction in protocol.transactions.items():
                if transaction._Transaction__addr == addr and number not in self._repeated:  # type: ignore[attr-defined]
                    self._repeated.add(number)
                    protocol.send_stun(transaction._Transaction__request, addr)  # type: ignore[attr-defined]

    def data_received(self, data: bytes, component: int) -> None:
        """Media directly, in order: as long as anything waits in the queue the rest goes there too."""
        if self._queue.empty():
            if self.media is not None and data and 127 < data[0] < 192 and self.media(data):
                return
        elif self._queue.qsize() >= EARLY:
            return
        if data:  # the handshake looks at the first byte
            super().data_received(data, component)

    async def close(self) -> None:
        self._stop_timer()
        protocols = list(self._protocols)
        await super().close()
        _end_requests(protocols)

    def abort(self) -> None:
        """Everything shut without a goodbye and without waiting: after `close` did not end in time."""
        self._closing = True
        self._stop_timer()
        if self._query_consent_task is not None:
            self._query_consent_task.cancel()
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()
        if not self._check_list_done:
            self._check_list_state.put_nowait(2)  # aioice.ice.ICE_FAILED: lets connect() end
            self._check_list_done = True
        self._nominated.clear()
        _end_requests(self._protocols)
        for protocol in self._protocols:
            if isinstance(protocol.transport, TurnTransport):
                _abort_turn(protocol.transport)
            else:
                protocol.transport.abort()
        self._protocols.clear()
        self._queue.put_nowait(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reflexive(own: Candidate, host: str, port: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("srflx", "udp", own.host),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "srflx"),
        host=host,
        port=port,
        type="srflx",
        related_address=own.host,
        related_port=own.port,
    )


def _from_loopback(candidate: Candidate) -> bool:
    return candidate.type == "host" and _is_loopback(candidate.host)


def _is_loopback(ip: str) -> bool:
    return ipaddress.ip_address(ip).is_loopback


def _end_requests(protocols: Iterable[StunProtocol]) -> None:
    """A request nobody answered would be sent once more by its timer, on a socket that is closed by then."""
    for protocol in protocols:
        inner = getattr(protocol.transport, "_TurnTransport__inner_protocol", None)
        for holder in filter(None, (protocol, inner)):
            for transaction in list(holder.transactions.values()):
                transaction._Transaction__future.cancel()


def _abort_turn(transport: TurnTransport) -> None:
    """Upstream only ever ends an allocation by asking, for up to a minute where the server is gone."""
    inner = transport._TurnTransport__inner_protocol  # type: ignore[attr-defined]
    sends = transport._TurnTransport__send_tasks  # type: ignore[attr-defined]
    for task in (transport._TurnTransport__close_task, inner.refresh_task, *sends):  # type: ignore[attr-defined]
        if task is not None:
            task.cancel()
    inner.transport.abort()
