"""The one way a fault is put back: by runner, watchdog and `probe drill recover` alike.

One of them at a time (a lock of the kernel's, per entry): restore within a bound, then look until the fault is seen to be gone,
and again with growing pauses until a total bound is over. What restore says of itself counts for nothing, and a failed look is
no look. Every try is in the ledger, which is never waited for long: a full or a hung disk delays no undo.

A fault that nobody has seen injected may be on its way yet, though who sent it is dead: a command that was started, a request
that was sent. Such a one is looked at for a while longer, and put back when it comes.

Who holds the lock and does not move (SIGSTOP, a hung thread) is waited for as long as a try of his may take, no longer: restore
is idempotent, so two at once are the lesser evil.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from probe.drill import locks
from probe.drill.book import Ended, Entry, LedgerRefused
from probe.drill.faults.base import Clients, Fault, FaultIO, Klass, Observed, State
from probe.drill.faults.table import fault as by_name
from probe.drill.ledger import Ledger, NotKept
from probe.model.clock import MS, NS, Clock
from probe.net.redact import Redactor

UNDO = "undo-"  # names of its threads begin so
_NOTE = 1.0  # s for a line of the ledger, before the work goes on without it
_GLANCE = 0.05  # s between two looks at the lock
_LOOK = 0.1  # s between two looks at the target
_MOST_WORDS = 300
_WELL = (State.RESTORED, State.GONE)


class Outcome(StrEnum):
    RESTORED = "restored"
    GONE = "gone"  # the target is no more, and the fault with it
    FAILED = "failed"  # it is not seen to be gone; the entry stays open


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """ns. `attempt`: one restore, or one look; `look`: how long to look for its effect; `settle`: how long an injection may still
    be under way; `total`: from the first try to giving up; `pause` before the second, then doubled up to `longest`. `patience`:
    with somebody else's try; none: for as long as that may take."""

    attempt: int = 10 * NS
    look: int = 3 * NS
    settle: int = 3 * NS
    total: int = 60 * NS
    pause: int = 200 * MS
    longest: int = 5 * NS
    patience: int | None = None

    @property
    def waiting(self) -> int:
        """For somebody else's try to end."""
        return 2 * self.attempt + self.look + self.settle if self.patience is None else self.patience


BOUND = Bound()


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """`began` and `seen` are monotonic ns of the clock given: the first try, and the look that showed it gone. `by` is whose work
    it was; `detail` what the last look or try came to."""

    state: Outcome
    began: int
    seen: int | None
    tries: int
    detail: str
    by: str


async def undo(
    entry: Entry,
    ledger: Ledger,
    *,
    clock: Clock,
    redactor: Redactor,
    clients: Clients | None = None,
    by: str = "runner",
    bound: Bound = BOUND,
    fault: Callable[[str], Fault] = by_name,
) -> Undone:
    """Put it back, and see that it is. Raises nothing but CancelledError. It may be said of one entry as often as one likes, by
    as many as like: the first does it, the others learn of it."""
    work = _Work(entry, ledger, clock, redactor, by)
    try:
        kind = fault(entry.kind)
    except Exception as error:  # a row that is no more, a library that is missing: told, and never a reason to stop
        return await work.given_up(f"this program has no fault {entry.kind!r} now ({work.words(error)})", 0)
    io = FaultIO(clock=clock, token=entry.token, expires=entry.expires, redactor=redactor, clients=clients)
    async with _alone(entry, ledger, bound, clock) as done:
        if done is not None:
            return Undone(
                state=Outcome(done.state), began=work.began, seen=clock.now(), tries=0, detail=f"by {done.by}", by=done.by
            )
        return await work.undone(kind, io, bound)


async def undo_apart(entry: Entry, ledger: Ledger, *, clock: Clock, bound: Bound = BOUND, **others: Any) -> Undone:
    """As `undo`, in a thread and on a loop of its own: one that blocks holds up nobody. Where not even its bound is kept, the
    thread is left behind."""
    loop, began = asyncio.get_running_loop(), clock.now()
    done: asyncio.Future[Undone] = loop.create_future()

    def tell(undone: Undone | None, error: BaseException | None) -> None:
        if not done.done() and undone is not None:
            done.set_result(undone)
        elif not done.done():
            done.set_exception(error or RuntimeError("an undo without an end"))

    def work() -> None:
        undone, failed = None, None
        try:
            undone = asyncio.run(undo(entry, ledger, clock=clock, bound=bound, **others))
        except BaseException as error:  # a thread has nobody else to tell
            failed = error
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(tell, undone, failed)

    threading.Thread(target=work, daemon=True, name=f"{UNDO}{entry.number}").start()
    try:
        async with asyncio.timeout((bound.waiting + bound.total + bound.settle + bound.attempt + 2 * bound.look) / NS):
            return await done
    except TimeoutError:
        why = "it blocks, and does not heed its bound"
    except Exception as error:  # a bug of a fault's, or of ours: the others are still to be undone
        why = f"{type(error).__name__}: {error}"
    with suppress(NotKept):
        await asyncio.to_thread(ledger.not_undone, entry.number, why)
    return Undone(state=Outcome.FAILED, began=began, seen=None, tries=1, detail=why, by=others.get("by", "runner"))


class _Work:
    """One undo as it goes."""

    def __init__(self, entry: Entry, ledger: Ledger, clock: Clock, redactor: Redactor, by: str) -> None:
        self.began = clock.now()
        self._entry, self._ledger, self._clock, self._redactor, self._by = entry, ledger, clock, redactor, by

    async def undone(self, kind: Fault, io: FaultIO, bound: Bound) -> Undone:
        number, pause, attempt = self._entry.number, bound.pause, 0
        ends = self.began + bound.total
        settled = self._clock.now() + (0 if await asyncio.to_thread(self._was_injected) else bound.settle)
        while True:
            attempt += 1
            async with asyncio.TaskGroup() as group:
                restoring = group.create_task(self._restored(kind, io, bound))
                group.create_task(self._note(partial(self._ledger.trying, number, self._by, attempt)))
            seen = await self._looked(kind, io, bound)
            while seen.state in _WELL and self._clock.now() < settled:
                await asyncio.sleep(_LOOK)
                seen = await self._look(kind, io, bound)
            if seen.state in _WELL:
                return await self._well(Outcome(seen.state), attempt, seen.detail)
            why = "; ".join(part for part in (restoring.result(), f"seen {seen.state}", seen.detail, self._awaited()) if part)
            await self._note(partial(self._ledger.tried, number, self._by, attempt, why))
            if self._clock.now() + pause >= ends:
                return await self.given_up(why, attempt)
            await asyncio.sleep(pause / NS)
            pause = min(2 * pause, bound.longest)

    async def given_up(self, why: str, tries: int) -> Undone:
        await self._note(partial(self._ledger.not_undone, self._entry.number, why))
        return Undone(state=Outcome.FAILED, began=self.began, seen=None, tries=tries, detail=why, by=self._by)

    def words(self, error: BaseException) -> str:
        return self._redactor.redact(" ".join(str(error).split()))[:_MOST_WORDS] or type(error).__name__

    async def _well(self, state: Outcome, tries: int, detail: str) -> Undone:
        seen = self._clock.now()
        trouble = await self._note(partial(self._ledger.undone, self._entry.number, str(state), self._by))
        if trouble:
            detail = "; ".join(part for part in (detail, f"but the ledger could not be told: {trouble}") if part)
        return Undone(state=state, began=self.began, seen=seen, tries=tries, detail=detail, by=self._by)

    async def _restored(self, kind: Fault, io: FaultIO, bound: Bound) -> str:
        """What went wrong; empty where nothing did."""
        try:
            async with asyncio.timeout(bound.attempt / NS) as limit:
                await kind.restore(self._entry.record, io)
        except Exception as error:  # whatever it is: it will be looked at, and tried again
            return f"restore took longer than {bound.attempt / NS:g} s" if limit.expired() else f"restore: {self.words(error)}"
        return ""

    async def _looked(self, kind: Fault, io: FaultIO, bound: Bound) -> Observed:
        """The first look that shows it gone, or the last one there was time for."""
        ends = self._clock.now() + bound.look
        while True:
            seen = await self._look(kind, io, bound)
            if seen.state in _WELL or self._clock.now() >= ends:
                return seen
            await asyncio.sleep(_LOOK)

    async def _look(self, kind: Fault, io: FaultIO, bound: Bound) -> Observed:
        try:
            async with asyncio.timeout(bound.attempt / NS) as limit:
                seen = await kind.observe(self._entry.record, io)
        except Exception as error:  # observe raises nothing, but by a bug or at its bound
            return Observed(State.UNKNOWN, "the look took too long" if limit.expired() else self.words(error))
        return Observed(seen.state, self._redactor.redact(" ".join(seen.detail.split()))[:_MOST_WORDS])

    def _was_injected(self) -> bool:
        """By what the ledger says; as far as it can be read."""
        try:
            return self._entry.number in self._ledger.book().injected
        except (LedgerRefused, OSError):
            return False

    async def _note(self, line: Callable[[], None]) -> str:
        """Why it could not be written; empty where it was."""
        try:
            async with asyncio.timeout(_NOTE):
                await asyncio.to_thread(line)
        except TimeoutError:
            return "it did not answer in time"
        except NotKept as error:
            return self.words(error)
        return ""

    def _awaited(self) -> str:
        """Who should have brought back what has no undo."""
        return f"to be restored by {self._entry.restored_by}" if self._entry.klass is Klass.IRREVERSIBLE else ""


@asynccontextmanager
async def _alone(entry: Entry, ledger: Ledger, bound: Bound, clock: Clock) -> AsyncIterator[Ended | None]:
    """While nobody else undoes it. Yields how it ended where another was first."""
    byte, ends = locks.undoing(entry.number), clock.now() + bound.waiting
    try:
        descriptor = locks.opened(ledger.path, os.O_RDWR)
    except OSError:  # the file was taken away; what it told us is still true
        yield None
        return
    try:
        while not locks.take(descriptor, byte) and clock.now() < ends:  # noqa: ASYNC110  # the kernel calls nobody
            await asyncio.sleep(_GLANCE)
        yield _ended(ledger, entry)
    finally:
        locks.closed(descriptor)


def _ended(ledger: Ledger, entry: Entry) -> Ended | None:
    try:
        return ledger.book().ended.get(entry.number)
    except (LedgerRefused, OSError):
        return None
