"""/metrics: OpenMetrics with exemplars or the classic text, whichever the scraper prefers.

Written down in a thread, one rendering at a time, and shared by all who ask while it is made. A rendering lives as long as
somebody reads it; with `LIVE` of them alive (clients that read slowly, or not at all) newcomers get the newest there is, which is
at most as old as the time a client has to read.
"""

from __future__ import annotations

import asyncio
import logging
import weakref

from aiohttp import web
from prometheus_client import CollectorRegistry

from probe.agent.service.answer import Answer, compressed, plain, takes_gzip, weights
from probe.export.exposition import CLASSIC_TYPE, OPENMETRICS_TYPE, classic, openmetrics_text

_log = logging.getLogger(__name__)
LIVE = 8
Form = tuple[bool, bool]  # OpenMetrics, gzip


class Scrapes:
    """Renderings are tasks of `group`."""

    def __init__(self, registry: CollectorRegistry, group: asyncio.TaskGroup) -> None:
        self._registry, self._group = registry, group
        self._one = asyncio.Lock()
        self._under_way: dict[Form, asyncio.Task[Answer]] = {}
        self._live: weakref.WeakSet[Answer] = weakref.WeakSet()
        self._newest: dict[Form, weakref.ref[Answer]] = {}

    async def answer(self, request: web.Request) -> Answer:
        form = (wants_openmetrics(request), takes_gzip(request))
        task = self._under_way.get(form)
        if task is None:
            newest = self._newest[form]() if form in self._newest else None
            if newest is not None and len(self._live) >= LIVE:
                return newest
            task = self._under_way[form] = self._group.create_task(self._render(form), name="metrics")
        return await asyncio.shield(task)

    async def _render(self, form: Form) -> Answer:
        try:
            async with self._one:
                answer = await asyncio.to_thread(_rendered, self._registry, form)
        except Exception:
            _log.exception("the metrics could not be written down")
            return plain(500)
        finally:
            del self._under_way[form]
        self._live.add(answer)
        self._newest[form] = weakref.ref(answer)
        return answer


def _rendered(registry: CollectorRegistry, form: Form) -> Answer:
    wanted, gzipped = form
    text, kind = (openmetrics_text(registry), OPENMETRICS_TYPE) if wanted else (classic(registry), CLASSIC_TYPE)
    body = text.encode()
    return Answer(compressed(body), kind, headers={"Content-Encoding": "gzip"}) if gzipped else Answer(body, kind)


def wants_openmetrics(request: web.Request) -> bool:
    """Whether its Accept names OpenMetrics, and not below the classic text."""
    found: dict[str, float] = {}
    for name, weight in weights(request.headers.get("Accept", "")):
        found[name] = max(found.get(name, 0.0), weight)
    openmetrics = found.get("application/openmetrics-text", 0.0)
    return openmetrics > 0 and openmetrics >= found.get("text/plain", 0.0)
