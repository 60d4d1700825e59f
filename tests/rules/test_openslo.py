"""OpenSLO out and in again: the same objectives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from probe.agent.fleet_file import fleet_of
from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.conditions import Burn
from probe.rules.fleet import Fleet, Severity
from probe.rules.openslo import UNSAID, openslo
from probe.scenario.indicators import INDICATORS, Bound, Unit
from probe.scenario.load import loads
from probe.scenario.objective import Objective
from probe.scenario.objectives_file import load_objectives
from tests.judge.test_objectives import TEXT

MINUTE = 60 * NS
SCENARIO = loads(TEXT, env={})
FLEET = fleet_of(SCENARIO, every=MINUTE)


def documents(fleet: Fleet, *, alerted: bool = False) -> list[dict]:
    yaml = YAML(typ="safe", pure=True)
    return list(yaml.load_all(openslo(fleet, alerts(fleet) if alerted else ())))


def with_objectives(*objectives: Objective) -> Fleet:
    return fleet_of(SCENARIO.model_copy(update={"objectives": objectives}), every=MINUTE)


def read_again(fleet: Fleet, file: Path) -> list[Objective]:
    file.write_text(openslo(fleet))
    return [one.objective for one in load_objectives(file, env={}).placed]


def test_what_goes_out_comes_in_the_same(tmp_path: Path):
    expected = [one.model_copy(update={"owner": one.owner or "me", "service": one.of_service}) for one in SCENARIO.objectives]
    found = load_objectives(_written(tmp_path), env={})
    assert [one.objective for one in found.placed] == expected
    assert {one.scenario for one in found.placed} == {"story"}
    assert any("queries are not used" in note for note in found.notes)


def _written(folder: Path) -> Path:
    (folder / "slo.yaml").write_text(openslo(FLEET))
    return folder / "slo.yaml"


@st.composite
def objectives(draw: st.DrawFn) -> Objective:
    row = draw(st.sampled_from([row for row in INDICATORS.values() if row.objective]))
    bounds = {
        Bound.WITHIN: st.sampled_from(["2s", "250ms", "1m30s"]),
        Bound.AT_MOST: st.sampled_from(["0%", "2%", "0.25%"]),
        Bound.AT_LEAST: st.sampled_from(["400kbps", "2.5Mbps", "1bps"]),
    }
    target = draw(st.integers(2, 99_999))
    fields = {
        "name": draw(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)),
        "indicator": row.name,
        "target": f"{target / 1000:g}%",
        "window": draw(st.sampled_from(["30d", "4w", "6h", "90m", "36h"])).replace("4w", "28d"),
        "owner": draw(st.sampled_from(["me", "team a", "Überwachung"])),
        "service": draw(st.sampled_from([row.service, "check_out", "Pay"])),
        "action": draw(st.sampled_from(["", "drain it: now", "# stop", "'quote' \"both\" 1.0", "true", "see ${trace_id}"])),
        "page": draw(st.booleans()),
        "shadow": draw(st.booleans()),
    }
    if row.bound:
        fields[row.bound.value] = draw(bounds[row.bound])
    if fields["page"] and draw(st.booleans()) and target > 1000:
        fields["below"] = "0.5%"
    if row.unit is not Unit.RATIO and row.name != "bitrate" and draw(st.booleans()):
        fields["protocols"] = ["whep"]
    if row.name != "coverage" and draw(st.booleans()):
        fields["regions"] = ["local"]
    return Objective.model_validate(fields)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=objectives())
def test_any_objective_survives_the_way_out_and_in(one: Objective, tmp_path: Path):
    assert read_again(with_objectives(one), tmp_path / "one.yaml") == [one]


def test_runs_are_counted_where_the_probe_counts_them():
    slo = next(d for d in documents(FLEET) if d["metadata"]["name"] == "first-frame")
    assert slo["apiVersion"] == "openslo/v1" and slo["kind"] == "SLO"
    ratio = slo["spec"]["indicator"]["spec"]["ratioMetric"]
    assert ratio["counter"] is True
    runs = 'streamprobe_objective_runs_total{mode="scheduled",scenario="story",slo="first-frame"'
    assert ratio["good"]["metricSource"]["spec"]["query"] == f'sum({runs},outcome="good"}})'
    assert ratio["total"]["metricSource"]["spec"]["query"] == f'sum({runs},outcome=~"good|bad"}})'
    assert slo["spec"]["timeWindow"] == [{"duration": "30d", "isRolling": True}]
    assert slo["spec"]["objectives"] == [{"displayName": "first-frame", "target": 0.95}]


def test_coverage_has_no_counter_of_what_was_due_and_is_given_as_it_is_recorded():
    slo = next(d for d in documents(FLEET) if d["metadata"]["name"] == "made")
    ratio = slo["spec"]["indicator"]["spec"]["ratioMetric"]
    assert (ratio["counter"], ratio["rawType"]) == (False, "failure")
    assert ratio["raw"]["metricSource"]["spec"]["query"] == 'slo:sli_error:ratio_rate30d{scenario="story",slo="made"}'


def test_an_alert_s_burn_rates_become_policies_of_its_slo():
    whole = replace(FLEET, slos=tuple(replace(slo, action="look", owner="Media SRE") for slo in FLEET.slos))
    whole = replace(whole, links=replace(whole.links, dashboards="https://d.example", runbooks="https://r.example"), sla=SLA)
    made = alerts(whole)
    found = list(YAML(typ="safe", pure=True).load_all(openslo(whole, made)))
    policies = {d["metadata"]["name"]: d for d in found if d["kind"] == "AlertPolicy"}
    burns = [burn for alert in made if alert.slo for burn in alert.conditions if isinstance(burn, Burn)]
    assert len(policies) == len(burns) > 10
    for document in found:
        for reference in document["spec"].get("alertPolicies", ()) if document["kind"] == "SLO" else ():
            assert reference["alertPolicyRef"] in policies
    page = policies["start-p1-1h"]["spec"]
    assert page["conditions"][0]["spec"] == {
        "severity": "page",
        "condition": {"kind": "burnrate", "op": "gt", "threshold": 14.4, "lookbackWindow": "1h", "alertAfter": "0m"},
    }
    assert page["notificationTargets"] == [{"targetRef": "media-sre"}]
    assert [d["metadata"]["name"] for d in found if d["kind"] == "AlertNotificationTarget"] == ["media-sre"]


def test_what_it_cannot_say_is_said():
    text = openslo(FLEET)
    assert all(f"# - {unsaid}" in text for unsaid in UNSAID)
    assert text.index("apiVersion") < text.index("---")  # no empty document before the first


@pytest.mark.parametrize("kind", ["Service", "SLO"])
def test_every_name_is_a_dns_label(kind: str):
    odd = Objective.model_validate(
        {"name": "A_b-", "indicator": "start", "target": "99%", "window": "90m", "service": "check out_", "owner": "me"}
    )
    for document in documents(with_objectives(odd)):
        if document["kind"] == kind:
            assert document["metadata"]["name"] in ("a-b", "check-out")


SLA = {Severity.P1: 5 * MINUTE, Severity.P2: 240 * MINUTE}
