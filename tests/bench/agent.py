"""An agent: what it costs while nothing runs, what it takes of the memory, and what one run costs in a warm worker.

Five scenarios a minute on the sandbox, metrics to a collector every 15 s and scraped every 15 s, as a region has it. Its CPU is
that of the agent and of the process its workers are forked from, told apart by the records: outside of all runs, and in them
(facts taken in, judged, rendered, recorded). Memory is proportional (PSS): what several processes share counts once. A run's own
cost is its worker's, as the kernel counted it.

    python -m tests.bench.agent [--seconds S] [--runs N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil

from probe.agent.job import Ended, Job
from probe.agent.pool import Pool
from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.planning import make_plan
from probe.sandbox.launch import Sandbox
from probe.scenario.load import load
from probe.store.address import sqlite_url
from probe.store.database import Database
from probe.store.reader import Records
from tests.agent.agents import Asked, agent_process, asking
from tests.export.collectors import visiting
from tests.tools import ROOT, wait_until

SHORT = ROOT / "tests" / "agent" / "short.yaml"
SCENARIOS = 5
EVERY = 0.1  # s between looks
SCRAPED = 15.0
IDLE_BOUND = 2.0  # % of a core
MEMORY_BOUND = 150.0  # MiB
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """`idle`: % of a core outside runs, over `idle_seconds`; `a_run` ms of the agent's CPU for each run, beyond what it is idle.
    `memory`: MiB of PSS while nothing ran (medians), of agent, forkserver and all workers. `runs`: of each in a warm worker."""

    idle: float
    idle_seconds: float
    a_run: float
    made: int
    memory: dict[str, float]
    lag: str
    runs: list[tuple[Ended, float]]


def written(folder: Path, collector: str) -> Path:
    text = SHORT.read_text()
    for n in range(SCENARIOS):
        (folder / f"short-{n}.yaml").write_text(text.replace("scenario: short", f"scenario: short-{n}"))
    schedules = "\n".join(f"  short-{n}: {{scenario: short-{n}.yaml, every: 1m}}" for n in range(SCENARIOS))
    file = folder / "agent.yaml"
    file.write_text(
        "agent: bench\nregion: local\nstate: state\nlisten: 127.0.0.1:0\n"
        f"telemetry: {{endpoint: '{collector}'}}\nschedules:\n{schedules}\n"
    )
    return file


async def idle(folder: Path, sandbox: Sandbox, seconds: float) -> tuple[float, float, float, int, dict[str, float], str]:
    """The first five of the figures, and the lag of its loop."""
    looks: list[tuple[int, float]] = []  # Unix ns, CPU seconds
    memory: list[tuple[int, dict[str, float]]] = []
    (folder / "state").mkdir(mode=0o700)
    Database(sqlite_url(folder / "state" / "records.sqlite")).writer().close()  # the first start of all makes the schema: 12 MiB
    async with visiting() as collector:
        with agent_process(written(folder, collector.url), env=environment(sandbox)) as agent:
            async with asking(agent) as asked:
                process = psutil.Process(agent.pid)
                (forkserver,) = process.children()
                await asyncio.sleep(5)  # what is done once
                ends, scraped = time.monotonic() + seconds, 0.0
                while time.monotonic() < ends:
                    looks.append((time.time_ns(), sum(_cpu(one) for one in (process, forkserver))))
                    if len(looks) % 10 == 0:
                        memory.append((time.time_ns(), _memory(process, forkserver)))
                    if time.monotonic() - scraped > SCRAPED:
                        scraped = time.monotonic()
                        await asked.text("/metrics")
                    await asyncio.sleep(EVERY)
                lag = await _lag(asked)
        async with Records.reading(sqlite_url(folder / "state" / "records.sqlite"), SystemClock()) as records:
            rows = await records.runs(1000)
    runs = [(row.began_ns - NS // 5, (row.ended_ns or row.began_ns) + NS) for row in rows]
    still, busy, idle_cpu, busy_cpu = 0.0, 0.0, 0.0, 0.0
    for (at, cpu), (then, later) in itertools.pairwise(looks):
        if any(began < then and at < ended for began, ended in runs):
            busy, busy_cpu = busy + (then - at) / NS, busy_cpu + later - cpu
        else:
            still, idle_cpu = still + (then - at) / NS, idle_cpu + later - cpu
    rate = idle_cpu / still
    made = sum(looks[0][0] < began and ended < looks[-1][0] for began, ended in runs)
    quiet = [found for at, found in memory if not any(began < at < ended for began, ended in runs)]
    usual = {name: statistics.median(found[name] for found in quiet) for name in quiet[0]}
    return 100 * rate, still, 1000 * (busy_cpu - rate * busy) / max(1, made), made, usual, lag


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(agent: psutil.Process, forkserver: psutil.Process) -> dict[str, float]:
    """MiB of PSS."""
    found = {"agent": _pss(agent), "forkserver": _pss(forkserver), "workers": 0.0}
    for worker in forkserver.children():
        found["workers"] += _pss(worker)
    return found


def _pss(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(process.memory_full_info().pss) / 2**20
    return 0.0


async def _lag(asked: Asked) -> str:
    text = await asked.text("/metrics")
    lines = [line for line in text.splitlines() if line.startswith("streamprobe_self_agent_lag_seconds_bucket")]
    counts = [(line.split('le="')[1].split('"')[0], float(line.rsplit(" ", 1)[1])) for line in lines]
    return ", ".join(f"{share:.0%} ≤ {next(b for b, c in counts if c >= share * counts[-1][1])} s" for share in (0.5, 0.99, 1.0))


async def runs(folder: Path, sandbox: Sandbox, count: int) -> list[tuple[Ended, float]]:
    """What so many runs, one after the other, took of CPU, and of time in s."""
    secrets = environment(sandbox)
    scenario = load(SHORT, env=secrets)
    found = []
    clock = SystemClock()
    with mock.patch.dict(os.environ, secrets):  # which the workers inherit
        async with Pool.started(2, 10_000, 20 * NS, clock) as pool:
            for number in range(count + 1):
                ids = new_run_ids(clock.system() // 1_000_000, random.SystemRandom())
                plan = make_plan(scenario, "local", number, ids, mode="scheduled")
                job = Job(plan=plan, schedule="short", due=0, deadline=60 * NS, memory=10**9, state=folder)
                await wait_until(lambda: pool.ready, 20, "a warm worker")
                began = clock.now()
                ended = await pool.run(job, lambda fact: None)
                if number:  # the first makes the programme
                    found.append((ended, (clock.now() - began) / NS))
    return found


async def measure(folder: Path, seconds: float = 90.0, count: int = 7) -> Figures:
    (folder / "agent").mkdir()
    (folder / "runs").mkdir()
    async with Sandbox.start() as sandbox:
        one = await runs(folder / "runs", sandbox, count)
        share, still, a_run, made, memory, lag = await idle(folder / "agent", sandbox, seconds)
    return Figures(share, still, a_run, made, memory, lag, one)


def rows(figures: Figures) -> Sequence[Row]:
    cpu = [ended.cpu for ended, _ in figures.runs if ended.cpu is not None]
    startup = [ended.startup for ended, _ in figures.runs if ended.startup is not None]
    peak = [ended.peak for ended, _ in figures.runs if ended.peak is not None]
    shares = [100 * s / c for s, c in zip(startup, cpu, strict=True)]
    return [
        ("an agent, 5 scenarios a minute", "", "over"),
        ("agent and forkserver outside runs, % of a core", f"{figures.idle:.2f}", f"{figures.idle_seconds:.0f} s"),
        ("the agent's own part of a run, CPU ms", f"{figures.a_run:.0f}", f"{figures.made} runs"),
        ("its loop's lag", figures.lag, ""),
        *((f"{name}, MiB (PSS)", f"{value:.1f}", "") for name, value in figures.memory.items()),
        ("together, MiB", f"{sum(figures.memory.values()):.1f}", ""),
        (
            "a run in a warm worker (WHIP → WHEP, watched 0.5 s), CPU ms",
            f"{1000 * statistics.median(cpu):.0f}",
            f"{len(cpu)} runs",
        ),
        (
            "of that start-up, until its first step, CPU ms",
            f"{1000 * statistics.median(startup):.1f}",
            f"{statistics.median(shares):.1f} %",
        ),
        ("its time, s", f"{statistics.median(took for _, took in figures.runs):.2f}", ""),
        ("its memory at most, MiB resident", f"{statistics.median(peak) / 2**20:.0f}", ""),
    ]


def targets(figures: Figures) -> dict[str, bool]:
    together = sum(figures.memory.values())
    return {
        f"an agent outside runs ≤ {IDLE_BOUND:g} % of a core: {figures.idle:.2f}": figures.idle <= IDLE_BOUND,
        f"agent, forkserver and two warm workers ≤ {MEMORY_BOUND:g} MiB: {together:.0f}": together <= MEMORY_BOUND,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agent", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as name:
        figures = asyncio.run(measure(Path(name), options.seconds, options.runs))
    for row in rows(figures):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, (64, 16, 0), strict=True)).rstrip())
    held = targets(figures)
    for target, ok in held.items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
