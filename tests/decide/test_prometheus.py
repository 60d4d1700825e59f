"""Prometheus, asked for gates: a real one counts as the agent does, and one that misbehaves is never a pass."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aiohttp import web
from ruamel.yaml import YAML

from probe.clock import SystemClock
from probe.decide.asking import Away, session
from probe.decide.prometheus import Asking, samples
from probe.decide.settings import Prometheus
from probe.model.clock import NS
from probe.model.metrics import METRICS
from probe.model.verdict import Verdict
from probe.net.redact import Redactor
from probe.rules.gate_queries import promql_duration, query, unfit
from probe.rules.rollouts import Asked as Snippet
from probe.rules.rollouts import flagger
from probe.scenario.schema import Gate, Objective
from tests.decide.receiver import Receiver, breaks_off, floods, hangs, receiving
from tests.peers import prometheus
from tests.tools import free_port

TOKEN = "canary-51aa-prometheus-token"
ROOM = Objective.model_validate({"name": "rooms", "indicator": "room_start", "target": "99%", "window": "30d"})


def asking(url: str, client: Any, **settings: Any) -> Asking:
    return Asking(Prometheus.model_validate({"url": url, **settings}), client, Redactor())


def vector(*results: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(results)}}


@pytest.mark.parametrize(("status", "body", "words"), [
    (200, "", "not JSON"), (200, "[" * 100_000, "not JSON"), (502, "<html>", "502"), (200, "[]", "no success"),
    (400, '{"status":"error","error":"parse error\\n\\u0000"}', "parse error"), (200, '{"status":"success"}', "not a vector"),
    (200, json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}), "not a vector"),
    (200, json.dumps(vector({"metric": {}})), "not a vector"), (200, json.dumps(vector(7)), "not a vector"),
    (200, json.dumps(vector({"metric": {}, "value": [1, "abc"]})), "not a vector"),
    (200, json.dumps(vector({"metric": [], "value": [1, "1"]})), "not a vector"),
    (200, json.dumps(vector(*[{"metric": {}, "value": [1, "1"]}] * 5001)), "5001 series"),
])  # fmt: skip
def test_an_answer_that_is_none_is_told_in_words(status: int, body: str, words: str):
    with pytest.raises(Away, match=words):
        samples(status, body.encode())


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf", "nan"])
def test_what_is_no_number_is_there_without_a_value(text: str):
    [one] = samples(200, json.dumps(vector({"metric": {"region": "eu"}, "value": [1, text]})).encode())
    assert one.value is None and one.labels == {"region": "eu"}


@pytest.mark.parametrize(("answer", "words"), [
    (hangs, "no answer within 0.3 s"), (floods, "more than 1024 KiB"), (breaks_off, "without an answer"),
])  # fmt: skip
async def test_one_that_misbehaves_is_away(answer: Any, words: str):
    async with receiving(Receiver(answer=answer)) as to, session() as client:
        with pytest.raises(Away, match=words):
            await asking(to.url, client, timeout="300ms").ask("up")


async def test_one_that_is_not_there_or_has_no_name_is_away():
    async with session() as client:
        with pytest.raises(Away, match="Connection refused"):
            await asking(f"http://127.0.0.1:{free_port()}", client).ask("up")
        with pytest.raises(Away, match="name is not found"):
            await asking("http://nowhere.invalid", client).ask("up")


async def test_it_is_asked_with_what_it_needs_and_the_secret_is_never_told(monkeypatch: pytest.MonkeyPatch):
    async def quotes(request: web.Request) -> web.Response:
        return web.json_response({"status": "error", "error": f"bad token {request.headers['Authorization']}"}, status=401)

    monkeypatch.setenv("TOKEN", TOKEN)
    async with receiving(Receiver(answer=quotes)) as to, session() as client:
        one = asking(to.url + "/prefix/", client, headers={"authorization": {"env": "TOKEN"}})
        with pytest.raises(Away) as caught:
            await one.ask('up{a="b"}')
        assert TOKEN not in str(caught.value) and "401" in str(caught.value)
        assert to.heard[0].headers["Authorization"] == TOKEN and b"query=up%7Ba%3D%22b%22%7D" in to.heard[0].body
        monkeypatch.delenv("TOKEN")
        with pytest.raises(Away, match="environment variable TOKEN is not set"):
            await one.ask("up")


# -- the real one

INDICATORS = {
    "room_start[10m] < 90%": (0.75, 20), "start[10m] < 90%": (0.9, 40), "publisher_start[10m] < 90%": (1.0, 20),
    "reconnect[10m] < 90%": (0.5, 20), "crash_free[10m] < 90%": (0.8, 20), "edge_errors[10m] > 1%": (0.1, 100),
    "payment[10m] < 90%": (0.6, 20), "taint_ratio[10m] > 1%": (0.2, 75), "first_frame.p50[10m] > 2s": (0.375, 20),
    "failures[10m] >= 3": (12, 80), "attempts[10m] >= 3": (40, 40),
}  # fmt: skip


def history(minutes: int = 12) -> str:
    """Twelve minutes of what an agent exports, a sample each minute; in each: 10 runs' worth a tenth of what INDICATORS says."""
    now = SystemClock().system() // NS
    of = 'scenario="one",mode="scheduled",publish_region="eu",region="eu"'
    session_ = 'ingest="whip",join="",device="default"'
    each = {
        f'runs_total{{{of},verdict="pass"}}': 1,
        f'objective_runs_total{{{of},protocol="",slo="rooms",outcome="good"}}': 1.5,
        f'objective_runs_total{{{of},protocol="",slo="rooms",outcome="bad"}}': 0.5,
        f'outcomes_total{{{of},role="viewer",protocol="whep",{session_},kind="code",outcome="done",tainted="false"}}': 3.6,
        f'outcomes_total{{{of},role="viewer",protocol="whep",{session_},kind="code",outcome="failed",tainted="false"}}': 0.4,
        f'outcomes_total{{{of},role="viewer",protocol="whep",{session_},kind="code",outcome="failed",tainted="true"}}': 1.5,
        f'outcomes_total{{{of},role="publisher",protocol="whip",{session_},kind="code",outcome="done",tainted="false"}}': 2,
        f'attempts_total{{{of},role="viewer",protocol="whep",{session_},kind="code"}}': 4,
        f'reconnects_total{{{of},role="viewer",kind="rebind",outcome="restarted",tainted="false"}}': 1,
        f'reconnects_total{{{of},role="viewer",kind="rebind",outcome="failed",tainted="false"}}': 1,
        f'sessions_ended_total{{{of},role="viewer",protocol="whep",{session_},kind="planned"}}': 1.6,
        f'sessions_ended_total{{{of},role="viewer",protocol="whep",{session_},kind="crashed"}}': 0.4,
        f'edge_requests_total{{{of},protocol="hls",edge="a",cache="hit",class="2xx"}}': 9,
        f'edge_requests_total{{{of},protocol="hls",edge="a",cache="hit",class="5xx"}}': 1,
        f'steps_total{{{of},step="pay",service="payment",kind="http",outcome="done",tainted="false"}}': 1.2,
        f'steps_total{{{of},step="pay",service="payment",kind="http",outcome="failed",tainted="false"}}': 0.8,
        f'steps_total{{{of},step="view",service="",kind="view",outcome="failed",tainted="false"}}': 5,
        **{
            f'first_frame_seconds_bucket{{{of},role="viewer",protocol="whep",{session_},kind="code",le="{le}"}}': count
            for le, count in (("0.25", 0), ("0.5", 2), ("+Inf", 2))
        },
        f'first_frame_seconds_count{{{of},role="viewer",protocol="whep",{session_},kind="code"}}': 2,
    }
    says = {"eu": "pass", "us": "fail"}
    states = {(region, verdict): float(verdict == says[region]) for region in says for verdict in Verdict}
    lines = [
        f'streamprobe_gate_state{{gate="g",region="{region}",protocol="",verdict="{verdict}"}} {value} {now - 60 * k}'
        for (region, verdict), value in states.items()
        for k in (2, 1, 0)
    ]
    for name, step in each.items():
        lines += [f"streamprobe_{name} {step * k} {now - 60 * (minutes - k)}" for k in range(minutes + 1)]
    return "\n".join([*lines, "# EOF", ""])


def gate(when: str, **changes: Any) -> Gate:
    return Gate.model_validate({"name": "g", "when": when, "action": "wait", "from": "prometheus", **changes})


async def test_a_real_one_counts_every_indicator_as_its_metrics_do():
    async with prometheus.running([], history=history()) as server, session() as client:
        one = asking(server.url, client)
        for when, (value, n) in INDICATORS.items():
            rule = gate(when)
            assert unfit(rule, [ROOM]) == ""
            found = {s.labels["part"]: s for s in await one.ask(query(rule, "one", [ROOM]))}
            assert {s.labels["region"] for s in found.values()} == {"eu"}, when
            assert found["value"].value == pytest.approx(value, rel=0.02), when
            assert found["n"].value == pytest.approx(n, rel=0.02), when
            made = found["made"].value
            assert made is not None and 9 <= made <= 11, when
        several = gate("start[10m] < 90% and failures >= 3 for 2m", resume="start[5m] > 99%", by=["region", "protocol"])
        labels = [s.labels for s in await one.ask(query(several, "one", [ROOM]))]
        assert {each["term"] for each in labels} == {"0", "1", "2"}
        assert {each.get("protocol") for each in labels if each["term"] == "2" and each["part"] == "value"} == {"whep"}
        assert await one.ask(query(gate("start[10m] < 90%"), "another", [ROOM])) == []
        for region, passes in (("eu", 1.0), ("us", 0.0), ("", 0.0), ("mars", 0.0)):  # the last: nothing is known of it
            template, _ = YAML(typ="safe").load_all(flagger(Snippet(gate="g", region=region)))
            assert [s.value for s in await one.ask(template["spec"]["query"])] == [passes], region
        every = gate("start[10m] < 90%", by=[])
        assert [s.labels.get("region") for s in await one.ask(query(every, "one", [ROOM]))] == [None, None, None]


@pytest.mark.parametrize("when", INDICATORS)
def test_what_is_asked_for_is_exported(when: str):
    """Each metric is one of the table, and has every label that it is chosen and grouped by."""
    asked = query(gate(when, by=["region"]), "one", [ROOM])
    for name, inside in re.findall(r"streamprobe_(\w+)\{([^}]*)\}", asked):
        metric = METRICS[f"streamprobe_{name.removesuffix('_bucket').removesuffix('_count') if 'seconds' in name else name}"]
        assert {"region", *re.findall(r"(\w+)(?==|!~|=~)", inside)} <= set(metric.labels), name
    assert "streamprobe_" in asked


@pytest.mark.parametrize(("when", "words"), [
    ("start < 90%", "needs a window"), ("first_frame.max[5m] > 2s", "in no histogram"),
    ("room_start[5m] < 9%", "add one on room_start"), ("freeze_ratio[5m] > 1%", "no metric says freeze_ratio exactly"),
])  # fmt: skip
def test_what_no_metric_says_is_refused(when: str, words: str):
    assert words in unfit(gate(when), [])


def test_durations_and_names_are_written_as_prometheus_reads_them():
    assert (promql_duration(90 * NS), promql_duration(1), promql_duration(1_500_000_000)) == ("1m30s", "1ms", "1s500ms")
    assert 'scenario="a\\"b\\\\c"' in query(gate("start[10m] < 90%"), 'a"b\\c', [])
