"""What tests share: waiting under a deadline, child processes ended by their id, and the machine's own unrest.

`requires` names what a test cannot do without. Where it is missing the test skips, and says what to install; under
CI=true it fails, so that a green CI has run everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import psutil
import pytest

ROOT = Path(__file__).parent.parent


def missing(what: str) -> NoReturn:
    """End the test because the environment lacks something: a skip, and a failure in CI."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"CI must have everything: {what}", pytrace=False)
    pytest.skip(what)


def requires(*commands: str, package: str = "") -> str:
    """The path of the first of `commands` that is installed. None is: `missing`, naming `package`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for command in commands:
        found = shutil.which(command, path=path)
        if found:
            return found
    missing(f"{' or '.join(commands)} is not installed (package {package or commands[0]})")


def requires_root(why: str) -> None:
    """`missing` where this process is not root."""
    if os.geteuid() != 0:
        missing(f"needs root: {why}")


def requires_ipv6() -> None:
    """`missing` where this machine has no ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
            s.bind(("::1", 0))
    except OSError:
        missing("needs an IPv6 loopback address")


async def wait_until(predicate: Callable[[], Any], deadline: float = 5.0, what: str = "") -> Any:
    """Ask `predicate` (plain or async) every 10 ms until it answers something truthy; returns that answer.

    AssertionError after `deadline` seconds, naming `what` and the last answer."""
    ends = time.monotonic() + deadline
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() >= ends:
            raise AssertionError(f"{what or 'what was waited for'} did not come within {deadline} s (last answer: {answer!r})")
        await asyncio.sleep(0.01)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port nobody has now, for programs that cannot be told 0. Another may take it first: start again then."""
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True)
class Child:
    """A process of ours, its output in a file."""

    popen: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None
        return self.popen.stdin

    def text(self) -> str:
        """What it has printed so far, both streams, at most the last 64 KiB."""
        data = self.output.read_bytes() if self.output.exists() else b""
        return data[-65536:].decode(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    async def exit(self, deadline: float = 10.0) -> int:
        """Its exit code, once it has ended by itself within `deadline` seconds."""
        await wait_until(lambda: self.popen.poll() is not None, deadline, f"the end of {self.popen.args!r}")
        return int(self.popen.returncode)

    async def says(self, line: str, deadline: float = 10.0) -> str:
        """Wait until it has printed `line`; returns all it printed. AssertionError where it ends first."""

        def said() -> str | None:
            text = self.text()
            if line in text:
                return text
            if not self.running():
                raise AssertionError(f"{self.popen.args!r} ended with {self.popen.returncode} before saying {line!r}:\n{text}")
            return None

        return str(await wait_until(said, deadline, f"{line!r} from {self.popen.args!r}"))

    def stop(self, grace: float = 5.0) -> None:
        """Close its input, SIGTERM, and SIGKILL after `grace` seconds, to it and to what it started: its process group."""
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()
        for how, within in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, how)
            if self._gone(within):
                return

    def _gone(self, within: float) -> bool:
        """Whether it and every member of its group ends within so many seconds. Grandchildren may outlive the child; those
        that wait for init to reap them have ended."""
        ends = time.monotonic() + within
        while self.popen.poll() is None or _members(self.pid):
            if time.monotonic() >= ends:
                return False
            time.sleep(0.01)
        return True


def _members(group: int) -> list[int]:
    """Processes of a group that run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@contextlib.contextmanager
def spawn(
    command: Sequence[str | Path],
    output: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pipe: bool = False,
) -> Iterator[Child]:
    """Start `command` in a process group of its own, both output streams to the file `output`; stopped at the end.

    `env` is added to this process's own. `pipe` opens its standard input. What it printed is shown when the test fails."""
    with output.open("wb") as sink:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            bufsize=0,
        )
    child = Child(popen, output)
    try:
        yield child
    except BaseException as error:
        error.add_note(f"--- {command[0]} (pid {child.pid}) printed:\n{child.text()[-4000:]}")
        raise
    finally:
        child.stop()


def rss(pid: int | None = None) -> int:
    """Resident bytes of a process and all below it; this one when `pid` is None."""
    process = psutil.Process(pid)
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


_HOG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))\n"


@contextlib.contextmanager
def cpu_hog(workers: int = 2) -> Iterator[None]:
    """Keep `workers` processes computing for the length of the block. They end by themselves when this process does."""
    hogs: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers):
            hogs.append(subprocess.Popen([sys.executable, "-S", "-c", _HOG], stdin=subprocess.DEVNULL))
        yield
    finally:
        for hog in hogs:
            hog.kill()
        for hog in hogs:
            hog.wait()


class Unrest:
    """How late this process's loop was: `worst` in seconds, over `samples` looks."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.samples = 0

    def __str__(self) -> str:
        load = os.getloadavg()[0]
        return f"worst loop lag {self.worst * 1000:.0f} ms in {self.samples} looks, load {load:.1f} on {os.cpu_count()} cores"


@contextlib.asynccontextmanager
async def steady(limit: float = 0.05) -> AsyncIterator[Unrest]:
    """For timing tests: watches the loop's own lag during the block, every 10 ms.

    With a lag over `limit` seconds the block's figures are worth nothing and the test fails saying so; it is not run again.
    An AssertionError from within carries the lag as a note either way."""
    unrest = Unrest()
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.freeze()  # what thousands of tests have left: one full pass over it takes a quarter of a second
    due = loop.time()
    handle: asyncio.TimerHandle

    def look() -> None:
        nonlocal due, handle
        unrest.worst = max(unrest.worst, loop.time() - due)
        unrest.samples += 1
        due = loop.time() + 0.01
        handle = loop.call_at(due, look)

    handle = loop.call_soon(look)  # type: ignore[assignment]
    try:
        yield unrest
    except AssertionError as error:
        error.add_note(f"the machine meanwhile: {unrest}")
        raise
    finally:
        handle.cancel()
        gc.unfreeze()
    if unrest.worst > limit:
        pytest.fail(f"tainted: nothing timed here can be believed ({unrest}; limit {limit * 1000:.0f} ms)", pytrace=False)


def seconds(work: Callable[[], object]) -> float:
    """The thread's own; where another thread shares the core, they are up to three times as long."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def cost(work: Callable[[], object]) -> float:
    """How often a fixed piece of work, done right before and after, would have been done in that time: 50 are a second of a quiet
    machine. Seconds of a busy one say nothing of the work."""
    before, took, after = seconds(yard), seconds(work), seconds(yard)
    return 2 * took / (before + after)


def yard() -> int:
    """20 ms on a quiet machine."""
    return sum(len(str(number)) for number in range(200_000))
