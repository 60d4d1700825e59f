"""Datagrams between one ICE agent of ours and a server, with a socket of ours on each side of every candidate.

Each of our candidates A gets a server-facing socket (the server is told its address), each candidate S of the server an
agent-facing one (our agent is told that). A packet A → agent-facing(S) leaves server-facing(A) towards S, and back
again. Both sides must be told only these addresses: with one direct pair left, ICE would go round us. Addresses nobody
announced are dropped and counted: a relay that learnt them could be filled by anyone.

Non-blocking sockets and readiness callbacks: what a full socket does not take is lost, and nothing is queued here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping

from probe.errors import Failure
from probe.link.gate import Gate
from probe.link.traffic import Way
from probe.model.stage import Phase

Address = tuple[str, int]

LARGEST = 65_535
BATCH = 64  # packets read per wake-up, so that one busy socket cannot hold the loop
BUFFER = 1 << 20


def normal(ip: str, port: int) -> Address:
    """A literal address in its one spelling, zone left off. ValueError for anything else."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if not 0 < port < 65_536:
        raise ValueError(f"not a port: {port}")
    return str(address), port


class _Socket:
    """A bound datagram socket and who is told of its packets."""

    def __init__(self, ip: str, received: Callable[[bytes, Address], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = received
        self._sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            self._sock.bind((ip, 0))
        except OSError:
            self._sock.close()
            raise
        bound = self._sock.getsockname()
        self.address: Address = (bound[0], bound[1])
        self.sendto = self._sock.sendto
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                data, source = self._sock.recvfrom(LARGEST)
            except OSError:
                return
            self._received(data, (source[0].partition("%")[0], source[1]))


class Relay:
    """All datagrams of one path. At most `limit` candidates a side."""

    def __init__(self, gate: Gate, limit: int = 64) -> None:
        self._gate = gate
        self._limit = limit
        self._server_facing: dict[Address, _Socket] = {}  # by our candidate
        self._agent_facing: dict[Address, _Socket] = {}  # by the server's candidate
        self._tunnels: dict[Address, _Tunnel] = {}  # by the server's address

    def tunnel(self, ip: str, port: int) -> Address:
        """For a client that is told one address of one server (SRT), not candidates: what to use in its place.

        Asked again for the same server, the client is a new one, of the next attempt: a new address, and the old is closed."""
        theirs = normal(ip, port)
        self._admit(self._tunnels, theirs)
        if (old := self._tunnels.pop(theirs, None)) is not None:
            old.close()
        self._tunnels[theirs] = _Tunnel(self._gate, theirs)
        return self._tunnels[theirs].address

    def local(self, ip: str, port: int) -> Address:
        """Our host candidate → what the server should be told: a socket on the same interface.

        Again the same for the same candidate. ValueError: not a literal address; OSError: not an address of this machine.
        """
        ours = normal(ip, port)
        self._admit(self._server_facing, ours)
        if ours not in self._server_facing:
            self._server_facing[ours] = self._facing_server(ours)
        return self._server_facing[ours].address

    def remote(self, ip: str, port: int) -> Address:
        """The server's candidate → what our agent should use: a socket on loopback, of the same family."""
        theirs = normal(ip, port)
        self._admit(self._agent_facing, theirs)
        if theirs not in self._agent_facing:
            loopback = "::1" if ":" in theirs[0] else "127.0.0.1"
            self._agent_facing[theirs] = _Socket(loopback, lambda data, source: self._up(data, source, theirs))
        return self._agent_facing[theirs].address

    def rebind(self) -> None:
        """New server-facing sockets; the old ones are closed, and what was on its way to them is lost."""
        for ours, old in tuple(self._server_facing.items()):
            self._server_facing[ours] = self._facing_server(ours)
            old.close()
        for tunnel in self._tunnels.values():
            tunnel.rebind()

    def close(self) -> None:
        for tunnel in self._tunnels.values():
            tunnel.close()
        self._tunnels.clear()
        for side in (self._server_facing, self._agent_facing):
            for sock in side.values():
                sock.close()
            side.clear()

    def _admit(self, side: Mapping[Address, object], candidate: Address) -> None:
        if self._gate.closed:
            raise RuntimeError("the path was closed")
        if candidate not in side and len(side) >= self._limit:
            raise Failure(Phase.ICE, "failed", f"more than {self._limit} candidates")

    def _facing_server(self, ours: Address) -> _Socket:
        return _Socket(ours[0], lambda data, source: self._down(data, source, ours))

    def _up(self, data: bytes, source: Address, theirs: Address) -> None:
        out = self._server_facing.get(source)
        if out is None or (":" in source[0]) != (":" in theirs[0]):
            self._gate.traffic[Way.UP].stray += 1
            return
        self._gate.datagram(Way.UP, data, out.sendto, theirs)

    def _down(self, data: bytes, source: Address, ours: Address) -> None:
        out = self._agent_facing.get(source)
        if out is None:
            self._gate.traffic[Way.DOWN].stray += 1
            return
        self._gate.datagram(Way.DOWN, data, out.sendto, ours)


class _Tunnel:
    """One client of ours and one server. The client is whoever speaks first; anybody else, on either side, is a stranger."""

    def __init__(self, gate: Gate, theirs: Address) -> None:
        self._gate, self._theirs = gate, theirs
        self._six = ":" in theirs[0]
        self._client: Address | None = None
        self._near = _Socket("::1" if self._six else "127.0.0.1", self._up)
        try:
            self._far = self._facing_server()
        except OSError:
            self._near.close()
            raise
        self.address = self._near.address

    def rebind(self) -> None:
        old, self._far = self._far, self._facing_server()
        old.close()

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def _facing_server(self) -> _Socket:
        return _Socket("::" if self._six else "0.0.0.0", self._down)  # noqa: S104 (whichever address leads there)

    def _up(self, data: bytes, source: Address) -> None:
        self._client = self._client or source
        if source != self._client:
            self._gate.traffic[Way.UP].stray += 1
            return
        self._gate.datagram(Way.UP, data, self._far.sendto, self._theirs)

    def _down(self, data: bytes, source: Address) -> None:
        if self._client is None or source != self._theirs:
            self._gate.traffic[Way.DOWN].stray += 1
            return
        self._gate.datagram(Way.DOWN, data, self._near.sendto, self._client)
