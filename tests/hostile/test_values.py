"""What a server answers is a value: never a template, never another address, never a second header, never a secret in a file."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web

from tests.hostile.engine import run
from tests.net.servers import serving

SECRET = "canary-password-4711"
KEEP = "  - room: {http: POST /rooms, keep: {room: id}}\n"


def platform(answer: str, asked: list[web.Request], bodies: list[str] | None = None) -> AbstractAsyncContextManager[str]:
    """A server whose /rooms answers `answer`, and that remembers what it is asked."""

    async def handler(request: web.Request) -> web.Response:
        asked.append(request)
        if bodies is not None:
            bodies.append(await request.text())
        return web.Response(text=answer if request.path == "/rooms" else "{}", content_type="application/json")

    return serving({"/{path:.*}": handler})


@pytest.mark.parametrize(
    "value",
    [
        "../../accounts/probe",
        "a/../../admin",
        "..",
        "%2e%2e/x",
        "a\r\nX-Evil: 1",
        "a b\tc",
        "",
        "\ud800",
        "x" * 20_000,
        1e999,
        "a\u009bm",
    ],
    ids=repr,
)
async def test_what_cannot_stand_in_an_address_is_the_servers_failure_and_is_not_asked_for(value: object, tmp_path: Path) -> None:
    asked: list[web.Request] = []
    answer = json.dumps({"id": value}).replace("Infinity", "1e999")
    async with platform(answer, asked) as url:
        ran = await run(KEEP + "  - get: {http: 'GET /rooms/${room}/x'}\n", url, tmp_path)
    assert ran.failed("room") == "room/unexpected"
    assert [request.path for request in asked] == ["/rooms"]


@pytest.mark.parametrize(
    ("value", "template", "wanted"),
    [
        ("5?admin=1#x", "/rooms/${room}/x", "/rooms/5%3Fadmin=1%23x/x"),
        ("5&a=b#x", "/x?ref=${room}", "/x?ref=5&a=b%23x"),
        ("http://127.0.0.2:1", "/rooms/${room}", "/rooms/http://127.0.0.2:1"),
        ("//127.0.0.2:1/x", "${room}", "/127.0.0.2:1/x"),
        ("/a/b?c=d", "${room}", "/a/b?c=d"),
        ("ü", "/rooms/${room}", "/rooms/%C3%BC"),
    ],
)
async def test_a_value_in_an_address_stays_the_piece_it_stands_for(
    value: str, template: str, wanted: str, tmp_path: Path
) -> None:
    asked: list[web.Request] = []
    async with platform(json.dumps({"id": value}), asked) as url:
        await run(KEEP + f"  - get: {{http: 'GET {template}'}}\n", url, tmp_path)
    assert asked[-1].raw_path == wanted


async def test_an_answer_is_not_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", SECRET)
    asked: list[web.Request] = []
    bodies: list[str] = []
    async with platform(json.dumps({"id": "${secret.password}${run.id}"}), asked, bodies) as url:
        await run(
            KEEP
            + "  - login: {http: POST /login, json: {password: '${secret.password}'}}\n"
            + "  - get: {http: 'POST /x/${room}', headers: {X-Room: '${room}'}, json: {room: '${room}'}}\n",
            url,
            tmp_path,
            platform=f"  secrets: {{password: {{env: CANARY, for: '{url}'}}}}",
        )
    assert SECRET in bodies[1] and SECRET not in bodies[2]
    assert asked[-1].headers["X-Room"] == json.loads(bodies[2])["room"] == "${secret.password}${run.id}"
    assert asked[-1].path == "/x/${secret.password}${run.id}"


async def test_a_value_does_not_begin_another_header(tmp_path: Path) -> None:
    asked: list[web.Request] = []
    async with platform(json.dumps({"id": "a\r\nX-Evil: 1"}), asked) as url:
        ran = await run(KEEP + "  - get: {http: GET /x, headers: {X-Room: '${room}'}}\n", url, tmp_path)
    assert (ran.failed("get"), len(asked)) == ("room/malformed", 1)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ('{"id": ' + "[" * 100_000 + "]" * 100_000 + "}", "room/malformed"),
        ('{"id": NaN}', "room/malformed"),
        ('{"id": ' + "9" * 5000 + "}", "room/malformed"),
        ('{"id": "\x00"}', "room/malformed"),
        ('{"id": 1, "id": "../"}', "room/unexpected"),
        ("<h1>", "room/malformed"),
        ("", "room/malformed"),
    ],
    ids=lambda text: text[:24],
)
async def test_bombs_of_json_are_the_servers_failure(answer: str, failure: str, tmp_path: Path) -> None:
    async with platform(answer, []) as url:
        ran = await run(KEEP + "  - get: {http: 'GET /rooms/${room}/x'}\n", url, tmp_path)
    assert ran.failed("room") == failure


@pytest.mark.parametrize("number", ["1e999", "1.5", "-1", "true", "9" * 400])
async def test_a_count_that_is_none_is_the_servers_failure(number: str, tmp_path: Path) -> None:
    async with platform(f'{{"count": {number}}}', []) as url:
        ran = await run("  - gift: {http: GET /rooms, service: gift, once: count, within: 1s}\n", url, tmp_path)
    assert ran.failed("gift") == ("gift/counted_twice" if number.startswith("9") else "gift/unexpected")


async def test_an_accounts_token_is_a_secret_whatever_its_name_and_type(tmp_path: Path) -> None:
    asked: list[web.Request] = []
    async with platform('{"a": 8675309123, "b": "canary-bearer"}', asked) as url:
        ran = await run(
            "  - login: {http: POST /rooms, keep: {pass_a: a, pass_b: b}}\n  - use: {http: GET /x, as: v}\n",
            url,
            tmp_path,
            platform="  accounts: {v: {token: '${pass_b}'}, w: {token: '${pass_a}'}}",
        )
    assert asked[-1].headers["Authorization"] == "Bearer canary-bearer"
    assert ran.redactor.redact("canary-bearer 8675309123") == "[redacted] [redacted]"
