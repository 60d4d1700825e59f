"""One request to somebody we were told of, bounded in time and in what is read; without redirects, cookies or the environment's
proxies.

What comes back is hostile. What goes wrong is said in words that hold neither the address's query nor a header.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

MOST = 1 << 20  # bytes that are read
_LINE, _FIELD, _FIELDS = 8 * 1024, 16 * 1024, 100


class Away(Exception):
    """No answer that can be used; says why. `late`: it took too long; `nobody`: no one listens there."""

    def __init__(self, why: str, *, late: bool = False, nobody: bool = False) -> None:
        self.late, self.nobody = late, nobody
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Reply:
    """`again`: seconds after which it asks to be asked again, 0 where it does not say."""

    status: int
    body: bytes
    again: float


def session() -> aiohttp.ClientSession:
    """To be closed by who asked for it; bound to the running loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=16, ttl_dns_cache=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        max_line_size=_LINE,
        max_field_size=_FIELD,
        max_headers=_FIELDS,
    )


async def ask(
    client: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str],
    seconds: float,
    body: bytes | None = None,
    most: int = MOST,
) -> Reply:
    """Raises Away where there is no answer within `seconds`, or one of more than `most` bytes."""
    sent = {"Accept-Encoding": "identity", "User-Agent": "stream-probe", **headers}
    try:
        async with asyncio.timeout(seconds):
            async with client.request(method, URL(url), data=body, headers=sent, allow_redirects=False) as response:
                read = bytearray()
                async for piece in response.content.iter_chunked(64 * 1024):
                    read += piece
                    if len(read) > most:
                        raise Away(f"it answered with more than {most // 1024} KiB")
                if 300 <= response.status < 400:
                    raise Away(f"it answered {response.status} and would send us elsewhere; give the address itself")
                return Reply(response.status, bytes(read), _seconds(response.headers.get("Retry-After", "")))
    except TimeoutError:
        raise Away(f"no answer within {seconds:g} s", late=True) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an address or a header that is none
        raise Away(_words(error), nobody=isinstance(error, aiohttp.ClientConnectorError)) from None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0


def _words(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name is not found"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLError():
            return "its certificate is not trusted"
        case aiohttp.ClientConnectorError():
            return _unreached(error.os_error)
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return "its answer broke off"
        case aiohttp.ClientResponseError():
            return "its answer is not HTTP"
        case OSError():
            return _unreached(error)
    return f"cannot be asked: {type(error).__name__}"


def _unreached(error: OSError) -> str:
    return f"cannot be reached: {os.strerror(error.errno) if error.errno else type(error).__name__}"
