"""A platform with a switch of its own, on loopback, and the fault that throws it; platforms that lie, hang and flood."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from probe.drill.faults.base import Klass, NotUndone, Refused, State
from probe.drill.faults.http_call import HttpParams
from probe.drill.faults.http_hook import HttpFault
from tests.drill.net.support import Bench, bench, elsewhere

SECRET = "correct-horse-battery"


@dataclass
class Platform:
    """Faults by their name; `mood` says how it misbehaves."""

    url: str = ""
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)  # method, path, idempotency key, authorization
    mood: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        self.asked.append((request.method, request.path, headers.get("Idempotency-Key", ""), headers.get("Authorization", "")))
        name = request.match_info.get("name", "")
        match self.mood, request.method:
            case "hangs", _:
                await asyncio.sleep(30)
            case "elsewhere", _:
                raise web.HTTPFound("http://127.0.0.1:9/stolen")
            case "floods", _:
                return web.Response(body=b" " * 1_000_000)
            case "deep", _:
                return web.Response(body=b"[" * 200_000)
            case "busy", "POST" | "DELETE":
                return web.Response(status=503, text=f"busy; you sent {headers.get('Authorization')}")
            case "says yes", "POST":
                return web.json_response({"accepted": True}, status=202)
            case _, "POST":
                self.faults[name] = await request.json()
                return web.json_response({"accepted": True}, status=201)
            case _, "DELETE":
                return web.Response(status=204 if self.faults.pop(name, None) is not None else 404)
        return web.json_response({"state": "down" if name in self.faults else "up", "name": name})

    async def broken(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"state": "unheard of"})


@asynccontextmanager
async def served() -> AsyncIterator[Platform]:
    platform = Platform()
    app = web.Application()
    app.router.add_route("*", "/faults/{name}", platform.answer)
    app.router.add_get("/odd", platform.broken)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    platform.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield platform
    finally:
        await runner.cleanup()


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    async with served() as made:
        yield made


def _params(platform: Platform, **more: Any) -> dict[str, Any]:
    at = f"{platform.url}/faults/${{token}}"
    headers = {"Authorization": "Bearer ${secret.admin}"}
    return {
        "inject": {
            "http": f"POST {at}",
            "json": {"kind": "dark", "seconds": "${ttl}", "note": "for ${ttl} s"},
            "headers": headers,
        },
        "restore": {"http": f"DELETE {at}", "headers": headers},
        "verify": {"http": f"GET {at}", "injected": {"when": "state == 'down'"}, "restored": {"when": "state == 'up'"}},
        "secrets": {"admin": {"env": "HOOK_TOKEN", "for": platform.url}},
        "timeout": "400ms",
        **more,
    }


async def _bench(platform: Platform, **more: Any) -> Bench:
    return await bench(HttpFault(), **_params(platform, **more))


async def test_the_switch_is_thrown_verified_and_put_back(platform: Platform) -> None:
    fault = await _bench(platform)
    token = fault.io.token
    assert fault.prepared.klass is Klass.SELF_HEALING and "ends it by itself" in fault.prepared.limit
    assert fault.prepared.targets == (f"http:{platform.url}/faults/${{token}}",)
    assert (await fault.observe()).state is State.RESTORED
    await fault.inject()
    sent = platform.faults[token]
    assert 28 <= sent["seconds"] <= 30 and sent["note"] == f"for {sent['seconds']} s"
    assert (await fault.observe()).state is State.INJECTED
    await fault.inject()  # after a lost answer
    for _ in range(2):
        await fault.restore()
        assert (await fault.observe()).state is State.RESTORED
    keys = [(method, key, auth) for method, _, key, auth in platform.asked if method != "GET"]
    bearer = f"Bearer {SECRET}"
    assert keys == [("POST", token, bearer)] * 2 + [("DELETE", f"{token}-restore", bearer)] * 2
    assert all(auth == "" for method, _, _, auth in platform.asked if method == "GET")
    said = json.dumps([fault.record, *(repr(fault.prepared), repr(fault.io))])
    assert SECRET not in said and "${secret.admin}" in said


async def test_restore_without_inject_and_beside_a_neighbour_takes_nothing_of_others(platform: Platform) -> None:
    ours, neighbour = await _bench(platform), await _bench(platform)
    await neighbour.inject()
    await ours.restore()
    assert (await neighbour.observe()).state is State.INJECTED and (await ours.observe()).state is State.RESTORED


async def test_another_process_undoes_it_from_the_record_alone(platform: Platform) -> None:
    fault = await _bench(platform)
    await fault.inject()
    await elsewhere("http", "restore", fault)
    assert not platform.faults and (await fault.observe()).state is State.RESTORED


async def test_accepted_is_not_injected(platform: Platform) -> None:
    fault = await _bench(platform)
    platform.mood = "says yes"
    await fault.inject()
    assert (await fault.observe()).state is State.RESTORED


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("hangs", r"no answer within 0\.4 s"),
        ("elsewhere", "answered 302 and would send us elsewhere"),
        ("floods", "more than 256 KiB"),
        ("busy", "answered 503 busy; you sent Bearer"),
    ],
)
async def test_a_switch_that_misbehaves_is_bounded_and_told_without_its_secret(platform: Platform, mood: str, said: str) -> None:
    fault = await _bench(platform)
    await fault.inject()
    platform.mood = mood
    with pytest.raises(NotUndone, match=said) as undone:
        await fault.restore()
    with pytest.raises(Exception, match=said) as injected:
        await fault.inject()
    assert SECRET not in str(undone.value) + str(injected.value)
    assert (await fault.observe()).state is (State.INJECTED if mood == "busy" else State.UNKNOWN)
    platform.mood = ""
    await fault.restore()
    assert (await fault.observe()).state is State.RESTORED


async def test_a_verification_that_says_both_neither_or_nonsense_is_unknown(platform: Platform) -> None:
    fault = await _bench(platform)
    for injected, restored in (("name", "name"), ("nothing", "nothing"), ("length(state) < `9`", "abs(name)")):
        record = dict(fault.record)
        record["injected"]["when"], record["restored"]["when"] = injected, restored
        assert (await fault.fault.observe(record, fault.io)).state is State.UNKNOWN
    platform.mood = "deep"
    assert (await fault.observe()).state is State.UNKNOWN


async def test_a_platform_that_is_no_more_is_unknown_and_not_undone() -> None:
    async with served() as platform:
        fault = await bench(
            HttpFault(), **{**_params(platform), "secrets": {"admin": {"command": ["echo", "x"], "for": platform.url}}}
        )
        await fault.inject()
    assert (await fault.observe()).state is State.UNKNOWN
    with pytest.raises(NotUndone, match="cannot be reached"):
        await fault.restore()


async def test_without_a_ttl_it_is_reversible_only(platform: Platform) -> None:
    at = f"{platform.url}/faults/x"
    fault = await _bench(platform, inject={"http": f"POST {at}", "json": {}}, restore={"http": f"DELETE {at}"})
    assert fault.prepared.klass is Klass.REVERSIBLE and not fault.prepared.limit
    assert fault.prepared.commands[0].do == f"POST {at} {{}}"


async def test_what_cannot_be_is_refused_before_anything_is_touched(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"admin": {"env": "HOOK_TOKEN", "for": "https://elsewhere.example"}}
    odd = {"http": f"GET {platform.url}/odd", "injected": {"when": "state == 'down'"}, "restored": {"when": "state == 'up'"}}
    taken = {
        "http": f"GET {platform.url}/faults/x",
        "injected": {"when": "state == 'down'"},
        "restored": {"when": "state == 'up'"},
    }
    platform.faults["x"] = {}
    for more, said, where in (
        ({"secrets": secret}, "the secret admin is not for http://127", "inject.headers.Authorization"),
        ({"secrets": {}}, "there is no secret admin", "inject.headers.Authorization"),
        ({"verify": odd}, "verification must say so, but .*neither injected nor restored", "verify"),
        ({"verify": taken}, "verification must say so, but .*down", "verify"),
    ):
        with pytest.raises(Refused, match=said) as refused:
            await _bench(platform, **more)
        assert refused.value.where == where
    monkeypatch.delenv("HOOK_TOKEN")
    with pytest.raises(Refused, match="environment variable HOOK_TOKEN is not set"):
        await _bench(platform)
    assert {method for method, *_ in platform.asked} == {"GET"}


@pytest.mark.parametrize(
    ("inject", "said"),
    [
        ({"http": "POST /faults"}, "is not a request"),
        ({"http": "FETCH https://a.example/"}, "is not a request"),
        ({"http": "POST https://a.example:99999/"}, "is not a request"),
        ({"http": "POST https://${token}.example/"}, "is not a request"),
        ({"http": 5}, "valid string"),
        ({"http": "POST https://me:pw@a.example/"}, "carries a password"),
        ({"http": "POST https://a.example/?key=${secret.admin}"}, "belongs into headers"),
        ({"http": "POST https://a.example/", "json": {"a": ["${secret.admin}"]}}, "belongs into headers"),
        ({"http": "POST https://a.example/${room}"}, "is not one of token, ttl, ttl_ms"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_words(inject: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HttpParams.model_validate({**_params(Platform("http://a.example")), "inject": inject})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"secrets": {"admin": {"env": "X", "for": "a.example"}}}, "is not an origin"),
        ({"secrets": {"admin": SECRET}}, "never write a secret down"),
        ({"timeout": "1m"}, "less than or equal"),
    ],
)
def test_secrets_and_times_are_checked(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HttpParams.model_validate({**_params(Platform("http://a.example")), **more})
