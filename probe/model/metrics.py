"""The one table of metrics: name → kind, unit, labels, buckets, help.

The exporter, the recording rules and the README are all made from it, so that a name or a label can change in one place
only. Names follow the Prometheus conventions (base units, `_total`, bytes not bits); labels come from a closed list, and
none of them is a URL, a time, a room or a run id: those travel as exemplars (the trace id).

Chosen: `reason` stands on `failures_total` alone, since (phase, reason) pairs are many. Sessions are split by `kind` into
`code` and `moving`, because a picture that merely moves is an indicator of its own. What the taint of an outcome must
keep out of distributions is left out of them rather than labelled: a starved probe's latency is nobody's latency. `ingest` is
the protocol of the publisher that a viewer watches, or a publisher's own. Skew has
two kinds, `late` and `early`, since a histogram of negative values has no sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "streamprobe_"
LABELS = frozenset({
    "scenario", "mode", "publish_region", "region", "role", "protocol", "join", "device", "service", "step", "stage", "phase",
    "reason", "rendition", "edge", "cache", "class", "kind", "outcome", "tainted", "taint", "verdict", "slo", "ingest", "gate",
    "drill", "runbook",
})  # fmt: skip
MAX_COLLAPSIBLE = 20  # edges, renditions: more than these become OTHER
MAX_SERIES = 50_000  # of one process, a histogram's each counted; new ones beyond are refused, and that is counted
OTHER = "other"

START_BUCKETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 10.0, 20.0, 30.0)
STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, *START_BUCKETS)
LATENCY_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
SKEW_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.125, 0.2, 0.3, 0.5)
BITRATE_BUCKETS = (5e3, 1e4, 2.5e4, 5e4, 7.5e4, 1e5, 1.5e5, 2.5e5, 3.75e5, 5e5, 7.5e5, 1e6, 1.5e6, 2.5e6)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is whole, prefix and `_total` included; `unit` is empty for plain counts."""

    name: str
    kind: MetricKind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


RUN = ("scenario", "mode", "publish_region", "region")
SESSION = (*RUN, "role", "protocol", "ingest", "join", "device")
MEDIA = (*RUN, "role", "protocol", "ingest", "device")
GATE = ("scenario", "gate", "publish_region", "region", "protocol")


def _counter(name: str, labels: tuple[str, ...], text: str, unit: str = "") -> Metric:
    return Metric(f"{PREFIX}{name}", MetricKind.COUNTER, unit, labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str, unit: str = "") -> Metric:
    return Metric(f"{PREFIX}{name}", MetricKind.GAUGE, unit, labels, text)


def _histogram(name: str, labels: tuple[str, ...], text: str, buckets: tuple[float, ...], unit: str = "seconds") -> Metric:
    return Metric(f"{PREFIX}{name}", MetricKind.HISTOGRAM, unit, labels, text, buckets)


_ALL = (
    _counter("attempts_total", (*SESSION, "kind"), "Sessions intended, counted before name resolution."),
    _counter("outcomes_total", (*SESSION, "kind", "outcome", "tainted"), "Sessions by how their start ended."),
    _counter(
        "objective_runs_total",
        (*RUN, "protocol", "slo", "outcome"),
        "Runs judged against an objective: good, bad or inconclusive.",
    ),
    _counter(
        "failures_total",
        (*RUN, "role", "protocol", "ingest", "service", "phase", "reason"),
        "Failures of sessions and of journey steps.",
    ),
    _counter("taints_total", (*RUN, "taint"), "Outcomes tainted by the probe itself, by what was wrong with it."),
    _histogram(
        "first_frame_seconds",
        (*SESSION, "kind"),
        "Intent to play to first verified frame; untainted starts that were done.",
        START_BUCKETS,
    ),
    _histogram(
        "available_seconds",
        (*RUN, "protocol", "ingest"),
        "Publisher start to when the first viewer of that protocol could start.",
        START_BUCKETS,
    ),
    _histogram(
        "stage_seconds",
        (*SESSION, "stage"),
        "Slices of a start; they add up to the whole. Untainted starts that were done.",
        STAGE_BUCKETS,
    ),
    _counter("reconnects_total", (*MEDIA, "kind", "outcome", "tainted"), "Cuts as sessions lived them, by how they ended."),
    _histogram(
        "reconnect_seconds",
        (*MEDIA, "kind"),
        "Path restored to first verified frame whose bytes arrived after that.",
        START_BUCKETS,
    ),
    _histogram(
        "outage_seconds", (*MEDIA, "kind"), "Last verified frame shown to first verified frame newer than it.", START_BUCKETS
    ),
    _counter("sessions_ended_total", (*SESSION, "kind"), "Sessions that had started, by how they ended: planned or crashed."),
    _histogram(
        "e2e_latency_seconds",
        MEDIA,
        "Stamp at the publisher's network to decoded at the viewer; clock faults left out.",
        LATENCY_BUCKETS,
    ),
    _gauge("clock_error_seconds", RUN, "Bound on the error between the publisher's clock and the viewer's.", "seconds"),
    _histogram("av_skew_seconds", (*MEDIA, "kind"), "How late or early sound is against the picture.", SKEW_BUCKETS),
    _counter("frames_total", (*MEDIA, "kind"), "Frames by what they were; kinds overlap: every verified frame was decoded."),
    _counter("freezes_total", MEDIA, "Freezes by the W3C webrtc-stats rule."),
    _counter("freezes_fixed_total", MEDIA, "Gaps between shown frames of 500 milliseconds or more."),
    _counter(
        "frozen_seconds_total", (*MEDIA, "kind"), "Time spent frozen, by freezes of the W3C rule or by rebuffering.", "seconds"
    ),
    _counter(
        "watched_seconds_total",
        MEDIA,
        "Time watched by a probe that was well, whether the picture moved or stood: the denominator of frozen time.",
        "seconds",
    ),
    _counter("rebuffers_total", MEDIA, "Times a buffered player ran dry."),
    _histogram(
        "bitrate_bytes_per_second",
        (*MEDIA, "rendition"),
        "Media bytes for each second of media, by rendition.",
        BITRATE_BUCKETS,
        "bytes_per_second",
    ),
    _counter("rendition_switches_total", MEDIA, "Changes from one rendition to another on screen."),
    _histogram(
        "live_latency_seconds",
        MEDIA,
        "What is on screen by the platform's own wall clock (PROGRAM-DATE-TIME, prft), once a second.",
        LATENCY_BUCKETS,
    ),
    _counter("manifest_events_total", (*MEDIA, "kind"), "Discontinuities, and media sequence numbers that went backwards."),
    _counter(
        "edge_requests_total",
        (*RUN, "protocol", "edge", "cache", "class"),
        "Requests for playlists, init sections, segments, parts and continuous bodies of media.",
    ),
    _counter("steps_total", (*RUN, "step", "service", "kind", "outcome", "tainted"), "Journey steps by how they ended."),
    _histogram(
        "step_seconds", (*RUN, "step", "service", "kind"), "Duration of untainted journey steps that were done.", START_BUCKETS
    ),
    _counter("runs_total", (*RUN, "verdict"), "Runs by verdict."),
    _gauge(
        "release_time_seconds",
        ("scenario", "region"),
        "When the platform's release last changed, Unix time; absent until a change was seen.",
        "seconds",
    ),
    _gauge(
        "release_change",
        ("scenario", "region", "kind"),
        "1: what runs since the release are against those before: better, same, worse, cannot_tell; absent until 8 were made.",
    ),
    _gauge("gate_state", (*GATE, "verdict"), "1: what the gate says now, overrides included; 0: what it does not."),
    _gauge("gate_overridden", GATE, "1: somebody's word holds in place of the rule's."),
    _counter("gate_changes_total", (*GATE, "verdict"), "Times that a gate came to say this."),
    _gauge(
        "drill_overdue",
        ("drill",),
        "1: this drill or rehearsal, or every one of this tag, is overdue; absent until the records were read.",
    ),
    _counter("gate_actions_total", ("gate", "kind", "outcome"), "Actions of gates by how they ended: webhook or command."),
    _histogram("self_loop_lag_seconds", ("region",), "Event-loop lag of the probe, worst of each interval.", LAG_BUCKETS),
    _gauge("self_decode_backlog_seconds", ("region",), "How far the probe's decoding is behind arrival.", "seconds"),
    _gauge("self_run_delay_ratio", ("region",), "Share of time the probe's threads were runnable and not running.", "ratio"),
    _gauge("self_throttled_ratio", ("region",), "Share of time the probe's CPU quota held it back.", "ratio"),
    _gauge("self_pressure_ratio", ("region",), "Share of time anybody on the probe's machine waited for a CPU.", "ratio"),
    _counter("self_health_samples_total", ("region", "tainted"), "The probe's looks at itself."),
    _counter("self_observations_total", (), "Observations taken in."),
    _counter("self_observations_dropped_total", ("kind",), "Observations a sink could not take, by sink."),
    _gauge("self_series", (), "Series that exist in this process, a histogram's each counted."),
    _counter("self_series_refused_total", ("kind",), "What was to be counted in series beyond the limit, by metric."),
    _gauge("self_agent_info", ("region",), "1: an agent looks at platforms from here."),
    _gauge("self_start_time_seconds", ("region",), "When this agent began, Unix time.", "seconds"),
    _histogram("self_agent_lag_seconds", ("region",), "How late the agent's own loop was.", LAG_BUCKETS),
    _histogram("self_run_late_seconds", ("scenario",), "How long after its time a scheduled run began.", START_BUCKETS),
    _counter("self_runs_due_total", ("scenario",), "Runs that the schedule asked for."),
    _counter("self_runs_missed_total", ("scenario", "kind"), "Runs due that were not begun, by why."),
    _gauge("self_runs_in_flight", ("scenario",), "Runs under way."),
    _counter("self_worker_crashes_total", ("kind",), "Workers that ended in the middle of a run, by what ended them."),
    _gauge("self_workers_ready", ("region",), "Worker processes that are warm and wait."),
    _gauge("self_reload_success", ("region",), "1: the configuration in force is the one in the file; 0: that was refused."),
    _gauge("self_reload_time_seconds", ("region",), "When a configuration was last taken, Unix time.", "seconds"),
    _gauge("self_spool_bytes", ("kind",), "What waits on disk, by what it is.", "bytes"),
    _gauge("self_spool_items", ("kind",), "Items that wait on disk, by what they are."),
    _counter(
        "self_spool_passed_total",
        ("kind", "outcome"),
        "Items taken (put), met at the start (recovered) and delivered (done): put + recovered = done + dropped + waiting.",
    ),
    _counter("self_spool_dropped_total", ("kind", "class"), "Items that were lost, by why."),
    _gauge("self_telemetry_up", ("kind",), "1: the collector took the last it was sent; 0: it did not."),
    _counter("self_telemetry_sent_total", ("kind",), "Spans and data points that the collector took."),
    _counter("self_telemetry_rejected_total", ("kind",), "Spans and data points that it said it left out of what it took."),
    _counter("self_traces_total", ("outcome",), "Traces of runs: kept, or left out by sampling."),
    _gauge("self_store_behind", ("region",), "Records that are not in the database yet."),
    _counter("self_store_errors_total", ("region",), "Failed attempts to write records into the database."),
    _counter("self_http_requests_total", ("class",), "Requests that the agent's HTTP service answered, by class of status."),
    _counter("self_http_dropped_total", ("kind",), "Connections that its HTTP service closed on a client, by why."),
)

METRICS: dict[str, Metric] = {m.name: m for m in _ALL}
