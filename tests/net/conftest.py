"""Names for tests: the resolver is the one thing of the network that is scripted here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.net.servers import Authority

Names = dict[str, list[str] | Exception]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the resolver says: name → addresses, taken one list element per lookup where it is a list of lists, or an error."""
    table: Names = {}
    original: Callable[..., Awaitable[Any]] = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def getaddrinfo(loop: Any, host: str, port: int, **options: Any) -> Any:
        if host not in table:
            return await original(loop, host, port, **options)
        found = table[host]
        if isinstance(found, Exception):
            raise found
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, port, 0, 0) if ":" in ip else (ip, port),
            )
            for ip in found
        ]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return table


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
