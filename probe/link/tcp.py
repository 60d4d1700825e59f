"""One TCP connection through us, byte for byte, with at most one chunk held each way.

The server is connected first, within `dial`, so that a refusal or a slow handshake is seen by the caller as what it is;
then a listener on loopback takes exactly one connection and is closed. Readiness callbacks on plain sockets instead
of transports: a transport would go on flushing its buffer after a cut, and its buffer has no bound.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from probe.link.gate import Gate, Way

CHUNK = 64 * 1024
UNCLAIMED_SECONDS = 10.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


def _close(sock: socket.socket, reset: bool = False) -> None:
    if reset:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
    sock.close()


class _Half:
    """One way of a connection. `pending` was read from `source` and not yet taken by `sink`."""

    __slots__ = ("done", "ended", "pending", "sink", "source", "way")

    def __init__(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        self.source, self.sink, self.way = source, sink, way
        self.pending = memoryview(b"")
        self.ended = False  # source has sent its FIN
        self.done = False  # and sink was told


class Connection:
    """Two connected sockets joined. Owns both; `on_closed` is called once, when both are closed."""

    def __init__(self, near: socket.socket, far: socket.socket, gate: Gate, on_closed: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = gate
        self._on_closed = on_closed
        self._halves = (_Half(near, far, Way.UP), _Half(far, near, Way.DOWN))
        self._watched: set[tuple[bool, int]] = set()
        self._closed = False
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.update()

    def update(self) -> None:
        """Watch exactly what can make progress now; nothing while the gate is shut."""
        for half in self._halves:
            going = self._gate.open and not self._closed
            self._watch(False, half.source, going and not half.pending and not half.ended, half)
            self._watch(True, half.sink, going and bool(half.pending), half)

    def close(self, reset: bool = False) -> None:
        """Close both sides; with RST when `reset`."""
        if self._closed:
            return
        self._closed = True
        self.update()
        for half in self._halves:
            half.pending = memoryview(b"")
            _close(half.source, reset)
        self._on_closed(self)

    def _watch(self, write: bool, sock: socket.socket, wanted: bool, half: _Half) -> None:
        key = (write, sock.fileno())
        if wanted == (key in self._watched):
            return
        if wanted:
            self._watched.add(key)
            if write:
                self._loop.add_writer(sock, self._writable, half)
            else:
                self._loop.add_reader(sock, self._readable, half)
        else:
            self._watched.discard(key)
            (self._loop.remove_writer if write else self._loop.remove_reader)(sock)

    def _readable(self, half: _Half) -> None:
        if not self._gate.open or self._closed or half.pending:
            return
        try:
            data = half.source.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(reset=True)
            return
        half.pending = memoryview(data)
        half.ended = not data
        self._writable(half)

    def _writable(self, half: _Half) -> None:
        if not self._gate.open or self._closed:
            return
        try:
            if half.pending:
                sent = half.sink.send(half.pending)
                half.pending = half.pending[sent:]
                self._gate.traffic[half.way].stream_bytes += sent
            if half.ended and not half.done:
                half.sink.shutdown(socket.SHUT_WR)
                half.done = True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close(reset=True)
            return
        if all(h.done for h in self._halves):
            self.close()
        else:
            self.update()


class Relay:
    """All TCP connections of one path, at most `limit` at a time."""

    def __init__(self, gate: Gate, limit: int = 64) -> None:
        self._gate = gate
        self._limit = limit
        self._connections: set[Connection] = set()
        self._offers: set[_Offer] = set()
        self._dialling = 0

    def __len__(self) -> int:
        return len(self._connections) + len(self._offers) + self._dialling

    async def dial(self, ip: str, port: int) -> tuple[str, int]:
        """Connect to `ip:port` (a literal address), then give the loopback address at which one connection to it waits.

        Hangs while the gate is shut. Raises what connecting raises (OSError), and OSError when `limit` is reached.
        """
        if len(self) >= self._limit:
            raise OSError(f"more than {self._limit} connections through one path")
        self._dialling += 1
        far = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            far.setblocking(False)
            await self._gate.passable()
            await asyncio.get_running_loop().sock_connect(far, (ip, port))
            await self._gate.passable()
            offer = _Offer(far, self._accepted, self._withdrawn)
        except BaseException:
            far.close()
            raise
        finally:
            self._dialling -= 1
        self._offers.add(offer)
        return offer.address

    def update(self) -> None:
        """The gate was shut or opened."""
        for connection in tuple(self._connections):
            connection.update()

    def close(self, reset: bool = False) -> None:
        for connection in tuple(self._connections):
            connection.close(reset)
        for offer in tuple(self._offers):
            offer.withdraw(reset)

    def _accepted(self, offer: _Offer, near: socket.socket, far: socket.socket) -> None:
        self._offers.discard(offer)
        self._connections.add(Connection(near, far, self._gate, self._connections.discard))

    def _withdrawn(self, offer: _Offer) -> None:
        self._offers.discard(offer)


class _Offer:
    """A connected server waiting for its one client, for `UNCLAIMED_SECONDS`."""

    def __init__(
        self,
        far: socket.socket,
        accepted: Callable[[_Offer, socket.socket, socket.socket], None],
        withdrawn: Callable[[_Offer], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._far, self._accepted, self._withdrawn = far, accepted, withdrawn
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind(("127.0.0.1", 0))
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        host, port = self._listener.getsockname()
        self.address: tuple[str, int] = (host, port)
        self._loop.add_reader(self._listener, self._accept)
        self._expiry = self._loop.call_later(UNCLAIMED_SECONDS, self.withdraw)

    def withdraw(self, reset: bool = False) -> None:
        self._stop()
        _close(self._far, reset)
        self._withdrawn(self)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # out of descriptors: the client is told by the reset of its place in the queue
            self.withdraw(reset=True)
            return
        near.setblocking(False)
        self._stop()
        self._accepted(self, near, self._far)

    def _stop(self) -> None:
        self._expiry.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
