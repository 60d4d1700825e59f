"""Dashboards say what Grafana understands, ask only for what somebody makes, and stay what they are for the same fleet."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import grafana_foundation_sdk.cog.plugins
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from probe.rules.alerts import alerts
from probe.rules.boards.shared import Shown
from probe.rules.dashboards import boards, dashboards, recorded, unanswered
from probe.rules.fleet import Fleet
from probe.rules.grafana import Board, Row
from probe.rules.groups import grouped
from probe.rules.links import Dashboard as Name
from probe.rules.panels import Query, lines
from probe.rules.review import review_group
from probe.rules.runbooks import reviews
from probe.scenario.load import loads
from tests.rules.fleets import fleet, two_ingests

UNKNOWN_TO_THE_TYPES = {"step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}  # Prometheus' own, of annotations


def made(of: Fleet) -> dict[str, Any]:
    return {path: json.loads(text) for path, text in dashboards(of, alerts(of)).items()}


def known(of: Fleet) -> dict[str, frozenset[str]]:
    found = alerts(of)
    groups = [group for groups in grouped(of, found).values() for group in groups]
    return recorded([*groups, review_group(reviews(found))])


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What of our JSON is not in what Grafana's types make of it."""
    match ours:
        case dict():
            if not isinstance(theirs, dict):
                return [path]
            out = []
            for key, value in ours.items():
                if key not in theirs:
                    out += [f"{path}.{key}"] if value not in (None, [], {}, "") else []
                else:
                    out += lost(value, theirs[key], f"{path}.{key}")
            return out
        case list():
            if not isinstance(theirs, list) or len(theirs) != len(ours):
                return [path]
            return [one for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) for one in lost(a, b, f"{path}[{at}]")]
        case _:
            return [] if ours == theirs else [f"{path}: {ours!r} became {theirs!r}"]


@pytest.mark.parametrize("path", made(two_ingests()))
def test_grafanas_published_types_know_every_field_and_change_none(path: str) -> None:
    grafana_foundation_sdk.cog.plugins.register_default_plugins()
    ours = made(two_ingests())[path]
    theirs = json.loads(json.dumps(Dashboard.from_json(ours), cls=JSONEncoder))
    gone = [one for one in lost(ours, theirs) if one.rsplit(".", 1)[-1] not in UNKNOWN_TO_THE_TYPES]
    assert gone == []


def test_uids_are_those_that_alerts_and_runbooks_lead_to() -> None:
    assert {board["uid"] for board in made(two_ingests()).values()} == {name.value for name in Name}
    assert all(path == f"dashboards/{board['uid']}.json" for path, board in made(two_ingests()).items())


def test_the_same_fleet_makes_the_same_files() -> None:
    assert dashboards(fleet(), alerts(fleet())) == dashboards(fleet(), alerts(fleet()))


@pytest.mark.parametrize("path", made(two_ingests()))
def test_panels_are_numbered_titled_explained_and_none_covers_another(path: str) -> None:
    board = made(two_ingests())[path]
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["title"]
        if panel["type"] not in ("row", "text"):
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] in ("table", "heatmap", "state-timeline")


@pytest.mark.parametrize("path", made(two_ingests()))
def test_every_choice_at_the_top_changes_something(path: str) -> None:
    board = made(two_ingests())[path]
    below = json.dumps(board["panels"])
    for variable in board["templating"]["list"]:
        assert f"${variable['name']}" in below or f"${{{variable['name']}}}" in below, variable["name"]
    asked = {name for panel in board["panels"] for name in _variables(json.dumps(panel.get("targets", [])))}
    assert asked <= {variable["name"] for variable in board["templating"]["list"]} | {"__range"}


def _variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{?(\w+)", text))


@pytest.mark.parametrize("of", [fleet(), two_ingests()], ids=["one ingest", "two"])
def test_no_panel_asks_for_what_nobody_makes(of: Fleet) -> None:
    found = alerts(of)
    assert unanswered(boards(of, found), found, known(of)) == []


def test_a_query_of_a_series_that_is_gone_is_told_with_its_place() -> None:
    of = fleet()
    found = alerts(of)
    board = boards(of, found)[0]
    panel = lines("Lost", "Gone.", Query(expr="sum by (region) (streamprobe_gone_total)"), unit="short")
    broken = replace(board, rows=(Row(title="x", panels=(panel,)),))
    [problem] = unanswered([broken], found, known(of))
    assert problem.startswith("demo: overview / Lost: nobody makes streamprobe_gone_total")
    without = {name: labels for name, labels in known(of).items() if name != "slo:objective:ratio"}
    assert any("slo:objective:ratio" in problem for problem in unanswered([board], found, without))


def titles(made_boards: tuple[Board, ...]) -> set[str]:
    return {panel.title for board in made_boards for panel in board.panels()}


def test_what_no_scenario_measures_has_no_panel() -> None:
    bare = loads(
        """
scenario: bare
owner: x
platform: {url: "https://live.example"}
journey:
  - publish: {via: whip, url: /whip}
  - view: {via: whep, url: /whep}
""",
        "bare.yaml",
        env={},
    )
    small = replace(fleet(), scenarios={"bare": bare}, gates=())
    found = alerts(small)
    full, few = boards(fleet(), found), boards(small, found)
    gone = {"Came back from cuts", "How cuts ended", "As they stand", "Gates closed", "Steps that were done", "Failed, by edge"}
    assert gone <= titles(full) and not gone & titles(few)
    assert Name.EDGES.value not in {board.uid for board in few}


def test_one_run_is_reached_from_its_trace_where_the_fleet_says_where() -> None:
    [text] = [panel for panel in made(fleet())[f"dashboards/{Name.RUN.value}.json"]["panels"] if panel["type"] == "text"]
    content = text["options"]["content"]
    assert "http://apac.probe.example:9464/runs?trace_id=$trace" in content
    assert "https://traces.example/trace/$trace" in content
    bare = replace(fleet(), links=replace(fleet().links, runs="", traces=""))
    [text] = [panel for panel in made(bare)[f"dashboards/{Name.RUN.value}.json"]["panels"] if panel["type"] == "text"]
    assert "`/runs?trace_id=$trace`" in text["options"]["content"] and "https://" not in text["options"]["content"]


def test_what_fails_leads_to_the_runs_that_failed_in_each_region() -> None:
    def links(of: Fleet) -> list[str]:
        board = made(of)[f"dashboards/{Name.SCENARIO.value}.json"]
        [panel] = [panel for panel in board["panels"] if panel["title"] == "Failures by phase"]
        return [link["url"] for link in panel["links"]]

    agent = "http://{0}.probe.example:9464/runs?region={0}&scenario=room-start&verdict=fail"
    assert links(fleet()) == [agent.format(region) for region in ("eu", "us", "apac")]
    assert links(replace(fleet(), links=replace(fleet().links, runs=""))) == []
    two = replace(fleet(), scenarios={**fleet().scenarios, "other": fleet().scenarios["room-start"]})
    assert links(two)[0] == "http://eu.probe.example:9464/runs?region=eu&verdict=fail"


def test_a_fleet_without_watchdog_has_no_zero_to_count_from() -> None:
    with pytest.raises(ValueError):
        Shown.of(fleet(), ()).firing("P1")
