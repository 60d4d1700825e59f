"""Jobs for workers, and a distribution beside ours whose `fake` step dies in every way there is.

It is installed as any other would be: a folder on PYTHONPATH with its metadata, found by its entry point."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from probe.agent.job import Job
from probe.model.clock import NS
from probe.plan import FakeStep, Plan, Step

_numbers = itertools.count(1)

DYING = """
import asyncio, ctypes, os, signal, subprocess, sys, time

from probe.model.observation import Note
from probe.model.outcome import Done


class Dying:
    async def run(self, step, io):
        for note in range(3):
            io.note(f"before {note}")
        await asyncio.sleep(0.2)
        await getattr(self, step.reason)(step, io)
        return Done()

    async def nothing(self, step, io):
        await asyncio.sleep(step.took / 1e9)

    async def authorities(self, step, io):
        from probe.net.connector import default_tls

        io.note(f"knows {len(default_tls().get_ca_certs())}")

    async def segfault(self, step, io):
        ctypes.string_at(0)

    async def abort(self, step, io):
        os.abort()

    async def exit(self, step, io):
        os._exit(3)

    async def memory(self, step, io):
        kept = []
        while True:
            kept.append(bytearray(b"x") * (8 << 20))
            await asyncio.sleep(0.01)

    async def no_memory(self, step, io):
        raise MemoryError

    async def hang(self, step, io):
        open(__file__ + ".hangs", "w").close()
        ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock, as a codec that does not let go of it

    async def garbage(self, step, io):
        for number in range(3, 256):
            try:
                os.write(number, b"\\xff" * 4096)
            except OSError:
                pass
        await asyncio.sleep(10)

    def start(self, io):
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
        io.note(f"child {child.pid}")

    async def stubborn(self, step, io):
        self.start(io)
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                pass

    async def parent(self, step, io):
        self.start(io)
        await asyncio.sleep(0.2)
        ctypes.string_at(0)

    async def chatter(self, step, io):
        ends = time.monotonic() + step.took / 1e9
        while time.monotonic() < ends:
            for _ in range(100):
                io.note("x" * 100)
            await asyncio.sleep(0.02)
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str = DYING) -> None:
    """From now on steps of kind `fake` are `module`'s in every worker started."""
    metadata = folder / "dying-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dying\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[stream_probe.steps]\nfake = dying:driver\n")
    (folder / "dying.py").write_text(module + "\n\ndriver = Dying()\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def fake(reason: str, took: float = 0.0, phase: str = "") -> FakeStep:
    return FakeStep(name="step", reason=reason, took=round(took * NS), phase=phase)


def make_job(state: Path, *steps: Step, deadline: float = 30.0, memory: int = 1 << 30) -> Job:
    number = next(_numbers)
    plan = Plan(
        scenario="s", description="", owner="o", mode="scheduled", seed=1, region="r", publish_region="r",
        run_id=f"run-{number}", run_number=number, trace_low=6, platform_url="http://127.0.0.1", allow=(), ice_servers=(),
        accounts={}, secrets={}, journey=steps, final=(), run_deadline=60 * NS, reconnect_deadline=NS,
    )  # fmt: skip
    return Job(plan=plan, schedule="s", due=0, deadline=round(deadline * NS), memory=memory, state=state)
