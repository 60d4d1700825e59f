"""Rule files before a real promtool and a real Prometheus: accepted, healthy, and doing what is said of them."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from probe.cli.fleets import fleet_at
from probe.rules.alerts import alerts
from probe.rules.dashboards import recorded
from probe.rules.fleet import Fleet, Source
from probe.rules.groups import grouped, rule_files, series
from probe.rules.queries import exported, problems
from probe.rules.units import unit_files
from tests.peers import prometheus
from tests.rules.fleets import HOUR, MINUTE, REGIONS, cells, fleet, two_ingests
from tests.tools import requires, wait_until

FLEETS = {
    "dense": fleet(),
    "two ingests": two_ingests(every=4 * MINUTE),
    "pooled": two_ingests(every=30 * MINUTE),
    "everywhere": fleet(REGIONS, every=5 * MINUTE),
    "hourly": fleet(every=HOUR),
    "all regions together": replace(fleet(), slos=tuple(replace(slo, cells=cells(("eu",), 0.4)) for slo in fleet().slos[:1])),
}


def written(folder: Path, files: Mapping[str, str]) -> list[Path]:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in files]


def promtool(*arguments: str | Path) -> str:
    """What it says when it objects; empty when it does not."""
    command = [requires("promtool", package="prometheus"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def of_one(found: Fleet, name: str = "room-start") -> Fleet:
    return replace(found, slos=tuple(slo for slo in found.slos if slo.name == name))


def some_tests(found: Fleet, *words: str) -> dict[str, str]:
    """Rule files and the generated tests whose names hold one of `words`."""
    made = alerts(found)
    files = rule_files(found, made)
    for path, text in unit_files(found, made).items():
        document = YAML(typ="safe").load(text)
        document["tests"] = [test for test in document["tests"] if any(word in test["name"] for word in words)]
        if document["tests"]:
            files[path] = as_yaml(document)
    return files


def as_yaml(document: Any) -> str:
    return json.dumps(document)


@pytest.mark.parametrize("name", FLEETS)
def test_promtool_accepts_every_rule_file(name: str, tmp_path: Path) -> None:
    found = FLEETS[name]
    files = written(tmp_path, rule_files(found, alerts(found)))
    assert promtool("check", "rules", *files) == ""


@pytest.mark.parametrize("name", FLEETS)
def test_rules_read_only_what_is_exported_or_recorded(name: str) -> None:
    found = own(FLEETS[name])
    groups = [group for several in grouped(found, alerts(found)).values() for group in several]
    alerting = frozenset({"alertname", "alertstate", "region", "severity", "owner", "slo"})
    known = {**exported(), **recorded(groups), "ALERTS": alerting}
    read = [rule.expr for group in groups for rule in group.rules if not rule.expr.startswith("vector(")]
    assert len(read) > 10
    assert [problem for expr in read for problem in problems(expr, known)] == []


@pytest.mark.timeout(180)  # promtool computes, at the lowest priority beside all else that runs then
@pytest.mark.parametrize("name", ["room-start", "crash-free"])
def test_the_generated_tests_of_the_shipped_fleet_pass(name: str, tmp_path: Path) -> None:
    # Of all of them it would be minutes: one that counts whole runs and has a direct rule, one that counts by protocol.
    found = of_one(fleet_at(Path("fleet.yaml")), name)
    assert len(found.slos) == 1
    written(tmp_path, {**rule_files(found, alerts(found)), **unit_files(found, alerts(found))})
    assert promtool("test", "rules", *sorted((tmp_path / "rules/tests").iterdir())) == ""


@pytest.mark.timeout(120)
def test_the_generated_tests_can_fail(tmp_path: Path) -> None:
    files = some_tests(of_one(FLEETS["two ingests"]), "page: one failed run", "page: what us publishes")
    rules = files["rules/room-start.yaml"]
    assert "> 2.5" in rules and "unless on (publish_region)" in rules
    test = "rules/tests/room-start.yaml"
    unguarded = rules.replace("> 2.5", "> 0.5").replace("> 3.5", "> 0.5").replace("> 4.5", "> 0.5")
    written(tmp_path / "a", {**files, "rules/room-start.yaml": unguarded})
    assert "RoomStartPage" in promtool("test", "rules", tmp_path / "a" / test)
    twice = rules.replace("unless on (publish_region)", "and on (publish_region)")
    written(tmp_path / "b", {**files, "rules/room-start.yaml": twice})
    assert "RoomStartPage" in promtool("test", "rules", tmp_path / "b" / test)


def own(found: Fleet) -> Fleet:
    """Without objectives about the probe: its own alerts say it."""
    return replace(found, slos=tuple(slo for slo in found.slos if slo.source is Source.RUNS and slo.indicator != "taint_ratio"))


def asked(at: str, alert: str, *regions: str) -> dict[str, Any]:
    return {
        "expr": f'count by (region) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{region="{region}"}}', "value": 1} for region in regions],
    }


def test_what_the_probe_says_of_itself(tmp_path: Path) -> None:
    found = own(fleet(every=6 * MINUTE))
    twins = replace(found, agents=(*found.agents, replace(found.agents[0], name="eu-2")))
    files = rule_files(twins, alerts(twins))
    info = [
        {"series": f'streamprobe_self_agent_info{{instance="{region}",job="p",region="{region}"}}', "values": "1x200"}
        for region in REGIONS
    ]
    end = {"region": "apac", "instance": "apac", "job": "p"}

    def counter(name: str, labels: Mapping[str, str], values: str) -> dict[str, str]:
        return {
            "series": f"streamprobe_{name}{{{','.join(f'{k}={chr(34)}{v}{chr(34)}' for k, v in labels.items())}}}",
            "values": values,
        }

    made = {"mode": "scheduled", "scenario": "room-start", "publish_region": "eu", "verdict": "pass"}
    outcomes = {"mode": "scheduled", "outcome": "done"}
    test = {
        "rule_files": ["../probe.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": "a region makes a third of its runs, another is starved, one of two agents is missing, figures are lost",
                "interval": "1m",
                "input_series": [
                    *info,
                    counter("runs_total", {**made, "region": "us"}, " ".join(str(n // 18) for n in range(201))),
                    counter("runs_total", {**made, "region": "eu"}, " ".join(str(n // 3) for n in range(201))),
                    counter("runs_total", {**made, **end}, " ".join(str(n // 6) for n in range(201))),
                    counter("outcomes_total", {**outcomes, "region": "apac", "tainted": "true"}, "0+1x200"),
                    counter("outcomes_total", {**outcomes, "region": "apac", "tainted": "false"}, "0+3x200"),
                    counter("outcomes_total", {**outcomes, "region": "us", "tainted": "true"}, "0x200"),
                    counter("outcomes_total", {**outcomes, "region": "us", "tainted": "false"}, "0+3x200"),
                    counter("self_series_refused_total", {"kind": "x", "instance": "us", "job": "p"}, "0x150 0+1x49"),
                ],
                "promql_expr_test": [
                    asked("45m", "RunsMissing"),  # what was not due yet is not missing
                    asked("190m", "RunsMissing", "us"),
                    asked("190m", "ProbeTainted", "apac"),
                    asked("190m", "AgentsMissing", "eu"),
                    asked("140m", "ProbeFiguresLost"),
                    asked("190m", "ProbeFiguresLost", "us"),
                    asked("190m", "RegionStale"),
                    asked("190m", "RegionSilent"),
                ],
            },
            {
                "name": "a blackout is no silence, and a dead agent is told once",
                "interval": "1m",
                "input_series": [
                    *info[:1],
                    {"series": 'streamprobe_self_agent_info{instance="us",job="p",region="us"}', "values": "1x200"},
                    counter("runs_total", {**made, "region": "eu"}, " ".join(str(min(n, 80) // 6) for n in range(201))),
                    counter("self_runs_missed_total", {"kind": "blackout", "instance": "eu", "job": "p"},
                            " ".join(str(max(0, n - 80) // 6) for n in range(201))),
                    counter("runs_total", {**made, "region": "us"}, " ".join(str(min(n, 80) // 6) for n in range(201))),
                ],
                "promql_expr_test": [
                    asked("190m", "RegionStale", "us"),
                    asked("190m", "RegionSilent", "apac"),  # it never spoke: there was no series to be absent
                    asked("190m", "RunsMissing"),  # said already
                ],
            },
            {
                "name": "a new agent whose first run takes its time is not stale, one that makes none is",
                "interval": "1m",
                "input_series": [
                    *info[:2],
                    *(counter("self_runs_due_total", {"scenario": "room-start", "instance": region, "job": "p"}, "0x4 1x195")
                      for region in REGIONS[:2]),
                    counter("runs_total", {**made, "region": REGIONS[0]}, "0x14 1x185"),
                    counter("runs_total", {**made, "region": REGIONS[1]}, "0x200"),
                ],
                "promql_expr_test": [
                    asked("12m", "RegionStale"),
                    asked("22m", "RegionStale", REGIONS[1]),
                ],
            },
            {
                "name": "an agent that is back is not stale while its first run takes its time; one that makes none is",
                "interval": "1m",
                "input_series": [
                    *({"series": f'streamprobe_self_agent_info{{instance="{region}",job="p",region="{region}"}}',
                       "values": "1x79 _x40 1x80"} for region in REGIONS[:2]),
                    counter("runs_total", {**made, "region": REGIONS[0]}, "0+1x79 _x40 80x4 81+1x75"),
                    counter("runs_total", {**made, "region": REGIONS[1]}, "0+1x79 _x40 80x80"),
                ],
                "promql_expr_test": [
                    asked("118m", "RegionSilent", *sorted(REGIONS)),
                    asked("123m", "RegionStale"),
                    asked("150m", "RegionStale", REGIONS[1]),
                ],
            },
        ],
    }  # fmt: skip
    written(tmp_path, {**files, "rules/tests/own.yaml": as_yaml(test)})
    assert promtool("test", "rules", tmp_path / "rules/tests/own.yaml") == ""


def test_runs_that_are_not_made_burn_the_budget_of_coverage(tmp_path: Path) -> None:
    found = of_one(fleet(every=6 * MINUTE), "measured")
    files = rule_files(found, alerts(found))
    runs = " ".join(str(min(n, 130) // 6) for n in range(301))
    name = 'streamprobe_runs_total{mode="scheduled",scenario="room-start",publish_region="eu",region="%s",verdict="pass"}'
    test = {
        "rule_files": ["../room-start.yaml", "../probe.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name % "us", "values": " ".join(str(n // 6) for n in range(301))},
                    {"series": name % "eu", "values": runs},
                ],
                "promql_expr_test": [
                    asked("120m", "RoomStartMeasuredTriage", "apac"),  # an agent that never spoke has missed all of them
                    asked("280m", "RoomStartMeasuredTriage", "apac", "eu"),
                ],
            }
        ],
    }
    written(tmp_path, {**files, "rules/tests/own.yaml": as_yaml(test)})
    assert promtool("test", "rules", tmp_path / "rules/tests/own.yaml") == ""


async def test_a_real_prometheus_evaluates_every_rule_and_makes_as_many_series_as_said() -> None:
    found = FLEETS["two ingests"]
    made = alerts(found)
    groups: list[dict[str, Any]] = []
    for text in rule_files(found, made).values():
        groups += YAML(typ="safe").load(text)["groups"]
    for group in groups:
        group["interval"] = "1s"
    async with prometheus.running([], rules={"groups": groups}) as server:

        async def healthy() -> bool:
            asked = [rule for group in (await server.get("rules"))["groups"] for rule in group["rules"]]
            assert not [rule["lastError"] for rule in asked if rule["health"] == "err"]
            return len(asked) == sum(len(group["rules"]) for group in groups) and all(rule["health"] == "ok" for rule in asked)

        await wait_until(healthy, 20.0, "a first evaluation of every rule")
        counted = await server.query('count({__name__=~".+:.+"})')
        assert 0 < counted[()] <= series(found, made)
