"""Metrics as text, and the small endpoint that serves it.

OpenMetrics carries exemplars, the classic format does not, and each scraper says which it takes. Our own metrics we write
down ourselves, from text that is ready: the library takes 30 µs a series, half a second for an agent's at every scrape. What
others have registered is left to it. Of its choice of format we keep the formats and leave the header parsing: ours cannot fail
on a hostile `Accept`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from probe.export.series import Live, Mark, Series, number_text
from probe.model.clock import NS
from probe.model.metrics import MetricKind

CLASSIC_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_END = "# EOF\n"


def classic(registry: CollectorRegistry) -> str:
    """Prometheus text format 0.0.4; no exemplars."""
    out: list[str] = []
    for family in registry.collect():
        if isinstance(family, Live):
            metric = family.series.metric
            out.append(f"# HELP {metric.name} {_escaped(metric.help)}\n# TYPE {metric.name} {metric.kind.value}\n")
            out += _numbers(family.series, marked=False)
            out += _buckets(family.series, marked=False)
        else:
            out.append(exposition.generate_latest(_Only(family)).decode())
    return "".join(out)


def openmetrics_text(registry: CollectorRegistry) -> str:
    """OpenMetrics 1.0.0, with exemplars."""
    out: list[str] = []
    for family in registry.collect():
        if isinstance(family, Live):
            name, metric = family.series.name, family.series.metric
            out.append(f"# HELP {name} {_escaped(metric.help)}\n# TYPE {name} {metric.kind.value}\n")
            if metric.unit:
                out.append(f"# UNIT {name} {metric.unit}\n")
            out += _numbers(family.series, marked=metric.kind is MetricKind.COUNTER)
            out += _buckets(family.series, marked=True)
        else:
            data: bytes = openmetrics.generate_latest(_Only(family))  # type: ignore[no-untyped-call]  # the library's encoder has no types
            out.append(data.decode().removesuffix(_END))
    return "".join([*out, _END])


def _numbers(series: Series, *, marked: bool) -> Iterator[str]:
    name = series.metric.name
    for _, number in series.read_numbers():
        labels = f"{{{number.labels}}}" if number.labels else ""
        mark = _mark(number.mark) if marked else ""
        yield f"{name}{labels} {number_text(number.value)}{mark}\n"


def _buckets(series: Series, *, marked: bool) -> Iterator[str]:
    name = series.metric.name
    bounds = [number_text(bound) for bound in (*series.metric.buckets, math.inf)]
    for _, labels, counts, total, marks in series.read_buckets():
        marks_of = dict(marks) if marked else {}
        comma = "," if labels else ""
        below = 0
        for place, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
            below += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {below}{_mark(marks_of.get(place))}\n'
        braced = f"{{{labels}}}" if labels else ""
        yield f"{name}_count{braced} {below}\n{name}_sum{braced} {number_text(total)}\n"


def _mark(mark: Mark | None) -> str:
    return f' # {{trace_id="{mark.trace_id}"}} {number_text(mark.value)} {mark.at / NS:.3f}' if mark else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


class _Only(Collector):
    """One metric of somebody else's, as a registry that the library can write down."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return [self._family]


@asynccontextmanager
async def serve(registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """`GET /metrics` on `host:port` while the block lasts; yields the port really bound (for 0). OSError where it is taken."""

    async def answer(request: web.Request) -> web.Response:
        wanted = "application/openmetrics-text" in request.headers.get("Accept", "")
        render, kind = (openmetrics_text, OPENMETRICS_TYPE) if wanted else (classic, CLASSIC_TYPE)
        # Thousands of series take tens of milliseconds to write down; on the loop that would be lag in every measurement.
        text = await asyncio.to_thread(render, registry)
        return web.Response(body=text.encode(), headers={"Content-Type": kind})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
