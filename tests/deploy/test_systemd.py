"""The unit: systemd understands every line of it, and finds little to object to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tools import ROOT, requires

UNIT = ROOT / "deploy" / "systemd" / "stream-probe-agent.service"
EXPOSURE = 20  # tenths, of 100


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    analyze = requires("systemd-analyze", package="systemd")
    text = UNIT.read_text()
    assert "ExecStart=/opt/stream-probe/bin/probe " in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/stream-probe/bin/probe", "/bin/true"))  # the program is not installed there
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=30, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_a_line_that_it_does_not_know_would_be_noticed(tmp_path: Path) -> None:
    analyze = requires("systemd-analyze", package="systemd")
    copy = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/stream-probe/bin/probe", "/bin/true")
    copy.write_text(text.replace("ProtectHome=yes", "ProtectHomes=yes"))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=30, check=False)
    assert "ProtectHomes" in done.stderr


def test_systemd_finds_little_exposed() -> None:
    analyze = requires("systemd-analyze", package="systemd")
    command = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
