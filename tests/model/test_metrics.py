"""The table keeps the contract: names, base units, and no label outside the closed list."""

from __future__ import annotations

import re

from probe.model.metrics import LABELS, METRICS, PREFIX, START_BUCKETS, MetricKind

CONTRACT = {
    "attempts_total", "outcomes_total", "objective_runs_total", "failures_total", "taints_total", "first_frame_seconds",
    "available_seconds", "stage_seconds", "reconnects_total", "reconnect_seconds", "outage_seconds", "sessions_ended_total",
    "e2e_latency_seconds", "clock_error_seconds", "av_skew_seconds", "frames_total", "freezes_total", "frozen_seconds_total",
    "rebuffers_total", "bitrate_bytes_per_second", "edge_requests_total", "steps_total", "step_seconds", "runs_total",
}  # fmt: skip
ADDED = {
    "freezes_fixed_total",
    "watched_seconds_total",
    "rendition_switches_total",
    "live_latency_seconds",
    "manifest_events_total",
    "gate_state",
    "gate_overridden",
    "gate_changes_total",
    "gate_actions_total",
    "drill_overdue",
    "release_time_seconds",
    "release_change",
}  # a name of its own for the fixed rule; what ratios divide by


def test_the_table_holds_the_contracts_names_and_self_metrics_only() -> None:
    names = {name.removeprefix(PREFIX) for name in METRICS}
    assert {n for n in names if not n.startswith("self_")} == CONTRACT | ADDED
    assert all(name.startswith(PREFIX) for name in METRICS)


def test_labels_come_from_the_closed_list_and_never_repeat() -> None:
    for metric in METRICS.values():
        assert set(metric.labels) <= LABELS, metric.name
        assert len(set(metric.labels)) == len(metric.labels), metric.name


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for metric in METRICS.values():
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER), metric.name
        assert re.fullmatch(r"[a-z][a-z0-9_]+", metric.name)


def test_a_unit_is_the_end_of_its_name() -> None:
    for metric in METRICS.values():
        assert metric.name.removesuffix("_total").endswith(metric.unit), metric.name


def test_labels_the_contract_names_are_there() -> None:
    wanted = {
        "outcomes_total": {"outcome", "tainted"},
        "objective_runs_total": {"slo", "outcome"},
        "failures_total": {"phase", "reason"},
        "taints_total": {"taint"},
        "reconnects_total": {"outcome"},
        "sessions_ended_total": {"kind"},
        "frames_total": {"kind"},
        "edge_requests_total": {"edge", "cache", "class"},
        "runs_total": {"verdict"},
    }
    for name, labels in wanted.items():
        assert labels <= set(METRICS[PREFIX + name].labels), name


def test_histograms_alone_have_buckets_and_these_rise() -> None:
    for metric in METRICS.values():
        assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name


def test_start_times_have_the_contracts_buckets() -> None:
    assert START_BUCKETS == (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 10, 20, 30)
    assert METRICS[f"{PREFIX}first_frame_seconds"].buckets == START_BUCKETS
