"""The runner's side of its watchdog: start it, wait until it is ready, know within a second when it is no more.

A socket pair is all there is between them: the watchdog says `ready`, then beats; the kernel closes its end when it dies. Nothing
is asked of it later: what it has to undo it reads from the ledger, so it needs nobody to tell it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import probe
from probe.drill.ledger import Ledger, log_of
from probe.errors import ProbeError

_READY = 30.0  # s; it imports the faults first, on a machine that may be loaded
_SILENT = 5.0  # s without a beat: it is stopped or starved, and so would be its undo
_LEAVE = 3.0  # s for it to end, when nothing is open any more
_MOST = 4096


class NoWatchdog(ProbeError):
    """It did not come to be, so nothing may be broken."""


class Guard:
    """A watchdog at work. `died` is set once it is not: the drill is to be aborted then."""

    def __init__(self, ours: socket.socket) -> None:
        self.died = asyncio.Event()
        self.why = ""
        self.pid = 0
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[str] = self._loop.create_future()
        self._silence: asyncio.TimerHandle | None = None
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._readable)

    async def ready(self) -> None:
        """Raises NoWatchdog where it is not within its time."""
        try:
            async with asyncio.timeout(_READY):
                said = await self._first
        except TimeoutError:
            raise NoWatchdog(f"the watchdog was not ready within {_READY:g} s, so nothing was touched") from None
        word, _, rest = said.partition(" ")
        if word != "ready":
            raise NoWatchdog(f"there is no watchdog, so nothing was touched: {rest or 'it ended at once'}")
        self.pid = int(rest)

    async def leave(self) -> None:
        """The drill is over; what is still open is the watchdog's from now on. It is waited for while it could end soon."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LEAVE):
                await self.died.wait()
        except (OSError, TimeoutError):  # gone already; or at work, for longer than we stay
            pass

    def close(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self._over("its process is gone")
            return
        if not self._first.done():
            self._first.set_result(data.decode(errors="replace").partition("\n")[0])
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._loop.call_later(_SILENT, self._over, f"it has not said anything for {_SILENT:g} s")

    def _over(self, why: str) -> None:
        if not self._first.done():
            self._first.set_result("failed")
        self.why = self.why or why
        self.died.set()


@asynccontextmanager
async def guarded(ledger: Ledger, *, kinds: Iterable[str] = ()) -> AsyncIterator[Guard]:
    """A watchdog over `ledger` while the block lasts, ready when it begins. `kinds`: rows of the table of faults that it is to
    have loaded by then, so that no undo waits for an import. Raises NoWatchdog."""
    ours, theirs = socket.socketpair()
    guard = Guard(ours)
    try:
        with theirs:
            await _start(ledger.path.absolute(), theirs.fileno(), sorted(set(kinds)))
        try:
            await guard.ready()
        except NoWatchdog as error:
            raise NoWatchdog(f"{error} (see {log_of(ledger.path)})") from None
        try:
            yield guard
        finally:
            await guard.leave()
    finally:
        guard.close()


async def _start(path: Path, channel: int, kinds: Sequence[str]) -> None:
    """It forks again by itself: what is started here has ended when this returns, and the watchdog is nobody's child."""
    try:
        process = await asyncio.to_thread(_started, path, channel, kinds)
    except OSError as error:
        raise NoWatchdog(f"no watchdog could be started, so nothing was touched: {error}") from error
    try:
        async with asyncio.timeout(_READY):
            code = await asyncio.to_thread(process.wait)
    except TimeoutError:
        process.kill()
        raise NoWatchdog(f"the watchdog did not start within {_READY:g} s, so nothing was touched") from None
    if code:
        raise NoWatchdog(f"the watchdog ended with {code}, so nothing was touched (see {log_of(path)})")


def _started(path: Path, channel: int, kinds: Sequence[str]) -> subprocess.Popen[bytes]:
    home = str(Path(probe.__file__).parent.parent)
    command = [sys.executable, "-P", "-m", "probe.drill.watchdog", str(path)]
    command += [f"--runner={os.getpid()}", f"--channel={channel}", *(f"--kind={kind}" for kind in kinds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))}
    with open(log_of(path), "ab", opener=_private) as log:
        return subprocess.Popen(  # noqa: S603  # ourselves
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            pass_fds=(channel,),
            env=environment,
        )


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)
