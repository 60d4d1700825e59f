"""Snippets for rollouts: whole YAML of the right kind, and conditions under which no data never lets through."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from probe.rules.fleet import Agent, Fleet
from probe.rules.rollouts import SNIPPETS, Asked, rollouts
from probe.scenario.gate import AnyGate, Gate

ANY: TypeAdapter[Gate] = TypeAdapter(AnyGate)
ASKED = Asked(gate="hold-campaign", region="eu", agent="https://probe.example:9464/", action="pause campaign expansion")


def documents(kind: str, asked: Asked = ASKED) -> list[Any]:
    return list(YAML(typ="safe").load_all(SNIPPETS[kind](asked)))


def only(kind: str, asked: Asked = ASKED) -> Any:
    [document] = documents(kind, asked)
    return document


@pytest.mark.parametrize("kind", SNIPPETS)
def test_a_snippet_says_what_it_is_of_and_what_its_gate_is_for(kind: str):
    text = SNIPPETS[kind](ASKED)
    assert text.startswith("# Gate hold-campaign, to pause campaign expansion. Made by `probe gate --as`.\n")
    assert "probe.example:9464//" not in text and text.endswith("\n")
    assert "region=eu" in text or "--region eu" in text or 'region="eu"' in text
    everywhere = SNIPPETS[kind](Asked(gate="hold-campaign"))
    assert "region" not in "".join(line for line in everywhere.splitlines(keepends=True) if not line.startswith("#"))


def test_an_analysis_template_has_what_argo_rollouts_asks_for():
    template = only("argo")
    assert (template["apiVersion"], template["kind"]) == ("argoproj.io/v1alpha1", "AnalysisTemplate")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", template["metadata"]["name"])
    [metric] = template["spec"]["metrics"]
    assert metric["name"] and re.fullmatch(r"\d+[smh]", metric["interval"]) and metric["count"] >= 1
    provider = metric["provider"]["web"]
    assert provider["url"] == "https://probe.example:9464/gate/hold-campaign?region=eu&status=200"
    assert provider["jsonPath"] == "{$.result}" and provider["timeoutSeconds"] > 0


def test_argo_rollouts_takes_nothing_but_pass_and_warn_for_a_success():
    [metric] = only("argo")["spec"]["metrics"]
    for result in ("pass", "warn", "fail", "inconclusive", "", "NaN", None, math.nan):
        success, failure = condition(metric["successCondition"], result), condition(metric["failureCondition"], result)
        assert success == (result in ("pass", "warn")) and failure == (result == "fail")  # neither: inconclusive
    # With a limit above 0 a metric is successful once it has made its count, whatever its last measurements were.
    assert metric["failureLimit"] == metric["inconclusiveLimit"] == 0


def condition(expression: str, result: Any) -> bool:
    """As Argo's expr-lang evaluates the two forms that are used here; they are Python's too."""
    assert re.fullmatch(r'result (in \["\w+"(, "\w+")*\]|== "\w+")', expression)
    return bool(eval(expression, {"__builtins__": {}}, {"result": result}))


def test_a_metric_template_and_its_canary_have_what_flagger_asks_for():
    template, canary = documents("flagger")
    assert {template["apiVersion"], canary["apiVersion"]} == {"flagger.app/v1beta1"}
    assert (template["kind"], canary["kind"]) == ("MetricTemplate", "Canary")
    assert template["spec"]["provider"] == {"type": "prometheus", "address": "http://prometheus:9090"}
    analysis = canary["spec"]["analysis"]
    [metric] = analysis["metrics"]
    assert metric["templateRef"]["name"] == template["metadata"]["name"] and metric["interval"]
    assert metric["thresholdRange"] == {"min": 1}  # NaN < 1 is false, and so is NaN > max: the query must not give one
    assert template["spec"]["query"].rstrip().endswith("or vector(0)")
    assert {hook["type"] for hook in analysis["webhooks"]} == {"confirm-rollout", "rollback"}
    [rollback] = [hook["url"] for hook in analysis["webhooks"] if hook["type"] == "rollback"]
    assert rollback == "https://probe.example:9464/gate/hold-campaign?region=eu&when=fail"
    assert canary["spec"]["targetRef"]["kind"] == "Deployment" and canary["spec"]["service"]["port"]


def test_a_workflow_has_what_github_asks_for():
    workflow = only("github")
    assert set(workflow) == {"name", "on", "jobs"} and "workflow_call" in workflow["on"]
    job = workflow["jobs"]["gate"]
    assert job["runs-on"] and 0 < job["timeout-minutes"] <= 60
    assert all(step["name"] and step["run"] for step in job["steps"])
    last = job["steps"][-1]
    assert last["run"] == "probe gate hold-campaign --region eu --wait 5m" and "continue-on-error" not in last
    assert last["env"] == {"PROBE_AGENT": "https://probe.example:9464/", "PROBE_AUTH": "${{ secrets.PROBE_AUTH }}"}


def test_a_job_has_what_gitlab_asks_for():
    [(name, job)] = only("gitlab").items()
    assert name == "gate-hold-campaign" and job["image"] and job["stage"]
    assert job["script"] == ["probe gate hold-campaign --region eu --wait 5m"]
    assert job["allow_failure"] is False and job["variables"]["PROBE_AGENT"] == "https://probe.example:9464/"


def test_names_are_put_into_addresses_and_kubernetes_as_they_must_be():
    odd = Asked(gate="Hold_It", region="a b&c")
    assert only("argo", odd)["metadata"]["name"] == "probe-hold-it"
    assert only("argo", odd)["spec"]["metrics"][0]["provider"]["web"]["url"].endswith("/gate/Hold_It?region=a%20b%26c&status=200")
    assert only("argo", Asked(gate="x"))["spec"]["metrics"][0]["provider"]["web"]["url"].endswith("/gate/x?status=200")


def test_every_gate_of_a_fleet_has_a_file_of_each_kind():
    gates = [(scenario, ANY.validate_python(name)) for scenario, name in (("one", "payment"), ("one", "gift"), ("two", "gift"))]
    agents = tuple(Agent(name=name, region="eu", instance="10.0.0.1:9464", beats=()) for name in ("a", "b"))
    fleet = Fleet(name="f", owner="me", agents=agents, scenarios={}, slos=(), gates=gates)
    found = rollouts(fleet)
    assert len(found) == 8 and "to hide paid gifts" in found["rollouts/argo/gift.yaml"]
    assert "http://10.0.0.1:9464/gate/payment" in found["rollouts/argo/payment.yaml"]
    several = replace(fleet, agents=(*agents, Agent(name="c", region="us", instance="10.0.0.2:9464", beats=())))
    assert "http://stream-probe:9464/gate/payment" in rollouts(several)["rollouts/argo/payment.yaml"]
