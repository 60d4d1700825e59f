"""`probe agent` with two hooks for whoever soaks it: python -m tests.soak.agent_child AGENT_YAML FOLDER

SIGUSR1: the system clock is off by what stands in FOLDER/clock, in ns. SIGUSR2: FOLDER/census becomes how many tasks, threads and
objects there are. Both only for the agent's own process: its workers have clocks of their own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import uvloop

from probe.agent.seed import Seed, sow
from probe.agent.slim import one_arena
from probe.cli import early
from probe.clock import SystemClock


class Hooked(SystemClock):
    off = 0

    def system(self) -> int:
        return time.time_ns() + Hooked.off


async def main(file: Path, folder: Path, seed: Seed | None) -> int:
    def step() -> None:
        Hooked.off = int((folder / "clock").read_text())

    def census() -> None:
        found = {"tasks": len(asyncio.all_tasks()), "threads": threading.active_count(), "objects": len(gc.get_objects())}
        (folder / "census.new").write_text(json.dumps(found))
        os.replace(folder / "census.new", folder / "census")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, step)
    loop.add_signal_handler(signal.SIGUSR2, census)
    from probe.cli import agent as command  # as late as the product does

    vars(command)["SystemClock"] = Hooked
    return await command.serve(file, once=False, verbose=False, seed=seed)


if __name__ == "__main__":
    early.prepare()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    seed = sow()
    one_arena()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(Path(sys.argv[1]), Path(sys.argv[2]), seed)))
