"""What stands in the middle of every relay: open or cut, what the network between does, and a count of what went through.

A cut behaves as a link that is down: datagrams are lost, those under way with it included; streams wait, what was under way
with them, and new connections hang. Impairments are a `Lane` for each way (pure: it says when, if ever) and one `Line` of
everything that waits for its time. Without a network nothing waits, and nothing is paid for.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

from probe.link.flow import Flow, handshake
from probe.link.lane import Lane
from probe.link.line import Line
from probe.link.traffic import Traffic, Way
from probe.model.clock import NS, Clock
from probe.plan import Network

HELD_PACKETS = 16_384  # of one path, both ways: beyond it, and beyond HELD_BYTES, the queue is full
HELD_BYTES = 32 << 20


class Gate:
    """Open at first. `opened_at` and `shut_at` are the monotonic ns of the last change, None before it."""

    def __init__(self, clock: Clock, network: Network | None = None, seed: int = 0) -> None:
        self.clock = clock
        self.line = Line(clock)
        self._passable = asyncio.Event()
        self._passable.set()
        self._ended = asyncio.Event()
        self.open = True
        self.shut_at: int | None = None
        self.opened_at: int | None = None
        self.traffic = {Way.UP: Traffic(), Way.DOWN: Traffic()}
        self._seed = seed
        self._lanes: dict[Way, Lane] | None = None
        self.weathered = False  # there is, or was, a network between
        self.impair(network)
        self._cuts = 0
        self._held = self._held_bytes = 0
        self._count = 0
        self._newest = {Way.UP: 0, Way.DOWN: 0}

    @property
    def impairs(self) -> bool:
        """Whether there is a network between, cuts aside."""
        return self._lanes is not None

    def impair(self, network: Network | None) -> None:
        """This network is between from here on, None: none. What is under way comes when the one before let it."""
        self.weathered = self.weathered or network is not None
        self._lanes = {way: Lane(network, way, self._seed, self.traffic[way]) for way in Way} if network is not None else None

    def shut(self) -> int:
        """Nothing passes from here on; returns the instant."""
        self.open = False
        self._cuts += 1
        self._passable.clear()
        self.shut_at = self.clock.now()
        return self.shut_at

    def reopen(self) -> int:
        """Everything passes again; returns the instant."""
        self.opened_at = self.clock.now()
        self.open = True
        self._passable.set()
        return self.opened_at

    def end(self) -> None:
        """The path is gone: whoever waits for it is told."""
        self.open = False
        self._ended.set()
        self.line.close()
        self._passable.set()

    @property
    def closed(self) -> bool:
        return self._ended.is_set()

    async def passable(self) -> None:
        """Wait until the gate is open. Raises ConnectionAbortedError when the path was closed instead."""
        while not self.open:
            if self.closed:
                raise _gone()
            await self._passable.wait()

    async def handshake(self) -> None:
        """Wait as long as a connection takes to be made over this network. Raises as `passable`."""
        if self._lanes is None:
            return
        now = self.clock.now()
        try:
            async with asyncio.timeout((handshake(self._lanes[Way.UP], self._lanes[Way.DOWN], now) - now) / NS):
                await self._ended.wait()
        except TimeoutError:
            return
        raise _gone()

    def flow(self, way: Way) -> Flow | None:
        """What this network does to one way of a new stream; None: nothing."""
        if self._lanes is None:
            return None
        return Flow(self._lanes[way], self._lanes[Way.DOWN if way is Way.UP else Way.UP])

    def datagram(self, way: Way, data: bytes, send: Callable[[bytes, Any], int], to: Any) -> None:
        """The one place every packet goes through: pass it on, now or at its time, or drop and count it. Never waits, never
        raises OSError."""
        if self._lanes is None or not self.open:
            self._pass(way, data, send, to)
            return
        now = self.clock.now()
        for at in self._lanes[way].datagram(len(data), now):
            self._count += 1
            if at <= now and not self._held:  # else it would overtake what is due and waits for the timer
                self._pass(way, data, send, to)
            elif self._held >= HELD_PACKETS or self._held_bytes + len(data) > HELD_BYTES:
                self.traffic[way].overflowed += 1
            else:
                self._hold(way, data, send, to, at, self._count)

    def _hold(self, way: Way, data: bytes, send: Callable[[bytes, Any], int], to: Any, at: int, number: int) -> None:
        cuts = self._cuts
        self._held += 1
        self._held_bytes += len(data)

        def release() -> None:
            self._held -= 1
            self._held_bytes -= len(data)
            if number < self._newest[way]:
                self.traffic[way].reordered += 1
            self._newest[way] = max(number, self._newest[way])
            self._pass(way, data, send if cuts == self._cuts else _lost, to)

        self.line.at(at, release)

    def _pass(self, way: Way, data: bytes, send: Callable[[bytes, Any], int], to: Any) -> None:
        traffic = self.traffic[way]
        if self.open:
            try:
                send(data, to)
            except OSError:  # a full socket or no route: lost, as on any link
                pass
            else:
                traffic.packets += 1
                traffic.bytes += len(data)
                return
        traffic.dropped += 1
        traffic.dropped_bytes += len(data)


def _lost(data: bytes, to: Any) -> int:
    raise OSError(errno.ENETDOWN, "the link went down under it")


def _gone() -> ConnectionAbortedError:
    return ConnectionAbortedError(errno.ECONNABORTED, "the path was closed")
