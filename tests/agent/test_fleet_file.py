"""fleet.yaml: cells and cadence as the agents' own files have them, and every mistake of every file at its place."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from probe.agent import config
from probe.agent.cadence import Cadence, cadence
from probe.agent.fleet_file import FleetFile, fleet_of, json_schema, load_fleet
from probe.agent.loading import load_config
from probe.agent.schedule import Cron, Entry, Every, Recurring, Span
from probe.cli.files import find, vocabulary
from probe.errors import ConfigError
from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.fleet import Agent, Beat, Cell, Severity, Source
from probe.scenario.load import loads
from tests.tools import ROOT

MINUTE, HOUR, DAY = 60 * NS, 3_600 * NS, 86_400 * NS
SCENARIO = """
scenario: rooms
owner: media-sre
regions: [eu, us]
platform: {url: "https://live.example"}
journey:
  - publish: {via: whip, url: /whip}
  - view: [{via: whep, url: /whep}, {via: hls, url: /hls}]
objectives:
  - {name: room-start, indicator: room_start, target: 99%, window: 30d, action: look, below: 80%}
  - {name: first-frame, indicator: first_frame, within: 2s, target: 95%, window: 30d, action: look, protocols: hls, page: false}
  - {name: made, indicator: coverage, target: 95%, window: 7d, action: look, owner: ops, shadow: true}
gates:
  - {name: hold, when: "room_start[10m] < 90%", action: hold}
"""
AGENT = """
schedules:
  own: {scenario: rooms.yaml, every: 1m}
  from-eu: {scenario: rooms.yaml, every: 2m, publish_region: eu}
  tried: {scenario: rooms.yaml, every: 10s, mode: adhoc}
"""
FLEET = """fleet: demo
owner: media-sre
agents:
  eu-1: {region: eu, config: agent.yaml, address: "eu-1:9464"}
  us-1: {region: us, config: agent.yaml}
links: {dashboards: "https://grafana.example/d/", runs: "http://${region}:9464/runs"}
sla: {P1: 5m, P2: 4h}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("rooms.yaml", SCENARIO), ("agent.yaml", AGENT), ("fleet.yaml", FLEET)):
        (tmp_path / name).write_text(text)
    return tmp_path


def read(folder: Path, **env: str) -> FleetFile:
    return load_fleet(folder / "fleet.yaml", env=env, words=vocabulary(), find=find)


def refused(folder: Path, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, **env)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


# -- what it comes to


def test_agents_and_what_they_run_come_from_their_own_files(folder: Path):
    fleet = read(folder).fleet
    assert fleet.agents[0] == Agent(
        name="eu-1",
        region="eu",
        instance="eu-1:9464",
        beats=(
            Beat(scenario="rooms", publish_region="eu", runs_per_hour=60),
            Beat(scenario="rooms", publish_region="eu", runs_per_hour=30),
        ),
    )
    assert [(b.publish_region, b.runs_per_hour) for b in fleet.agents[1].beats] == [("us", 60), ("eu", 30)]
    assert (fleet.name, fleet.owner, list(fleet.scenarios)) == ("demo", "media-sre", ["rooms"])
    assert fleet.links.dashboards == "https://grafana.example/d"
    assert fleet.sla == {Severity.P1: 5 * MINUTE, Severity.P2: 4 * HOUR}
    assert [(name, gate.name, gate.owner) for name, gate in fleet.gates] == [("rooms", "hold", "media-sre")]


def test_an_objective_has_a_cell_for_each_path_that_is_measured_and_schedules_of_one_path_add_up(folder: Path):
    room, first, made = read(folder).fleet.slos
    assert room.cells == (
        Cell(publish_region="eu", region="eu", runs_per_hour=90),
        Cell(publish_region="us", region="us", runs_per_hour=60),
        Cell(publish_region="eu", region="us", runs_per_hour=30),
    )
    assert {(c.publish_region, c.region, c.protocol) for c in first.cells} == {
        ("eu", "eu", "hls"), ("us", "us", "hls"), ("eu", "us", "hls")
    }  # fmt: skip
    assert (room.below, room.shadow, room.owner, room.place) == (0.8, False, "media-sre", f"{folder}/rooms.yaml:10")
    assert (room.page, first.page) == (True, False)
    assert (first.within, first.meaning) == ("2s", "every viewer saw its first verified frame within 2s")
    assert (made.source, made.owner, made.shadow, len(made.cells)) == (Source.COVERAGE, "ops", True, 3)


def test_two_agents_of_a_region_share_its_cells(folder: Path):
    replaced(folder / "fleet.yaml", "links:", "  eu-2: {region: eu, config: agent.yaml}\nlinks:")
    room = read(folder).fleet.slos[0]
    assert room.cells[0] == Cell(publish_region="eu", region="eu", runs_per_hour=180)


def test_objectives_of_an_agent_s_other_files_are_of_the_fleet_too(folder: Path):
    (folder / "more.yaml").write_text(
        "scenario: rooms\nobjectives:\n  - {name: starts, indicator: start, target: 99%, window: 30d, action: look}\n"
    )
    replaced(folder / "agent.yaml", "schedules:", "objectives: more.yaml\nschedules:")
    starts = read(folder).fleet.slos[-1]
    assert (starts.name, starts.place, len(starts.cells)) == ("starts", f"{folder}/more.yaml:3", 6)
    prepared = load_config(folder / "agent.yaml", env={"PROBE_REGION": "eu"}, words=vocabulary(), find=find)
    assert [o.name for o in prepared.schedules["own"].scenario.objectives][-1] == "starts", "the agent must judge by it"
    assert (folder / "more.yaml").absolute() in prepared.files, "a change of it is a change of the configuration"


def test_what_the_files_ask_of_the_environment_the_fleet_can_say(folder: Path):
    replaced(folder / "rooms.yaml", '"https://live.example"', '"${env.PLATFORM_URL}"')
    assert "PLATFORM_URL" in refused(folder)[0]
    assert read(folder, PLATFORM_URL="https://live.example").fleet.slos
    replaced(folder / "fleet.yaml", "links:", 'env: {PLATFORM_URL: "https://live.example"}\nlinks:')
    assert read(folder).fleet.slos
    replaced(folder / "fleet.yaml", "address:", 'env: {PLATFORM_URL: "https://eu.example"}, address:')
    assert read(folder).fleet.scenarios["rooms"].platform.url == "https://eu.example"


def test_a_scenario_without_objectives_is_a_beat_alone(folder: Path):
    text = SCENARIO.split("objectives:")[0].replace("rooms", "quiet")
    (folder / "quiet.yaml").write_text(text)
    replaced(folder / "agent.yaml", "  own:", "  quiet: {scenario: quiet.yaml, cron: '*/5 8-19 * * 1-5'}\n  own:")
    fleet = read(folder).fleet
    beat = fleet.agents[0].beats[0]
    assert (beat.scenario, beat.publish_region, beat.runs_per_hour) == ("quiet", "eu", 12)
    assert beat.share == pytest.approx(5 * 12 / 168, abs=0.01)
    assert {slo.scenario for slo in fleet.slos} == {"rooms"}


def test_what_is_only_on_the_agent_s_machine_is_not_asked_for_here(folder: Path):
    replaced(folder / "agent.yaml", "schedules:", "web: web.yaml\nstate: /nowhere\nschedules:")
    assert read(folder).fleet.slos


def test_a_lone_scenario_is_a_fleet_of_an_agent_in_each_region(folder: Path):
    scenario = loads(SCENARIO, env={})
    fleet = fleet_of(scenario, every=MINUTE, file=str(folder / "rooms.yaml"))
    assert [(a.name, a.region, len(a.beats)) for a in fleet.agents] == [("eu", "eu", 1), ("us", "us", 1)]
    assert fleet.slos[0].cells == tuple(Cell(publish_region=r, region=r, runs_per_hour=60) for r in ("eu", "us"))
    assert fleet.slos[0].place == f"{folder}/rooms.yaml:10"
    assert [a.region for a in fleet_of(scenario, every=MINUTE, regions=["us"]).agents] == ["us"]
    with pytest.raises(ConfigError, match="'mars' is not one of eu, us"):
        fleet_of(scenario, every=MINUTE, regions=["mars"])


def test_the_shipped_fleet_is_one_and_every_objective_of_it_can_be_alerted_on():
    found = load_fleet(ROOT / "scenarios" / "fleet.yaml", env={}, words=vocabulary(), find=find)
    fleet = found.fleet
    assert {agent.region for agent in fleet.agents} == {"eu", "us", "apac"}
    assert len(fleet.slos) > 10 and all(slo.action and slo.owner for slo in fleet.slos)
    assert {slo.indicator for slo in fleet.slos} >= {
        "room_start", "first_frame", "crash_free", "reconnect", "reconnect_seconds", "edge_errors", "payment", "chat", "gift",
        "moderation", "bitrate", "freeze_ratio", "taint_ratio", "coverage",
    }  # fmt: skip
    assert {alert.slo.name for alert in alerts(fleet) if alert.slo} == {slo.name for slo in fleet.slos}


# -- mistakes


def test_all_mistakes_of_all_files_are_told_at_once(folder: Path):
    replaced(folder / "fleet.yaml", "us-1: {region: us, config: agent.yaml}", "us-1: {region: us, config: gone.yaml}")
    replaced(folder / "fleet.yaml", "sla:", "oncall: oncall.yaml\nsla:")
    replaced(folder / "rooms.yaml", "indicator: room_start, target: 99%", "indicator: rom_start, target: 100%")
    replaced(folder / "rooms.yaml", "indicator: coverage", "indicator: reconnect")
    replaced(folder / "rooms.yaml", "room_start[10m]", "gift[10m]")
    found = refused(folder)
    assert found[0].startswith("fleet.yaml:5:30 agents.us-1.config: ") and "gone.yaml cannot be read" in found[0]
    assert found[1].startswith("fleet.yaml:7:9 oncall: there is no ")
    assert [line.split(" ")[0] for line in found[2:]] == [
        "rooms.yaml:10:35", "rooms.yaml:10:54", "rooms.yaml:12:29", "rooms.yaml:14:24"
    ]  # fmt: skip
    assert "never measures reconnect; it needs a cut step" in found[4]
    assert "never measures gift; it needs a step with service: gift" in found[5]


def test_the_fleet_s_own_mistakes_have_their_lines(folder: Path):
    (folder / "fleet.yaml").write_text(
        """fleet: demo
owner: ""
agents:
  eu-1: {region: eu, config: agent.yaml, address: eu-1}
  eu-1: {region: eu, config: agent.yaml}
  us-1: {regoin: us, config: agent.yaml}
links: {dashboards: "https://me:secret@grafana.example", runbooks: wiki}
sla: {P0: 5m}
"""
    )
    found = refused(folder)
    assert [line.split(": ")[0] for line in found] == [
        "fleet.yaml:2:8 owner",
        "fleet.yaml:4:51 agents.eu-1.address",
        "fleet.yaml:5:3 duplicate key 'eu-1'; the first is on line 4",
        "fleet.yaml:6:9 agents.us-1.region",
        "fleet.yaml:6:10 agents.us-1.regoin",
        "fleet.yaml:7:21 links.dashboards",
        "fleet.yaml:7:68 links.runbooks",
        "fleet.yaml:8:7 sla.P0",
    ]
    assert found[-1].endswith("'P0' is not one of P1, P2, P3")
    assert "secret" not in "".join(found)


def test_two_agents_have_two_addresses(folder: Path):
    replaced(folder / "fleet.yaml", "us-1: {region: us, config: agent.yaml}", "us-1: {region: us, config: agent.yaml, "
             'address: "eu-1:9464"}')  # fmt: skip
    assert refused(folder) == ["fleet.yaml:5:51 agents.us-1.address: is eu-1's already; two agents have two addresses"]


def test_an_agent_stands_where_its_file_says(folder: Path):
    replaced(folder / "agent.yaml", "schedules:", "region: us\nschedules:")
    assert refused(folder) == [
        f"fleet.yaml:4:18 agents.eu-1.region: {folder}/agent.yaml says region: us; one of the two is wrong"
    ]


def test_a_region_that_the_scenario_does_not_know_is_named_where_the_agent_is(folder: Path):
    replaced(folder / "fleet.yaml", "us-1: {region: us", "us-1: {region: mars")
    assert "'mars' is not one of eu, us" in refused(folder)[0]


def test_a_name_is_one_scenario_and_one_objective_in_a_fleet(folder: Path):
    (folder / "other").mkdir()
    (folder / "other" / "rooms.yaml").write_text(SCENARIO.replace("target: 99%", "target: 98%"))
    (folder / "other" / "agent.yaml").write_text(AGENT)
    replaced(folder / "fleet.yaml", "us-1: {region: us, config: agent.yaml}", "us-1: {region: us, config: other/agent.yaml}")
    said = "promises or gates other things of 'rooms' than eu-1 does; a name is one scenario everywhere"
    assert set(refused(folder)) == {f"fleet.yaml:5:30 agents.us-1.config: {said}"}
    (folder / "other" / "rooms.yaml").write_text(SCENARIO.replace("scenario: rooms", "scenario: others"))
    found = refused(folder)
    assert len(found) == 3
    assert found[0] == (
        f"other/rooms.yaml:10:1 objectives: 'room-start' is promised by rooms too ({folder}/rooms.yaml:10); "
        "in a fleet a name is one objective"
    )


def test_an_objective_that_no_agent_measures_is_refused(folder: Path):
    replaced(folder / "rooms.yaml", "below: 80%", "regions: us")
    replaced(folder / "fleet.yaml", "  us-1: {region: us, config: agent.yaml}\n", "")
    assert refused(folder) == [
        "rooms.yaml:10:1 objectives: 'room-start' is measured by no agent of the fleet: none of its regions or protocols is there"
    ]


def test_objectives_on_a_scenario_that_no_schedule_runs_are_refused(folder: Path):
    (folder / "more.yaml").write_text("scenario: room\nobjectives: [{name: a, indicator: start, target: 99%, window: 30d}]\n")
    replaced(folder / "agent.yaml", "schedules:", "objectives: [more.yaml, gone.yaml]\nschedules:")
    found = refused(folder)
    assert f"agent.yaml:2:14 objectives[0]: {folder}/more.yaml promises on room, of which no schedule makes runs" in found
    assert any(line.startswith("agent.yaml:2:25 objectives[1]: ") and "gone.yaml cannot be read" in line for line in found)


@pytest.mark.parametrize("text", ["", "- a", "fleet: x", "agents: ["])
def test_what_is_no_fleet_is_refused_in_words(folder: Path, text: str):
    (folder / "fleet.yaml").write_text(text)
    assert refused(folder)


def test_the_schemas_for_editors_take_what_is_shipped_and_name_what_is_wrong():
    for name, schema in (("fleet", json_schema()), ("agent", config.json_schema())):
        data = YAML(typ="safe", pure=True).load(ROOT / "scenarios" / f"{name}.yaml")
        jsonschema.validate(data, schema)
        with pytest.raises(jsonschema.ValidationError, match="sal"):
            jsonschema.validate({**data, "sal": 1}, schema)
    assert json_schema()["properties"]["sla"]["additionalProperties"]["pattern"].startswith("^")


# -- cadence


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (Every(90 * NS), Cadence(40.0, 1.0)),
        (Cron("*/10 * * * *"), Cadence(6.0, 1.0)),
        (Cron("*/5 8-23 * * *", "Asia/Jakarta"), Cadence(12.0, 16 / 24)),
        (Cron("0 3 * * 0"), Cadence(1 / 168, 1.0)),
        (Cron("0 3 1 * *"), Cadence(1 / (28 * 24), 1.0)),
    ],
)
def test_a_cadence_is_how_dense_runs_are_and_for_what_share_of_a_week(when: Every | Cron, expected: Cadence):
    found = cadence(Entry(name="a", scenario="s", when=when))
    assert found.runs_per_hour == pytest.approx(expected.runs_per_hour)
    assert found.share == pytest.approx(expected.share, abs=0.01)


def test_only_and_blackouts_take_from_the_week_and_single_dates_do_not():
    evening = Recurring(Cron("0 18 * * *"), 6 * HOUR)
    night = Recurring(Cron("0 21 * * *"), HOUR)
    once = Span(0, DAY)
    assert cadence(Entry(name="a", scenario="s", when=Every(MINUTE), only=(evening,))).share == pytest.approx(0.25)
    assert cadence(Entry(name="a", scenario="s", when=Every(MINUTE), only=(evening,), blackouts=(night,))).share == (
        pytest.approx(5 / 24)
    )
    assert cadence(Entry(name="a", scenario="s", when=Every(MINUTE), only=(once,), blackouts=(once,))).share == 1.0
