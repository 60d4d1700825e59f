"""What is on air in one room: at most one publisher, viewers, and the HLS window; encoded units pass, nothing is decoded.

A publisher that goes leaves its viewers waiting for GRACE seconds: one that returns in time goes on in their sessions, as
it would behind a real platform's front door. A new publisher replaces the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from probe.model.clock import NS

if TYPE_CHECKING:
    from probe.sandbox.context import Platform

GRACE = 10.0  # seconds
KEYFRAME_EVERY = NS // 4  # a publisher is asked for keyframes at most this often
RATES = {"video": 90_000, "audio": 48_000}


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit (H.264, Annex B) or Opus packet. `pts` in 1/90000 or 1/48000 s; `arrived` monotonic ns.
    `source` names the stream it is of: pts of two sources have nothing to do with each other."""

    source: str
    kind: str
    data: bytes
    pts: int
    keyframe: bool
    arrived: int


class Session(Protocol):
    """A publisher's or viewer's stay, as the server holds it. `close` may be called twice."""

    id: str
    role: str
    protocol: str
    state: str

    async def close(self) -> None: ...


class Publisher(Session, Protocol):
    def request_keyframe(self) -> None: ...


class Viewer(Session, Protocol):
    def put(self, unit: Unit) -> None: ...


class Live:
    """One room's stream."""

    def __init__(self, room: str, platform: Platform) -> None:
        self.room = room
        self._platform = platform
        self._publisher: Publisher | None = None
        self._viewers: dict[str, Viewer] = {}
        self._watchers: list[Callable[[Unit], None]] = []
        self._asked = 0
        self._grace: asyncio.TimerHandle | None = None

    @property
    def on_air(self) -> bool:
        return self._publisher is not None

    @property
    def segments(self) -> int:
        return 0

    def sessions(self) -> list[Session]:
        publisher: list[Session] = [self._publisher] if self._publisher else []
        return publisher + list(self._viewers.values())

    async def end(self) -> None:
        for session in self.sessions():
            await session.close()
