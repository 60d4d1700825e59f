"""Servers that refuse, hang, pour, lie or point elsewhere, as every kind of step and session meets them: the right reason, in
its time, and nothing left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from probe.drivers.websocket import WebsocketDriver
from probe.errors import Failure
from probe.model.outcome import Done
from probe.plan import WebsocketStep
from tests.drivers.signalling import replaced, rogue, to
from tests.drivers.test_http import steps
from tests.hostile.engine import run
from tests.net.servers import Handler, head, raw, serving

STEPS = {
    "http": ("  - get: {http: GET /x, service: room, within: 500ms, keep: {a: a}}\n", "room"),
    "websocket": ("  - get: {websocket: /x, service: chat, send: hello, within: 500ms}\n", "chat"),
    "whip": ("  - get: {publish: whip, url: /x, within: 500ms}\n", "signal"),
    "whep": ("  - get: {view: {via: whep, url: /x, start: 500ms, verify: moving}}\n", "signal"),
    "hls": ("  - get: {view: {via: hls, url: /x.m3u8, start: 500ms, verify: moving}}\n", "playlist"),
}
OK = b"HTTP/1.1 200 OK\r\n"
HTML = b"<html><script>alert(1)</script>" + b"x" * 20_000


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def amid_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(OK + b"Content-Ty")
    await asyncio.Event().wait()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header line that never ends, a byte at a time: activity is no answer."""
    await head(reader)
    writer.write(OK + b"X-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def html_500(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(b"HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 99999999999\r\n\r\n" + HTML)
    await asyncio.Event().wait()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(OK)
    while True:
        writer.write(b"X-A: b\r\n" * 1000)
        await writer.drain()


SERVERS: dict[str, tuple[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], str]] = {
    "accepts and says nothing": (silent, "timeout"),
    "hangs amid headers": (amid_headers, "timeout"),
    "drips": (dripping, "timeout"),
    "500 with HTML without end": (html_500, "http_500"),
    "endless headers": (endless_headers, "too_large"),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("server", SERVERS)
async def test_each_kind_of_step_says_what_was_wrong_in_its_time(kind: str, server: str, tmp_path: Path) -> None:
    journey, phase = STEPS[kind]
    handler, reason = SERVERS[server]
    async with raw(handler) as url:
        began = time.monotonic()
        ran = await run(journey, url, tmp_path)
        took = time.monotonic() - began
    # A player asks a platform that has only just begun again; here until its start's deadline.
    wanted = "timeout" if (kind, reason) == ("hls", "http_500") else reason
    assert ran.failed("get") == f"{phase}/{wanted}"
    assert took < 3.5


async def flood(request: web.Request) -> web.WebSocketResponse:
    """Messages without end, and never a close frame."""
    socket = web.WebSocketResponse(autoclose=False)
    await socket.prepare(request)
    while True:
        await socket.send_str("x" * 1000)


async def giant(request: web.Request) -> web.WebSocketResponse:
    """One frame that says it has 100 MB."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    assert request.transport is not None
    request.transport.write(b"\x81\x7f" + (100 << 20).to_bytes(8, "big") + bytes(1 << 20))
    await asyncio.Event().wait()
    return socket


async def test_a_socket_that_floods_and_never_closes_is_left_in_time(tmp_path: Path) -> None:
    async with serving({"/x": flood}) as url:
        began = time.monotonic()
        ran = await run(STEPS["websocket"][0], url, tmp_path)
    assert isinstance(ran.outcome("get"), Done), "it was handed to an open socket"
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(("server", "said"), [(flood, "not_seen"), (giant, "too_large")])
async def test_what_a_watching_socket_is_flooded_with(server: Handler, said: str, tmp_path: Path) -> None:
    before, seen = psutil.Process().memory_info().rss, "/x"
    step = WebsocketStep(name="chat", url=seen, send="hello", seen_by="viewers", deadline=500_000_000)
    async with serving({"/x": server}) as url, steps(url, viewers=3) as io:
        began = time.monotonic()
        with pytest.raises(Failure) as caught:
            await WebsocketDriver().run(step, io)
    assert caught.value.reason in (said, "not_seen")
    assert time.monotonic() - began < 3.5
    assert psutil.Process().memory_info().rss - before < 50 << 20


@pytest.mark.parametrize("ip", ["127.0.0.2", "10.1.2.3", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"])
async def test_candidates_in_networks_of_ours_are_refused(ip: str, tmp_path: Path) -> None:
    async with rogue(spoil=to(ip)) as server:
        ran = await run("  - get: {view: {via: whep, url: /session, start: 2s, verify: moving}}\n", server.url, tmp_path)
    assert ran.failed("get") == "ice/address_refused"


ODD = [("ufrag", "x" * 5000), ("ufrag", "a\0bcd"), ("ufrag", "ü" * 8), ("ufrag", "a"), ("pwd", "x" * 5000), ("pwd", "ü")]


@pytest.mark.parametrize(("what", "value"), ODD, ids=lambda text: ascii(text[:8]))
async def test_odd_credentials_of_ice_end_in_a_reason(what: str, value: str, tmp_path: Path) -> None:
    async with rogue(spoil=replaced(rf"^a=ice-{what}:.*\r$", f"a=ice-{what}:{value}\r")) as server:
        ran = await run("  - get: {view: {via: whep, url: /session, start: 600ms, verify: moving}}\n", server.url, tmp_path)
    assert ran.failed("get") in ("ice/timeout", "ice/failed", "signal/sdp_rejected")


async def test_thousands_of_candidates_end_in_a_reason(tmp_path: Path) -> None:
    def many(answer: str) -> str:
        lines = "".join(f"a=candidate:{n} 1 udp {n} 127.0.0.1 {1024 + n} typ host\r\n" for n in range(900))
        return answer.replace("a=end-of-candidates\r\n", "", 1) + lines

    async with rogue(spoil=many) as server:
        ran = await run("  - get: {view: {via: whep, url: /session, start: 1500ms, verify: moving}}\n", server.url, tmp_path)
    assert ran.failed("get") in ("first_packet/silence", "ice/timeout", "ice/failed")


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "http://127.0.0.2:9/",
        "http://10.0.0.1/",
        "//192.168.0.1/x",
        "gopher://x/",
    ],
)
async def test_a_playlist_that_points_into_our_network_gets_nothing(where: str, tmp_path: Path) -> None:
    async def playlist(_: web.Request) -> web.Response:
        return web.Response(text=f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{where}\n", content_type="application/x-mpegurl")

    async with serving({"/x.m3u8": playlist}) as url:
        ran = await run(STEPS["hls"][0], url, tmp_path)
    assert ran.failed("get") in ("segment/address_refused", "playlist/address_refused")


async def test_a_session_url_in_our_network_is_not_deleted_and_no_token_goes_there(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.Response()

    async def login(_: web.Request) -> web.Response:
        return web.json_response({"token": "canary"})

    async with serving({"/s": elsewhere}) as other, serving({"/login": login}) as here:
        for location, count in ((f"{other}/s", 1), (other.replace("127.0.0.1", "127.0.0.2") + "/s", 0)):
            asked.clear()
            async with rogue(headers={"Location": location}) as server:
                journey = f"  - login: {{http: 'POST {here}/login', keep: {{viewer_token: token}}}}\n"
                journey += "  - get: {view: {via: whep, url: /session, as: viewer, start: 1s, verify: moving}}\n"
                await run(journey, server.url, tmp_path)
                assert server.authorizations == ["Bearer canary"]
            assert asked == [None] * count
