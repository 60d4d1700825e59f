"""A viewer of HLS, whichever kind: the start, the picture's track, the sound's where it has one, and what is told of it.

A start is: master playlist, rendition, media playlist, init section, the media at the live position, its first picture. From
then on the playlist is followed, media is fetched ahead of need and pictures are shown when they are due. Renditions change
between segments, by the rule of wire/abr.py. After the picture stood for long, play goes on nearer to live; it never hurries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_ladder import Renditions
from probe.drivers.hls_retry import persist
from probe.drivers.hls_screen import Screen
from probe.drivers.hls_sound import Sound
from probe.drivers.hls_source import Abandoned, Piece, Source
from probe.drivers.hls_track import Sink, Track
from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.model.frames import Refill
from probe.model.observation import RequestDone, Rung
from probe.model.stage import Phase, Stage
from probe.net.client import Client
from probe.wire.abr import Fetched
from probe.wire.delivery import EVERY, Meter
from probe.wire.follow import Taken
from probe.wire.playlist_facts import Media

STALE_TARGETS = 3
FROZEN = 10 * NS
_AGAIN = 30 * NS  # for so long nothing is abandoned for the sake of a rendition that could not be had
_MAX_NOTES = 20

MakeTrack = Callable[[Source, SessionIO, Sink, Meter], Track]


class Picture:
    """The picture's track and where it goes; one viewer's."""

    def __init__(self, spec: Spec, io: SessionIO, http: Client, make: MakeTrack) -> None:
        self.io, self.screen, self.meter = io, Screen(io), Meter()
        self.renditions = Renditions(spec, io, http)
        self._make = make
        self.track = make(self.renditions.source, io, self, self.meter)
        self.sound: Sound | None = None
        self._wanted: Rung | None = None
        self._played: Rung | None = None
        self._refused_at: int | None = None  # when a rendition wanted could not be had
        self._useless: Failure | None = None  # why the last piece fetched for the start was of no use
        self._again = False
        self.begun = False  # the start is over
        self._rebuffers = 0
        self._notes = 0

    # -- the start

    async def start(self) -> None:
        await persist(self._first_list)
        arrived = await persist(self._first_picture)
        self.io.stages.enter(Stage.PROBE, arrived)
        self.track.source.stages = self.renditions.source.stages = None
        self.begun = True
        if self.renditions.sound is not None:
            self.sound = Sound(self.screen, self.note)
            self.sound.track = self._make(self.renditions.sound, self.io, self.sound, Meter())

    async def _first_list(self) -> None:
        await self.renditions.open()
        self.track.source = self.renditions.source
        if self.renditions.switcher is not None:
            self._played = self.renditions.switcher.current
        if (media := self.renditions.media) is not None:
            self.renditions.media = None
            self.track.update(media, self.io.clock.now(), 0)
        else:
            await self.track.load()
        if self.track.follower.media is None or not self.track.follower.media.segments:
            raise Failure(Phase.PLAYLIST, "empty", "no segment is listed")

    async def _first_picture(self) -> int:
        """Fetch until the place where play begins is there; the arrival of the last byte it took."""
        follower = self.track.follower
        if self._again and self.io.clock.now() >= follower.reload_at:
            await self.track.load()
        self._again = True
        while True:
            taken = follower.take()
            if taken is None:
                raise self._useless or Failure(Phase.PLAYLIST, "empty", "no segment is listed that is there")
            try:
                piece = await self.track.piece(taken)
            except Failure:
                follower.put_back(taken)
                raise
            try:
                await self.take(piece, taken)
            except Failure as failure:
                follower.give_up()
                self._useless = failure
                raise
            if self.screen.player.started:
                return piece.arrived

    # -- the track's sink

    @property
    def full(self) -> bool:
        return self.screen.full

    @property
    def level(self) -> float | None:
        return self.screen.level if self.screen.player.started else None

    @property
    def over(self) -> bool:
        return self.screen.ending is not None

    async def take(self, piece: Piece, taken: Taken) -> None:
        await self.screen.take(piece, taken.segment.duration, taken.anew, taken.jumped)
        if self.screen.player.started:  # before that nobody reads the feed
            self.io.feed.post(Refill(at=piece.arrived))
        if taken.segment.discontinuity:
            self.meter.discontinuity()
        self.meter.came(piece.arrived, taken.segment.duration)
        if self.screen.player.rebuffers > self._rebuffers:
            self._rebuffers = self.screen.player.rebuffers
            self.renditions.cmcd.starved()
        switcher = self.renditions.switcher
        if switcher is not None and piece.rendition == switcher.current.name:
            fetched = Fetched(len(piece.data), piece.took, taken.segment.duration)
            self._wanted = switcher.fetched(fetched, self.screen.level, self.io.clock.now() / NS) or self._wanted

    def give_up(self, size: int, whole: int | None, passed: float, duration: float) -> bool:
        switcher = self.renditions.switcher
        return (
            switcher is not None
            and self.screen.player.started
            and (self._refused_at is None or self.io.clock.now() - self._refused_at > _AGAIN)
            and switcher.hopeless(size, whole, passed, duration, self.screen.level)
        )

    async def abandoned(self, why: Abandoned) -> None:
        assert self.renditions.switcher is not None
        self._wanted = self.renditions.switcher.abandoned(why.size, why.passed, self.io.clock.now() / NS) or self._wanted
        self.note(f"a fetch was {why}")

    async def next(self) -> Taken | None:
        """The next piece, of the rendition wanted; after the picture stood for long, one nearer to live, and that is told."""
        if self._wanted is not None and self.track.follower.between:
            await self._switch(self._wanted)
        follower = self.track.follower
        if self.screen.standing and follower.far_behind():
            behind = follower.behind
            if left_out := follower.to_live():
                self.meter.rested()
                self.note(f"{left_out} segments were left out after rebuffering, {behind:.1f} s behind the playlist's end")
        return follower.take()

    def ended(self, failure: Failure) -> None:
        self.screen.end(failure)

    def loaded(self) -> None:
        """Whether the playlist still lives."""
        follower, media = self.track.follower, self.track.follower.media
        assert media is not None
        unmoved = follower.unmoved(self.io.clock.now())
        limit = round(STALE_TARGETS * media.target_duration * NS)
        if media.endlist:
            self.track.news.set()
        elif not self.io.stages.ended and unmoved >= limit:
            self.io.feed.close(Failure(Phase.PLAYLIST, "stale", f"the same list for {unmoved / NS:.1f} s"))
        elif unmoved >= max(limit, FROZEN):
            self.screen.end(Failure(Phase.PLAYING, "frozen", f"the same list for {unmoved / NS:.1f} s"))

    def failed(self, failure: Failure) -> None:
        if failure.phase is Phase.AUTH:
            self.screen.end(failure)
            self.track.news.set()

    def note(self, text: str) -> None:
        self._notes += 1
        if self._notes <= _MAX_NOTES:
            self.io.note(text)

    # -- beside it

    async def report(self) -> None:
        """What was delivered, once a second."""
        at = self.io.clock.now()
        while True:
            at += EVERY
            await asyncio.sleep(max(0, at - self.io.clock.now()) / NS)
            now = self.io.clock.now()
            follower = self.track.follower
            told = self.meter.tick(
                now,
                pace=follower.pace,
                unmoved=follower.overdue(now) / NS,
                live_latency=self.screen.live_latency,
                buffered=self.screen.level,
            )
            self.io.emit(told)

    async def _switch(self, rung: Rung) -> None:
        """Go over to another rendition where this one would go on; stay where its list cannot be had."""
        assert self.renditions.switcher is not None and self._played is not None
        self._wanted = None
        if rung == self._played:
            return
        began = self.io.clock.now()
        source = self.renditions.of(rung)
        try:
            media = await self.track.arrive(source)
        except (Failure, Unsupported) as error:
            self.renditions.switcher.stay(self._played)
            self._refused_at = began
            self.note(f"{rung.name} was not switched to: {error}")
            return
        if not self.track.retune(source, media, began):
            self.note(f"{rung.name} lists nothing at {self._played.name}'s place: play begins anew there")
        self._played = rung
        self.io.facts["switches"] = str(int(self.io.facts.get("switches", "0")) + 1)

    def close(self) -> None:
        self.screen.close()
        follower = self.track.follower
        if follower.skipped:
            self.io.facts["skipped_segments"] = str(follower.skipped)
        if follower.restarts:
            self.io.facts["playlist_restarts"] = str(follower.restarts)


@asynccontextmanager
async def watching(spec: Spec, io: SessionIO, make: MakeTrack) -> AsyncIterator[None]:
    """One attempt of a viewer whose tracks `make` makes. Enter: the first picture is being decoded."""

    def answered(request: RequestDone) -> None:
        """Tell of it, unless we took it back unanswered: a player that goes always has a blocked load and a hint under way, and
        that is no edge's failure. During the start a request that hangs is told."""
        if request.status or request.failure is not None or not picture.begun:
            io.emit(request)

    http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True, on_request=answered)
    picture = Picture(spec, io, http, make)
    try:
        await picture.start()
        failed: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                picture.track.group = group
                parts = [picture.track.follow, picture.track.fetch, picture.screen.present, picture.report]
                if picture.sound is not None:
                    parts.append(picture.sound.listen)
                tasks = [group.create_task(part()) for part in parts]
                try:
                    yield
                except Exception as error:  # the caller's own: it is not to come out as the group's
                    failed = error
                finally:
                    for task in tasks:
                        task.cancel()
                    picture.track.close()
        except ExceptionGroup as bugs:
            failed = _first(bugs)
        if failed is not None:
            raise failed
    finally:
        picture.close()
        await http.close()


def _first(bugs: ExceptionGroup[Exception]) -> Exception:
    first = bugs.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


async def listed(spec: Spec, io: SessionIO) -> Media | None:
    """The playlist a viewer would begin with; None where it is one we cannot play. Raises Failure."""
    http = io.http.using(own_pool=True)
    try:
        renditions = Renditions(spec, io, http, scouting=True)
        await renditions.open()
        return renditions.media or await renditions.source.load()
    except Unsupported:
        return None
    finally:
        await http.close()
