"""A metric's series, held so that writing them down is cheap.

An agent has some fifteen thousand series, nearly all of which stand still, and is asked for all of them every few seconds. The
library's own children take 30 µs each to collect and write as text; ours keep their labels as the text they end in, and a
number. To `prometheus_client` a metric here is a collector like any other, whose samples are made when somebody asks for them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from probe.model.clock import NS
from probe.model.metrics import Metric, MetricKind

Key = tuple[str, ...]


class Mark(NamedTuple):
    """An exemplar: the trace that a value came from, and when (Unix ns)."""

    trace_id: str
    value: float
    at: int


class Number:
    """A counter's or a gauge's series."""

    __slots__ = ("labels", "mark", "value")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.value = 0.0
        self.mark: Mark | None = None


class Buckets:
    """A histogram's series: how many values lie in each bucket (the last has no bound), and their sum."""

    __slots__ = ("counts", "labels", "marks", "total")

    def __init__(self, labels: str, buckets: int) -> None:
        self.labels = labels
        self.counts = [0] * (buckets + 1)
        self.total = 0.0
        self.marks: dict[int, Mark] = {}


class Series(Collector):
    """All series of one metric of the table. Any thread may write and read."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.name = metric.name.removesuffix("_total") if metric.kind is MetricKind.COUNTER else metric.name
        self.numbers: dict[Key, Number] = {}
        self.buckets: dict[Key, Buckets] = {}
        self.weight = len(metric.buckets) + 3 if metric.kind is MetricKind.HISTOGRAM else 1  # series in Prometheus's sense
        self._lock = Lock()

    def number(self, key: Key) -> Number:
        """A new one, or the one there is."""
        with self._lock:
            return self.numbers.setdefault(key, Number(self.text(key)))

    def histogram(self, key: Key) -> Buckets:
        """A new one, or the one there is."""
        with self._lock:
            return self.buckets.setdefault(key, Buckets(self.text(key), len(self.metric.buckets)))

    def text(self, key: Key) -> str:
        """Labels as both text formats write them, without braces."""
        escaped = (value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for value in key)
        return ",".join(f'{label}="{value}"' for label, value in zip(self.metric.labels, escaped, strict=True))

    def add(self, number: Number, amount: float, mark: Mark | None) -> None:
        with self._lock:
            number.value += amount
            if mark is not None:
                number.mark = mark

    def observe(self, buckets: Buckets, values: Iterable[float], trace_id: str, at: int) -> None:
        """`trace_id` may be empty."""
        with self._lock:
            for value in values:
                place = bisect_left(self.metric.buckets, value)
                buckets.counts[place] += 1
                buckets.total += value
                if trace_id:
                    buckets.marks[place] = Mark(trace_id, value, at)

    def read_numbers(self) -> list[tuple[Key, Number]]:
        """Those there are; a number may move on while it is read."""
        with self._lock:
            return list(self.numbers.items())

    def read_buckets(self) -> list[tuple[Key, str, list[int], float, list[tuple[int, Mark]]]]:
        """(key, labels, counts, sum, exemplars by bucket) of each as it was at one instant."""
        with self._lock:
            return [(k, b.labels, b.counts.copy(), b.total, list(b.marks.items())) for k, b in self.buckets.items()]

    def collect(self) -> Iterable[Family]:
        return [Live(self)]

    def describe(self) -> Iterable[Family]:
        return [Family(self.name, self.metric.help, self.metric.kind.value, self.metric.unit)]


class Live(Family):
    """What the library sees of a metric. Our own writers take `series` and make no samples."""

    def __init__(self, series: Series) -> None:
        self.series = series
        super().__init__(series.name, series.metric.help, series.metric.kind.value, series.metric.unit)

    @property
    def samples(self) -> list[Sample]:
        labels, name = self.series.metric.labels, self.series.metric.name
        out = [
            Sample(name, dict(zip(labels, key, strict=True)), number.value, None, _exemplar(number.mark))
            for key, number in self.series.read_numbers()
        ]
        for key, _, counts, total, marks in self.series.read_buckets():
            named = dict(zip(labels, key, strict=True))
            exemplars = dict(marks)
            below = 0
            for place, (bound, count) in enumerate(zip((*self.series.metric.buckets, math.inf), counts, strict=True)):
                below += count
                le = {**named, "le": number_text(bound)}
                out.append(Sample(f"{name}_bucket", le, below, None, _exemplar(exemplars.get(place))))
            out += [Sample(f"{name}_count", named, below), Sample(f"{name}_sum", named, total)]
        return out

    @samples.setter
    def samples(self, _: list[Sample]) -> None:
        """The library begins with an empty list."""


def number_text(value: float) -> str:
    """A number as both text formats write it."""
    return str(floatToGoString(value)) if value else "0.0"  # type: ignore[no-untyped-call]  # the library's


def _exemplar(mark: Mark | None) -> Exemplar | None:
    return Exemplar({"trace_id": mark.trace_id}, mark.value, mark.at / NS) if mark else None
