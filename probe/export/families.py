"""The table of `model/metrics.py` as live Prometheus metrics, and the bounds on what may become a label.

A label value that a server chose (an edge's name, a rendition) is cut to a plain short word, and each scenario may have
twenty of them; what comes later is `other`. No value that is not a finite number is ever observed: one NaN poisons a
month of ratios. The library's `_created` series are switched off for the process: they are not in the table, and
Prometheus does not need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from probe.model.metrics import MAX_COLLAPSIBLE, METRICS, OTHER, PREFIX, Metric, MetricKind

MAX_LABEL = 64


class Families:
    """Every metric of the table in one registry. Names are given without the prefix."""

    def __init__(self, registry: CollectorRegistry) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self._families: dict[str, Counter | Gauge | Histogram] = {
            name.removeprefix(PREFIX): _family(metric, registry) for name, metric in METRICS.items()
        }
        self._seen: dict[tuple[str, str], set[str]] = {}

    def touch(self, name: str, labels: Mapping[str, str]) -> None:
        """The series exists from now on, at 0."""
        self._child(name, labels)

    def add(self, name: str, labels: Mapping[str, str], amount: float = 1, trace: str = "") -> None:
        """Count; `trace` becomes the exemplar."""
        if math.isfinite(amount) and amount >= 0:
            self._child(name, labels).inc(amount, _exemplar(trace))

    def observe(self, name: str, labels: Mapping[str, str], value: float | None, trace: str = "") -> None:
        """Put a value into a histogram; what was not measured leaves no trace."""
        if value is not None and math.isfinite(value):
            self._child(name, labels).observe(value, _exemplar(trace))

    def observe_all(self, name: str, labels: Mapping[str, str], values: Iterable[float], trace: str) -> None:
        """As `observe`, for many values of one series; the series is looked up once."""
        child = self._child(name, labels)
        exemplar = _exemplar(trace)
        for value in values:
            if math.isfinite(value):
                child.observe(value, exemplar)

    def set(self, name: str, labels: Mapping[str, str], value: float | None) -> None:
        if value is not None and math.isfinite(value):
            self._child(name, labels).set(value)

    def collapse(self, scope: str, label: str, value: str) -> tuple[str, bool]:
        """The value as a label, and whether it is new to this scope; `other` beyond twenty."""
        value = plain(value)
        seen = self._seen.setdefault((scope, label), set())
        if value in seen:
            return value, False
        if len(seen) >= MAX_COLLAPSIBLE:
            return OTHER, False
        seen.add(value)
        return value, True

    def _child(self, name: str, labels: Mapping[str, str]) -> Any:
        family = self._families[name]
        return family.labels(**labels) if labels else family


def plain(value: str) -> str:
    """A word of at most 64 printable characters; `none` for nothing."""
    word = "".join(c if c.isascii() and (c.isalnum() or c in "._-:/") else "_" for c in value.strip()[:MAX_LABEL])
    return word or "none"


def _exemplar(trace: str) -> dict[str, str] | None:
    return {"trace_id": trace} if trace else None


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match metric.kind:
        case MetricKind.COUNTER:
            return Counter(metric.name, metric.help, metric.labels, unit=metric.unit, registry=registry)
        case MetricKind.GAUGE:
            return Gauge(metric.name, metric.help, metric.labels, unit=metric.unit, registry=registry)
        case MetricKind.HISTOGRAM:
            return Histogram(metric.name, metric.help, metric.labels, unit=metric.unit, registry=registry, buckets=metric.buckets)
