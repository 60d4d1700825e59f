"""One TCP connection through us, byte for byte.

At most one chunk is held each way; where a network impairs, what `Flow` says is under way, a receiver's window at most.

The server is connected first, within `dial`, so that a refusal or a slow handshake is seen by the caller as what it is;
then a listener on loopback takes exactly one connection and is closed. Readiness callbacks on plain sockets instead
of transports: a transport would go on flushing its buffer after a cut, and its buffer has no bound.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable

from probe.link.flow import RECEIVER_WINDOW, Flow
from probe.link.gate import Gate
from probe.link.line import SLACK
from probe.link.traffic import Way

CHUNK = 64 * 1024
NARROW = 64 * 1024  # kernel buffers before a network that impairs: what they hide is a queue that no real path has
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
    """One way of a connection. `pending` was read from `source` and not yet taken by `sink`: (when it may go, bytes)."""

    __slots__ = ("done", "end_at", "ended", "flow", "held", "pending", "reset", "sink", "source", "waking_at", "way")

    def __init__(self, source: socket.socket, sink: socket.socket, way: Way, flow: Flow | None) -> None:
        self.source, self.sink, self.way, self.flow = source, sink, way, flow
        self.pending: deque[tuple[int, memoryview]] = deque()
        self.held = 0  # bytes of it
        self.ended = False  # source has sent its FIN
        self.reset = False  # or RST instead
        self.end_at = 0  # when that would have come here
        self.done = False  # and sink was told
        self.waking_at: int | None = None

    def room(self, now: int) -> int:
        """Bytes that may be read."""
        if self.ended:
            return 0
        if self.flow is None:
            return 0 if self.pending else CHUNK
        return min(CHUNK, self.flow.room(now + SLACK), RECEIVER_WINDOW - self.held)

    def due(self, now: int) -> bool:
        """Whether something for the sink has come to its time."""
        at = self.pending[0][0] if self.pending else self.end_at
        return (bool(self.pending) or (self.ended and not self.done)) and at <= now + SLACK

    def next_at(self) -> int | None:
        """When there is something to do here that no socket tells of: bytes or the end become due, the window opens."""
        times = []
        if self.pending:
            times.append(self.pending[0][0])
        elif self.ended and not self.done:
            times.append(self.end_at)
        if self.flow is not None and not self.ended and (opens := self.flow.room_at()) is not None:
            times.append(opens)
        return min(times, default=None)


class Connection:
    """Two connected sockets joined. Owns both; `on_closed` is called once, when both are closed."""

    def __init__(self, near: socket.socket, far: socket.socket, gate: Gate, on_closed: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = gate
        self._on_closed = on_closed
        self._halves = (_Half(near, far, Way.UP, gate.flow(Way.UP)), _Half(far, near, Way.DOWN, gate.flow(Way.DOWN)))
        self._watched: set[tuple[bool, int]] = set()
        self._closed = False
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.update()

    def update(self) -> None:
        """Watch exactly what can make progress now; nothing while the gate is shut."""
        going = self._gate.open and not self._closed
        now = self._gate.clock.now()
        for half in self._halves:
            self._watch(False, half.source, going and half.room(now) > 0, half)
            self._watch(True, half.sink, going and half.due(now), half)
            if going:
                self._wake(half, now)

    def gate_moved(self) -> None:
        """The gate was shut or opened: what became due meanwhile goes."""
        self.update()
        for half in self._halves:
            self._writable(half)

    def impair(self) -> None:
        """The gate has another network, or none any more. What the kernel's buffers have by now goes as it is."""
        for half in self._halves:
            half.flow = self._gate.flow(half.way)
            if half.flow is not None:
                for sock in (half.source, half.sink):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        self.gate_moved()

    def close(self, reset: bool = False) -> None:
        """Close both sides; with RST when `reset`."""
        if self._closed:
            return
        self._closed = True
        self.update()
        for half in self._halves:
            half.pending.clear()
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

    def _wake(self, half: _Half, now: int) -> None:
        """Be called when the next thing is due. A call too many does nothing, and one that is coming is not asked for again."""
        at = half.next_at()
        if at is None or at <= now + SLACK or (half.waking_at is not None and now <= half.waking_at <= at):
            return
        half.waking_at = at

        def woken() -> None:
            half.waking_at = None
            self._writable(half)

        self._gate.line.at(at, woken)

    def _readable(self, half: _Half) -> None:
        if not self._gate.open or self._closed:
            return
        now = self._gate.clock.now()
        room = half.room(now)
        if room <= 0:
            self.update()
            return
        try:
            data = half.source.recv(room)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            if half.flow is None:
                self.close(reset=True)
                return
            half.reset, data = True, b""  # what was sent before it is still under way
        if not data:
            half.ended = True
            half.end_at = half.flow.end(now) if half.flow is not None else 0
        elif half.flow is None:
            half.pending.append((0, memoryview(data)))
        else:
            view = memoryview(data)
            for at, size in half.flow.send(len(data), now):
                half.pending.append((at, view[:size]))
                view = view[size:]
        half.held += len(data)
        self._writable(half)

    def _writable(self, half: _Half) -> None:
        if not self._gate.open or self._closed:
            return
        due = self._gate.clock.now() + SLACK
        try:
            while half.pending and half.pending[0][0] <= due:
                at, data = half.pending.popleft()
                if len(data) > (sent := self._send(half, data)):
                    half.pending.appendleft((at, data[sent:]))
                    break
            if half.ended and not half.pending and not half.done and half.end_at <= due:
                if half.reset:
                    self.close(reset=True)
                    return
                half.sink.shutdown(socket.SHUT_WR)
                half.done = True
        except OSError:
            self.close(reset=True)
            return
        if all(h.done for h in self._halves):
            self.close()
        else:
            self.update()

    def _send(self, half: _Half, data: memoryview) -> int:
        """How much of it the sink took. Raises OSError when it takes no more, ever."""
        try:
            sent = half.sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        half.held -= sent
        self._gate.traffic[half.way].stream_bytes += sent
        return sent


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
            if self._gate.impairs:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
            await self._gate.passable()
            await self._gate.handshake()
            await self._gate.passable()
            await asyncio.get_running_loop().sock_connect(far, (ip, port))
            await self._gate.passable()
            offer = _Offer(far, self._accepted, self._withdrawn, narrow=self._gate.impairs)
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
            connection.gate_moved()

    def impair(self) -> None:
        """The gate has another network."""
        for connection in tuple(self._connections):
            connection.impair()

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
        *,
        narrow: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._far, self._accepted, self._withdrawn = far, accepted, withdrawn
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            if narrow:
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
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
