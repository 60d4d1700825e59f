"""Budgets: what Prometheus makes of our expressions is what Python says; a gap, a restart, a NaN spoil neither."""

from __future__ import annotations

import json
import math
import random
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.rules import budget
from probe.rules.budget import Budget, Points, copied, increase
from probe.rules.fleet import Slo
from probe.rules.groups import Group, of_slo, text
from tests.rules.fleets import DAY, HOUR, MINUTE, fleet
from tests.tools import free_port, requires, spawn, wait_until

WINDOW = DAY
AT = WINDOW + HOUR
SCRAPE = 3 * MINUTE
SLO = replace(fleet().slos[1], window=WINDOW)  # first-frame, by protocol
MADE = replace(fleet().slos[-1], window=WINDOW)
Agent = dict[str, list[list[tuple[int, float]]]]


def lived(
    seed: int, *, restarts: tuple[int, ...] = (), gap: tuple[int, int] = (0, 0), nans: tuple[int, ...] = (), until: int = AT
) -> Agent:
    """An agent's counters as they are scraped: two protocols, one run a scrape, 4 % of them bad. In a gap nobody scrapes and the
    agent runs on; after a restart it begins at 0; a NaN stands in every series at once."""
    chance = random.Random(seed)
    agent: Agent = {"good": [[], []], "bad": [[], []]}
    counts = {"good": [0, 0], "bad": [0, 0]}
    for at in range(0, until + 1, SCRAPE):
        if at in restarts:
            counts = {"good": [0, 0], "bad": [0, 0]}
        for protocol in (0, 1):
            counts["bad" if chance.random() < 0.04 else "good"][protocol] += 1
            for outcome, series in agent.items():
                if not gap[0] <= at < gap[1]:
                    series[protocol].append((at, math.nan if at in nans else float(counts[outcome][protocol])))
    return agent


HISTORIES = {
    "steady": [lived(1), lived(2)],
    "gap": [lived(3, gap=(10 * HOUR, 15 * HOUR)), lived(4)],
    "restarts": [lived(5, restarts=(5 * HOUR + 6 * MINUTE, 15 * HOUR, 15 * HOUR + 6 * MINUTE)), lived(6)],
    "many nans": [lived(11, nans=tuple(range(16 * HOUR, 17 * HOUR, SCRAPE)), restarts=(16 * HOUR + 30 * MINUTE,)), lived(12)],
    "nan": [lived(7, nans=(9 * HOUR + 3 * MINUTE, 20 * HOUR)), lived(8)],
    "gone": [lived(9, until=15 * HOUR), lived(10, restarts=(9 * HOUR,), nans=(9 * HOUR + SCRAPE,), gap=(12 * HOUR, 13 * HOUR))],
}


def told(slo: Slo, agents: list[Agent]) -> Iterator[dict[str, str]]:
    """As promtool's test files write series."""
    for number, agent in enumerate(agents):
        for outcome, several in agent.items():
            for protocol, points in zip(("whep", "hls"), several, strict=True):
                labels = {
                    "job": "probe", "instance": f"i{number}", "region": f"r{number}", "publish_region": "eu", "mode": "scheduled",
                    "scenario": slo.scenario, "slo": slo.name, "outcome": outcome, "protocol": protocol,
                }  # fmt: skip
                named = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
                known = dict(points)
                values = (known.get(at) for at in range(0, AT + 1, SCRAPE))
                written = " ".join("_" if v is None else "NaN" if math.isnan(v) else f"{v:g}" for v in values)
                yield {"series": f"streamprobe_objective_runs_total{{{named}}}", "values": written}


def test_prometheus_says_what_python_says_whatever_befell_the_counters(tmp_path: Path):
    promtool = requires("promtool", package="prometheus")
    tests = []
    (tmp_path / "rules.yaml").write_text(text([_together(SLO)]))
    (tmp_path / "naive.yaml").write_text(json.dumps({"groups": [{"name": "naive", "interval": "15m", "rules": [
        {"record": "naive:ratio_rate5m", "expr": _rate("bad", "5m") + " / " + _rate("good|bad", "5m")}]}]}))  # fmt: skip
    selector = f'{{scenario="{SLO.scenario}",slo="{SLO.name}"}}'
    for name, agents in HISTORIES.items():
        said = budget.budget(SLO, agents, AT)
        assert said.error is not None and said.remaining is not None and said.coverage is not None
        expected = {
            f"slo:sli_error:ratio_rate1d{selector}": said.error,
            f"{budget.REMAINING}{selector}": said.remaining,
            f"{budget.COVERAGE}{selector}": said.coverage,
        }
        asked = [f"count(abs({series} - {value!r}) < 1e-9)" for series, value in expected.items()]
        if name == "nan":  # a mean of ratios is NaN for as long as the window is
            asked.append("count(avg_over_time(naive:ratio_rate5m[1d]) != avg_over_time(naive:ratio_rate5m[1d]))")
        one = [{"expr": expr, "eval_time": "25h", "exp_samples": [{"labels": "{}", "value": 1}]} for expr in asked]
        tests.append({"name": name, "interval": "3m", "input_series": list(told(SLO, agents)), "promql_expr_test": one})
    file = {"rule_files": ["rules.yaml", "naive.yaml"], "evaluation_interval": "15m", "tests": tests}
    (tmp_path / "test.yaml").write_text(json.dumps(file))
    done = subprocess.run([promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _together(slo: Slo) -> Group:
    """As `probe rules` writes them, in one group: promtool evaluates several in any order, and the copy is to be there first."""
    return Group(name="all", interval=budget.STEP, rules=tuple(rule for group in of_slo(slo, ()) for rule in group.rules))


def _rate(outcomes: str, window: str) -> str:
    return f'sum(increase(streamprobe_objective_runs_total{{outcome=~"{outcomes}"}}[{window}]))'


def added(agents: list[Agent], outcome: str) -> float:
    """What the scrapes of the window show to have been added, one by one."""
    total = 0.0
    for agent in agents:
        for points in agent[outcome]:
            seen = [value for at, value in points if at >= AT - WINDOW and not math.isnan(value)]
            total += sum(after - before if after >= before else after for before, after in pairwise(seen))
    return total


@pytest.mark.parametrize("name", list(HISTORIES))
def test_neither_a_gap_nor_a_restart_nor_a_nan_spoils_a_budget(name: str):
    agents = HISTORIES[name]
    said, good, bad = budget.budget(SLO, agents, AT), added(agents, "good"), added(agents, "bad")
    made = 4 * WINDOW / SCRAPE * (19 / 24 if name == "gone" else 1)  # two agents, two protocols; one gone for 10 of 24 hours
    assert good + bad == pytest.approx(made, rel=0.015)  # what nobody saw before a restart is gone
    assert said.good == pytest.approx(good, rel=0.01)
    assert said.bad == pytest.approx(bad, abs=2)
    assert said.remaining == pytest.approx(1 - (said.error or 0) / 0.05)


def test_what_nobody_counted_is_missing_from_the_coverage_alone():
    whole = budget.budget(SLO, HISTORIES["steady"], AT)
    gone = budget.budget(SLO, HISTORIES["gone"], AT)
    # Due: a run a minute in six cells (three regions, two protocols); two agents made one in three minutes each.
    assert whole.due == 6 * WINDOW / MINUTE
    assert whole.coverage == pytest.approx(4 / 6 / 3, rel=0.01)
    assert gone.coverage == pytest.approx(4 / 6 / 3 * 19 / 24, rel=0.01)
    assert gone.error == pytest.approx(whole.error or 0, abs=0.005)


def test_of_nothing_there_is_no_ratio_and_no_coverage_but_zero():
    nothing = budget.budget(SLO, [], AT)
    assert (nothing.error, nothing.remaining, nothing.coverage) == (None, None, 0.0)
    assert Budget(1, 0, 0, 0.99).coverage is None
    assert Budget(99, 3, 100, 0.99).coverage == 1.0


# -- the copy


def test_the_copy_holds_what_was_scraped_before_a_restart_and_skips_nans():
    minutes: Points = [(1 * MINUTE, 5.0), (7 * MINUTE, 9.0), (8 * MINUTE, math.nan), (9 * MINUTE, 1.0), (20 * MINUTE, 4.0)]
    assert copied([minutes], 45 * MINUTE) == [(15 * MINUTE, 9.0), (30 * MINUTE, 4.0)]
    assert copied([minutes, [(16 * MINUTE, 10.0)]], 30 * MINUTE) == [(15 * MINUTE, 9.0), (30 * MINUTE, 14.0)]
    away: Points = [(31 * MINUTE, math.nan), (40 * MINUTE, math.nan), (50 * MINUTE, 7.0)]
    assert copied([[*minutes, (40 * MINUTE, 5.0), (50 * MINUTE, 6.0)], away], 60 * MINUTE)[2:] == [(60 * MINUTE, 13.0)]
    assert copied([[(15 * MINUTE, 3.0)]], 15 * MINUTE) == [(15 * MINUTE, 3.0)]  # ranges are closed at both ends
    assert copied([[(15 * MINUTE, 3.0)]], 30 * MINUTE) == [(15 * MINUTE, 3.0), (30 * MINUTE, 3.0)]


def test_the_copy_is_of_each_agent_as_a_whole():
    assert budget.copy(SLO) == (
        "sum by (job, instance, region, outcome) (max_over_time(streamprobe_objective_runs_total"
        '{mode="scheduled",scenario="room-start",slo="first-frame",outcome=~"good|bad"}[15m])) >= 0'
    )
    assert 'streamprobe_runs_total{mode="scheduled",scenario="room-start"}' in budget.copy(MADE)


def test_runs_that_were_due_and_not_made_use_up_the_budget_of_coverage(tmp_path: Path):
    """Of three regions that make a run a minute, one made every other one, and one none since it is gone."""
    promtool = requires("promtool", package="prometheus")
    labels = f'job="probe",mode="scheduled",scenario="{MADE.scenario}",publish_region="eu",verdict="pass"'
    made = [
        {"series": f'streamprobe_runs_total{{instance="i{i}",region="{region}",{labels}}}', "values": f"0+{each}x500"}
        for i, (region, each) in enumerate((("eu", 3), ("us", 1.5)))
    ]
    due = [
        {
            "series": f'probe:runs_due:per_hour{{scenario="{MADE.scenario}",publish_region="eu",region="{r}"}}',
            "values": "60+0x500",
        }
        for r in ("eu", "us", "apac")
    ]
    selector = f'{{scenario="{MADE.scenario}",slo="{MADE.name}"}}'
    # DUE is recorded each minute; here it stands once in three.
    rules = text([_together(MADE)]).replace("0.01666666667", "0.05")
    (tmp_path / "rules.yaml").write_text(rules)
    near = {
        f"slo:sli_error:ratio_rate1d{selector}": 0.5,
        f"{budget.COVERAGE}{selector}": 0.5,
        f"{budget.REMAINING}{selector}": -9,
    }
    asked = [
        {"expr": f"count(abs({series} - {value}) < 0.1)", "eval_time": "24h", "exp_samples": [{"labels": "{}", "value": 1}]}
        for series, value in near.items()
    ]
    one = {"interval": "3m", "input_series": made + due, "promql_expr_test": asked}
    nothing = {"interval": "3m", "input_series": due, "promql_expr_test": [
        {"expr": f"slo:sli_error:ratio_rate1d{selector}", "eval_time": "24h", "exp_samples": [
            {"labels": f"slo:sli_error:ratio_rate1d{selector}", "value": 1}]},
        {"expr": f"{budget.COVERAGE}{selector}", "eval_time": "24h", "exp_samples": [
            {"labels": f"{budget.COVERAGE}{selector}", "value": 0}]}]}  # fmt: skip
    file = {"rule_files": ["rules.yaml"], "evaluation_interval": "15m", "tests": [one, nothing]}
    (tmp_path / "test.yaml").write_text(json.dumps(file))
    done = subprocess.run([promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_budget_by_region_is_asked_of_the_same_copy():
    assert budget.error_over_window(SLO, "region").startswith("sum by (region) (increase(slo:runs:total{")


# -- increase, as a real Prometheus has it


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40))
def test_an_increase_is_never_less_than_what_was_seen_to_be_added(values: list[int]):
    points = [(i * MINUTE, float(v)) for i, v in enumerate(values)]
    seen = sum(b - a if b >= a else b for a, b in pairwise(values))
    found = increase(points, 0, (len(values) - 1) * MINUTE)
    assert found == pytest.approx(seen)


def test_of_fewer_than_two_samples_there_is_no_increase():
    assert increase([(MINUTE, 5.0)], 0, HOUR) is None
    assert increase([], 0, HOUR) is None


async def test_a_real_prometheus_has_the_same_increase(tmp_path: Path):
    promtool, prometheus = requires("promtool", package="prometheus"), requires("prometheus", package="prometheus")
    now = int(time.time()) // 900 * 900
    began = now - 30 * 3600
    agent = HISTORIES["gone"][1]
    series: dict[str, Points] = {"good": agent["good"][0], "bad": agent["bad"][0], "steady": HISTORIES["steady"][0]["bad"][1]}
    lines = ["# TYPE t counter"]
    for name, points in series.items():
        lines += [f't_total{{s="{name}"}} {value:g} {began + at // 10**9}' for at, value in points if not math.isnan(value)]
    (tmp_path / "history.om").write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"], cwd=tmp_path, check=True, timeout=50,
        capture_output=True,
    )  # fmt: skip
    (tmp_path / "prometheus.yml").write_text("{}")
    port = free_port()
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with spawn([prometheus, *arguments], tmp_path / "prometheus.log", cwd=tmp_path):
        await wait_until(lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), 20, "Prometheus to be ready")
        for name, points in series.items():
            for window, at in ((WINDOW, AT), (6 * HOUR, 12 * HOUR), (2 * HOUR, 14 * HOUR), (HOUR, 9 * HOUR + 30 * MINUTE)):
                query = urllib.parse.urlencode(
                    {"query": f'increase(t_total{{s="{name}"}}[{window // 10**9}s])', "time": began + at // 10**9}
                )
                answer = json.loads(_answers(f"http://127.0.0.1:{port}/api/v1/query?{query}"))
                said = float(answer["data"]["result"][0]["value"][1])
                clean = [(t, v) for t, v in points if not math.isnan(v)]
                assert increase(clean, at - window, at) == pytest.approx(said, rel=1e-12), (name, window, at)


def _answers(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: bytes = answer.read(1_000_000)
            return found
    except OSError:
        return b""
