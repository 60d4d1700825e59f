"""The units: systemd understands every line of them, and finds little to object to in the one that need not touch its host."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import ROOT, requires

FOLDER = ROOT / "deploy" / "systemd"
AGENT = FOLDER / "stream-probe-agent.service"
RECOVER = FOLDER / "stream-probe-drill-recover.service"
TIMER = RECOVER.with_suffix(".timer")
EXPOSURE = 20  # tenths, of 100
# systemd.exec(5): each of these has a unit run in a mount namespace of its own.
NAMESPACED = (
    "BindPaths|BindReadOnlyPaths|DynamicUser|ExecPaths|InaccessiblePaths|MountFlags|NoExecPaths|Private(Devices|IPC|Mounts|Network|Tmp|Users)|"
    "Protect(ControlGroups|Home|Hostname|KernelLogs|KernelModules|KernelTunables|Proc|System)|ProcSubset|ReadOnlyPaths|ReadWritePaths|"
    "RootDirectory|RootImage|TemporaryFileSystem"
)


def copied(unit: Path, folder: Path, text: str = "") -> Path:
    """With a program that is installed here, and the service beside a timer."""
    copy = folder / unit.name
    copy.write_text((text or unit.read_text()).replace("/opt/stream-probe/bin/probe", "/bin/true"))
    if unit.suffix == ".timer":
        copied(unit.with_suffix(".service"), folder)
    return copy


def verified(copy: Path) -> subprocess.CompletedProcess[str]:
    command = [requires("systemd-analyze", package="systemd"), "verify", "--man=no", str(copy)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("unit", [AGENT, RECOVER, TIMER], ids=lambda unit: unit.name)
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    assert unit.suffix == ".timer" or "ExecStart=/opt/stream-probe/bin/probe " in unit.read_text()
    done = verified(copied(unit, tmp_path))
    said = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize(("unit", "line"), [(AGENT, "ProtectHome=yes"), (RECOVER, "KillMode=process"), (TIMER, "OnBootSec=5min")])
def test_a_line_that_it_does_not_know_would_be_noticed(unit: Path, line: str, tmp_path: Path) -> None:
    wrong = line.replace("=", "s=")
    assert wrong.partition("=")[0] in verified(copied(unit, tmp_path, unit.read_text().replace(line, wrong))).stderr


def test_systemd_finds_little_exposed() -> None:
    analyze = requires("systemd-analyze", package="systemd")
    command = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(AGENT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_recovery_sees_the_hosts_own_mounts_processes_and_networks() -> None:
    """In a mount namespace of its own it would unmount for itself alone, and call that restored."""
    settings = re.findall(r"^(\w+)=", RECOVER.read_text(), re.MULTILINE)
    assert not [name for name in settings if re.fullmatch(NAMESPACED, name)]
    assert [name for name in re.findall(r"^(\w+)=", AGENT.read_text(), re.MULTILINE) if re.fullmatch(NAMESPACED, name)]


def test_what_it_runs_is_a_command_of_ours(tmp_path: Path) -> None:
    """With the directory that the unit makes."""
    found = re.search(r"^ExecStart=\S+ (.*)$", RECOVER.read_text(), re.MULTILINE)
    assert found
    (tmp_path / "stream-probe-drills").mkdir()
    words = found[1].replace("%S", str(tmp_path)).split()
    probe = shutil.which("probe", path=str(ROOT / ".venv/bin")) or "probe"
    done = subprocess.run([probe, *words], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, "nothing is left" in done.stdout) == (0, True), done.stderr
