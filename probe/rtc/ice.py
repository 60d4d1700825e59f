"""ICE as the probe needs it: loopback where asked, the first check at once, bounded memory, media past the queue.

What is changed in aioice 0.13, each for a reason:

- 127.0.0.1 is never gathered upstream; a platform on this machine is reached by nothing else. Asked for per agent.
- `connect` sleeps 20 ms after the first check before it looks at the answer, always. Here the first check leaves at
  once and `connect` goes on waiting for the result; further checks are paced by a timer, at the 5 ms that RFC 8445
  section 14.2 allows.
- What arrives before the handshake is queued without bound although anybody may send it. Bounded here.
- Every packet wakes a task through a queue. Media goes straight from the socket to its receiver: a third of the work,
  and the arrival time is that of the read.

Not done: trickle, restarts, ICE over TCP.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from aioice.candidate import Candidate
from aioice.ice import Connection

PACE = 0.005
EARLY = 256  # datagrams held while the handshake is on its way

Media = Callable[[bytes], bool]


class Agent(Connection):
    """An aioice connection taken over after it was made: see `adopt`."""

    loopback: bool
    media: Media | None
    _timer: asyncio.TimerHandle | None

    @staticmethod
    def adopt(connection: Connection, *, loopback: bool) -> Agent:
        """Turn a connection that has not begun to gather into an Agent."""
        connection.__class__ = Agent
        assert isinstance(connection, Agent)
        connection.loopback = loopback
        connection.media = None
        connection._timer = None
        return connection

    @property
    def selected(self) -> tuple[Candidate, Candidate] | None:
        """The pair in use, ours first."""
        pair = self._nominated.get(1)
        return None if pair is None else (pair.local_candidate, pair.remote_candidate)

    def send_now(self, data: bytes) -> bool:
        """Hand one datagram to the socket. False when there is no path for it."""
        pair = self._nominated.get(1)
        if pair is None or pair.protocol.transport.is_closing():
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

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
        await super().close()

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
        for protocol in self._protocols:
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
