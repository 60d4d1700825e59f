"""Addresses lead to the place an alert is about, whether Prometheus fills them in or we do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from probe.rules.alerts import alerts
from probe.rules.fleet import Links
from probe.rules.links import (
    Dashboard,
    about_probe,
    board_url,
    dashboard_url,
    run_url,
    runbook_name,
    runbook_url,
    runs_url,
    trace_url,
)
from tests.rules.fleets import HOUR, fleet, two_ingests

ALERTS = {alert.name: alert for alert in alerts(two_ingests())}


def filled(template: str, labels: Mapping[str, str]) -> str:
    """What Go's templates make of ours, by hand: the three that stand in it."""
    publish, region, protocol = (labels.get(name, "") for name in ("publish_region", "region", "protocol"))
    base, _, rest = template.partition("{{")
    assert rest == (
        " with $labels.publish_region }}&var-publish_region={{ . }}{{ else }}"
        '{{ with $labels.region }}{{ if ne . "all" }}&var-region={{ . }}{{ end }}{{ end }}{{ end }}'
        "{{ with $labels.protocol }}&var-protocol={{ . }}{{ end }}"
    )
    place = f"&var-publish_region={publish}" if publish else "" if region in ("", "all") else f"&var-region={region}"
    return base + place + (f"&var-protocol={protocol}" if protocol else "")


@pytest.mark.parametrize(
    "labels",
    [
        {"region": "apac"},
        {"region": "all"},
        {},
        {"region": "eu", "publish_region": "eu"},
        {"region": "us", "protocol": "hls"},
    ],
)
def test_our_address_of_a_place_is_the_one_that_prometheus_makes(labels: dict[str, str]) -> None:
    alert = ALERTS["RoomStartPage"]
    assert dashboard_url(two_ingests(), alert, labels) == filled(dashboard_url(two_ingests(), alert), labels)


def test_an_objectives_alert_leads_to_its_scenario_and_the_probes_own_to_the_probe() -> None:
    at = {"region": "us"}
    found = {name: dashboard_url(two_ingests(), alert, at) for name, alert in ALERTS.items()}
    assert found["RoomStartPage"].startswith(
        f"https://grafana.example/d/{Dashboard.SCENARIO.value}?var-scenario=room-start&var-slo=room-start&from=now-"
    )
    for name, alert in ALERTS.items():
        assert (Dashboard.PROBE.value in found[name]) == about_probe(alert), name
        assert found[name].endswith("&var-region=us") and "$" not in found[name]
    assert {name for name, alert in ALERTS.items() if about_probe(alert)} >= {"RegionSilent", "Watchdog"}


def test_the_time_shown_is_twice_the_longest_window() -> None:
    page = ALERTS["RoomStartPage"]
    longest = max(getattr(condition, "long", getattr(condition, "window", 0)) for condition in page.conditions)
    assert f"from=now-{2 * longest // HOUR}h&to=now" in dashboard_url(two_ingests(), page)
    assert "from=now-1h&" in dashboard_url(two_ingests(), ALERTS["Watchdog"])


def test_runbooks_runs_and_traces_are_addressed_as_the_fleet_says() -> None:
    assert runbook_url(fleet(), ALERTS["RoomStartPage"]) == "https://wiki.example/runbooks/RoomStartPage"
    assert runs_url(fleet(), region="eu", scenario="room start", verdict="fail") == (
        "http://eu.probe.example:9464/runs?region=eu&scenario=room%20start&verdict=fail"
    )
    assert run_url(fleet(), region="eu", run_id="0190") == "http://eu.probe.example:9464/runs/0190"
    assert trace_url(fleet(), "abc") == "https://traces.example/trace/abc"
    assert board_url(fleet(), Dashboard.OVERVIEW) == "https://grafana.example/d/streamprobe-overview"


def test_without_addresses_there_are_paths_beside_the_rules_and_no_dead_links() -> None:
    bare = replace(fleet(), links=Links())
    assert runbook_url(bare, ALERTS["RoomStartPage"]) == "runbooks/RoomStartPage.md"
    assert dashboard_url(bare, ALERTS["RoomStartPage"]).startswith("/d/streamprobe-scenario?")
    assert runs_url(bare, region="eu") == run_url(bare, region="eu", run_id="x") == trace_url(bare, "x") == ""


def test_a_runbooks_name_is_a_file_on_every_machine() -> None:
    assert runbook_name("Room/Start: page…") == "Room-Start-page-"
