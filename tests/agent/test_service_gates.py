"""A gate's word: from the last run, as bad as its worst part, no longer than it is young; and an event where it changes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from probe.agent.agent import Agent
from probe.agent.conclude import Concluded
from probe.agent.figures import AgentFigures
from probe.agent.gates import gate_states, standing
from probe.agent.job import Job
from probe.agent.loading import Loaded, load_config
from probe.agent.reload import Configuration
from probe.agent.runs import Runs
from probe.cli.scenarios import find, vocabulary
from probe.clock import SystemClock
from probe.export.prometheus import MetricsSink
from probe.model.clock import NS
from probe.model.verdict import Check, Verdict
from probe.store.records import Event, Record

NOW = 1_790_000_000 * NS
ENV = {"PLATFORM_URL": "http://127.0.0.1", "BROADCASTER_PASSWORD": "-", "VIEWER_PASSWORD": "-", "XDG_STATE_HOME": "/state"}
YAML = "region: local\nschedules:\n  start: {scenario: room-start, every: 1m}\n"


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "agent.yaml").write_text(YAML)
    return load_config(tmp_path / "agent.yaml", env=ENV, words=vocabulary(), find=find)


def concluded(*checks: Check) -> Concluded:
    return cast(Concluded, SimpleNamespace(judgement=SimpleNamespace(checks=checks)))


def job(loaded: Loaded) -> Job:
    plan = loaded.plan("start", NOW, random.Random(1))
    return Job(plan=plan, schedule="start", due=0, deadline=60 * NS, memory=1 << 30, state=loaded.state)


def check(result: Verdict, **changes: Any) -> Check:
    told = Check(
        name="hold-campaign", result=result, value=0.8, unit="ratio", threshold="90 %", region="local", owner="growth-lead",
        action="pause campaign expansion",
    )  # fmt: skip
    return replace(told, **changes)


def test_a_gate_that_is_judged_by_protocol_is_as_bad_as_the_worst(loaded: Loaded):
    checks = (
        check(Verdict.PASS, name="hold-campaign/hls"), check(Verdict.FAIL, name="hold-campaign/whep", reason="whep"),
        check(Verdict.INCONCLUSIVE, name="hold-campaign/rtmp"),
        check(Verdict.FAIL, subject="view/1"), check(Verdict.FAIL, name="run"),
    )  # fmt: skip
    [(key, state)] = gate_states(concluded(*checks), job(loaded), {}, NOW).items()
    assert key == ("start", "hold-campaign", "local")
    assert (state.result, state.reason, state.since, state.evaluated) == ("fail", "whep", NOW, NOW)


def test_it_stands_since_it_last_changed(loaded: Loaded):
    first = gate_states(concluded(check(Verdict.FAIL)), job(loaded), {}, NOW)
    again = gate_states(concluded(check(Verdict.FAIL)), job(loaded), first, NOW + 60 * NS)
    [state] = again.values()
    assert (state.since, state.evaluated) == (NOW, NOW + 60 * NS)
    [other] = gate_states(concluded(check(Verdict.PASS)), job(loaded), again, NOW + 120 * NS).values()
    assert other.since == NOW + 120 * NS


def test_what_was_never_judged_and_what_was_judged_long_ago_are_inconclusive(loaded: Loaded):
    prepared = loaded.schedules["start"]
    [unknown] = standing("start", prepared, "local", {}, NOW)
    assert (unknown.result, unknown.evaluated, unknown.owner) == ("inconclusive", 0, "growth-lead")
    said = gate_states(concluded(check(Verdict.PASS)), job(loaded), {}, NOW)
    [fresh] = standing("start", prepared, "local", said, NOW + 3 * 60 * NS)
    assert fresh.result == "pass"
    [old] = standing("start", prepared, "local", said, NOW + 4 * 60 * NS + prepared.deadline)
    assert (old.result, old.value) == ("inconclusive", None)
    assert "the last said pass" in old.reason
    assert old.evaluated == NOW and NOW < old.since < NOW + 4 * 60 * NS + prepared.deadline
    [elsewhere] = standing("start", prepared, "mars", said, NOW)
    assert elsewhere.result == "inconclusive"


def test_a_gate_that_changes_is_an_event_and_one_that_does_not_is_none(loaded: Loaded):
    put: list[Record] = []
    runs = cast(Runs, SimpleNamespace(running=Counter()))
    agent = Agent(
        Configuration(loaded, lambda: loaded),
        runs=runs,
        figures=AgentFigures(MetricsSink(), loaded.region),
        put=put.append,
        clock=SystemClock(),
        rng=random.Random(1),
    )
    for at, result in enumerate((Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.FAIL, Verdict.PASS)):
        states = gate_states(concluded(check(result, reason=f"why {at}")), job(loaded), agent.gates, NOW + at * NS)
        agent._judged(states, f"run-{at}")
    events = [record for record in put if isinstance(record, Event) and record.kind == "gate"]
    assert [(e.data["from"], e.data["to"], e.data["run_id"]) for e in events] == [
        ("", "pass", "run-0"), ("pass", "fail", "run-2"), ("fail", "pass", "run-4"),
    ]  # fmt: skip
    assert (events[1].subject, events[1].region, events[1].who, events[1].why) == (
        "hold-campaign", "local", "growth-lead", "why 2",
    )  # fmt: skip
