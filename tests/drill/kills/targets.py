"""What is broken in the show, all of it made by the show; and eyes of its own, which know nothing of the faults' code.

Each kind of fault has a real target: a namespace of the show's with a cable, processes it started, a directory, a Toxiproxy, an
HTTP platform with a switch, a sandbox. `broken` says what is wrong with it, read from the kernel or from the server itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from probe.cli.serve import environment
from probe.sandbox.launch import Sandbox
from tests.drill.host.tools import label, pids_with, proc_state
from tests.drill.net.support import FAR, Pair, pair
from tests.drill.net.test_dns import _server
from tests.drill.net.test_http_hook import Platform, served
from tests.peers import toxiproxy
from tests.tools import spawn

HOOK_SECRET = "kills-hook-secret"  # of a server of our own
_SLEEPS = "import time; time.sleep(3600)"
_SUPERVISES = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(child.kill()))
while True:
    child = subprocess.Popen(sys.argv[1:])
    child.wait()
"""


@dataclass
class Target:
    """`words`: what a drill file has under `with:`. `broken`: what is wrong, in words; empty where nothing is."""

    name: str
    kind: str
    words: dict[str, Any]
    broken: Callable[[], Awaitable[str]]


@dataclass
class Targets:
    """All there are here, and the variables their faults need; `absent`: kinds this machine cannot have, with why."""

    all: list[Target] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


@asynccontextmanager
async def targets(folder: Path, only: frozenset[str] = frozenset()) -> AsyncIterator[Targets]:
    """Up, until the block ends; of the kinds `only`, or of all."""
    found = Targets()
    async with AsyncExitStack() as stack:
        for name, make in _MAKERS.items():
            if only and name not in only:
                continue
            try:
                found.all += await make(stack, folder, found.env)
            except (pytest.skip.Exception, pytest.fail.Exception) as why:
                found.absent.append(f"{name}: {why}")
        yield found


async def _fake(_: AsyncExitStack, folder: Path, __: dict[str, str]) -> list[Target]:
    file = folder / "fake.json"

    async def broken() -> str:
        return file.read_text() if file.exists() and json.loads(file.read_text()) else ""

    return [Target("fake", "fake", {"file": str(file)}, broken)]


async def _process(stack: AsyncExitStack, folder: Path, _: dict[str, str]) -> list[Target]:
    paused, killed = label(), label()
    command = [sys.executable, "-S", "-c", _SLEEPS]
    child = stack.enter_context(spawn([*command, paused], folder / "paused.log"))
    supervisor = [sys.executable, "-S", "-c", _SUPERVISES, *command, killed]
    above = stack.enter_context(spawn(supervisor, folder / "supervised.log"))

    async def stopped() -> str:
        state = proc_state(child.pid)
        return f"process {child.pid} is {state}" if state != "S" else ""

    async def gone() -> str:
        up = [pid for pid in pids_with(killed) if pid != above.pid]
        return "" if len(up) == 1 else f"{len(up)} of it run"

    theirs = rf"^\S*python\S* -S -c import time; time\.sleep\(3600\) {killed}$"
    kill = {"do": "kill", "target": {"matching": theirs}, "restored_by": {"supervisor": "the show's own"}}
    return [
        Target("process pause", "process", {"do": "pause", "target": {"pid": child.pid}}, stopped),
        Target("process kill", "process", {**kill, "back": {"settled": "100ms"}}, gone),
    ]


async def _load(_: AsyncExitStack, folder: Path, __: dict[str, str]) -> list[Target]:
    async def broken() -> str:
        ledgers = "".join(path.read_text() for path in folder.glob("drill-*/state/drills/*.jsonl"))
        hogs = [pid for token in re.findall(r'"token":"(\w+)"', ledgers) for pid in pids_with(f"--sp-token=sp-{token}")]
        return f"{len(hogs)} hogs run" if hogs else ""

    return [Target("load", "load", {"cpu": {"burners": 1, "share": "10%", "nice": 19}}, broken)]


async def _disk(_: AsyncExitStack, folder: Path, __: dict[str, str]) -> list[Target]:
    if os.geteuid():
        pytest.skip("needs root to mount")
    place = folder / "disk"
    place.mkdir()

    async def broken() -> str:
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == str(place)]
        return f"mounted: {mounts}" if mounts else ""

    return [Target("disk", "disk", {"directory": str(place), "mount": "4MiB"}, broken)]


async def _net(stack: AsyncExitStack, _: Path, __: dict[str, str]) -> list[Target]:
    cable = stack.enter_context(pair())
    stack.enter_context(_server(cable))

    async def rules() -> str:
        return (await asyncio.to_thread(cable.nft, cable.near, "list", "ruleset")).strip()

    async def queues() -> str:
        shown = await asyncio.to_thread(_shown, cable)
        return "" if "noqueue" in shown else shown

    async def answers() -> str:
        there = os.stat(f"/run/netns/{cable.near}").st_ino
        responders = [pid for pid in pids_with("dns_responder") if _namespace(pid) == there]
        return await rules() or (f"{len(responders)} responders run" if responders else "")

    where, quiet = {"netns": cable.near}, {"netns": cable.near, "quiet": True}  # nobody speaks there
    return [
        Target("nft cut", "nft", {**quiet, "do": "cut", "interface": "eth0"}, rules),
        Target("nft loss", "nft", {**quiet, "do": "loss", "share": "20%", "protocol": "udp", "port": 7000}, rules),
        Target("tc rate", "tc", {**quiet, "interface": "eth0", "rate": "500kbps"}, queues),
        Target("dns", "dns", {**where, "names": "cdn.example", "answer": "missing", "server": FAR}, answers),
    ]


def _shown(cable: Pair) -> str:
    command = ["ip", "netns", "exec", cable.near, "tc", "qdisc", "show", "dev", "eth0"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


async def _toxiproxy(stack: AsyncExitStack, _: Path, __: dict[str, str]) -> list[Target]:
    server = await stack.enter_async_context(toxiproxy.running())
    await server.proxy("origin", "127.0.0.1:9")

    async def broken() -> str:
        proxy = (await server.ask("GET", "/proxies"))["origin"]
        return f"toxics {proxy['toxics']}, enabled {proxy['enabled']}" if proxy["toxics"] or not proxy["enabled"] else ""

    where = {"server": server.url, "proxies": "origin"}
    return [
        Target("toxiproxy toxic", "toxiproxy", {**where, "latency": "300ms"}, broken),
        Target("toxiproxy down", "toxiproxy", {**where, "down": True}, broken),
    ]


async def _http(stack: AsyncExitStack, _: Path, env: dict[str, str]) -> list[Target]:
    platform: Platform = await stack.enter_async_context(served())
    env["HOOK_TOKEN"] = HOOK_SECRET

    async def broken() -> str:
        return f"switched: {sorted(platform.faults)}" if platform.faults else ""

    at, headers = f"{platform.url}/faults/${{token}}", {"Authorization": "Bearer ${secret.admin}"}
    words = {
        "inject": {"http": f"POST {at}", "json": {"kind": "dark"}, "headers": headers},
        "restore": {"http": f"DELETE {at}", "headers": headers},
        "verify": {"http": f"GET {at}", "injected": {"when": "state == 'down'"}, "restored": {"when": "state == 'up'"}},
        "secrets": {"admin": {"env": "HOOK_TOKEN", "for": platform.url}},
    }
    return [Target("http hook", "http", words, broken)]


async def _sandbox(stack: AsyncExitStack, _: Path, env: dict[str, str]) -> list[Target]:
    sandbox = await stack.enter_async_context(Sandbox.start())
    env |= environment(sandbox)
    env["KILLS_ADMIN"] = sandbox.admin_token

    async def broken() -> str:
        try:
            state = await sandbox.state()
        except Exception as error:
            return f"its admin port does not answer: {type(error).__name__}"
        return f"planted: {state['faults']}" if state["faults"] else ""

    where = {"admin": sandbox.admin_url, "url": sandbox.url, "token": {"env": "KILLS_ADMIN"}}
    edge = sorted(sandbox.edges)[0]
    return [Target("sandbox", "sandbox", {**where, "plant": {"fault": "edge_down", "edge": edge}}, broken)]


_MAKERS = {
    "fake": _fake,
    "process": _process,
    "load": _load,
    "disk": _disk,
    "net": _net,
    "toxiproxy": _toxiproxy,
    "http": _http,
    "sandbox": _sandbox,
}
