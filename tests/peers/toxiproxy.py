"""A real Toxiproxy server, on loopback: proxies whose connections can be made slow, cut or refused over its REST API."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.peers import golang
from tests.tools import Child, free_port, missing, spawn, wait_until


@dataclass
class Toxiproxy:
    """A server at `url`; it forgets its proxies when it is started anew."""

    binary: Path
    folder: Path
    port: int
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """On the same port again, where it ran before."""
        command: list[str | Path] = [self.binary, "-host", "127.0.0.1", "-port", str(self.port)]
        self.child = self._stack.enter_context(spawn(command, self.folder / "log"))
        await wait_until(self._answers, 10, "an answer of Toxiproxy")

    def stop(self) -> None:
        self._stack.close()
        self.child = None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; AssertionError where it is refused."""
        async with aiohttp.ClientSession() as http, http.request(method, f"{self.url}{path}", json=body) as answer:
            assert answer.status < 300, f"{method} {path}: {answer.status} {await answer.text()}"
            return await answer.json() if answer.status != 204 else None

    async def proxy(self, name: str, upstream: str) -> str:
        """A new one; the host:port it listens on."""
        made = await self.ask("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream})
        return str(made["listen"])

    async def _answers(self) -> bool:
        assert self.child is not None and self.child.running(), "Toxiproxy has ended"
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/version") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Toxiproxy]:
    """The server, built if it was not; stopped at the end. Without Go the test skips."""
    binary = golang.build(golang.TOXIPROXY)  # instant where nothing has changed
    if binary is None:
        missing("Toxiproxy is not built: no Go of 1.21 or newer")
    with tempfile.TemporaryDirectory(prefix="toxiproxy-") as folder:
        server = Toxiproxy(binary, Path(folder), free_port())
        try:
            await server.start()
            yield server
        finally:
            server.stop()
