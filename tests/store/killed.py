"""`python -m tests.store.killed DIR COUNT SEED`: a process that appends runs is killed with SIGKILL, COUNT times; prints what
was found. Imports once and forks, so that a kill costs what it takes to open the store, and not a start of Python.

Each life: sweeps what the one before left, then begins and ends runs, some in flight at a time, writing to a pipe which record
`put` has taken. After the last kill another life empties the outbox, and what was taken is held against what is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import alembic.command  # noqa: F401  # else each child would import it, and be killed doing so

from probe.clock import SystemClock
from probe.store.address import sqlite_url
from probe.store.store import Store
from tests.store.support import begun, finished, run_id
from tests.tools import wait_until

_IN_FLIGHT = 3


async def _append(folder: Path, first: int, said: int) -> None:
    async with Store.opened(sqlite_url(folder / "records.sqlite"), SystemClock(), folder) as store:
        os.write(said, f"swept {await store.abort_in_flight('jakarta-1')}\n".encode())
        n = first
        while True:
            taken = store.put(begun(n))
            os.write(said, f"begun {n} {int(taken)}\n".encode())
            done = n - _IN_FLIGHT
            if done >= first:
                taken = store.put(finished(done, report_html="<p>" + "report " * 2000))
                os.write(said, f"ended {done} {int(taken)}\n".encode())
            n += 1
            await asyncio.sleep(0.0005)


def _life(folder: Path, first: int, seconds: float) -> list[str]:
    """What it said until it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(_append(folder, first, writing))
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as file:
        lines = file.read().splitlines()
    if not os.WIFSIGNALED(status):
        lines.append("died by itself")
    return lines


async def _found(folder: Path) -> dict[str, object]:
    async with Store.opened(sqlite_url(folder / "records.sqlite"), SystemClock(), folder) as store:
        swept = await store.abort_in_flight("jakarta-1")
        await wait_until(lambda: not store.behind, 20)
        found = {"swept": swept, "dropped": store.dropped, "problem": store.problem, "sums": dict(await store.sums())}
    return found


def main() -> int:
    folder, count, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    begun_, ended, lines = set[int](), set[int](), list[str]()
    for life in range(count):
        said = _life(folder, life * 100_000, rng.random() * 0.4)
        lines += [line for line in said if line.startswith("died")]
        for line in said:
            kind, *rest = line.split()
            if kind in ("begun", "ended") and rest[-1] == "1":
                (begun_ if kind == "begun" else ended).add(int(rest[0]))
    found = asyncio.run(_found(folder))
    connection = sqlite3.connect(folder / "records.sqlite")
    rows = dict(connection.execute("SELECT run_id, state || ' ' || crashed FROM runs"))
    reports = {row[0] for row in connection.execute("SELECT run_id FROM reports")}
    taken = {run_id(n) for n in begun_}
    over = {run_id(n) for n in ended}
    found |= {
        "begun": len(taken),
        "ended": len(over),
        "integrity": connection.execute("PRAGMA integrity_check").fetchone()[0],
        "begun_lost": len(taken - rows.keys()),
        "ended_lost": len([one for one in over if rows.get(one) != "ended "]),
        "reports_lost": len(over - reports),
        # Taken just before the kill and not yet told: at most the one being put.
        "untold": len(rows.keys() - taken) + len([one for one, state in rows.items() if state == "ended " and one not in over]),
        "aborted": len([state for state in rows.values() if state == "aborted killed"]),
        "running": len([state for state in rows.values() if state.startswith("running")]),
        "rows": len(rows),
        "died": lines,
    }
    connection.close()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
