"""Jobs beside one another: which failed, what they said, how long they may take, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import deque
from pathlib import Path

import psutil
import pytest

from tests.jobs import Job, run
from tests.tools import ROOT, spawn, wait_until


def python(name: str, code: str, within: float = 20, fine: tuple[int, ...] = (0,)) -> Job:
    return Job(name, (sys.executable, "-S", "-c", code), within, fine)


def test_what_failed_is_named_and_the_others_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [
        python("bad", "print('why'); raise SystemExit(3)"),
        python("none", "raise SystemExit(5)", fine=(0, 5)),
        python("good", "print('well')"),
    ]
    assert run([[deque(jobs)]]) == ["bad"]
    said = capfd.readouterr().out
    assert re.search(r"\$ bad  \(0 s; exit code 3\)\nwhy\n", said)
    assert re.search(r"\$ good  \(0 s\)\nwell\n", said)


def test_lanes_are_beside_one_another_and_what_each_says_is_in_one_piece(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each of the first two ends only once the other has begun; whoever is free first takes the third."""
    code = """
import pathlib, sys, time
own, other = (pathlib.Path({folder!r}, name) for name in {names!r})
for n in range(50): print(own.name, flush=True)
own.touch()
while not other.exists(): time.sleep(.01)
for n in range(50): print(own.name, flush=True)
"""
    pair = [python(a, code.format(folder=str(tmp_path), names=(a, b))) for a, b in (("one", "two"), ("two", "one"))]
    first, second = deque(pair), deque([python("third", "print('third')")])
    assert run([[first, second], [first]]) == []
    said = re.sub(r"\(\d+ s\)", "", capfd.readouterr().out)
    assert sorted(said.split("\n$ ")) == ["", "one  \n" + "one\n" * 100, "third  \nthird\n", "two  \n" + "two\n" * 100]


def test_what_takes_too_long_is_ended_with_what_it_has_begun(capfd: pytest.CaptureFixture[str]) -> None:
    code = """
import subprocess, sys, time
print("child", subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""
    assert run([[deque([python("slow", code, within=1.0), python("next", "")])]]) == ["slow"]
    said = capfd.readouterr().out
    assert "did not end within 1 s" in said and "KeyboardInterrupt" in said
    (child,) = re.findall(r"child (\d+)", said)
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE


SUITE = """
import sys
from collections import deque
from tests.jobs import Job, run
code = "import os, time; print(os.getpid(), file=open(os.environ['PIDS'], 'a'), flush=True); time.sleep(60)"
queue = deque(Job(str(n), (sys.executable, "-c", code)) for n in range(3))
try:
    run([[queue], [queue]])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_every_lane_and_begins_nothing_more(number: signal.Signals, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.touch()
    with spawn([sys.executable, "-c", SUITE], tmp_path / "out", env={"PIDS": str(pids)}, cwd=ROOT) as suite:
        await wait_until(lambda: len(pids.read_text().split()) == 2)
        began = time.monotonic()
        os.kill(suite.pid, number)
        assert await suite.exit() == 130, suite.text()
        assert time.monotonic() - began < 5
        assert suite.text().count("KeyboardInterrupt") == 2
    assert len(pids.read_text().split()) == 2
    assert not [pid for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]
