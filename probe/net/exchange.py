"""One request and its answer as the wire shows them: what goes into RequestDone, and what a caller is given.

`Streaming` is the answer while its body still comes in, `Answer` the whole. Both are bounded by the limit and the
deadline the caller set; neither shows a query, userinfo or token anywhere that is recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from probe.errors import Failure
from probe.model.clock import Clock
from probe.model.observation import RequestDone
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.net import edges, errors
from probe.net.body import Decoder
from probe.net.redact import Redactor

_LONGEST_RECORDED = 300


def recorded(url: URL, redactor: Redactor) -> str:
    """A URL as records may show it: no userinfo, query or fragment, no token, and short."""
    return quoted(redactor.redact(str(url.with_user(None).with_query(None).with_fragment(None))), _LONGEST_RECORDED)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One hop under way; becomes a RequestDone whatever happens to it."""

    service: str
    purpose: str
    method: str
    url: str
    request_id: str
    span_id: str
    parent_span_id: str
    began: int
    status: int = 0
    edge: str = ""  # what the answer names, else the address that was pinned
    cache: str = ""
    size: int = 0
    ended: int | None = None
    failure: Failed | None = None

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        named, self.cache = edges.attribute(headers)
        self.edge = named or self.edge

    def done(self, now: int) -> RequestDone:
        ended = now if self.ended is None else self.ended
        return RequestDone(
            at=ended,
            service=self.service,
            purpose=self.purpose,
            method=self.method,
            url=self.url,
            edge=self.edge,
            cache=self.cache,
            status=self.status,
            size=self.size,
            took=ended - self.began,
            request_id=self.request_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            failure=self.failure,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. `began` is when its first hop was begun (monotonic ns), `took` until the last byte of its body (ns).
    `url` is the final one, as it was asked for; headers are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = field(repr=False)
    request_id: str
    edge: str
    cache: str
    began: int
    took: int
    phase: Phase

    def json(self) -> Any:
        """The body as JSON (RFC 8259, so no NaN). Raises Failure(phase, malformed)."""
        try:
            return json.loads(self.body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            kind = quoted(self.headers.get("Content-Type", "").partition(";")[0].strip(), 60)
            raise Failure(self.phase, "malformed", f"{kind or 'a body without a type'} where JSON was expected") from error


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


class Streaming:
    """An answer whose body still comes in; valid inside `async with client.stream(…)`."""

    def __init__(
        self, response: aiohttp.ClientResponse, url: URL, exchange: Exchange, *, clock: Clock, phase: Phase, limit: int,
        deadline: float, began: int,
    ) -> None:  # fmt: skip
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = str(url)
        self.request_id = exchange.request_id
        self.edge, self.cache = exchange.edge, exchange.cache
        self.began = began
        self._response, self._exchange, self._clock, self._phase, self._deadline = response, exchange, clock, phase, deadline
        self._limit = limit

    async def chunks(self) -> AsyncGenerator[tuple[bytes, int], None]:
        """(bytes, monotonic ns of their arrival). Raises Failure: timeout, closed, reset, too_large, protocol."""
        content = self._response.content
        # One timer for the body, not one for each read: a live stream is read fifty times a second.
        late = asyncio.get_running_loop().call_at(self._deadline, content.set_exception, TimeoutError())
        try:
            decoder = Decoder(self.headers.get("Content-Encoding", ""), self._limit, self._phase)
            declared = self._response.content_length
            if declared is not None and declared > self._limit and self._exchange.method != "HEAD":
                raise Failure(self._phase, "too_large", f"declares {declared} bytes, more than {self._limit}")
            while True:
                try:
                    data = await content.readany()
                except Exception as error:
                    failure = errors.of_exchange(error, self._phase)
                    if failure is None:
                        raise
                    raise failure from errors.scrubbed(error)
                if not data:
                    break
                arrived = self._clock.now()
                self._exchange.size += len(data)
                for piece in decoder.feed(data):
                    yield piece, arrived
            decoder.end()
            self._exchange.ended = self._clock.now()
        except Failure as failure:
            self._exchange.failure = failure.outcome
            raise
        finally:
            late.cancel()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece, _ in self.chunks()])
