"""The tools of tests do what tests lean on: they end what they start, say what is missing, and doubt the machine."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.peers import golang
from tests.tools import cpu_hog, missing, requires, rss, spawn, steady, wait_until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print("child", child.pid, flush=True)
time.sleep(100)
"""


async def test_a_stubborn_child_and_its_own_child_are_ended(tmp_path: Path) -> None:
    with spawn([sys.executable, "-c", STUBBORN], tmp_path / "log") as child:
        grandchild = int((await child.says("child")).split()[1])
        child.stop(grace=0.3)
        assert not child.running()
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


async def test_what_a_child_printed_comes_with_the_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with 3 before saying 'ready'") as caught:
        with spawn([sys.executable, "-c", "print('oh no'); raise SystemExit(3)"], tmp_path / "log") as child:
            await child.says("ready")
    assert "oh no" in str(caught.value.__notes__)
    assert await child.exit() == 3


async def test_waiting_ends_with_the_answer_or_at_the_deadline() -> None:
    answers = iter([None, "", "yes"])

    async def ask() -> str | None:
        return next(answers)

    assert await wait_until(ask) == "yes"
    with pytest.raises(AssertionError, match="the moon did not come within 0.05 s"):
        await wait_until(lambda: None, 0.05, "the moon")


def test_what_is_missing_skips_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(requires("no-such-program", "sh")).name == "sh"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed .package its-package."):
        requires("no-such-program", package="its-package")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have everything"):
        missing("something")


async def test_figures_taken_while_the_loop_was_held_up_are_refused() -> None:
    async with steady(limit=10.0) as unrest:
        await asyncio.sleep(0.05)
    assert unrest.samples >= 2
    with pytest.raises(pytest.fail.Exception, match="tainted: .*worst loop lag"):
        async with steady(limit=0.1):
            await asyncio.sleep(0.02)
            time.sleep(0.25)  # holds the loop up
            await asyncio.sleep(0.02)


def test_the_hog_computes_and_ends() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with cpu_hog(1):
        (hog,) = [child for child in psutil.Process().children() if child.pid not in before]
        ends = time.monotonic() + 10
        while hog.cpu_times().user < 0.1:
            assert time.monotonic() < ends
            time.sleep(0.01)
    assert not hog.is_running()


def test_resident_memory_counts_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert rss() >= psutil.Process().memory_info().rss // 2 + psutil.Process(child.pid).memory_info().rss // 2
        assert rss(child.pid) < rss()
        child.stdin.write(b"\n")
        child.stdin.close()


@pytest.mark.parametrize(
    ("go_mod", "wanted"), [("module x\n", (1, 21)), ("module x\n\ngo 1.24.0\n", (1, 24)), ("go 1.18\n", (1, 21))]
)
def test_the_go_that_a_module_asks_for(go_mod: str, wanted: tuple[int, int]) -> None:
    assert golang.wanted(go_mod) == wanted
