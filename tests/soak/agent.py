"""An agent for as long as one likes, while all that it depends on breaks at random; and one that is killed at random moments.

`soak`: two schedules on the sandbox; its server is restarted, workers are killed, the collector goes, another program locks the
records, the disk fills up (as root), the clock is stepped, agent.yaml turns wrong. Nothing may grow, and every attempt must be
accounted for: in metrics, in records and in traces alike, or among what was counted as dropped.

`kills`: SIGKILL, and another life on the same state. The records must open clean; no run may be there twice; every run whose end
an agent has told must be there as it was told; what was in flight is aborted; and nothing is left on the platform.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.model.clock import NS
from probe.sandbox.launch import Sandbox, SandboxError
from probe.store.address import sqlite_url
from probe.store.reader import Records
from probe.store.rows import RunRow
from tests.agent.agents import KINDS, Asked, agent_process, asking, became, last_told, scenario
from tests.e2e.support import environment as clean
from tests.export.collectors import Visiting, visiting
from tests.tools import ROOT, Child, spawn, wait_until

SHORT = ROOT / "tests" / "agent" / "short.yaml"
DISK = "96m"
LOOK = 5.0  # s between looks at the processes
RSS_SLACK = 12 << 20  # of the agent, over all
Row = tuple[str, ...]


def written(folder: Path, collector: str = "", every: str = "4s", beside: str = "3s") -> Path:
    """agent.yaml, and a broadcast and a fake step for it to run."""
    shutil.copy(SHORT, folder / "short.yaml")
    (folder / "beside.yaml").write_text(scenario("beside", "{fake: done, took: 200ms}"))
    endpoint = f"  endpoint: {collector}\n" if collector else ""
    file = folder / "agent.yaml"
    file.write_text(
        f"agent: soak\nregion: local\nstate: state\nlisten: 127.0.0.1:0\n"
        f"telemetry:\n{endpoint}  traces: 100%\n  metrics: 2s\n"
        f"schedules:\n  short: {{scenario: short.yaml, every: {every}}}\n  beside: {{scenario: beside.yaml, every: {beside}}}\n"
    )
    return file


# -- growth


@dataclass(frozen=True, slots=True)
class Look:
    """At one process, between runs or in them. `unique`: MiB that nobody shares."""

    unique: float
    rss: float
    threads: int
    descriptors: int
    tasks: int = 0


@dataclass
class Looks:
    """Over time, of the agent and of what its workers are forked from."""

    agent: list[Look] = field(default_factory=list)
    forkserver: list[Look] = field(default_factory=list)

    def look(self, pid: int, folder: Path) -> None:
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.NoSuchProcess, OSError, ValueError):
            os.kill(pid, signal.SIGUSR2)
            tasks = json.loads((folder / "census").read_text())["tasks"] if (folder / "census").exists() else 0
            self.agent.append(_look(process, tasks))
            self.forkserver += [_look(child) for child in process.children()[:1]]

    def rows(self) -> list[Row]:
        found: list[Row] = [("", "MiB of its own", "MiB resident", "threads", "descriptors", "tasks")]
        for name, looks in (("agent", self.agent), ("forkserver", self.forkserver)):
            for when, part in _thirds(looks):
                medians = [statistics.median(getattr(look, what) for look in part) for what in Look.__slots__]
                found.append((f"{name}, {when}", f"{medians[0]:.1f}", f"{medians[1]:.1f}", *(f"{m:g}" for m in medians[2:])))
        return found

    def complaints(self) -> list[str]:
        found = []
        for name, looks, slack in (("agent", self.agent, 6), ("forkserver", self.forkserver, 4)):
            (_, first), (_, last) = _thirds(looks)
            for what, allowed in (("rss", RSS_SLACK / 2**20), ("threads", 4), ("descriptors", slack), ("tasks", 6)):
                was, now = (statistics.median(getattr(look, what) for look in part) for part in (first, last))
                if now > was + allowed:
                    found.append(f"the {name}'s {what} grew from {was:g} to {now:g}")
        return found


def _thirds(looks: Sequence[Look]) -> list[tuple[str, Sequence[Look]]]:
    """What was seen early (the first quarter is for warming up) and late."""
    quarter = max(1, len(looks) // 4)
    return [("early", looks[quarter : 2 * quarter] or looks[:1]), ("late", looks[-quarter:])]


def _look(process: psutil.Process, tasks: int = 0) -> Look:
    memory = process.memory_full_info()
    return Look(memory.uss / 2**20, memory.rss / 2**20, process.num_threads(), process.num_fds(), tasks)


# -- what breaks


@dataclass
class Faults:
    """Each plants itself, waits, and takes itself away again. `planted` counts them."""

    folder: Path
    agent: Child
    sandbox: Sandbox
    collector: Visiting
    rng: random.Random
    disk: bool
    planted: Counter[str] = field(default_factory=Counter)

    async def platform(self) -> None:
        """What a run meets."""
        await self._some([self.server, self.worker, self.worker_crash])

    async def beside(self) -> None:
        """What the agent depends on."""
        await self._some([self.gone, self.locked, self.stepped, self.wrong, *([self.full] if self.disk else [])])

    async def _some(self, all_of_them: Sequence[Callable[[], Awaitable[None]]]) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(3, 9))
            fault = self.rng.choice(all_of_them)
            self.planted[fault.__name__] += 1
            await fault()

    async def server(self) -> None:
        with contextlib.suppress(SandboxError):
            await self.sandbox.restart(self.rng.uniform(0.3, 4))

    async def worker(self) -> None:
        self._kill(signal.SIGKILL)

    async def worker_crash(self) -> None:
        self._kill(signal.SIGSEGV)

    def _kill(self, number: signal.Signals) -> None:
        workers = [grandchild for child in psutil.Process(self.agent.pid).children() for grandchild in child.children()]
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(workers).send_signal(number)

    async def gone(self) -> None:
        await self.collector.go()
        await asyncio.sleep(self.rng.uniform(2, 15))
        await self.collector.come()

    async def locked(self) -> None:
        connection = sqlite3.connect(self.folder / "state" / "records.sqlite", isolation_level=None, timeout=0.2)
        try:
            connection.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(self.rng.uniform(2, 12))
        except sqlite3.OperationalError:
            pass  # the disk is full, or it holds the lock for that long itself
        finally:
            connection.close()

    async def full(self) -> None:
        ballast = self.folder / "state" / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                await asyncio.sleep(self.rng.uniform(2, 10))
        finally:
            ballast.unlink()

    async def stepped(self) -> None:
        for off in (self.rng.choice([-7200, -60, 5, 3600, 40_000]) * NS, 0):
            (self.folder / "clock").write_text(str(off))
            os.kill(self.agent.pid, signal.SIGUSR1)
            await asyncio.sleep(self.rng.uniform(2, 8))

    async def wrong(self) -> None:
        file = self.folder / "agent.yaml"
        text = file.read_text()
        file.write_text(text.replace("fake", "fak").replace("every: 4s", "every: 4"))
        os.kill(self.agent.pid, signal.SIGHUP)
        await asyncio.sleep(self.rng.uniform(1, 3))
        file.write_text(text)
        os.kill(self.agent.pid, signal.SIGHUP)


# -- the sum


@dataclass(frozen=True, slots=True)
class Sums:
    """Attempts by outcome in metrics, records and traces; runs counted and recorded; what was dropped, by what it is."""

    metrics: Counter[str]
    records: Counter[str]
    traces: Counter[str]
    attempts: int
    runs: int
    recorded: int
    running: int
    dropped: dict[str, int]

    def rows(self) -> list[Row]:
        head: Row = ("attempts", "all", *KINDS, "dropped")
        return [
            head,
            ("metrics", str(self.attempts), *(str(self.metrics[kind]) for kind in KINDS), str(self.dropped.get("metrics", 0))),
            ("records", str(self.records.total()), *(str(self.records[k]) for k in KINDS), str(self.dropped.get("records", 0))),
            ("traces", str(self.traces.total()), *(str(self.traces[k]) for k in KINDS), str(self.dropped.get("traces", 0))),
        ]

    def complaints(self) -> list[str]:
        found = []
        if self.attempts != self.metrics.total():
            found.append(f"{self.attempts} attempts, and {self.metrics.total()} outcomes")
        if self.running:
            found.append(f"{self.running} runs are still recorded as running")
        if not self.dropped.get("records") and (self.records != self.metrics or self.recorded != self.runs):
            found.append(f"records say {dict(self.records)} of {self.recorded} runs, metrics {dict(self.metrics)} of {self.runs}")
        if not self.dropped.get("traces") and self.traces != self.metrics:
            found.append(f"traces say {dict(self.traces)}, metrics {dict(self.metrics)}")
        return found


async def sums(state: Path, collector: Visiting) -> Sums:
    found = await rows(state)
    spans = [s for s in collector.collector.spans if "streamprobe.session.id" in s.attributes]
    once = {
        span.attributes["streamprobe.session.id"] + span.trace_id: span for span in spans
    }  # sent twice where an answer was lost
    ended = [_outcome(span.attributes) for span in once.values()]
    return Sums(
        metrics=+Counter({kind: last_told(collector, "outcomes", outcome=kind) for kind in KINDS}),
        records=became(found),
        traces=Counter(ended),
        attempts=last_told(collector, "attempts"),
        runs=last_told(collector, "runs"),
        recorded=len(found),
        running=sum(row.state == "running" for row in found),
        dropped={kind: last_told(collector, "self_spool_dropped", kind=kind) for kind in ("metrics", "records", "traces")},
    )


def _outcome(attributes: dict[str, object]) -> str:
    """A session that started and was lost later is told as failed by its span, and was done as an attempt."""
    return "done" if attributes.get("streamprobe.ending") == "crashed" else str(attributes["streamprobe.outcome"])


async def rows(state: Path) -> list[RunRow]:
    """All of them."""
    found: list[RunRow] = []
    async with Records.reading(sqlite_url(state / "records.sqlite"), SystemClock()) as records:
        while page := await records.runs(1000, found[-1].run_id if found else ""):
            found += page
    return found


# -- the two parts


async def soak(minutes: float, seed: int, out: Path) -> tuple[list[list[Row]], list[str]]:
    """Tables, and what must not be."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-agent-") as name, _disk(Path(name) / "state") as disk:
        folder = Path(name)
        looks, faults = Looks(), None
        async with Sandbox.start() as sandbox, visiting() as collector:
            file = written(folder, collector.url)
            command: list[str | Path] = [sys.executable, "-m", "tests.soak.agent_child", file, folder]
            env = {**clean(**environment(sandbox)), "OPENBLAS_NUM_THREADS": "1"}
            with spawn(command, out / "agent.log", env=env, cwd=ROOT) as agent:
                async with asking(agent) as asked:
                    faults = Faults(folder, agent, sandbox, collector, rng, disk)
                    ends = time.monotonic() + minutes * 60
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(faults.platform()), group.create_task(faults.beside())]
                        while time.monotonic() < ends - 20 and agent.running():
                            await asyncio.sleep(LOOK)
                            looks.look(agent.pid, folder)
                            _forget(collector)
                        for task in tasks:
                            task.cancel()
                    if not agent.running():
                        return [], [f"the agent ended with {agent.popen.returncode}; its log is {agent.output}"]
                    await _healed(faults, asked)
                    lag = await _lag(asked)
                    missed = {
                        k: int(await asked.total("self_runs_missed_total", kind=k))
                        for k in ("overlap", "budget", "late", "broken")
                    }
                    os.kill(agent.pid, signal.SIGTERM)
                    code = await agent.exit(30)
            found = await sums(folder / "state", collector)
            rooms = (await sandbox.state())["rooms"]
        bad = [*looks.complaints(), *found.complaints()]
        bad += [f"it ended with {code}"] if code else []
        bad += [f"rooms are left: {rooms}"] if rooms else []
        said = _exceptions(out / "agent.log")
    planted: list[Row] = [("faults", *faults.planted), ("planted", *(str(n) for n in faults.planted.values()))]
    other: list[Row] = [
        ("runs", "recorded", "loop lag, p99 ≤ s", "missed"),
        (str(found.runs), str(found.recorded), lag, str(missed)),
    ]
    broken: list[Row] = [("exceptions in its log", "times"), *((words, str(n)) for words, n in said.most_common())]
    return [planted, other, looks.rows(), found.rows(), broken], bad


def _forget(collector: Visiting) -> None:
    """What nobody will ask of it."""
    del collector.snapshots[:-6]
    spans = collector.collector.spans
    spans[:] = [span for span in spans if "streamprobe.session.id" in span.attributes]
    for told in (collector.collector.requests, collector.collector.headers):
        told.clear()


async def _healed(faults: Faults, asked: Asked) -> None:
    """All is there again, and everything that waited is where it belongs."""
    (faults.folder / "clock").write_text("0")
    os.kill(faults.agent.pid, signal.SIGUSR1)
    with contextlib.suppress(FileNotFoundError):
        (faults.folder / "state" / "ballast").unlink()
    if faults.collector._runner is None:
        await faults.collector.come()
    await wait_until(faults.sandbox.healthy, 10, "the sandbox")

    async def delivered() -> bool:
        return await asked.total("self_store_behind") == 0 and await asked.total("self_spool_items", kind="traces") == 0

    before = await asked.total("runs_total", scenario="short")

    async def swept() -> bool:
        return await asked.total("runs_total", scenario="short") >= before + 2

    await wait_until(swept, 60, "a run on a platform of which all is swept")
    await wait_until(delivered, 60, "everything that waits")


async def _lag(asked: Asked) -> str:
    """The bound that 99 of 100 looks at the loop's lag lie below, in s, and how many looks."""
    text = await asked.text("/metrics")
    buckets = re.findall(r'self_agent_lag_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} ([0-9.]+)', text)
    every = float(buckets[-1][1])
    return next(f"{bound} (n={every:.0f})" for bound, count in buckets if float(count) >= 0.99 * every)


async def kills(count: int, seed: int, out: Path) -> tuple[list[list[Row]], list[str]]:
    """Tables, and what must not be."""
    rng = random.Random(seed)
    told: dict[str, str] = {}  # run id → verdict, as the agents' logs have it
    bad: list[str] = []
    before_ready = 0
    with tempfile.TemporaryDirectory(prefix="soak-kills-") as name:
        folder = Path(name)
        state = folder / "state"
        async with Sandbox.start() as sandbox:
            file, env = written(folder, every="2s", beside="1s"), environment(sandbox)
            for number in range(count):
                with agent_process(file, env=env, output=f"log-{number}") as agent:
                    await asyncio.sleep(rng.uniform(0.2, 1.5) if rng.random() < 0.2 else rng.uniform(1.5, 9))
                    before_ready += '"message": "http' not in agent.output.read_text()
                    os.kill(agent.pid, signal.SIGKILL)
                    await agent.exit(5)
                    told |= _told(agent)
                if state.exists() and (words := _damage(state / "records.sqlite")):
                    bad.append(f"kill {number}: {words}")
                print(f"kill {number + 1}/{count}: {len(told)} runs told", flush=True)
            with agent_process(file, env=env, output="log-last") as agent:
                async with asking(agent) as asked:
                    await wait_until(lambda: _swept(asked), 40, "a run on a platform of which all is swept")
                    os.kill(agent.pid, signal.SIGTERM)
                    await agent.exit(30)
                told |= _told(agent)
            rooms = (await sandbox.state())["rooms"]
        found = await rows(state)
        shutil.copytree(folder, out / "kills", dirs_exist_ok=True)
    states = Counter(row.state for row in found)
    killed = [row for row in found if row.crashed == "killed"]
    ended = {row.run_id: row.verdict for row in found if row.state == "ended"}
    lost = [run for run, verdict in told.items() if ended.get(run) != verdict]
    bad += [f"lost, or not as it was told: {', '.join(lost)}"] if lost else []
    bad += (
        [f"runs that are there twice: {len(found) - len({r.run_id for r in found})}"]
        if len({r.run_id for r in found}) < len(found)
        else []
    )
    bad += [f"{states['running']} runs are recorded as running"] if states["running"] else []
    bad += [f"{len(killed)} runs were in flight at {count} kills of 2 at once"] if len(killed) > 2 * count else []
    bad += [f"rooms are left: {rooms}"] if rooms else []
    head: Row = (
        "kills",
        "before it was ready",
        "runs",
        "ended",
        "told by logs",
        "aborted: killed",
        "running",
        "lost",
        "rooms left",
    )
    row = (count, before_ready, len(found), states["ended"], len(told), len(killed), states["running"], len(lost), len(rooms))
    return [[head, tuple(map(str, row))]], bad


async def _swept(asked: Asked) -> bool:
    return await asked.total("runs_total", scenario="short") >= 2


def _told(agent: Child) -> dict[str, str]:
    """Runs that an agent's log says have ended, and how."""
    found = {}
    for line in agent.output.read_text().splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if said.get("logger") == "probe.agent.runs" and (
                match := re.match(r"\w+: (pass|warn|fail|inconclusive)", said["message"])
            ):
                found[said["run_id"]] = match[1]
    return found


def _exceptions(log: Path) -> Counter[str]:
    """The last line of each that was logged: on a full disk a worker has no ledger, and says so."""
    found: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            if "exception" in (said := json.loads(line)):
                found[f"{said['message']}: {said['exception'].splitlines()[-1]}"[:150]] += 1
    return found


def _damage(file: Path) -> str:
    """What SQLite says of a file that nobody has open; empty where it is sound."""
    if not file.exists():
        return ""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return "" if said == "ok" else str(said)


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[bool]:
    """A small file system at `place`, and whether there could be one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
