"""What a person or a platform gets wrong: exit 2 with every mistake placed and no socket opened, or 1 with its reason, soon."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.support import command, environment, explained, smoke
from tests.faults.forks import Forks
from tests.faults.platform import HERE as FAULTS
from tests.tools import free_port

JOURNEY = FAULTS / "journey.yaml"
SECRETS = {"BROADCASTER_PASSWORD": "canary-broadcaster-5d1b", "VIEWER_PASSWORD": "canary-viewer-93c0"}
BAD = """\
scenario: many mistakes
owner: tests
platform:
  url: "${env.PLATFORM_URL}"
  secrets:
    password: {env: NOBODY_SETS_THIS, for: "${platform.url}"}
deadlines: {run: 45}
journey:
  - login: {http: POST /auth/login, json: {password: "${secret.password}"}}
  - login: {wait: 1s}
  - room: {http: POST /rooms, josn: {}}
  - view: {via: wep, url: "/rooms/${room}/whep"}
  - dance: {tempo: fast}
"""


@dataclass
class Door:
    """A platform that counts who comes, and answers each with the same bytes."""

    url: str = ""
    knocks: int = 0


@asynccontextmanager
async def door(answer: bytes = b"") -> AsyncIterator[Door]:
    here = Door()

    async def on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.knocks += 1
        await reader.read(65536)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(on, "127.0.0.1", 0)
    async with server:
        here.url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
        yield here


async def test_every_mistake_is_told_at_once_with_its_place_and_no_socket_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    async with door() as platform:
        ran = await smoke(tmp_path / "out", file, env={"PLATFORM_URL": platform.url})
    assert (ran.exit, platform.knocks) == (2, 0), explained(ran)
    assert all(re.match(rf"{re.escape(str(file))}:\d+:\d+ \S", line) for line in ran.stderr.splitlines()), ran.stderr
    for line, word in [(1, "many mistakes"), (6, "NOBODY_SETS_THIS"), (7, "45"), (10, "login"), (11, "josn"), (12, "wep")]:
        assert re.search(rf":{line}:\d+ .*{word}", ran.stderr), f"{word!r} of line {line} in\n{ran.stderr}"
    assert re.search(r":12:\d+ .*\$\{room\}", ran.stderr) and re.search(r":13:\d+ dance: ", ran.stderr), ran.stderr
    assert ran.stdout == "" and not (tmp_path / "out").exists()


def out_below_a_file(folder: Path) -> list[str]:
    (folder / "file").touch()
    return ["--out", str(folder / "file" / "out")]


def state_below_a_file(folder: Path) -> list[str]:
    (folder / "file").touch()
    return ["--state", str(folder / "file" / "state")]


def usage(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(arguments)


USAGE: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "unknown region": (usage("--region", "mars"), "'mars' is not one of local"),
    "unknown option": (usage("--nonsense"), "--nonsense"),
    "unknown field": (usage("--set", "platform.nope=3"), "platform.nope"),
    "no address": (usage("--set", "platform.url=nowhere"), "nowhere"),
    "unknown file": (usage("no-such-scenario.yaml"), "no-such-scenario.yaml"),
    "no port": (usage("--metrics-port", "99999"), "65535"),
    "out cannot be written": (out_below_a_file, "cannot be written"),
    "state cannot be written": (state_below_a_file, "cannot be written"),
}


async def test_wrong_usage_is_two_and_opens_no_socket(tmp_path: Path) -> None:
    """In forks: a start of the command line, from its first import, is more than a second of computing."""
    async with door() as platform:
        env = environment(PLATFORM_URL=platform.url, **SECRETS)
        wrong = []
        with Forks.started() as forks:
            for name, (arguments, words) in USAGE.items():
                (folder := tmp_path / name).mkdir()
                _, _, _, *given = command(folder / "out", JOURNEY, *arguments(folder))
                code, said, complained = await asyncio.to_thread(forks.run, given, env, folder / "said", 20)
                told = code == 2 and words in complained and "Traceback" not in complained
                if not told or any(secret in complained + said for secret in SECRETS.values()):
                    wrong.append(f"{name}: exit {code}\n{said}\n{complained}")
        assert wrong == []
        assert platform.knocks == 0


async def test_a_missing_secret_is_two_and_names_its_variable(tmp_path: Path) -> None:
    async with door() as platform:
        env = {"PLATFORM_URL": platform.url, "BROADCASTER_PASSWORD": "", "VIEWER_PASSWORD": ""}
        ran = await smoke(tmp_path / "out", JOURNEY, env=env)
    assert (ran.exit, platform.knocks) == (2, 0), explained(ran)
    assert "BROADCASTER_PASSWORD is not set" in ran.stderr and "VIEWER_PASSWORD is not set" in ran.stderr


async def test_a_metrics_port_that_is_taken_is_two(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with door() as platform:
            port = str(taken.getsockname()[1])
            ran = await smoke(tmp_path / "out", JOURNEY, "--metrics-port", port, env={"PLATFORM_URL": platform.url, **SECRETS})
    assert (ran.exit, platform.knocks) == (2, 0), explained(ran)
    assert port in ran.stderr and "in use" in ran.stderr


@pytest.mark.timing
async def test_a_platform_that_is_not_there_is_no_go_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = await smoke(tmp_path / "out", JOURNEY, env={"PLATFORM_URL": f"http://127.0.0.1:{free_port()}", **SECRETS})
    took = time.monotonic() - began
    assert ran.exit == 1 and ("login", "connect/refused") in ran.failures(), explained(ran)
    assert took < 8, f"{took:.1f} s, {explained(ran)}"
    assert ran.verdict["cause"]["fields"]["reason"] == "refused"


GARBAGE: dict[str, tuple[bytes, str]] = {
    "bytes": (os.urandom(4096) + b"\r\n\r\n", "auth/protocol"),
    "nothing": (b"", "auth/closed"),
    "half an answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "auth/closed"),
    "a page": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>It works!</h1>", "auth/malformed"),
}


@pytest.mark.timing
@pytest.mark.parametrize("name", GARBAGE)
async def test_a_platform_that_answers_garbage_is_no_go(name: str, tmp_path: Path) -> None:
    answer, expected = GARBAGE[name]
    async with door(answer) as platform:
        ran = await smoke(tmp_path / "out", JOURNEY, env={"PLATFORM_URL": platform.url, **SECRETS})
    assert ran.exit == 1 and ran.failures() >= {("login", expected)}, explained(ran)
    assert platform.knocks >= 1
