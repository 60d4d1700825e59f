"""What stands in the middle of every relay: open or cut, and a count of what went through.

A cut behaves as a link that is down: datagrams are lost, streams wait in the kernel's buffers, new connections hang.
Impairments finer than that (delay, loss, rate) belong in `datagram`, through which every packet goes; none is here yet.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from probe.model.clock import Clock


class Way(StrEnum):
    UP = "up"  # from us to the platform
    DOWN = "down"


@dataclass(slots=True)
class Traffic:
    """One way's totals. `dropped` are datagrams lost to a cut or a full socket; `stray` came from, or were for, nobody known."""

    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    stray: int = 0
    stream_bytes: int = 0


class Gate:
    """Open at first. `opened_at` and `shut_at` are the monotonic ns of the last change, None before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passable = asyncio.Event()
        self._passable.set()
        self.open = True
        self.closed = False
        self.shut_at: int | None = None
        self.opened_at: int | None = None
        self.traffic = {Way.UP: Traffic(), Way.DOWN: Traffic()}

    def shut(self) -> int:
        """Nothing passes from here on; returns the instant."""
        self.open = False
        self._passable.clear()
        self.shut_at = self._clock.now()
        return self.shut_at

    def reopen(self) -> int:
        """Everything passes again; returns the instant."""
        self.opened_at = self._clock.now()
        self.open = True
        self._passable.set()
        return self.opened_at

    def end(self) -> None:
        """The path is gone: whoever waits for it is told."""
        self.open = False
        self.closed = True
        self._passable.set()

    async def passable(self) -> None:
        """Wait until the gate is open. Raises ConnectionAbortedError when the path was closed instead."""
        while not self.open:
            if self.closed:
                raise ConnectionAbortedError(errno.ECONNABORTED, "the path was closed")
            await self._passable.wait()

    def datagram(self, way: Way, data: bytes, send: Callable[[bytes, Any], int], to: Any) -> None:
        """The one place every packet goes through: pass it on, or drop and count it. Never waits, never raises OSError."""
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
