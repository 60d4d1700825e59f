"""One session's supervisor: deadline, verification, stall, reconnect. Once, for all protocols and both roles.

A stay is attempt 0 (the start, which is never retried: a retry would hide the very failure we are here to see) and then
as many attempts as it takes to come back after the picture stopped. A driver's attempt ends by raising, by its feed
ending, or by our stall timer; why it stopped is kept, and if nothing comes back within the reconnect deadline the
session has crashed and that is the reason it carries.

While we hold the path cut nobody can come back; trying costs nothing but is what a real player does.

A stay that is ended while its picture is away says so (`missing`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from probe.drivers.base import SessionRow, Spec
from probe.errors import Failure, Misconfigured, ProbeError, Unsupported
from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import NS
from probe.model.frames import FrameRecord, Record, Refill
from probe.model.observation import (
    CutBegan,
    CutOutcome,
    Restored,
    Resumed,
    Role,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StageDone,
)
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import Client
from probe.net.lookup import family_of
from probe.run.attempt import at_deadline, of_group
from probe.run.attempt_io import AttemptIO
from probe.run.context import Context
from probe.run.cutting import NOTICEABLE, Cutting
from probe.run.missing import Missing
from probe.run.watch import Watch

_log = logging.getLogger(__name__)
DROP = "drop"  # the cut in which the publisher leaves and returns
_BACKOFF_FIRST, _BACKOFF_MAX = 0.1, 2.0


@dataclass(slots=True, kw_only=True)
class Stay:
    """`spec` makes the attempt's Spec anew each time (a token may have been renewed, a publish session is a new one).
    `refresh` renews the credentials after a 401. `run` never raises but for cancellation that `end` did not ask for."""

    ctx: Context
    row: SessionRow
    began: SessionBegan
    spec: Callable[[], Spec]
    client: Client
    watch: Watch
    path: Path | None = None
    start_deadline: int
    reconnect_deadline: int
    refresh: Callable[[], Awaitable[None]] | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)  # set when the start has ended, however
    outcome: Outcome | None = None  # of the start
    facts: dict[str, str] = field(default_factory=dict)
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # no cut is open, or the session is over
    done: asyncio.Event = field(default_factory=asyncio.Event)  # the stay is over
    feed: Feed | None = None
    _attempt: int = 0
    _up: bool = False
    _publish: int | None = None  # whose picture was shown last
    _missing: Missing = field(init=False)
    _ending: bool = False
    _asked: int | None = None  # to end
    _away: asyncio.Event | None = None
    _cut: Cutting | None = None
    _task: asyncio.Task[None] | None = None
    _attempts: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _one: asyncio.Task[None] | None = None  # the attempt under way

    def __post_init__(self) -> None:
        self._missing = Missing(deadline=self.reconnect_deadline)

    @property
    def session(self) -> str:
        return self.began.session

    @property
    def over(self) -> bool:
        return self.done.is_set()

    @property
    def playing(self) -> bool:
        return self._up and self._away is None and not self.over

    async def run(self) -> None:
        """The whole stay."""
        self._task = asyncio.current_task()
        self.settled.set()
        self.ctx.emit(self.began)
        ended_by: Failed | None = None
        try:
            async with asyncio.TaskGroup() as self._attempts:
                try:
                    if not self._ending:
                        ended_by = await self._live()
                except asyncio.CancelledError:
                    self.outcome = self.outcome or Cancelled()
                    if not self._ending:
                        raise
                    ended_by = self._left_open()
        finally:
            self._close(ended_by)

    def skip(self, outcome: Skipped) -> None:
        """It never comes to try, and says so. Instead of `run`."""
        self.ctx.emit(self.began)
        self.outcome = outcome
        self._close(None)

    def end(self) -> None:
        """Ask for the planned end; `run` returns soon after."""
        self._ending = True
        self._asked = self._asked or self.ctx.clock.now()
        if self._task is None:
            self.done.set()
        elif not self.over:
            self._task.cancel()

    def cut_began(self, kind: str, step: str) -> None:
        """The path, or what stands behind it, is about to be broken."""
        now = self.ctx.clock.now()
        if self.playing:
            self.tick(now, force=True)  # what was seen before the cut is not to share a second with what the cut did
        self.ctx.emit(CutBegan(at=now, kind=kind, step=step), self.session)
        if self.over:
            return
        self._cut = Cutting(
            kind=kind,
            step=step,
            began=now,
            attempt=self._attempt,
            last=self._missing.last,
            noticeable=NOTICEABLE if self.began.role is Role.VIEWER else self.row.stall,
            before=self._publish if kind == DROP else None,
        )
        self.settled.clear()

    def cut_again(self) -> bool:
        """Something else is broken before this session came back from its last cut: that cut goes on. False: none is open."""
        if self._cut is None:
            return False
        self._cut.restored = None
        return True

    def restored(self, *, at: int, observable: bool = True, since: int | None = None) -> None:
        """The path is back (`observable`), or at least nobody holds it any more. `since`: where that was only seen `at`, the
        instant from which it may have been so."""
        if self._cut is None:
            return
        if observable:
            self.ctx.emit(Restored(at=at, kind=self._cut.kind, step=self._cut.step), self.session)
        self._missing.path_returned(at)
        self._resolve(self._cut.on_restored(at, observable=observable, since=since))

    def leave(self) -> None:
        """Drop out without ending the stay; `come_back` returns. What a publisher does whose network died."""
        if self._one is not None and self._up:
            if self._cut is not None:
                self._cut.before = None  # its own return is what ends it
            self._away = asyncio.Event()
            self._one.cancel()

    def come_back(self) -> None:
        if self._away is not None:
            self._away.set()

    def tick(self, now: int, *, force: bool = False) -> None:
        """Emit the window that ended, if a second has passed; none before the intent."""
        if self._task is None:
            return
        window = self.watch.window(now, force=force)
        if window is not None:
            self.ctx.emit(window, self.session)

    # -- the life of it

    async def _live(self) -> Failed | None:
        """Attempts until the planned end. Returns the failure it crashed with, or None where the start itself ended it."""
        while True:
            end = await self._one_attempt()
            if self._away is not None:
                await self._away.wait()
                self._away = None
            if self.outcome is None:
                self.outcome = end if not isinstance(end, Done) else Failed(Phase.PLAYING, "ended", "ended before it began")
                return None
            if isinstance(end, Aborted):
                self.outcome = end
                return None
            why = end if isinstance(end, Failed) else Failed(Phase.PLAYING, "ended", "the server ended it")
            if self._up:
                self._up = False
                self.watch.interrupted()
                self._missing.missed(why, self.ctx.clock.now())
            if self._missing.too_late(self.ctx.clock.now(), held=self._held):
                return self._crash(why)
            if isinstance(end, Failed) and end.phase is Phase.AUTH and self.refresh is not None:
                await self._refresh()
            await self._pause()
            self._attempt += 1
            self._missing.tries += 1

    @property
    def _held(self) -> bool:
        return self._cut is not None and self._cut.restored is None

    def _crash(self, last: Failed) -> Failed:
        """What ends the session: why its picture stopped, or, where a cut of the journey took it, that it is not back."""
        failure = self._missing.failure(last)
        if self._cut is not None:
            self._resolve(self._cut.failed(failure, self._attempt))
            return failure
        self._resolve(self._missing.failed(failure))
        return self._missing.why

    def _left_open(self) -> Failed | None:
        """The interruption under way when the end was asked for, if nobody made it; what the session crashed with, where it
        has lasted too long already."""
        now = self._asked
        if now is None or self._cut is not None or not isinstance(self.outcome, Done):
            return None
        standing = self.watch.standing(now) if self._up else None
        why = self._missing.why if self._missing.away else self.watch.stalled()
        self._resolve(found := self._missing.left_open(now, standing, why))
        return why if found is not None and found.outcome is CutOutcome.FAILED else None

    async def _refresh(self) -> None:
        assert self.refresh is not None
        try:
            async with asyncio.timeout(5):
                await self.refresh()
        except (ProbeError, TimeoutError) as error:
            self.ctx.note(f"credentials could not be renewed: {error}", self.session)

    async def _pause(self) -> None:
        """Backoff with full jitter; none before the first try."""
        if tries := self._missing.tries:
            ceiling = min(_BACKOFF_MAX, _BACKOFF_FIRST * 2**tries)
            await asyncio.sleep(self.ctx.rng.uniform(ceiling / 4, ceiling))

    async def _one_attempt(self) -> Outcome:
        """One attempt, as an outcome, known before the driver has taken its leave: a goodbye to a server that is gone takes
        its time, and a real player does not wait for it before it tries again. Done: the server ended it properly."""
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._one = self._attempts.create_task(self._attempt_until(ended), name=f"attempt {self._attempt} of {self.session}")
        try:
            return await ended
        except asyncio.CancelledError:
            self._one.cancel()
            raise

    async def _attempt_until(self, ended: asyncio.Future[Outcome]) -> None:
        timer = StageTimer(self.ctx.clock.now())
        self.feed = feed = Feed(self.ctx.clock)
        limit = self._missing.limit(self.start_deadline, self.ctx.clock.now(), held=self._held) / NS
        http: Client | None = None
        families: set[str] = set()

        def reached(ip: str) -> None:
            families.add(family_of(ip))
            self.facts["family"] = "/".join(sorted(families))

        def over(outcome: Outcome, latest: int | None = None) -> None:
            now = self.ctx.clock.now()
            if not timer.ended:
                timer.finish(now if latest is None else min(now, latest))
                self._emit_slices(timer)
            self._unread(feed)
            if not ended.done():
                ended.set_result(outcome)

        try:
            async with asyncio.timeout(limit) as start:
                spec = self.spec()
                if spec.pin:
                    self.facts["address"] = spec.pin
                http = self.client.using(family=spec.family, pin=spec.pin, pinned=spec.pinned, reached=reached)
                io = AttemptIO(self.ctx.clock, http, timer, feed, self.path, self.facts, self.ctx.emit, self.session)
                async with self.row.driver.open(spec, io):
                    deadline = start.when()
                    start.reschedule(None)
                    over(await self._read(feed, timer, deadline, limit))
        except TimeoutError:
            # The driver has said goodbye by now; that time is no part of the stage which the deadline found open.
            over(self._not_started(timer, limit), timer.intent + round(limit * NS))
        except (Failure, Unsupported) as error:
            over(error.outcome)
        except Misconfigured as mistake:
            over(Aborted(str(mistake)))
        except BaseExceptionGroup as group:
            over(of_group(group))
        except asyncio.CancelledError:
            over(Failed(Phase.PLAYING, "ended", "left on purpose"))
            raise
        except Exception as bug:
            _log.exception("session %s broke", self.session)
            over(Aborted(f"{type(bug).__name__}: {bug}"))
        finally:
            if http is not None:
                await http.close()

    async def _read(self, feed: Feed, timer: StageTimer, deadline: float | None, limit: float) -> Outcome:
        """Take records until the feed ends, the start's `deadline` (loop time) passes, or nothing progresses any more."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline) as patience:
                progressed = False
                while (record := await feed.get()) is not None:
                    progressed = self._take(record, timer) or progressed
                    if progressed and not feed.waiting:  # one timer for all that was told together
                        patience.reschedule(loop.time() + self.row.stall / NS)
                        progressed = False
        except TimeoutError:
            return self.watch.stalled() if timer.ended else self._not_started(timer, limit)
        except Failure as failure:
            return failure.outcome
        finally:
            self._unread(feed)
        return Done()

    def _unread(self, feed: Feed) -> None:
        """What still comes nobody is to read, and its age says nothing of this machine: a platform may be slow to let us go."""
        if self.feed is feed:
            self.feed = None

    def _not_started(self, timer: StageTimer, limit: float) -> Outcome:
        return at_deadline(timer.current, self.watch.tally, self.watch.undecodable, limit)

    def _emit_slices(self, timer: StageTimer) -> None:
        for piece in timer.slices:
            self.ctx.emit(
                StageDone(
                    at=piece.began + piece.took, stage=piece.stage, began=piece.began, took=piece.took, attempt=self._attempt
                ),
                self.session,
            )

    def _take(self, record: Record, timer: StageTimer) -> bool:
        """One record; True when it was progress."""
        now = self.ctx.clock.now()
        if isinstance(record, Refill) and self._cut is not None:
            self._resolve(self._cut.on_refill(record.at, now, self._attempt))
            return False
        step, freezes = self.watch.on_record(record)
        for freeze in freezes:
            self.ctx.emit(freeze, self.session)
        if step is None:
            if not timer.ended and isinstance(record, FrameRecord):
                timer.enter(Stage.FIRST_FRAME, record.decoded)
            return False
        if not timer.ended:
            self._came_up(timer, step.shown)
        back = self._missing.seen(step.shown)
        self._resolve(back if self._cut is None else self._cut.on_step(step, self._attempt))
        self._publish = step.publish
        return True

    def _came_up(self, timer: StageTimer, at: int) -> None:
        timer.finish(at)
        self._emit_slices(timer)
        self._up = True
        if self.outcome is None:
            self.outcome = Done()
            self.ctx.emit(SessionStarted(at=at, took=timer.total), self.session)
            self.started.set()

    def _resolve(self, resumed: Resumed | None) -> None:
        if resumed is not None:
            self.ctx.emit(resumed, self.session)
            self._cut = None
            self.settled.set()

    def _close(self, ended_by: Failed | None) -> None:
        self._up = False
        self.tick(self.ctx.clock.now(), force=True)
        if self.path is not None:
            self.facts.update(self.path.facts())
        ending = "" if not isinstance(self.outcome, Done) else "crashed" if ended_by is not None else "planned"
        self.ctx.emit(
            SessionEnded(outcome=self.outcome or Cancelled(), ending=ending, ended_by=ended_by, facts=dict(self.facts)),
            self.session,
        )
        self.started.set()
        self.settled.set()
        self.done.set()
