"""The last yard to one session (a viewer, or a room's HLS window): media faults act here, and timelines are spliced.

A session begins at a keyframe, and so does each change of source within it: another publisher, a stranger, a planted
still. Its own timeline never goes back: a new source is laid on where it arrived, video and audio alike, so that they
stay in step. Of the two forms of sound a session takes one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from probe.model.clock import NS
from probe.sandbox.breaking import Breaking
from probe.sandbox.still import black_keyframe
from probe.sandbox.timeline import Timeline
from probe.sandbox.unit import Unit

if TYPE_CHECKING:
    from probe.sandbox.context import Platform
    from probe.sandbox.live import Live

GOES_ON = ("media_broken", "media_silent", "media_noise")  # with these, pictures are still the publisher's
LATE = 16384  # units held for a session that is shown a stale stream


class Outlet:
    """`deliver` takes the session's units, with its own pts, and says whether it could; `end` is called where a fault ends
    the session."""

    def __init__(
        self,
        platform: Platform,
        live: Live,
        session: str,
        protocol: str,
        deliver: Callable[[Unit], bool],
        end: Callable[[], None] = lambda: None,
        *,
        sound: str = "aac",
        timeline: Timeline | None = None,
        region: str = "",
    ) -> None:
        self._sound = sound
        self._timeline = timeline or Timeline()
        self._faults = platform.faults
        self._live = live
        self._session = session
        self._match = {"of": protocol, "room": live.room}
        self._deliver = deliver
        self._end = end
        self._region = region
        self._isolated = False
        self._shown: int | None = None  # when its first picture came
        self._source = ""
        self._waiting = True
        self._last: dict[str, int] = {}
        self._still: Unit | None = None
        self._breaking: Breaking | None = None
        self._late: list[asyncio.TimerHandle] = []

    def put(self, unit: Unit) -> None:
        """One unit of the room's stream."""
        if unit.kind == "audio" and unit.codec != self._sound:
            return
        if self._out_of_reach():
            return
        age = 0.0 if self._shown is None else max(0, unit.arrived - self._shown) / NS  # sound may be older than the picture
        fault = self._faults.media(self._session, age, **self._match)
        name = fault.name if fault else ""
        if name != "media_foreign":
            self._live.stranger.leave(self._session)
        if name != "media_stale":
            self._forget_late()
        if name not in ("media_black", "media_frozen"):
            self._still = None
        if name != "media_broken":
            self._stop_breaking()
        match name:
            case "":
                self._splice(unit)
            case "media_ends":
                self._end()
            case "media_no_keyframe":
                self._waiting = False
                if unit.kind == "audio" or not unit.keyframe:
                    self._splice(unit)
            case "media_black" | "media_frozen":
                self._stand_still(unit, name)
            case "media_foreign":
                self._live.stranger.join(self._session, self._splice)
            case "media_stale":
                assert fault
                self._splice_late(unit, fault["seconds"])
            case "media_garbage":
                # It passes for a keyframe, so that a viewer hands it to its decoder.
                noise = b"\0\0\0\1\x65\x88" + os.urandom(len(unit.data)) if unit.kind == "video" else os.urandom(60)
                self._splice(replace(unit, data=noise, keyframe=True))
            case "media_broken":
                assert fault
                self._break(unit, fault["how"])
            case "media_silent":
                if unit.kind == "video":
                    self._splice(unit)
            case "media_noise":
                self._splice(replace(unit, data=os.urandom(len(unit.data))) if unit.kind == "audio" else unit)
            case _:  # media_none, media_stalls
                pass

    def wants_keyframe(self) -> None:
        """The session asks for one."""
        if self._isolated:
            return
        fault = self._faults.media(self._session, 0.0, **self._match)
        if fault is None or fault.name in GOES_ON:
            self._live.request_keyframe()
        else:
            self._live.stranger.request_keyframe()

    def close(self) -> None:
        self._live.stranger.leave(self._session)
        self._stop_breaking()
        self._forget_late()

    def _out_of_reach(self) -> bool:
        """Whether nothing comes through to the region it is in. What comes afterwards begins at a keyframe."""
        isolated = bool(self._region) and self._faults.acting("region_isolated", region=self._region) is not None
        if self._isolated and not isolated:
            self._waiting = True
            self._live.request_keyframe()
        self._isolated = isolated
        return isolated

    def _break(self, unit: Unit, how: str) -> None:
        if unit.kind == "audio":
            return self._splice(replace(unit, source=f"{unit.source}/broken"))
        if self._breaking is None:
            self._breaking = Breaking(self._splice, how)
        return self._breaking.put(unit)

    def _stop_breaking(self) -> None:
        if self._breaking is not None:
            self._breaking.close()
            self._breaking = None

    def _splice(self, unit: Unit) -> None:
        if unit.source != self._source:
            began = not self._source
            self._source = unit.source
            self._waiting = self._waiting or not began
            self._live.request_keyframe()
        if unit.kind == "video" and self._waiting:
            if not unit.keyframe:
                return
            self._waiting = False
        if unit.kind == "audio" and unit.codec != self._sound:
            return
        pts = self._timeline.pts(unit)
        if unit.kind == "audio" and pts < 0:  # it belongs before the session's beginning
            return
        pts = max(pts, self._last.get(unit.kind, -1) + 1)
        self._last[unit.kind] = pts
        delivered = self._deliver(replace(unit, pts=pts))
        if unit.kind == "video" and not delivered:
            self._waiting = True
        elif unit.kind == "video" and self._shown is None:
            self._shown = unit.arrived

    def _stand_still(self, unit: Unit, name: str) -> None:
        if unit.kind == "audio":
            return self._splice(replace(unit, source=f"{unit.source}/{name}"))
        if self._still is None:
            if not unit.keyframe:
                return self._live.request_keyframe()
            try:
                self._still = unit if name == "media_frozen" else replace(unit, data=black_keyframe(unit.data))
            except ValueError:
                return None
        return self._splice(replace(unit, source=f"{unit.source}/{name}", data=self._still.data, keyframe=True))

    def _splice_late(self, unit: Unit, seconds: float) -> None:
        if len(self._late) >= LATE:
            del self._late[: LATE // 2]  # those have long been called
        late = replace(unit, source=f"{unit.source}/late", arrived=unit.arrived + int(seconds * NS))
        self._late.append(asyncio.get_running_loop().call_later(seconds, self._splice, late))

    def _forget_late(self) -> None:
        for handle in self._late:
            handle.cancel()
        self._late.clear()
