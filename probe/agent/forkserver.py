"""The process that workers are forked from: it has imported and warmed everything, runs no loop and no thread, and waits.

A worker spawned afresh costs 1 s of CPU and 60 MiB of its own before it can start a run; one forked from here 3 ms and 3 MiB,
for what was imported is shared until it is written to. So the agent keeps warm workers at hardly any cost, and every run has a
process of its own. Forking is sound because this process has one thread (it refuses to serve otherwise): stock asyncio warms
it up, since uvloop would leave libuv's threads behind, numpy's are switched off by whoever starts it, and what other
distributions add is loaded in the worker.

    python -m probe.agent.forkserver FD        # FD: a SOCK_SEQPACKET socket to the agent

    READY, or FAILED why →
         ← FORK n (with the worker's socket) | ASK pid, for its last words | KILL pid
    FORKED n pid →
    GONE pid, status, cpu, peak, its last words →

A worker leads a session of its own, which is killed with it: what it started goes too. When the agent goes, however it goes,
its end of the socket closes, and this process kills all workers and ends; if this one goes, the kernel kills them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import socket
import ssl
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from probe.agent import slim

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MESSAGE = 64 * 1024
_STACK = 8 * 1024
_FIRST_TO_GO = "500"  # of -1000 … 1000: where memory runs out the kernel takes a worker, not the agent

Work = Callable[[socket.socket, int], NoReturn]


class Forkserver:
    """`work` is what a worker does in its process."""

    def __init__(self, control: socket.socket, work: Work) -> None:
        self._control, self._work = control, work
        self._authorities = _authorities()
        self._workers: dict[int, int] = {}  # pid → file for its last words
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of a worker are reaped here: nobody else might
        self._wake, self._wakes = socket.socketpair()

    def serve(self) -> None:
        """Until the agent is gone."""
        for end in (self._wake, self._wakes):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            self._tell(kind="ready")
            while True:
                for number, _ in poll.poll():
                    if number == self._control.fileno():
                        self._obey()
                    else:
                        self._wake.recv(_MESSAGE)
                        self._reap()
        except (ConnectionError, EOFError):
            pass
        finally:
            for pid in self._workers:
                _kill(pid)

    def _obey(self) -> None:
        data, sockets, _, _ = socket.recv_fds(self._control, _MESSAGE, 1)
        if not data:
            raise EOFError
        order = json.loads(data)
        if order["kind"] == "fork":
            with socket.socket(fileno=sockets[0]) as agent:
                self._fork(order["number"], agent)
        elif order["pid"] in self._workers:  # else it was faster
            if order["kind"] == "ask":
                os.kill(order["pid"], signal.SIGABRT)  # faulthandler answers that even where Python does not come to
            else:
                _kill(order["pid"])

    def _fork(self, number: int, agent: socket.socket) -> None:
        if (now := _authorities()) != self._authorities:
            self._authorities = now
            _read_authorities()
        words = os.memfd_create("last-words")
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(words)
            self._tell(kind="forked", number=number, pid=0, why=f"cannot fork: {error.strerror}")
            return
        if pid == 0:
            try:
                self._become_worker(me, words)
                self._work(agent, words)
            finally:
                os._exit(70)
        self._workers[pid] = words
        self._tell(kind="forked", number=number, pid=pid)

    def _become_worker(self, parent: int, words: int) -> None:
        os.setsid()
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(70)  # it went before the kernel knew that we care
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._wake, self._wakes):
            end.close()
        for other in self._workers.values():
            os.close(other)
        faulthandler.enable(words)
        # No core dump: it would hold the secrets. 1, for the kernel ignores 0 where dumps go to a program.
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_FIRST_TO_GO)
        gc.enable()

    def _reap(self) -> None:
        """Each that has ended: its group goes before its number can be anybody else's."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                words = self._workers.pop(ended.si_pid, None)
                if words is not None:
                    _kill(ended.si_pid)
                _, status, usage = os.wait4(ended.si_pid, 0)
                if words is None:
                    continue
                self._tell(
                    kind="gone",
                    pid=ended.si_pid,
                    status=os.waitstatus_to_exitcode(status),
                    cpu=usage.ru_utime + usage.ru_stime,
                    peak=usage.ru_maxrss * 1024,
                    words=os.pread(words, _STACK, 0).decode("utf-8", "replace"),
                )
                os.close(words)

    def _tell(self, **message: Any) -> None:
        tell(self._control, **message)


def tell(control: socket.socket, **message: Any) -> None:
    control.send(json.dumps(message).encode())


def _kill(pid: int) -> None:
    """A worker and what it started. Its group may be empty, or not be there yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _nothing(*_: object) -> None:
    """A handler, unlike SIG_IGN, is not inherited by programs that a worker starts."""


def _warmed() -> Work:
    """Everything that a run needs is imported and has been used once."""
    from probe.agent import worker
    from probe.clock import SystemClock
    from probe.drivers.table import all_ours, table
    from probe.media.decoder import warm_up
    from probe.media.sizes import SIZES
    from probe.rtc import warm
    from probe.wire.h264_band import BandWriter

    warm_up(SystemClock())
    asyncio.run(warm())
    _read_authorities()
    for width, height in SIZES.values():
        BandWriter(width, height)  # leaves its tables behind
    if all_ours():
        table()
    return worker.work


def _read_authorities() -> None:
    """Here, since it takes 25 ms for each protocol."""
    from probe.net.connector import default_tls

    default_tls.cache_clear()
    default_tls()
    default_tls("http/1.1")


def _authorities() -> list[int]:
    """Changes when the system's authorities do: an agent outlives many of them."""
    found = []
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, paths.capath):
        with contextlib.suppress(OSError, TypeError):  # TypeError: there is none
            found.append(os.stat(path).st_mtime_ns)
    return found


def become(control: socket.socket) -> NoReturn:
    """What this process does, to its end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # sent to all of us: the agent ends us after the runs
        signal.signal(number, _nothing)
    gc.disable()  # what a collection frees before the fork is written to after it
    try:
        work = _warmed()
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(f"{threads} threads run after warming up: forking would not be safe")
        gc.collect()
        gc.freeze()
        slim.trim()
        slim.forget_files()
        Forkserver(control, work).serve()
    except BaseException as error:
        tell(control, kind="failed", why=f"{type(error).__name__}: {error}"[:2000])
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # no tidying: workers that die now have nobody to be told to


if __name__ == "__main__":
    become(socket.socket(fileno=int(sys.argv[1])))
