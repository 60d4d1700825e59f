"""An agent's pool and nothing else, to be killed: `python -m tests.agent.alone STATE [--sow]` runs a worker that hangs in C and
one that has a child, and prints the processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import uvloop

from probe.agent.pool import Pool
from probe.agent.seed import Seed, sow
from probe.clock import SystemClock
from probe.model.clock import NS
from probe.model.observation import Note, Observation
from tests.agent.jobs import fake, make_job


async def main(state: Path, seed: Seed | None) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    def put(fact: Observation) -> None:
        if isinstance(fact, Note):
            told.put_nowait(fact.text)

    async with Pool.started(2, 200, NS, SystemClock(), seed) as pool, asyncio.TaskGroup() as group:
        for kind in ("hang", "stubborn"):
            group.create_task(pool.run(make_job(state, fake(kind)), put))
        while not (await told.get()).startswith("child"):
            pass
        print("below:", *(child.pid for child in psutil.Process().children(recursive=True)))
        print("no more", flush=True)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sow() if "--sow" in sys.argv else None))
