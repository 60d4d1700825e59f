"""The records: how fast results are appended, and how long a question takes among a million of them.

A result is a run's beginning and end with a whole journey's requests, verdict.json and report as the product renders them,
through the outbox into SQLite, until the last is committed. The million is made by SQL with every index in place; ids of
requests are random, as real ones are. Times are of one question each, connection and rows included; those of the command,
Python's start too.

python -m tests.bench.store [--runs N]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from probe.clock import SystemClock
from probe.export.report import report_html
from probe.export.verdict_json import verdict_json
from probe.store.address import sqlite_url
from probe.store.reader import Records
from probe.store.retention import DAY, Retention
from probe.store.store import Store
from tests.export import sample
from tests.store.support import T0, begun, finished, happened, request
from tests.tools import wait_until

MILLION = 1_000_000
RESULTS = 1_500
REQUESTS = 8  # of a journey
BOUND_MS = 200.0
RATE = 500.0
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """`appended` results a second; by whether the database was empty. `asked` ms of each question, worst of its tries.
    `putting` ms that one `put` of an end took, at its 99th percentile. `held` ms the writer waited for retention at most."""

    runs: int
    appended: dict[str, float]
    putting: float
    asked: dict[str, list[float]]
    command: float
    python: float
    pruned: int
    pruning: float
    held: float
    bytes: int


async def append(url: str, folder: Path, first: int) -> tuple[float, list[float]]:
    """Results a second until the last is in the database, and the ms of each `put` of an end."""
    evaluation = sample.failing()
    html, verdict = report_html(evaluation, str), verdict_json(evaluation, str)
    asked = [tuple(request(n, span=f"{k:016x}", at_ns=T0 + k) for k in range(REQUESTS)) for n in range(first, first + RESULTS)]
    puts = []
    async with Store.opened(url, SystemClock(), folder) as store:
        began = time.perf_counter()
        for n in range(first, first + RESULTS):
            store.put(begun(n))
            end = finished(n, verdict_json=verdict, report_html=html, requests=asked[n - first])
            before = time.perf_counter()
            store.put(end)
            puts.append((time.perf_counter() - before) * 1000)
        await wait_until(lambda: not store.behind, 120, store.problem)
        took = time.perf_counter() - began
        assert store.dropped == store.errors == 0
    return RESULTS / took, puts


_RUNS = """
INSERT INTO runs (run_id, agent, schedule, scenario, mode, publish_region, region, target, seed, run_number, trace_id, due_ns,
    began_ns, probe_version, life, state, verdict, cause, ended_ns, done, failed)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT printf('%012x-7000-8000-%012x', i, i), 'jakarta-' || (i % 7), 'room-start', 'scenario-' || (i % 5), 'scheduled', 'eu',
    CASE i % 3 WHEN 0 THEN 'eu' WHEN 1 THEN 'us' ELSE 'apac' END, 'https://live.example', i, i, lower(hex(randomblob(16))),
    :first + i, :first + i, '0.1.0', 'life', 'ended', CASE WHEN i % 3 = 0 AND i % 50 = 0 THEN 'fail' ELSE 'pass' END,
    CASE i % 50 WHEN 0 THEN 'gift failed in 1 of 4 viewers, all of them in eu' ELSE '' END, :first + i + 9, 4, i % 50 = 0
FROM n
"""
_REQUESTS = """
INSERT INTO requests (run_id, request_id, span_id, service, step, method, status, at_ns)
SELECT run_id, lower(hex(randomblob(8))) || '-' || lower(hex(randomblob(8))), lower(hex(randomblob(8))), 'room', 'room', 'POST',
    201, began_ns FROM runs
"""


def fill(file: Path, count: int) -> list[str]:
    """`count` runs with two requests each; returns the ids of some requests."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-262144")
    with connection:
        connection.execute(_RUNS, {"count": count, "first": T0})
        connection.execute(_REQUESTS)
        connection.execute(_REQUESTS)
    some = connection.execute("SELECT request_id FROM requests WHERE run_id >= ? LIMIT 20", (f"{count // 2:012x}",)).fetchall()
    connection.close()
    return [row[0] for row in some]


async def ask(url: str, count: int, ids: list[str]) -> dict[str, list[float]]:
    """Question → ms of each try."""
    middle = f"{count // 2:012x}-7000"
    chance = random.Random(1)
    async with Records.reading(url, SystemClock()) as records:
        questions: dict[str, Callable[[], Awaitable[object]]] = {
            "a page of 50": lambda: records.runs(50),
            "a page in the middle": lambda: records.runs(50, middle),
            "of a scenario": lambda: records.runs(50, scenario="scenario-3"),
            "of a region": lambda: records.runs(50, region="apac"),
            "that failed": lambda: records.runs(50, verdict="fail"),
            "of a scenario, region and verdict": lambda: records.runs(50, scenario="scenario-0", region="eu", verdict="fail"),
            "of a verdict that region never had": lambda: records.runs(50, region="us", verdict="fail"),
            "of a region there is not, that passed": lambda: records.runs(50, region="mars", verdict="pass"),
            "of a scenario that this region has none of": lambda: records.runs(50, scenario="none", region="eu"),
            "one run": lambda: records.run(f"{chance.randrange(count):012x}-7000-8000-{0:012x}"),
            "trace": lambda: records.trace(chance.choice(ids)),
            "trace, not found": lambda: records.trace("no such request"),
        }
        assert len(await records.runs(50)) == 50 and len(await records.trace(ids[0])) == 1
        found: dict[str, list[float]] = {name: [] for name in questions}
        for _ in range(7):
            for name, question in questions.items():
                began = time.perf_counter()
                await question()
                found[name].append((time.perf_counter() - began) * 1000)
    return found


async def forget(url: str, folder: Path, count: int) -> tuple[int, float, float]:
    """Prune some of the runs while events are put: how many went, in how many seconds, and how many ms an event waited for
    its commit at most."""
    longest = 0.0
    retention = Retention(keep=DAY, keep_reports=DAY)
    async with Store.opened(url, SystemClock(), folder, retention=retention) as store, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        pruning = group.create_task(store.prune(T0 + DAY + count // 200))
        n = 0
        while not pruning.done():
            before = time.perf_counter()
            store.put(happened(n, at_ns=T0 + 2 * DAY))
            await wait_until(lambda: not store.behind, 60)
            longest = max(longest, (time.perf_counter() - before) * 1000)
            n += 1
        took = time.perf_counter() - began
    return pruning.result().runs, took, longest


async def _command(*arguments: str) -> float:
    """ms of a command of ours, its start included."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "probe", *arguments, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    return (time.perf_counter() - began) * 1000


async def measure(folder: Path, count: int = MILLION) -> Figures:
    file = folder / "records.sqlite"
    url = sqlite_url(file)
    empty, puts = await append(url, folder / "outbox", 2 * MILLION)
    ids = await asyncio.to_thread(fill, file, count)
    full, more = await append(url, folder / "outbox", 3 * MILLION)
    asked = await ask(url, count, ids)
    command = statistics.median([await _command("trace", ids[0], "--store", str(file)) for _ in range(3)])
    python = statistics.median([await _command("version") for _ in range(3)])
    size = file.stat().st_size
    pruned, pruning, held = await forget(url, folder / "outbox", count)
    appended = {"into an empty database": empty, f"beside {count:,} runs": full}
    slow = statistics.quantiles(puts + more, n=100)[98]
    return Figures(count, appended, slow, asked, command, python, pruned, pruning, held, size)


def rows(figures: Figures) -> list[Row]:
    """For a table."""
    lines: list[Row] = [(f"results a second, appended {where}", f"{rate:.0f}") for where, rate in figures.appended.items()]
    lines.append(("ms that `put` of a run's end holds its thread, 99th percentile", f"{figures.putting:.1f}"))
    lines.append((f"MB of a file with {figures.runs:,} runs", f"{figures.bytes / 1e6:.0f}"))
    lines += [(f"ms, {name}: median (worst)", f"{statistics.median(t):.1f} ({max(t):.1f})") for name, t in figures.asked.items()]
    lines.append(("ms, the command `probe trace`, Python's start included", f"{figures.command:.0f}"))
    lines.append(("ms, the command `probe version`, beside it", f"{figures.python:.0f}"))
    lines.append(("runs forgotten a second, a hundred a step", f"{figures.pruned / figures.pruning:.0f}"))
    lines.append(("ms that a record waited meanwhile, at most", f"{figures.held:.0f}"))
    return lines


def targets(figures: Figures) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    slowest = min(figures.appended.values())
    name, times = max(figures.asked.items(), key=lambda item: statistics.median(item[1]))
    worst = statistics.median(times)
    return {
        f"append ≥ {RATE:g} results a second on SQLite: {slowest:.0f}": slowest >= RATE,
        f"a page or a trace among {figures.runs:,} runs ≤ {BOUND_MS:g} ms, the slowest ({name}) at its median: {worst:.1f}": worst
        <= BOUND_MS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store")
    parser.add_argument("--runs", type=int, default=MILLION, metavar="N", help="runs in the store (default: a million)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
        figures = asyncio.run(measure(Path(name), options.runs))
    for what, value in rows(figures):
        print(f"{what:70} {value}")
    for target, ok in targets(figures).items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")


if __name__ == "__main__":
    main()
