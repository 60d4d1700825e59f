"""What is written before it exists is found after a kill, and only when its owner is dead."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from probe.run.ledger import Ledger, orphans


def will(ledger: Ledger, url: str | None = "http://p/rooms?tag=a") -> int:
    return ledger.will(step="room", platform="http://p", method="DELETE", url=url, account="broadcaster")


def test_a_run_that_undid_everything_leaves_no_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "run-1")
    ledger.undone(will(ledger))
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_runs_ledger_is_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "run-1")
    will(ledger)
    with orphans(tmp_path) as dead:
        assert dead == []
    ledger.close()


def test_what_a_closed_run_left_open_is_found_newest_first_and_goes_when_undone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "run-1")
    first = will(ledger)
    will(ledger, "http://p/2")
    will(ledger, None)
    ledger.undone(first)
    ledger.close()
    with orphans(tmp_path) as (orphan,):
        assert [entry.url for entry in orphan.entries] == [None, "http://p/2"]
        for entry in list(orphan.entries):
            orphan.undone(entry)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_its_entry(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from probe.run.ledger import Ledger
Ledger(Path({str(tmp_path)!r}), "run-1").will(step="room", platform="p", method="DELETE", url="u", account=None)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with orphans(tmp_path) as (orphan,):
        assert [entry.step for entry in orphan.entries] == ["room"]


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "run-1")
    will(ledger)
    ledger.close()
    with (tmp_path / "run-1.jsonl").open("a") as file:
        file.write('{"will": 2, "st')
    with orphans(tmp_path) as (orphan,):
        assert len(orphan.entries) == 1


def test_two_sweepers_do_not_take_the_same_orphan(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "run-1")
    will(ledger)
    ledger.close()
    with orphans(tmp_path) as first, orphans(tmp_path) as second:
        assert (len(first), second) == (1, [])


def test_the_file_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "ledger"
    Ledger(directory, "run-1").close()
    assert os.stat(directory).st_mode & 0o077 == 0


def test_a_sweeper_that_looks_into_a_file_just_made_does_not_take_it_from_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    raced: list[str] = []

    def flock(file: Any, how: int) -> None:
        if not raced:
            raced.append(file.name)
            with orphans(tmp_path) as found:  # between our open and our lock: an empty file that nobody holds
                assert found == []
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    ledger = Ledger(tmp_path, "run-1")
    will(ledger)
    ledger.close()
    with orphans(tmp_path) as (orphan,):
        assert len(orphan.entries) == 1
