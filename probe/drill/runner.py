"""Carries a drill out: asks the machine (phases.py) what to do, does it, and tells it what came of it.

Everything that waits is a task of its own with a bound of its own, so that nothing keeps the loop from what is due next: a fault
is injected, looked at every 100 ms and put back while others go their own way. Before anything is broken it is in the ledger, on
disk; and it is put back in the one way there is (undoing.undo), which looks until it is seen to be gone.

Ctrl-C, SIGTERM and a dead watchdog are events like any other: they lead over the restore. `run` comes back only when every fault
that was written down is restored or said not to be; who is cancelled meanwhile is told by `Ended.interrupted`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from probe.clock import BootClock
from probe.drill.book import Entry
from probe.drill.core.conclude import Fate, Told
from probe.drill.core.facts import ActionSeen, Did, DrillFact, Entered, FaultDid, Phase, Verdict
from probe.drill.core.file import Drill
from probe.drill.core.looks import Known, Looks, Times
from probe.drill.core.phases import (
    Announce,
    Announced,
    Course,
    Do,
    End,
    Enter,
    Event,
    Inject,
    Injected,
    Looked,
    Machine,
    Ready,
    Recover,
    Restore,
    Script,
    Seen,
    Stop,
    Undone,
)
from probe.drill.core.readings import Readings
from probe.drill.faults.base import Clients, FaultIO, Klass, Observed, State
from probe.drill.ledger import Ledger, NotKept
from probe.drill.prepare import Ready as Prepared
from probe.drill.undoing import BOUND, Bound, Outcome, undo
from probe.drill.undoing import Undone as Ending
from probe.model.clock import MS, NS, Clock
from probe.net.redact import Redactor

_log = logging.getLogger(__name__)
INJECT_WITHIN = 5 * NS  # the call that breaks it; a record may say more (`inject_within`)
SEEN_WITHIN = 2 * NS  # until it is seen to be there; a record may say more (`seen_within`)
SPARE = NS  # between the end of a hold and the watchdog's turn
_LOOK = 500 * MS  # between two looks at the conditions
_LEAST = 0.01  # s between two of them, whatever is due
_POLL = 0.1  # s between two looks at a target until it is seen to be broken
_HELD = 0.5  # s between two looks at it while it is held
_GLANCE = 2.0  # s that one look at a target may take
_DISK = 10.0  # s for the ledger
_WORDS = 300


class Audience(Clients, Protocol):
    """Our own traffic, as the runner needs it."""

    @property
    def arrived(self) -> Told: ...
    def cut_began(self, fault: str) -> None: ...
    def restored(self, fault: str, at: int, since: int | None = None) -> None: ...


class Outlook(Protocol):
    """Who watches the rest of the world (watching.Watching)."""

    def injecting(self, at: int) -> None: ...
    def standing(self) -> Known: ...


class Watchdog(Protocol):
    """guard.Guard."""

    @property
    def died(self) -> asyncio.Event: ...
    @property
    def why(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One drill, ready to go: everything is checked, prepared and open. `announce` tells everybody who is to know, and answers
    why that failed; `put` is given every fact; `told` is called after every step."""

    drill: Drill
    regions: Sequence[str]
    faults: Sequence[Prepared]
    ledger: Ledger
    guard: Watchdog
    traffic: Audience
    readings: Readings
    outlook: Outlook
    clock: Clock
    boot: BootClock
    redactor: Redactor
    announce: Callable[[], Awaitable[str]]
    put: Callable[[DrillFact], None]
    told: Callable[[Runner], None] = lambda _: None
    bound: Bound = BOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it ended. `left`: faults that are not seen to be gone."""

    verdict: Verdict
    reason: str
    interrupted: bool
    left: tuple[str, ...] = ()


@dataclass(slots=True)
class _Going:
    """One fault on its way."""

    ready: Prepared
    task: asyncio.Task[None] | None = None
    willing: asyncio.Future[int] | None = None  # its number in the ledger


@dataclass(slots=True)
class Runner:
    """One execution of a job."""

    job: Job
    machine: Machine = field(init=False)
    looks: Looks = field(init=False)
    looked: Looked = field(default_factory=lambda: Looked(Told(None)))
    interrupted: bool = False
    _faults: dict[str, _Going] = field(init=False)
    _events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    _end: End | None = None
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    def __post_init__(self) -> None:
        job = self.job
        self._faults = {one.use.name: _Going(one) for one in job.faults}
        self.looks = Looks(
            job.drill, job.regions, job.readings, job.outlook.standing, lambda: job.traffic.arrived, job.put, Times()
        )
        self.machine = Machine(
            Script(
                faults=tuple(course(one) for one in job.faults),
                steady_within=job.drill.steady.within,
                goals=self.looks.goals,
                promises=tuple(str(one) for one in job.drill.meanwhile),
                hold=job.drill.hold,
            )
        )

    async def run(self) -> Ended:
        """From the proof of the steady state to the verdict. A cancellation is taken for an abort, and answered when all is
        restored."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._rescued(), name="drill")
            while not work.done():
                try:
                    await asyncio.wait({work})
                except asyncio.CancelledError:
                    self.interrupted = True
                    self._events.put_nowait(Stop("interrupted"))
                    current = asyncio.current_task()
                    assert current is not None
                    current.uncancel()
        if self._end is None:
            raise asyncio.CancelledError  # the loop itself is ending; the watchdog sees that we are gone
        left = tuple(name for name, fate in self.machine.fates.items() if not fate.over or fate is Fate.NOT_RESTORED)
        return Ended(verdict=self._end.verdict, reason=self._end.reason, interrupted=self.interrupted, left=left)

    async def _rescued(self) -> None:
        """A bug of ours ends the drill, and leaves nothing broken behind it."""
        try:
            await self._work()
        except Exception:
            for name, going in self._faults.items():
                if not self.machine.fates[name].over and (entry := await self._entry(going)) is not None:
                    _log.error("%s is put back after a bug of ours: %s", name, (await self._undo(going, entry)).state)
            raise

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            watching = self._group.create_task(self._watch_guard(), name="watching the watchdog")
            self._step(Ready())
            next_look = self._now
            while self._end is None:
                due = min(next_look, self.machine.due or next_look)
                try:
                    async with asyncio.timeout(max(_LEAST, (due - self._now) / NS)):
                        event = await self._events.get()
                except TimeoutError:
                    event = self._look()
                    next_look = self._now + _LOOK
                self._step(event)
            watching.cancel()
            for going in self._faults.values():
                if going.task is not None:
                    going.task.cancel()

    @property
    def _now(self) -> int:
        return self.job.clock.now()

    def _look(self) -> Looked:
        try:
            self.looked = self.looks.look(self.machine.phase, self._now)
        except Exception as bug:  # a bug of ours must not keep a fault in place
            _log.exception("the conditions could not be read")
            self.looked = Looked(Told(None), abort=f"the conditions could not be read: {type(bug).__name__}: {bug}")
        return self.looked

    def _step(self, event: Event) -> None:
        for do in self.machine.on(event, self._now):
            self._do(do)
        try:
            self.job.told(self)
        except Exception:  # who draws it must not end it
            _log.exception("how the drill goes could not be shown")

    def _do(self, do: Do) -> None:
        match do:
            case Enter():
                self.job.put(Entered(at=self._now, phase=do.phase, why=do.why))
            case Announce():
                self._group.create_task(self._announce(), name="announcing")
            case Inject():
                going = self._faults[do.fault]
                going.task = self._group.create_task(self._break(going), name=f"injecting {do.fault}")
            case Restore():
                going = self._faults[do.fault]
                self._group.create_task(self._mend(going, do.why), name=f"restoring {do.fault}")
            case Recover():
                self.looks.times.restored = do.at
            case End():
                self._end = do
            case _:
                assert_never(do)

    # -- what is done

    async def _announce(self) -> None:
        failed = await self.job.announce()
        if not failed:
            self.job.put(ActionSeen(at=self._now, who=self.job.drill.owner, words="announced"))
        self._events.put_nowait(Announced(failed))

    async def _watch_guard(self) -> None:
        """Who is to undo it for us must be awake as long as anything may be broken."""
        await self.job.guard.died.wait()
        if self.machine.phase is Phase.RECOVERY:
            _log.warning("the watchdog died (%s), with nothing left for it to do", self.job.guard.why or "unknown")
            return
        self._events.put_nowait(Stop(f"the watchdog died ({self.job.guard.why or 'unknown'}): nobody would undo it for us"))

    async def _break(self, going: _Going) -> None:
        """Will, inject, and look until told otherwise."""
        name, ready = going.ready.use.name, going.ready
        try:
            io = await self._will(going)
            self._did(going, Did.WILL)
            self._broken(name)
            self._did(going, Did.INJECTING)
            await ready.fault.inject(ready.prepared.record, io)
        except Exception as error:  # whatever it did by then is put back
            words = self._words(error)
            self._did(going, Did.FAILED, f"to be injected: {words}")
            self._events.put_nowait(Injected(name, failed=words))
            return
        if self.machine.fates[name] is not Fate.WILLED:  # it would not be cancelled, and is put back already
            return
        self._did(going, Did.INJECTED)
        self._events.put_nowait(Injected(name))
        await self._observe(going, io)

    async def _will(self, going: _Going) -> FaultIO:
        """On disk before it comes back. Once begun it is not given up halfway: what may be in the ledger must be known."""
        ready, job = going.ready, self.job
        expires = job.boot.now() + course(ready).inject_within + ready.use.lasts + SPARE
        going.willing = asyncio.get_running_loop().run_in_executor(
            None, job.ledger.will, ready.use.name, ready.use.fault, ready.prepared, ready.token, expires
        )
        await asyncio.shield(going.willing)
        return FaultIO(clock=job.clock, token=ready.token, expires=expires, redactor=job.redactor, clients=job.traffic)

    def _broken(self, name: str) -> None:
        """From this moment on what happens may be the fault's doing."""
        if self.looks.times.broken is None:
            self.looks.times.broken = now = self._now
            self.looks.times.played = self.job.readings.audience(self.job.drill.regions, now)
            self.job.outlook.injecting(now)
        self.job.traffic.cut_began(name)

    async def _observe(self, going: _Going, io: FaultIO) -> None:
        ready, seen = going.ready, False
        last = ""
        while True:
            found = await self._glance(ready, io)
            self._events.put_nowait(Seen(ready.use.name, found.state, found.detail))
            if found.state is State.INJECTED and not seen:
                seen = True
                self._did(going, Did.SEEN_INJECTED, found.detail)
                await self._noted(going)
            if found.detail != last and found.state is not State.INJECTED:
                _log.info("%s: seen %s: %s", ready.use.name, found.state, self.job.redactor.redact(found.detail))
                last = found.detail
            await asyncio.sleep(_HELD if seen else _POLL)

    async def _glance(self, ready: Prepared, io: FaultIO) -> Observed:
        try:
            async with asyncio.timeout(_GLANCE):
                return await ready.fault.observe(ready.prepared.record, io)
        except Exception as error:  # observe raises nothing, but by a bug or at its bound
            return Observed(State.UNKNOWN, self._words(error))

    async def _noted(self, going: _Going) -> None:
        assert going.willing is not None
        try:
            async with asyncio.timeout(_DISK):
                await asyncio.to_thread(self.job.ledger.injected, going.willing.result())
        except (NotKept, TimeoutError) as error:  # what undoes it stands in the ledger all the same
            _log.warning("the ledger could not be told that %s is injected: %s", going.ready.use.name, error)

    async def _mend(self, going: _Going, why: str) -> None:
        """Put it back, whatever was done by now."""
        name = going.ready.use.name
        if going.task is not None:
            going.task.cancel()
            await asyncio.wait({going.task}, timeout=_GLANCE)
        entry = await self._entry(going)
        if entry is None:
            self._events.put_nowait(Undone(name, "restored", self._now, "it was never begun"))
            return
        self._did(going, Did.RESTORING, why)
        done = await self._undo(going, entry)
        at = self._now if done.seen is None else done.seen
        if done.state is Outcome.FAILED:
            self._did(going, Did.FAILED, f"to be restored: {done.detail}", by=done.by)
        else:
            did = Did.SEEN_RESTORED if done.state is Outcome.RESTORED else Did.GONE
            self._did(going, did, done.detail, by=done.by, at=at)
            self.job.traffic.restored(name, at, done.began)
        self._events.put_nowait(Undone(name, str(done.state), at, done.detail))

    async def _undo(self, going: _Going, entry: Entry) -> Ending:
        job = self.job
        return await undo(
            entry, job.ledger, clock=job.clock, redactor=job.redactor, clients=job.traffic, bound=job.bound,
            fault=lambda _: going.ready.fault,
        )  # fmt: skip

    async def _entry(self, going: _Going) -> Entry | None:
        """As it stands in the ledger; None where it never came to stand there, so that nothing was touched."""
        if going.willing is None:
            return None
        with suppress(NotKept, TimeoutError, KeyError):
            async with asyncio.timeout(_DISK):
                return self.job.ledger.entry(await asyncio.shield(going.willing))
        return None

    def _did(self, going: _Going, did: Did, detail: str = "", *, by: str = "runner", at: int | None = None) -> None:
        ready = going.ready
        self.job.put(
            FaultDid(
                at=self._now if at is None else at,
                fault=ready.use.name,
                kind=ready.use.fault,
                did=did,
                targets=ready.prepared.targets,
                detail=self.job.redactor.redact(" ".join(detail.split()))[:_WORDS],
                by=by,
            )
        )

    def _words(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        return self.job.redactor.redact(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:_WORDS]


def course(ready: Prepared) -> Course:
    """A prepared fault's way through the drill."""
    record: Mapping[str, object] = ready.prepared.record
    return Course(
        name=ready.use.name,
        at=ready.use.at,
        lasts=ready.use.lasts,
        inject_within=_said(record, "inject_within", INJECT_WITHIN),
        seen_within=_said(record, "seen_within", SEEN_WITHIN),
        returns=ready.prepared.klass is Klass.IRREVERSIBLE,
    )


def _said(record: Mapping[str, object], key: str, default: int) -> int:
    value = record.get(key)
    return max(default, value) if isinstance(value, int) and not isinstance(value, bool) else default
