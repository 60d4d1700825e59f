"""The first forkserver is forked from the agent itself, before that has a loop or a thread.

What both need is imported before, and shared for as long as neither writes to it; the rest each imports for itself, so that the
agent has no codec and the workers have no database. Measured, agent, forkserver and two warm workers in anonymous memory:
115 MiB; 139 where all was imported before, 120 where nothing was. The forkserver that takes its place once it has served its
time is a program of its own (forks.py), and shares nothing: 125.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from dataclasses import dataclass
from importlib import import_module

from probe.agent import forkserver

_BOTH = ("uvloop", "aiohttp", "probe.drivers.base", "probe.agent.pipe", "probe.run.logs")


@dataclass(slots=True)
class Seed:
    """A forkserver that warms up: our child, which nobody but us waits for."""

    pid: int
    control: socket.socket
    returncode: int | None = None

    async def wait(self) -> int:
        """Its end."""
        if self.returncode is None:
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[int] = loop.create_future()
            process = os.pidfd_open(self.pid)

            def reap() -> None:
                loop.remove_reader(process)
                ended.set_result(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))

            loop.add_reader(process, reap)
            try:
                self.returncode = await ended
            finally:
                loop.remove_reader(process)
                os.close(process)
        return self.returncode


def sow() -> Seed | None:
    """Fork it, first of all. None where threads run already, for then forking is not safe."""
    if len(os.listdir("/proc/self/task")) > 1:
        return None
    for name in _BOTH:
        import_module(name)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # what is shared stays shared: a collection would write to all of it
    pid = os.fork()
    if pid:
        its.close()
        return Seed(pid, ours)
    try:
        ours.close()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        forkserver.become(its)
    finally:
        os._exit(1)
