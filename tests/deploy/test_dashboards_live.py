"""No panel without a series: every query of every dashboard, asked of a real Prometheus that scrapes a real agent, under the
rules that are made for it.

The agent is whole but for its workers: what they ship are the facts of a run that went well, as tests/export/sample has them. A
starved machine would taint real runs, and what is tainted is in no histogram. What can only be there after something went
wrong is named below; all else must answer with a number.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from probe.agent.fleet_file import load_fleet
from probe.agent.job import Ended, Job
from probe.agent.loading import load_config
from probe.agent.pool import Pool
from probe.agent.reload import Configuration
from probe.agent.serve import opened
from probe.agent.tally import Tally
from probe.cli.files import find, vocabulary
from probe.clock import SystemClock
from probe.model.clock import NS
from probe.model.ids import trace_id
from probe.model.observation import HealthSample, Observation, ReleaseSeen, RunBegan, SessionBegan
from probe.model.outcome import Done
from probe.net.redact import Redactor
from probe.rules.alerts import alerts
from probe.rules.conditions import Alert
from probe.rules.dashboards import boards
from probe.rules.fleet import Fleet
from probe.rules.grafana import Board
from probe.rules.groups import Group, Rule, grouped
from probe.rules.links import dashboard_url
from probe.rules.queries import asked
from probe.rules.review import review_group
from probe.rules.runbooks import reviews
from probe.rules.windows import prom
from tests.export import sample
from tests.peers import prometheus
from tests.tools import requires, wait_until

SCENARIO = """
scenario: room-start
owner: media-sre
platform: {url: "http://127.0.0.1:9", release: "${release}"}
journey:
  - login: {http: POST /auth/login, service: auth}
  - room: {http: POST /rooms, service: room, keep: {release: version}}
  - publish: {via: whip, url: /whip}
  - view: [{via: whep, url: /whep, count: 3}, {via: hls, url: /live.m3u8, count: 2}]
  - cut: {of: viewers, kind: rebind, for: 2s}
objectives:
  - {name: start, indicator: room_start, target: 95%, window: 28d, action: look}
  - {name: first-frame, indicator: first_frame, within: 10s, target: 90%, window: 7d, action: look}
  - {name: coverage, indicator: coverage, target: 90%, window: 7d, action: look}
gates:
  - {name: hold, when: "room_start[10m] < 90%", min_n: 1, action: hold}
"""
AGENT = """
agent: eu-1
region: eu
listen: "127.0.0.1:0"
workers: {count: 1}
schedules:
  room-start: {scenario: room-start.yaml, every: EVERY, run_on_start: true, set: {regions: [eu]}}
"""
FLEET = """
fleet: live
owner: media-sre
agents: {eu-1: {region: eu, config: due.yaml}}
sla: {P1: 5m, P2: 4h}
"""
NOT_HERE = {  # beside others in its panel: what a well agent on this machine has no series of
    "streamprobe_self_throttled_ratio",  # no quota holds it back
    "streamprobe_self_series_refused_total",  # born when the first is refused
}
MAY_BE_EMPTY = {"protocol", "publish_region"}  # of objectives and gates that are not told apart by them


def as_file(groups: list[Group]) -> dict[str, Any]:
    """Of Prometheus, each group every second: a test does not wait for a quarter of an hour."""
    return {
        "groups": [{"name": group.name, "interval": "1s", "rules": [_rule(rule) for rule in group.rules]} for group in groups]
    }


def _rule(rule: Rule) -> dict[str, Any]:
    name = {"record": rule.record} if rule.record else {"alert": rule.alert, "for": prom(rule.hold) if rule.hold else "0s"}
    told = {"annotations": dict(rule.annotations)} if rule.alert else {}
    return {**name, "expr": rule.expr, "labels": dict(rule.labels), **told}


def filled(query: str) -> str:
    """As Grafana asks it, with everything chosen."""
    query = re.sub(r'=~"\$\w+"', '=~".*"', query)
    return query.replace("$window", "5m").replace("$__range", "1h")


@dataclass(frozen=True)
class Seen:
    """What was answered. `answers`: query as filled in → (labels, value) of each series; `led`: the runs that the agent's /runs
    names for the trace of an exemplar; `alerts`: of Prometheus, firing."""

    fleet: Fleet
    found: Mapping[str, Alert]
    boards: tuple[Board, ...]
    answers: Mapping[str, list[tuple[dict[str, str], float]]]
    led: list[dict[str, Any]]
    alerts: list[dict[str, Any]]


class Played:
    """Workers that ship the same run again and again, each with its own ids and a newer release."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.runs = 0

    async def run(self, job: Job, put: Callable[[Observation], None]) -> Ended:
        self.runs += 1
        plan, wall = job.plan, self.clock.wall()
        with patch.object(sample, "BOOT", self.clock.now() - 25 * NS):
            facts = list(sample.observations(sample.result(healthy=True, mode=plan.mode)))
        began = facts[0]
        assert isinstance(began, RunBegan)
        ids = {"seed": plan.seed, "run_number": plan.run_number, "trace_id": trace_id(plan.run_number, plan.trace_low)}
        facts[0] = replace(began, **ids, wall_unix_ns=wall.unix_ns - 25 * NS)  # type: ignore[arg-type]
        tally = Tally(plan, put, self.clock)
        for seq, fact in enumerate([*facts[:1], ReleaseSeen(release=f"v{min(self.runs, 2)}", at=facts[0].at), *facts[1:]], 1):
            tally.put(replace(self._here(fact), run=plan.run_id, seq=seq))
        tally.end(Done())
        return Ended(outcome=Done())

    def _here(self, fact: Observation) -> Observation:
        """As the plan has it, and this machine."""
        match fact:
            case SessionBegan():
                return replace(fact, device="default")
            case HealthSample():
                return replace(fact, pressure=0.02)
        return fact


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    requires("prometheus")
    folder = tmp_path_factory.mktemp("live")
    agent = AGENT + f"state: {folder / 'state'}\n"
    files = {"agent": agent.replace("EVERY", "2s"), "due": agent.replace("EVERY", "2m"), "room-start": SCENARIO, "fleet": FLEET}
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return asyncio.run(_seen(folder))


async def _seen(folder: Path) -> Seen:
    fleet = load_fleet(folder / "fleet.yaml", env={}, words=vocabulary(), find=find).fleet
    found = alerts(fleet)
    groups = [group for groups in grouped(fleet, found).values() for group in groups]
    rules = as_file([*groups, review_group(reviews(found))])
    made = boards(fleet, found)
    loaded = load_config(folder / "agent.yaml", env={}, words=vocabulary(), find=find)
    played = Played()
    with patch.object(Pool, "run", lambda _, job, put: played.run(job, put)):
        async with opened(Configuration(loaded, lambda: loaded), SystemClock(), Redactor()) as parts:
            async with asyncio.TaskGroup() as group:
                agent = group.create_task(parts.agent.serve())
                async with prometheus.running([f"127.0.0.1:{parts.port}"], rules=rules) as server:
                    await wait_until(functools.partial(_counted, server, fleet), 40, "two runs in the budgets")
                    answers = {query: await _answered(server, query) for query in {"time() * 1000", *map(filled, _queries(made))}}
                    exemplars = await server.exemplars("streamprobe_first_frame_seconds_bucket")
                    trace = exemplars[0]["exemplars"][0]["labels"]["trace_id"]
                    url = f"http://127.0.0.1:{parts.port}/runs?trace_id={trace}&format=json"
                    async with server.session.get(url) as answer:
                        led = (await answer.json())["runs"]
                    firing = (await server.get("alerts"))["alerts"]
                agent.cancel()
    return Seen(fleet, {alert.name: alert for alert in found}, made, answers, led, firing)


async def _counted(server: prometheus.Prometheus, fleet: Fleet) -> bool:
    """What a run is the first to bring forth is born at its value: it grows with the second."""
    left = await server.query("slo:period_error_budget_remaining:ratio")
    grown = await server.query("increase(streamprobe_stage_seconds_count[5m]) > 0")
    changed = await server.query("streamprobe_release_time_seconds")
    return len(left) == len(fleet.slos) and bool(grown) and bool(changed)


def _queries(made: Iterable[Board]) -> Iterator[str]:
    for board in made:
        for _, query in board.queries():
            yield query


async def _answered(server: prometheus.Prometheus, query: str) -> list[tuple[dict[str, str], float]]:
    return [(dict(labels), value) for labels, value in (await server.query(query)).items()]


def test_no_panel_is_without_a_series(seen: Seen) -> None:
    empty = []
    for board in seen.boards:
        for panel in board.panels():
            numbers = {query.expr: any(v == v for _, v in seen.answers[filled(query.expr)]) for query in panel.queries}
            for expr, number in numbers.items():
                if not number and not {selector.name for selector in asked(expr).selectors} & NOT_HERE:
                    empty.append(f"{board.title} / {panel.title}: not a number from {expr}")
            if numbers and not any(numbers.values()):
                empty.append(f"{board.title} / {panel.title}: nothing at all")
    assert not empty, "\n".join(empty)


def test_legends_name_labels_that_series_have(seen: Seen) -> None:
    gone = []
    for board in seen.boards:
        for panel in board.panels():
            for query in panel.queries:
                answer = seen.answers[filled(query.expr)]
                labels = {label for found, _ in answer for label in found} | MAY_BE_EMPTY
                named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
                gone += [f"{board.title} / {panel.title}: {label}" for label in named - labels if answer]
    assert gone == []


def test_every_choice_at_the_top_has_something_to_choose(seen: Seen) -> None:
    for board in seen.boards:
        for variable in board.variables:
            if variable.series:
                answer = seen.answers[filled(variable.series)]
                assert {labels.get(variable.of) for labels, _ in answer} - {None}, (board.title, variable.name)


def test_a_release_is_marked_where_it_was_seen(seen: Seen) -> None:
    [mark] = [mark for mark in seen.boards[0].marks if mark.name == "Releases"]
    [(labels, at)] = seen.answers[filled(mark.expr)]
    assert labels == {"scenario": "room-start", "region": "eu"} and mark.at_value
    [(_, now)] = seen.answers["time() * 1000"]
    assert now - 120_000 < at <= now


def test_numbers_are_those_of_the_runs(seen: Seen) -> None:
    panels = {panel.title: panel for board in seen.boards for panel in board.panels()}

    def figure(title: str) -> float:
        [(_, value)] = seen.answers[filled(panels[title].queries[0].expr)]
        return value

    assert figure("Pages") == 0
    assert figure("Agents that report") == 1 and figure("Agents missing") == 0
    assert figure("Runs in an hour") > 0.5
    [left] = [
        value
        for labels, value in seen.answers[filled(panels["Budget left, over time"].queries[0].expr)]
        if labels["slo"] == "start"
    ]
    assert left == 1
    assert figure("Gates closed") == 0


def test_a_point_leads_to_its_run(seen: Seen) -> None:
    [run] = seen.led
    assert (run["scenario"], run["mode"], run["verdict"]) == ("room-start", "scheduled", "warn"), run


def test_what_prometheus_fills_in_is_the_address_that_we_say(seen: Seen) -> None:
    told = {alert["labels"]["alertname"]: alert for alert in seen.alerts if alert["state"] == "firing"}
    assert "Watchdog" in told
    for name, alert in told.items():
        assert alert["annotations"]["dashboard"] == dashboard_url(seen.fleet, seen.found[name], alert["labels"])
