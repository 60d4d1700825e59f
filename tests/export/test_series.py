"""Series written down by ourselves say what the library would say, and there is an end to them."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from probe.export.exposition import classic, openmetrics_text
from probe.export.families import Families
from probe.export.otlp_metrics import Snapshots
from probe.model.clock import NS
from probe.model.metrics import MAX_SERIES, METRICS, PREFIX, MetricKind
from tests.tools import requires

TRACE = "0af7651916cd43dd8448eb211c80319c"
STEP = {"mode": "m", "publish_region": "p", "region": "r", "step": "s", "service": "", "kind": "k"}
VALUES = st.floats(0, 1e12, allow_nan=False) | st.sampled_from([0.0, 1e-9, 1e6, 123456789.0, 0.05])


def filled(texts: list[str], values: list[float]) -> Families:
    families = Families(CollectorRegistry())
    for text, amount in zip(texts, values, strict=False):
        families.observe("step_seconds", {**STEP, "scenario": text}, amount, TRACE)
        families.add("steps_total", {**STEP, "scenario": text, "outcome": "done", "tainted": "false"}, amount, trace=TRACE)
        families.set("self_run_delay_ratio", {"region": text}, amount)
    return families


@settings(max_examples=25)
@given(st.lists(st.text(max_size=8), max_size=6), st.lists(VALUES, min_size=6, max_size=6))
def test_our_text_says_what_the_librarys_says(texts: list[str], values: list[float]) -> None:
    texts = [text.encode("utf-8", "replace").decode().replace("\r", "") for text in texts]
    registry = filled(texts, values).registry
    ours, theirs = classic(registry), generate_latest(registry).decode()
    assert list(parse_classic(ours)) == list(parse_classic(theirs))
    ours, theirs = openmetrics_text(registry), generate_openmetrics(registry).decode()
    for mine, other in zip(parse_openmetrics(ours), parse_openmetrics(theirs), strict=True):
        assert (mine.name, mine.type, mine.unit, mine.documentation) == (other.name, other.type, other.unit, other.documentation)
        for one, two in zip(mine.samples, other.samples, strict=True):
            assert one[:3] == two[:3]
            assert bool(one.exemplar) == bool(two.exemplar)
            if one.exemplar and two.exemplar:
                assert one.exemplar[:2] == two.exemplar[:2]
                assert float(one.exemplar.timestamp or 0) == pytest.approx(float(two.exemplar.timestamp or 0), abs=0.001)


def test_what_others_register_stands_beside_ours() -> None:
    families = filled(["a"], [1.0])
    Counter("somebody_elses_total", "Help.", registry=families.registry).inc(3)
    assert "somebody_elses_total 3.0\n" in classic(families.registry)
    text = openmetrics_text(families.registry)
    assert "somebody_elses_total 3.0\n" in text and text.count("# EOF") == 1 and text.endswith("# EOF\n")
    list(parse_openmetrics(text))


def everything() -> Families:
    """Every metric of the table with two series, as full as they come."""
    families = Families(CollectorRegistry())
    for metric in METRICS.values():
        name = metric.name.removeprefix(PREFIX)
        for text in ("plain", 'a "quoted\\ \n value'):
            labels = dict.fromkeys(metric.labels, text)
            match metric.kind:
                case MetricKind.COUNTER:
                    families.add(name, labels, 2.5, trace=TRACE)
                case MetricKind.GAUGE:
                    families.set(name, labels, 0.25)
                case MetricKind.HISTOGRAM:
                    families.observe_all(name, labels, [0.001, *metric.buckets, 1e9], TRACE)
    return families


def test_promtool_finds_nothing_in_any_metric_of_the_table() -> None:
    promtool = requires("promtool", package="prometheus")
    text = classic(everything().registry)
    done = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert {family.name for family in parse_classic(text)} == {m.name.removesuffix("_total") for m in METRICS.values()} | {
        m.name for m in METRICS.values() if m.kind is not MetricKind.COUNTER
    }


def test_every_metric_of_the_table_can_be_sent() -> None:
    families = everything()
    (payload,) = Snapshots(families.registry, {"service.name": "x"}, 5).take(9 * NS)
    message = ExportMetricsServiceRequest()
    message.ParseFromString(payload.body)
    assert len(message.SerializeToString()) == len(payload.body), "no field twice: not every decoder merges"
    metrics = message.resource_metrics[0].scope_metrics[0].metrics
    assert {metric.name for metric in metrics} == set(METRICS)
    points = [point for metric in metrics for point in getattr(metric, metric.WhichOneof("data")).data_points]
    assert len(points) == payload.entries and {point.time_unix_nano for point in points} == {9 * NS}
    assert all({a.key for a in point.attributes} == set(METRICS[m.name].labels) for m in metrics for point in _points(m))
    for metric in metrics:
        if metric.WhichOneof("data") == "histogram":
            bounds = METRICS[metric.name].buckets
            assert all(tuple(p.explicit_bounds) == bounds and sum(p.bucket_counts) == p.count for p in _points(metric))


def _points(metric: Any) -> list[Any]:
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


def test_many_points_go_in_several_requests_of_one_time() -> None:
    families = Families(CollectorRegistry())
    for n in range(12_000):
        families.touch("self_runs_due_total", {"scenario": f"s{n}"})
    payloads = Snapshots(families.registry, {"service.name": "x"}, 5).take(9)
    names = []
    for payload in payloads:
        message = ExportMetricsServiceRequest()
        message.ParseFromString(payload.body)
        assert len(payload.body) < 4 << 20 and payload.entries <= 5000
        for metric in message.resource_metrics[0].scope_metrics[0].metrics:
            if metric.name.endswith("runs_due_total"):
                names += [point.attributes[0].value.string_value for point in _points(metric)]
    assert sorted(names) == sorted(f"s{n}" for n in range(12_000))


def test_series_end_at_the_limit_and_those_there_go_on() -> None:
    families = Families(CollectorRegistry(), most=100)
    get = families.registry.get_sample_value
    for n in range(300):
        families.add("self_runs_due_total", {"scenario": f"s{n}"})
    families.observe("step_seconds", {**STEP, "scenario": "s"}, 1.0)
    families.set("self_run_delay_ratio", {"region": "r"}, 1.0)
    families.add("self_runs_due_total", {"scenario": "s0"})
    assert get("streamprobe_self_runs_due_total", {"scenario": "s0"}) == 2
    assert get("streamprobe_self_series", {}) == 100
    held = sum(len(f.samples) for f in families.registry.collect() if "refused" not in f.name)
    assert held == 100
    refused = {s.labels["kind"]: s.value for f in families.registry.collect() for s in f.samples if "refused" in s.name}
    assert refused["step_seconds"] == 1 and refused["self_run_delay_ratio"] == 1
    there = sum(len(f.samples) for f in families.registry.collect() if f.name.endswith("runs_due"))
    assert refused["self_runs_due_total"] == 300 - there


def test_five_of_the_largest_scenarios_fit() -> None:
    assert MAX_SERIES > 5 * 8_100  # srs.yaml, of those that are shipped


def test_threads_lose_no_count() -> None:
    families = Families(CollectorRegistry())
    stop = threading.Event()

    def counts() -> None:
        for n in range(3000):
            families.add("self_runs_due_total", {"scenario": str(n % 7)})
            families.observe("self_loop_lag_seconds", {"region": str(n % 7)}, 0.01)

    def reads() -> None:
        while not stop.is_set():
            classic(families.registry)

    threads = [threading.Thread(target=counts) for _ in range(4)]
    reader = threading.Thread(target=reads)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    total = sum(s.value for f in families.registry.collect() for s in f.samples if s.name.endswith("runs_due_total"))
    observed = sum(s.value for f in families.registry.collect() for s in f.samples if s.name.endswith("lag_seconds_count"))
    assert (total, observed) == (12_000, 12_000)
