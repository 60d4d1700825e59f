"""A registry's metrics as OTLP: cumulative sums, gauges and histograms with explicit buckets, each snapshot with its own time.

An agent has thousands of series, and nearly all of a data point (its attributes, its start, its bounds) never changes; the SDK
takes some 50 µs to encode one, which every 15 s would cost more than all else an idle agent does. So the SDK's encoder writes
each series once, without its value, and a snapshot appends the fields that move: in protobuf's wire format a message is its
fields one after another, in any order. Some 2 µs a point are left. No field is written twice: a collector's decoder takes the
last of two embedded messages whole, where the specification would have them merged.

Names stay Prometheus's, units become UCUM's, which a Prometheus that takes OTLP turns back into the same names. The sums start
when this process did. Exemplars are told once, with the snapshot that follows them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb2
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry

from probe.export.otlp_spans import Payload
from probe.export.series import Key, Live, Mark, Series
from probe.model.metrics import MetricKind

_MOST_POINTS = 5000  # of one request
_MOST_NEW = 500  # encoded in one go: the encoder's C code lets no other thread run meanwhile
_UNITS = {"seconds": "s", "bytes": "By", "bytes_per_second": "By/s", "ratio": "1"}
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("probe")
# Field numbers of opentelemetry-proto's messages.
_RESOURCE_METRICS, _RESOURCE, _SCOPE_METRICS, _METRICS, _POINTS = 1, 1, 2, 2, 1
_DATA = {MetricKind.GAUGE: 5, MetricKind.COUNTER: 7, MetricKind.HISTOGRAM: 9}
_NUMBER = struct.Struct("<BQBd")  # of NumberDataPoint: time (3, fixed64) and value (4, double)
_TIME_TAG, _DOUBLE_TAG = 3 << 3 | 1, 4 << 3 | 1


class Snapshots:
    """Takes snapshots of those metrics of `registry` that are of our table. `resource` describes this process, `start` is when
    its counting began (Unix ns). CPU only, tens of milliseconds of it: call it in a thread, one call at a time."""

    def __init__(self, registry: CollectorRegistry, resource: Mapping[str, str], start: int) -> None:
        self._registry = registry
        self._resource = Resource(dict(resource))
        self._start = start
        self._told = start  # exemplars until then
        self._points: dict[str, dict[Key, bytes]] = {}
        self._heads: dict[str, tuple[bytes, bytes]] = {}  # name, unit and help; temporality and monotonicity
        (of_nothing,) = self._encoded([]).resource_metrics
        self._about = _field(_RESOURCE, of_nothing.resource.SerializeToString())
        self._scope = of_nothing.scope_metrics[0].SerializeToString()

    def take(self, now: int) -> list[Payload]:
        """All series as they are, in one or more requests, at Unix time `now` in ns."""
        if now < self._start:  # the clock was put back to before we began: nothing ends before its beginning
            self._start = now
            self._points.clear()
        out: list[Payload] = []
        metrics: list[bytes] = []
        count = 0
        for series in (family.series for family in self._registry.collect() if isinstance(family, Live)):
            points = self._histograms(series, now) if series.metric.buckets else self._numbers(series, now)
            for n in range(0, len(points), _MOST_POINTS):
                batch = points[n : n + _MOST_POINTS]
                if count + len(batch) > _MOST_POINTS:
                    out.append(self._payload(count, metrics))
                    count, metrics = 0, []
                metrics.append(self._metric(series, batch))
                count += len(batch)
        if metrics:
            out.append(self._payload(count, metrics))
        self._told = now
        return out

    def _payload(self, count: int, metrics: Sequence[bytes]) -> Payload:
        scope = _field(_SCOPE_METRICS, self._scope + b"".join(metrics))
        return Payload(count, _field(_RESOURCE_METRICS, self._about + scope))

    def _metric(self, series: Series, points: Sequence[bytes]) -> bytes:
        head, how = self._heads[series.metric.name]
        data = b"".join(_field(_POINTS, point) for point in points) + how
        return _field(_METRICS, head + _field(_DATA[series.metric.kind], data))

    def _numbers(self, series: Series, now: int) -> list[bytes]:
        numbers = series.read_numbers()
        known = self._learnt(series, [key for key, _ in numbers])
        points = []
        for key, number in numbers:
            point = known[key] + _NUMBER.pack(_TIME_TAG, now, _DOUBLE_TAG, number.value)
            if number.mark is not None and number.mark.at > self._told:
                point += pb2.NumberDataPoint(exemplars=[_exemplar(number.mark)]).SerializeToString()
            points.append(point)
        return points

    def _histograms(self, series: Series, now: int) -> list[bytes]:
        histograms = series.read_buckets()
        known = self._learnt(series, [key for key, *_ in histograms])
        points = []
        for key, _, counts, total, marks in histograms:
            exemplars = [_exemplar(mark) for _, mark in marks if mark.at > self._told]
            moving = pb2.HistogramDataPoint(
                time_unix_nano=now, count=sum(counts), sum=total, bucket_counts=counts, exemplars=exemplars
            )
            points.append(known[key] + moving.SerializeToString())
        return points

    def _learnt(self, series: Series, keys: Sequence[Key]) -> dict[Key, bytes]:
        """What never changes of each point; those that are new are encoded now."""
        metric = series.metric
        known = self._points.setdefault(metric.name, {})
        unknown = [key for key in keys if key not in known]
        for n in range(0, len(unknown), _MOST_NEW):
            new = unknown[n : n + _MOST_NEW]
            described = Metric(metric.name, metric.help, _UNITS.get(metric.unit, metric.unit), self._bare(series, new))
            (encoded,) = self._encoded([described]).resource_metrics[0].scope_metrics[0].metrics
            field = encoded.WhichOneof("data")
            data = getattr(encoded, field)
            for key, point in zip(new, data.data_points, strict=True):
                point.ClearField("sum" if metric.buckets else "value")
                known[key] = point.SerializeToString()
            del data.data_points[:]
            how = data.SerializeToString()
            encoded.ClearField(field)
            self._heads[metric.name] = (encoded.SerializeToString(), how)
        return known

    def _bare(self, series: Series, keys: Sequence[Key]) -> Sum | Gauge | Histogram:
        """Points without time and value. A gauge has no start."""
        labels = [dict(zip(series.metric.labels, key, strict=True)) for key in keys]
        match series.metric.kind:
            case MetricKind.COUNTER:
                return Sum([NumberDataPoint(of, self._start, 0, 0.0) for of in labels], _CUMULATIVE, is_monotonic=True)
            case MetricKind.GAUGE:
                return Gauge([NumberDataPoint(of, 0, 0, 0.0) for of in labels])
            case MetricKind.HISTOGRAM:
                return Histogram([self._bare_histogram(of, series.metric.buckets) for of in labels], _CUMULATIVE)
            case never:
                assert_never(never)

    def _bare_histogram(self, labels: dict[str, str], bounds: Sequence[float]) -> HistogramDataPoint:
        nothing: Any = None  # neither least nor greatest is known; the encoder leaves them out
        return HistogramDataPoint(labels, self._start, 0, 0, 0.0, [], bounds, nothing, nothing)

    def _encoded(self, metrics: Sequence[Metric]) -> ExportMetricsServiceRequest:
        return encode_metrics(MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(_SCOPE, metrics, "")], "")]))


def _exemplar(mark: Mark) -> pb2.Exemplar:
    return pb2.Exemplar(time_unix_nano=mark.at, as_double=mark.value, trace_id=bytes.fromhex(mark.trace_id))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    size = len(payload)
    head = bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + payload
