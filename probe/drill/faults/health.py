"""Whether what was brought back also answers: a TCP connection, an HTTP request; each bounded to a second.

Two lines of a drill file, for targets whose process being there says too little: one that is still loading, or that hangs.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from pydantic import AfterValidator
from yarl import URL

from probe.decide.asking import Away, ask, session

WITHIN = 1.0
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", re.ASCII)


def _place(text: str) -> str:
    found = _PLACE.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError("is no place to connect to; write host:port, such as 127.0.0.1:1935")
    return text


def plain_url(text: str) -> str:
    """An http or https address without a password in it: it is written to ledgers and pages."""
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("is not an address; write http://host:port/path") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("is not an address; write http://host:port/path")
    if url.user is not None or url.password is not None:
        raise ValueError("holds a password, and would be written to the ledger; give an address without one")
    return text


Place = Annotated[str, AfterValidator(_place)]
PlainUrl = Annotated[str, AfterValidator(plain_url)]


async def ailment(tcp: str | None, http: str | None) -> str:
    """What is amiss, in words; empty where all that is given answers."""
    if tcp is not None:
        host, _, port = tcp.rpartition(":")
        try:
            async with asyncio.timeout(WITHIN):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.transport.abort()
        except TimeoutError:
            return f"{tcp} does not answer within {WITHIN:g} s"
        except OSError as error:
            return f"{tcp} cannot be reached: {error.strerror or type(error).__name__}"
    if http is not None:
        try:
            async with session() as client:
                status = (await ask(client, "GET", http, {}, WITHIN)).status
        except Away as why:
            return f"{http}: {why}"
        if not 200 <= status < 300:
            return f"{http} answered {status}"
    return ""
