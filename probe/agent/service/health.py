"""/healthz, /readyz, /-/reload and the index page.

Health is answered to everybody, since a kubelet carries no password; why it is not well only to those whom we know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web

from probe.agent.service.answer import Answer, line, plain
from probe.agent.service.auth import KNOWN
from probe.agent.service.pages import Pages
from probe.agent.service.query import query
from probe.agent.service.view import View
from probe.clock import SystemClock
from probe.export.words import printable


class Health:
    """`troubles`: the service's own."""

    def __init__(self, view: View, pages: Pages, clock: SystemClock, troubles: Callable[[], Sequence[str]]) -> None:
        self._view, self._pages, self._clock, self._troubles = view, pages, clock, troubles
        self._reloading = asyncio.Lock()

    async def alive(self, request: web.Request) -> Answer:
        why = self._view.not_alive()
        return _said([why] if why else [], "ok", request)

    async def ready(self, request: web.Request) -> Answer:
        return _said(self._not_ready(), "ready", request)

    async def reload(self, request: web.Request) -> Answer:
        """As Prometheus: nothing to say where it is taken, 500 with the reasons where it is not."""
        if request.method not in ("POST", "PUT"):
            return line(405, "only POST or PUT reloads", {"Allow": "POST, PUT"})
        async with self._reloading:
            refused = await self._view.reload()
        if refused:
            return line(500, "\n".join(["failed to reload the configuration:", *(printable(why, 600) for why in refused[:100])]))
        return Answer(b"")

    async def index(self, request: web.Request) -> Answer:
        query(request)
        return await self._pages.page(
            "index",
            about=self._view.about(),
            alive=self._view.not_alive(),
            troubles=self._not_ready(),
            schedules=self._view.schedules(),
            gates=self._view.gates("", ""),
            now=self._clock.system(),
        )

    def _not_ready(self) -> list[str]:
        return [*self._view.not_ready(), *self._troubles()]


def _said(why: Sequence[str], well: str, request: web.Request) -> Answer:
    if not why:
        return line(200, well)
    return line(503, "\n".join(printable(one, 600) for one in why[:100])) if request[KNOWN] else plain(503)
