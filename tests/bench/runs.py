"""`probe smoke` as the thing that is measured: scenarios made to order, and what the processes used meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.e2e.support import command, environment, explained, verdict_in
from tests.faults.platform import Platform, Ran
from tests.tools import ROOT, wait_until

EVERY = 0.05  # s between looks at a process
SETTLED = 0.5  # s of a watch left out at its beginning: the last start may still be at work

_HEAD = """\
scenario: bench
description: Made by tests/bench.
owner: tests
regions: [local]
platform:
  url: "${env.PLATFORM_URL}"
  secrets:
    broadcaster_password: {env: BROADCASTER_PASSWORD, for: "${platform.url}"}
    viewer_password: {env: VIEWER_PASSWORD, for: "${platform.url}"}
deadlines: {reconnect: 10s, run: 60s}
journey:
  - login:
      http: POST /auth/login
      service: auth
      json: {user: probe, password: "${secret.broadcaster_password}"}
      keep: {broadcaster_token: token}
  - viewer-login:
      http: POST /auth/login
      service: auth
      json: {user: viewer, password: "${secret.viewer_password}"}
      keep: {viewer_token: token}
  - room:
      http: POST /rooms
      as: broadcaster
      json: {unlisted: true, synthetic: true, tag: "${run.tag}"}
      keep: {room: id}
      undo: "DELETE /rooms?tag=${run.tag}"
"""
_PUBLISH = '  - publish: {via: whip, url: "/rooms/${room}/whip", as: broadcaster}\n'


def scenario(views: dict[str, int], *, publish: bool = True, phase: float = 1.0, watch: float = 0.0) -> str:
    """A room, perhaps a publisher, so many viewers of each protocol beginning within `phase` seconds, a watch."""
    text = _HEAD + (_PUBLISH if publish else "")
    wanted = ", ".join(f"{{via: {protocol}, as: viewer, count: {count}}}" for protocol, count in views.items() if count)
    if wanted:
        text += f"  - view: {{view: [{wanted}], phase: {phase * 1000:.0f}ms}}\n"
    if watch:
        text += f"  - watch: {{wait: {watch * 1000:.0f}ms}}\n"
    return text


@dataclass
class Usage:
    """CPU seconds and resident bytes of one process at moments of the machine's monotonic clock (ns)."""

    looks: list[tuple[int, float, int]] = field(default_factory=list)

    def look(self, process: psutil.Process) -> None:
        with process.oneshot(), contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            self.looks.append((time.monotonic_ns(), times.user + times.system, process.memory_info().rss))

    def between(self, began: int, ended: int) -> tuple[float, float]:
        """(CPU seconds per second, mean MiB) over that stretch."""
        inside = [look for look in self.looks if began <= look[0] <= ended]
        (first, cpu_first, _), (last, cpu_last, _) = inside[0], inside[-1]
        return (cpu_last - cpu_first) / ((last - first) / 1e9), sum(rss for _, _, rss in inside) / len(inside) / 2**20


@dataclass(frozen=True)
class Measured:
    """Of the watch of one run: CPU-seconds per second and MiB, of the probe and of the sandbox's server."""

    probe: tuple[float, float]
    sandbox: tuple[float, float]


async def run(platform: Platform, folder: Path, text: str) -> tuple[Ran, Usage, Usage]:
    """One run; AssertionError where it is not go: figures of a run that went wrong are worth nothing."""
    folder.mkdir(parents=True)
    file = folder / "bench.yaml"
    file.write_text(text)
    child = await asyncio.create_subprocess_exec(
        *command(folder / "out", file, "--json"),
        env=environment(**platform.environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    probe, sandbox = Usage(), Usage()
    try:
        async with _looking(psutil.Process(child.pid), probe), _looking(_server(platform), sandbox):
            _, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    ran = Ran(child.returncode, "", said.decode(), verdict_in(folder / "out"), folder / "out")
    assert ran.exit in (0, 3), explained(ran)  # inconclusive: tainted, which the caller tells
    return ran, probe, sandbox


async def watched(platform: Platform, folder: Path, text: str) -> Measured:
    """What the watch of one run costs."""
    ran, probe, sandbox = await run(platform, folder, text)
    began, ended = _watch(ran.out / "observations.jsonl")
    return Measured(probe.between(began, ended), sandbox.between(began, ended))


async def stock(platform: Platform, folder: Path, count: int, seconds: float) -> tuple[float, float]:
    """CPU-seconds per second and MiB of `count` viewers of aiortc's own, beside a run that publishes for long enough."""
    usage = Usage()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(run(platform, folder, scenario({}, watch=seconds + 8)))
        (room,) = await wait_until(lambda: _live(platform), 20, "a publisher")
        command = [
            sys.executable,
            "-m",
            "tests.bench.stock",
            f"{platform.ready['url']}/rooms/{room}/whep",
            _token(platform),
            str(count),
        ]
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert (await child.stdout.readline()).strip() == b"playing"
            began = time.monotonic_ns()
            async with _looking(psutil.Process(child.pid), usage):
                await asyncio.sleep(seconds)
            ended = time.monotonic_ns()
            child.stdin.close()
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        await publishing
    return usage.between(began + round(SETTLED * 1e9), ended)


def _live(platform: Platform) -> list[str]:
    """Rooms somebody publishes to."""
    sessions = platform.admin("GET", "/admin/state")["sessions"]
    return [one["room"] for one in sessions if one["role"] == "publisher" and one["state"] == "up"]


def _token(platform: Platform) -> str:
    body = {"user": "viewer", "password": platform.ready["accounts"]["viewer"]["password"]}
    request = urllib.request.Request(
        platform.ready["url"] + "/auth/login", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.loads(answer.read())["token"])


def _watch(records: Path) -> tuple[int, int]:
    facts = [json.loads(line) for line in records.read_text().splitlines()]
    began, ended = (
        next(f["at"] for f in facts if f["kind"] == kind and f["step"] == "watch") for kind in ("StepBegan", "StepDone")
    )
    return began + round(SETTLED * 1e9), ended


def _server(platform: Platform) -> psutil.Process:
    (server,) = psutil.Process(platform.pid).children()
    return server


@contextlib.asynccontextmanager
async def _looking(process: psutil.Process, usage: Usage) -> AsyncIterator[None]:
    async def look() -> None:
        while True:
            usage.look(process)
            await asyncio.sleep(EVERY)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(look())
        try:
            yield
        finally:
            task.cancel()


def starts(rans: list[Ran]) -> Iterator[tuple[str, dict[str, float], float, bool]]:
    """(protocol, seconds by stage, total, tainted) of every session that started."""
    for ran in rans:
        for one in ran.verdict["runs"]:
            for session in one["sessions"]:
                if session["outcome"] == "done":
                    total = session.get("first_frame_seconds", session.get("start_seconds"))
                    yield session["protocol"], session["stages"], total, bool(session["taints"])
