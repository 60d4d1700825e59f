"""The agent: the schedule is asked what is due, workers make it, and everything else is watched.

One task loop, which is to stay under 50 ms of lag whatever a run does: runs are other processes, judging and rendering are
threads, the store and the collector are behind queues on disk. What fails here and now (a database that is away, a collector
that hangs) is a figure in the metrics and a word in `/readyz`, never a run that is not made.

A new configuration is taken whole or not at all, while runs go on; what cannot change under a running agent (its identity, its
addresses, its processes) is refused with the word restart.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping

from probe.agent.conclude import Concluded
from probe.agent.gates import gate_states
from probe.agent.job import Job
from probe.agent.loading import Loaded, fingerprint
from probe.agent.runs import Runs
from probe.agent.schedule import Entry, Room, Schedule
from probe.agent.service.view import GateState
from probe.clock import SystemClock
from probe.drivers.table import table
from probe.errors import ConfigError
from probe.export.prometheus import MetricsSink
from probe.model.clock import NS
from probe.model.ids import uuid7
from probe.store.records import Event, Record

_log = logging.getLogger(__name__)
_NAP = 1.0  # s at most between looks at the schedule: the clock may be stepped
_LOOK = 5.0  # s between looks at the files
_BEAT = 0.5  # s between looks at our own lag
FIXED = ("agent", "state", "listen", "web", "store", "telemetry", "workers")  # what a reload cannot change


class Agent:
    """Runs until cancelled. `read` reads the configuration again; it may raise ConfigError."""

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        *,
        runs: Runs,
        metrics: MetricsSink,
        put: Callable[[Record], object],
        clock: SystemClock,
        rng: random.Random,
    ) -> None:
        self.loaded = loaded
        self._read, self._runs, self._metrics, self._figures, self._put = read, runs, metrics, metrics.figures, put
        self._clock, self._rng = clock, rng
        self._schedule = Schedule(self._entries(loaded), agent=loaded.config.agent, now=clock.system(), rng=rng)
        self._told: Counter[tuple[str, str]] = Counter()
        self._news = asyncio.Event()
        self._bandwidth = 0
        self._under_way = 0
        self.looked = clock.now()  # at the schedule, last
        self.gates: dict[tuple[str, str, str], GateState] = {}  # by schedule, name and region
        self.refused: tuple[str, ...] = ()  # why the file's configuration is not in force
        self._declare(loaded)
        self._took()

    async def serve(self) -> None:
        """Schedule until cancelled; then every run is asked to end, and waited for (the pool bounds that)."""
        self._event("start", f"{len(self.loaded.schedules)} schedules")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_files(), name="files")
                group.create_task(self._watch_lag(), name="lag")
                while True:
                    self._start_due(group)
                    await self._rest()
        finally:
            self._event("stop", "")

    async def once(self) -> list[Concluded]:
        """Every schedule once, as many at a time as the budget has room for."""
        found: list[Concluded] = []
        slots = asyncio.Semaphore(self.loaded.config.budget.runs)

        async def one(name: str) -> None:
            async with slots:
                concluded = await self._runs.run(self.job(name, 0))
                if concluded is not None:
                    found.append(concluded)

        async with asyncio.TaskGroup() as group:
            for name in self.loaded.schedules:
                group.create_task(one(name), name=f"once {name}")
        return found

    async def reload(self) -> tuple[str, ...]:
        """Read the files again, and take what they say whole or not at all. Returns why not; nothing where it is in force."""
        try:
            loaded = await asyncio.to_thread(self._read)
            refused = tuple(
                f"{field} changes only with a restart" for field in FIXED if _of(loaded, field) != _of(self.loaded, field)
            )
        except ConfigError as error:
            refused = tuple(str(mistake) for mistake in error.mistakes)
        self.refused = refused
        if refused:
            self._figures.set("self_reload_success", {"region": self.loaded.region}, 0)
            _log.error("the configuration is not taken: %s", "; ".join(refused))
            self._event("reload", "refused: " + "; ".join(refused))
            return refused
        self.loaded = loaded
        self.gates = {key: state for key, state in self.gates.items() if key[0] in loaded.schedules}
        self._schedule.replace(self._entries(loaded), self._clock.system())
        self._declare(loaded)
        self._took()
        self._event("reload", f"taken: {len(loaded.schedules)} schedules")
        self._news.set()
        return ()

    def held_back(self) -> Mapping[str, str]:
        """Schedules that are due and held back, and by what."""
        return self._schedule.waiting()

    def upcoming(self) -> Mapping[str, int | None]:
        """When each schedule's next run is to start, Unix ns; None where none is to come."""
        return self._schedule.upcoming()

    # -- the schedule

    def _start_due(self, group: asyncio.TaskGroup) -> None:
        self.looked = self._clock.now()
        budget = self.loaded.config.budget
        room = Room(
            budget.runs - self._under_way, None if budget.bandwidth is None else budget.bandwidth - self._bandwidth
        )  # fmt: skip
        running = [scenario for scenario, count in self._runs.running.items() if count]
        for due in self._schedule.due(self._clock.system(), running, room):
            job = self.job(due.name, due.slot)
            self._under_way += 1
            self._bandwidth += self.loaded.schedules[due.name].bandwidth
            group.create_task(self._one(job, self.loaded.schedules[due.name].bandwidth), name=f"run {job.plan.run_id}")
            self._figures.observe("self_run_late_seconds", {"scenario": job.plan.scenario}, due.late / NS)
        self._count_schedule()

    async def _one(self, job: Job, bandwidth: int) -> None:
        scenario = {"scenario": job.plan.scenario}
        self._figures.set("self_runs_in_flight", scenario, self._runs.running[job.plan.scenario] + 1)
        try:
            if (concluded := await self._runs.run(job)) is not None:
                self._judged(gate_states(concluded, job, self.gates, self._clock.system()), job.plan.run_id)
        except Exception:
            _log.exception("run %s broke the agent's part of it", job.plan.run_id)
        finally:
            self._under_way -= 1
            self._bandwidth -= bandwidth
            self._figures.set("self_runs_in_flight", scenario, self._runs.running[job.plan.scenario])
            self._news.set()

    def _judged(self, states: Mapping[tuple[str, str, str], GateState], run_id: str) -> None:
        """What a run said of its gates holds from now on; where it is another word than before, that is an event."""
        for key, state in states.items():
            before = self.gates[key].result if key in self.gates else ""
            if state.result != before:
                data = {"from": before, "to": state.result, "value": state.value, "schedule": key[0], "run_id": run_id}
                self._event("gate", state.reason, subject=state.name, region=state.region, who=state.owner, data=data)
        self.gates |= states

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

    # -- the configuration

    async def _watch_files(self) -> None:
        seen = self.loaded.files
        while True:
            await asyncio.sleep(_LOOK)
            now = await asyncio.to_thread(fingerprint, list(self.loaded.files))
            if now == seen:
                continue
            seen = now
            if now != self.loaded.files:
                await self.reload()
            elif self.refused:  # what was refused has been put back as it was
                self.refused = ()
                self._took()

    async def _watch_lag(self) -> None:
        """How late this loop is with what it was to do at a moment: whoever makes it late spoils no run, but the schedule."""
        labels = {"region": self.loaded.region}
        while True:
            before = self._clock.now()
            await asyncio.sleep(_BEAT)
            self._figures.observe("self_agent_lag_seconds", labels, max(0.0, (self._clock.now() - before) / NS - _BEAT))

    def _entries(self, loaded: Loaded) -> list[Entry]:
        return [prepared.entry for prepared in loaded.schedules.values()]

    def _declare(self, loaded: Loaded) -> None:
        """Every series that these schedules can produce exists from now on, at 0."""
        phases = table().phases()
        for name, prepared in loaded.schedules.items():
            self._metrics.declare(loaded.plan(name, 0, random.Random(0)), phases)
            scenario = prepared.scenario.name
            self._figures.touch("self_runs_due_total", {"scenario": scenario})
            self._figures.set("self_runs_in_flight", {"scenario": scenario}, self._runs.running[scenario])
            for why in ("overlap", "budget", "blackout", "late"):
                self._figures.touch("self_runs_missed_total", {"scenario": scenario, "kind": why})

    def _took(self) -> None:
        region = {"region": self.loaded.region}
        self._figures.set("self_agent_info", region, 1)
        self._figures.set("self_reload_success", region, 1)
        self._figures.set("self_reload_time_seconds", region, self._clock.system() / NS)

    def _event(
        self,
        kind: str,
        why: str,
        *,
        subject: str = "",
        region: str = "",
        who: str = "",
        data: Mapping[str, object] | None = None,
    ) -> None:
        """`subject` and `region` are the agent's where they are not given."""
        self._put(
            Event(
                event_id=uuid7(self._clock.system() // 1_000_000, random.SystemRandom()),
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

    def _count_schedule(self) -> None:
        """What the schedule counted since it was last asked."""
        scenarios = {name: prepared.scenario.name for name, prepared in self.loaded.schedules.items()}
        counts = Counter({(name, ""): count for name, count in self._schedule.slots.items()}) + self._schedule.missed
        for (name, why), count in (counts - self._told).items():
            scenario = {"scenario": scenarios.get(name, name)}
            if why:
                self._figures.add("self_runs_missed_total", {**scenario, "kind": why}, count)
            else:
                self._figures.add("self_runs_due_total", scenario, count)
        self._told = counts


def _of(loaded: Loaded, name: str) -> object:
    return getattr(loaded.config, name)
