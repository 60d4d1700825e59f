"""Whatever becomes of a run it is counted once, and the same in metrics, records and traces."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from pathlib import Path

import pytest

from probe.agent import conclude as concluding
from probe.agent.facts import Facts
from probe.agent.job import Ended
from probe.export.prometheus import MetricsSink
from probe.model.observation import Note, RunEnded, SessionEnded
from probe.model.outcome import Aborted, Cancelled, Done
from probe.store.records import RunBegun
from tests.agent.agents import KINDS, SESSIONS, Stage, became, staged
from tests.tools import wait_until

ONE = "  one: {scenario: one.yaml, every: 1s}"


def counted(stage: Stage) -> Counter[str]:
    return Counter({kind: round(stage.total("outcomes_total", outcome=kind)) for kind in KINDS})


def traced(stage: Stage) -> Counter[str]:
    spans = (span for spans in stage.traces for span in spans if "streamprobe.session.id" in span.attributes)
    return Counter(str(span.attributes["streamprobe.outcome"]) for span in spans)


async def test_every_attempt_is_somewhere_and_everywhere_the_same(tmp_path: Path) -> None:
    """Among them workers that crash, runs that are cancelled, and a bug in what sees them through."""
    ways = ["done", "failed", "crash", "hang", "broken"] * 4
    told = iter(ways)
    stage = staged(tmp_path, ONE, how=lambda _: next(told))
    for way in ways:
        async with asyncio.TaskGroup() as group:
            run = group.create_task(stage.runs.run(stage.agent.job("one", 0)))
            if way == "hang":
                await wait_until(lambda: stage.workers.running[""], 5, "the run")
                run.cancel()
        assert run.cancelled() == (way == "hang")
    assert counted(stage).total() == stage.total("attempts_total") == len(ways) * len(SESSIONS)
    assert +counted(stage) == became(stage.finished()) == traced(stage)
    assert +counted(stage) == {"done": 12, "failed": 4, "aborted": 16, "cancelled": 8}
    assert all(len(span.span_id) == 16 for spans in stage.traces for span in spans)  # those of steps never reached too
    assert stage.total("runs_total") == len(stage.finished()) == len(ways)
    assert stage.total("self_worker_crashes_total", kind="signal 11") == 4
    assert stage.total("self_worker_crashes_total", kind="lost") == 4
    assert stage.total("self_runs_in_flight") == 0
    by_state = Counter((record.state, record.crashed) for record in stage.finished())
    assert by_state == {("ended", ""): 12, ("aborted", "signal 11"): 4, ("aborted", "lost"): 4}


async def test_a_run_that_breaks_the_judge_keeps_its_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(concluding, "judge", breaks)
    stage = staged(tmp_path, ONE)
    concluded = await stage.runs.run(stage.agent.job("one", 0))
    assert concluded is not None
    (record,) = stage.finished()
    assert (record.verdict, record.cause) == ("inconclusive", "the probe could not judge it")
    assert +counted(stage) == became(stage.finished()) == {"done": 2}
    assert stage.total("runs_total", verdict="inconclusive") == 1
    assert stage.total("runs_total", verdict="pass") == 0


async def test_a_run_that_cannot_even_be_folded_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(concluding, "fold", breaks)
    stage = staged(tmp_path, ONE)
    assert await stage.runs.run(stage.agent.job("one", 0)) is None
    (record,) = stage.finished()
    assert (record.state, record.verdict) == ("aborted", "inconclusive")
    assert stage.total("runs_total", verdict="inconclusive") == 1


async def test_a_cancellation_waits_until_the_run_is_recorded_however_often_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    judge = vars(concluding)["judge"]

    def slow(*given: object, **more: object) -> object:
        entered.set()
        assert go.wait(10)
        return judge(*given, **more)

    monkeypatch.setattr(concluding, "judge", slow)
    stage = staged(tmp_path, ONE)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(stage.runs.run(stage.agent.job("one", 0)))
        await wait_until(entered.is_set, 5, "the judge")
        for _ in range(3):
            run.cancel()
            await asyncio.sleep(0)
        assert not run.done() and not stage.finished()
        go.set()
    assert run.cancelled()
    (record,) = stage.finished()
    assert record.verdict == "pass"  # it had ended before


async def test_a_clock_that_is_put_back_makes_no_run_end_before_it_began(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE)
    stage.workers.took = 0.05
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.runs.run(stage.agent.job("one", 0)))
        await wait_until(lambda: stage.workers.running[""], 5, "the run")
        stage.clock.step(-3600)
    (begun,) = [record for record in stage.records if isinstance(record, RunBegun)]
    (finished,) = stage.finished()
    assert 0 < finished.ended_ns - begun.began_ns < 10**10


async def test_how_a_worker_died_is_a_label_of_a_closed_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, ONE)
    kinds = {kind for kind in ("signal 11", "memory", "time", "grace", "protocol", "lost", "start", "other")}
    assert all(_exists(stage, kind) for kind in kinds)
    ends = itertools.cycle(["signal 31", "exit 201", "memory"])

    async def dies(job: object, put: object) -> Ended:
        return Ended(outcome=Aborted("the probe crashed"), crashed=next(ends))

    monkeypatch.setattr(stage.workers, "run", dies)
    for _ in range(3):
        await stage.runs.run(stage.agent.job("one", 0))
    assert stage.total("self_worker_crashes_total", kind="other") == 2
    assert stage.total("self_worker_crashes_total", kind="memory") == 1
    assert {record.crashed for record in stage.finished()} == {"signal 31", "exit 201", "memory"}


def _exists(stage: Stage, kind: str) -> bool:
    return stage.metrics.registry.get_sample_value("streamprobe_self_worker_crashes_total", {"kind": kind}) == 0.0


def test_of_a_run_that_tells_without_end_its_ends_are_kept() -> None:
    metrics = MetricsSink()
    facts = Facts(metrics, most=10)
    for number in range(30):
        facts.put(Note(run="r", seq=number, text="again"))
    facts.put(SessionEnded(run="r", session="s", seq=31, outcome=Done()))
    for number in range(30):
        facts.put(SessionEnded(run="r", session="s", seq=32 + number, outcome=Done()))
    facts.put(RunEnded(run="r", seq=99, outcome=Cancelled()))
    assert Counter(type(fact).__name__ for fact in facts.kept) == {"Note": 10, "SessionEnded": 10, "RunEnded": 1}
    assert facts.ended() == Ended(outcome=Cancelled())
    dropped = metrics.registry.get_sample_value("streamprobe_self_observations_dropped_total", {"kind": "report"})
    assert dropped == 20 + 21


def test_one_that_had_to_be_killed_when_it_was_cancelled_crashed() -> None:
    facts = Facts(MetricsSink())
    facts.put(RunEnded(run="r", seq=1, outcome=Aborted("the probe crashed: grace")))
    assert facts.ended().crashed == "grace"
