"""An agent notices a platform's release by itself, remembers it, and holds the runs since against those before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from probe.agent.releases import COMPARED, EVENT, ReleaseWatch
from probe.clock import SystemClock
from probe.export.prometheus import MetricsSink
from probe.model.clock import NS
from probe.model.comparison import Change
from probe.store.reader import Records
from probe.store.records import Event
from tests.agent.agents import Stage, agent_process, asking, staged, total, written
from tests.tools import wait_until

SCENARIO = """scenario: one
owner: tests
platform: {url: 'http://127.0.0.1:9', release: 'a text of its own'}
journey:
  - step: {fake: done}
"""


def stage(folder: Path) -> Stage:
    return staged(folder, "  one: {scenario: one.yaml, every: 1h}\n", scenarios={"one": SCENARIO})


async def ran(on: Stage, release: str, times: int = 1) -> None:
    on.workers.release = release
    for _ in range(times):
        await on.agent.once()


def events(on: Stage, kind: str = EVENT) -> list[Event]:
    return [record for record in on.records if isinstance(record, Event) and record.kind == kind]


async def test_a_change_of_release_is_an_event_and_a_time_and_the_first_sight_only_an_event(tmp_path: Path) -> None:
    on = stage(tmp_path)
    await ran(on, "1.4", 2)
    assert [(event.subject, event.why) for event in events(on)] == [("one", "1.4, the first that was seen")]
    assert total(on.metrics.registry, "release_time_seconds") == 0  # no series
    before = on.clock.system()
    await ran(on, "1.5", 2)
    (_, event) = events(on)
    assert (event.why, event.region, event.data["from"], event.data["to"]) == ("1.4 → 1.5", "local", "1.4", "1.5")
    at = on.total("release_time_seconds", scenario="one", region="local")
    assert before / NS - 1 <= at <= on.clock.system() / NS and event.data["changed_ns"] == round(at * NS)
    assert [run.release for run in on.finished()] == ["1.4", "1.4", "1.5", "1.5"]


async def test_runs_since_the_release_are_held_against_those_before(tmp_path: Path) -> None:
    on = stage(tmp_path)
    await ran(on, "1.4", 12)
    on.workers.how = lambda _: "failed"
    await ran(on, "1.5", 7)
    assert on.total("release_change") == 0 and "one" not in on.agent.releases.compared
    await ran(on, "1.5")
    found = on.agent.releases.compared["one"]
    assert found.change is Change.WORSE and (found.runs_before, found.runs_after) == (12, 8)
    worse = {(one.about.indicator, one.about.protocol) for one in found.of(Change.WORSE)}
    assert ("start", "whep") in worse and ("room_start", "") not in worse  # it has no such journey
    assert on.total("release_change", kind="worse", scenario="one") == 1 == on.total("release_change")
    (event,) = events(on, COMPARED)
    assert event.why.startswith("worse than 1.4: ") and event.data == {"change": "worse", "runs_before": 12, "runs_after": 8}
    await ran(on, "1.6")
    assert "one" not in on.agent.releases.compared and on.total("release_change") == 0  # nothing is known of it yet


async def test_gates_that_ask_for_it_begin_their_windows_with_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage(tmp_path)
    begun: list[tuple[str, int]] = []
    monkeypatch.setattr(on.agent.gates, "released", lambda schedule, at: begun.append((schedule, at)))
    await ran(on, "1.4")
    assert begun == []
    await ran(on, "1.5")
    changed = on.agent.releases.changed("one")
    assert changed is not None and begun == [("one", changed.at)]


async def test_a_run_that_says_no_release_changes_nothing(tmp_path: Path) -> None:
    on = stage(tmp_path)
    await ran(on, "")
    assert events(on) == [] and on.agent.releases.changed("one") is None
    assert [run.release for run in on.finished()] == [""]


def recorded(**data: object) -> Event:
    return Event(event_id="1", at_ns=1, agent="a", kind=EVENT, subject="one", region="local", data=data)


async def test_what_was_recorded_is_known_after_a_restart_and_garbage_is_not(tmp_path: Path) -> None:
    metrics = MetricsSink()
    watch = ReleaseWatch(metrics.figures, "local")
    watch.remember([recorded(to=7), recorded(**{"from": "1.4", "to": "1.5", "changed_ns": 5 * NS}), recorded(to="x")])
    known = watch.changed("one")
    assert known is not None and (known.before, known.after, known.at) == ("1.4", "1.5", 5 * NS)
    assert total(metrics.registry, "release_time_seconds", scenario="one") == 5
    on = stage(tmp_path)
    on.agent.remember_releases([recorded(**{"from": "1.4", "to": "1.5", "changed_ns": 5 * NS})])
    await ran(on, "1.5")
    assert events(on) == []


LEARNED = """scenario: one
owner: tests
platform: {{url: '{url}', release: 'build ${{version}}'}}
deadlines: {{run: 5s}}
journey:
  - which: {{http: GET /version, service: room, keep: {{version: version}}}}
"""


def versions() -> Iterator[str]:
    yield from ("1.4", "1.4")
    while True:
        yield "1.5\u202e"  # what a terminal would obey is no part of a name


async def test_an_agent_learns_the_release_from_a_step_and_says_it_everywhere(tmp_path: Path) -> None:
    told = versions()
    app = web.Application()

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": next(told)})

    app.router.add_get("/version", version)
    async with TestServer(app) as server:
        text = LEARNED.format(url=str(server.make_url("/")).rstrip("/"))
        file = written(tmp_path, "  one: {scenario: one.yaml, every: 1s}\n", one=text)
        with agent_process(file) as child:
            async with asking(child) as asked:

                async def noticed() -> bool:
                    return await asked.total("release_time_seconds", scenario="one", region="local") > 0

                await wait_until(noticed, 45, "a release to be noticed")
                now, page, rows = await asked.text("/"), await asked.text("/runs"), await asked.runs()
        assert "release build 1.5, for " in now
        assert {row["release"] for row in rows} >= {"build 1.4"} and "release build 1.4" in page
    async with Records.reading(f"sqlite:///{tmp_path / 'state' / 'records.sqlite'}", SystemClock()) as records:
        changes = [event.why for event in await records.events(EVENT)]
    assert changes == ["build 1.4 → build 1.5", "build 1.4, the first that was seen"]
