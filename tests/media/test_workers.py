"""The threads that decode for everybody, and the feed they tell: who is woken, and when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from probe.clock import SystemClock
from probe.media.feed import Feed
from probe.media.workers import _OWED, _TURNS, Workers
from probe.model.frames import Undecodable


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1)
    made.attend()
    yield made
    made.leave()


def test_a_patient_job_wakes_nobody_and_is_done_along_with_anothers(workers: Workers) -> None:
    done: list[str] = []
    both = threading.Event()

    def patient() -> bool:
        done.append("patient")
        both.set()
        return False

    def other() -> bool:
        done.append("other")
        return False

    workers.enlist(patient, patient=True)
    assert not workers._threads and not done
    workers.enlist(other)
    assert both.wait(5)
    assert sorted(done) == ["other", "patient"]


def test_a_patient_job_is_done_when_somebody_rouses_for_it(workers: Workers) -> None:
    done = threading.Event()

    def job() -> bool:
        done.set()
        return False

    workers.enlist(job, patient=True)
    workers.rouse()
    assert done.wait(5)


def test_what_is_for_later_gives_way_and_has_its_turn_all_the_same(workers: Workers) -> None:
    begin, over, log = threading.Event(), threading.Event(), []

    def first() -> bool:
        begin.wait(5)
        return False

    def job(name: str, last: bool) -> bool:
        log.append((name, workers.pressed))
        if last:
            over.set()
        return False

    workers.enlist(first)
    for n in range(4):
        workers.enlist(partial(job, "later", n == 3), later=True)
    for _ in range(6):
        workers.enlist(lambda: job("now", False))
    begin.set()
    assert over.wait(5)
    names = [name for name, _ in log]
    assert names[: 2 * _TURNS - 2].count("now") >= _TURNS  # what is for now goes first
    assert "later" in names[: 2 * _TURNS - 1]  # not starved
    assert names[-2:] == ["later", "later"] and not log[-1][1]


def test_what_came_of_many_jobs_is_told_a_few_at_a_time_and_of_the_last_at_once(workers: Workers) -> None:
    begin, over, log = threading.Event(), threading.Event(), []
    jobs = _OWED + 2

    def first() -> bool:
        return not begin.wait(5)

    def job() -> bool:
        log.append("job")
        workers.afterwards(tell)
        return False

    def tell() -> None:
        log.append("told")
        if log.count("told") == jobs:
            over.set()

    workers.enlist(first)
    for _ in range(jobs):
        workers.enlist(job)
    begin.set()
    assert over.wait(5)
    assert log == ["job"] * _OWED + ["told"] * _OWED + ["job"] * 2 + ["told"] * 2


async def test_a_reader_is_woken_by_the_ring_and_finds_all_that_was_put() -> None:
    feed = Feed(SystemClock())
    reading = asyncio.create_task(feed.get())
    await asyncio.sleep(0)
    records = [Undecodable(at=n) for n in range(3)]
    for record in records:
        await asyncio.to_thread(feed.put, record)
    assert not reading.done()
    await asyncio.to_thread(feed.ring)
    async with asyncio.timeout(5):
        assert [await reading, await feed.get(), await feed.get()] == records


async def test_nothing_is_lost_between_many_threads_and_a_reader_that_is_always_there_first() -> None:
    feed, each = Feed(SystemClock(), limit=10_000), 500

    def post() -> None:
        for n in range(each):
            feed.post(Undecodable(at=n))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(20):
        for _ in range(4 * each):
            assert await feed.get() is not None
    for thread in threads:
        thread.join()
    assert feed.dropped == 0


async def test_a_reader_that_was_cancelled_does_not_keep_the_next_one_waiting() -> None:
    feed = Feed(SystemClock())
    first = asyncio.create_task(feed.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(feed.get())
    await asyncio.sleep(0)
    await asyncio.to_thread(feed.post, Undecodable(at=1))
    async with asyncio.timeout(5):
        assert await second is not None
