"""The pion peer of tests/peers/pion: a WHIP and WHEP server on a WebRTC stack that is not ours, on a loopback port of its own."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.peers import golang
from tests.tools import Child, missing, spawn


@dataclass(frozen=True)
class Pion:
    """A running peer."""

    child: Child
    port: int
    turn: int  # port of its TURN server: user probe, password relay

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def state(self) -> dict[str, int]:
        """How many publishers and viewers it has, and how many keyframes viewers asked for."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/state") as answer:
            found: dict[str, int] = await answer.json()
            return found

    async def kick(self) -> None:
        """Have the server end every session."""
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/kick") as answer:
            assert answer.status == 200


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Pion]:
    """The peer, built if it was not; stopped at the end. Without Go the test skips."""
    binary = golang.build()  # instant where nothing has changed
    if binary is None:
        missing("the pion peer is not built: no Go of 1.21 or newer")
    with tempfile.TemporaryDirectory(prefix="pion-") as folder, spawn([binary], Path(folder) / "log", pipe=True) as child:
        text = await child.says('"port"')
        yield Pion(child, **json.loads(text.splitlines()[0]))
