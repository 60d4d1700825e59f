"""Runs that one agent makes and another tells of: counted once, in series that were there before; and nothing else gets in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from aiohttp import web

from probe.agent import handed
from probe.agent.reload import Configuration
from probe.agent.serve import Parts, opened
from probe.cli.agent import read, recipient
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.net.redact import Redactor
from tests.agent.agents import agent_process, scenario, total
from tests.net.servers import serving
from tests.tools import wait_until

LOGIN = "canary-hand:over"
WEB = "http_server_config: {headers: {}}\nbasic_auth_users: {%s: '%s'}\n"


def written(folder: Path, name: str, more: str = "") -> Path:
    folder.mkdir()
    (folder / "one.yaml").write_text(scenario("one", "{fake: done}"))
    file = folder / "agent.yaml"
    schedules = "schedules:\n  first: {scenario: one.yaml, every: 24h}\n"
    file.write_text(f"agent: {name}\nregion: local\nstate: {folder / 'state'}\nlisten: 127.0.0.1:0\n{more}{schedules}")
    return file


@asynccontextmanager
async def standing(folder: Path, more: str = "") -> AsyncIterator[tuple[Parts, str]]:
    """An agent that stays, with its address."""
    file = folder / "standing" / "agent.yaml"
    if not file.exists():
        written(folder / "standing", "standing", more)
    async with opened(Configuration(read(file), lambda: read(file)), SystemClock(), Redactor()) as parts:
        yield parts, f"http://127.0.0.1:{parts.port}"


async def once(file: Path, url: str, *more: str, env: Mapping[str, str] = {}) -> tuple[int, str]:
    """Exit code and log of an agent that makes every schedule once."""
    with agent_process(file, "--once", "--to", url, *more, env=env, output="log-once") as agent:
        return await agent.exit(45), agent.text()


def kept(file: Path) -> list[Path]:
    return sorted((file.parent / "state" / "handover").glob("*.run"))


async def put(client: aiohttp.ClientSession, url: str, run: str, body: bytes, **headers: str) -> tuple[int, str]:
    kind = {"Content-Type": "application/x-ndjson", **headers}
    async with client.put(f"{url}/-/runs/{run}", data=BytesIO(body), headers=kind) as answer:
        return answer.status, await answer.text()


async def test_a_run_made_once_is_told_by_the_agent_that_stays(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(LOGIN.partition(":")[2].encode(), bcrypt.gensalt(4)).decode()
    job = written(tmp_path / "job", "job")
    (tmp_path / "web.yaml").write_text(WEB % (LOGIN.partition(":")[0], hashed))
    async with standing(tmp_path, f"web: {tmp_path / 'web.yaml'}\n") as (parts, url):
        registry = parts.metrics.registry

        def runs(verdict: str) -> float:
            return total(registry, "runs_total", scenario="one", verdict=verdict)

        assert any(s.name == "streamprobe_runs_total" for family in registry.collect() for s in family.samples)  # at 0
        assert runs("pass") == 0
        code, log = await once(job, url)
        assert code == 4 and "wait for the next time" in log, log
        assert len(kept(job)) == 1, log
        code, log = await once(job, url, "--to-login", "env:HAND", env={"HAND": LOGIN})
        assert code == 0, log
        assert kept(job) == [] and "canary" not in log
        assert runs("pass") == 2, "that of the time before, too"
        rows = await wait_until(parts.store.runs, 10, "their records")
        assert {(row.agent, row.schedule, row.verdict, row.region) for row in rows} == {("job", "first", "pass", "local")}
        assert len(rows) == 2 and await parts.store.report(rows[0].run_id)


def first_fact(change: Callable[[list[Any]], None]) -> Callable[[bytes], bytes]:
    def changed(body: bytes) -> bytes:
        head, facts = body.split(b"\n", 1)
        decoded = json.loads(facts)
        change(decoded)
        return head + b"\n" + json.dumps(decoded).encode()

    return changed


def head(**change: object) -> Callable[[bytes], bytes]:
    def changed(body: bytes) -> bytes:
        said, facts = body.split(b"\n", 1)
        return json.dumps({**json.loads(said), **change}).encode() + b"\n" + facts

    return changed


def swapped(before: str, after: str) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(before.encode(), after.encode())


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "nothing": (lambda _: b"", 422),
    "no JSON": (lambda _: b"{\n[", 422),
    "deep": (lambda body: body.split(b"\n")[0] + b"\n" + b"[" * 100_000, 422),
    "half": (lambda body: body[:-40], 422),
    "another version": (head(shape="0" * 16), 422),
    "an agent's name that is none": (head(agent="<script>"), 422),
    "no time": (head(began=-1), 422),
    "of long ago": (head(began=1, over=2), 409),
    "of tomorrow": (head(over=1 << 62), 409),
    "an unknown schedule": (head(schedule="other"), 404),
    "another scenario": (swapped('"one"', '"two"'), 409),
    "another region": (swapped('"local"', '"mars"'), 409),
    "a step of its own": (swapped('"step"', '"stop"'), 409),
    "not a number": (swapped("0,", "NaN,"), 422),
    "told twice": (first_fact(lambda facts: facts.insert(0, facts[0])), 409),
    "without its beginning": (first_fact(lambda facts: facts.pop(0)), 409),
    "without its end": (first_fact(lambda facts: facts.pop()), 422),
    "something that is no fact": (first_fact(lambda facts: facts.insert(1, [99, {}])), 422),
    "too large": (lambda body: body + b" " * handed.MOST, 413),
}


async def test_what_is_no_run_of_ours_is_refused_and_counts_nothing(tmp_path: Path) -> None:
    job = written(tmp_path / "job", "job")
    async with serving({"/{path:.*}": nobody}) as url:
        code, log = await once(job, url)
    assert code == 4 and "wait for the next time" in log, log
    [place] = kept(job)
    body = place.read_bytes()
    async with standing(tmp_path) as (parts, url), aiohttp.ClientSession() as client:
        for name, (spoiled, status) in HOSTILE.items():
            said = await put(client, url, place.stem, spoiled(body))
            assert said[0] == status and len(said[1]) < 300, (name, said)
        assert (await put(client, url, "01900000-0000-7000-8000-000000000000", body))[0] == 422, "another run's id"
        assert (await put(client, url, "..%2f..", body))[0] == 404
        assert (await put(client, url, place.stem, body, **{"Content-Type": "text/plain"}))[0] == 415
        assert (await put(client, url, place.stem, body, **{"X-Forwarded-For": "192.0.2.1"}))[0] == 403
        assert total(parts.metrics.registry, "runs_total") == 0 and await parts.store.runs() == []
        assert (await put(client, url, place.stem, body))[0] == 201
        assert (await put(client, url, place.stem, body))[0] == 200
        assert total(parts.metrics.registry, "runs_total") == 1
    async with standing(tmp_path) as (parts, url), aiohttp.ClientSession() as client:
        assert (await put(client, url, place.stem, body))[0] == 200, "its records know it"
        assert total(parts.metrics.registry, "runs_total") == 0


async def nobody(_: web.Request) -> web.Response:
    return web.Response(status=401)


@pytest.mark.parametrize(
    ("to", "login", "words"),
    [
        ("http://user:word@127.0.0.1:9", "", "carries a user or a password"),
        ("http://127.0.0.1:9/runs", "", "is not an origin"),
        ("http://127.0.0.1:9", "env:NOT_THERE", "NOT_THERE: is not set"),
        ("http://127.0.0.1:9", "env:NO_COLON", "NO_COLON holds no user:password"),
        ("http://127.0.0.1:9", "hand:over", "is no reference"),
    ],
)
def test_an_address_that_is_of_no_use_is_told_before_anything_is_run(
    monkeypatch: pytest.MonkeyPatch, to: str, login: str, words: str
) -> None:
    monkeypatch.setenv("NO_COLON", "canary-word")
    with pytest.raises(ConfigError) as caught:
        recipient(to, login, Redactor())
    assert words in str(caught.value) and "word@" not in str(caught.value) and "canary" not in str(caught.value)


async def test_to_without_once_is_a_mistake(tmp_path: Path) -> None:
    with agent_process(written(tmp_path / "job", "job"), "--to", "http://127.0.0.1:9") as agent:
        assert await agent.exit(20) == 2
    assert "goes with --once" in agent.text()
