"""Metrics as text, and the small endpoint that serves it.

OpenMetrics carries exemplars, the classic format does not, and each scraper says which it takes. Of the library's choice of
encoder we keep the formats and leave the header parsing: ours cannot fail on a hostile `Accept`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics

CLASSIC_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def classic(registry: CollectorRegistry) -> str:
    """Prometheus text format 0.0.4; no exemplars."""
    return exposition.generate_latest(registry).decode()


def openmetrics_text(registry: CollectorRegistry) -> str:
    """OpenMetrics 1.0.0, with exemplars."""
    data: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    return data.decode()


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
