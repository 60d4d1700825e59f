"""The agent and its schedule: what is due is made, what cannot be is counted, and nothing ends it but being told to."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from probe.agent.conclude import Concluded
from probe.cli.agent import SWITCH
from probe.model.verdict import Verdict
from probe.store.records import Event, RunBegun
from tests.agent.agents import Stage, scenario, staged
from tests.agent.test_pool_agent import starved
from tests.tools import wait_until

ONE = "  one: {scenario: one.yaml, every: 1s}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.agent.agent._NAP", 0.02)


def missed(stage: Stage) -> Counter[str]:
    kinds = ("overlap", "budget", "blackout", "late", "broken")
    return +Counter({kind: round(stage.total("self_runs_missed_total", kind=kind)) for kind in kinds})


def accounted(stage: Stage) -> bool:
    """Slots that came = runs that were begun + those that were missed + those that wait."""
    due, begun = stage.total("self_runs_due_total"), len(stage.workers.jobs)
    return due == begun + missed(stage).total() + len(stage.agent.held_back())


async def test_one_scenario_never_overlaps_itself_and_what_it_holds_up_is_counted(tmp_path: Path) -> None:
    """Not by two schedules either, and not beside a probe that somebody asked for."""
    schedules = ONE + "\n  again: {scenario: one.yaml, every: 1s}"
    stage = staged(tmp_path, schedules, rate=20)
    stage.workers.took = 0.15  # three slots
    async with stage.serving():
        await wait_until(lambda: len(stage.finished()) > 4, 10, "five runs")
        assert accounted(stage)
    assert stage.workers.most["one"] == 1
    assert missed(stage)["overlap"] > 4
    assert set(missed(stage)) <= {"overlap", "late"}


async def test_the_budget_holds_and_runs_wait_for_it(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(4)]
    schedules = "\n".join(f"  {name}: {{scenario: {name}.yaml, every: 2s}}" for name in names)
    stage = staged(tmp_path, schedules, "budget: {runs: 2}", rate=20, scenarios={name: scenario(name) for name in names})
    stage.workers.took = 0.06
    async with stage.serving():
        await wait_until(lambda: len({job.schedule for job in stage.workers.jobs}) == 4, 10, "a run of each")
        await wait_until(lambda: missed(stage)["budget"] > 0, 10, "one that waited until its next slot")
        assert accounted(stage)
    assert stage.workers.most[""] == 2


async def test_no_more_runs_than_workers_whatever_the_budget(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    schedules = "\n".join(f"  {name}: {{scenario: {name}.yaml, every: 1s}}" for name in names)
    more = "budget: {runs: 3}\nworkers: {count: 1}"
    stage = staged(tmp_path, schedules, more, rate=20, scenarios={name: scenario(name) for name in names})
    stage.workers.took = 0.05
    async with stage.serving():
        await wait_until(lambda: len({job.schedule for job in stage.workers.jobs}) == 3, 10, "a run of each")
    assert stage.workers.most[""] == 1


async def test_nothing_starts_in_a_blackout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    begin, end = (now + timedelta(seconds=s) for s in (4, 12))
    blackout = f"blackouts: [{{from: {begin.isoformat()}, to: {end.isoformat()}}}]"
    stage = staged(tmp_path, ONE, blackout, rate=20)
    starts: list[float] = []
    begins = stage.agent._begin

    def noted(group: asyncio.TaskGroup, name: str, slot: int) -> asyncio.Task[Concluded | None]:
        starts.append(stage.clock.system() / 1e9)
        return begins(group, name, slot)

    monkeypatch.setattr(stage.agent, "_begin", noted)
    async with stage.serving():
        await wait_until(lambda: stage.clock.system() > (end.timestamp() + 3) * 1e9, 10, "the end of it")
        assert accounted(stage)
    assert 7 <= missed(stage)["blackout"] <= 9
    assert starts
    assert not [at for at in starts if begin.timestamp() + 0.5 <= at < end.timestamp()]


@pytest.mark.parametrize("seconds", [36_000.0, -36_000.0])
async def test_a_clock_that_is_stepped_neither_piles_up_nor_starves(tmp_path: Path, seconds: float) -> None:
    stage = staged(tmp_path, ONE, how=lambda _: "done")
    async with stage.serving():
        await wait_until(lambda: len(stage.workers.jobs) > 0, 5, "a run")
        before = len(stage.workers.jobs)
        stage.clock.step(seconds)
        await wait_until(lambda: len(stage.workers.jobs) >= before + 2, 5, "two runs more")
        assert len(stage.workers.jobs) <= before + 4
        assert accounted(stage)
        clocks = [r for r in stage.records if isinstance(r, Event) and r.kind == "clock"]
        assert len(clocks) == 1
        assert f"{seconds:+.1f}" in clocks[0].why
    last = [record for record in stage.records if isinstance(record, RunBegun)][-1]
    assert abs(last.began_ns / 1e9 - (time.time() + seconds)) < 30
    assert abs(stage.clock.wall().unix_ns / 1e9 - (time.time() + seconds)) < 5


async def test_a_bug_in_a_run_is_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"one": scenario(), "two": scenario("two")}
    stage = staged(tmp_path, ONE + "\n  two: {scenario: two.yaml, every: 1s}", rate=20, scenarios=both)
    job = stage.agent.job

    def breaks(name: str, due: int) -> object:
        if name == "two":
            raise ZeroDivisionError
        return job(name, due)

    monkeypatch.setattr(stage.agent, "job", breaks)
    async with stage.serving():
        await wait_until(lambda: len(stage.workers.jobs) > 3 and missed(stage)["broken"] > 3, 5, "runs and what broke")
        assert accounted(stage)
    assert {job.schedule for job in stage.workers.jobs} == {"one"}


async def test_every_series_of_it_is_there_at_zero_before_anything_happens(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE)
    value = stage.metrics.registry.get_sample_value
    for kind in ("overlap", "budget", "blackout", "late", "broken"):
        assert value("streamprobe_self_runs_missed_total", {"scenario": "one", "kind": kind}) == 0
    for name in ("self_runs_due_total", "self_runs_in_flight", "self_run_late_seconds_count"):
        assert value(f"streamprobe_{name}", {"scenario": "one"}) == 0
    for kind in ("signal 11", "memory", "time"):
        assert value("streamprobe_self_worker_crashes_total", {"kind": kind}) == 0
    for verdict in Verdict:
        labels = {"scenario": "one", "mode": "scheduled", "publish_region": "local", "region": "local", "verdict": verdict.value}
        assert value("streamprobe_runs_total", labels) == 0
    assert value("streamprobe_self_agent_info", {"region": "local"}) == 1
    assert stage.total("self_start_time_seconds") > 1e9


async def test_when_it_ends_its_runs_end_and_are_recorded(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE, how=lambda _: "hang", rate=20)
    async with stage.serving():
        await wait_until(lambda: stage.workers.running[""], 5, "a run")
    (record,) = stage.finished()
    assert record.attempts["cancelled"] == 2
    kinds = [r.kind if isinstance(r, Event) else type(r).__name__ for r in stage.records]
    assert kinds == ["start", "RunBegun", "RunFinished", "stop"]
    assert stage.agent.ending


async def test_once_is_every_schedule_once_within_the_budget(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    schedules = "\n".join(f"  {name}: {{scenario: {name}.yaml, every: 1h}}" for name in names) + (
        "\n  more: {scenario: a.yaml, every: 1h}"
    )
    blackout = "blackouts: [{from: 2020-01-01T00:00, to: 2100-01-01T00:00}]"
    stage = staged(
        tmp_path,
        schedules,
        blackout,
        how=lambda job: "failed" if job.schedule == "b" else "done",
        scenarios={name: scenario(name) for name in names},
    )
    stage.workers.took = 0.02
    found = await stage.agent.once()
    assert [one.judgement.result.value for one in found if isinstance(one, Concluded)] == ["pass", "fail", "pass", "pass"]
    assert stage.workers.most == {"": 2, "a": 1, "b": 1, "c": 1}


@pytest.mark.timing
async def test_the_loop_is_on_time_whatever_is_judged_and_taken(tmp_path: Path) -> None:
    """Twenty runs judged one after the other, and a configuration of forty scenarios with whole journeys taken meanwhile."""
    journey = (Path(__file__).parents[2] / "scenarios" / "room-start.yaml").read_text()
    env = "http://127.0.0.1:9"

    def whole(name: str) -> str:
        return journey.replace("scenario: room-start", f"scenario: {name}").replace("${env.PLATFORM_URL}", env)

    stage = staged(tmp_path, ONE)
    names = [f"whole-{n}" for n in range(40)]
    for name in names:
        (tmp_path / f"{name}.yaml").write_text(whole(name))
    schedules = "\n".join(f"  {name}: {{scenario: {name}.yaml, every: 1h}}" for name in names)
    stage.file.write_text(f"{stage.file.read_text()}\n{schedules}")
    lags: list[float] = []

    async def judged() -> None:
        for _ in range(20):
            await stage.runs.run(stage.agent.job("one", 0))

    gc.collect()
    gc.freeze()  # as a process that is an agent and nothing else does
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(stage.agent.reload()), group.create_task(judged())]
            while not all(task.done() for task in work):
                before, waited = time.monotonic(), starved()
                await asyncio.sleep(0.005)
                lags.append(time.monotonic() - before - 0.005 - (starved() - waited))
    finally:
        sys.setswitchinterval(usual)
        gc.unfreeze()
    assert work[0].result() == ()
    lags.sort()
    median, p99, worst = (1000 * lags[at] for at in (len(lags) // 2, len(lags) * 99 // 100, -1))
    figures = f"lag in ms over {len(lags)} looks: median {median:.1f}, p99 {p99:.1f}, worst {worst:.1f}"
    print(figures)
    assert p99 < 50 and worst < 100, figures
