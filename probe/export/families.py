"""The table of `model/metrics.py` as live Prometheus metrics, and the bounds on what may become a label.

A label value that a server chose (an edge's name, a rendition) is cut to a plain short word, and each scenario may have
twenty of them; what comes later is `other`. No value that is not a finite number is ever observed: one NaN poisons a
month of ratios. And there is an end to all series together: a mistake in a scenario, or a platform that finds a way around
the bounds, must not take the agent's memory, or its Prometheus's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry

from probe.clock import SystemClock
from probe.export.series import Buckets, Key, Mark, Number, Series
from probe.model.clock import Clock
from probe.model.metrics import MAX_COLLAPSIBLE, MAX_SERIES, METRICS, OTHER, PREFIX, MetricKind

MAX_LABEL = 64


class Families:
    """Every metric of the table in one registry. Names are given without the prefix. Any thread may call."""

    def __init__(self, registry: CollectorRegistry, clock: Clock | None = None, most: int = MAX_SERIES) -> None:
        self.registry = registry
        self._clock = clock or SystemClock()
        self._most = most
        self._families = {name.removeprefix(PREFIX): Series(metric) for name, metric in METRICS.items()}
        for family in self._families.values():
            registry.register(family)
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._count = 0
        self.touch("self_series", {})
        for name, metric in METRICS.items():
            if not metric.labels:
                self.touch(name.removeprefix(PREFIX), {})

    def touch(self, name: str, labels: Mapping[str, str]) -> None:
        """The series exists from now on, at 0."""
        family = self._families[name]
        if family.metric.kind is MetricKind.HISTOGRAM:
            self._buckets(name, family, labels)
        else:
            self._number(name, family, labels)

    def add(self, name: str, labels: Mapping[str, str], amount: float = 1, trace: str = "") -> None:
        """Count; `trace` becomes the exemplar."""
        if math.isfinite(amount) and amount >= 0:
            family = self._families[name]
            mark = Mark(trace, amount, self._clock.wall().unix_ns) if trace else None
            family.add(self._number(name, family, labels), amount, mark)

    def observe(self, name: str, labels: Mapping[str, str], value: float | None, trace: str = "") -> None:
        """Put a value into a histogram; what was not measured leaves no trace."""
        if value is not None:
            self.observe_all(name, labels, (value,), trace)

    def observe_all(self, name: str, labels: Mapping[str, str], values: Iterable[float], trace: str) -> None:
        """As `observe`, for many values of one series; the series is looked up once."""
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            family = self._families[name]
            family.observe(self._buckets(name, family, labels), finite, trace, self._clock.wall().unix_ns if trace else 0)

    def set(self, name: str, labels: Mapping[str, str], value: float | None) -> None:
        if value is not None and math.isfinite(value):
            self._number(name, self._families[name], labels).value = float(value)

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

    def _number(self, name: str, family: Series, labels: Mapping[str, str]) -> Number:
        key = _key(family, labels)
        if (number := family.numbers.get(key)) is not None:
            return number
        return family.number(key) if self._room(name, family) else Number("")

    def _buckets(self, name: str, family: Series, labels: Mapping[str, str]) -> Buckets:
        key = _key(family, labels)
        if (buckets := family.buckets.get(key)) is not None:
            return buckets
        return family.histogram(key) if self._room(name, family) else Buckets("", len(family.metric.buckets))

    def _room(self, name: str, family: Series) -> bool:
        """Whether there is room for one more; else what is put into it goes nowhere, and that is counted."""
        if self._count + family.weight > self._most:
            refused = self._families["self_series_refused_total"]
            refused.add(refused.number((name,)), 1, None)  # at most one for each metric of the table
            return False
        self._count += family.weight
        self._families["self_series"].number(()).value = float(self._count)
        return True


def _key(family: Series, labels: Mapping[str, str]) -> Key:
    if len(labels) != len(family.metric.labels):
        raise ValueError(f"{family.name} has the labels {family.metric.labels}")
    return tuple(labels[label] for label in family.metric.labels)


def plain(value: str) -> str:
    """A word of at most 64 printable characters; `none` for nothing."""
    word = "".join(c if c.isascii() and (c.isalnum() or c in "._-:/") else "_" for c in value.strip()[:MAX_LABEL])
    return word or "none"
