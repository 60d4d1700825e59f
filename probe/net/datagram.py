"""One UDP socket connected to one far address, for protocols that bring their own reliability.

Connected, so that the kernel takes datagrams of that address only and reports its closed port (ICMP) to us. Readiness
callbacks and no transport: what the socket does not take is lost and counted, nothing is queued here, and each datagram is
stamped as it is read. At most 64 are read per wake-up, so that a flood cannot hold the loop.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from probe.model.clock import Clock

_LARGEST = 2048
_BATCH = 64
_BUFFER = 1 << 20
_TOLD = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH})


class Endpoint:
    """`received` is given batches of (datagram, monotonic ns), `broken` what the network says of the way there: refused or
    unreachable. What else a send comes to (a filter's EPERM) is a datagram lost. Both are called on the loop, neither after
    `close`. OSError where there is no way to the address."""

    def __init__(
        self,
        ip: str,
        port: int,
        clock: Clock,
        received: Callable[[list[tuple[bytes, int]]], None],
        broken: Callable[[OSError], None],
    ) -> None:
        self.lost = 0  # datagrams the socket did not take
        self._clock, self._received, self._broken = clock, received, broken
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            self._sock.connect(_sockaddr(ip, port))
        except OSError:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock, self._readable)

    def send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            if self._sock.fileno() < 0:
                return
            try:
                self._sock.send(datagram)
            except (BlockingIOError, InterruptedError):
                self.lost += 1
            except OSError as error:  # what an earlier datagram came to is told here as well
                self.lost += 1
                self._tell(error)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        batch: list[tuple[bytes, int]] = []
        failed: OSError | None = None
        for _ in range(_BATCH):
            try:
                datagram = self._sock.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                failed = error
                break
            batch.append((datagram, self._clock.now()))
        if batch:
            self._received(batch)
        if failed is not None:
            self._tell(failed)

    def _tell(self, error: OSError) -> None:
        if error.errno in _TOLD:
            self._broken(error)


def _sockaddr(ip: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in ip:
        return ip, port
    bare, _, scope = ip.partition("%")
    return bare, port, 0, socket.if_nametoindex(scope) if scope else 0
