"""A canary for every secret, echoed back wherever a server can: none may come out anywhere, and no terminal be commanded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from probe.sandbox.launch import Sandbox
from tests.drivers.signalling import rogue
from tests.e2e.support import containing, smoke
from tests.net.servers import Handler, serving

NAMES = ("env", "file", "header", "broadcaster", "viewer", "nested", "location", "turn", "query")
CANARY = {name: f"canary-{name}-x7Q9zW" for name in NAMES}
EVIL = '\x1b[31m\u009b31m <script>alert(1)</script> {{7*7}} " } \ud800'

JOURNEY = """
scenario: canaries
owner: tests
platform:
  url: "${{env.PLATFORM_URL}}"
  secrets:
    one: {{env: ONE, for: "${{platform.url}}"}}
    two: {{file: {file}, for: "${{platform.url}}"}}
    three: {{env: THREE, for: "${{platform.url}}"}}
deadlines: {{run: 20s, reconnect: 1s}}
journey:
  - login:
      http: POST /login
      service: auth
      json: {{user: broadcaster, password: "${{secret.one}}"}}
      keep: {{broadcaster_token: token, creds_secret: nested}}
  - again:
      http: POST /login
      service: auth
      json: {{user: viewer, password: "${{secret.two}}"}}
      keep: {{viewer_token: token}}
  - room: {{http: POST /rooms, as: broadcaster, keep: {{signed_token: query}}}}
  - echo:
      http: POST /echo
      as: broadcaster
      json: {{p: "${{secret.one}} ${{secret.two}}"}}
      headers: {{X-Key: "${{secret.three}}"}}
      optional: true
  - signed: {{http: "GET /echo?k=${{signed_token}}", as: viewer, undo: "DELETE /echo?k=${{signed_token}}", optional: true}}
  - chat: {{websocket: /chat, as: viewer, send: "hello ${{secret.three}}", optional: true}}
  - view:
      - {{via: whep, url: "{whep}", as: viewer, start: 1s, optional: true, verify: moving}}
      - {{via: hls, url: "/list.m3u8?${{signed_token}}", as: viewer, start: 1s, optional: true, verify: moving}}
"""


async def login(request: web.Request) -> web.Response:
    user = (await request.json())["user"]
    return web.json_response({"token": CANARY[user], "nested": {"token": CANARY["nested"]}})


async def rooms(_: web.Request) -> web.Response:
    return web.json_response({"query": f"sig={CANARY['query']}"})


async def echo(request: web.Request) -> web.Response:
    sent = f"{request.headers.get('Authorization')} {request.headers.get('X-Key')} {request.path_qs} {await request.text()}"
    body = json.dumps({"title": f"{EVIL} {sent} {' '.join(CANARY[n] for n in ('viewer', 'broadcaster', 'nested'))}"})
    headers = {"X-Edge": CANARY["viewer"], "Server": EVIL[9:30] + CANARY["viewer"]}
    return web.Response(status=400, text=body, content_type="application/json", headers=headers)


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close(code=4001, message=CANARY["viewer"].encode())
    return socket


async def playlist(_: web.Request) -> web.Response:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:1", "#EXTINF:2,", f"/echo?t={CANARY['query']}"]
    return web.Response(text="\n".join(lines), content_type="application/vnd.apple.mpegurl")


@asynccontextmanager
async def platform(spans: list[bytes]) -> AsyncIterator[str]:
    async def collect(request: web.Request) -> web.Response:
        spans.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    routes: dict[str, Handler] = {
        "/login": login,
        "/rooms": rooms,
        "/echo": echo,
        "/chat": chat,
        "/list.m3u8": playlist,
        "/v1/traces": collect,
    }
    async with serving(routes) as url:
        yield url


async def test_no_secret_comes_out_anywhere(tmp_path: Path) -> None:
    out, scenario, password = tmp_path / "out", tmp_path / "canaries.yaml", tmp_path / "password"
    password.write_text(CANARY["file"] + "\n")
    link = f'<turn:127.0.0.1:9?transport=udp>; rel="ice-server"; username="u"; credential="{CANARY["turn"]}"'
    named = {"Location": f"/session?token={CANARY['location']}", "Link": link, "Server": CANARY["viewer"]}
    spans: list[bytes] = []
    async with platform(spans) as url, rogue(headers=named, delete_status=500) as whep:
        scenario.write_text(JOURNEY.format(file=password, whep=f"{whep.url}/session"))
        env = {"PLATFORM_URL": url, "ONE": CANARY["env"], "THREE": CANARY["header"], "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ran = await smoke(out, scenario, "-v", env=env)
        said = [await smoke(out, scenario, "--json", env=env)]
    for name, text in (("stdout", ran.stdout), ("stderr", ran.stderr), ("json", said[0].stdout)):
        (out / name).write_text(text)
    (out / "otlp").write_bytes(b"".join(spans))
    assert spans and ran.failures() >= {("echo", "room/http_400"), ("signed", "room/http_400")}, ran.failures()
    assert containing(out, *CANARY.values()) == []
    assert list((out / "state" / "ledger").iterdir()), "what could not be undone is still there to be told of"
    (out / "otlp").unlink()  # bytes, not text
    assert containing(out, "\x1b", "\u009b") == []
    assert "<script>" not in (out / "report.html").read_text()


async def test_the_sandbox_is_not_given_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PASSWORD", CANARY["env"])
    async with Sandbox.start() as sandbox:
        inherited = Path(f"/proc/{sandbox.pid}/environ").read_bytes()
    assert CANARY["env"].encode() not in inherited and b"PATH=" in inherited
