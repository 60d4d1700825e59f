"""Programmes made ready before anybody is timed.

    ready = await prepared("720p30", 2_000_000)      # before the publisher's intent; `prepare` is the same, blocking
    ready.spliced, ready.rate, ready.built

The first time on a machine an H.264 programme is encoded and proven, which takes half a second at 360p and several at
1080p; later it comes from the disk, and within a process from memory. A programme that nobody prepared does the same
when it starts, and its start is the later for it. What is encoded live (VP8, or a loop that failed its proof) needs no
preparation.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from probe.media.loop import Loop, Stopped, load, rung
from probe.media.loopcache import LoopCache, default_directory
from probe.media.sizes import SIZES

FPS = 30

_KEPT = 8  # loops in memory, 0.1 to 3 MB each
_WAIT = 0.05  # s between looks at `stop` while another thread builds the same loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a programme will be sent as. `rate`: bit/s of its loop, band included; None where it is encoded live, at most at
    the rate asked for. `built`: encoded now, not found."""

    name: str
    codec: str
    bitrate: int
    spliced: bool
    rate: int | None
    built: bool


class Shelf:
    """Loops in memory, over those on disk. Any thread."""

    def __init__(self, cache: LoopCache) -> None:
        self._cache = cache
        self._loops: OrderedDict[tuple[str, int], Loop | None] = OrderedDict()
        self._lock = threading.Lock()
        self._building: dict[tuple[str, int], threading.Lock] = {}

    def take(self, name: str, bitrate: int, stop: Callable[[], bool] = lambda: False) -> tuple[Loop | None, bool]:
        """The loop of this programme at the rung nearest to `bitrate` (None: it has to be encoded live), and whether it was
        built now. Raises Stopped when `stop` says so."""
        width, height = SIZES[name]
        key = name, rung(width, height, bitrate)
        with self._lock:
            if key in self._loops:
                self._loops.move_to_end(key)
                return self._loops[key], False
            building = self._building.setdefault(key, threading.Lock())
        while not building.acquire(timeout=_WAIT):
            if stop():
                raise Stopped
        try:
            with self._lock:
                if key in self._loops:
                    return self._loops[key], False
            loop = load(width, height, FPS, key[1], self._cache, stop)
            with self._lock:
                self._loops[key] = loop
                while len(self._loops) > _KEPT:
                    self._loops.popitem(last=False)
            return loop, loop is None or loop.built
        finally:
            building.release()


shelf = Shelf(LoopCache(default_directory()))


def prepare(name: str, bitrate: int, codec: str = "h264", stop: Callable[[], bool] = lambda: False) -> Prepared:
    """Have the programme ready; blocks while it is encoded: call it on a thread. `stop` is asked before each picture of that,
    and Stopped raised where it answers True. ValueError for an unknown name."""
    if name not in SIZES:
        raise ValueError(f"unknown programme {name!r}: one of {', '.join(SIZES)}")
    loop, built = shelf.take(name, bitrate, stop) if codec == "h264" else (None, False)
    return Prepared(
        name=name, codec=codec, bitrate=bitrate, spliced=loop is not None, rate=loop.rate if loop else None, built=built
    )


async def prepared(name: str, bitrate: int, codec: str = "h264") -> Prepared:
    """`prepare` on a thread; cancelled, it stops within a picture's encoding."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(prepare, name, bitrate, codec, stop.is_set)
    finally:
        stop.set()
