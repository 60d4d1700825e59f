"""What a handler answers with, and how it goes out: in pieces to a reader that takes them, or not at all.

A client that never reads costs what the kernel buffers and one piece beside the shared bytes of the page; after `SENDING` it is
dropped. Every answer carries the headers that keep a page from doing anything but being read.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web

SENDING = 30.0  # s for all of an answer
PIECE = 64 * 1024
TEXT, HTML, JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Accept-Encoding",
    "Server": "stream-probe",
}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Answer:
    """A body that says its Content-Encoding goes out as it is."""

    body: bytes
    kind: str = TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refuse(Exception):
    """An answer that is a refusal: a status and one line for people, which repeats nothing of what was sent."""

    def __init__(self, status: int, words: str, headers: Mapping[str, str] | None = None) -> None:
        self.answer = line(status, words, headers)
        super().__init__(words)


def line(status: int, words: str, headers: Mapping[str, str] | None = None) -> Answer:
    """One line of text."""
    return Answer(f"{words}\n".encode(errors="replace"), TEXT, status, headers or {})


def plain(status: int) -> Answer:
    """What the status itself says."""
    return line(status, f"{status} {HTTPStatus(status).phrase}")


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """NaN is a bug of whoever made the value."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Answer(text.encode(errors="replace") + b"\n", JSON, status, headers or {})


async def send(request: web.Request, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send all of it within `SENDING`. Raises TimeoutError where the client does not take it, ConnectionError where it left."""
    body, encoding = await _encoded(request, answer)
    response = web.StreamResponse(status=answer.status, headers={**SECURITY, **answer.headers, **headers})
    response.headers["Content-Type"] = answer.kind
    if encoding:
        response.headers["Content-Encoding"] = encoding
    response.content_length = len(body)
    async with asyncio.timeout(SENDING):
        writer = await response.prepare(request)
        if request.method != "HEAD":
            view = memoryview(body)
            for start in range(0, len(body), PIECE):
                await response.write(view[start : start + PIECE])
                await asyncio.sleep(0)  # the kernel may take all of it at once, and from many clients
        await response.write_eof()
        # Small answers too wait for what went before them: who asks and asks and never reads would fill our memory.
        if writer is not None:
            await writer.drain()
    return response


async def _encoded(request: web.Request, answer: Answer) -> tuple[bytes, str]:
    if len(answer.body) < 1024 or "Content-Encoding" in answer.headers or not takes_gzip(request):
        return answer.body, ""
    return await asyncio.to_thread(compressed, answer.body), "gzip"


def compressed(body: bytes) -> bytes:
    """Gzip at a level that costs less than it saves on a local network."""
    return gzip.compress(body, 3, mtime=0)


def takes_gzip(request: web.Request) -> bool:
    """Whether its Accept-Encoding names gzip and does not refuse it."""
    accepted = weights(request.headers.get("Accept-Encoding", ""))
    return any(name in ("gzip", "x-gzip") and weight > 0 for name, weight in accepted)


def weights(header: str) -> list[tuple[str, float]]:
    """The names of an Accept header (media type parameters left out) with their weights, of at most 64 items; cannot fail."""
    found = []
    for item in header.split(",")[:64]:
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name:
            found.append((name, weight if 0 <= weight <= 1 else 0.0))
    return found
