"""What is on air in one room: at most one publisher, viewers, the HLS windows, and what has to be transcoded for them.

A publisher that goes leaves its viewers waiting for GRACE seconds: one that returns in time goes on in their sessions, as
it would behind a real platform's front door. A new publisher replaces the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from probe.model.clock import NS
from probe.sandbox.rendition import Small
from probe.sandbox.segments import Window
from probe.sandbox.sound import Sound
from probe.sandbox.stranger import Stranger
from probe.sandbox.timeline import Timeline
from probe.sandbox.unit import Unit
from probe.wire.fmp4 import AudioTrack

if TYPE_CHECKING:
    from probe.sandbox.context import Platform

GRACE = 10.0  # seconds
WAYS = ("hls", "ll-hls")
SMALL_IDLE = 20 * NS  # a small rendition that nobody has asked for this long is made no more
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
    """`sound`: what viewers who take AAC get."""

    sound: AudioTrack | None

    def request_keyframe(self) -> None: ...


class Viewer(Session, Protocol):
    sound: str  # opus | aac
    region: str  # empty: nowhere

    def put(self, unit: Unit) -> None: ...


class Live:
    """One room's stream."""

    def __init__(self, room: str, platform: Platform) -> None:
        self.room = room
        self.stranger = Stranger(platform)
        self.windows: dict[str, Window] = {}  # way → the source's
        self._platform = platform
        self._timeline = Timeline()
        self._sound = Sound(self._spread, self._wants)
        self._small: Small | None = None
        self._publisher: Publisher | None = None
        self._viewers: dict[str, Viewer] = {}
        self._asked = 0
        self.put_out = False  # those who were here did not leave of their own
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def on_air(self) -> bool:
        return self._publisher is not None and self._publisher.state == "up"

    @property
    def audio(self) -> AudioTrack | None:
        """The sound that AAC viewers get, if there is any."""
        return self._publisher.sound if self._publisher is not None else None

    @property
    def segments(self) -> int:
        """How many are held for HLS, of both ways."""
        return sum(window.held for window in self.windows.values())

    @property
    def timeline(self) -> Timeline:
        """That of the room's windows."""
        return self._timeline

    def small(self, way: str) -> Window | None:
        """The small rendition's window, on its way from now on; None where nothing is on air or the source is small itself."""
        source = self.windows.get(way)
        if source is None or not source.ready:
            return None
        if self._small is None:
            self._small = Small(self._platform, self)
            self._start_timer("small", 5.0, self._look_after_small)
        return self._small.window(way, source)

    def small_running(self, way: str) -> Window | None:
        """The same, where it is there already."""
        return self._small.windows.get(way) if self._small is not None else None

    def sessions(self) -> list[Session]:
        publisher: list[Session] = [self._publisher] if self._publisher else []
        return publisher + list(self._viewers.values())

    def viewers(self) -> list[Viewer]:
        return list(self._viewers.values())

    def find(self, session_id: str) -> Session | None:
        return next((s for s in self.sessions() if s.id == session_id), None)

    def put(self, unit: Unit) -> None:
        """One unit of the publisher; what comes late from one already replaced is dropped."""
        if self._publisher is None or unit.source.partition("/")[0] != self._publisher.id:
            return
        if unit.kind == "audio":
            self._sound.put(unit)
        else:
            self._spread(unit)

    def _spread(self, unit: Unit) -> None:
        for viewer in list(self._viewers.values()):
            viewer.put(unit)
        for window in self.windows.values():
            window.put(unit)
        if self._small is not None:
            self._small.put(unit)

    def _wants(self, form: str) -> bool:
        return any(viewer.sound == form for viewer in self._viewers.values()) or (form == "aac" and bool(self.windows))

    async def publish(self, publisher: Publisher) -> None:
        """Put a publisher on air, in the old one's place."""
        old, self._publisher = self._publisher, publisher
        self._stop_timer("grace")
        store = self._platform.store
        store.run("update rooms set publishes = publishes + 1 where id = ?", self.room)
        if not self.windows:
            (row,) = store.rows("select created, publishes from rooms where id = ?", self.room)
            clock = self._platform.clock
            self._timeline = Timeline(clock.now())
            first = 2 * max(0, clock.wall().unix_ns // NS - row["created"])
            for way in WAYS:
                self.windows[way] = Window(self._platform, self, way, self._timeline, first, row["publishes"])
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
        self.put_out = True
        for name in list(self._timers):
            self._stop_timer(name)
        async with asyncio.TaskGroup() as endings:
            for session in self.sessions():
                endings.create_task(session.close())
        self._stop_timer("grace")
        self._close_windows()
        self.stranger.close()

    def _close_windows(self) -> None:
        self._close_small()
        self._sound.close()
        for window in self.windows.values():
            window.close()
        self.windows.clear()

    def _close_small(self) -> None:
        self._stop_timer("small")
        if self._small is not None:
            self._small.close()
            self._small = None

    def _look_after_small(self) -> None:
        if self._small is None:
            return
        if self._platform.clock.now() - self._small.asked > SMALL_IDLE:
            self._close_small()
        else:
            self._start_timer("small", 5.0, self._look_after_small)

    def _forsake(self) -> None:
        """The publisher did not return."""
        self._close_windows()
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
