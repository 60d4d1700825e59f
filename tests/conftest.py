"""After each test nothing of it may be left: no task, thread, child process or descriptor.

What belongs to fixtures of a wider scope was there before the test and is in the baseline. Endings that are under way
(a socket's other side closing, a thread being joined) are given two seconds. A test that failed already is not asked:
its leftovers are its failure's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import hypothesis
import psutil
import pytest

# A shared machine may take longer over an example than Hypothesis's 200 ms; CI has a profile of Hypothesis's own.
hypothesis.settings.register_profile("here", deadline=None)
if not os.environ.get("CI"):
    hypothesis.settings.load_profile("here")

GRACE = 2.0
_PASSED = pytest.StashKey[bool]()


def pytest_sessionstart() -> None:
    """What a library opens once for the life of the process is opened before any test."""
    with contextlib.suppress(ImportError):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.sleep(0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    if call.when in ("setup", "call"):
        item.stash[_PASSED] = call.excinfo is None
    return (yield)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """First of a test's fixtures and so torn down last, when the test's own loop is closed."""
    scope = _loop_scope(request)
    if scope not in ("", "function"):
        request.getfixturevalue(f"_{scope}_scoped_runner")  # a wider loop's descriptors belong to the baseline
    before = _Census.take()
    yield
    if not request.node.stash.get(_PASSED, False):
        return
    left = _Census.take().beyond(before)
    ends = time.monotonic() + GRACE
    while left and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.02)
        left = _Census.take().beyond(before)
    for pid in _Census.take().children.keys() - before.children.keys():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def _watch_tasks(request: pytest.FixtureRequest, _nothing_left: None) -> None:
    if _loop_scope(request) == "function":
        request.getfixturevalue("_no_tasks_left")


@pytest.fixture
async def _no_tasks_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Runs on the test's loop, after every other fixture of the test is gone from it."""
    own = {asyncio.current_task()} | asyncio.all_tasks()
    yield
    if not request.node.stash.get(_PASSED, False):
        return
    own.add(asyncio.current_task())
    ends = time.monotonic() + GRACE
    while (left := asyncio.all_tasks() - own) and time.monotonic() < ends:  # noqa: ASYNC110  # tasks tell nobody they end
        await asyncio.sleep(0.01)
    if left:
        pytest.fail("the test left tasks behind:\n  " + "\n  ".join(repr(task) for task in left), pytrace=False)


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """The scope of the loop that an async test runs on; empty for a plain test."""
    marker = request.node.get_closest_marker("asyncio")
    return "" if marker is None else str(marker.kwargs.get("loop_scope", "function"))


@dataclass(frozen=True)
class _Census:
    """Who is here now: threads, children by pid, descriptors by number and target."""

    threads: frozenset[threading.Thread]
    children: dict[int, str]
    descriptors: frozenset[tuple[int, str]]

    @classmethod
    def take(cls) -> _Census:
        threads = frozenset(t for t in threading.enumerate() if not t.name.startswith("asyncio_"))  # a wider loop's pool
        children = {}
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(child.cmdline()) or child.name()
                if "multiprocessing.resource_tracker" not in command:  # one for the life of the process
                    children[child.pid] = f"child {child.pid} ({child.status()}): {command[:200]}"
        tracker = getattr(resource_tracker._resource_tracker, "_fd", None)
        descriptors = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
                target = os.readlink(f"/proc/self/fd/{name}")
                if int(name) != tracker and not target.startswith("/proc/"):
                    descriptors.add((int(name), target))
        return cls(threads, children, frozenset(descriptors))

    def beyond(self, before: _Census) -> list[str]:
        """What is here and was not `before`, in words."""
        left = [f"thread {t.name}: {t!r}" for t in self.threads - before.threads if t.is_alive()]
        left += [words for pid, words in self.children.items() if pid not in before.children]
        new = sorted(self.descriptors - before.descriptors)
        if new:
            ends = {c.fd: f"{c.laddr} → {c.raddr} {c.status}" for c in psutil.Process().net_connections("all")}
            left += [f"descriptor {fd}: {target} {ends.get(fd, '')}".rstrip() for fd, target in new]
        return left
