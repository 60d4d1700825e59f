"""Commands that run beside one another: what each prints is kept and shown whole when it has ended, and all end together.

A command runs in a session of its own, so that Ctrl-C is ours to pass on: pytest is given the time to take its fixtures down,
and what is left of the session's first process group then is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ROOT = Path(__file__).parent.parent
GRACE = 15.0  # s to end in, once asked to
KEEP = 1 << 20  # bytes of the end of what one has printed


@dataclass(frozen=True)
class Job:
    """`command` in the checkout, within so many seconds. `fine`: exit codes that are well."""

    name: str
    command: tuple[str, ...]
    within: float = 600.0
    fine: tuple[int, ...] = (0,)


def run(lanes: Sequence[Sequence[deque[Job]]], *, live: bool = False) -> list[str]:
    """Every job once, the lanes beside one another: a lane does one job at a time, from the first of its queues that has any.
    Returns the names of those that did not end well. `live`: output goes straight out.

    KeyboardInterrupt, on SIGINT and on SIGTERM, once all have ended."""
    return asyncio.run(_run(lanes, live))


async def _run(lanes: Sequence[Sequence[deque[Job]]], live: bool) -> list[str]:
    failed: list[str] = []
    whole, loop, stopped = asyncio.current_task(), asyncio.get_running_loop(), asyncio.Event()
    assert whole is not None

    def stop() -> None:
        if not stopped.is_set():  # asked again, it does not hurry
            stopped.set()
            whole.cancel()

    async def work(lane: Sequence[deque[Job]]) -> None:
        while queue := next((queue for queue in lane if queue), None):
            job = queue.popleft()
            if not await _job(job, live):
                failed.append(job.name)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(work(lane))
    except asyncio.CancelledError:
        if stopped.is_set():
            raise KeyboardInterrupt from None
        raise
    return failed


async def _job(job: Job, live: bool) -> bool:
    """Whether it ended well."""
    began, code, words = time.monotonic(), None, "; interrupted"
    with TemporaryFile() as kept:
        if live:
            print(f"\n$ {job.name}", flush=True)
        try:
            code = await _ended(job, None if live else kept)
            words = "" if code in job.fine else f"; exit code {code}"
        except TimeoutError:
            words = f"; did not end within {job.within:.0f} s"
        finally:
            took = f"({time.monotonic() - began:.0f} s{words})"
            print(took if live else f"\n$ {job.name}  {took}\n{_text(kept)}", flush=True)
    return code in job.fine


def _text(kept: IO[bytes]) -> str:
    size = kept.seek(0, os.SEEK_END)
    kept.seek(max(0, size - KEEP))
    return kept.read().decode(errors="replace").rstrip()


async def _ended(job: Job, output: IO[bytes] | None) -> int:
    """Its exit code. TimeoutError where it had to be ended."""
    process = await asyncio.create_subprocess_exec(
        *job.command,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output or sys.stdout,
        stderr=asyncio.subprocess.STDOUT if output else sys.stderr,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(job.within):
            return await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await process.wait()
        with suppress(ProcessLookupError):  # also what an ended one has left
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
