"""The watchdog, as a process: whatever kills the runner, and however, what it broke is put back; and nothing is broken without
one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from probe.clock import SystemClock, boottime
from probe.drill import guard as module
from probe.drill import locks
from probe.drill.book import Book, read
from probe.drill.guard import Guard, NoWatchdog, guarded
from probe.drill.ledger import Ledger
from probe.model.clock import NS
from tests.drill.safety.marker import KIND
from tests.tools import Child, missing, spawn, wait_until

PATIENT = 10 * NS  # 1 s is meant, 26 s it was


@dataclass
class Drill:
    """A runner at work, its watchdog, and what they break."""

    runner: Child
    watchdog: int
    ledger: Path
    folder: Path

    @property
    def broken(self) -> list[str]:
        """Seen on the disk, by nobody's word."""
        return sorted(path.name for path in self.folder.glob("fault-*") if not path.suffix)

    @property
    def book(self) -> Book:
        return read(self.ledger)

    def restores(self, n: int = 0) -> list[int]:
        """CLOCK_BOOTTIME ns of each."""
        file = self.folder / f"fault-{n}.restores"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []

    async def restored(self, within: float = 20.0) -> None:
        await wait_until(lambda: not self.broken, within, "all put back")
        await wait_until(lambda: not self.book.open, within, "all crossed out")

    async def ended(self, within: float = 20.0) -> None:
        await wait_until(lambda: not psutil.pid_exists(self.watchdog), within, "the end of the watchdog")

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ledger.with_suffix(".watchdog.log").read_text().splitlines()]


Begin = Callable[..., Any]


@pytest.fixture
def begin(tmp_path: Path, folder: Path, env: dict[str, str]) -> Begin:
    """Starts a runner with so many faults, injected; ends it and its watchdog afterwards."""

    @asynccontextmanager
    async def begun(
        *restore: str, faults: int = 1, lasts: float = 60, own: bool = False, more: Mapping[str, str] = MappingProxyType({})
    ) -> AsyncIterator[Drill]:
        """`restore`: how that of each misbehaves, in turns."""
        how = restore or ("fine",)
        words = [{"path": str(folder / f"fault-{n}"), "restore": how[n % len(how)], "own": own} for n in range(faults)]
        named = {f"fault-{n}": [KIND, words[n]] for n in range(faults)}
        spec = {"state": str(tmp_path / "state"), "lasts": lasts, "hold": 60, "faults": named}
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "tests.drill.safety.runner", str(tmp_path / "spec.json")]
        with spawn(command, tmp_path / "runner.out", env={**env, **more}) as child:
            text = await child.says(f"injected fault-{faults - 1}", 30)
            found = re.search(r"ledger (\S+)\nguarded (\d+)", text)
            assert found
            drill = Drill(child, int(found[2]), Path(found[1]), folder)
            try:
                yield drill
            finally:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                with suppress(ProcessLookupError):
                    os.kill(drill.watchdog, signal.SIGKILL)

    return begun


async def test_a_runner_that_is_killed_leaves_nothing(begin: Begin) -> None:
    async with begin(faults=3) as drill:
        assert len(drill.broken) == 3
        killed = boottime()
        os.kill(drill.runner.pid, signal.SIGKILL)
        await drill.restored()
        assert all(entry.expires > drill.restores(n)[0] > killed for n, entry in enumerate(drill.book.entries.values()))
        assert {ended.by for ended in drill.book.ended.values()} == {"watchdog"}
        await drill.ended()
        assert drill.book.closed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_what_goes_to_the_runners_whole_group_does_not_reach_the_watchdog(begin: Begin, number: signal.Signals) -> None:
    """Ctrl-C, a terminal that hung up, a group that is killed."""
    async with begin() as drill:
        assert os.getsid(drill.watchdog) != os.getsid(drill.runner.pid)
        assert psutil.Process(drill.watchdog).ppid() != drill.runner.pid
        os.killpg(os.getpgid(drill.runner.pid), number)
        await drill.restored()
        await drill.ended()
        assert drill.log()[-1]["event"] == "ends"  # by itself


async def test_a_runner_that_hangs_is_not_waited_for_beyond_the_expiry(begin: Begin) -> None:
    async with begin(lasts=2) as drill:
        os.kill(drill.runner.pid, signal.SIGSTOP)
        expires = drill.book.entries[1].expires
        await drill.restored()
        assert drill.restores()[0] >= expires
        assert psutil.pid_exists(drill.watchdog)  # its runner may break something else yet
        os.kill(drill.runner.pid, signal.SIGCONT)
        os.kill(drill.runner.pid, signal.SIGTERM)
        await drill.runner.says("undone restored watchdog")
        assert await drill.runner.exit() == 130
        assert len(drill.restores()) == 1
        await drill.ended()


async def test_a_runner_stopped_in_the_middle_of_its_undo_is_not_waited_for(begin: Begin) -> None:
    """It holds the lock by which one at a time undoes; the test holds it in its place."""
    async with begin(lasts=2) as drill:
        descriptor = locks.opened(drill.ledger, os.O_RDWR)
        try:
            assert locks.take(descriptor, locks.undoing(1))
            os.kill(drill.runner.pid, signal.SIGSTOP)
            await drill.restored()
            assert drill.restores()[0] < drill.book.entries[1].expires + PATIENT
        finally:
            locks.closed(descriptor)


@pytest.mark.parametrize("step", ["+3600", "-3600"])
async def test_a_clock_that_is_set_an_hour_either_way_moves_no_expiry(begin: Begin, tmp_path: Path, step: str) -> None:
    """Really set, for runner and watchdog (libfaketime), after the fault is in place; neither sooner nor later is it gone."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        missing("libfaketime is not installed (package libfaketime)")
    offset = tmp_path / "offset"
    offset.write_text("+0000\n")
    # Where it is not told so it also fakes CLOCK_MONOTONIC and CLOCK_BOOTTIME, which no step of a real clock moves.
    fake = {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    async with begin(lasts=2, more={"LD_PRELOAD": str(library), **fake}) as drill:
        with offset.open("r+") as file:
            file.write(f"{step}\n")  # at one stroke: of an empty file it makes what it likes
        os.kill(drill.runner.pid, signal.SIGSTOP)
        expires = drill.book.entries[1].expires
        await drill.restored()
        restored, seen = map(int, (drill.folder / "fault-0.restores").read_text().split())
        assert restored >= expires
        moved = (seen - SystemClock().wall().unix_ns) / NS - int(step)
        assert abs(moved) < 60  # by the watchdog's own clock it was then an hour off


async def test_what_lives_in_a_runner_that_hangs_ends_with_it(begin: Begin) -> None:
    """A fault on our own clients: no other process can end it, so the runner is ended."""
    async with begin(lasts=1, own=True) as drill:
        os.kill(drill.runner.pid, signal.SIGSTOP)
        await wait_until(lambda: not drill.runner.running(), 20, "the end of the runner")
        assert drill.runner.popen.returncode == -signal.SIGKILL
        await wait_until(lambda: drill.book.ended, 20)
        assert drill.book.ended[1].state == "gone"


async def test_a_watchdog_that_is_told_to_end_puts_everything_back_first_and_the_runner_learns_of_it(begin: Begin) -> None:
    async with begin(faults=2) as drill:
        os.kill(drill.watchdog, signal.SIGTERM)
        text = await drill.runner.says("left")
        assert "alone its process is gone" in text
        assert text.count("undone restored watchdog") == 2
        assert not drill.broken


async def test_what_lives_in_the_runner_is_left_to_it_by_a_watchdog_that_is_told_to_end(begin: Begin) -> None:
    """Else it would be called gone, and nobody would end it."""
    async with begin(own=True) as drill:
        os.kill(drill.watchdog, signal.SIGTERM)
        await drill.runner.says("undone restored runner")
        assert not drill.broken


async def test_a_runner_whose_watchdog_is_killed_knows_and_puts_everything_back_itself(begin: Begin) -> None:
    async with begin() as drill:
        os.kill(drill.watchdog, signal.SIGKILL)
        text = await drill.runner.says("left")
        assert "alone its process is gone" in text and "undone restored runner" in text
        assert not drill.broken


async def test_what_does_not_go_is_tried_again_until_it_does(begin: Begin) -> None:
    async with begin("fails", faults=2) as drill:
        os.kill(drill.runner.pid, signal.SIGKILL)
        await wait_until(lambda: len(drill.book.why) == 2, 20, "a try of each in vain")
        assert len(drill.broken) == 2
        assert all("the other side says no" in why for why in drill.book.why.values())
        for n in (0, 1):
            (drill.folder / f"fault-{n}.healed").touch()
        await drill.restored()


async def test_a_fault_that_blocks_its_thread_keeps_no_other_in_place(begin: Begin) -> None:
    async with begin("fine", "blocks", faults=2) as drill:
        os.kill(drill.runner.pid, signal.SIGKILL)
        await wait_until(lambda: drill.broken == ["fault-1"] and drill.restores(1), 20)
        await wait_until(lambda: [entry.fault for entry in drill.book.open] == ["fault-1"], 20)


# -- the runner's side


async def test_it_is_ready_before_anything_may_be_written_and_ends_with_the_drill(
    drills: Path, env: dict[str, str], tmp_path: Path
) -> None:
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        async with guarded(ledger, kinds=["fake"]) as guard:
            assert psutil.Process(guard.pid).cmdline()[2:4] == ["-m", "probe.drill.watchdog"]
            assert not guard.died.is_set()
        await wait_until(lambda: not psutil.pid_exists(guard.pid))
    assert read(ledger.path).closed


async def test_a_watchdog_that_stands_still_is_as_good_as_dead(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT", 1.0)
    monkeypatch.setattr(module, "_LEAVE", 0.1)
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        async with guarded(ledger) as guard:
            os.kill(guard.pid, signal.SIGSTOP)
            async with asyncio.timeout(20):
                await guard.died.wait()
            assert "has not said anything" in guard.why
            os.kill(guard.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["no program", "no such fault", "dies"])
async def test_without_a_watchdog_there_is_no_drill(
    drills: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "no program":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    elif how == "dies":
        monkeypatch.setattr(sys, "executable", "/bin/false")
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        with pytest.raises(NoWatchdog, match="nothing was touched"):
            async with guarded(ledger, kinds=["of-another-time"]):
                pytest.fail("it is not guarded")


async def test_beats_keep_it_alive_and_its_death_is_seen_at_once(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT", 3600.0)
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        async with guarded(ledger) as guard:
            beats = await _beats(guard)
            assert beats
            os.kill(guard.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                await guard.died.wait()


async def _beats(guard: Guard) -> bool:
    """Whether the silence is counted anew, which a beat does."""
    first = guard._silence
    await wait_until(lambda: guard._silence is not first, 10, "a beat")
    return True
