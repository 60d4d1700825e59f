"""`python -m tests.store.killed DIR URL COUNT SEED`: a process that appends runs to the database at URL, with its outbox in DIR,
is killed with SIGKILL, COUNT times; prints what was found. Imports once and forks, so that a kill costs what it takes to open
the store, and not a start of Python.

Each life: sweeps what the one before left, then begins and ends runs, some in flight at a time, writing to a pipe which record
`put` has taken. Every second one is killed at a random moment of its opening, the others at one of their work. After the last
another life empties the outbox, and what was taken is held against what is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import alembic.command  # noqa: F401  # else each child would import it, and be killed doing so
from sqlalchemy import text

from probe.clock import SystemClock
from probe.store.database import Database
from probe.store.store import Store
from tests.store.support import begun, finished, run_id
from tests.tools import wait_until

_IN_FLIGHT = 3


async def _append(folder: Path, url: str, first: int, said: int) -> None:
    async with Store.opened(url, SystemClock(), folder) as store:
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


def _life(folder: Path, url: str, first: int, seconds: float, working: bool) -> list[str]:
    """What it said until it was killed, so many seconds after it began or, `working`, had opened the store."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(_append(folder, url, first, writing))
        finally:
            os._exit(1)
    os.close(writing)
    if working:
        select.select([reading], [], [], 20)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as file:
        lines = file.read().splitlines()
    if not os.WIFSIGNALED(status):
        lines.append("died by itself")
    return lines


async def _found(folder: Path, url: str) -> dict[str, object]:
    async with Store.opened(url, SystemClock(), folder) as store:
        swept = await store.abort_in_flight("jakarta-1")
        await wait_until(lambda: not store.behind, 20)
        found = {"swept": swept, "dropped": store.dropped, "problem": store.problem, "sums": dict(await store.sums())}
    return found


def main() -> int:
    folder, url, count, rng = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), random.Random(int(sys.argv[4]))
    begun_, ended, lines = set[int](), set[int](), list[str]()
    for life in range(count):
        said = _life(folder, url, life * 100_000, rng.random() * 0.2, working=life % 2 == 1)
        lines += [line for line in said if line.startswith("died")]
        for line in said:
            kind, *rest = line.split()
            if kind in ("begun", "ended") and rest[-1] == "1":
                (begun_ if kind == "begun" else ended).add(int(rest[0]))
    found = asyncio.run(_found(folder, url))
    with Database(url).reader() as connection:
        rows = {
            run: f"{state} {crashed}"
            for run, state, crashed in connection.execute(text("SELECT run_id, state, crashed FROM runs"))
        }
        reports = set(connection.execute(text("SELECT run_id FROM reports")).scalars())
        sqlite = connection.dialect.name == "sqlite"
        integrity = connection.execute(text("PRAGMA integrity_check")).scalar() if sqlite else "ok"
    taken = {run_id(n) for n in begun_}
    over = {run_id(n) for n in ended}
    found |= {
        "begun": len(taken),
        "ended": len(over),
        "integrity": integrity,
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
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
