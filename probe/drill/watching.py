"""Who noticed: the scenario's own gates on this drill's traffic, and the alerts of Alertmanager and Prometheus.

An alert or a gate is this drill's own where it began to fire after the injection, in a region of the drill (or for its scenario
everywhere), and not for another scenario. Whatever else fires is not: what fired before anything was touched, what fires
elsewhere. A page of that kind is a real incident, which no drill is to stand in the way of.

Its resolution is that of the questions: an alert is seen when it is next asked for (`every`), never at the instant it fired.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType

from probe.decide.asking import Away, session
from probe.drill.alerts import Asked, Firing
from probe.drill.core.facts import AlertChanged, DrillFact
from probe.drill.core.file import Drill
from probe.drill.core.gating import Gating
from probe.drill.core.spending import Spending
from probe.drill.sources import Source, Sources
from probe.judge.fold import fold
from probe.model.clock import NS, Clock
from probe.model.observation import Observation, RunBegan, RunEnded
from probe.net.redact import Redactor
from probe.plan import Plan

_log = logging.getLogger(__name__)
_LOOK = 0.5  # s between two looks at the gates
Question = Callable[[], Awaitable[frozenset[Firing]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known now. `incidents`: pages that are not this drill's, in words. `silent`: why a source that was named says
    nothing, empty where all do; before injecting, that is a reason to refuse. `named`: whether any source of alerts was named.
    `closed`: (gate, region) that are closed. `budget`: spent by this drill so far, by objective."""

    incidents: tuple[str, ...] = ()
    silent: str = ""
    named: bool = False
    closed: frozenset[tuple[str, str]] = frozenset()
    budget: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Heard:
    """What one source said last; `away`: why it says nothing."""

    firing: frozenset[Firing] = frozenset()
    away: str = "has not been asked yet"


class Watching:
    """An async context for as long as the drill lasts. `put` receives AlertChanged facts. `stays`: run ids of those held
    open, which no schedule makes: gates and budget go by the others. `regions`: how many the scenario has, with traffic or
    not."""

    def __init__(
        self,
        drill: Drill,
        plans: Mapping[str, Plan],
        *,
        clock: Clock,
        put: Callable[[DrillFact], None],
        redactor: Redactor,
        stays: Collection[str],
        sources: Sources = Sources(),  # noqa: B008  # frozen
        regions: int = 0,
    ) -> None:
        self._scenario = next((plan.scenario for plan in plans.values()), drill.scenario)
        self._regions = frozenset(drill.regions or plans)
        self._clock, self._put, self._redactor, self._sources = clock, put, redactor, sources
        self._gating, self._spending = Gating(plans), Spending(plans, regions)
        self._heard: dict[str, _Heard] = {}
        self._before: set[Firing] = set()  # what fired when nothing was touched yet, until it is over
        self._runs: defaultdict[str, list[Observation]] = defaultdict(list)
        self._stays = frozenset(stays)
        self._injecting: int | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Watching:
        """Asks every source once; what it answers stands in `standing`."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(session())
            asked = dict(self._questions(client))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            async with asyncio.TaskGroup() as once:
                for name, (_, question) in asked.items():
                    once.create_task(self._ask(name, question))
            tasks = [
                group.create_task(self._asking(name, source, question), name=f"alerts of {name}")
                for name, (source, question) in asked.items()
            ]
            tasks.append(group.create_task(self._looking(), name="gates of the drill"))
            for task in tasks:
                stack.callback(task.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    # -- what it is told

    def saw(self, observation: Observation) -> None:
        """Every observation of every run of the drill, as it is made."""
        if observation.run in self._stays:
            return
        if isinstance(observation, RunBegan):
            self._gating.began(observation.region, observation.at)
        facts = self._runs[observation.run]
        facts.append(observation)
        if isinstance(observation, RunEnded):
            del self._runs[observation.run]
            self._ended(facts)

    def _ended(self, facts: list[Observation]) -> None:
        if not any(isinstance(fact, RunBegan) for fact in facts):
            return
        result = fold(facts)
        self._gating.ended(result)
        if self._injecting is not None and result.ended is not None and result.ended > self._injecting:
            self._spending.ended(result)

    def injecting(self, at: int) -> None:
        """From here on what begins to fire in the drill's regions is its own."""
        self._injecting = at if self._injecting is None else self._injecting

    # -- what it says

    def standing(self) -> Standing:
        """What is known by now. Reads no server."""
        firing = frozenset(one for heard in self._heard.values() for one in heard.firing)
        strange = [one for one in sorted(firing) if one.pages and not self._ours(one)]
        silent = [f"{name} {heard.away}" for name, heard in self._heard.items() if heard.away]
        time = self._clock.now() - self._injecting if self._injecting is not None else 0
        return Standing(
            incidents=tuple(_words(one) for one in strange),
            silent="; ".join(silent),
            named=bool(self._heard),
            closed=self._gating.closed() | {(one.gate, one.region) for one in firing if one.gate},
            budget={one.objective.name: one.share for one in self._spending.spent(time) if one.share is not None},
        )

    def _ours(self, one: Firing) -> bool:
        """Who names neither a region of ours nor our scenario may be anybody's: rather stop once too often."""
        here = one.region in self._regions or (one.region in ("", "all") and one.scenario == self._scenario)
        return self._injecting is not None and one not in self._before and here and one.scenario in ("", self._scenario)

    # -- asking

    def _questions(self, client: object) -> Mapping[str, tuple[Source, Question]]:
        found: dict[str, tuple[Source, Question]] = {}
        for name in ("alertmanager", "prometheus"):
            source: Source | None = getattr(self._sources, name)
            if source is not None:
                found[name] = (source, getattr(Asked(source, client, self._redactor), name))  # type: ignore[arg-type]
                self._heard[name] = _Heard()
        return found

    async def _asking(self, name: str, source: Source, question: Question) -> None:
        while True:
            await asyncio.sleep(source.every / NS)
            await self._ask(name, question)

    async def _ask(self, name: str, question: Question) -> None:
        """A source that is away says nothing new: what fired goes on firing until it is seen not to."""
        heard = self._heard[name]
        try:
            firing = await question()
        except Away as away:
            heard.away = f"says nothing: {self._redactor.redact(str(away))}"
            return
        except Exception as bug:  # a bug of ours must not end a drill between injecting and restoring
            _log.exception("%s could not be asked", name)
            heard.away = f"says nothing: {type(bug).__name__}"
            return
        before, heard.firing, heard.away = heard.firing, firing, ""
        if self._injecting is None:
            self._before |= firing
        for one in sorted(firing - before):
            self._tell(one, firing=True)
        for one in sorted(before - firing):
            self._tell(one, firing=False)
            self._before.discard(one)

    def _tell(self, one: Firing, *, firing: bool) -> None:
        self._put(
            AlertChanged(
                at=self._clock.now(),
                source=one.source,
                name=one.name,
                firing=firing,
                severity=one.severity,
                region=one.region,
                owner=one.owner,
                ours=self._ours(one),
            )
        )

    async def _looking(self) -> None:
        while True:
            for change in self._gating.look(self._clock.now()):
                here = self._injecting is not None and change.region in self._regions
                self._put(replace(change, ours=here))
            await asyncio.sleep(_LOOK)


def _words(one: Firing) -> str:
    where = f" in {one.region}" if one.region else ""
    return f"{one.name} ({one.severity}){where}, told by {one.source}"
