"""The server process: five ports, one loop. Started by the supervisor only, which says by stdin what to be.

Its first line of stdin is the configuration, and the end of stdin is the end of the supervisor, hence of this process.
On stdout it says `"ready"`, then, if it wishes to be killed and brought back, after how many seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from probe.clock import SystemClock
from probe.rtc import warm
from probe.sandbox import admin, auth, chat, edges, flv, gifts, hls, moderation, payments, regions, rooms, rtmp, whep, whip
from probe.sandbox.context import MAX_BODY, PLATFORM, Config, Platform
from probe.sandbox.faults import EDGES
from probe.sandbox.store import Store
from probe.sandbox.telemetry import log_to_stderr
from probe.sandbox.web import front

STOPPED_WITHIN = 1.8  # seconds from SIGTERM; then the alarm clock ends it
SERVICES = (auth, regions, rooms, payments, gifts, chat, moderation, whip, whep, hls, flv)


def applications(platform: Platform) -> dict[str, web.Application]:
    """One for each port."""
    main = web.Application(middlewares=[front("room", faulty=True)], client_max_size=MAX_BODY)
    for service in SERVICES:
        main.add_routes(service.ROUTES)
    switchboard = web.Application(middlewares=[admin.guard, front("admin", faulty=False)], client_max_size=MAX_BODY)
    switchboard.add_routes(admin.ROUTES)
    apps = {"main": main, "admin": switchboard} | {name: edges.application(name) for name in EDGES}
    for app in apps.values():
        app[PLATFORM] = platform
    return apps


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port that the supervisor holds."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def tell(word: str | float) -> None:
    """One line to the supervisor."""
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


async def serve(config: Config) -> None:
    """Serve until SIGTERM or the supervisor's end."""
    clock = SystemClock()
    log_to_stderr(clock)
    loop = asyncio.get_running_loop()
    store = Store(Path(config.state) / "platform.sqlite")
    async with asyncio.TaskGroup() as tasks:
        platform = Platform(config, clock, store, tasks, restart=tell)
        loop.add_signal_handler(signal.SIGTERM, platform.stopping.set)
        loop.add_reader(0, _supervisor_gone, platform)
        acting = platform.spawn(moderation.act(platform), "moderation")
        runners = []
        for name, app in applications(platform).items():
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.3)
            await runner.setup()
            await web.SockSite(runner, listen(config.host, config.ports[name])).start()
            runners.append(runner)
        ingest = rtmp.Ingest(platform)
        receiving = await asyncio.start_server(ingest.connected, sock=listen(config.host, config.ports["rtmp"]))
        await warm()
        gc.collect()
        gc.freeze()  # what is loaded by now stays: a full pass over it stops every session for 20 to 60 ms
        tell("ready")
        await platform.stopping.wait()
        signal.setitimer(signal.ITIMER_REAL, STOPPED_WITHIN)
        loop.remove_reader(0)
        acting.cancel()
        receiving.close()
        await platform.end_sessions()
        ingest.close()
        async with asyncio.TaskGroup() as endings:
            for runner in runners:
                endings.create_task(runner.cleanup())
    platform.telemetry.close()
    store.close()


def _supervisor_gone(platform: Platform) -> None:
    if os.read(0, 4096):
        return
    platform.stopping.set()
    asyncio.get_running_loop().remove_reader(0)
    if platform.config.ephemeral:
        shutil.rmtree(platform.config.state, ignore_errors=True)


def main() -> None:
    """Wait for the configuration, then serve."""
    line = sys.stdin.buffer.readline()
    if line:
        asyncio.run(serve(Config(**json.loads(line))))


if __name__ == "__main__":
    main()
