"""Agents to ask: one in this process, whose workers do as they are told, and one that is a process of its own."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from probe.agent.agent import Agent
from probe.agent.figures import AgentFigures
from probe.agent.job import CRASHED, Ended, Job
from probe.agent.reload import Configuration
from probe.agent.runs import Runs
from probe.agent.tally import Tally
from probe.cli.agent import read
from probe.clock import SystemClock
from probe.export.prometheus import MetricsSink
from probe.export.spans import Span
from probe.model.clock import NS
from probe.model.ids import trace_id
from probe.model.observation import (
    Observation,
    ReleaseSeen,
    Role,
    RunBegan,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StepBegan,
    StepDone,
)
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome
from probe.model.stage import Phase
from probe.net.redact import Redactor
from probe.store.records import Record, RunFinished
from probe.store.rows import RunRow
from tests.e2e.support import environment
from tests.export.collectors import Visiting
from tests.tools import ROOT, Child, spawn, wait_until

SESSIONS = (("publish", Role.PUBLISHER, "whip"), ("view", Role.VIEWER, "whep"))
KINDS = ("done", "failed", "skipped", "cancelled", "aborted")


def scenario(name: str = "one", journey: str = "{fake: done}", **more: str) -> str:
    """The text of a scenario of one step, which no platform is needed for."""
    extra = "".join(f"{key}: {value}\n" for key, value in more.items())
    return f"scenario: {name}\nowner: tests\nplatform: {{url: 'http://127.0.0.1:9'}}\n{extra}journey:\n  - step: {journey}\n"


def written(folder: Path, schedules: str, more: str = "", **scenarios: str) -> Path:
    """agent.yaml, and the scenarios that it names, in `folder`."""
    for name, text in (scenarios or {"one": scenario()}).items():
        (folder / f"{name}.yaml").write_text(text)
    file = folder / "agent.yaml"
    file.write_text(
        f"agent: test\nregion: local\nstate: {folder / 'state'}\nlisten: 127.0.0.1:0\n{more}\nschedules:\n{schedules}"
    )
    return file


class Clock(SystemClock):
    """`system` runs `rate` times as fast as time does, and can be stepped."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._zero, self._unix = time.monotonic_ns(), time.time_ns()
        super().__init__()

    def step(self, seconds: float) -> None:
        self._unix += round(seconds * NS)

    def system(self) -> int:
        return self._unix + round((time.monotonic_ns() - self._zero) * self.rate)

    def stepped_ns(self) -> int:
        return super().stepped_ns() if self.rate == 1.0 else 0


class Scripted:
    """Workers whose runs end as `how` says of each: done, failed, crash, hang (until it is cancelled), broken (a bug of ours)."""

    def __init__(self, clock: SystemClock, how: Callable[[Job], str]) -> None:
        self.clock, self.how = clock, how
        self.jobs: list[Job] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()  # at once, by scenario; "" for all
        self.took = 0.0
        self.release = ""  # of the platform, as its runs see it

    async def run(self, job: Job, put: Callable[[Observation], None]) -> Ended:
        self.jobs.append(job)
        for name in (job.plan.scenario, ""):
            self.running[name] += 1
            self.most[name] = max(self.most[name], self.running[name])
        tally = Tally(job.plan, put, self.clock)
        try:
            return await self._run(job, tally)
        except asyncio.CancelledError:
            tally.end(Cancelled())
            raise
        finally:
            for name in (job.plan.scenario, ""):
                self.running[name] -= 1

    async def _run(self, job: Job, tally: Tally) -> Ended:
        plan, how, count = job.plan, self.how(job), 0

        def say(fact: Observation) -> None:
            nonlocal count
            count += 1
            tally.put(replace(fact, run=plan.run_id, seq=count, at=self.clock.now()))

        wall = self.clock.wall()
        say(RunBegan(
            scenario=plan.scenario, mode=plan.mode, seed=plan.seed, publish_region=plan.publish_region, region=plan.region,
            run_number=plan.run_number, trace_id=trace_id(plan.run_number, plan.trace_low), span_id="1" * 16,
            wall_unix_ns=wall.unix_ns, wall_error_ns=None, target=plan.platform_url, probe_version="test",
        ))  # fmt: skip
        if self.release:
            say(ReleaseSeen(release=self.release))
        for number, (step, role, protocol) in enumerate(SESSIONS):
            say(SessionBegan(
                session=f"s{number}", step=step, name=step, role=role, protocol=protocol, device="default", region=plan.region,
                publish_region=plan.publish_region, join="mid_stream" if number else "", verify="code", buffered=False,
                optional=False, span_id=f"{number + 2:016x}", ingest="whip",
            ))  # fmt: skip
        if how == "hang":
            await asyncio.sleep(3600)
        if how == "broken":
            raise RuntimeError("a bug")
        if how == "crash":
            outcome: Outcome = Aborted(f"{CRASHED}signal 11")
            tally.end(outcome)
            return Ended(outcome=outcome, crashed="signal 11")
        await asyncio.sleep(self.took)
        for number in range(len(SESSIONS)):
            failed = how == "failed" and number == 1
            if not failed:
                say(SessionStarted(session=f"s{number}", took=NS // 10))
            ending: Outcome = Failed(Phase.SIGNAL, "http_404") if failed else Done()
            say(SessionEnded(session=f"s{number}", outcome=ending, ending="" if failed else "planned"))
        for one in plan.journey:
            say(StepBegan(step=one.name, kind=one.kind, service=one.service, span_id="9" * 16))
            say(StepDone(session=one.name, step=one.name, kind=one.kind, service=one.service, outcome=Done(), took=1))
        tally.end(Done())
        return Ended(outcome=Done())


@dataclass
class Stage:
    """An agent with scripted workers, and all that it lets out."""

    agent: Agent
    runs: Runs
    workers: Scripted
    metrics: MetricsSink
    clock: Clock
    file: Path
    records: list[Record]
    traces: list[Sequence[Span]] = field(default_factory=list)

    def total(self, name: str, **labels: str) -> float:
        return total(self.metrics.registry, name, **labels)

    def finished(self) -> list[RunFinished]:
        return [record for record in self.records if isinstance(record, RunFinished)]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """While the block lasts the agent schedules."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.agent.serve())
            try:
                yield
            finally:
                task.cancel()


def staged(
    folder: Path,
    schedules: str,
    more: str = "",
    how: Callable[[Job], str] = lambda _: "done",
    rate: float = 1.0,
    scenarios: Mapping[str, str] = {},
) -> Stage:
    """A Stage whose agent.yaml stands in `folder`."""
    file = written(folder, schedules, more, **scenarios)
    clock, metrics = Clock(rate), MetricsSink(CollectorRegistry())
    workers = Scripted(clock, how)
    records: list[Record] = []
    traces: list[Sequence[Span]] = []

    class Keeper:
        def put(self, record: Record) -> bool:
            records.append(record)
            return True

        def traces(self, spans: Sequence[Span], keep: bool) -> None:
            traces.append(spans)

    keeper = Keeper()
    configuration = Configuration(read(file), lambda: read(file), look=0.02)
    runs = Runs("test", workers, metrics, keeper, keeper, clock, Redactor())
    figures = AgentFigures(metrics, "local")
    figures.declare(configuration.loaded)
    agent = Agent(configuration, runs=runs, figures=figures, put=keeper.put, clock=clock, rng=random.Random(1))
    return Stage(agent, runs, workers, metrics, clock, file, records, traces)


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum over all series of a metric that have these labels."""
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"streamprobe_{name}" and labels.items() <= sample.labels.items()
    )


def became(rows: Iterable[RunRow | RunFinished]) -> Counter[str]:
    """Attempts by outcome, the tainted ones too, of all records."""
    found: Counter[str] = Counter()
    for row in rows:
        for kind in KINDS:
            found[kind] += row.attempts.get(kind, 0) + row.attempts.get(f"{kind}_tainted", 0)
    return +found


# -- as a process of its own


@contextmanager
def agent_process(file: Path, *arguments: str, env: Mapping[str, str] = {}, output: str = "log") -> Iterator[Child]:
    """`probe agent FILE`; ended with the block."""
    command: list[str | Path] = [sys.executable, "-m", "probe", "agent", file, *arguments]
    with spawn(command, file.parent / output, env={**environment(**env)}, cwd=ROOT) as child:
        yield child


async def address(child: Child, deadline: float = 20.0) -> str:
    """Of its HTTP service, once it has one."""
    pattern = re.compile(r'"message": "(http://[^"]+)"')

    def told() -> str:
        if not child.running():
            raise AssertionError(f"it ended: {child.text()}")
        found = pattern.search(child.output.read_text())
        return found[1] if found else ""

    return str(await wait_until(told, deadline, "the address of the agent"))


class Asked:
    """An agent's HTTP service, asked."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url, self._client = url, client

    async def text(self, path: str) -> str:
        async with self._client.get(self.url + path) as answer:
            return await answer.text()

    async def total(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(await self.text("/metrics"))
            for sample in family.samples
            if sample.name == f"streamprobe_{name}" and labels.items() <= sample.labels.items()
        )

    async def runs(self) -> list[dict[str, Any]]:
        return list(json.loads(await self.text("/runs?format=json"))["runs"])


@asynccontextmanager
async def asking(child: Child) -> AsyncIterator[Asked]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as client:
        yield Asked(await address(child), client)


def last_told(collector: Visiting, name: str, **labels: str) -> int:
    """The sum over all series of a counter that have these labels, in the last snapshot that the collector was sent; one may come
    in several requests."""
    points: dict[tuple[tuple[str, str], ...], tuple[int, float]] = {}
    for message in collector.snapshots[-6:]:
        for metric in (m for r in message.resource_metrics for s in r.scope_metrics for m in s.metrics):
            if metric.name.removeprefix("streamprobe_").removesuffix("_total") == name.removesuffix("_total"):
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    of = {attribute.key: attribute.value.string_value for attribute in point.attributes}
                    if labels.items() <= of.items():
                        points[tuple(sorted(of.items()))] = (point.time_unix_nano, point.as_double)
    return round(sum(value for _, value in points.values()))
