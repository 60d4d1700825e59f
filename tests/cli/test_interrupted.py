"""Ctrl-C, SIGTERM and kill -9 in the middle of a run: what was made is undone, what was measured is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.platform import Platform
from tests.faults.rows import Watch


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.started(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def scenario_of(out: Path) -> Path:
    """One WHEP viewer who stays for a while, beside the run's files."""
    file = out.with_suffix(".yaml")
    file.write_text(Watch("whep", "5s").text())
    return file


def started(platform: Platform, out: Path) -> subprocess.Popen[bytes]:
    """`probe smoke`, left alone until a viewer is in the room."""
    process = subprocess.Popen(
        platform.command(scenario_of(out), out),
        env={**os.environ, **platform.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(state(platform)["sessions"]) >= 2, "a publisher and a viewer")
    return process


def state(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = platform.admin("GET", "/admin/state")
    return found


def wait_for(question: Any, what: str, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < ends, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


def written(out: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads((out / "verdict.json").read_text())
    return verdict


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_and_writes_what_was_measured(
    number: int, code: int, platform: Platform, tmp_path: Path
) -> None:
    process = started(platform, tmp_path / "out")
    process.send_signal(number)
    assert process.wait(15) == code
    left = state(platform)
    assert (left["rooms"], left["sessions"]) == ([], [])
    verdict = written(tmp_path / "out")
    assert verdict["result"] == "inconclusive"
    (run,) = verdict["runs"]
    assert run["outcome"] == "cancelled"
    viewer = next(s for s in run["sessions"] if s["role"] == "viewer")
    assert viewer["outcome"] in ("done", "cancelled")
    for name in ("junit.xml", "report.html", "observations.jsonl", "metrics.prom", "trace.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert list((tmp_path / "out" / "state" / "ledger").iterdir()) == []


def test_what_a_killed_run_left_is_swept_by_the_next(platform: Platform, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(platform, out)
    process.kill()
    process.wait(5)
    (orphan,) = [room["tag"] for room in state(platform)["rooms"]]
    lines = (out / "observations.jsonl").read_text().splitlines()
    assert any(json.loads(line)["kind"] == "SessionBegan" for line in lines)
    ran = platform.smoke(scenario_of(out), out)
    assert ran.exit in (0, 3), ran.verdict.get("cause")  # 3: this machine was busy meanwhile
    assert state(platform)["rooms"] == []
    assert any("swept" in note for note in ran.verdict["runs"][0]["notes"]), orphan
    assert list((out / "state" / "ledger").iterdir()) == []
