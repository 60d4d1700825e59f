"""Who noticed: alerts of a real Prometheus and a real Alertmanager, servers that misbehave, and what is whose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.drill.core.facts import AlertChanged, DrillFact
from probe.drill.core.file import Drill
from probe.drill.sources import Source, Sources
from probe.drill.watching import Watching
from probe.net.redact import Redactor
from tests.drill.score.told import DRILL, REFUSED, Told, plans
from tests.peers import alertmanager, prometheus
from tests.tools import wait_until

MANAGER = {"alertmanager.yml": "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"}
OURS = {"alertname": "RoomStartPage", "severity": "P1", "region": "eu", "scenario": "room", "owner": "media-sre"}
STRANGE = {"alertname": "DatabaseDown", "severity": "P1", "region": "ap", "owner": "dba"}


def source(url: str, **more: Any) -> Source:
    return Source.model_validate({"url": url, "every": "200ms", "timeout": "2s", **more})


@contextlib.asynccontextmanager
async def watching(
    sources: Sources, *, redactor: Redactor | None = None, stays: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Watching, list[DrillFact]]]:
    facts: list[DrillFact] = []
    drill = Drill.model_validate(DRILL)
    context = Watching(
        drill, plans(), clock=SystemClock(), put=facts.append, redactor=redactor or Redactor(), sources=sources, stays=stays
    )
    async with context as found:
        yield found, facts


def changed(facts: list[DrillFact], name: str) -> list[bool]:
    return [fact.firing for fact in facts if isinstance(fact, AlertChanged) and fact.name == name]


def ours(facts: list[DrillFact], name: str) -> list[bool]:
    return [fact.ours for fact in facts if isinstance(fact, AlertChanged) and fact.name == name]


# -- real servers


async def test_a_real_alertmanagers_pages_are_told_apart_by_when_and_where_they_fire() -> None:
    async with alertmanager.running(MANAGER) as manager:
        old = {**OURS, "alertname": "OldPage"}
        await manager.post(old)
        async with watching(Sources(alertmanager=source(manager.url))) as (watch, facts):
            standing = watch.standing()
            assert standing.named and not standing.silent
            assert len(standing.incidents) == 1, "before anything is touched no page is this drill's"
            assert "OldPage (P1) in eu, told by alertmanager" in standing.incidents[0]
            watch.injecting(SystemClock().now())
            await manager.post(OURS, STRANGE, ago=0.0)
            await wait_until(lambda: changed(facts, "DatabaseDown") == [True] == changed(facts, "RoomStartPage"))
            assert ours(facts, "RoomStartPage") == [True]
            assert ours(facts, "DatabaseDown") == [False]
            named = " ".join(watch.standing().incidents)
            assert "DatabaseDown" in named and "OldPage" in named and "RoomStartPage" not in named
            await manager.post(OURS, lasts=-1.0)
            await wait_until(lambda: changed(facts, "RoomStartPage") == [True, False], 10.0)


async def test_what_is_silenced_or_no_page_is_no_incident() -> None:
    async with alertmanager.running(MANAGER) as manager:
        ticket = {**STRANGE, "alertname": "SlowDisk", "severity": "P2"}
        await manager.post(STRANGE, ticket)
        silence = {
            "matchers": [{"name": "alertname", "value": "DatabaseDown", "isRegex": False}],
            "startsAt": "2020-01-01T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z",
            "createdBy": "test",
            "comment": "known",
        }
        async with manager.session.post(f"{manager.url}/api/v2/silences", json=silence) as answer:
            assert answer.status == 200, await answer.text()

        async def silenced() -> bool:
            return (await manager.alerts())["DatabaseDown"]["status"]["state"] == "suppressed"

        await wait_until(silenced)
        async with watching(Sources(alertmanager=source(manager.url))) as (watch, facts):
            assert watch.standing().incidents == ()
            assert changed(facts, "SlowDisk") == [True]
            assert changed(facts, "DatabaseDown") == []


async def test_a_real_prometheus_tells_what_fires_and_which_gates_of_the_fleet_are_closed() -> None:
    gauge = 'streamprobe_gate_state{scenario="room",gate="hold-campaign",publish_region="us",region="us",verdict="fail"} 1\n'

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f"# TYPE streamprobe_gate_state gauge\n{gauge}")

    rules = {
        "groups": [
            {
                "name": "now",
                "rules": [
                    {"alert": "EdgeErrors", "expr": "vector(1)", "labels": {"severity": "P1", "region": "us"}},
                    {"alert": "NotYet", "expr": "vector(1)", "for": "1h", "labels": {"severity": "P1"}},
                ],
            }
        ]
    }
    async with _served(("GET", "/metrics", metrics)) as url:
        async with prometheus.running([url.removeprefix("http://")], rules=rules) as server:
            await server.scraped()
            async with watching(Sources(prometheus=source(server.url))) as (watch, facts):
                await wait_until(lambda: ("hold-campaign", "us") in watch.standing().closed, 15.0, "the fleet's gate")
                await wait_until(lambda: changed(facts, "EdgeErrors") == [True], 15.0, "the alert")
                assert watch.standing().incidents == ("EdgeErrors (P1) in us, told by prometheus",)
                assert changed(facts, "NotYet") == [], "pending is not firing"
                assert changed(facts, "gate hold-campaign") == [True]


# -- servers that misbehave


@contextlib.asynccontextmanager
async def _served(*routes: tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]) -> AsyncIterator[str]:
    application = web.Application()
    for method, path, handler in routes:
        application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Server:
    """An Alertmanager that answers what it is told to."""

    body: bytes = b"[]"
    status: int = 200
    hang: asyncio.Event | None = None
    seen: Mapping[str, str] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen = request.headers
        if self.hang is not None:
            await self.hang.wait()
        return web.Response(body=self.body, status=self.status, content_type="application/json")

    @contextlib.asynccontextmanager
    async def at(self) -> AsyncIterator[str]:
        async with _served(("GET", "/api/v2/alerts", self.answer)) as url:
            yield url


def firing(*labels: dict[str, str]) -> bytes:
    return json.dumps([{"labels": one, "status": {"state": "active"}} for one in labels]).encode()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 200, "not JSON"),
        (b"[" * 100_000, 200, "not JSON"),
        (b"{}", 200, "not a list"),
        (b"[1]", 200, None),  # has no state: not active
        (b'[{"labels": {"alertname": 3}, "status": {"state": "active"}}]', 200, "no name"),
        (b'[{"labels": [], "status": {"state": "active"}}]', 200, "no name"),
        (b"[]", 500, "answered 500"),
        (b" " * (2 << 20), 200, "more than 1024 KiB"),
        (b"[" + b",".join([b"0"] * 6000) + b"]", 200, "6000 alerts"),
    ],
    ids=["torn", "deep", "object", "number", "name", "labels", "status", "large", "many"],
)
async def test_a_source_that_answers_badly_is_silent_and_says_so(body: bytes, status: int, says: str | None) -> None:
    server = Server(body, status)
    async with server.at() as url, watching(Sources(alertmanager=source(url))) as (watch, facts):
        standing = watch.standing()
        assert standing.named
        assert (standing.silent == "") if says is None else (says in standing.silent)
        assert facts == []


@pytest.mark.parametrize(
    ("labels", "own"),
    [
        ({"region": "eu"}, True),
        ({"region": "eu", "scenario": "room"}, True),
        ({"region": "all", "scenario": "room"}, True),
        ({"scenario": "room"}, True),
        ({"region": "eu", "scenario": "other"}, False),
        ({"region": "us", "scenario": "room"}, False),
        ({"region": "all"}, False),
        ({}, False),
    ],
)
async def test_what_fires_meanwhile_is_the_drills_own_only_where_it_says_so(labels: dict[str, str], own: bool) -> None:
    server = Server()
    async with server.at() as url, watching(Sources(alertmanager=source(url))) as (watch, facts):
        watch.injecting(SystemClock().now())
        server.body = firing({"alertname": "Down", "severity": "page", **labels})
        await wait_until(lambda: changed(facts, "Down") == [True])
        assert ours(facts, "Down") == [own]
        assert bool(watch.standing().incidents) is not own


async def test_a_source_that_is_away_keeps_what_it_said_and_comes_back() -> None:
    server = Server(firing(OURS))
    async with server.at() as url, watching(Sources(alertmanager=source(url))) as (watch, facts):
        server.status = 503
        await wait_until(lambda: watch.standing().silent)
        assert len(watch.standing().incidents) == 1, "silence is no all-clear"
        assert changed(facts, "RoomStartPage") == [True]
        server.status, server.body = 200, b"[]"
        await wait_until(lambda: not watch.standing().silent)
        assert watch.standing().incidents == ()
        assert changed(facts, "RoomStartPage") == [True, False]


async def test_a_source_that_hangs_delays_the_beginning_by_its_timeout_and_no_more() -> None:
    server = Server(hang=asyncio.Event())
    assert server.hang is not None
    async with server.at() as url:
        async with asyncio.timeout(20):
            async with watching(Sources(alertmanager=source(url, timeout="300ms"))) as (watch, _):
                assert "no answer within 0.3 s" in watch.standing().silent
        server.hang.set()


async def test_nobody_named_is_not_silence() -> None:
    async with watching(Sources()) as (watch, _):
        standing = watch.standing()
        assert (standing.named, standing.silent, standing.incidents) == (False, "", ())


async def test_a_secret_goes_to_the_source_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_AUTH", "Bearer hunter2")
    redactor, server = Redactor(), Server(b"{}")
    async with server.at() as url:
        named = source(url, headers={"authorization": {"env": "ALERTS_AUTH"}})
        async with watching(Sources(alertmanager=named), redactor=redactor) as (watch, _):
            assert server.seen is not None and server.seen["authorization"] == "Bearer hunter2"
            assert "hunter2" not in watch.standing().silent
            assert redactor.redact("says Bearer hunter2") != "says Bearer hunter2"
            assert "hunter2" not in repr(named)


async def test_a_secret_that_is_missing_is_silence_with_its_name() -> None:
    assert "NOBODY_SET_THIS" not in os.environ
    named = source("http://127.0.0.1:9", headers={"authorization": {"env": "NOBODY_SET_THIS"}})
    async with watching(Sources(alertmanager=named)) as (watch, _):
        assert "NOBODY_SET_THIS" in watch.standing().silent


# -- the drill's own runs


async def test_whole_runs_close_the_scenarios_gates_and_spend_its_budget_and_the_staying_ones_do_not() -> None:
    told = Told()
    shift = SystemClock().now() - 1000 * 10**9 - 20 * 10**9  # so that what was told happened just now
    for i, at in enumerate((12.0, 14.0, 16.0)):
        told.whole_run(f"r{i}", at, failed=REFUSED)
    told.run("stay", stays=True)
    told.ended("stay", 17.0)
    async with watching(Sources(), stays=("stay",)) as (watch, facts):
        watch.injecting(shift + 1010 * 10**9)
        for fact in told.observed:
            watch.saw(replace(fact, at=fact.at + shift))
        await wait_until(lambda: changed(facts, "starts") == [True])
        standing = watch.standing()
        assert standing.closed == {("starts", "eu")}
        assert standing.budget["room-start"] > 0
