"""What a run leaves behind: a verdict that keeps its schema, records from which it can be judged again, and no secret."""

from __future__ import annotations

import json
import os
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from aiohttp import web

from probe.cli.files import vocabulary
from probe.export.verdict_json import schema, verdict_document
from probe.judge.fold import fold
from probe.judge.verdict import judge
from probe.model.clock import Wall
from probe.model.ids import new_run_ids
from probe.model.observation import from_json, to_json
from probe.model.verdict import RunResult
from probe.planning import make_plan
from probe.run.judged import evaluation
from probe.scenario.load import load
from probe.scenario.schema import Scenario
from tests.e2e.conftest import Journey
from tests.e2e.support import FILES, containing, explained, smoke, stages_add_up
from tests.e2e.test_one_trace import TOKEN
from tests.faults.platform import HERE as FAULTS
from tests.tools import ROOT

pytestmark = pytest.mark.timing


def test_it_was_go_with_five_viewers_explained(journey: Journey) -> None:
    ran = journey.ran
    assert ran.exit == 0 and ran.verdict["result"] in ("pass", "warn"), explained(ran)
    viewers = [s for s in ran.verdict["runs"][0]["sessions"] if s["role"] == "viewer"]
    assert len(viewers) == 5
    for viewer in viewers:
        stages_add_up(viewer)
        assert viewer["e2e_latency_seconds"]["clock_error"] > 0 and viewer["e2e_latency_seconds"]["n"] > 0
        (cut,) = viewer["reconnects"]
        assert cut["outcome"] in ("resumed", "restarted") or viewer["protocol"] == "hls"
        if viewer["protocol"] == "whep":
            assert 1.9 < cut["outage_seconds"] < 8 and 0 < cut["reconnect_seconds"] < 6, explained(ran)


def test_the_verdict_validates_against_the_published_schema(journey: Journey) -> None:
    published = schema()
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.Draft202012Validator(published).validate(journey.ran.verdict)
    assert "NaN" not in journey.file("verdict.json") and "Infinity" not in journey.file("verdict.json")


def test_json_on_stdout_is_the_file_and_nothing_else(journey: Journey) -> None:
    assert journey.ran.stdout == journey.file("verdict.json")
    assert all((journey.ran.out / name).stat().st_size > 0 for name in FILES)


def test_log_lines_are_json_and_say_which_run_they_are_about(journey: Journey) -> None:
    lines = [json.loads(line) for line in journey.ran.stderr.splitlines()]
    assert len(lines) > 10 and all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (run,) = journey.ran.verdict["runs"]
    about = {(line.get("run_id"), line.get("trace_id"), line.get("region")) for line in lines}
    assert about == {(None, None, None), (run["run_id"], run["trace_id"], "local")}


def test_junit_counts_what_it_lists(journey: Journey) -> None:
    suites = ElementTree.fromstring(journey.file("junit.xml"))
    cases = list(suites.iter("testcase"))
    (run,) = journey.ran.verdict["runs"]
    assert int(suites.get("tests", "0")) == len(cases) >= len(run["steps"]) + len(run["sessions"])
    for kind in ("failure", "error", "skipped"):
        counted = int(suites.get({"failure": "failures", "error": "errors"}.get(kind, kind), "-1"))
        assert counted == sum(1 for case in cases if case.find(kind) is not None)
    if journey.ran.exit == 0:
        assert suites.get("failures") == suites.get("errors") == "0"


def scenario_of(journey: Journey) -> Scenario:
    env = {**os.environ, "PLATFORM_URL": journey.ran.verdict["target"]}
    return load(ROOT / "scenarios" / "room-start.yaml", env=env, words=vocabulary())


def again(journey: Journey) -> RunResult:
    return fold(from_json(json.loads(line)) for line in journey.file("observations.jsonl").splitlines())


def test_every_observation_survives_the_way_through_its_file(journey: Journey) -> None:
    lines = journey.file("observations.jsonl").splitlines()
    assert len(lines) > 200
    for line in lines:
        assert to_json(from_json(json.loads(line))) == json.loads(line)
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1)), "a fact was lost"


def test_records_judged_again_give_the_same_verdict(journey: Journey) -> None:
    result, scenario = again(journey), scenario_of(journey)
    plan = make_plan(scenario, result.began.region, 0, new_run_ids(0, random.Random(0)), mode="smoke")
    judgement = judge(result, scenario.gates, Wall(0, None), cells=plan.cells, owner=scenario.owner)
    document = evaluation("smoke", [(result, judgement)], started=0, evaluated=0)
    document = replace(document, probe_version=journey.ran.verdict["probe"]["version"])
    written, now = dict(journey.ran.verdict), verdict_document(document, lambda text: text)
    for one in (written, now):
        del one["started_at"], one["evaluated_at"]
    assert now == written


def test_no_token_is_in_anything_written_or_said(journey: Journey) -> None:
    for name in FILES:
        assert not TOKEN.search(journey.file(name)), name
        assert "Bearer " not in journey.file(name), name
    assert not TOKEN.search(journey.ran.stderr) and "Bearer " not in journey.ran.stderr


# Signs that JSON, XML, HTML and URLs each write in their own way; the end of each looks the same in all of them.
PASSWORDS = {"BROADCASTER_PASSWORD": "canary/pass+word é zqxjk", "VIEWER_PASSWORD": 'canary "viewer" é/zqwvy'}
SECOND = "canary-token.zqttk"
ENDS = ("zqxjk", "zqwvy", "zqttk")


@asynccontextmanager
async def parrot(logins: int) -> AsyncIterator[str]:
    """A platform that lets so many log in, and from then on answers with what it was told."""
    left = logins

    async def login(request: web.Request) -> web.Response:
        nonlocal left
        left -= 1
        return web.json_response({"token": SECOND}) if left >= 0 else await anything(request)

    async def anything(request: web.Request) -> web.Response:
        told = f"no: {request.headers.get('Authorization')} {await request.text()}"
        if request.can_read_body and "password" in (sent := await request.json()):
            told += f" {sent['password']}"
        headers = {"X-Request-ID": SECOND, "X-Edge": SECOND, "Server": SECOND}
        return web.Response(status=500, text=told, reason=told.encode("ascii", "replace").decode()[:100], headers=headers)

    application = web.Application()
    application.router.add_post("/auth/login", login)
    application.router.add_route("*", "/{path:.*}", anything)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("logins", "step", "reason"), [(1, "viewer-login", "auth/http_500"), (2, "room", "room/http_500")])
async def test_what_a_platform_repeats_of_our_secrets_goes_no_further(
    logins: int, step: str, reason: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with parrot(logins) as url:
        ran = await smoke(out, FAULTS / "journey.yaml", "-v", env={"PLATFORM_URL": url, **PASSWORDS})
    assert ran.exit == 1 and (step, reason) in ran.failures(), explained(ran)
    assert "[redacted]" in (out / "verdict.json").read_text(), "nothing was repeated: this proves nothing"
    assert containing(out, *ENDS) == []
    assert not any(end in ran.stdout + ran.stderr for end in ENDS)
