"""Sends what waits in a spool to a collector, in order, one at a time, for as long as it takes.

Away, slow, or wrong: the collector's trouble is ours only as a spool that fills. A request has ten seconds; after a failure we
wait, twice as long after each, with jitter, a minute at most, or as long as the collector asks. What it refuses for good is
dropped and counted, and the pace falls just the same: a collector that refuses everything (a wrong path while it is rolled out, a
credential that has expired) costs a payload a minute then, and not all that hours had gathered.

Nothing that a collector sends is logged but a partial success's own words, with our credentials taken out.
"""

from __future__ import annotations

import asyncio
import logging
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TypeVar

import aiohttp
from yarl import URL

from probe.export.otlp_rules import Again, Answer, Refused, Taken, meaning
from probe.export.otlp_spans import Payload
from probe.export.spool import Item, Spool
from probe.export.words import printable
from probe.model.clock import Clock

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
REQUEST_SECONDS = 10.0
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
_IDLE_SECONDS = 5.0
_MOST_ANSWER = 64 << 10
_BATCH = 8
_COUNT = struct.Struct(">I")
_KNOWN = {"content-type": "application/x-protobuf", "content-encoding": "gzip", "accept-encoding": "identity"}


def packed(payload: Payload) -> bytes:
    """A payload as it waits in a spool: compressed, behind its count."""
    return _COUNT.pack(payload.entries) + zlib.compress(payload.body, 6, 31)


class Sender:
    """`headers` is asked before every attempt after a refusal, so that a credential may change; `kind` is traces or metrics."""

    def __init__(
        self,
        kind: str,
        url: URL,
        spool: Spool,
        *,
        session: aiohttp.ClientSession,
        headers: Callable[[], Mapping[str, str]],
        clock: Clock,
        executor: Executor,
    ) -> None:
        self.kind = kind
        self.sent = self.rejected = 0  # spans or points
        self.up: bool | None = None  # None: nothing was sent yet
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._url, self._spool, self._session, self._clock, self._executor = url, spool, session, clock, executor
        self._ask = headers
        self._headers: Mapping[str, str] | None = None
        self._failures = 0
        self._random = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                wait = await self._once()
            except Exception:
                _log.exception("sending %s broke", self.kind)  # a bug of ours; the payload stays
                wait = self._backoff()
            if wait:
                await _set_within(self._hurry, wait)

    def wake(self) -> None:
        """Something was put into the spool."""
        self._wake.set()

    def hurry(self) -> None:
        """Try now, whatever the last failure asks for: there is little time left."""
        self._wake.set()
        self._hurry.set()

    async def _once(self) -> float:
        """Send what there is. Returns how long to wait before the next attempt."""
        self._wake.clear()
        self._hurry.clear()
        items = await self._in_thread(lambda: self._spool.peek(_BATCH))
        if not items:
            await _set_within(self._wake, _IDLE_SECONDS)  # no longer: a disk that would not be read may be by now
            return 0.0
        for item in items:
            answer = await self._send(item)
            if wait := await self._judged(item, answer):
                return wait
        return 0.0

    async def _judged(self, item: Item, answer: Answer) -> float:
        match answer:
            case Taken(rejected, message):
                await self._in_thread(lambda: self._spool.done([item.id]))
                self.sent += max(0, _counted(item) - rejected)
                self.rejected += rejected
                if message or rejected:
                    _log.warning("the collector left out %d of %s: %s", rejected, self.kind, self._clean(message))
                if not self.up:
                    _log.info("%s are sent to %s; %d payloads wait", self.kind, self._url.origin(), self._spool.count)
                self.up, self._failures = True, 0
                return 0.0
            case Again(why, after):
                self._down(why)
                return max(after, self._backoff())
            case Refused(why):
                await self._in_thread(lambda: self._spool.drop([item.id], why))
                self._down(f"{why}: {_counted(item)} of them were refused for good")
                self._headers = None
                return self._backoff()

    async def _send(self, item: Item) -> Answer:
        if self._headers is None:
            try:
                given = await asyncio.to_thread(self._ask)  # a vault's command may last: not in the thread that encodes
                self._headers = {**{name.lower(): value for name, value in given.items()}, **_KNOWN}
            except Exception as error:
                return Again(f"a header's secret cannot be read ({type(error).__name__})")
        try:
            async with self._session.post(
                self._url,
                data=item.payload[_COUNT.size :],
                headers=self._headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as answer:
                body = await _bounded(answer)
                return meaning(self.kind, answer.status, answer.headers, body, self._clock.wall().unix_ns)
        except TimeoutError:
            return Again(f"no answer within {REQUEST_SECONDS:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Whatever stands in its text may be the collector's; the kind of error says enough.
            return Again(_named(error))

    def _down(self, why: str) -> None:
        if self.up is not False or self._failures == 0:
            _log.warning("%s wait: %s (%s)", self.kind, self._clean(why), self._url.origin())
        self.up = False

    def _backoff(self) -> float:
        self._failures += 1
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures - 1, 10)) * self._random.uniform(0.5, 1.0)

    def _clean(self, text: str) -> str:
        for name, value in (self._headers or {}).items():
            if name not in _KNOWN and value:
                text = text.replace(value, "[redacted]")
        return printable(text, 200)

    async def _in_thread(self, what: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, what)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def _bounded(answer: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is longer than 64 KiB."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MOST_ANSWER:
            return None
    return bytes(body)


def _counted(item: Item) -> int:
    return int(_COUNT.unpack_from(item.payload)[0]) if len(item.payload) >= _COUNT.size else 0


def _named(error: Exception) -> str:
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    return ": ".join(filter(None, (type(error).__name__, said)))
