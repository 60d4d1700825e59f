"""One command of the allow-list, bounded: no shell, an environment of its own, a time after which it and all that it started are
killed, and so much of what it says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

_MOST = 16 * 1024  # bytes of its output that are looked at; the rest is read and thrown away


async def run_command(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> tuple[bool, str]:
    """Whether it ended with 0 within `seconds`, and how it ended, with the beginning of what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # so that what it starts goes with it
            close_fds=True,
        )
    except (OSError, ValueError) as error:
        return False, f"cannot be run: {getattr(error, 'strerror', None) or error}"
    said = bytearray()
    try:
        async with asyncio.timeout(seconds):
            assert process.stdout is not None
            while piece := await process.stdout.read(64 * 1024):
                said += piece[: max(0, _MOST - len(said))]
            await process.wait()
    except TimeoutError:
        await _kill(process)
        return False, f"took longer than {seconds:g} s: {said.decode(errors='replace')}"
    except asyncio.CancelledError:
        await _kill(process)
        raise
    text = said.decode(errors="replace")
    return process.returncode == 0, f"ended with {process.returncode}: {text}" if process.returncode else text


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
