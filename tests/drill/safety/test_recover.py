"""`probe drill recover`: whatever is left is put back or named, and the exit code tells which."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from probe.clock import BootClock, SystemClock, TestBootClock
from probe.drill.book import read
from probe.drill.ledger import Ledger
from probe.drill.recover import Found, Means, recover
from probe.drill.undoing import Bound, Outcome
from probe.model.clock import MS, NS
from probe.net.redact import Redactor
from tests.drill.safety.marker import KIND, prepared

BOUND = Bound(attempt=100 * MS, look=0, settle=0, total=100 * MS, pause=10 * MS)
HOUR = 3600 * NS


def left(drills: Path, folder: Path, *how: str, run: str = "r1", boot: BootClock | None = None, dead: bool = True) -> Ledger:
    """A ledger with faults in place: as a power cut leaves it, or (not `dead`) while its runner lives."""
    boot = boot or BootClock()
    ledger = Ledger.opened(drills, drill="edge-down", run=run, boot=boot)
    for n, restore in enumerate(how):
        path = folder / f"{run}-{n}"
        ledger.injected(ledger.will(path.name, KIND, prepared(path, restore), "0a1b2c3d", boot.now() + 60 * NS))
        path.write_text("0a1b2c3d")
    if dead:
        ledger.leave()
    return ledger


async def recovered(drills: Path, boot: BootClock | None = None, **options: Any) -> list[Found]:
    means = Means(clock=SystemClock(), boot=boot or BootClock(), redactor=Redactor(), bound=BOUND)
    return await recover(drills, means, **options)


def markers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.suffix)


async def test_what_can_be_put_back_is_and_what_cannot_is_named_and_keeps_no_other_waiting(drills: Path, folder: Path) -> None:
    left(drills, folder, "fine", "hangs", "fine", "lies", "blind")
    (found,) = await recovered(drills)
    outcomes = {entry.fault: undone.state for entry, undone in found.undone}
    assert outcomes == {
        "r1-0": Outcome.RESTORED,
        "r1-1": Outcome.FAILED,
        "r1-2": Outcome.RESTORED,
        "r1-3": Outcome.FAILED,
        "r1-4": Outcome.FAILED,
    }
    assert markers(folder) == ["r1-1", "r1-3"]  # the blind one's restore worked, but nobody could see it
    assert not found.well
    assert {entry.fault for entry in read(found.path).open} == {"r1-1", "r1-3", "r1-4"}
    (again,) = await recovered(drills)
    assert {entry.fault for entry, _ in again.undone} == {"r1-1", "r1-3", "r1-4"}  # what is undone stays so


async def test_after_a_restart_of_the_machine_it_is_still_undone(drills: Path, folder: Path) -> None:
    """Its expiry, counted since another boot, means nothing any more."""
    boot = TestBootClock(now=9 * HOUR)
    left(drills, folder, "fine", boot=boot)
    boot.restart()
    (found,) = await recovered(drills, boot)
    assert found.well and not markers(folder)
    assert [entry.due(boot.boot(), boot.now()) for entry, _ in found.undone] == [True]


async def test_nothing_there_is_nothing_to_do(drills: Path, folder: Path) -> None:
    assert await recovered(drills) == []
    left(drills, folder).close()
    assert await recovered(drills) == []


async def test_a_living_drill_is_left_alone_but_for_what_is_expired_when_told_so(drills: Path, folder: Path) -> None:
    boot = TestBootClock()
    ledger = left(drills, folder, "fine", dead=False, boot=boot)
    for options in ({}, {"force_expired": True}):
        (found,) = await recovered(drills, boot, **options)
        assert found.well and not found.undone and "is running" in found.left[0][1]
        assert len(markers(folder)) == 1
    boot.advance(61 * NS)
    (found,) = await recovered(drills, boot)
    assert not found.undone  # without the option it is its runner's, and its watchdog's, affair
    (found,) = await recovered(drills, boot, force_expired=True)
    assert found.undone and found.well and not markers(folder)
    ledger.close()


async def test_what_lives_in_a_living_runner_is_not_called_gone_by_another_process(drills: Path, folder: Path) -> None:
    boot = TestBootClock()
    with Ledger.opened(drills, drill="d", run="r", boot=boot) as ledger:
        ledger.injected(ledger.will("link", KIND, prepared(folder / "x", own=True), "0a1b2c3d", NS))
        boot.advance(2 * NS)
        (found,) = await recovered(drills, boot, force_expired=True)
        assert not found.undone and len(ledger.book().open) == 1


async def test_to_look_touches_nothing(drills: Path, folder: Path) -> None:
    ledger = left(drills, folder, "fine")
    with ledger.path.open("ab") as file:
        file.write(b'{"v":1,"eve')
    before = ledger.path.read_bytes()
    (found,) = await recovered(drills, look_only=True)
    assert not found.well and len(found.left) == 1 and found.book is not None and found.book.torn == 11
    assert ledger.path.read_bytes() == before and len(markers(folder)) == 1


async def test_two_at_once_undo_each_entry_once(drills: Path, folder: Path) -> None:
    left(drills, folder, "fine", "fine")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(recovered(drills)) for _ in range(3)]
    for (found,) in (task.result() for task in tasks if task.result()):
        assert found.well
    for path in sorted(folder.glob("*.restores")):
        assert len(path.read_text().splitlines()) == 1
    assert not markers(folder)


async def test_a_refused_ledger_is_told_left_as_it_is_and_stops_no_other(drills: Path, folder: Path) -> None:
    left(drills, folder, "fine")
    text = b'{"v":7,"event":"opened"}\n'
    other = drills / "r0.jsonl"
    other.write_bytes(text)
    other.chmod(0o600)
    refused, mended = await recovered(drills)
    assert "ledger version 7" in refused.refused and not refused.well
    assert mended.well and not markers(folder)
    assert other.read_bytes() == text


@pytest.mark.parametrize("cut", [1, 40, -1])
async def test_a_power_cut_in_the_middle_of_a_line_is_recovered_from_and_told(drills: Path, folder: Path, cut: int) -> None:
    ledger = left(drills, folder, "fine", "fine")
    data = ledger.path.read_bytes()
    begin = data.rindex(b'{"v":1,"event":"will"')
    end = data.index(b"\n", begin)
    ledger.path.write_bytes(data[: (begin + cut) if cut > 0 else end - 1])
    (folder / "r1-1").unlink()  # by the write-ahead rule
    (found,) = await recovered(drills)
    assert found.well and found.book is not None and found.book.torn
    assert [entry.fault for entry, _ in found.undone] == ["r1-0"] and not markers(folder)
    assert not read(found.path).torn


# -- the command


def probe(env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "probe", "drill", "recover", *(str(word) for word in words)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=50, check=False)


def test_the_command_says_what_it_did_and_exits_by_it(drills: Path, folder: Path, env: dict[str, str], tmp_path: Path) -> None:
    ledger = left(drills, folder, "fine")
    state = drills.parent
    looked = probe(env, "--state", state, "--list")
    assert looked.returncode == 5
    assert f"r1-0 (file:{folder / 'r1-0'}): left: its runner is dead" in looked.stdout
    assert f"r1-0 by hand: rm {folder / 'r1-0'}" in looked.stdout and len(markers(folder)) == 1
    done = probe(env, "--state", state, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0 and document["well"] is True, done.stderr
    (one,) = document["ledgers"]
    (entry,) = one["entries"]
    assert (one["ledger"], one["drill"], one["torn_bytes"]) == (str(ledger.path), "edge-down", 0)
    assert (entry["fault"], entry["state"], entry["by"], entry["class"]) == ("r1-0", "restored", "recover", "reversible")
    assert not markers(folder)
    again = probe(env, "--state", state)
    assert (again.returncode, again.stdout) == (0, f"{drills}: nothing is left to be put back\n")
    wrong = probe(env, "--state", tmp_path / "typo")
    assert wrong.returncode == 2 and "is no directory" in wrong.stderr and not wrong.stdout


def test_a_refused_ledger_is_exit_5_with_its_file_line_and_remedy(drills: Path, folder: Path, env: dict[str, str]) -> None:
    ledger = left(drills, folder, "fine")
    data = ledger.path.read_bytes().split(b"\n", 1)
    ledger.path.write_bytes(data[0] + b"\nrotten\n" + data[1])
    done = probe(env, "--state", drills.parent)
    assert done.returncode == 5
    assert done.stdout.startswith(f"{ledger.path}:2:1 is damaged: look at what it names")
    assert len(markers(folder)) == 1
