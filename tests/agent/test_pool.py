"""A run in a worker of its own: what it measures arrives, and what kills the worker ends one run and nothing else."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from probe.agent.job import Ended, Job
from probe.agent.pool import Pool
from probe.clock import SystemClock
from probe.judge.fold import fold
from probe.model.clock import NS
from probe.model.observation import Note, Observation, RunBegan, RunEnded, StepDone
from probe.model.outcome import Aborted, Cancelled, Done, Skipped
from probe.plan import SecretRef
from tests.agent.jobs import fake, install, make_job
from tests.tools import wait_until

WHOLE = ["before 0", "before 1", "before 2"]


@asynccontextmanager
async def pool_of(size: int = 2, recycle: int = 200, grace: float = 5.0) -> AsyncIterator[Pool]:
    async with Pool.started(size, recycle, round(grace * NS), SystemClock()) as pool:
        yield pool


def alive(pid: int) -> bool:
    """Not gone, and not waiting for whoever inherited it to take notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def replaced(pool: Pool) -> None:
    """Kill the one worker that waits, and wait for another."""
    (pid,) = await wait_until(lambda: pool.pids, 10, "a worker")
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: pool.pids not in ((), (pid,)), 10, "another worker")


def child_of(facts: list[Observation]) -> int | None:
    """The process that a worker says it started."""
    return next((int(found[1]) for text in notes(facts) if (found := re.match(r"child (\d+)", text))), None)


async def run(pool: Pool, job: Job) -> tuple[Ended, list[Observation]]:
    facts: list[Observation] = []
    return await pool.run(job, facts.append), facts


def notes(facts: list[Observation]) -> list[str]:
    return [fact.text for fact in facts if isinstance(fact, Note)]


async def test_a_run_arrives_whole_and_says_what_it_cost(tmp_path: Path) -> None:
    async with pool_of() as pool:
        await wait_until(lambda: pool.ready == 2, 10, "two warm workers")
        async with asyncio.TaskGroup() as group:
            facts: list[Observation] = []
            running = group.create_task(pool.run(make_job(tmp_path, fake("", took=0.3)), facts.append))
            await wait_until(lambda: facts, 10, "its beginning")
            for pid in (pool.pids[0], psutil.Process(pool.pids[0]).ppid()):
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    os.kill(pid, number)  # as a supervisor does to all of a group: the agent alone ends runs
        ended = running.result()
        assert (ended.outcome, ended.crashed) == (Done(), "")
        assert isinstance(facts[0], RunBegan) and isinstance(facts[-1], RunEnded)
        assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
        assert fold(facts).outcome == Done()
        assert ended.cpu is not None and ended.startup is not None and ended.peak is not None
        assert 0 < ended.startup <= ended.cpu < 5
        assert 20 << 20 < ended.peak < 1 << 30
        await wait_until(lambda: pool.ready == 2, 10, "another worker in its place")


async def test_a_secret_nobody_has_and_a_worker_that_died_waiting(tmp_path: Path) -> None:
    job = make_job(tmp_path, fake(""))
    missing = SecretRef(name="password", source=("env", "NO_SUCH_SECRET"), origins=("http://127.0.0.1",))
    async with pool_of(1) as pool:
        await replaced(pool)
        ended, facts = await run(pool, replace(job, plan=replace(job.plan, secrets={"password": missing})))
        assert isinstance(ended.outcome, Aborted) and "NO_SUCH_SECRET" in ended.outcome.detail
        assert ended.crashed == ""
        assert [type(fact) for fact in facts] == [RunBegan, StepDone, RunEnded]


async def test_whatever_kills_a_worker_ends_one_run_and_keeps_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, monkeypatch)
    expected = {
        "segfault": "signal 11",
        "abort": "signal 6",
        "exit": "exit 3",
        "memory": "memory",
        "hang": "time",
        "garbage": "protocol",
        "parent": "signal 11",
    }
    got: dict[str, tuple[Ended, list[Observation]]] = {}
    async with pool_of(4) as pool, asyncio.TaskGroup() as group:

        async def one(kind: str, deadline: float = 30.0) -> None:
            job = make_job(tmp_path, fake(kind, took=2.0), deadline=deadline, memory=300 << 20)
            got[kind] = await run(pool, job)

        group.create_task(one("nothing"))
        group.create_task(one("no_memory"))
        for kind in expected:
            group.create_task(one(kind, deadline=3.0 if kind == "hang" else 30.0))
    assert {kind: ended.crashed for kind, (ended, _) in got.items()} == {**expected, "nothing": "", "no_memory": ""}
    assert got["nothing"][0].outcome == Done()
    ended, facts = got["no_memory"]
    assert ended.outcome == Aborted("MemoryError: ")
    assert [fact.outcome for fact in facts if isinstance(fact, StepDone)] == [Aborted("MemoryError: ")]
    for kind, crashed in expected.items():
        ended, facts = got[kind]
        assert notes(facts)[:3] == WHOLE, kind
        assert ended.outcome == Aborted(f"the probe crashed: {crashed}")
        result = fold(facts)
        assert result.outcome == ended.outcome and [step.outcome for step in result.steps] == [ended.outcome]
        assert ended.cpu and ended.startup and ended.peak, kind
        assert isinstance(facts[-1], RunEnded) and sum(isinstance(fact, RunEnded) for fact in facts) == 1
    assert (got["memory"][0].peak or 0) > 300 << 20
    told = {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR}
    for crashed, where in (("signal 11", "in segfault"), ("signal 6", "in abort"), ("time", "in hang")):
        assert any(crashed in text and where in text for text in told), told
    assert not alive(child_of(got["parent"][1]) or 0), "what a worker had started outlived it"


async def test_a_cancelled_run_ends_as_planned_and_one_that_never_began_is_told_too(tmp_path: Path) -> None:
    facts: list[Observation] = []
    waiting: list[Observation] = []
    async with pool_of(1) as pool, asyncio.TaskGroup() as group:
        running = group.create_task(pool.run(make_job(tmp_path, fake("", took=50.0)), facts.append))
        await wait_until(lambda: facts, 5, "the run's beginning")
        second = group.create_task(pool.run(make_job(tmp_path, fake("")), waiting.append))
        await asyncio.sleep(0)
        for task in (second, running):
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
    assert fold(facts).outcome == fold(waiting).outcome == Cancelled()
    assert [fact.outcome for fact in facts if isinstance(fact, StepDone)] == [Cancelled()]
    assert [fact.outcome for fact in waiting if isinstance(fact, StepDone)] == [Skipped("not_reached")]


async def test_without_descriptors_no_worker_comes_and_with_them_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = socket.socketpair
    refusals = iter(range(2))

    def socketpair(*args: Any) -> tuple[socket.socket, socket.socket]:
        if next(refusals, None) is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return given(*args)

    monkeypatch.setattr(socket, "socketpair", socketpair)
    async with pool_of(1) as pool:
        ended, _ = await run(pool, make_job(tmp_path, fake("")))
    assert ended.outcome == Done()
    assert sum("Too many open files" in record.getMessage() for record in caplog.records) == 2


async def test_a_run_may_be_cancelled_at_any_moment_of_its_beginning(tmp_path: Path) -> None:
    async with pool_of(1) as pool, asyncio.TaskGroup() as group:
        for turns in range(1, 9):
            await wait_until(lambda: pool.ready == 1, 10, "a worker")
            facts: list[Observation] = []
            running = group.create_task(pool.run(make_job(tmp_path, fake("", took=50.0)), facts.append))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled(), turns
            assert fold(facts).outcome == Cancelled(), turns


async def test_a_run_that_does_not_end_when_told_is_killed_after_the_grace_time_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    facts: list[Observation] = []
    async with pool_of(1, grace=0.5) as pool, asyncio.TaskGroup() as group:
        running = group.create_task(pool.run(make_job(tmp_path, fake("stubborn")), facts.append))
        child = await wait_until(lambda: child_of(facts), 5, "the step")
        (pid,) = pool.pids
        running.cancel()
        await asyncio.wait({running}, timeout=5)
        assert running.cancelled() and not alive(pid)
        await wait_until(lambda: not alive(child), 1, "the end of the worker's child")
        assert fold(facts).outcome == Aborted("the probe crashed: grace")
        await wait_until(lambda: pool.ready == 1, 10, "another worker")


async def test_where_the_forkserver_is_killed_its_runs_are_lost_and_the_next_ones_go_on(tmp_path: Path) -> None:
    facts: list[Observation] = []
    async with pool_of(1) as pool, asyncio.TaskGroup() as group:
        running = group.create_task(pool.run(make_job(tmp_path, fake("", took=50.0)), facts.append))
        await wait_until(lambda: facts, 5, "the run's beginning")
        (pid,) = pool.pids
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        ended = await running
        assert (ended.crashed, ended.cpu) == ("lost", None)
        assert fold(facts).outcome == Aborted("the probe crashed: lost")
        await wait_until(lambda: not alive(pid), 1, "the worker's end")
        ended, _ = await run(pool, make_job(tmp_path, fake("")))
        assert ended.outcome == Done()


async def test_authorities_that_come_while_the_agent_runs_are_trusted_by_runs_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    bundle = Path(ssl.get_default_verify_paths().cafile or "").read_text()
    first, second, *_ = re.findall(r"-----BEGIN.*?-----END CERTIFICATE-----\n", bundle, re.DOTALL)
    trusted = tmp_path / "authorities.pem"
    trusted.write_text(first)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    known = []
    async with pool_of(1) as pool:
        for _ in range(2):
            _, facts = await run(pool, make_job(tmp_path, fake("authorities")))
            known.append(notes(facts)[-1])
            trusted.write_text(first + second)
            await replaced(pool)  # the one that waits was forked before
    assert known == ["knows 1", "knows 2"]


async def test_the_process_that_workers_come_from_is_replaced_while_runs_go_on(tmp_path: Path) -> None:
    async with pool_of(1, recycle=2) as pool:
        parents = set()
        for _ in range(3):
            await wait_until(lambda: pool.ready == 1, 10, "a worker")
            parents.add(psutil.Process(pool.pids[0]).ppid())
            ended, _ = await run(pool, make_job(tmp_path, fake("")))
            assert ended.outcome == Done()
        await wait_until(lambda: sum(map(alive, parents)) <= 1, 10, "the end of the first")
        assert len(parents) == 2


async def test_workers_that_cannot_start_are_told_of_and_not_spun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, monkeypatch, "raise RuntimeError('this driver is broken')\nclass Dying: pass")
    async with asyncio.timeout(30):
        async with pool_of(1) as pool:
            assert pool.ready == 0 and pool.trouble.endswith("exit 70 RuntimeError: this driver is broken")
            facts: list[Observation] = []
            ended = await pool.run(make_job(tmp_path, fake("")), facts.append)
    assert ended.crashed == "start" and fold(facts).outcome == ended.outcome
    tried = [record.getMessage() for record in caplog.records if "times now" in record.getMessage()]
    assert len(tried) == 5
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
