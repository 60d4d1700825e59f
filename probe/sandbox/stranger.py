"""Someone else's stream: a programme of another run, on air only while a planted fault shows it to somebody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from probe.media.programme import Programme, ProgrammeIds
from probe.sandbox.sound import Sound
from probe.sandbox.unit import Unit

if TYPE_CHECKING:
    from probe.sandbox.context import Platform

IDS = ProgrammeIds(run=0x5EED5EED, trace=0x0DDBA11_0DDBA11)  # nobody's run


class Stranger:
    """Runs from the first member's joining to the last one's leaving."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._members: dict[str, Callable[[Unit], None]] = {}
        self._programme: Programme | None = None
        self._task: asyncio.Task[None] | None = None
        self._times = 0

    def join(self, session: str, deliver: Callable[[Unit], None]) -> None:
        """Give `session` this stream; no harm in saying it again."""
        if session in self._members:
            return
        self._members[session] = deliver
        if self._task is None:
            self._task = self._platform.spawn(self._run(), "the stranger's stream")
        self.request_keyframe()

    def leave(self, session: str) -> None:
        if self._members.pop(session, None) and not self._members:
            self.close()

    def request_keyframe(self) -> None:
        if self._programme is not None:
            self._programme.request_keyframe()

    def close(self) -> None:
        self._members.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = self._programme = None

    async def _run(self) -> None:
        async with Programme("360p30", clock=self._platform.clock, ids=IDS) as programme:
            self._programme = programme
            self._times += 1
            name = f"stranger-{self._times}"
            sound = Sound(self._deliver, lambda form: True)
            try:
                async for unit in programme.units():
                    audio = unit.kind == "audio"
                    codec = "opus" if audio else "h264"
                    take = sound.put if audio else self._deliver
                    take(Unit(name, unit.kind, unit.data, unit.pts, unit.keyframe, unit.due, codec))
            finally:
                sound.close()

    def _deliver(self, unit: Unit) -> None:
        for deliver in list(self._members.values()):
            deliver(unit)
