"""Sound of an HLS rendition of its own (EXT-X-MEDIA, TYPE=AUDIO), followed and fetched beside the picture's.

It ends nothing: where it cannot be had that is noted, and the sound check of a run will say so. It stays the sound of the
rendition that play began with, whichever the picture goes over to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from probe.drivers.hls_retry import persist
from probe.drivers.hls_screen import Screen
from probe.drivers.hls_source import Abandoned, Piece
from probe.drivers.hls_track import Track
from probe.errors import Failure, Unsupported
from probe.wire.follow import Taken


class Sound:
    """The sink of its track, into the picture's screen. `note` tells people."""

    track: Track

    def __init__(self, screen: Screen, note: Callable[[str], None]) -> None:
        self._screen, self._note = screen, note
        self._gone = False
        self._told = False

    async def listen(self) -> None:
        """Follow and fetch it, as long as it can be had."""
        try:
            await persist(self.track.load)
        except (Failure, Unsupported) as error:
            self._note(f"the sound is not listened to: {error}")
            return
        async with asyncio.TaskGroup() as group:
            self.track.group = group
            group.create_task(self.track.follow())
            group.create_task(self.track.fetch())

    @property
    def full(self) -> bool:
        return self._screen.sound_full

    @property
    def level(self) -> float | None:
        return None

    @property
    def over(self) -> bool:
        return self._gone or self._screen.ending is not None

    async def take(self, piece: Piece, taken: Taken) -> None:
        await self._screen.take_sound(piece)

    def give_up(self, size: int, whole: int | None, passed: float, duration: float) -> bool:
        return False

    async def abandoned(self, why: Abandoned) -> None:
        pass

    async def next(self) -> Taken | None:
        if self.track.follower.far_behind():
            self.track.follower.to_live()
        return self.track.follower.take()

    def ended(self, failure: Failure) -> None:
        self._gone = True
        if failure.reason != "ended":
            self._note(f"the sound is not listened to: {failure.outcome.detail}")
        self.track.news.set()

    def loaded(self) -> None:
        pass

    def failed(self, failure: Failure) -> None:
        if not self._told:
            self._told = True
            self._note(f"the sound's rendition: {failure}")

    def note(self, text: str) -> None:
        self._note(f"sound: {text}")
