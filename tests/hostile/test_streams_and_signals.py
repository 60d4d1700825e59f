"""What a command line is put through: signals before anything began, readers who leave, disks that are full, plain locales."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from probe.cli.invoke import state_directory
from probe.errors import ConfigError
from tests.e2e.support import command, environment

DEAD = {"PLATFORM_URL": "http://127.0.0.1:1"}  # nobody listens there: a no-go within two seconds
SCENARIO = "bare-whip-whep"


def smoke(out: Path, stdout: int = subprocess.PIPE, env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    told = environment(**DEAD, **env)
    return subprocess.run(command(out, SCENARIO), env=told, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30)


def catching(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal, by the kernel's own account."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_amid_the_imports_ends_it_without_a_traceback(number: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, SCENARIO),
        env=environment(**DEAD),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # who runs these in the background has it ignored
    )
    ends = time.monotonic() + 20
    while not catching(process.pid, signal.SIGTERM) and process.poll() is None:
        assert time.monotonic() < ends
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + number, "")


def test_a_reader_who_leaves_costs_neither_the_run_nor_its_exit_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = smoke(tmp_path, stdout=writing)
    finally:
        os.close(writing)
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False), ran.stderr
    assert json.loads((tmp_path / "verdict.json").read_text())["result"] == "fail"


def test_a_closed_stdout_is_not_lent_to_a_socket(tmp_path: Path) -> None:
    shell = f'exec "{sys.executable}" -m probe smoke {SCENARIO} --out "{tmp_path}" --state "{tmp_path}/state" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", shell], env=environment(**DEAD), timeout=30)
    assert done.returncode == 1
    assert (tmp_path / "report.html").stat().st_size > 0


def test_a_locale_without_our_characters_narrow_and_dumb(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "40", "TERM": "dumb"}
    ran = smoke(tmp_path, env=plain)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "no-go (fail)" in ran.stdout and "connect/refused" in ran.stdout
    assert ran.stdout.isascii()


def test_a_file_that_cannot_be_written_is_told_and_no_old_one_is_left_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text("an earlier run's")
    (tmp_path / "verdict.json.part").symlink_to("/dev/full")
    ran = smoke(tmp_path)
    assert ran.returncode == 1
    assert "verdict.json could not be written: No space left on device" in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "verdict.json").exists()
    assert (tmp_path / "junit.xml").stat().st_size > 0


def test_without_a_home_the_state_directory_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for a user without an entry
    with pytest.raises(ConfigError, match="there is no home directory"):
        state_directory(None)


def test_the_state_directory_is_its_owners_alone(tmp_path: Path) -> None:
    assert state_directory(tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o700
