"""The agent: the schedule is asked what is due, workers make it, and everything else is watched.

One task loop, which is to stay under 50 ms of lag whatever a run does: runs are other processes, judging and rendering are
threads, the store and the collector are behind queues on disk. What fails here and now (a database that is away, a collector
that hangs) is a figure in the metrics and a line in the log, never a run that is not made.

A new configuration is taken whole or not at all, while runs go on (reload.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from probe.agent.conclude import Concluded
from probe.agent.figures import AgentFigures
from probe.agent.gate_watch import GateWatch
from probe.agent.handed import Handed, fitted
from probe.agent.job import Job
from probe.agent.loading import Loaded
from probe.agent.releases import COMPARED, EVENT, ReleaseWatch, noted
from probe.agent.reload import Configuration
from probe.agent.runs import Runs
from probe.agent.schedule import Entry, Room, Schedule
from probe.clock import SystemClock
from probe.export.compared_words import headline
from probe.judge.compare_release import since_release
from probe.model.clock import NS
from probe.model.ids import uuid7
from probe.net.redact import Redactor
from probe.store.records import Event, Record

_log = logging.getLogger(__name__)
_NAP = 1.0  # s at most between looks at the schedule: the clock may be stepped
_BEAT, _BEATS = 0.05, 10  # s between looks at our own lag, and how many of them make one figure
_STEP = NS // 2  # of the system clock; less is drift


class Agent:
    """Runs until cancelled. `figures` have been declared for the configuration."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        runs: Runs,
        figures: AgentFigures,
        put: Callable[[Record], object],
        clock: SystemClock,
        rng: random.Random,
        redactor: Redactor | None = None,
    ) -> None:
        self.configuration = configuration
        self._runs, self._figures, self._put = runs, figures, put
        self._clock, self._rng = clock, rng
        loaded = configuration.loaded
        self._schedule = Schedule(_entries(loaded), agent=loaded.config.agent, now=clock.system(), rng=rng)
        self._reloading = asyncio.Lock()
        self._news = asyncio.Event()
        self._under_way: Counter[str] = Counter()  # by scenario
        self._bandwidth = 0
        self.looked = clock.now()  # at the schedule, last
        self.ending = False
        self.gates = GateWatch(
            lambda: self.loaded,
            figures=figures.metrics.figures,
            put=put,
            tell=self._event,
            clock=clock,
            redactor=redactor or Redactor(),
        )
        self.releases = ReleaseWatch(figures.metrics.figures, loaded.region)
        self._count_slots()
        figures.began(clock.system())
        figures.taken(loaded, clock.system())

    @property
    def loaded(self) -> Loaded:
        """What is in force."""
        return self.configuration.loaded

    async def serve(self) -> None:
        """Schedule until cancelled; then every run is asked to end, and waited for (the pool bounds that)."""
        self._event("start", f"{len(self.loaded.schedules)} schedules")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_files(), name="files")
                group.create_task(self._watch_self(), name="lag and clock")
                group.create_task(self.gates.run(), name="gates")
                try:
                    while True:
                        try:
                            self._start_due(group)
                        except Exception:  # `/healthz` tells it if it stays; what runs goes on
                            _log.exception("the schedule could not be asked")
                            await asyncio.sleep(_NAP)
                        await self._rest()
                finally:
                    self.ending = True
        finally:
            self._event("stop", "")

    async def once(self) -> list[Concluded | None]:
        """Every schedule once, as many at a time as the budget has room for and no two of one scenario. Windows and blackouts are
        not asked: whoever wants it once does the scheduling. None: a run that came to nothing."""
        waiting = dict(self.loaded.schedules)
        runs = []
        async with asyncio.TaskGroup() as group:
            while waiting:
                room, running = self._room(), self._running()
                for name, prepared in list(waiting.items()):
                    fits = room.runs > 0 and (room.bandwidth is None or prepared.bandwidth <= room.bandwidth)
                    if fits and prepared.scenario.name not in running:
                        del waiting[name]
                        runs.append(self._begin(group, name, 0))
                        room, running = self._room(), self._running()
                self._news.clear()
                if waiting:
                    await self._news.wait()
        await self.gates.act()
        return [run.result() for run in runs]

    async def reload(self) -> tuple[str, ...]:
        """Read the files again, and take what they say whole or not at all. Returns why not; nothing where it is in force."""
        async with self._reloading:
            loaded = await self.configuration.renewed()
            if loaded is None:
                refused = self.configuration.refused
                self._figures.refused()
                _log.error("the configuration is not taken: %s", "; ".join(refused))
                self._event("reload", "refused: " + "; ".join(refused))
                return refused
            await asyncio.to_thread(self._figures.declare, loaded)
            self._figures.count(self._schedule)
            self.configuration.loaded = loaded
            self._schedule.replace(_entries(loaded), self._clock.system())
            self._figures.count(self._schedule)
            self._figures.taken(loaded, self._clock.system())
            self.gates.taken()
            self._windows_begin()
            self._event("reload", f"taken: {len(loaded.schedules)} schedules")
            _log.info("the configuration is taken: %d schedules", len(loaded.schedules))
            self._news.set()
            return ()

    def held_back(self) -> Mapping[str, str]:
        """Schedules that are due and held back, and by what."""
        return self._schedule.waiting()

    def upcoming(self) -> Mapping[str, int | None]:
        """When each schedule's next run is to start, Unix ns; None where none is to come."""
        return self._schedule.upcoming()

    def job(self, name: str, due: int) -> Job:
        """The next run of a schedule; `due` Unix ns, 0 where nobody planned it."""
        loaded, workers = self.loaded, self.loaded.config.workers
        return Job(
            plan=loaded.plan(name, self._clock.system(), self._rng),
            schedule=name,
            due=due,
            deadline=loaded.schedules[name].deadline,
            memory=workers.memory,
            state=loaded.state,
        )

    # -- the schedule

    def _start_due(self, group: asyncio.TaskGroup) -> None:
        for due in self._schedule.due(self._clock.system(), self._running(), self._room()):
            self._begin(group, due.name, due.slot)
            self._figures.late(self.loaded.schedules[due.name].scenario.name, due.late / NS)
        self._figures.count(self._schedule)
        self._count_slots()
        self.looked = self._clock.now()

    def _room(self) -> Room:
        """What of the budget is free, beside what somebody asked for too. A run without a worker would wait for one, and be late
        without a word."""
        budget, workers = self.loaded.config.budget, self.loaded.config.workers
        bandwidth = None if budget.bandwidth is None else budget.bandwidth - self._bandwidth
        busy = max(self._under_way.total(), self._runs.running.total())
        return Room(min(budget.runs, workers.count) - busy, bandwidth)

    def _running(self) -> set[str]:
        """Scenarios of the runs under way, those that somebody asked for included."""
        return {scenario for scenario, count in (self._under_way + self._runs.running).items() if count}

    def _begin(self, group: asyncio.TaskGroup, name: str, slot: int) -> asyncio.Task[Concluded | None]:
        prepared = self.loaded.schedules[name]
        self._under_way[prepared.scenario.name] += 1
        self._bandwidth += prepared.bandwidth
        task = group.create_task(self._made(name, slot), name=f"run {name}")
        task.add_done_callback(lambda _: self._ended(prepared.scenario.name, prepared.bandwidth))
        return task

    def _ended(self, scenario: str, bandwidth: int) -> None:
        self._under_way[scenario] -= 1
        self._bandwidth -= bandwidth
        self._news.set()

    async def _made(self, name: str, slot: int) -> Concluded | None:
        """A run, to its end. A bug on the way is this run's."""
        try:
            job = self.job(name, slot)
        except Exception:
            _log.exception("no run of %s could be planned", name)
            self._figures.broken(self.loaded.schedules[name].scenario.name)
            return None
        try:
            concluded = await self._runs.run(job)
            await self._heed(name, job.due, concluded)
            return concluded
        except Exception:
            _log.exception("run %s broke the agent's part of it", job.plan.run_id)
            return None

    async def take(self, handed: Handed) -> None:
        """A run of a schedule of ours that was made elsewhere, to its end. Raises Unfit."""
        job = self.job(handed.schedule, 0)
        job = await asyncio.to_thread(fitted, handed, job, self._clock.system(), self._clock)
        await self._heed(handed.schedule, 0, await self._runs.take(job, handed))

    async def _heed(self, name: str, due: int, concluded: Concluded | None) -> None:
        """What it means for what is watched over many runs."""
        if concluded is not None:
            self._released(concluded)
            self.gates.ran(name, concluded.parts, due)
            await self._compare_releases(concluded)

    def remember_releases(self, events: Sequence[Event]) -> None:
        """What a life before this one recorded of releases, newest first."""
        self.releases.remember(events)
        self._windows_begin()

    def _released(self, concluded: Concluded) -> None:
        """A release of the platform that was not there before is an event, and gates that ask for that begin their windows."""
        for scenario, changed in self.releases.seen(concluded.figures):
            words = f"{changed.before} → {changed.after}" if changed.before else f"{changed.after}, the first that was seen"
            _log.info("%s: release %s", scenario, words)
            self._event(EVENT, words, subject=scenario, data={**noted(changed), "run_id": concluded.record.run_id})
            self._windows_begin()

    async def _compare_releases(self, concluded: Concluded) -> None:
        """In a thread: it is arithmetic of a second at worst."""
        for scenario in self.releases.due(concluded.figures):
            found = await asyncio.to_thread(since_release, *self.releases.sides(scenario))
            if found is not None:
                self.releases.looked(scenario, found)
                data = {"change": found.change.value, "runs_before": found.runs_before, "runs_after": found.runs_after}
                self._event(COMPARED, headline(found), subject=scenario, data=data)

    def _windows_begin(self) -> None:
        """Of gates that ask for that: with the last release."""
        for name, prepared in self.loaded.schedules.items():
            changed = self.releases.changed(prepared.scenario.name)
            if changed is not None and changed.before:
                self.gates.released(name, changed.at)

    def _count_slots(self) -> None:
        """What was due, for coverage: all slots but those in which nothing was to start."""
        slots, missed = self._schedule.slots, self._schedule.missed
        self.gates.due({name: slots[name] - missed[name, "blackout"] for name in self.loaded.schedules})

    def past(self, name: str, since: int, until: int) -> list[int]:
        """The slots of a schedule between two moments, Unix ns."""
        return self._schedule.past(name, since, until)

    async def _rest(self) -> None:
        """Until something is due, or there is news."""
        at = self._schedule.next_at()
        wait = _NAP if at is None else min(_NAP, max(0.0, (at - self._clock.system()) / NS))
        self._news.clear()
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            pass

    # -- beside it

    async def _watch_files(self) -> None:
        while True:
            await self.configuration.changed()
            await self.reload()

    async def _watch_self(self) -> None:
        """How late this loop is with what it was to do at a moment: whoever makes it late spoils no run, but the schedule."""
        while True:
            worst = 0.0
            for _ in range(_BEATS):
                before = self._clock.now()
                await asyncio.sleep(_BEAT)
                worst = max(worst, (self._clock.now() - before) / NS - _BEAT)
            self._figures.lag(worst)
            self._follow_clock()

    def _follow_clock(self) -> None:
        """Records and telemetry are dated by the system's clock for as long as we live, steps and all. Measurements are the
        workers', each with a clock as old as its run."""
        if abs(stepped := self._clock.stepped_ns()) > _STEP:
            self._clock.anchor()
            words = f"the system clock was stepped by {stepped / NS:+.1f} s"
            _log.warning("%s", words)
            self._event("clock", words)

    def _event(
        self,
        kind: str,
        why: str,
        *,
        subject: str = "",
        region: str = "",
        who: str = "",
        data: Mapping[str, object] | None = None,
        event_id: str = "",
    ) -> None:
        """`subject` and `region` are the agent's where they are not given. One of an `event_id` is kept once."""
        self._put(
            Event(
                event_id=event_id or uuid7(self._clock.system() // 1_000_000, random.SystemRandom()),
                at_ns=self._clock.system(),
                agent=self.loaded.config.agent,
                kind=kind,
                subject=subject or self.loaded.config.agent,
                region=region or self.loaded.region,
                who=who,
                why=why,
                data=data or {},
            )
        )


def _entries(loaded: Loaded) -> list[Entry]:
    return [prepared.entry for prepared in loaded.schedules.values()]
