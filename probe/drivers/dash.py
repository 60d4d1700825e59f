"""DASH, live, as a viewer's player plays it (ISO/IEC 23009-1; low latency as DASH-IF IOP part 10 has it).

A start is: manifest, initialization segment, the segment at the live position, its first picture. From then on the manifest
is followed, segments are fetched as they come to be, pictures and sound are shown when they are due. Where the manifest says
that segments are there before they are whole, they are read chunk by chunk and each chunk is handed on as it arrives.

A player heals itself, as HLS's does: what fails is tried again, costs buffer, then stands the picture, and ends nothing. What
ends a stay is a token refused, a manifest that no longer moves or no longer leads to segments, or the stream's own end.
A manifest that is not live at the start (type static) is stale: a broadcast that is over looks like that.

Not here: switching between representations, encryption, several BaseURLs at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

from probe.drivers.base import SessionIO, Spec
from probe.drivers.dash_source import Source, check, describe, ladder
from probe.drivers.dash_track import Track
from probe.drivers.hls_retry import STRIKES, backoff, persist, strike
from probe.drivers.hls_screen import Screen
from probe.drivers.hls_source import Piece
from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.model.frames import Refill
from probe.model.observation import Ladder
from probe.model.stage import Phase, Stage
from probe.wire.delivery import EVERY, Meter
from probe.wire.mpd import Manifest, Period
from probe.wire.mpd_follow import Due, Follower

_ROOM_PAUSE = 0.25
_LOOK = 1.0  # seconds at most between looks at what is next, for the manifest may have changed meanwhile
_STALE_SEGMENTS = 3
_FROZEN = 10 * NS
_SOONEST, _LATEST = 0.25, 30.0  # seconds between loads of a manifest that has to move
_FOREVER = 86_400.0
_MAX_NOTES = 20


class DashViewer:
    """The SessionDriver for protocol dash, role viewer."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … segment, keyframe), Unsupported.

        The feed ends with Failure(playing, ended | frozen), (playlist, stale) or (auth, …)."""
        http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
        viewer = _Viewer(Source.of(spec, io, http), Screen(io), io)
        try:
            await viewer.start()
            failed: Exception | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part) for part in viewer.parts()]
                    try:
                        yield
                    except Exception as error:  # the caller's own: it is not to come out as the group's
                        failed = error
                    finally:
                        for task in tasks:
                            task.cancel()
            except ExceptionGroup as bugs:
                failed = bugs.exceptions[0]
            if failed is not None:
                raise failed
        finally:
            await viewer.close()
            await http.close()


async def scout(spec: Spec, io: SessionIO) -> bool:
    """Whether a viewer could start: a live manifest with a segment that is there. Raises Failure where it cannot be had."""
    http = io.http.using(own_pool=True)
    try:
        source = Source.of(spec, io, http)
        manifest = await source.load()
        check(_newest(manifest), spec.device)
        follower = Follower(lambda period: source.choose(period, "video"))
        follower.update(manifest, source.wall())
        due = follower.next(source.wall())
        return manifest.dynamic and due is not None and due.at <= source.wall()
    except Unsupported:
        return True  # there is something, though not for us: the viewers will say so
    finally:
        await http.close()


class _Viewer:
    def __init__(self, source: Source, screen: Screen, io: SessionIO) -> None:
        self.source, self.screen, self.io = source, screen, io
        self.video = Track("video", source, self._picture, self._buffered)
        self.audio = Track("audio", source, self._sound, self._buffered)
        self._meter = Meter()
        self._pace = 0.0  # seconds in which the next piece of picture should come
        self._reload = asyncio.Event()  # what the manifest leads to is not there
        self._loaded = 0
        self._rebuffers = 0
        self._notes = 0
        self._useless: Failure | None = None  # why the last segment fetched for the start was of no use

    # -- the start

    async def start(self) -> None:
        await persist(self._first_manifest)
        first = await persist(self._first_picture)
        assert self.video.last is not None
        self.io.stages.enter(Stage.PROBE, self.video.last)
        self.source.stages = None
        self.audio.follower.begin_with(first)

    def parts(self) -> list[Coroutine[None, None, None]]:
        """What runs side by side from the first picture on."""
        return [self._follow(), self._fetch(self.video), self._fetch(self.audio), self._tell(), self.screen.present()]

    async def _first_manifest(self) -> None:
        await self._load()
        manifest, wall = self.video.follower.manifest, self.source.wall()
        assert manifest is not None
        if not manifest.dynamic:
            raise Failure(Phase.PLAYLIST, "stale", "type static: it is over, or was never live")
        newest = _newest(manifest)
        chosen = check(newest, self.source.spec.device)
        if self.video.follower.next(wall) is None:
            raise Failure(Phase.PLAYLIST, "empty", "no segment is there yet")
        rungs = tuple(rung for rung, _ in ladder(newest))
        self.source.top = chosen.bandwidth
        self.io.emit(Ladder(rungs=rungs))
        self.io.facts["variants"] = str(len(rungs))
        self.io.facts["variant"] = describe(chosen)
        self.io.facts["target_duration"] = f"{self.video.follower.longest:g} s"
        if chosen.template.chunked:
            self.io.facts["low_latency"] = "segments come in chunks"

    async def _first_picture(self) -> Due:
        """Until the first piece with a picture; the segment it began goes on being fetched afterwards."""
        if self.io.clock.now() - self._loaded >= self._interval() * NS:
            await self._load()
        track = self.video
        wall = self.source.wall()
        due = track.follower.next(wall)
        if due is None:
            raise self._useless or Failure(Phase.PLAYLIST, "empty", "no segment is listed that is there")
        await asyncio.sleep(max(0, due.at - wall) / NS)
        track.begin(due)
        try:
            while not track.shown:
                await track.go_on()
        except (Failure, Unsupported) as error:
            if isinstance(error, Failure) and error.phase in (Phase.SEGMENT, Phase.KEYFRAME) and not _unfetched(error):
                track.follower.take(due)
                track.follower.give_up()
                self._useless = error
            raise
        track.follower.take(due)
        return due

    # -- the life of it

    async def _follow(self) -> None:
        """Load the manifest again as it falls due, or when it led nowhere, until its end or ours."""
        tries = 0
        while self.screen.ending is None and (manifest := self.video.follower.manifest) is not None and manifest.dynamic:
            await self._pause(backoff(tries) if tries else self._interval())
            try:
                await self._load()
            except Unsupported as unsupported:
                self.screen.end(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
            except Failure as failure:
                tries += 1
                for track in (self.video, self.audio):
                    track.follower.unreachable()
                self._fatal(failure)
            else:
                tries = 0
                self._look_for_life()

    async def _fetch(self, track: Track) -> None:
        """Fetch what is there of one kind of media, as far ahead as a player would."""
        tries = strikes = 0
        while self.screen.ending is None:
            if track.due is None:
                await self._next(track)
                continue
            try:
                while await track.go_on():
                    pass
                tries = strikes = 0
                continue
            except Unsupported as unsupported:
                if track is self.audio:  # the picture is what we came for
                    self._note(f"the sound is not listened to: {unsupported}")
                else:
                    self.screen.end(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
                return
            except Failure as failure:
                self._fatal(failure)
                tries += 1
                strikes += strike(failure)
                self._trouble(track, failure)
                assert track.due is not None
                if track.follower.beyond(track.due):
                    track.due = None
                    continue
                if strikes >= STRIKES:
                    self._note(f"{track.kind} segment {track.due.spot.number} was left out: {failure}")
                    track.follower.give_up()
                    track.due = None
            await asyncio.sleep(backoff(tries))
            if track.due is not None and self._jump(track):
                track.follower.skipped += 1
                track.due = None
            if track.due is None:
                tries = strikes = 0

    async def _next(self, track: Track) -> None:
        """Wait for the next segment to be there, or for what could change which it is."""
        while self.screen.full if track is self.video else self.screen.sound_full:  # it drains as time passes, no event says so
            if track is self.video:
                self._meter.rested()
            await asyncio.sleep(_ROOM_PAUSE)
        self._jump(track)
        wall, skipped = self.source.wall(), track.follower.skipped
        due = track.follower.next(wall)
        if left := track.follower.skipped - skipped:
            self._note(f"{left} {track.kind} segments were left out: they were gone before we came")
        if due is not None and due.at <= wall:
            track.follower.take(due)
            track.begin(due)
            if due.anew and track is self.video:
                self._meter.discontinuity()
            return
        if due is None and track is self.video and track.follower.ended(wall):
            self.screen.end(Failure(Phase.PLAYING, "ended", "type static"))
        track.news.clear()
        wait = _LOOK if due is None else min(_LOOK, (due.at - wall) / NS)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):  # wait_for loses a cancellation that comes with the news
                await track.news.wait()

    async def _tell(self) -> None:
        """What was delivered, once a second."""
        at = self.io.clock.now()
        while True:
            at += EVERY
            await asyncio.sleep(max(0, at - self.io.clock.now()) / NS)
            unmoved = self.video.follower.unmoved(self.source.wall()) / NS
            latency, buffered = self.screen.live_latency, self.screen.level
            now = self.io.clock.now()
            self.io.emit(self._meter.tick(now, pace=self._pace, unmoved=unmoved, live_latency=latency, buffered=buffered))

    async def close(self) -> None:
        for track in (self.video, self.audio):
            await track.leave()
        self.screen.close()
        if self.video.follower.skipped:
            self.io.facts["skipped_segments"] = str(self.video.follower.skipped)
        if self.video.follower.restarts:
            self.io.facts["playlist_restarts"] = str(self.video.follower.restarts)

    # -- one manifest, one segment

    async def _load(self) -> None:
        self._reload.clear()
        manifest = await self.source.load()
        self._loaded = self.io.clock.now()
        wall = self.source.wall()
        for track in (self.video, self.audio):
            track.follower.update(manifest, wall)
            track.news.set()
        self._meter.reloaded(self.video.follower.backwards)

    async def _picture(self, piece: Piece, due: Due, anew: bool) -> None:
        chunked, level = due.representation.template.chunked, self.screen.level
        await self.screen.take(piece, 0.0 if chunked else due.duration, anew, anew and due.jumped)
        self._pace = max(0.0, self.screen.level - level) if chunked else due.duration
        self._meter.came(piece.arrived, self._pace)
        self.io.feed.post(Refill(at=piece.arrived))
        if self.screen.player.rebuffers > self._rebuffers:
            self._rebuffers = self.screen.player.rebuffers
            self.source.cmcd.starved()

    async def _sound(self, piece: Piece, due: Due, anew: bool) -> None:
        await self.screen.take_sound(piece)

    def _buffered(self) -> float | None:
        return self.screen.level if self.screen.player.started else None

    # -- what is wrong

    def _jump(self, track: Track) -> bool:
        """After the picture stood for long, go nearer to live, and tell it."""
        wall = self.source.wall()
        if track is self.audio or not self.screen.standing or not track.follower.far_behind(wall):
            return False
        left_out = track.follower.to_live(wall)
        if not left_out:
            return False
        self._meter.rested()
        self._note(f"{left_out} segments were left out after rebuffering")
        due = track.follower.next(wall)
        if due is not None:
            self.audio.follower.begin_with(due)
        return True

    def _trouble(self, track: Track, failure: Failure) -> None:
        """A segment could not be had: perhaps the manifest has changed; perhaps there are no more."""
        if not strike(failure):
            return
        self._reload.set()
        if track is not self.video or track.last is None:
            return
        quiet = self.io.clock.now() - track.last
        if quiet >= max(_FROZEN, round(_STALE_SEGMENTS * track.follower.longest * NS)):
            self.screen.end(Failure(Phase.PLAYING, "frozen", f"no segment for {quiet / NS:.1f} s; the last answer: {failure}"))

    def _look_for_life(self) -> None:
        follower = self.video.follower
        unmoved = follower.unmoved(self.source.wall())
        limit = round(_STALE_SEGMENTS * follower.longest * NS)
        if not self.io.stages.ended and unmoved >= limit:
            self.io.feed.close(Failure(Phase.PLAYLIST, "stale", f"the same list for {unmoved / NS:.1f} s"))
        elif unmoved >= max(limit, _FROZEN):
            self.screen.end(Failure(Phase.PLAYING, "frozen", f"the same list for {unmoved / NS:.1f} s"))

    def _fatal(self, failure: Failure) -> None:
        if failure.phase is Phase.AUTH:
            self.screen.end(failure)
            for track in (self.video, self.audio):
                track.news.set()

    def _interval(self) -> float:
        """Seconds from one load of the manifest to the next. A list has to be asked for as often as it grows; what is computed
        need not, unless the manifest says so."""
        follower = self.video.follower
        manifest = follower.manifest
        update = manifest.update if manifest is not None else None
        if not follower.listed:
            return _FOREVER if update is None else max(update, _SOONEST)
        grown = not follower.unmoved(self.source.wall())
        return min(_LATEST, max(_SOONEST, update or 0.0, follower.longest if grown else follower.longest / 2))

    async def _pause(self, seconds: float) -> None:
        """That long, or until something is wrong; never less than half a segment since the last load."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._reload.wait()
        soonest = self._loaded + round(max(_SOONEST, self.video.follower.longest / 2) * NS)
        await asyncio.sleep(max(0, soonest - self.io.clock.now()) / NS)

    def _note(self, text: str) -> None:
        self._notes += 1
        if self._notes <= _MAX_NOTES:
            self.io.note(text)


def _newest(manifest: Manifest) -> Period:
    return next(period for period in reversed(manifest.periods) if period.representations)


def _unfetched(failure: Failure) -> bool:
    """It did not come, so it may be asked for again."""
    return failure.reason.startswith("http_") or not strike(failure)
