"""A real Alertmanager, and a receiver that writes down whom it would page.

Alertmanager takes the time from the machine. What it makes of `location` comes from a database of time zones, and the Go library
takes another one where ZONEINFO says so: `at` starts it with a database in which every zone's clock shows, now, what it will show
at that moment. So every hour of the year can be tried on the real program, changes of clocks included.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web

from tests.tools import Child, requires, spawn, wait_until

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Receiver:
    """Takes POSTs; `said` are their bodies by the path's last part, oldest first, `heard` when the last came (monotonic s)."""

    url: str
    said: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    heard: dict[str, float] = field(default_factory=dict)

    def told(self, status: str = "firing") -> dict[str, list[Labels]]:
        """By receiver: labels of the alerts that it was told of in that status."""
        out = {
            name: [alert["labels"] for body in bodies for alert in body["alerts"] if alert["status"] == status]
            for name, bodies in self.said.items()
        }
        return {name: alerts for name, alerts in out.items() if alerts}


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    application = web.Application(client_max_size=1 << 20)
    runner = web.AppRunner(application, shutdown_timeout=1.0)

    async def take(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        receiver.said[name].append(await request.json())
        receiver.heard[name] = time.monotonic()
        return web.Response()

    application.router.add_post("/{name}", take)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        receiver = Receiver(f"http://{host}:{port}")
        yield receiver
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Alertmanager:
    """A running server at `url`."""

    child: Child
    url: str
    session: aiohttp.ClientSession

    async def post(self, *alerts: Labels, ago: float = 3600.0, lasts: float = 300.0) -> None:
        """Alerts with these labels that began `ago` seconds before now, as Prometheus posts them; `lasts` under 0: resolved."""
        now = datetime.now(UTC)
        body = [
            {
                "labels": dict(labels),
                "annotations": {"summary": labels["alertname"]},
                "startsAt": (now - timedelta(seconds=ago)).isoformat(),
                "endsAt": (now + timedelta(seconds=lasts)).isoformat(),
            }
            for labels in alerts
        ]
        async with self.session.post(f"{self.url}/api/v2/alerts", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def alerts(self) -> dict[str, dict[str, Any]]:
        """Every alert by its name: labels, status{state, inhibitedBy, silencedBy}, receivers, fingerprint."""
        async with self.session.get(f"{self.url}/api/v2/alerts") as answer:
            return {alert["labels"]["alertname"]: alert for alert in await answer.json()}

    async def metric(self, name: str) -> float:
        """The sum over a metric of its own."""
        async with self.session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))


@contextlib.asynccontextmanager
async def running(files: Mapping[str, str], *, at: datetime | None = None) -> AsyncIterator[Alertmanager]:
    """With this configuration (path → text, alertmanager.yml among them). `at`: what all clocks of zones show now."""
    command = requires("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
    with tempfile.TemporaryDirectory(prefix="alertmanager-") as name:
        folder = Path(name)
        write(folder, files)
        arguments = [
            command,
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
            "--log.format=json",
        ]
        env = {} if at is None else {"ZONEINFO": str(zones(folder / "zones", _zones(files["alertmanager.yml"]), at))}
        with spawn(arguments, folder / "alertmanager.log", env=env) as child:
            said = await child.says('"address":"127.0.0.1:', 20.0)
            found = re.search(r'"address":"(127\.0\.0\.1:[1-9]\d*)"', said)
            assert found, said
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                server = Alertmanager(child, f"http://{found[1]}", session)
                await wait_until(lambda: _ready(server), 10.0, "a ready Alertmanager")
                if at is not None:  # its start has taken time; what it reads again is of now
                    zones(folder / "zones", _zones(files["alertmanager.yml"]), at)
                    async with session.post(f"{server.url}/-/reload") as answer:
                        assert answer.status == 200, await answer.text()
                yield server


async def _ready(server: Alertmanager) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with server.session.get(f"{server.url}/-/ready") as answer:
            return answer.status == 200
    return False


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """The files, below the folder; where the configuration is."""
    for path, text in files.items():
        (folder / path).write_text(text)
    return folder / "alertmanager.yml"


def amtool(*arguments: str | Path) -> str:
    """What amtool prints. AssertionError where it does not like something."""
    command = [requires("amtool", package="prometheus-alertmanager"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(folder: Path, files: Mapping[str, str]) -> str:
    """What `amtool check-config` says of them."""
    return amtool("check-config", write(folder, files))


def routes(folder: Path, labels: Labels) -> list[str]:
    """Receivers that `amtool config routes test` names for an alert: of every route that it matches, muted ones too."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    said = amtool("config", "routes", "test", f"--config.file={folder}/alertmanager.yml", *pairs)
    return json.loads(f'["{said.strip()}"]'.replace(",", '","'))


def _zones(configuration: str) -> set[str]:
    return set(re.findall(r"^ *location: (\S+)$", configuration, re.MULTILINE))


def zones(folder: Path, names: Iterable[str], at: datetime) -> Path:
    """A database in which the clock of every one of these zones shows now what it will show `at` (a moment with a zone)."""
    now = time.time()
    for name in names:
        assert name != "UTC", "Go takes UTC from nowhere; write Etc/UTC"
        there = at.astimezone(ZoneInfo(name)).utcoffset()
        assert there is not None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_tzif(math.ceil(at.timestamp() - now + there.total_seconds())))
    return folder


def _tzif(offset: int) -> bytes:
    """RFC 8536, version 1: one local time type and no transition."""
    header = b"TZif" + b"\0" * 16 + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return header + struct.pack(">lbb", offset, 0, 0) + b"now\0"
