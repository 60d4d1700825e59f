"""An overdue drill is a metric of the agents that have a calendar, and an alert that is triaged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.agent.drills import DrillWatch
from probe.agent.fleet_file import load_fleet
from probe.agent.loading import Loaded, load_config
from probe.cli.files import find, vocabulary
from probe.drill.records import ENDED
from probe.errors import ConfigError
from probe.export.prometheus import MetricsSink
from probe.model.clock import Wall
from probe.rules.alerts import alerts
from probe.rules.explain import explained
from probe.rules.fleet import Severity
from probe.rules.groups import rule_files
from probe.rules.runbooks import runbooks
from probe.store.errors import StoreError
from probe.store.records import Event
from tests.drill.calendar.support import DAY, NOW
from tests.drill.calendar.test_files import CAMPAIGNS, DRILL, REHEARSAL
from tests.rules.fleets import fleet
from tests.tools import requires

AGENT = "region: local\nschedules: {start: {scenario: room-start, every: 1m}}\n"
ENV = {"PLATFORM_URL": "http://127.0.0.1", "XDG_STATE_HOME": "/state"}


class Standing:
    def now(self) -> int:
        return 0

    def wall(self, at: int | None = None) -> Wall:
        return Wall(NOW, None)


class Kept:
    """Records of drills that ended; None: they cannot be read."""

    def __init__(self, *verdicts: str) -> None:
        self.verdicts: Sequence[str] | None = verdicts

    async def events(self, kind: str = "", limit: int = 100, subject: str = "") -> list[Event]:
        if self.verdicts is None:
            raise StoreError("the database is away")
        return [
            Event(event_id=str(n), at_ns=NOW - DAY, agent="drill", kind=ENDED, subject="one", data={"verdict": verdict})
            for n, verdict in enumerate(self.verdicts)
            if kind == ENDED
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drills").mkdir()
    (tmp_path / "drills" / "one.yaml").write_text(DRILL.format(name="one"))
    (tmp_path / "drills" / "room.yaml").write_text(REHEARSAL)
    (tmp_path / "campaigns.yaml").write_text(CAMPAIGNS + "policy: [{every: 30d}, {every: 30d, tag: payment}]\n")
    (tmp_path / "agent.yaml").write_text(AGENT + "drills: campaigns.yaml\n")
    return tmp_path


def config(folder: Path) -> Loaded:
    return load_config(folder / "agent.yaml", env=ENV, words=vocabulary(), find=find)


def shown(metrics: MetricsSink) -> dict[str, float]:
    found = (sample for family in metrics.registry.collect() for sample in family.samples)
    return {one.labels["drill"]: one.value for one in found if one.name == "streamprobe_drill_overdue"}


async def test_an_agent_tells_which_drills_are_overdue(folder: Path):
    loaded, metrics, records = config(folder), MetricsSink(), Kept("invalid")
    watch = DrillWatch(lambda: loaded, metrics.figures, records, Standing())  # type: ignore[arg-type]  # events is all it asks
    await watch.look()
    assert shown(metrics) == {"one": 1, "tag:payment": 1, "war-room": 0}  # the campaign is far
    records.verdicts = ("pass",)
    await watch.look()
    assert shown(metrics) == {"one": 0, "tag:payment": 0, "war-room": 0}


async def test_what_a_calendar_no_longer_asks_for_is_not_overdue(folder: Path):
    loaded, metrics = config(folder), MetricsSink()
    watch = DrillWatch(lambda: loaded, metrics.figures, Kept(), Standing())  # type: ignore[arg-type]
    await watch.look()
    assert shown(metrics)["one"] == 1
    loaded = replace(loaded, drills=None)
    await watch.look()
    assert set(shown(metrics).values()) == {0}


async def test_of_records_that_cannot_be_read_nothing_is_told(folder: Path):
    loaded, metrics, records = config(folder), MetricsSink(), Kept()
    records.verdicts = None
    watch = DrillWatch(lambda: loaded, metrics.figures, records, Standing())  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        await watch.look()
    assert shown(metrics) == {}


def test_mistakes_of_the_calendar_are_the_agent_s_and_its_files_are_watched(folder: Path):
    assert {path.name for path in config(folder).files} >= {"campaigns.yaml", "one.yaml", "room.yaml"}
    (folder / "campaigns.yaml").write_text(CAMPAIGNS.replace("drill: one", "drill: oen"))
    with pytest.raises(
        ConfigError, match=r"campaigns\.yaml:11:39 campaigns\.show\.failures\[0\]\.drill: there is no drill 'oen'"
    ):
        config(folder)
    (folder / "campaigns.yaml").unlink()
    with pytest.raises(ConfigError, match=r"agent\.yaml:3:9 drills: .*campaigns\.yaml cannot be read"):
        config(folder)


def test_a_fleet_whose_agents_tell_it_has_an_alert_that_never_pages(folder: Path):
    (folder / "fleet.yaml").write_text(
        "fleet: a\nowner: sre\nagents: {one: {region: local, config: agent.yaml}}\nsla: {P1: 5m, P2: 4h}\n"
    )
    found = load_fleet(folder / "fleet.yaml", env=ENV, words=vocabulary(), find=find).fleet
    (alert,) = (one for one in alerts(found) if one.name == "DrillOverdue")
    assert (alert.severity, alert.labels["owner"], alert.labels["region"]) == (Severity.P2, "sre", "all")
    assert not [one for one in alerts(fleet()) if one.name == "DrillOverdue"]
    (said,) = explained(found, [alert])
    assert said.fires == ("a drill was not done by its time, for 1h",)
    (text,) = (text for path, text in runbooks(found, alerts(found)).items() if "DrillOverdue" in str(path))
    assert "probe drill list --due" in text and "Nothing: nobody knows that anything is broken" in text


def test_it_fires_where_every_agent_says_so_and_names_the_drill(tmp_path: Path):
    made = replace(fleet(), drills=True)
    for path, text in rule_files(made, alerts(made)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def told(drill: str, instance: str, values: str) -> dict[str, str]:
        return {"series": f'streamprobe_drill_overdue{{drill="{drill}",instance="{instance}"}}', "values": values}

    def asked(when: str, *drills: str) -> dict[str, Any]:
        labels = 'alertname="DrillOverdue",alertstate="firing",owner="media-sre",region="all",service="probe"'
        labels += ',severity="P2",slo="probe"'
        return {
            "expr": 'ALERTS{alertname="DrillOverdue",alertstate="firing"}',
            "eval_time": when,
            "exp_samples": [{"labels": f'ALERTS{{drill="{drill}",{labels}}}', "value": 1} for drill in drills],
        }

    series = [
        told("both", "a", "1x200"), told("both", "b", "1x200"), told("one", "a", "1x200"), told("one", "b", "0x200"),
        told("mended", "a", "1x90 0x110"),
    ]  # fmt: skip
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [asked("50m"), asked("80m", "both", "mended"), asked("150m", "both")],
        }
    ]
    test = tmp_path / "test.json"
    rules = sorted(str(path) for path in (tmp_path / "rules").glob("probe.yaml"))
    assert rules
    test.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}))
    command = [requires("promtool", package="prometheus"), "test", "rules", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
