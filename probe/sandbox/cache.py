"""An edge's cache and its way to the origin. Requests for one thing at one time are one request to the origin.

A fetch belongs to nobody: whoever began it may leave, and those who came after are served all the same. What it may cost is
bounded: bytes, seconds, things kept. Refusals are not kept, but all who waited for one get it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.context import Platform
from probe.sandbox.web import Refused

KEPT = 128
LARGEST = 16 * 1024 * 1024
LONGEST = 35.0  # seconds: the origin holds a blocking request for three target durations


@dataclass(frozen=True, slots=True)
class Kept:
    body: bytes
    content_type: str
    stored: int


class Cache:
    """`get` answers what is kept or fetches it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._coming: dict[str, asyncio.Future[Kept | Refused]] = {}
        self._origin: aiohttp.ClientSession | None = None

    async def connect(self, app: web.Application) -> AsyncIterator[None]:
        """Hold connections to the origin while the app runs."""
        timeout = aiohttp.ClientTimeout(total=LONGEST)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as self._origin:
            yield

    async def get(self, platform: Platform, path: str, kept_ns: int, headers: Mapping[str, str]) -> tuple[Kept, bool]:
        """What the origin has at `path` (with its query), at most `kept_ns` old, and whether it was here already, or on its
        way for somebody else. Raises Refused."""
        kept = self._kept.get(path)
        if kept is not None and platform.clock.now() - kept.stored < kept_ns:
            return kept, True
        coming = self._coming.get(path)
        first = coming is None
        if coming is None:
            coming = self._coming[path] = asyncio.get_running_loop().create_future()
            platform.spawn(self._fetch(platform, path, headers, coming), "an edge's fetch")
        answer = await asyncio.shield(coming)
        if isinstance(answer, Refused):
            raise answer
        return answer, not first

    async def _fetch(
        self, platform: Platform, path: str, headers: Mapping[str, str], coming: asyncio.Future[Kept | Refused]
    ) -> None:
        answer: Kept | Refused = Refused(502, "origin")
        try:
            answer = await self._ask(platform, path, headers)
        finally:
            del self._coming[path]
            coming.set_result(answer)

    async def _ask(self, platform: Platform, path: str, headers: Mapping[str, str]) -> Kept | Refused:
        assert self._origin is not None
        try:
            async with self._origin.get(f"{platform.config.url('main')}/origin/{path}", headers=headers) as answer:
                if answer.status != 200:
                    return Refused(answer.status, "origin")
                body = await answer.content.read(LARGEST)
                while not answer.content.at_eof() and len(body) < LARGEST:
                    body += await answer.content.read(LARGEST - len(body))
                kept = self._kept[path] = Kept(body, answer.content_type, platform.clock.now())
        except (aiohttp.ClientError, TimeoutError):
            return Refused(502, "origin")
        self._kept.move_to_end(path)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept


def seconds_old(kept: Kept, now: int) -> int:
    """For `Age` (RFC 9111)."""
    return (now - kept.stored) // NS
