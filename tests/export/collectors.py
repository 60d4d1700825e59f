"""A collector that comes and goes on its port, and answers as it is told to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from probe.export.spans import Span
from tests.peers.otlp import Collector


def spans(number: int, count: int = 3) -> list[Span]:
    """A trace of its own for each number."""
    return [
        Span(
            trace_id=f"{number + 1:032x}",
            span_id=f"{n + 1:016x}",
            parent="" if n == 0 else f"{1:016x}",
            name=f"span {n}",
            start=1_000 + n,
            end=2_000 + n,
            attributes={"n": n, "ratio": 0.5, "ok": True, "text": "a"},
            error="ice/timeout" if n == 1 else None,
            version="1",
        )
        for n in range(count)
    ]


@dataclass
class Visiting:
    """A collector that can be gone for a while and come back on the same port. `answer`: said instead of its own."""

    port: int = 0
    collector: Collector = field(default_factory=Collector)
    snapshots: list[ExportMetricsServiceRequest] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse] | None] | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def come(self, tls: ssl.SSLContext | None = None) -> None:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/{kind}", self._receive)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]

    async def go(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None and (instead := self.answer(request)) is not None:
            return await instead
        body = await request.read()
        if request.match_info["kind"] == "metrics":
            message = ExportMetricsServiceRequest()
            message.ParseFromString(body)
            self.snapshots.append(message)
        return await self.collector.receive(request)

    def points(self, name: str) -> list[Any]:
        """Every point of a metric in the order received."""
        out: list[Any] = []
        for message in self.snapshots:
            for metric in (m for r in message.resource_metrics for s in r.scope_metrics for m in s.metrics):
                if metric.name == name:
                    out += getattr(metric, metric.WhichOneof("data")).data_points
        return out


@asynccontextmanager
async def visiting() -> AsyncIterator[Visiting]:
    """Present at first."""
    visitor = Visiting()
    await visitor.come()
    try:
        yield visitor
    finally:
        await visitor.go()
