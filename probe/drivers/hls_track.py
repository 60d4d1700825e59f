"""One rendition as it is followed and fetched, side by side: the picture's, or the sound's where it has one of its own.

A player heals itself: an edge that answers 503 or a path that is gone costs buffer, then stands the picture, and ends nothing;
what ends a stay is a token refused, a playlist that no longer moves, or the stream's own end. Where the pieces go, and
whether there is room for them, is the sink's to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

from probe.drivers.base import SessionIO
from probe.drivers.hls_retry import STRIKES, backoff, strike
from probe.drivers.hls_source import Abandoned, Piece, Source
from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.model.stage import Phase
from probe.wire.cmcd import Kind
from probe.wire.delivery import Meter
from probe.wire.follow import Follower, Taken
from probe.wire.playlist_facts import Media

_ROOM_PAUSE = 0.25


class Sink(Protocol):
    """Where a track's pieces go."""

    @property
    def full(self) -> bool: ...
    @property
    def level(self) -> float | None:
        """Seconds of media not shown yet; None where nothing tells."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more is wanted."""
        ...

    async def take(self, piece: Piece, taken: Taken) -> None:
        """Raises Failure, Unsupported for what cannot be shown."""
        ...

    def give_up(self, size: int, whole: int | None, passed: float, duration: float) -> bool:
        """Whether to abandon a fetch that goes like this."""
        ...

    async def abandoned(self, why: Abandoned) -> None: ...
    async def next(self) -> Taken | None:
        """What to fetch now."""
        ...

    def ended(self, failure: Failure) -> None:
        """No more will come."""
        ...

    def loaded(self) -> None:
        """The playlist was loaded."""
        ...

    def failed(self, failure: Failure) -> None: ...
    def note(self, text: str) -> None: ...


class Track:
    """`load` until there is something; then `follow` and `fetch` run side by side."""

    def __init__(self, source: Source, follower: Follower, io: SessionIO, sink: Sink, meter: Meter) -> None:
        self.source, self.follower = source, follower
        self.io, self.sink, self.meter = io, sink, meter
        self.news = asyncio.Event()
        self.group: asyncio.TaskGroup | None = None  # of what runs beside it

    async def load(self) -> None:
        """Load the playlist once. Raises Failure, Unsupported."""
        source, began, skipped = self.source, self.io.clock.now(), self.follower.skipped
        media = await self.listed(source)
        if source is self.source:  # else another rendition is played meanwhile
            self.update(media, began, skipped)

    def update(self, media: Media, began: int, skipped: int) -> bool:
        moved = self.follower.update(media, began, self.io.clock.now())
        self.meter.reloaded(self.follower.backwards)
        if self.source.kind is not Kind.AUDIO:
            self.io.facts["target_duration"] = f"{media.target_duration:g} s"
        if moved:
            self.news.set()
        if left := self.follower.skipped - skipped:
            self.sink.note(f"{left} segments were left out: the playlist no longer lists what came next")
        return moved

    async def listed(self, source: Source) -> Media:
        """The whole playlist, as it is now."""
        media = await source.load()
        if media.skipped:
            raise Failure(Phase.PLAYLIST, "malformed", "a delta update nobody asked for")
        return media

    async def piece(self, taken: Taken) -> Piece:
        """The bytes of what was taken."""
        duration, begins = taken.segment.duration, not taken.part  # in mid-segment there is nothing to go over to
        piece = await self.source.fetch(
            taken.segment,
            Phase.SEGMENT if taken.part is None else Phase.PART,
            buffered=self.sink.level,
            watch=lambda size, whole, passed: begins and self.sink.give_up(size, whole, passed, duration),
        )
        return replace(piece, lead=taken.lead, wall=taken.wall)

    async def arrive(self, source: Source) -> Media:
        """The playlist of another rendition, to go on with."""
        return await source.load()

    def retune(self, source: Source, media: Media, began: int) -> bool:
        """Go on with another rendition, whose list `media` is; False where it does not list the place we are at."""
        follower = type(self.follower)()
        follower.update(media, began)
        aligned = follower.align(self.follower)
        self.source, self.follower = source, follower
        self.news.set()
        return aligned

    def close(self) -> None:
        """Stop what runs beside it."""

    @property
    def pause(self) -> float:
        """Seconds until the next load is due."""
        return (self.follower.reload_at - self.io.clock.now()) / NS

    async def follow(self) -> None:
        """Reload the playlist as it falls due, until its end or ours."""
        tries = 0
        while not self.sink.over and self.follower.media is not None and not self.follower.media.endlist:
            await asyncio.sleep(max(0.0, backoff(tries) if tries else self.pause))
            try:
                await self.load()
            except Unsupported as unsupported:
                self.sink.ended(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
            except Failure as failure:
                tries += 1
                self.follower.unreachable()
                self.sink.failed(failure)
            else:
                tries = 0
                self.sink.loaded()
        self.news.set()

    async def fetch(self) -> None:
        """Fetch what is listed, as far ahead as a player would."""
        tries = strikes = 0
        while not self.sink.over:
            await self._room()
            taken = await self.sink.next()
            if taken is None:
                if self.follower.ended:
                    self.sink.ended(Failure(Phase.PLAYING, "ended", "EXT-X-ENDLIST"))
                await self.wait()
                continue
            try:
                await self.sink.take(await self.piece(taken), taken)
                tries = strikes = 0
                continue
            except Abandoned as why:
                self.follower.put_back(taken)
                await self.sink.abandoned(why)
                continue
            except Unsupported as unsupported:
                self.sink.ended(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
                return
            except Failure as failure:
                self.sink.failed(failure)
                tries += 1
                strikes += strike(failure)
                if strikes < STRIKES:
                    self.follower.put_back(taken)
                else:
                    self.follower.give_up()
                    what = f"segment {taken.segment.sequence}" + ("" if taken.part is None else f", part {taken.part}")
                    self.sink.note(f"{what} was left out: {failure}")
                    tries = strikes = 0
            await asyncio.sleep(backoff(tries))

    async def wait(self) -> None:
        """Until there may be more to take."""
        self.news.clear()
        await self.news.wait()

    async def _room(self) -> None:
        while self.sink.full:
            self.meter.rested()
            await asyncio.sleep(_ROOM_PAUSE)
