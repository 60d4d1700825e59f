"""The agent's hold on its forkserver: starts it, asks it for workers, hears how they ended.

Whatever happens to that process is an answer here, never a wait without end: it is given a minute to warm up, a worker ten
seconds to come, and when it is gone all its workers are (the kernel sees to that).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from probe.agent.pipe import Garbled, Kind, read
from probe.agent.seed import Seed
from probe.errors import ProbeError

_WARM_WITHIN = 60.0
_FORKED_WITHIN = 10.0
_ENDS_WITHIN = 5.0
_MESSAGE = 64 * 1024
_WAITING = 256 * 1024  # bytes read ahead of a worker
# Threads of numpy's that nobody here needs would make forking unsafe.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class NotStarted(ProbeError):
    """No worker, and why."""


@dataclass(frozen=True, slots=True)
class Gone:
    """How a worker ended, by the kernel's account: `cpu` in seconds, `peak` in bytes, its children's that it waited for included;
    None where the forkserver went first and nobody can say. `words`, its last: where each thread was when a signal of its own
    making killed it or when it was asked, or what broke it."""

    how: str  # signal 11 | exit 3 | lost
    cpu: float | None = None
    peak: int | None = None
    words: str = ""


@dataclass(slots=True, eq=False)
class Fork:
    """A warm worker. `gone` is done once it has ended and everything it started is killed."""

    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Future[Gone]
    server: Forks

    def ask(self) -> None:
        """Make it tell where it is, with its last words."""
        self.server.tell(kind="ask", pid=self.pid)

    def kill(self) -> None:
        if not self.gone.done():
            self.server.tell(kind="kill", pid=self.pid)

    def close(self) -> None:
        """One that waits for a job ends by that."""
        self.writer.transport.abort()


@dataclass(slots=True, eq=False)
class Forks:
    """A running forkserver."""

    process: asyncio.subprocess.Process | Seed
    _control: socket.socket
    forked: int = 0
    _said: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _living: dict[int, asyncio.Future[Gone]] = field(default_factory=dict)
    _retired: bool = False
    lost: bool = False

    @classmethod
    async def start(cls, seed: Seed | None = None) -> Forks:
        """Warm: grown from the seed, or a program of its own. Raises NotStarted."""
        process, ours = await _spawned() if seed is None else (seed, seed.control)
        ours.setblocking(False)
        forks = cls(process, ours)
        ready = forks._expect("ready")
        asyncio.get_running_loop().add_reader(ours, forks._hear)
        try:
            async with asyncio.timeout(_WARM_WITHIN):
                await ready
        except BaseException as error:
            await forks.close()
            if isinstance(error, TimeoutError):
                raise NotStarted(f"it was not warm within {_WARM_WITHIN:g} s") from error
            raise
        return forks

    async def fork(self) -> Fork:
        """A worker that is warm and waits for its job. Raises NotStarted."""
        self.forked += 1
        said = self._expect(str(self.forked))
        fork = ours = None
        try:
            ours, its = socket.socketpair()
            async with asyncio.timeout(_FORKED_WITHIN):
                with its:
                    self.tell(its, kind="fork", number=self.forked)
                answer = await said
                if not answer["pid"]:
                    raise NotStarted(answer["why"])
                gone = answer["gone"]
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_WAITING)
                fork = Fork(answer["pid"], reader, writer, gone, self)
                if await read(reader) != (Kind.READY, b""):
                    raise NotStarted(f"a worker ended before it was ready: {(await gone).how} {(await gone).words}".rstrip())
                return fork
        except BaseException as error:
            if fork is not None:
                fork.kill()
                fork.close()
            if ours is not None:
                ours.close()
            if isinstance(error, TimeoutError | Garbled):
                raise NotStarted(f"a worker was not ready within {_FORKED_WITHIN:g} s") from error
            if isinstance(error, OSError):
                raise NotStarted(f"no way to a worker: {error.strerror}") from error
            raise
        finally:
            self._said.pop(str(self.forked), None)

    def tell(self, *sockets: socket.socket, **order: Any) -> None:
        """One order. What cannot be said any more is told to whoever waits, when the end is heard."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(order).encode()], [s.fileno() for s in sockets])

    def retire(self) -> None:
        """Fork no more; end with the last worker."""
        self._retired = True
        self._rest()

    async def close(self) -> None:
        """End it, and all its workers with it."""
        self._lose("closed")
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                await self.process.wait()
        except TimeoutError:
            pass
        finally:
            if self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, signal.SIGKILL)
                await self.process.wait()

    def _expect(self, what: str) -> asyncio.Future[dict[str, Any]]:
        said = self._said[what] = asyncio.get_running_loop().create_future()
        said.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard by nobody where its waiter is gone
        return said

    def _hear(self) -> None:
        try:
            data = self._control.recv(_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("the forkserver is gone")
            return
        message = json.loads(data)
        match message["kind"]:
            case "ready":
                self._answer("ready", message)
            case "forked":
                gone: asyncio.Future[Gone] = asyncio.get_running_loop().create_future()
                if message["pid"]:
                    self._living[message["pid"]] = gone
                self._answer(str(message["number"]), {**message, "gone": gone})
            case "gone":
                status = message["status"]
                how = f"signal {-status}" if status < 0 else f"exit {status}"
                ended = Gone(how, message["cpu"], message["peak"], message["words"])
                self._living.pop(message["pid"]).set_result(ended)
                self._rest()
            case "failed":
                self._lose(message["why"])

    def _answer(self, what: str, message: dict[str, Any]) -> None:
        said = self._said.pop(what, None)
        if said is not None and not said.done():
            said.set_result(message)

    def _lose(self, why: str) -> None:
        if self.lost:
            return
        self.lost = True
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        for said in self._said.values():
            if not said.done():
                said.set_exception(NotStarted(why))
        for gone in self._living.values():
            gone.set_result(Gone("lost"))
        self._said.clear()
        self._living.clear()

    def _rest(self) -> None:
        if self._retired and not self._living:
            self._lose("retired")


async def _spawned() -> tuple[asyncio.subprocess.Process, socket.socket]:
    try:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise NotStarted(f"no way to a process: {error.strerror}") from error
    with its:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "probe.agent.forkserver", str(its.fileno())),
                pass_fds=[its.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # what a library prints is a log at best
                start_new_session=True,
                env={**os.environ, **_ONE_THREAD},
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise NotStarted(f"cannot start a process: {error.strerror}") from error
            raise
    return process, ours
