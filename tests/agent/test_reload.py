"""A new configuration is taken whole or not at all, heals by itself, and disturbs no run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from probe.agent import reload
from probe.agent.loading import Loaded, fingerprint
from probe.agent.reload import Configuration
from probe.cli.agent import read
from probe.store.records import Event
from tests.agent.agents import Stage, scenario, staged, written
from tests.tools import wait_until

ONE = "  one: {scenario: one.yaml, every: 1s}"
TWO = ONE + "\n  two: {scenario: two.yaml, every: 1s}"


def names(stage: Stage) -> set[str]:
    return {job.plan.scenario for job in stage.workers.jobs}


def success(stage: Stage) -> float:
    return stage.total("self_reload_success")


def events(stage: Stage, kind: str) -> list[str]:
    return [record.why for record in stage.records if isinstance(record, Event) and record.kind == kind]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.agent.agent._NAP", 0.02)


async def test_a_changed_file_is_taken_while_runs_go_on(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE, how=lambda job: "hang" if job.plan.scenario == "one" else "done", rate=20)
    async with stage.serving():
        await wait_until(lambda: names(stage) == {"one"}, 5, "a run of one")
        written(tmp_path, TWO, one=scenario(), two=scenario("two"))
        await wait_until(lambda: "two" in names(stage), 5, "a run of two")
        assert stage.workers.running["one"] == 1  # it was not asked to end
        assert (success(stage), stage.agent.configuration.refused) == (1, ())
        assert events(stage, "reload") == ["taken: 2 schedules"]


async def test_what_is_wrong_is_refused_whole_and_heals_by_the_file_that_is_put_right(tmp_path: Path) -> None:
    """Though it was never in force: a scenario that only the refused configuration names."""
    stage = staged(tmp_path, ONE, rate=20)
    async with stage.serving():
        written(tmp_path, TWO, one=scenario(), two=scenario("two", "{fake: perhaps}"))
        await wait_until(lambda: stage.agent.configuration.refused, 5, "the refusal")
        (why,) = stage.agent.configuration.refused
        assert "two.yaml" in why and "perhaps" in why
        assert success(stage) == 0
        before = len(stage.workers.jobs)
        await wait_until(lambda: len(stage.workers.jobs) > before + 2, 5, "runs of the old one")
        assert names(stage) == {"one"}
        (tmp_path / "two.yaml").write_text(scenario("two"))
        await wait_until(lambda: "two" in names(stage), 5, "a run of two")
        assert (success(stage), stage.agent.configuration.refused) == (1, ())
    assert len(events(stage, "reload")) == 2


async def test_what_was_put_back_is_in_force_again(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE)
    text = stage.file.read_text()
    async with stage.serving():
        stage.file.write_text("schedules: [")
        await wait_until(lambda: success(stage) == 0, 5, "the refusal")
        stage.file.write_text(text)
        await wait_until(lambda: success(stage) == 1, 5, "the end of it")
        assert not stage.agent.configuration.refused


async def test_a_scenario_that_is_deleted_or_turns_invalid_stays_as_it_was(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE, rate=20)
    async with stage.serving():
        (tmp_path / "one.yaml").unlink()
        await wait_until(lambda: stage.agent.configuration.refused, 5, "the refusal")
        assert "No such file" in stage.agent.configuration.refused[0]
        before = len(stage.workers.jobs)
        await wait_until(lambda: len(stage.workers.jobs) > before, 5, "a run all the same")
        (tmp_path / "one.yaml").write_text(scenario(journey="{fake: perhaps}"))
        await wait_until(lambda: "perhaps" in str(stage.agent.configuration.refused), 5, "another refusal")
        (tmp_path / "one.yaml").write_text(scenario("other"))
        await wait_until(lambda: "other" in names(stage), 5, "the one that was mended")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("agent", lambda text: text.replace("agent: test", "agent: another")),
        ("region", lambda text: text.replace("region: local", "region: mars")),
        ("state", lambda text: text.replace("/state", "/elsewhere")),
        ("listen", lambda text: text.replace("127.0.0.1:0", "127.0.0.1:1")),
        ("workers", lambda text: text.replace("schedules:", "workers: {count: 3}\nschedules:")),
        ("store", lambda text: text.replace("schedules:", "store: {keep: 1d}\nschedules:")),
        ("telemetry", lambda text: text.replace("schedules:", "telemetry: {traces: 1%}\nschedules:")),
    ],
)
async def test_what_belongs_to_a_running_agent_changes_only_with_a_restart(tmp_path: Path, field: str, change) -> None:
    stage = staged(tmp_path, ONE, scenarios={"one": scenario(regions="[local, mars]")})
    stage.file.write_text(change(stage.file.read_text()))
    assert await stage.agent.reload() == (f"{field} changes only with a restart",)
    assert success(stage) == 0
    assert stage.agent.loaded.config.agent == "test"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[" * 50_000, b"a: &a [*a, *a]", b"schedules: " + b"{a: " * 2_000, b"- " * 40_000, b"agent: [1"],
    ids=["empty", "no text", "deep", "alias", "mappings", "lists", "torn"],
)
async def test_whatever_stands_in_the_file_an_agent_goes_on(tmp_path: Path, content: bytes) -> None:
    stage = staged(tmp_path, ONE)
    stage.file.write_bytes(content)
    refused = await stage.agent.reload()
    assert refused and sum(map(len, refused)) < 10_000
    assert set(stage.agent.loaded.schedules) == {"one"}


async def test_a_reader_that_breaks_is_a_refusal(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE)

    def breaks() -> Loaded:
        raise RuntimeError("a bug")

    configuration = Configuration(stage.agent.loaded, breaks)
    assert await configuration.renewed() is None
    assert configuration.refused == ("it could not be read: RuntimeError",)


async def test_a_folder_that_is_replaced_by_its_link_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes replaces the files of a ConfigMap."""
    for version, name in (("v1", "one"), ("v2", "two")):
        (tmp_path / version).mkdir()
        written(tmp_path / version, ONE, one=scenario(name))
        (tmp_path / version / "agent.yaml").write_text((tmp_path / "v1" / "agent.yaml").read_text())
    (tmp_path / "now").symlink_to("v1")
    file = tmp_path / "now" / "agent.yaml"
    looks = 0

    def counted(paths: Sequence[Path]) -> dict[Path, str]:
        nonlocal looks
        looks += 1
        return fingerprint(paths)

    monkeypatch.setattr(reload, "fingerprint", counted)
    configuration = Configuration(read(file), lambda: read(file), look=0.02)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        changed = group.create_task(configuration.changed())
        await wait_until(lambda: looks >= 3, 5, "looks that find everything as it was")
        assert not changed.done()
        (tmp_path / "next").symlink_to("v2")
        os.replace(tmp_path / "next", tmp_path / "now")
    loaded = await configuration.renewed()
    assert loaded is not None
    assert loaded.schedules["one"].scenario.name == "two"


async def test_those_who_ask_at_once_are_answered_one_after_the_other(tmp_path: Path) -> None:
    stage = staged(tmp_path, ONE)
    written(tmp_path, TWO, one=scenario(), two=scenario("two"))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(stage.agent.reload()) for _ in range(5)]
    assert [one.result() for one in asked] == [()] * 5
    assert set(stage.agent.loaded.schedules) == {"one", "two"}


async def test_what_was_counted_of_a_schedule_stays_with_its_scenario(tmp_path: Path) -> None:
    """A name may be another scenario's after a reload."""
    stage = staged(tmp_path, ONE, how=lambda _: "hang", rate=50)
    async with stage.serving():
        await wait_until(lambda: stage.total("self_runs_missed_total", scenario="one", kind="overlap") > 1, 5, "an overlap")
        (tmp_path / "one.yaml").write_text(scenario("other"))
        stage.agent.configuration.ask()
        await wait_until(lambda: stage.agent.loaded.schedules["one"].scenario.name == "other", 5, "the reload")
    due = stage.total("self_runs_due_total", scenario="one")
    assert due > 2
    assert stage.total("self_runs_due_total", scenario="other") + due == sum(stage.agent._schedule.slots.values())
    assert {"one", "other"} >= {job.plan.scenario for job in stage.workers.jobs}
