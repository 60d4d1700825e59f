"""An agent's records as the last good build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.cli.compare import Comparing, complete, wanted
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.export.verdict_json import verdict_json
from probe.model.clock import NS
from probe.model.comparison import Place
from probe.model.ids import RunIds
from probe.plan import Plan
from probe.planning import make_plan
from probe.scenario.load import loads
from probe.store.address import sqlite_url
from probe.store.store import Store
from tests.export import sample
from tests.store.support import begun, finished
from tests.tools import wait_until

SCENARIO = """scenario: room-start
owner: tests
regions: [eu]
platform: {url: 'http://127.0.0.1:9'}
journey: [{step: {fake: done}}]
"""


def plan() -> Plan:
    return make_plan(loads(SCENARIO, "room-start.yaml"), "eu", 1, RunIds(run_id="1", number=1, trace_low=1), mode="smoke")


async def recorded(folder: Path, *texts: str, mode: str = "scheduled", ago: int = 0) -> Path:
    """A store with a run for each verdict.json, ended so many ns ago."""
    file = folder / "records.sqlite"
    clock = SystemClock()
    async with Store.opened(sqlite_url(file), clock, folder / "outbox") as store:
        for number, text in enumerate(texts):
            now = clock.system() - ago - number * NS
            store.put(begun(number, mode=mode, began_ns=now - NS))
            store.put(finished(number, verdict_json=text, ended_ns=now))
        await wait_until(lambda: not store.behind, 10, store.problem)
    return file


def verdict(release: str, number: int) -> str:
    document: dict[str, Any] = json.loads(verdict_json(replace(sample.healthy(), release=release), lambda text: text))
    document["runs"][0]["run_id"] = f"{release}-{number}"
    return json.dumps(document)


async def test_scheduled_runs_of_another_release_are_the_build_before(tmp_path: Path) -> None:
    texts = [verdict("1.4", n) for n in range(5)] + [verdict("1.5", 5), "{}", ""]
    file = await recorded(tmp_path, *texts)
    options = Comparing(compare_store=str(file))
    asked = wanted(options)
    assert asked is not None
    former = (await complete(asked, options, [plan()], "1.5", SystemClock())).former
    assert {run.release for run in former.runs} == {"1.4"} and len(former.runs) == 5
    assert {run.place for run in former.runs} == {Place("room-start", "eu", "eu")}
    assert "scheduled ones of an agent's records" in former.notes[0] and former.probes == {"0.1.0"}


async def test_files_and_records_add_up(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "verdict.json").write_text(verdict("1.3", 0))
    options = Comparing(compare=(tmp_path / "good",), compare_store=str(await recorded(tmp_path, verdict("1.4", 0))))
    asked = wanted(options)
    assert asked is not None
    former = (await complete(asked, options, [plan()], "", SystemClock())).former
    assert sorted(run.release for run in former.runs) == ["1.3", "1.4"]


@pytest.mark.parametrize(("mode", "ago"), [("adhoc", 0), ("scheduled", 8 * 86_400 * NS)])
async def test_where_there_is_no_such_run_that_is_said(tmp_path: Path, mode: str, ago: int) -> None:
    options = Comparing(compare_store=str(await recorded(tmp_path, verdict("1.4", 0), mode=mode, ago=ago)))
    asked = wanted(options)
    assert asked is not None
    with pytest.raises(ConfigError, match=r"no scheduled run of room-start \(eu → eu\) in the last 7 days has its verdict there"):
        await complete(asked, options, [plan()], "", SystemClock())


async def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    options = Comparing(compare_store="redis://127.0.0.1")
    asked = wanted(options)
    assert asked is not None
    with pytest.raises(ConfigError, match="--compare-store"):
        await complete(asked, options, [plan()], "", SystemClock())
