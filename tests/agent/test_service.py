"""The agent's HTTP service: what each address answers, and how it looks at what it is asked."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import threading
from collections.abc import Iterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from probe.agent.service.view import GateState, Planned, Probed, Refusal, Refused
from probe.export.prometheus import MetricsSink
from probe.model.clock import NS
from tests.agent.desks import Desk, row, served
from tests.tools import requires, wait_until

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
MARK = "<script>alert(1)</script>"
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


def gate(result: str, region: str = "eu", name: str = "hold", **changes: object) -> GateState:
    values = {
        "name": name, "region": region, "scenario": "room-start", "result": result, "value": 0.8, "since": 1_790_000_000 * NS,
        "evaluated": 1_790_000_060 * NS, "reason": "why", "owner": "growth-lead", "action": "pause campaign expansion",
        "unit": "ratio", "n": 12, "min_n": 3, "window": "10m", "coverage": 0.9, "min_coverage": 0.5,
        "rule": "start[10m] < 90%", "position": "open", "towards": "closing", "held": 60 * NS, "hold": 120 * NS,
    }  # fmt: skip
    return GateState(**{**values, **changes})  # type: ignore[arg-type]


def probed(success: bool | None, cause: str = "") -> Probed:
    own = MetricsSink(CollectorRegistry())
    own.figures.add("runs_total", {"scenario": "s", "mode": "adhoc", "publish_region": "r", "region": "r", "verdict": "pass"})
    return Probed("run-1", "pass", success, cause, 1.25, own.registry)


async def test_metrics_are_classic_text_or_openmetrics_with_exemplars_as_the_scraper_prefers():
    desk = Desk()
    desk.figures.add("self_observations_total", {}, 3, trace="ab" * 16)
    async with served(desk) as (client, url):
        for accept, openly in [
            ("", False), ("*/*", False), ("text/plain", False), (PROMETHEUS, True), ("application/openmetrics-text", True),
            ("application/openmetrics-text;q=0.1,text/plain;q=0.9", False), ("application/openmetrics-text;q=x;;=,;", False),
        ]:  # fmt: skip
            async with client.get(f"{url}/metrics", headers={"Accept": accept}) as answer:
                text = await answer.text()
                assert answer.status == 200
            kind = answer.headers["Content-Type"]
            assert kind.startswith("application/openmetrics-text" if openly else "text/plain; version=0.0.4"), accept
            parse = openmetrics.text_string_to_metric_families if openly else text_string_to_metric_families
            assert {family.name for family in parse(text)} >= {"streamprobe_self_http_dropped"}
            assert ("trace_id" in text) == openly


async def test_promtool_finds_nothing_wrong_with_either_page():
    promtool = requires("promtool", package="prometheus")
    desk = Desk()
    desk.probing = lambda *_: probed(True)
    async with served(desk) as (client, url):
        for path in ("/metrics", "/probe?scenario=x"):
            async with client.get(url + path) as answer:
                text = await answer.read()
            lint = await asyncio.to_thread(subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True)
            assert (lint.returncode, lint.stderr) == (0, b""), path


async def test_metrics_are_compressed_for_who_takes_it():
    async with served(Desk()) as (_, url), aiohttp.ClientSession(auto_decompress=False) as client:
        async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert b"streamprobe_" in gzip.decompress(await answer.read())
        async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip;q=0, identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert b"streamprobe_" in await answer.read()
        async with client.head(f"{url}/metrics", headers={"Accept-Encoding": "identity"}) as answer:
            assert answer.status == 200 and int(answer.headers["Content-Length"]) > 1000
            assert await answer.read() == b""


class Slow(Collector):
    """Holds whoever collects until it is released."""

    def __init__(self) -> None:
        self.released, self.collected = threading.Event(), 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.collected += 1
        self.released.wait(10)
        yield GaugeMetricFamily("slow", "s", value=1)

    def describe(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily("slow", "s")]


async def test_those_who_scrape_at_once_share_one_rendering_and_the_loop_goes_on():
    desk, slow = Desk(), Slow()
    desk.registry.register(slow)

    async def scrape(client: aiohttp.ClientSession, url: str) -> str:
        async with client.get(f"{url}/metrics") as answer:
            return await answer.text()

    async with served(desk) as (client, url):
        async with asyncio.TaskGroup() as group:
            scrapes = [group.create_task(scrape(client, url)) for _ in range(20)]
            await wait_until(lambda: slow.collected)
            async with client.get(f"{url}/healthz") as answer:  # the loop is free
                assert answer.status == 200
            slow.released.set()
        assert all("slow 1.0" in scraped.result() for scraped in scrapes)
        assert slow.collected == 1
        await scrape(client, url)
        assert slow.collected == 2


async def test_a_probe_is_answered_as_blackbox_exporter_does_with_the_runs_own_metrics():
    desk = Desk()
    desk.probing = lambda scenario, target, within: probed(scenario != "bad")
    async with served(desk) as (client, url):
        for scenario, success in [("good", 1), ("bad", 0)]:
            async with client.get(f"{url}/probe", params={"scenario": scenario, "target": "https://live.example"}) as answer:
                assert answer.status == 200
                found = {f.name: f.samples[0].value for f in text_string_to_metric_families(await answer.text()) if f.samples}
            assert found["probe_success"] == success
            assert found["probe_duration_seconds"] == 1.25
            assert found["streamprobe_runs"] == 1
            assert answer.headers["X-Run-Id"] == "run-1"
        async with client.get(f"{url}/probe?scenario=good", headers={"Accept": PROMETHEUS}) as answer:
            assert "probe_success" in {f.name for f in openmetrics.text_string_to_metric_families(await answer.text())}
    assert desk.asked[0] == ("good", "https://live.example", None)


async def test_an_inconclusive_probe_is_a_scrape_that_failed_and_says_why():
    desk = Desk()
    desk.probing = lambda *_: probed(None, f"4 of 4 attempts were tainted\x1b {MARK}")
    async with served(desk) as (client, url), client.get(f"{url}/probe?scenario=x") as answer:
        assert answer.status == 503
        text = await answer.text()
    assert text.startswith("inconclusive: 4 of 4 attempts were tainted") and "\x1b" not in text
    assert "probe_success" not in text
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("why", Refusal)
async def test_a_probe_that_is_refused_is_a_status_with_one_line(why: Refusal):
    desk = Desk()
    desk.probing = lambda *_: Refused(why, "do this instead")
    async with served(desk) as (client, url), client.get(f"{url}/probe?scenario=x") as answer:
        assert (answer.status, await answer.text()) == (why.value, "do this instead\n")
        assert ("Retry-After" in answer.headers) == (why is Refusal.BUSY)


async def test_the_time_that_a_scrape_has_is_passed_on_less_the_way_back_and_kept():
    desk = Desk()
    desk.probing, desk.hold = (lambda *_: probed(True)), asyncio.Event()
    async with served(desk) as (client, url):
        async with client.get(f"{url}/probe?scenario=x", headers={SCRAPE_TIMEOUT: "0.6"}) as answer:
            assert answer.status == 503 and "longer than the scrape" in await answer.text()
        assert desk.asked[0][2] == pytest.approx(0.1)
        for wrong in ("soon", "nan", "-1", "inf", "0"):
            async with client.get(f"{url}/probe?scenario=x", headers={SCRAPE_TIMEOUT: wrong}) as answer:
                assert answer.status == 400
        desk.hold.set()
        async with client.get(f"{url}/probe") as answer:
            assert answer.status == 400 and "scenario" in await answer.text()


async def test_a_bug_behind_a_probe_ends_that_answer_alone():
    desk = Desk()
    desk.probing = lambda *_: 1 / 0  # type: ignore[assignment]
    async with served(desk) as (client, url):
        async with client.get(f"{url}/probe?scenario=x") as answer:
            assert answer.status == 500 and "zero" not in await answer.text()
        async with client.get(f"{url}/healthz") as answer:
            assert answer.status == 200


async def test_a_gate_says_by_its_status_alone_whether_it_may_go_on():
    desk = Desk()
    desk.states = [gate(result, name=result) for result in ("pass", "warn", "fail", "inconclusive")]
    expected = {"pass": (200, 412), "warn": (200, 412), "fail": (412, 200), "inconclusive": (503, 503)}
    async with served(desk) as (client, url):
        for result, (usual, when_it_fails) in expected.items():
            for query, status in [("", usual), ("&when=fail", when_it_fails), ("&status=200", 200)]:
                for method in ("GET", "POST"):  # a Flagger webhook posts what it is about
                    async with client.request(method, f"{url}/gate/{result}?region=eu{query}", data=b"{}") as answer:
                        told = await answer.json()
                        assert answer.status == status, (result, query)
                        assert told["result"] == result
                        assert ("Retry-After" in answer.headers) == (status == 503)
        for path in ("/gate/nobody", "/gate/pass?region=mars"):
            async with client.get(url + path) as answer:
                assert answer.status == 404
        for query in ("?status=201", "?when=pass", "?when=fail&status=200", "?regoin=eu"):
            async with client.get(f"{url}/gate/fail{query}") as answer:
                assert answer.status == 400, query


async def test_of_several_regions_the_worst_decides():
    desk = Desk()
    desk.states = [gate("pass", "eu"), gate("inconclusive", "us", value=float("nan"), since=0, evaluated=0), gate("warn", "apac")]
    async with served(desk) as (client, url):
        async with client.get(f"{url}/gate/hold") as answer:
            told = await answer.json()
            assert answer.status == 503
        assert (told["region"], told["value"], told["since"], told["evaluated"]) == ("us", None, None, None)
        assert [one["region"] for one in told["gates"]] == ["eu", "us", "apac"]
        assert told["gates"][0] == {
            "name": "hold", "region": "eu", "scenario": "room-start", "result": "pass", "value": 0.8,
            "since": "2026-09-21T14:13:20.000Z", "evaluated": "2026-09-21T14:14:20.000Z", "reason": "why",
            "owner": "growth-lead", "action": "pause campaign expansion", "publish_region": "",
            "protocol": "", "unit": "ratio", "n": 12, "min_n": 3, "window": "10m", "coverage": 0.9, "min_coverage": 0.5,
            "when": "start[10m] < 90%", "resume": None, "from": "agent", "position": "open",
            "holding": {"towards": "closing", "held": 60.0, "of": 120.0}, "override": None,
        }  # fmt: skip
        async with client.get(f"{url}/gate/hold?region=eu") as answer:
            assert answer.status == 200


async def test_runs_are_pages_and_json_filtered_and_turned_over():
    desk = Desk()
    desk.rows.rows = [row(n, verdict="fail" if n % 3 == 0 else "pass") for n in range(30, 0, -1)]
    async with served(desk) as (client, url):
        seen, before = [], ""
        for _ in range(4):
            async with client.get(f"{url}/runs", params={"limit": "10", "before": before, "format": "json"}) as answer:
                page = await answer.json()
            seen += [run["seed"] for run in page["runs"]]
            if page["before"] is None:
                break
            before = page["before"]
        assert seen == list(range(30, 0, -1))
        async with client.get(f"{url}/runs?verdict=fail", headers={"Accept": "application/json"}) as answer:
            assert {run["verdict"] for run in (await answer.json())["runs"]} == {"fail"}
        async with client.get(f"{url}/runs?limit=10&verdict=pass", headers={"Accept": "text/html,*/*;q=0.8"}) as answer:
            html = await answer.text()
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert html.count('<tr class="pass">') == 10 and "<option selected>pass" in html
        assert f"/runs?verdict=pass&amp;before={row(16).run_id}&amp;limit=10" in html
        async with client.get(f"{url}/runs?trace_id={row(7).trace_id}&format=json") as answer:
            assert [run["seed"] for run in (await answer.json())["runs"]] == [7]
        for wrong in (
            "trace_id=7",
            "limit=0",
            "limit=201",
            "limit=٣",
            "limit=1e9",
            "before=x;y",
            "verdict=good",
            "format=xml",
            "page=2",
        ):
            async with client.get(f"{url}/runs?{wrong}") as answer:
                assert answer.status == 400, wrong


async def test_a_run_is_its_report_or_its_verdict():
    desk = Desk()
    desk.rows.rows = [row(3, state="running", verdict="", ended_ns=None, attempts={}), row(2), row(1)]
    desk.rows.reports[row(1).run_id] = "<!doctype html><title>report</title>"
    desk.rows.verdicts[row(1).run_id] = '{"result":"pass"}'
    async with served(desk) as (client, url):
        async with client.get(f"{url}/runs/{row(1).run_id}") as answer:
            assert await answer.text() == "<!doctype html><title>report</title>"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        for how in ({"params": {"format": "json"}}, {"headers": {"Accept": "application/json"}}):
            async with client.get(f"{url}/runs/{row(1).run_id}", **how) as answer:  # type: ignore[arg-type]
                assert await answer.json() == {"result": "pass"}
        for number, said in ((2, "no longer kept"), (3, "under way")):
            async with client.get(f"{url}/runs/{row(number).run_id}") as answer:
                assert answer.status == 200 and said in await answer.text()
            async with client.get(f"{url}/runs/{row(number).run_id}?format=json") as answer:
                assert answer.status == 404
                assert said in json.loads(await answer.text())["error"]
        for unknown in ("0", "x" * 65, "a%00b", "..%2f..%2fetc"):
            async with client.get(f"{url}/runs/{unknown}") as answer:
                assert answer.status in (400, 404)


async def test_records_that_cannot_be_read_are_503_with_words():
    desk = Desk()
    desk.rows.away = True
    async with served(desk) as (client, url), client.get(f"{url}/runs") as answer:
        assert answer.status == 503
        assert "no answer within 5 s" in await answer.text()


async def test_health_and_readiness_say_why_not():
    desk = Desk()
    async with served(desk) as (client, url):
        for path in ("/healthz", "/readyz"):
            async with client.get(url + path) as answer:
                assert answer.status == 200
        desk.unready, desk.stuck = ["the configuration is not taken: agent.yaml:3:1 no", "workers: none"], "nothing was scheduled"
        async with client.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (503, "nothing was scheduled\n")
        async with client.get(f"{url}/readyz") as answer:
            assert (answer.status, (await answer.text()).splitlines()) == (503, desk.unready)


async def test_a_reload_is_asked_for_as_of_prometheus():
    desk = Desk()
    async with served(desk) as (client, url):
        for method, status in (("POST", 200), ("PUT", 200), ("GET", 405), ("DELETE", 405)):
            async with client.request(method, f"{url}/-/reload") as answer:
                assert answer.status == status
        assert desk.reloads == 2
        desk.refused = ["agent.yaml:3:7 schedules.a.every: expected text"]
        async with client.post(f"{url}/-/reload") as answer:
            assert answer.status == 500
            assert desk.refused[0] in await answer.text()


async def test_the_index_says_what_is_due_what_waits_and_what_is_not_well():
    desk = Desk()
    desk.planned = [
        Planned("a", "room-start", "every 1m", 1_790_000_000 * NS, "", 1),
        Planned("b", "campaign", "*/5 * * * * UTC", None, "budget", 0),
    ]
    desk.states = [gate("fail", reason=f"80 % {MARK}")]
    desk.unready = [f"workers: {MARK}"]
    async with served(desk) as (client, url), client.get(f"{url}/") as answer:
        html = await answer.text()
    for said in ("Not ready", "every 1m", "held back by budget", "none to come", "/gate/hold?region=eu", "growth-lead", "412"):
        assert said in html, said
    assert MARK not in html and "&lt;script&gt;" in html


async def test_nothing_that_is_asked_comes_back_unescaped_or_breaks_anything():
    desk = Desk()
    desk.probing = lambda *_: probed(True)
    desk.rows.rows = [row(1, cause=MARK, scenario=MARK, crashed=MARK)]
    asked = [
        "/probe?scenario=%00", "/probe?scenario=%ff%fe&target=%c3%28", "/runs?scenario=%00", "/runs?region=" + "a" * 300,
        "/runs?scenario=a&scenario=b", f"/{MARK}", f"/gate/{MARK}", f"/gate/x?{MARK}=1", f"/runs/{MARK}", "/gate/%00",
        "/gate/%ff", f"/runs?verdict={MARK}", "/runs?before=%00", "/?x=1", "/runs?scenario=%0d%0aX-A:%20b",
        "/../../etc/passwd", "//", "/runs/",
    ]  # fmt: skip
    async with served(desk) as (client, url):
        for path in asked:
            async with client.get(url + path) as answer:
                text = await answer.text()
            assert 200 <= answer.status < 500, path
            assert MARK not in text and "X-A" not in answer.headers, path
        async with client.get(f"{url}/runs") as answer:
            assert MARK not in await answer.text()
        for method, status in (("FOO", 400), ("TRACE", 405), ("DELETE", 405), ("PATCH", 405)):
            async with client.request(method, f"{url}/runs") as answer:
                assert answer.status == status
        async with client.get(f"{url}/runs", headers={"Expect": MARK}) as answer:
            assert answer.status == 417
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Type"].startswith("text/plain")


async def test_every_answer_carries_the_headers_that_let_a_page_do_nothing():
    async with served(Desk()) as (client, url):
        for path in ("/", "/runs", "/metrics", "/healthz", "/gate/x", "/nowhere"):
            async with client.get(url + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert answer.headers["Server"] == "stream-probe"
