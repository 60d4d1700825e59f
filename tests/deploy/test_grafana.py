"""What Grafana is provisioned with fits what is made, what serves it, and what a point on a panel carries."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from probe.cli.fleets import fleet_at
from probe.rules.alerts import alerts
from probe.rules.dashboards import dashboards
from tests.deploy.test_configurations import DEPLOY, documents

PROVISIONING = "grafana/provisioning"
SERVICES: dict[str, dict[str, Any]] = documents("compose.yaml")[0]["services"]
GRAFANA = SERVICES["grafana"]


def mounted(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted → where."""
    return {mount.split(":")[0]: mount.split(":")[1] for mount in service["volumes"]}


def made() -> dict[str, str]:
    fleet = fleet_at(DEPLOY / "stack" / "fleet.yaml", env={})
    return dashboards(fleet, alerts(fleet))


def test_its_data_source_is_the_prometheus_beside_it_and_a_point_leads_to_a_run() -> None:
    [source] = documents(f"{PROVISIONING}/datasources/prometheus.yaml")[0]["datasources"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090" and "prometheus" in SERVICES
    [destination] = source["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "trace_id"  # the label of our exemplars
    [port] = SERVICES["sandbox"]["ports"]  # whose network the agent shares
    assert destination["url"] == f"http://{port.rpartition(':')[0]}/runs?trace_id=$${{__value.raw}}"
    [scraped] = re.findall(r"scrape_interval: (\w+)", (DEPLOY / "stack" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped


def test_it_reads_the_dashboards_where_the_rules_are_written_to() -> None:
    [provider] = documents(f"{PROVISIONING}/dashboards/stream-probe.yaml")[0]["providers"]
    made_at = PurePosixPath(mounted(GRAFANA)["made"])
    assert PurePosixPath(provider["options"]["path"]) == made_at / "dashboards"
    assert mounted(GRAFANA)[f"./{PROVISIONING}"] == "/etc/grafana/provisioning"
    assert PurePosixPath(SERVICES["rules"]["entrypoint"][-1]) == PurePosixPath(mounted(SERVICES["rules"])["made"])
    home = PurePosixPath(GRAFANA["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.relative_to(made_at)) in made()


def test_nobody_can_log_in_and_nothing_is_told_to_others() -> None:
    assert (
        GRAFANA["environment"].items()
        >= {
            "GF_AUTH_DISABLE_LOGIN_FORM": "true",
            "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
        }.items()
    )
    assert set(GRAFANA["environment"]) & {"GF_AUTH_ANONYMOUS_ORG_ROLE"} == set()  # a viewer, as Grafana has it by itself


def test_the_stacks_own_addresses_are_those_that_compose_opens() -> None:
    overview = json.loads(made()["dashboards/streamprobe-run.json"])
    [text] = [panel["options"]["content"] for panel in overview["panels"] if panel["type"] == "text"]
    assert "http://127.0.0.1:9464/runs?trace_id=$trace" in text
    fleet = fleet_at(Path(DEPLOY / "stack" / "fleet.yaml"), env={})
    [port] = GRAFANA["ports"]
    assert fleet.links.dashboards == f"http://{port.rpartition(':')[0]}/d"
