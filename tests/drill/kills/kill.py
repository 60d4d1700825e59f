"""One drill, killed at one moment in one way; and what was found afterwards, by the show's own eyes and in the ledger.

The runner has a terminal of its own, below a shell, so that Ctrl-C and a hang-up are what they are for people. Moments are
random, from its ledger on to its end; every third one is within some ms of a word it says: around an injection, amid an undo.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from probe.clock import boottime
from probe.drill.book import Book, LedgerRefused, read
from probe.model.clock import NS
from tests.drill.host.tools import pids_with
from tests.drill.kills.targets import Target
from tests.tools import ROOT

WAYS = ("kill -9", "kill -9, and parents", "SIGTERM", "Ctrl-C", "kill -9 of its group", "hang-up", "SIGSTOP")
_LASTS = 8.0  # s, of a fault
_SPAN = 1.7  # s, of a drill from its ledger on
_ROOM = Path(__file__).parent / "room.yaml"
_LATE = 20.0  # s beyond the expiry that are waited before a fault is called left in place


@dataclass
class Killed:
    """`left`: what was still broken beyond the expiry; `back`: ns after death (or, where the runner hung, after expiry) at which
    something was seen broken last; `began`: until the undo began, by the ledger."""

    way: str
    names: list[str]
    moment: str = ""
    state: str = ""
    left: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    began: int | None = None
    back: int | None = None
    in_time: bool = True
    undoers: set[str] = field(default_factory=set)
    memory: tuple[int, int] | None = None  # RSS and PSS of the watchdog, bytes

    @property
    def well(self) -> bool:
        return not (self.left or self.trouble) and self.in_time


class NotBegun(Exception):
    """It broke nothing: the machine was too busy to prove that all was well before."""


class Drill:
    """A runner in a terminal, below a shell."""

    def __init__(self, folder: Path, targets: Sequence[Target], env: dict[str, str]) -> None:
        self.folder = folder
        self.master, terminal = pty.openpty()
        with (folder / "out").open("wb") as out:
            self.shell = subprocess.Popen(
                ["/bin/sh", "-c", f"{shlex.join(self.command(targets))}; exit $?"],
                stdin=terminal,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                cwd=ROOT,
                env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            )
        os.close(terminal)

    def command(self, targets: Sequence[Target]) -> list[str]:
        """Of a stand-in that does what a runner does for safety, and no more: any fault, in a second."""
        faults = {target.name.replace(" ", "-"): [target.kind, target.words] for target in targets}
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps({"state": str(self.folder / "state"), "lasts": _LASTS, "hold": 0.8, "faults": faults}))
        return [sys.executable, "-m", "tests.drill.safety.runner", str(spec)]

    async def at_some_moment(self, rng: random.Random) -> str:
        """Waits for it; what it had said last."""
        if not await self.says("ledger "):
            raise AssertionError(f"the drill did not begin:\n{self.said}")
        if rng.random() < 1 / 10:
            await asyncio.sleep(rng.random())
        else:
            await self.says("guarded ")
            if rng.random() < 1 / 3:
                await self.says(rng.choice(["will ", "injected ", "undoing", "undone "]), _SPAN * 2)
                await asyncio.sleep(rng.random() * 0.03)
            else:
                await asyncio.sleep(rng.random() * _SPAN)
        return " ".join(self.said.splitlines()[-1].split()[:2]) if self.pid("guarded") else "its beginning"

    @property
    def said(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    def pid(self, who: str) -> int:
        """0 where it has not said it."""
        found = re.search(rf"^{who} (\d+)$", self.said, re.MULTILINE)
        return int(found[1]) if found else 0

    async def says(self, word: str, within: float = 60.0) -> bool:
        """Whether it did before it ended."""
        ends = time.monotonic() + within
        while word not in self.said:
            if time.monotonic() > ends or self.shell.poll() is not None:
                return word in self.said
            await asyncio.sleep(0.002)
        return True

    @property
    def ledger(self) -> Path | None:
        return next(iter(sorted((self.folder / "state" / "drills").glob("*.jsonl"))), None)

    @property
    def watchdogs(self) -> list[int]:
        """Processes that are one, or are on their way to be; whoever has heard of them."""
        return [pid for pid in pids_with(self.ledger.name) if pid != self.shell.pid] if self.ledger else []

    def kill(self, way: str) -> None:
        runner = self.pid("runner")
        if not runner:  # it has ended by itself; and 0 would be ourselves
            return
        with suppress(ProcessLookupError):
            match way:
                case "kill -9":
                    os.kill(runner, signal.SIGKILL)
                case "kill -9, and parents":
                    parents = {self.shell.pid, runner}
                    for watchdog in self.watchdogs:
                        with suppress(psutil.NoSuchProcess):
                            parents |= {psutil.Process(watchdog).ppid()} - {1}
                    for pid in parents:
                        os.kill(pid, signal.SIGKILL)
                case "SIGTERM":
                    os.kill(runner, signal.SIGTERM)
                case "Ctrl-C":
                    os.write(self.master, b"\x03")
                case "kill -9 of its group":
                    os.killpg(os.getpgid(runner), signal.SIGKILL)
                case "hang-up":
                    os.close(self.master)
                    self.master = -1
                case "SIGSTOP":
                    os.kill(runner, signal.SIGSTOP)

    def end(self) -> None:
        for pid in {self.pid("runner"), self.shell.pid} - {0}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.shell.wait(10)
        if self.master >= 0:
            os.close(self.master)


class Real(Drill):
    """`probe drill run` itself, with an audience that plays. Its own clients are cut off as well."""

    def command(self, targets: Sequence[Target]) -> list[str]:
        uses = [{target.name.replace(" ", "-"): {"fault": target.kind, "for": "3s", "with": target.words}} for target in targets]
        document = {
            **{"drill": "kills", "owner": "media-sre", "comms": {"channel": "none"}, "scenario": str(_ROOM), "regions": ["eu"]},
            **{"traffic": {"starts": {"every": "4s", "most": 1}}, "min_n": 1},
            **{"steady": {"of": ["playing >= 50%"], "within": "60s"}, "abort": [{"incident": True}]},
            **{"method": [*uses, {"last-mile": {"fault": "link", "for": "3s", "with": {"cut": "down"}}}]},
            **{"recovery": [{"reconnect": "50%", "within": "5s"}]},
        }
        kinds = ["fake", "sandbox", "process", "netns", "disk", "toxiproxy", "http", "host", "clients"]
        every = ["reversible", "self_healing", "irreversible"]
        allowed = [{"targets": f"{kind}:*", "class": every, "for": "10m"} for kind in kinds]
        for name, text in (("drill", document), ("policy", {"drill_policy": "kills", "owner": "media-sre", "allow": allowed})):
            (self.folder / f"{name}.yaml").write_text(json.dumps(text))  # which is YAML too
        probe = [sys.executable, "-m", "probe", "drill", "run", str(self.folder / "drill.yaml")]
        where = [f"--policy={self.folder / 'policy.yaml'}", f"--state={self.folder / 'state'}", f"--out={self.folder / 'out.d'}"]
        return [*probe, *where]

    async def at_some_moment(self, rng: random.Random) -> str:
        ends = time.monotonic() + 120
        while not (self.ledger and '"event":"will"' in self.ledger.read_text()):
            if time.monotonic() > ends or self.shell.poll() is not None:
                raise NotBegun(self.said)
            await asyncio.sleep(0.01)
        await asyncio.sleep(rng.random() * 4)
        return next((line[8:].strip() for line in reversed(self.said.splitlines()) if line[7:8] == "s"), "its beginning")

    def pid(self, who: str) -> int:
        if who != "runner":
            return 0
        with suppress(psutil.NoSuchProcess):
            return next((child.pid for child in psutil.Process(self.shell.pid).children()), 0)
        return 0


async def kill(
    folder: Path, targets: Sequence[Target], way: str, env: dict[str, str], rng: random.Random, *, real: bool = False
) -> Killed:
    """Begin a drill on these targets, kill it, and look. `real`: by `probe drill run`, with all its traffic."""
    killed = Killed(way, [*(target.name for target in targets), *(["link"] if real else [])])
    drill = (Real if real else Drill)(folder, targets, env)
    try:
        killed.moment = await drill.at_some_moment(rng)
        killed.memory = _memory(drill.watchdogs)
        death = boottime()
        drill.kill(way)
        await _watch(drill, targets, killed, death)
    finally:
        drill.end()
    await _gone(drill, killed)
    killed.left += [f"{target.name}: {words} (later)" for target in targets if (words := await target.broken())]
    return killed


async def _watch(drill: Drill, targets: Sequence[Target], killed: Killed, death: int) -> None:
    """Until all is whole and crossed out, or too late."""
    expiry = max((entry.expires for entry in book.entries.values()), default=0) if (book := _book(drill, killed)) else 0
    ends = max(expiry, death) + int(_LATE * NS)
    whole = death
    while True:
        if broken := [f"{target.name}: {words}" for target in targets if (words := await target.broken())]:
            whole = boottime()  # at the earliest
        book = _book(drill, killed)
        if not broken and not (book and book.open):
            break
        if killed.trouble or boottime() > ends:
            killed.left += broken
            break
        await asyncio.sleep(0.03)
    _conclude(killed, drill, book, death, whole)


def _conclude(killed: Killed, drill: Drill, book: Book | None, death: int, whole: int) -> None:
    if book is None or not book.entries:
        killed.state = "no fault in it" if book else "none"
        return
    expiry = min(entry.expires for entry in book.entries.values())
    since = expiry if killed.way == "SIGSTOP" else death
    lines = [json.loads(line) for line in book.path.read_text().splitlines()]
    tries = [line["boottime"] for line in lines if line["event"] == "trying" and line["boottime"] > death]
    killed.undoers = {ended.by for ended in book.ended.values()}
    killed.began = max(0, min(tries) - since) if tries else None
    killed.back = max(0, whole - since) if tries else None
    killed.in_time = whole <= max(entry.expires for entry in book.entries.values()) + (2 * NS if killed.way == "SIGSTOP" else 0)
    names = ", ".join(f"{ended.state} by {ended.by}" for ended in book.ended.values())
    killed.state = f"{len(book.entries)} of {len(killed.names)}: {names}" + (f"; {len(book.open)} OPEN" if book.open else "")
    if book.open:
        killed.trouble.append(f"open in the ledger: {[entry.fault for entry in book.open]} {book.why}")


async def _gone(drill: Drill, killed: Killed) -> None:
    """The watchdog ends by itself, once its runner is dead and nothing is open."""
    ends = time.monotonic() + 20
    while left := drill.watchdogs:
        if time.monotonic() > ends:
            killed.trouble.append(f"its watchdog {left} does not end")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return
        await asyncio.sleep(0.05)


def _book(drill: Drill, killed: Killed) -> Book | None:
    try:
        return read(drill.ledger) if drill.ledger else None
    except LedgerRefused as error:
        if error.mistakes[0].message not in killed.trouble:
            killed.trouble.append(error.mistakes[0].message)
        return None


def _memory(watchdogs: Sequence[int]) -> tuple[int, int] | None:
    try:
        found = [psutil.Process(pid).memory_full_info() for pid in watchdogs]
    except psutil.Error:
        return None
    return (found[0].rss, found[0].pss) if len(found) == 1 else None
