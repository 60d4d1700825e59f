"""The sandbox from outside: spawn it, wait until it is ready, plant faults, end it. For the command line and for tests.

The child's stdin is a pipe from here: when this process goes, even by kill -9, the child sees its end and goes too. It
has a session of its own, so that Ctrl-C in a terminal ends the probe first, whose last steps still need a platform.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from probe.errors import ProbeError

READY_WITHIN = 30.0
STOPPED_WITHIN = 4.0
_NEEDED = ("PATH", "HOME", "LANG", "LC_", "TZ", "TMPDIR", "LD_", "PYTHON", "VIRTUAL_ENV", "SSL_CERT", "OTEL_", "COVERAGE_")


class SandboxError(ProbeError):
    """The sandbox did not start, or its admin port refused."""


class Sandbox:
    """A running sandbox. `url`, `rtmp_url` (the stream key comes below it), `admin_url`, `admin_token`, `edges` (name → URL),
    `accounts` (user → password), `pid`."""

    def __init__(self, ready: Mapping[str, Any], admin: aiohttp.ClientSession) -> None:
        self.url: str = ready["url"]
        self.rtmp_url: str = ready["rtmp_url"]
        self.admin_url: str = ready["admin_url"]
        self.admin_token: str = ready["admin_token"]
        self.edges: dict[str, str] = ready["edges"]
        self.accounts: dict[str, str] = {user: account["password"] for user, account in ready["accounts"].items()}
        self.pid: int = ready["pid"]
        self._admin = admin

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        state: Path | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token_seconds: int = 300,
        logs: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Sandbox]:
        """Spawn one and wait until it is ready; end it on leaving. `logs`: file for its JSON lines (default: dropped).
        `env`: added to what of ours it needs; our secrets are none of its business. Raises SandboxError."""
        command = [sys.executable, "-m", "probe.sandbox", "--parent-pipe", "--host", host, "--port", str(port)]
        command += ["--token-seconds", str(token_seconds)] + (["--state", str(state)] if state else [])
        with _log_file(logs) as stderr:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env={**_inherited(os.environ), **(env or {})},
            )
        try:
            ready = await _ready(process)
            headers = {"Authorization": f"Bearer {ready['admin_token']}"}
            timeout = aiohttp.ClientTimeout(total=10)
            # No connection is kept: a restart of the server would leave it dead in the pool.
            connector = aiohttp.TCPConnector(force_close=True)
            async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as admin:
                yield cls(ready, admin)
        finally:
            await _stop(process)

    def ways(self) -> dict[str, str]:
        """The address of each way in and out of a room, whose id stands for `{room}`."""
        room = f"{self.url}/rooms/{{room}}"
        return {
            "whip": f"{room}/whip",
            "rtmp": f"{self.rtmp_url}/{{room}}?token=…",
            "whep": f"{room}/whep",
            "hls": f"{room}/hls/index.m3u8",
            "ll-hls": f"{room}/ll/index.m3u8",
            "http-flv": f"{room}/live.flv",
            "ws-flv": f"{room}/live.flv".replace("http", "ws", 1),
        }

    async def plant(self, fault: str, **params: Any) -> str:
        """Plant a fault (see faults.TABLE); returns its id."""
        answer = await self.admin("POST", "/admin/faults", {"fault": fault} | params)
        return str(answer["id"])

    async def heal(self, fault_id: str | None = None) -> None:
        """Take one fault away, or all."""
        await self.admin("DELETE", f"/admin/faults/{fault_id}" if fault_id else "/admin/faults")

    async def state(self) -> dict[str, Any]:
        """Rooms, sessions, sockets and their counts."""
        return await self.admin("GET", "/admin/state")

    async def spans(self, trace_id: str | None = None) -> list[dict[str, Any]]:
        """The platform's own spans, of one trace or all it remembers."""
        query = f"?trace_id={trace_id}" if trace_id else ""
        spans: list[dict[str, Any]] = (await self.admin("GET", f"/admin/spans{query}"))["spans"]
        return spans

    async def restart(self, down: float = 1.0) -> None:
        """End the server process hard; the supervisor brings it back after `down` seconds. Does not wait for that."""
        await self.admin("POST", "/admin/restart", {"down": down})

    async def expire_tokens(self, sessions: bool = True) -> None:
        """No token is good any more; `sessions`: those opened by one end too."""
        await self.admin("POST", "/admin/expire-tokens", {"sessions": sessions})

    async def healthy(self) -> bool:
        """Does the server process answer now?"""
        try:
            await self.admin("GET", "/healthz")
        except SandboxError:
            return False
        return True

    async def admin(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call of the admin port; the JSON it answers, {} where there is none. Raises SandboxError."""
        try:
            async with self._admin.request(method, self.admin_url + path, json=body) as response:
                data: dict[str, Any] = await response.json() if response.content_type == "application/json" else {}
                if not response.ok:
                    raise SandboxError(f"{method} {path}: {response.status} {data.get('detail', data.get('error', ''))}")
                return data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SandboxError(f"{method} {path}: {type(error).__name__}") from error


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_NEEDED)}


def _log_file(path: Path | None) -> BinaryIO:
    return open(path or os.devnull, "ab")


async def _ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout
    try:
        async with asyncio.timeout(READY_WITHIN):
            line = await process.stdout.readline()
        ready: dict[str, Any] = json.loads(line)
        return ready
    except TimeoutError:
        raise SandboxError(f"the sandbox was not ready within {READY_WITHIN:g} s") from None
    except ValueError:
        raise SandboxError("the sandbox ended before it was ready") from None


async def _stop(process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        async with asyncio.timeout(STOPPED_WITHIN):
            await process.wait()
    except TimeoutError:
        pass
    finally:  # late, or we are cancelled: it must not outlive us either way
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()
