"""The probe doubts itself: what it cannot read is absent, what is out of bounds is a taint."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from probe.clock import SystemClock
from probe.model.observation import HealthSample
from probe.run.health import Bounds, Health, Sources, assess, on_this_machine

WELL = HealthSample(took=500_000_000, loop_lag=0.001, decode_backlog=0.0, run_delay=0.01, throttled=0.0)


def test_a_well_probe_has_no_taints() -> None:
    assert assess(WELL, 0.0, 0.0, Bounds()) == ()


def test_each_figure_out_of_bounds_is_its_own_taint() -> None:
    sick = HealthSample(took=1, loop_lag=9.0, decode_backlog=9.0, run_delay=0.9, throttled=0.9)
    assert assess(sick, 9.0, -9.0, Bounds()) == (
        "loop_lag", "decode_backlog", "cpu_starved", "cpu_throttled", "publisher_late", "clock_step",
    )  # fmt: skip


def test_other_peoples_work_matters_only_where_the_platform_shares_the_machine() -> None:
    busy = HealthSample(took=1, loop_lag=0.0, pressure=1.0)
    assert assess(busy, 0.0, 0.0, Bounds(), shared=True) == ("machine_busy",)
    assert assess(busy, 0.0, 0.0, Bounds(), shared=False) == ()
    here = [
        url
        for url in ("http://127.0.0.1:80", "http://[::1]/", "https://localhost/x", "https://live.example")
        if on_this_machine(url)
    ]
    assert here == ["http://127.0.0.1:80", "http://[::1]/", "https://localhost/x"]


def test_what_cannot_be_read_is_no_taint() -> None:
    unknown = HealthSample(took=1, loop_lag=0.0, decode_backlog=None, run_delay=None, throttled=None)
    assert assess(unknown, 0.0, 0.0, Bounds()) == ()


async def samples(during: object = None, seconds: float = 1.2, **sources: object) -> list[HealthSample]:
    taken: list[HealthSample] = []
    health = Health(SystemClock(), taken.append, Sources(lambda: float(sources.get("backlog", 0)), lambda: 0))  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(health.watch())
        await asyncio.sleep(seconds / 2)
        if callable(during):
            during()
        await asyncio.sleep(seconds / 2)
        task.cancel()
    return taken


async def test_a_blocked_loop_is_seen_with_its_length() -> None:
    taken = await samples(lambda: time.sleep(0.4))
    worst = max(taken, key=lambda sample: sample.loop_lag)
    assert worst.loop_lag >= 0.35
    assert "loop_lag" in worst.taints


async def test_samples_follow_each_other_without_gaps() -> None:
    taken = await samples()
    for before, after in pairwise(taken):
        assert after.at - after.took == before.at


async def test_the_worst_backlog_of_the_interval_is_reported() -> None:
    taken = await samples(backlog=0.7)
    assert all(sample.decode_backlog == 0.7 and "decode_backlog" in sample.taints for sample in taken)


@pytest.mark.timing
async def test_starved_threads_are_seen_where_the_kernel_tells() -> None:
    """More spinning threads of this process than processors: some must wait, whatever the loop's lag says."""
    import multiprocessing
    import os

    stop = multiprocessing.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    hogs = [multiprocessing.Process(target=spin, daemon=True) for _ in range(3 * (os.cpu_count() or 1))]
    busy = threading.Event()
    worker = threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(lambda: busy.is_set(), True)])
    for hog in hogs:
        hog.start()
    worker.start()
    try:
        taken = await samples(seconds=2)
    finally:
        stop.set()
        busy.set()
        worker.join()
        for hog in hogs:
            hog.join()
    known = [sample.run_delay for sample in taken if sample.run_delay is not None]
    assert known
    assert max(known) > 0.3
