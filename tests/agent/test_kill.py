"""An agent as a process, on a real platform: what it counts, what it leaves, and what it lets out, however it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.sandbox.launch import Sandbox
from probe.store.address import sqlite_url
from probe.store.reader import Records
from probe.store.rows import RunRow
from tests.agent.agents import KINDS, Asked, agent_process, asking, became, last_told, scenario
from tests.agent.agents import written as with_scenarios
from tests.agent.jobs import install
from tests.agent.leaks import leaks
from tests.export.collectors import visiting
from tests.tools import Child, wait_until

HERE = Path(__file__).parent
HEADER = "canary-7f31d0-authorization"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as sandbox:
        yield sandbox


def written(folder: Path, collector: str = "", every: str = "2s") -> Path:
    shutil.copy(HERE / "short.yaml", folder / "short.yaml")
    telemetry = f"  endpoint: {collector}\n  headers: {{authorization: {{env: OTLP_AUTH}}}}\n" if collector else ""
    file = folder / "agent.yaml"
    file.write_text(
        f"agent: test\nregion: local\nstate: state\nlisten: 127.0.0.1:0\nworkers: {{grace: 10s}}\n"
        f"telemetry:\n{telemetry}  traces: 100%\n  metrics: 1s\n"
        f"schedules:\n  short: {{scenario: short.yaml, every: {every}, run_on_start: true}}\n"
    )
    return file


def runs_in_flight(sandbox: Sandbox) -> Callable[[], Awaitable[bool]]:
    async def watched() -> bool:
        return any(s["role"] == "viewer" and s["state"] == "up" for s in (await sandbox.state())["sessions"])

    return watched


def workers(agent: Child) -> list[psutil.Process]:
    """Those that run or wait; what they are forked from is our child."""
    (forkserver,) = psutil.Process(agent.pid).children()
    return list(forkserver.children())


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Another program writes to the records and does not end."""
    connection = sqlite3.connect(state / "records.sqlite", isolation_level=None, timeout=5)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


async def rows(state: Path) -> list[RunRow]:
    async with Records.reading(sqlite_url(state / "records.sqlite"), SystemClock()) as records:
        return await records.runs(1000)


async def pages(state: Path) -> list[str]:
    """Reports and verdicts of all runs, and events."""
    async with Records.reading(sqlite_url(state / "records.sqlite"), SystemClock()) as records:
        found = [repr(await records.events())]
        for row in await records.runs(1000):
            found += [(await records.report(row.run_id)) or "", (await records.verdict(row.run_id)) or "", repr(row)]
            found.append(repr(await records.requests(row.run_id)))
        return found


async def test_a_life_in_which_all_else_breaks_is_accounted_for_and_lets_no_secret_out(tmp_path: Path, sandbox: Sandbox) -> None:
    """A worker is killed, the collector goes, the database is locked; SIGTERM comes in the middle of a run. Nothing is lost: the
    design's sum holds in metrics, records and traces alike."""
    env = environment(sandbox) | {"OTLP_AUTH": HEADER}
    canaries = [HEADER, env["BROADCASTER_PASSWORD"], env["VIEWER_PASSWORD"]]
    state = tmp_path / "state"
    said: list[str] = []
    async with visiting() as collector:
        with agent_process(written(tmp_path, collector.url), env=env) as agent:
            async with asking(agent) as asked:
                await wait_until(runs_in_flight(sandbox), 15, "a broadcast that is watched")
                for worker in workers(agent):
                    worker.kill()
                await wait_until(lambda: asked.total("self_worker_crashes_total", kind="signal 9"), 10, "its end")
                await collector.go()
                with locked(state):
                    before = await asked.total("runs_total")
                    await wait_until(lambda: _more(asked, before), 15, "a run while both are away")
                    assert await asked.total("self_store_behind") >= 0
                    copy = tmp_path / "copy"
                    shutil.copytree(state, copy)
                    said.append(await asked.text("/metrics"))
                await collector.come()
                await wait_until(runs_in_flight(sandbox), 15, "another run")
                said += [await asked.text("/"), await asked.text("/runs"), await asked.text("/runs?format=json")]
                os.kill(agent.pid, signal.SIGTERM)
                assert await agent.exit(15) == 0, agent.text()
        log = agent.output.read_text()
        found = await rows(state)
        said += [log, *await pages(state)]
        assert (await sandbox.state())["rooms"] == []
        assert Counter(row.state for row in found) == {"ended": len(found) - 1, "aborted": 1}
        counted = Counter({kind: last_told(collector, "outcomes_total", outcome=kind) for kind in KINDS})
        spans = [span for span in collector.collector.spans if "streamprobe.session.id" in span.attributes]
        traced = Counter(str(span.attributes["streamprobe.outcome"]) for span in spans)
        assert +counted == became(found)
        assert traced == became(found)
        assert counted["aborted"] > 0
        assert counted.total() == last_told(collector, "attempts_total")
        assert last_told(collector, "runs_total") == len(found)
        bodies = [repr(span) for span in collector.collector.spans] + [str(message) for message in collector.snapshots]
        assert leaks(canaries, state=copy, texts=[*said, *bodies]) == []
        assert leaks(canaries, state=state) == []
    assert all(json.loads(line)["region"] == "local" for line in log.splitlines() if line.startswith("{")), log
    with agent_process(tmp_path / "agent.yaml", env=env, output="late") as late:
        pass
    assert not leaks(canaries, state=state, texts=[late.text()])


async def _more(asked: Asked, before: float) -> bool:
    return await asked.total("runs_total") > before


async def test_after_a_kill_the_run_in_flight_is_aborted_and_what_it_left_is_swept(tmp_path: Path, sandbox: Sandbox) -> None:
    file, env, state = written(tmp_path), environment(sandbox), tmp_path / "state"
    with agent_process(file, env=env) as agent:
        await wait_until(runs_in_flight(sandbox), 20, "a broadcast that is watched")
        below = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]
        os.kill(agent.pid, signal.SIGKILL)
        await wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in below), 3, "all of it to go")
    (left,) = (await sandbox.state())["rooms"]
    with agent_process(file, env=env, output="again") as agent:
        async with asking(agent) as asked:
            await wait_until(lambda: asked.total("runs_total"), 20, "the next run")
            os.kill(agent.pid, signal.SIGTERM)
            assert await agent.exit(15) == 0, agent.text()
    assert (await sandbox.state())["rooms"] == [], left
    found = await rows(state)
    assert len({row.run_id for row in found}) == len(found)
    killed = [row for row in found if row.crashed == "killed"]
    assert len(killed) == 1 and killed[0] is found[-1]
    assert (killed[0].state, killed[0].verdict) == ("aborted", "inconclusive")
    assert all(row.state == "ended" for row in found if row is not killed[0])
    assert "1 runs were under way" in agent.output.read_text()


async def test_whoever_asks_twice_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first SIGTERM waits for a run that does not end when it is told to."""
    install(tmp_path, monkeypatch)
    file = with_scenarios(
        tmp_path, "  one: {scenario: one.yaml, every: 1s}", one=scenario(journey="{fake: done, reason: stubborn}")
    )
    with agent_process(file, env={"PYTHONPATH": str(tmp_path)}) as agent:
        async with asking(agent) as asked:
            await wait_until(lambda: asked.total("self_runs_in_flight"), 10, "a run")
            below = psutil.Process(agent.pid).children(recursive=True)
            os.kill(agent.pid, signal.SIGTERM)
            await wait_until(lambda: _ending(asked), 5, "the end of scheduling")
            os.kill(agent.pid, signal.SIGTERM)
        assert await agent.exit(2) == 143
        await wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in below), 3, "all of it to go")


async def _ending(asked: Asked) -> bool:
    return "it is ending" in await asked.text("/readyz")
