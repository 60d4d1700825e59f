"""Every fault of a host on the event loop that the product runs on, which leaves more open to its children than asyncio's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from probe.drill.faults.base import State
from tests.drill.host.tools import Course, label, pids_with, prepared
from tests.peers import toxiproxy
from tests.tools import requires_root, spawn


def _on_uvloop(work: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with asyncio.timeout(20):
            await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())


async def _round(course: Course) -> None:
    try:
        await course.inject()
        await course.sees(State.INJECTED)
    finally:
        await course.restore()
    await course.sees(State.RESTORED)


def test_load_and_disk(tmp_path):
    requires_root("to mount a filesystem")

    async def work() -> None:
        await _round(await prepared("load", {"cpu": {"burners": 2, "share": "5%"}}))
        await _round(await prepared("load", {"memory": {"size": "40MiB"}}))
        await _round(await prepared("disk", {"directory": str(tmp_path), "mount": "8MiB"}))

    _on_uvloop(work)


def test_processes(tmp_path):
    word = label()
    command = [sys.executable, "-S", "-c", "import time; time.sleep(60)", word]

    async def work() -> None:
        target = {"matching": word}
        await _round(await prepared("process", {"do": "pause", "target": target}))
        for do in ("stop", "restart"):
            words = {"do": do, "target": target, "restored_by": {"command": command}, "back": {"settled": "200ms"}}
            await _round(await prepared("process", words))
            [pid] = pids_with(word)
            assert set(os.listdir(f"/proc/{pid}/fd")) <= {"0", "1", "2"}  # nothing of ours outlives us in it

    with spawn(command, tmp_path / "log"):
        try:
            while not pids_with(word):
                pass
            _on_uvloop(work)
        finally:
            for pid in pids_with(word):
                os.kill(pid, signal.SIGKILL)


def test_toxiproxy(tmp_path: Path):
    async def work() -> None:
        async with toxiproxy.running() as server:
            await server.proxy("origin", "127.0.0.1:9")
            await _round(await prepared("toxiproxy", {"server": server.url, "proxies": "origin", "down": True}))

    _on_uvloop(work)
