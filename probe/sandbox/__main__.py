"""`python -m probe.sandbox`: the supervisor, parent of the server process.

It reserves the five ports (main, admin, two edges, RTMP) by binding without listening, so that while the server is down a
connection is refused, as on a real host, and nobody else can take the port meanwhile. It starts the server, brings it
back when it dies, by request or by itself, and ends it when its own time comes.

The server holds the other end of a pipe from here: when this process goes, however it goes, the server goes too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

PORTS = ("main", "admin", "edge-a", "edge-b", "rtmp")
STARTED_WITHIN = 20.0  # seconds until a server must be ready
STOPPED_WITHIN = 2.0
DEATHS = 5  # in a row, without ever being ready: give up


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port without listening on it; the server listens on a socket of its own (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port:  # SO_REUSEPORT would let a second sandbox share it with the first
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


class Supervisor:
    """Keeps one server process alive until `stop`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._announced = False

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> int:
        """Returns the exit code: 0 when asked to stop, 1 when no server would stay up."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep())
            keeping.add_done_callback(lambda _: self._stop.set())
            await self._stop.wait()
            keeping.cancel()
        return 0 if keeping.cancelled() else 1

    async def _keep(self) -> None:
        deaths = 0
        down = 0.0
        while deaths < DEATHS:
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "probe.sandbox.server"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            try:
                # The new process imports while the platform is meant to be down, and listens when told to.
                await asyncio.sleep(down)
                ready, down = await self._live(server)
                deaths = 0 if ready else deaths + 1
            finally:
                await self._end(server)

    async def _live(self, server: asyncio.subprocess.Process) -> tuple[bool, float]:
        """From go to death or a wish to restart: (was it ready, how long to stay down)."""
        assert server.stdin and server.stdout
        ready = False
        try:
            server.stdin.write(json.dumps(self._config).encode() + b"\n")
            await server.stdin.drain()
            async with asyncio.timeout(STARTED_WITHIN):
                line = await server.stdout.readline()
            ready = line == b'"ready"\n'
            if ready:
                self._announce()
                line = await server.stdout.readline()
            return ready, float(json.loads(line)) if line else 0.1
        except (ConnectionError, TimeoutError, ValueError):
            return ready, 0.1

    def _announce(self) -> None:
        if self._announced:
            return
        self._announced = True
        host, ports = self._config["host"], self._config["ports"]
        urls = {name: f"http://{host}:{ports[name]}" for name in PORTS}
        ready = {
            "url": urls["main"],
            "admin_url": urls["admin"],
            "admin_token": self._config["admin_token"],
            "rtmp_url": f"rtmp://{host}:{ports['rtmp']}/live",
            "edges": {name: urls[name] for name in PORTS if name.startswith("edge")},
            "accounts": {user: {"password": password} for user, password in self._config["passwords"].items()},
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()

    async def _end(self, server: asyncio.subprocess.Process) -> None:
        if server.returncode is None and self._stop.is_set():
            _signal(server, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOPPED_WITHIN):
                    await server.wait()
        if server.returncode is None:
            _signal(server, signal.SIGKILL)
        await server.wait()


def _signal(server: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not Process.send_signal: it may reap a child that has just died, and the loop's own watcher then finds none.
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, number)


def _until_stdin_closes(loop: asyncio.AbstractEventLoop, supervisor: Supervisor) -> None:
    def look() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            supervisor.stop()

    loop.add_reader(0, look)


async def supervise(arguments: argparse.Namespace, state: str, held: dict[str, socket.socket]) -> int:
    """Start, watch, end."""
    supervisor = Supervisor(
        {
            "host": arguments.host,
            "ports": {name: sock.getsockname()[1] for name, sock in held.items()},
            "state": state,
            "ephemeral": arguments.state is None,
            "admin_token": secrets.token_urlsafe(24),
            "passwords": {user: secrets.token_urlsafe(12) for user in ("probe", "viewer")},
            "token_seconds": arguments.token_seconds,
        }
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    if arguments.parent_pipe:
        _until_stdin_closes(loop, supervisor)
    return await supervisor.run()


def main() -> int:
    """Parse the command line and supervise."""
    parser = argparse.ArgumentParser(prog="python -m probe.sandbox", description="An embedded live platform to probe.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port of the platform; 0: any")
    parser.add_argument("--state", help="directory that keeps the state (default: a temporary one)")
    parser.add_argument("--token-seconds", type=int, default=300, help="how long a token is good")
    parser.add_argument("--parent-pipe", action="store_true", help="end when stdin closes")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        ports = {name: arguments.port if name == "main" else 0 for name in PORTS}
        try:
            held = {name: stack.enter_context(reserve(arguments.host, port)) for name, port in ports.items()}
        except OSError as error:
            parser.error(f"cannot listen on {arguments.host} port {arguments.port}: {error.strerror}")
        state = arguments.state or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="probe-sandbox-", ignore_cleanup_errors=True)
        )
        Path(state).mkdir(parents=True, exist_ok=True)
        return asyncio.run(supervise(arguments, state, held))


if __name__ == "__main__":
    sys.exit(main())
