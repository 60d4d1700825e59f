"""The agent beside its workers: it is not held up by them, and they do not outlive it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import psutil
import pytest

from probe.agent.job import Job
from probe.agent.pool import Pool
from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.judge.fold import fold
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.model.observation import Note, Observation, RunEnded, SessionStarted
from probe.model.outcome import Aborted, Done, Skipped
from probe.planning import make_plan
from probe.sandbox.launch import Sandbox
from probe.scenario.load import load
from tests.agent.jobs import fake, install, make_job
from tests.tools import ROOT, spawn, wait_until


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def starved() -> float:
    """Seconds that this thread has been ready to run and had no processor: other people's doing."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@pytest.mark.timing
async def test_the_agents_loop_is_not_held_up_by_what_its_workers_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers tell 10,000 facts a second together, some twenty times what they ever do."""
    install(tmp_path, monkeypatch)
    loop = asyncio.get_running_loop()
    facts: list[list[Observation]] = [[], []]
    lags: list[float] = []
    async with Pool.started(2, 200, 5 * NS, SystemClock()) as pool, asyncio.TaskGroup() as group:
        await wait_until(lambda: pool.ready == 2, 20, "two warm workers")
        running = [group.create_task(pool.run(make_job(tmp_path, fake("chatter", took=3.0)), put.append)) for put in facts]
        while not all(task.done() for task in running):
            before, waited = loop.time(), starved()
            await asyncio.sleep(0.01)
            lags.append(max(0.0, loop.time() - before - 0.01 - (starved() - waited)))
        assert [task.result().outcome for task in running] == [Done(), Done()]
    told = sum(isinstance(fact, Note) for run in facts for fact in run)
    lags.sort()
    lag, p95, worst = (1000 * lags[at] for at in (len(lags) // 2, len(lags) * 95 // 100, -1))
    figures = f"{told} facts; lag in ms: median {lag:.1f}, p95 {p95:.1f}, worst {worst:.1f}"
    print(figures)
    assert told > 10_000, figures
    assert p95 < 25 and worst < 100, figures


@pytest.mark.parametrize("how", ["spawned", "--sow"])
async def test_where_the_agent_is_killed_nothing_of_it_is_left_a_second_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Not the worker that hangs in C and asks nobody, nor the program that another one had started."""
    install(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with spawn([sys.executable, "-m", "tests.agent.alone", tmp_path, how], tmp_path / "out") as agent:
        text = await agent.says("below:", 30)
        await wait_until((tmp_path / "dying.py.hangs").exists, 10, "the worker that hangs")
        below = [int(pid) for pid in text.split("below:")[1].split("no more")[0].split()]
        assert len(below) == 4 and all(map(alive, below))
        os.kill(agent.pid, signal.SIGKILL)
        await wait_until(lambda: not any(map(alive, below)), 1, "the end of all below it")


def room_start(name: str, state: Path, env: dict[str, str]) -> Job:
    clock = SystemClock()
    scenario = load(ROOT / "scenarios" / "room-start.yaml", env=env)
    ids = new_run_ids(clock.wall().unix_ns // 1_000_000, random.SystemRandom())
    plan = make_plan(scenario, scenario.regions[0], 1, ids, mode="scheduled")
    return Job(plan=plan, schedule=name, due=0, deadline=90 * NS, memory=1 << 30, state=state)


async def test_what_a_killed_run_left_on_the_platform_is_swept_by_the_next_and_nobody_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: list[Observation] = []
    swept: list[Observation] = []

    def watched() -> bool:
        return sum(isinstance(fact, SessionStarted) for fact in facts) > 1

    async with Sandbox.start() as sandbox:
        env = environment(sandbox)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        async with Pool.started(1, 200, 20 * NS, SystemClock()) as pool, asyncio.TaskGroup() as group:
            running = group.create_task(pool.run(room_start("a", tmp_path, env), facts.append))
            await wait_until(watched, 30, "a broadcast that is watched")
            os.kill(pool.pids[0], signal.SIGKILL)
            ended = await running
            assert ended.crashed == "signal 9"
            assert len((await sandbox.state())["rooms"]) == 1
            following = group.create_task(pool.run(room_start("b", tmp_path, env), swept.append))
            await wait_until(lambda: any("swept" in f.text for f in swept if isinstance(f, Note)), 30, "the sweep")
            following.cancel()
            await asyncio.wait({following})
        assert (await sandbox.state())["rooms"] == []
    result = fold(facts)
    assert result.outcome == Aborted("the probe crashed: signal 9")
    assert {session.outcome for session in result.sessions} == {result.outcome}
    assert [(step.step, type(step.outcome)) for step in result.steps if step.final] == [("end", Skipped)]
    assert isinstance(swept[-1], RunEnded)
    text = repr([*facts, *swept])
    assert not [secret for secret in (env["BROADCASTER_PASSWORD"], env["VIEWER_PASSWORD"]) if secret in text]
