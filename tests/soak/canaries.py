"""A day's runs of an agent, and a canary for every secret: all that leaves it is searched, and none may be found.

A day of one scenario a minute is 1,440 runs; here they come as fast as the machine makes them. The platform says every secret
back wherever a server can (tests/hostile/test_canaries.py: bodies, headers, playlists, close reasons, redirects). Logins are
refused in the words of the password, secrets are missing, unreadable or wrong, workers are killed in the middle, the collector
goes so that telemetry waits in the spool, another program locks the records so that they wait in the outbox, and configurations
are refused that have a secret standing in them in clear, where somebody put it by mistake: where a reference belongs, in an
address, under a name that nobody knows. (What stands where a duration belongs is quoted, since it could not be mended else.)

Searched: what the collector was sent (as it was sent, decompressed), /metrics, /, /runs, /readyz and reports as the HTTP service
gives them, gates, logs, every file of the state directory while all of that waits and at the end (spool and outbox unpacked, the
database's pages and its rows, verdicts and reports decompressed). A search that finds nothing proves nothing: each place must
hold a word that is known to be in it (WITNESS).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
from aiohttp import web

from probe.clock import SystemClock
from probe.store.address import sqlite_url
from probe.store.reader import Records
from probe.store.rows import RunRow
from tests.agent.agents import Asked, agent_process, asking, scenario
from tests.agent.leaks import leaks
from tests.drivers.signalling import rogue
from tests.hostile.test_canaries import CANARY, EVIL, JOURNEY, chat, echo, login, playlist, rooms
from tests.net.servers import Handler, serving
from tests.tools import Child, wait_until

Row = tuple[str, ...]
WORKERS = 4
HEADER = "canary-otlp-x7Q9zW-header"  # of the collector
WRONG = "canary-wrong-x7Q9zW"  # a secret that nobody takes
MISPUT = "canary-misput-x7Q9zW"  # stands in a file in clear
CANARIES = (*CANARY.values(), HEADER, WRONG, MISPUT)
WITNESS = "canaries-0"  # the name of a scenario: no secret, and everywhere

REFUSED = """
scenario: {name}
owner: tests
platform:
  url: "${{env.PLATFORM_URL}}"
  secrets: {{wrong: {{{secret}, for: "${{platform.url}}"}}}}
deadlines: {{run: 5s}}
journey:
  - login:
      http: POST /denied
      service: auth
      json: {{user: probe, password: "${{secret.wrong}}"}}
      headers: {{X-Key: "${{secret.wrong}}"}}
      keep: {{token: token}}
"""
_RUNS = "streamprobe_runs_total{"
GATE = "gates: [{{name: hold-{name}, when: 'attempts >= 1 and failures >= 1', owner: tests, action: hold}}]\n"
MISTAKES = (
    lambda text: text.replace("{url: sqlite}", f"{{url: 'postgresql://probe:{MISPUT}@127.0.0.1/records'}}"),
    lambda text: text.replace("{env: OTLP_AUTH}", MISPUT),
    lambda text: text.replace("every: 1s", f"every: 1s, set: {{platform.secrets.one: {MISPUT}}}", 1),
    lambda text: text.replace("every: 1s", f"every: 1s, set: {{platform.url: 'http://probe:{MISPUT}@127.0.0.1'}}", 1),
    lambda text: text.replace("agent: canaries", f"agent: canaries\npassword: {MISPUT}"),
    lambda text: text.replace("endpoint: http://", f"endpoint: http://probe:{MISPUT}@"),
)  # fmt: skip


@dataclass
class Found:
    """What was searched, and what was found of the canaries; `witnessed` counts the places that held the word they must hold."""

    leaks: list[str] = field(default_factory=list)
    searched: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    witnessed: Counter[str] = field(default_factory=Counter)

    def search(self, place: str, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.searched[place] += 1
        self.sizes[place] += len(data)
        self.witnessed[place] += (b"schedules" if place == "events" else WITNESS.encode()) in data
        self.leaks += [f"{canary} in {place}" for canary in CANARIES if canary.encode() in data]

    def files(self, place: str, state: Path) -> None:
        """Every file, and what is packed in it."""
        self.searched[place] += sum(path.is_file() for path in state.rglob("*"))
        self.sizes[place] += sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
        self.witnessed[place] += bool(leaks([WITNESS], state=state))
        self.leaks += [f"{place}: {words}" for words in leaks(CANARIES, state=state)]

    def rows(self) -> list[Row]:
        places = sorted(self.searched)
        return [("place", "searched", "MiB", "with the word they must hold", "canaries"), *(
            (p, str(self.searched[p]), f"{self.sizes[p] / 2**20:.1f}", str(self.witnessed[p]),
             str(sum(p in words for words in self.leaks)))
            for p in places
        )]  # fmt: skip

    def complaints(self) -> list[str]:
        blind = [f"{place}: the word that is in it was not found" for place in PLACES if not self.witnessed[place]]
        return [*dict.fromkeys(self.leaks), *blind]


PLACES = (
    "log", "otlp traces", "otlp metrics", "metrics", "pages", "reports", "verdicts", "rows",
    "requests", "events", "waiting on disk", "state directory",
)  # fmt: skip


# -- the platform and the collector


async def _denied(request: web.Request) -> web.Response:
    sent = f"{await request.text()} {request.headers.get('X-Key')} {EVIL[:6]}"
    headers = {"X-Error": request.headers.get("X-Key", ""), "WWW-Authenticate": f'Bearer realm="{WRONG}"'}
    return web.Response(status=401, text=sent, headers=headers, reason=f"No {WRONG}")


@dataclass
class _Sink:
    """A collector: searches what it is sent; refuses while `away`."""

    found: Found
    away: bool = False

    async def traces(self, request: web.Request) -> web.Response:
        return await self._take("otlp traces", request)

    async def metrics(self, request: web.Request) -> web.Response:
        return await self._take("otlp metrics", request)

    async def _take(self, place: str, request: web.Request) -> web.Response:
        body = await request.read()
        self.found.search(place, body)
        return web.Response(status=503 if self.away else 200, content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def _platform(sink: _Sink) -> AsyncIterator[str]:
    routes: dict[str, Handler] = {
        "/login": login, "/rooms": rooms, "/echo": echo, "/chat": chat, "/list.m3u8": playlist, "/denied": _denied,
        "/v1/traces": sink.traces, "/v1/metrics": sink.metrics,
    }  # fmt: skip
    async with serving(routes) as url:
        yield url


def _written(folder: Path, url: str, whep: str, each: int) -> Path:
    """agent.yaml, and scenarios that keep their secrets, lose them, or never had them."""
    (folder / "password").write_text(CANARY["file"] + "\n")
    (folder / "broken").write_text(f"{WRONG}\n\x00\n{WRONG}\n")
    secrets = {
        "refused": "env: WRONG",
        "missing": "env: NOT_THERE",
        "unreadable": f"command: 'sh -c \"echo {WRONG} >&2; echo {WRONG}; exit 3\"'",
        "broken": f"file: {folder / 'broken'}",
    }
    names = []
    for number in range(each):
        name = f"canaries-{number}"
        text = JOURNEY.format(file=folder / "password", whep=f"{whep}/session").replace("scenario: canaries", f"scenario: {name}")
        (folder / f"{name}.yaml").write_text(text + GATE.format(name=name))
        names.append(name)
        for kind, secret in secrets.items():
            name = f"{kind}-{number}"
            (folder / f"{name}.yaml").write_text(REFUSED.format(name=name, secret=secret))
            names.append(name)
    (folder / "slow.yaml").write_text(scenario("slow", "{fake: done, took: 1s}"))
    schedules = "\n".join(
        f"  {name}: {{scenario: {name}.yaml, every: {'1s' if name.startswith('canaries') else '3s'}}}"
        for name in (*names, "slow")
    )
    file = folder / "agent.yaml"
    file.write_text(
        f"agent: canaries\nregion: local\nstate: state\nlisten: 127.0.0.1:0\nstore: {{url: sqlite}}\n"
        f"workers: {{count: {WORKERS}}}\nbudget: {{runs: {WORKERS}}}\n"
        f"telemetry:\n  endpoint: {url}\n  headers: {{Authorization: {{env: OTLP_AUTH}}}}\n  traces: 100%\n  metrics: 2s\n"
        f"schedules:\n{schedules}\n"
    )
    return file


# -- what happens meanwhile


@dataclass
class _Day:
    folder: Path
    agent: Child
    asked: Asked
    sink: _Sink
    found: Found
    rng: random.Random
    planted: Counter[str] = field(default_factory=Counter)

    async def crashes(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(1, 4))
            workers = [one for child in psutil.Process(self.agent.pid).children() for one in child.children()]
            if workers:
                self.planted["workers killed"] += 1
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.rng.choice(workers).send_signal(self.rng.choice([signal.SIGSEGV, signal.SIGKILL]))

    async def refusals(self) -> None:
        """Configurations with a secret in clear where none belongs."""
        file = self.folder / "agent.yaml"
        text = file.read_text()
        while True:
            await asyncio.sleep(self.rng.uniform(2, 5))
            wrong = self.rng.choice(MISTAKES)(text)
            assert wrong != text
            file.write_text(wrong)
            self.planted["reloads refused"] += 1
            os.kill(self.agent.pid, signal.SIGHUP)
            await wait_until(self._refused, 20, "a refusal")
            file.write_text(text)
            os.kill(self.agent.pid, signal.SIGHUP)
            await wait_until(self._taken, 20, "the configuration that was right")

    async def _refused(self) -> bool:
        await asyncio.sleep(0.1)
        page = await self.asked.text("/readyz")
        self.found.search("pages", page)
        return "not taken" in page

    async def _taken(self) -> bool:
        return not await self._refused()

    async def looks(self) -> None:
        while True:
            await asyncio.sleep(2)
            self.found.search("metrics", await self.asked.text("/metrics"))
            for path in ("/", "/runs", "/runs?format=json"):
                self.found.search("pages", await self.asked.text(path))

    async def waits(self) -> None:
        """Telemetry and records wait on disk, and are searched there."""
        while True:
            await asyncio.sleep(self.rng.uniform(1, 6))
            self.planted["collector away, records locked"] += 1
            self.sink.away = True
            with _locked(self.folder / "state"):
                await wait_until(partial(self._waits_on_disk, self.found.witnessed["waiting on disk"]), 30, "a run on disk")
            self.sink.away = False
            await asyncio.sleep(self.rng.uniform(10, 30))

    async def _waits_on_disk(self, before: int) -> bool:
        await asyncio.sleep(0.5)
        copy = self.folder / "copy"
        await asyncio.to_thread(_copied, self.folder / "state", copy)
        await asyncio.to_thread(self.found.files, "waiting on disk", copy)
        return self.found.witnessed["waiting on disk"] > before


def _copied(state: Path, copy: Path) -> None:
    """What waits, as it lies there; the database is searched once, at the end."""
    shutil.rmtree(copy, ignore_errors=True)
    for part in ("outbox", "spool", "ledger"):
        if (state / part).exists():
            shutil.copytree(state / part, copy / part, ignore_dangling_symlinks=True)


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    connection = sqlite3.connect(state / "records.sqlite", isolation_level=None, timeout=5)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


async def day(folder: Path, runs: int, seed: int, each: int = 3) -> tuple[list[list[Row]], list[str]]:
    """So many runs at least, of `each` so many scenarios of every kind. Tables, and what must not be."""
    found, rng = Found(), random.Random(seed)
    sink = _Sink(found)
    link = f'<turn:127.0.0.1:9?transport=udp>; rel="ice-server"; username="u"; credential="{CANARY["turn"]}"'
    named = {"Location": f"/session?token={CANARY['location']}", "Link": link, "Server": CANARY["viewer"]}
    began = time.monotonic()
    async with _platform(sink) as url, rogue(headers=named, delete_status=500) as whep:
        env = {"PLATFORM_URL": url, "ONE": CANARY["env"], "THREE": CANARY["header"], "WRONG": WRONG, "OTLP_AUTH": HEADER}
        with agent_process(_written(folder, url, whep.url, each), env=env) as agent:
            async with asking(agent) as asked:
                life = _Day(folder, agent, asked, sink, found, rng)

                async def made() -> bool:
                    await asyncio.sleep(1)
                    text = await asked.text("/metrics")
                    done = sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(_RUNS))
                    print(f"\r{done:.0f} of {runs} runs", end="", flush=True)
                    return done >= runs and all(found.witnessed[place] for place in ("otlp traces", "waiting on disk"))

                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one) for one in (life.crashes(), life.refusals(), life.looks(), life.waits())]
                    await wait_until(made, 60 + 3 * runs, "a day's runs")
                    for task in tasks:
                        task.cancel()
                print()
                os.kill(agent.pid, signal.SIGTERM)
                code = await agent.exit(40)
        took = time.monotonic() - began
    found.search("log", agent.output.read_bytes())
    kept = await _recorded(folder / "state", found)
    await asyncio.to_thread(found.files, "state directory", folder / "state")
    verdicts = Counter(row.verdict or row.state for row in kept)
    crashed = sum(bool(row.crashed) for row in kept)
    made_of: list[Row] = [
        ("runs", "min", *verdicts, "crashed", *life.planted),
        (str(len(kept)), f"{took / 60:.1f}", *(str(n) for n in (*verdicts.values(), crashed, *life.planted.values()))),
    ]
    bad = found.complaints() + ([f"it ended with {code}"] if code else [])
    bad += [f"{len(kept)} runs are recorded, fewer than {runs}"] if len(kept) < runs else []
    return [made_of, found.rows()], bad


async def _recorded(state: Path, found: Found) -> list[RunRow]:
    """All rows, each searched with all that belongs to it."""
    kept: list[RunRow] = []
    async with Records.reading(sqlite_url(state / "records.sqlite"), SystemClock()) as records:
        for event in await records.events(limit=1000):
            found.search("events", repr(event))
        while page := await records.runs(200, kept[-1].run_id if kept else ""):
            kept += page
            for row in page:
                found.search("rows", repr(row))
                found.search("reports", (await records.report(row.run_id)) or "")
                found.search("verdicts", (await records.verdict(row.run_id)) or "")
                found.search("requests", f"{row.scenario} {await records.requests(row.run_id)!r}")
    return kept
