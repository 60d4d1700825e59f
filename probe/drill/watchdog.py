"""A process of its own that puts back what a drill has broken when nobody else does: at its expiry, and at once when the runner
is dead, however it died.

    python -m probe.drill.watchdog LEDGER [--runner=PID --channel=FD] [--kind=ROW …]      # started by guard.py

It shares nothing with the runner that could take both: a session and process group of its own and no terminal, forked away from
whoever started it, no output that could block, little memory. It knows of the runner by a pidfd and by the runner's lock on the
ledger, of faults by the ledger alone, of time by CLOCK_BOOTTIME, looked at again and again rather than waited for, since timers
stand still while a machine sleeps. What it does is in the ledger, what it thinks in a log beside it.

Each undo has a thread and a loop of its own: one that blocks holds up no other. What cannot be put back in a quarter of an hour
is left open, and said: `probe drill recover` and its timer go on from there.

Faults on our own clients end with the runner's process. Where that lives, and does not end them at their time, it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from probe.clock import BootClock, SystemClock
from probe.drill.book import Book, Entry, LedgerRefused
from probe.drill.faults.table import fault
from probe.drill.ledger import Ledger, log_of
from probe.drill.undoing import Bound, Outcome, Undone, undo_apart
from probe.model.clock import NS
from probe.net.redact import Redactor

NOT_RESTORED = 5
_TICK = 0.2  # s between two looks at clock, ledger and runner
_BEAT = 2  # ticks
_PATIENCE = 1 * NS  # past its expiry with a runner that has begun to undo it, and may be stopped or hang in that
_BOUND = Bound(patience=_PATIENCE)
_LAST_BOUND = Bound(patience=_PATIENCE, total=20 * NS)  # of who was told to end
_AGAIN = 20 * NS  # after a bound was used up in vain
_PERSIST = 900 * NS  # and altogether
_MERCY = 6 * NS  # for a runner that lives, and may only be slow, to end what is in its own process
_LOG_BYTES = 1 << 20
_OOM_SCORE = "-500"


class Watchdog:
    """Guards one ledger until nothing is open and its runner is gone."""

    def __init__(self, path: Path, runner: int, channel: socket.socket | None) -> None:
        self._clock, self._boot, self._redactor = SystemClock(), BootClock(), Redactor()
        self._log = os.open(log_of(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._ledger = Ledger.joined(path, redactor=self._redactor, clock=self._clock, boot=self._boot)
        self._book = Book(path=path)
        self._size: int | None = -1  # of the ledger when it was read; None: it cannot be
        self._channel = channel
        self._pidfd = _pidfd(runner)
        self._gone = ""  # why the runner is taken for dead
        self._told = False  # to end
        self._news = asyncio.Event()  # there is something to look at before the next tick
        self._working: set[int] = set()
        self._since: dict[int, int] = {}  # of entries that would not go: monotonic ns of the first try
        self._next: dict[int, int] = {}  # and of the next one
        self._left: set[int] = set()  # given up

    async def run(self) -> int:
        """The exit code: 0, or NOT_RESTORED."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._tell)
        if self._pidfd >= 0:
            loop.add_reader(self._pidfd, self._died, "its process is gone")
        if self._channel is not None:
            self._channel.setblocking(False)
            loop.add_reader(self._channel.fileno(), self._hung_up)
        self.say("ready", pid=os.getpid(), parent=os.getppid(), session=os.getsid(0))
        self._send(f"ready {os.getpid()}\n")
        async with asyncio.TaskGroup() as group:
            await self._guard(group)
        self._ledger.close()
        left = [entry.fault for entry in self._book.open]
        self.say("ends", runner=self._gone or "lives", told=self._told, left=left)
        return NOT_RESTORED if left else 0

    async def _guard(self, group: asyncio.TaskGroup) -> None:
        ticks = 0
        while True:
            alone = bool(self._gone or self._told)  # before the look: what a runner wrote last, it wrote before it died
            self._look()
            for entry in self._book.open:
                if self._due(entry):
                    self._working.add(entry.number)
                    self._since.setdefault(entry.number, self._clock.now())
                    group.create_task(self._undo(entry))
            if alone and not self._working and all(entry.number in self._left for entry in self._book.open):
                return
            ticks += 1
            if ticks % _BEAT == 0:
                self._send(".")
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._news.wait()
            self._news.clear()

    def say(self, event: str, **about: Any) -> None:
        """A line of the log, for people. A disk that is full costs the line."""
        about = {"event": event, "boottime": self._boot.now(), "wall_unix_ns": self._clock.wall().unix_ns, **about}
        with suppress(OSError):
            if os.fstat(self._log).st_size < _LOG_BYTES:
                os.write(self._log, self._redactor.redact(json.dumps(about)).encode() + b"\n")

    # -- the runner

    def _died(self, why: str) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self._gone:
            self._gone = why
            self.say("runner gone", why=why)
            self._news.set()

    def _hung_up(self) -> None:
        """The runner says nothing ever; it can only let go of its end."""
        assert self._channel is not None
        with suppress(BlockingIOError, OSError):
            if self._channel.recv(64):
                return
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._died("it has let go of us")

    def _tell(self) -> None:
        self.say("told to end")
        self._told = True
        self._news.set()

    def _send(self, text: str) -> None:
        if self._channel is not None:
            with suppress(OSError):  # it is gone, or does not read: its lock and its pidfd say the rest
                self._channel.send(text.encode())

    # -- the ledger

    def _look(self) -> None:
        """At the runner's lock, and at the ledger where it has grown; unreadable, what it said before still counts."""
        if not self._gone and not self._ledger.runner_lives():
            self._died("its lock on the ledger is free")
        try:
            size = self._ledger.path.stat().st_size
            if size != self._size:
                self._book = self._ledger.book()
                self._size = size
        except (LedgerRefused, OSError) as error:
            if self._size is not None:
                self.say("the ledger cannot be read", why=str(error))
            self._size = None

    # -- undoing

    def _due(self, entry: Entry) -> bool:
        number, now = entry.number, self._clock.now()
        if number in self._working or number in self._left or now < self._next.get(number, 0):
            return False
        if self._gone:
            return True
        if entry.inside:
            return self._only_the_runner_can(entry)
        return self._told or entry.due(self._boot.boot(), self._boot.now())

    def _only_the_runner_can(self, entry: Entry) -> bool:
        """It is left to it, but not for ever."""
        if self._told:
            self._left.add(entry.number)
        elif self._boot.now() >= entry.expires + _MERCY and self._pidfd >= 0:
            self.say("killing the runner", fault=entry.fault, why="what is in its own process did not end at its time")
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        return False

    async def _undo(self, entry: Entry) -> None:
        late = self._boot.now() - entry.expires
        self.say("undoing", fault=entry.fault, number=entry.number, past_expiry_ns=late, runner=self._gone or "lives")
        bound = _LAST_BOUND if self._told else _BOUND
        undone = await undo_apart(entry, self._ledger, clock=self._clock, redactor=self._redactor, by="watchdog", bound=bound)
        self._done(entry, undone)

    def _done(self, entry: Entry, undone: Undone) -> None:
        number, now = entry.number, self._clock.now()
        self._working.discard(number)
        self._news.set()
        if undone.state is not Outcome.FAILED:
            self.say("undone", fault=entry.fault, number=number, state=str(undone.state), by=undone.by, detail=undone.detail)
            self._left.add(number)
            return
        self.say("not undone", fault=entry.fault, number=number, detail=undone.detail)
        self._next[number] = now + _AGAIN
        if self._told or now - self._since[number] >= _PERSIST:
            self._left.add(number)
            self.say("left open", fault=entry.fault, number=number, remedy="probe drill recover")


def _pidfd(runner: int) -> int:
    """-1 where there is none: the lock alone says then whether it lives."""
    try:
        return os.pidfd_open(runner) if runner else -1
    except (OSError, AttributeError):
        return -1


def _detach() -> None:
    """Away from whoever started us; init adopts us. There is one thread yet."""
    if os.fork():
        os._exit(0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    with suppress(OSError):  # only who may can; else it is as likely as others of its size
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m probe.drill.watchdog", description=__doc__.partition("\n\n")[0])
    parser.add_argument("ledger", type=Path)
    parser.add_argument(
        "--runner", type=int, default=0, help="process that is guarded; without one its lock says whether it lives"
    )
    parser.add_argument("--channel", type=int, help="descriptor of a socket to it; with one, goes into the background")
    parser.add_argument("--kind", action="append", default=[], help="row of the table of faults, loaded at once")
    given = parser.parse_args()
    channel = None
    if given.channel is not None:
        _detach()
        channel = socket.socket(fileno=given.channel)
    try:
        for kind in given.kind:
            fault(kind)
        watchdog = Watchdog(given.ledger, given.runner, channel)
    except Exception as error:  # told to who waits for us, whatever it is
        words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        if channel is not None:
            channel.sendall(f"failed {words}\n".encode())
        sys.stderr.write(f"{words}\n")
        return 1
    return asyncio.run(watchdog.run())


if __name__ == "__main__":
    status = main()
    os._exit(status)  # a thread that hangs in an undo keeps nobody waiting
