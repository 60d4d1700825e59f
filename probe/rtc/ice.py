"""ICE as the probe needs it: loopback where asked, the first check at once, bounded memory, media past the queue.

What is changed in aioice 0.13, each for a reason:

- 127.0.0.1 is never gathered upstream; a platform on this machine is reached by nothing else. Asked for per agent.
- `connect` sleeps 20 ms after the first check before it looks at the answer, always. Here the first check leaves at
  once and `connect` goes on waiting for the result; further checks are paced by a timer, at the 5 ms that RFC 8445
  section 14.2 allows.
- A check that arrives while ours on the same pair waits for its answer triggers nothing upstream. Whoever answers an
  offer checks before the offerer knows its addresses: behind a relay, as behind a NAT, that first check is lost, and
  the pair stood still until it was repeated after 500 ms. RFC 8445 section 7.3.1.4 wants a check at once.
- What arrives before the handshake is queued without bound although anybody may send it. Bounded here.
- Every packet wakes a task through a queue. Media goes straight from the socket to its receiver: a third of the work,
  and the arrival time is that of the read.

Not done: trickle, restarts, ICE over TCP.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aioice.candidate import Candidate
from aioice.ice import CandidatePair, Connection, StunProtocol, relayed_candidate
from aioice.stun import Message, TransactionError
from aioice.turn import TurnTransport

__all__ = ["Agent", "TransactionError", "TurnServer"]

PACE = 0.005
EARLY = 256  # datagrams held while the handshake is on its way

Media = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A TURN server (RFC 8656) at an address that was judged already. `transport`: udp or tcp."""

    ip: str
    port: int
    transport: str
    tls: bool
    username: str | None
    credential: str | None = field(repr=False)


class Agent(Connection):
    """An aioice connection taken over after it was made: see `adopt`."""

    loopback: bool
    media: Media | None
    _timer: asyncio.TimerHandle | None
    _repeated: set[bytes]

    @staticmethod
    def adopt(connection: Connection, *, loopback: bool) -> Agent:
        """Turn a connection that has not begun to gather into an Agent."""
        connection.__class__ = Agent
        assert isinstance(connection, Agent)
        connection.loopback = loopback
        connection.media = None
        connection._timer = None
        connection._repeated = set()
        return connection

    @property
    def selected(self) -> tuple[Candidate, Candidate] | None:
        """The pair in use, ours first."""
        pair = self._nominated.get(1)
        return None if pair is None else (pair.local_candidate, pair.remote_candidate)

    def send_now(self, data: bytes) -> bool:
        """Hand one datagram to the socket. False when there is no path for it."""
        pair = self._nominated.get(1)
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    async def relay_through(self, server: TurnServer) -> None:
        """Add a relayed candidate to an agent that has gathered already, checking perhaps.

        The far side need not be told: it learns the address from our checks (RFC 8445 section 7.3.1.3). Raises OSError,
        TransactionError or ConnectionError where the server gives no allocation."""
        candidate, protocol = await relayed_candidate(
            component=1,
            hide_related_address=False,
            protocol_factory=lambda: StunProtocol(self),
            turn_server=(server.ip, server.port),
            turn_username=server.username,
            turn_password=server.credential,
            turn_ssl=server.tls,
            turn_transport=server.transport,
        )
        self._protocols.append(protocol)
        self._local_candidates.append(candidate)
        for remote in self._remote_candidates:
            self._pair_remote_candidate(remote)
        self.sort_check_list()
        if self._early_checks_done and not self._check_list_done:
            self._stop_timer()
            self._check_periodic()

    async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:
        """Loopback first: of equal priorities the earlier pair is checked first."""
        if self.loopback:
            addresses = ["127.0.0.1", *addresses]
        return await super().get_component_candidates(component, addresses, timeout)

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """Leave out what cannot work: no packet from 127.0.0.1 leaves this machine."""
        super()._pair_remote_candidate(remote_candidate)
        if not ipaddress.ip_address(remote_candidate._network_host).is_loopback:
            self._check_list = [p for p in self._check_list if not (p.remote_candidate is remote_candidate and _is_loopback(p))]

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


def _is_loopback(pair: object) -> bool:
    host: str = pair.local_candidate.host  # type: ignore[attr-defined]
    return ipaddress.ip_address(host).is_loopback


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
