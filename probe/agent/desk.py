"""The agent as its HTTP service sees it: probes on demand, the gates' last words, what is not well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from probe.agent.agent import Agent
from probe.agent.conclude import Concluded
from probe.agent.handed import Handed, Unfit
from probe.agent.runs import Runs
from probe.agent.service.view import GateState, Planned, Probed, Refusal, Refused
from probe.clock import SystemClock
from probe.drivers.table import phases
from probe.export.compared_words import headline
from probe.export.families import Families
from probe.export.prometheus import MetricsSink
from probe.judge.hold import Override
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.plan import Plan
from probe.store.reader import Records
from probe.version import VERSION

Trouble = Callable[[], Sequence[str]]
_REMEMBERED = 1000  # runs taken, until the database has them
_STUCK = 30 * NS  # without a look at the schedule


class Desk:
    """`troubles` ask the parts that an agent cannot work without; each answers in words, or with nothing."""

    def __init__(
        self, agent: Agent, runs: Runs, metrics: MetricsSink, records: Records, clock: SystemClock, troubles: Sequence[Trouble]
    ) -> None:
        self._agent, self._runs, self._metrics, self._clock = agent, runs, metrics, clock
        self._troubles = troubles
        self._probing = asyncio.Semaphore(1)  # one beside the schedule: measurements are not to disturb each other
        self._taken: dict[str, None] = {}
        self.records = records

    @property
    def registry(self) -> CollectorRegistry:
        return self._metrics.registry

    @property
    def figures(self) -> Families:
        return self._metrics.figures

    def about(self) -> Mapping[str, str]:
        loaded = self._agent.loaded
        return {"agent": loaded.config.agent, "region": loaded.region, "version": VERSION}

    def not_ready(self) -> Sequence[str]:
        ending = ["it is ending"] if self._agent.ending else []
        refused = [f"the configuration is not taken: {why}" for why in self._agent.configuration.refused]
        return [*ending, *refused, *(why for trouble in self._troubles for why in trouble())]

    def not_alive(self) -> str:
        since = self._clock.now() - self._agent.looked
        return f"nothing was scheduled for {since / NS:.0f} s" if since > _STUCK and not self._agent.ending else ""

    async def reload(self) -> Sequence[str]:
        return await self._agent.reload()

    def gates(self, name: str, region: str) -> Sequence[GateState]:
        return self._agent.gates.gates.states(name, region)

    def override(self, name: str, region: str, override: Override | None) -> bool:
        return self._agent.gates.override(name, region, override)

    def schedules(self) -> Sequence[Planned]:
        upcoming, held, running = self._agent.upcoming(), self._agent.held_back(), self._runs.running
        return [
            Planned(
                name,
                p.scenario.name,
                p.settings.words,
                upcoming.get(name),
                held.get(name, ""),
                running[p.scenario.name],
                *self._release(p.scenario.name),
            )
            for name, p in self._agent.loaded.schedules.items()
        ]

    def _release(self, scenario: str) -> tuple[str, int, str]:
        """Which, since when, and what runs since are against those before."""
        releases = self._agent.releases
        changed, found = releases.changed(scenario), releases.compared.get(scenario)
        if changed is None:
            return "", 0, ""
        return changed.after, changed.at if changed.before else 0, "" if found is None else headline(found)

    async def take(self, handed: Handed) -> bool | Refused:
        if handed.run_id in self._taken or await self.records.run(handed.run_id) is not None:
            return False
        if handed.schedule not in self._agent.loaded.schedules:
            known = ", ".join(sorted(self._agent.loaded.schedules))
            return Refused(Refusal.UNKNOWN_SCENARIO, f"there is no schedule of that name; there are {known}")
        self._taken[handed.run_id] = None  # from now on: who gets no answer in time asks again
        if len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]
        try:
            await self._agent.take(handed)
        except Unfit as unfit:
            del self._taken[handed.run_id]
            return Refused(Refusal.UNFIT, str(unfit))
        return True

    async def probe(self, scenario: str, target: str, within: float | None) -> Probed | Refused:
        loaded = self._agent.loaded
        name = next((n for n, p in loaded.schedules.items() if scenario in (n, p.scenario.name)), None)
        if name is None:
            known = ", ".join(sorted(loaded.schedules))
            return Refused(Refusal.UNKNOWN_SCENARIO, f"there is no scenario of that name; there are {known}")
        deadline = loaded.schedules[name].deadline / NS
        if within is not None and deadline > within:
            words = (
                f"a run may take {deadline:g} s, and the scrape waits {within:g} s: raise scrape_timeout, or lower deadlines.run"
            )
            return Refused(Refusal.LONGER_THAN_THE_SCRAPE, words)
        job = self._agent.job(name, 0)
        job = replace(job, plan=replace(job.plan, mode="adhoc"))
        if target:
            if _origin(target) not in {*loaded.config.targets, *(p.scenario.platform.url for p in loaded.schedules.values())}:
                return Refused(Refusal.TARGET_NOT_LISTED, "the target is not listed; add its origin to targets in agent.yaml")
            job = replace(job, plan=_aimed(job.plan, target))
        if self._probing.locked():
            return Refused(Refusal.BUSY, "another probe is under way; ask again when it is over")
        async with self._probing:
            metrics = MetricsSink()
            await asyncio.to_thread(metrics.declare, job.plan, phases())
            began = self._clock.now()
            concluded = await self._runs.run(job, metrics)
            return _probed(job.plan, concluded, (self._clock.now() - began) / NS, metrics)


def _probed(plan: Plan, concluded: Concluded | None, duration: float, metrics: MetricsSink) -> Probed:
    verdict = Verdict.INCONCLUSIVE if concluded is None else concluded.judgement.result
    success = {Verdict.PASS: True, Verdict.WARN: True, Verdict.FAIL: False}.get(verdict)
    cause = "" if concluded is None else concluded.record.cause
    return Probed(plan.run_id, verdict.value, success, cause, duration, metrics.registry)


def _origin(target: str) -> str:
    try:
        parts = urlsplit(target)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if not parts.query and not parts.fragment else ""


def _aimed(plan: Plan, target: str) -> Plan:
    """The plan against another platform; who gets its secrets is still said by their origins."""
    return replace(plan, platform_url=target.rstrip("/"))
