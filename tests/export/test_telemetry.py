"""Telemetry that loses nothing: a collector that comes and goes, one that answers wrongly, a process that ends in between."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.export import otlp_sender
from probe.export import telemetry as telemetry_module
from probe.export.prometheus import MetricsSink
from probe.export.spool import Spool, SpoolInUse
from probe.export.telemetry import Settings, Telemetry
from probe.model.metrics import PREFIX
from tests.export.collectors import Visiting, spans, visiting
from tests.net.servers import Authority, Raw, raw
from tests.tools import ROOT, free_port, spawn, steady, wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "canary-credential-of-the-collector"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(otlp_sender, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(otlp_sender, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(otlp_sender, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(telemetry_module, "CLOSING_SECONDS", 0.2)


def settings(endpoint: str, **given: Any) -> Settings:
    return Settings(**{"endpoint": endpoint, "region": "eu", "instance": "eu-1", "every": 60.0, "share": 1.0, **given})


@asynccontextmanager
async def telemetry(of: Settings, home: Path, sink: MetricsSink | None = None) -> AsyncIterator[Telemetry]:
    async with Telemetry.opened(of, (sink or MetricsSink()).figures, SystemClock(), home) as opened:
        yield opened


def balanced(opened: Telemetry) -> None:
    for kind, counts in opened.counts().items():
        assert counts.put + counts.recovered == counts.done + sum(counts.dropped.values()) + counts.held, (kind, counts)


def value(sink: MetricsSink, name: str, **labels: str) -> float | None:
    got = sink.registry.get_sample_value(PREFIX + name, labels)
    return None if got is None else float(got)


async def test_traces_and_metrics_arrive_whole(tmp_path: Path) -> None:
    sink = MetricsSink()
    labels = {"scenario": "s", "mode": "scheduled", "publish_region": "eu", "region": "eu"}
    before = SystemClock().wall().unix_ns
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path, sink) as sent:
        assert await sent.flush(5)
        sink.figures.add("runs_total", {**labels, "verdict": "pass"}, 2, trace=TRACE)
        for seconds in (0.04, 0.3, 0.3, 99.0):
            sink.figures.observe("available_seconds", {**labels, "protocol": "hls", "ingest": "whip"}, seconds, TRACE)
        sink.figures.set("clock_error_seconds", labels, 0.001)
        sent.traces(spans(7), keep=True)
        assert await sent.flush(5)
        after = SystemClock().wall().unix_ns

        assert [(s.name, s.parent, s.status) for s in collector.collector.spans] == [
            ("span 0", "", "unset"), ("span 1", f"{1:016x}", "error"), ("span 2", f"{1:016x}", "unset"),
        ]  # fmt: skip
        about = collector.collector.spans[0].resource
        assert about["service.name"] == "stream-probe" and about["service.instance.id"] == "eu-1"
        assert about["streamprobe.region"] == "eu"
        assert {h["Content-Encoding"] for h in collector.collector.headers} == {"gzip"}

        (counter,) = collector.points("streamprobe_runs_total")
        assert {a.key: a.value.string_value for a in counter.attributes} == {**labels, "verdict": "pass"}
        assert counter.as_double == 2.0
        assert before <= counter.start_time_unix_nano < counter.time_unix_nano <= after
        assert [(e.as_double, e.trace_id.hex()) for e in counter.exemplars] == [(2.0, TRACE)]
        (histogram,) = collector.points("streamprobe_available_seconds")
        assert (histogram.count, histogram.sum) == (4, pytest.approx(99.64))
        assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1 == 15
        assert [n for n in histogram.bucket_counts if n] == [1, 2, 1]
        assert {e.trace_id.hex() for e in histogram.exemplars} == {TRACE} and len(histogram.exemplars) == 3
        (gauge,) = collector.points("streamprobe_clock_error_seconds")
        assert (gauge.as_double, gauge.start_time_unix_nano) == (0.001, 0)
        last = collector.snapshots[-1].resource_metrics[0]
        assert {a.key: a.value.string_value for a in last.resource.attributes}["service.instance.id"] == "eu-1"
        metric = next(m for m in last.scope_metrics[0].metrics if m.name == "streamprobe_runs_total")
        assert metric.sum.is_monotonic and metric.sum.aggregation_temporality == 2 and metric.description
        metric = next(m for m in last.scope_metrics[0].metrics if m.name == "streamprobe_available_seconds")
        assert metric.unit == "s" and metric.histogram.aggregation_temporality == 2

        assert await sent.flush(5)
        assert not collector.points("streamprobe_runs_total")[-1].exemplars, "an exemplar is told once"
        balanced(sent)
        assert value(sink, "self_telemetry_sent_total", kind="traces") == 3
        assert value(sink, "self_telemetry_up", kind="traces") == 1


async def test_every_series_of_the_registry_is_sent_with_its_value(tmp_path: Path) -> None:
    sink = MetricsSink()
    rng = random.Random(1)
    for n in range(30):
        labels = {"scenario": f"s{n % 5}", "mode": "m", "publish_region": "p", "region": f'r"{n}\n'}
        sink.figures.add("runs_total", {**labels, "verdict": "pass"}, rng.random())
        sink.figures.observe("step_seconds", {**labels, "step": "a", "service": "b", "kind": "c"}, rng.random() * 20)
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path, sink) as sent:
        assert await sent.flush(5)
        got = {}
        for point in collector.points("streamprobe_runs_total"):
            got[tuple(a.value.string_value for a in point.attributes)] = point.as_double
        held = {
            tuple(s.labels.values()): s.value
            for f in sink.registry.collect() for s in f.samples if s.name == "streamprobe_runs_total"
        }  # fmt: skip
        assert got == held
        sums = {tuple(a.value.string_value for a in p.attributes): p.sum for p in collector.points("streamprobe_step_seconds")}
        assert sums == {
            tuple(s.labels.values()): s.value
            for f in sink.registry.collect() for s in f.samples if s.name == "streamprobe_step_seconds_sum"
        }  # fmt: skip


async def test_a_collector_that_comes_and_goes_costs_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    sink = MetricsSink()
    async with visiting() as collector, telemetry(settings(collector.url, every=0.05), tmp_path, sink) as sent:

        async def visits() -> None:
            for _ in range(6):
                await asyncio.sleep(rng.uniform(0.02, 0.15))
                await collector.go()
                await asyncio.sleep(rng.uniform(0.02, 0.3))
                await collector.come()

        async with asyncio.TaskGroup() as group:
            group.create_task(visits())
            for n in range(200):
                sent.traces(spans(n, 2), keep=True)
                sink.figures.add("self_runs_due_total", {"scenario": "s"})
                await asyncio.sleep(0.008)
        assert await sent.flush(10)
        counts = sent.counts()
        assert counts["traces"].put == counts["traces"].done == 200 and counts["metrics"].dropped == {}
        balanced(sent)
        arrived = {(s.trace_id, s.span_id) for s in collector.collector.spans}
        assert arrived == {(s.trace_id, s.span_id) for n in range(200) for s in spans(n, 2)}
        times = [p.time_unix_nano for p in collector.points("streamprobe_self_runs_due_total")]
        assert len(set(times)) >= 20, "each snapshot has its own time"
        assert times == sorted(times), "in order"
        values = [p.as_double for p in collector.points("streamprobe_self_runs_due_total")]
        assert values == sorted(values) and values[-1] == 200
        # What the metrics say of it adds up too.
        kind = {"kind": "traces"}
        assert value(sink, "self_spool_passed_total", **kind, outcome="put") == 200
        assert value(sink, "self_spool_passed_total", **kind, outcome="done") == 200
        assert value(sink, "self_spool_items", **kind) == 0


async def test_what_was_not_sent_is_sent_by_the_next_process_with_its_own_times(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    sink = MetricsSink()
    async with telemetry(settings(nobody), tmp_path, sink) as sent:
        sent.traces(spans(1), keep=True)
        assert not await sent.flush(0.3)
        assert value(sink, "self_telemetry_up", kind="traces") == 0
        assert sent.counts()["traces"].held == 1
    ended = SystemClock().wall().unix_ns
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path) as sent:
        assert await sent.flush(5)
        assert sent.counts()["traces"].recovered == 1
        balanced(sent)
        assert {s.trace_id for s in collector.collector.spans} == {f"{2:032x}"}
        assert collector.points("streamprobe_self_observations_total")[0].time_unix_nano < ended


async def test_sampling_leaves_out_none_that_is_to_be_kept(tmp_path: Path) -> None:
    sink = MetricsSink()
    async with visiting() as collector, telemetry(settings(collector.url, share=0.0), tmp_path, sink) as sent:
        for n in range(20):
            sent.traces(spans(n), keep=n % 4 == 0)
        assert await sent.flush(5)
        assert {int(s.trace_id, 16) - 1 for s in collector.collector.spans} == {0, 4, 8, 12, 16}
        assert value(sink, "self_traces_total", outcome="kept") == 5
        assert value(sink, "self_traces_total", outcome="sampled_out") == 15


async def test_without_an_endpoint_nothing_happens(tmp_path: Path) -> None:
    async with telemetry(settings(""), tmp_path) as sent:
        sent.traces(spans(1), keep=True)
        assert await sent.flush(1)
        assert sent.counts() == {}
    assert list(tmp_path.iterdir()) == []


async def test_an_exception_of_the_block_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with visiting() as collector, telemetry(settings(collector.url), tmp_path):
            raise ZeroDivisionError


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://a", "http://", "http://[::1", "grpc://a:4317"])
async def test_an_endpoint_that_is_none_is_a_mistake_of_the_configuration(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="write http://collector:4318"):
        async with telemetry(settings(endpoint), tmp_path):
            pass


async def test_a_certificate_that_is_none_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="certificate authority"):
            async with telemetry(settings("https://127.0.0.1:1", certificate=tmp_path / name), tmp_path):
                pass


async def test_two_agents_cannot_share_a_directory(tmp_path: Path) -> None:
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path):
        with pytest.raises(SpoolInUse):
            async with telemetry(settings(collector.url), tmp_path):
                pass


# -- collectors that answer wrongly


def answered(status: int, body: bytes = b"", **headers: str) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


WAITS = {
    "429": answered(429, Retry_After="0"),
    "502": answered(502, b"<html>bad gateway</html>"),
    "503": answered(503, Retry_After="not a date"),
    "504": answered(504, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "a portal's page": answered(200, b"<html>log in</html>", Content_Type="text/html"),
    "garbage": answered(200, b"\xff\xff\xff\xff", Content_Type="application/x-protobuf"),
    "garbage in JSON": answered(200, b"[1", Content_Type="application/json"),
    "a long answer": answered(200, b"\x0a" * 100_000, Content_Type="application/x-protobuf"),
    "a redirect": answered(307, Location="http://127.0.0.1:1/elsewhere"),
    "moved": answered(301, Location="/v1/elsewhere"),
}


@pytest.mark.parametrize("how", WAITS)
async def test_what_is_not_taken_now_waits(tmp_path: Path, how: str) -> None:
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path) as sent:
        asked = []

        def answer(request: web.Request) -> Any:
            asked.append(str(request.rel_url))
            return WAITS[how](request)

        collector.answer = answer
        sent.traces(spans(1), keep=True)
        await wait_until(lambda: len([path for path in asked if "traces" in path]) >= 3, 5)
        assert sent.counts()["traces"].held == 1 and set(asked) <= {"/v1/traces", "/v1/metrics"}
        collector.answer = None
        assert await sent.flush(5)
        assert sent.counts()["traces"].done == 1 and len(collector.collector.spans) == 3
        balanced(sent)


REFUSED = {400: "http_400", 401: "http_401", 404: "http_404", 413: "http_413", 418: "http_4xx", 500: "http_5xx"}


@pytest.mark.parametrize(("status", "why"), REFUSED.items())
async def test_what_is_refused_for_good_is_dropped_counted_and_passed_over(tmp_path: Path, status: int, why: str) -> None:
    sink = MetricsSink()
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path, sink) as sent:
        asked = []

        def answer(request: web.Request) -> Any:
            if "traces" not in request.path:
                return None
            asked.append(request.path)
            return answered(status)(request) if len(asked) == 1 else None

        collector.answer = answer
        sent.traces(spans(1), keep=True)
        sent.traces(spans(2), keep=True)
        assert await sent.flush(5)
        assert len(asked) == 2, "never sent again"
        assert {s.trace_id for s in collector.collector.spans} == {f"{3:032x}"}
        assert sent.counts()["traces"].dropped == {why: 1}
        assert value(sink, "self_spool_dropped_total", kind="traces", **{"class": why}) == 1
        balanced(sent)


async def test_a_collector_that_refuses_everything_costs_little_of_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_sender, "LONGEST_WAIT", 60.0)
    monkeypatch.setattr(otlp_sender, "FIRST_WAIT", 0.05)
    async with visiting() as collector:
        collector.answer = answered(404)
        async with telemetry(settings(collector.url), tmp_path) as sent:
            for n in range(50):
                sent.traces(spans(n), keep=True)
            await wait_until(lambda: sum(sent.counts()["traces"].dropped.values()) >= 3, 5)
            await asyncio.sleep(0.3)
            assert sum(sent.counts()["traces"].dropped.values()) <= 6
            collector.answer = None
            assert await sent.flush(5)
            counts = sent.counts()["traces"]
            assert counts.done >= 44 and counts.done + sum(counts.dropped.values()) == 50


async def test_nor_does_it_get_much_of_it_when_the_agent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_sender, "LONGEST_WAIT", 60.0)
    monkeypatch.setattr(otlp_sender, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(telemetry_module, "CLOSING_SECONDS", 1.0)
    async with visiting() as collector:
        collector.answer = answered(404)
        async with telemetry(settings(collector.url), tmp_path) as sent:
            for n in range(50):
                sent.traces(spans(n), keep=True)
        collector.answer = None
        async with telemetry(settings(collector.url), tmp_path) as sent:
            assert sent.counts()["traces"].recovered >= 40
            assert await sent.flush(5)
            balanced(sent)


async def test_metrics_that_nobody_takes_hold_no_trace_back(tmp_path: Path) -> None:
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path) as sent:
        collector.answer = lambda request: answered(503)(request) if "metrics" in request.path else None
        sent.traces(spans(1), keep=True)
        await wait_until(lambda: len(collector.collector.spans) == 3)
        assert sent.counts()["metrics"].held >= 1
        collector.answer = None
        assert await sent.flush(5)


async def test_a_partial_success_is_counted_and_not_sent_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = 2
    said.partial_success.error_message = f"no\x1b[31m thanks, {SECRET}"
    sink = MetricsSink()
    with caplog.at_level(logging.INFO):
        async with visiting() as collector:
            collector.answer = lambda request: (
                answered(200, said.SerializeToString(), Content_Type="application/x-protobuf")(request)
                if "traces" in request.path
                else None
            )
            of = settings(collector.url, headers=lambda: {"authorization": SECRET})
            async with telemetry(of, tmp_path, sink) as sent:
                sent.traces(spans(1), keep=True)
                assert await sent.flush(5)
                assert sent.counts()["traces"].done == 1
    assert value(sink, "self_telemetry_rejected_total", kind="traces") == 2
    assert value(sink, "self_telemetry_sent_total", kind="traces") == 1
    assert "left out 2 of traces" in caplog.text and SECRET not in caplog.text and "\x1b" not in caplog.text


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reads_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.transport.abort()


async def speaks_otherwise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n" * 3)
    await reader.readline()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")
    while True:
        writer.write(b"\0" * 65536)
        await writer.drain()


async def never_ending_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "talk",
    [says_nothing, reads_nothing, hangs_up, resets, speaks_otherwise, endless_headers, endless_body, never_ending_body],
)  # fmt: skip
async def test_a_server_that_is_no_collector_costs_nothing_but_time(tmp_path: Path, talk: Raw) -> None:
    asked = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await talk(reader, writer)

    async with raw(counted) as url, telemetry(settings(url), tmp_path) as sent:
        sent.traces(spans(1), keep=True)
        await wait_until(lambda: asked >= 3, 10)
        assert sent.counts()["traces"].held == 1
        balanced(sent)


async def test_a_certificate_counts_only_where_it_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    collector = Visiting()
    await collector.come(tls=authority.server("127.0.0.1"))
    try:
        of = settings(collector.url.replace("http:", "https:"), headers=lambda: {"authorization": SECRET})
        async with telemetry(of, tmp_path / "spool") as sent:
            sent.traces(spans(1), keep=True)
            await wait_until(lambda: "traces wait" in caplog.text, 5)
            assert sent.counts()["traces"].held == 1 and not collector.collector.requests
        assert "Certificate" in caplog.text and SECRET not in caplog.text
        async with telemetry(replace(of, certificate=tmp_path / "ca.pem"), tmp_path / "spool") as sent:
            assert await sent.flush(5)
        assert len(collector.collector.spans) == 3
        assert {h["Authorization"] for h in collector.collector.headers} == {SECRET}
    finally:
        await collector.go()


async def test_a_credential_that_changes_is_read_again(tmp_path: Path) -> None:
    said = iter(["old", "new", "new", "new"])
    async with visiting() as collector:

        def answer(request: web.Request) -> Any:
            return answered(401)(request) if request.headers["authorization"] == "old" else None

        collector.answer = answer
        async with telemetry(settings(collector.url, headers=lambda: {"authorization": next(said)}), tmp_path) as sent:
            for n in range(3):
                sent.traces(spans(n), keep=True)
            assert await sent.flush(5)
            assert sum(counts.dropped.get("http_401", 0) for counts in sent.counts().values()) == 1
            balanced(sent)


async def test_a_secret_that_cannot_be_read_holds_everything_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    readable = False

    def headers() -> Mapping[str, str]:
        if not readable:
            raise PermissionError(f"{SECRET} is not for you")
        return {"authorization": SECRET}

    async with visiting() as collector, telemetry(settings(collector.url, headers=headers), tmp_path) as sent:
        sent.traces(spans(1), keep=True)
        await wait_until(lambda: "cannot be read" in caplog.text, 5)
        assert not collector.collector.requests
        readable = True
        assert await sent.flush(5)
        assert len(collector.collector.spans) == 3
    assert SECRET not in caplog.text


# -- what must not hold a measurement up


async def test_whoever_hands_over_a_trace_never_waits_and_what_is_too_much_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    put = Spool.put

    def slow(self: Spool, payload: bytes) -> bool:
        release.wait(10)
        return put(self, payload)

    async with visiting() as collector, telemetry(settings(collector.url), tmp_path) as sent:
        assert await sent.flush(5)
        monkeypatch.setattr(Spool, "put", slow)
        try:
            async with steady(0.2):
                for n in range(300):
                    sent.traces(spans(n), keep=True)
                await asyncio.sleep(0.05)
        finally:
            release.set()
        assert await sent.flush(10)
        counts = sent.counts()["traces"]
        assert counts.put == 300 and counts.dropped["busy"] + counts.done == 300 and counts.done >= 100
        balanced(sent)


async def test_a_trace_that_cannot_be_encoded_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with visiting() as collector, telemetry(settings(collector.url), tmp_path) as sent:
        sent.traces([replace(spans(1)[0], start=-1)], keep=True)
        sent.traces(spans(2), keep=True)
        assert await sent.flush(5)
        assert sent.counts()["traces"].dropped == {"unencodable": 1} and len(collector.collector.spans) == 3
    assert "could not be encoded" in caplog.text


async def test_a_full_spool_loses_the_oldest_and_says_so(tmp_path: Path) -> None:
    sink = MetricsSink()
    async with visiting() as collector, telemetry(settings(collector.url, limit=64_000), tmp_path, sink) as sent:
        await collector.go()
        for n in range(100):
            sent.traces(spans(n, 40), keep=True)
            await asyncio.sleep(0)
        await wait_until(lambda: sent.counts()["traces"].put == 100, 10)
        await collector.come()
        assert await sent.flush(10)
        counts = sent.counts()["traces"]
        assert 0 < counts.dropped["full"] < 100 and counts.done == 100 - counts.dropped["full"]
        arrived = sorted({int(s.trace_id, 16) - 1 for s in collector.collector.spans})
        assert arrived[-1] == 99 and arrived == list(range(100 - len(arrived), 100))
        assert value(sink, "self_spool_dropped_total", kind="traces", **{"class": "full"}) == counts.dropped["full"]


# -- a process that is killed

_AGENT = """
import asyncio, sys
from pathlib import Path
from probe.clock import SystemClock
from probe.export import otlp_sender
from probe.export.prometheus import MetricsSink
from probe.export.telemetry import Settings, Telemetry
from tests.export.collectors import spans
otlp_sender.FIRST_WAIT, otlp_sender.LONGEST_WAIT = 0.02, 0.1

async def main(url, home, first):
    settings = Settings(endpoint=url, region="eu", instance="a", every=0.1, share=1.0)
    async with Telemetry.opened(settings, MetricsSink().figures, SystemClock(), Path(home)) as sent:
        for n in range(int(first), 1_000_000):
            sent.traces(spans(n, 2), keep=True)
            await asyncio.sleep(0.004)
            print(int(first) + sent.counts()["traces"].put, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_again_and_again_while_the_collector_comes_and_goes(tmp_path: Path) -> None:
    rng = random.Random(11)
    first = 0
    async with visiting() as collector:
        for life in range(2):
            output = tmp_path / f"out-{life}"
            with spawn([sys.executable, "-c", _AGENT, collector.url, tmp_path / "spool", str(first)], output, cwd=ROOT) as child:
                await wait_until(lambda: output.read_bytes().count(b"\n") > 10, 20)  # noqa: B023
                await collector.go()
                await asyncio.sleep(rng.uniform(0.05, 0.2))
                if life % 2:
                    await collector.come()
                    await asyncio.sleep(rng.uniform(0.0, 0.1))
                os.kill(child.pid, signal.SIGKILL)
                await child.exit()
            await collector.go()
            await collector.come()
            taken = int(output.read_text().split("\n")[-2])
            async with telemetry(settings(collector.url), tmp_path / "spool") as sent:
                assert await sent.flush(5)
                balanced(sent)
                assert sum(sum(counts.dropped.values()) for counts in sent.counts().values()) <= 1, "a torn last record"
            arrived = {int(s.trace_id, 16) - 1 for s in collector.collector.spans}
            assert set(range(first, taken)) <= arrived, "taken, and it never came"
            first = max(arrived) + 1
