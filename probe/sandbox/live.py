"""What is on air in one room: at most one publisher, viewers, and the HLS window; encoded units pass, nothing is decoded.

A publisher that goes leaves its viewers waiting for GRACE seconds: one that returns in time goes on in their sessions, as
it would behind a real platform's front door. A new publisher replaces the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from probe.model.clock import NS
from probe.sandbox.segments import Window
from probe.sandbox.stranger import Stranger
from probe.sandbox.unit import Unit

if TYPE_CHECKING:
    from probe.sandbox.context import Platform

GRACE = 10.0  # seconds
KEYFRAME_EVERY = NS * 52 // 100  # a publisher is asked at most this often; rtc/ would drop what comes faster than 2 a second


class Session(Protocol):
    """A publisher's or viewer's stay, as the server holds it. `close` may be called twice."""

    id: str
    role: str
    protocol: str

    @property
    def state(self) -> str: ...
    async def close(self) -> None: ...


class Publisher(Session, Protocol):
    audio: bool

    def request_keyframe(self) -> None: ...


class Viewer(Session, Protocol):
    def put(self, unit: Unit) -> None: ...


class Live:
    """One room's stream."""

    def __init__(self, room: str, platform: Platform) -> None:
        self.room = room
        self.stranger = Stranger(platform)
        self.window: Window | None = None
        self._platform = platform
        self._publisher: Publisher | None = None
        self._viewers: dict[str, Viewer] = {}
        self._asked = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def on_air(self) -> bool:
        return self._publisher is not None and self._publisher.state == "up"

    @property
    def audio(self) -> bool:
        """Does the publisher send sound?"""
        return self._publisher is not None and self._publisher.audio

    @property
    def segments(self) -> int:
        """How many are held for HLS."""
        return self.window.held if self.window is not None else 0

    def sessions(self) -> list[Session]:
        publisher: list[Session] = [self._publisher] if self._publisher else []
        return publisher + list(self._viewers.values())

    def find(self, session_id: str) -> Session | None:
        return next((s for s in self.sessions() if s.id == session_id), None)

    def put(self, unit: Unit) -> None:
        """One unit of the publisher; what comes late from one already replaced is dropped."""
        if self._publisher is None or unit.source != self._publisher.id:
            return
        for viewer in list(self._viewers.values()):
            viewer.put(unit)
        if self.window is not None:
            self.window.put(unit)

    async def publish(self, publisher: Publisher) -> None:
        """Put a publisher on air, in the old one's place."""
        old, self._publisher = self._publisher, publisher
        self._stop_timer("grace")
        store = self._platform.store
        store.run("update rooms set publishes = publishes + 1 where id = ?", self.room)
        if self.window is None:
            (row,) = store.rows("select created, publishes from rooms where id = ?", self.room)
            self.window = Window(self._platform, self, row["created"], row["publishes"])
        if old is not None:
            await old.close()

    def join(self, viewer: Viewer) -> None:
        self._viewers[viewer.id] = viewer

    def leave(self, session: Session) -> None:
        """A session has ended, however it did."""
        self._viewers.pop(session.id, None)
        if session is self._publisher:
            self._publisher = None
            self._start_timer("grace", GRACE, self._forsake)

    def request_keyframe(self) -> None:
        """Ask the publisher, now or as soon as it may be asked again."""
        wait = (self._asked + KEYFRAME_EVERY - self._platform.clock.now()) / NS
        if wait > 0:
            self._start_timer("keyframe", wait, self.request_keyframe)
        elif self._publisher is not None:
            self._asked = self._platform.clock.now()
            self._publisher.request_keyframe()

    async def end(self) -> None:
        """End everybody's session and forget the segments."""
        for name in list(self._timers):
            self._stop_timer(name)
        async with asyncio.TaskGroup() as endings:
            for session in self.sessions():
                endings.create_task(session.close())
        self._stop_timer("grace")
        self._close_window()
        self.stranger.close()

    def _close_window(self) -> None:
        if self.window is not None:
            self.window.close()
            self.window = None

    def _forsake(self) -> None:
        """The publisher did not return."""
        self._close_window()
        for viewer in list(self._viewers.values()):
            self._platform.spawn(viewer.close(), "closing a viewer")

    def _start_timer(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._fire, name, act)

    def _fire(self, name: str, act: Callable[[], None]) -> None:
        del self._timers[name]
        act()

    def _stop_timer(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()
