"""The product services, by real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from probe.sandbox.launch import Sandbox
from tests.sandbox.clients import User, user
from tests.tools import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def probe(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox, "viewer") as one:
        yield one


async def pay(who: User, ref: str, amount: int = 10) -> None:
    reply = await who.call("POST", "/payments/coins", json={"amount": amount, "currency": "TEST", "ref": ref})
    assert reply.status == 201


async def test_a_wrong_password_is_refused_with_a_challenge(probe: User) -> None:
    reply = await probe.call("POST", "/auth/login", json={"user": "probe", "password": "guess"})
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["", "Bearer ", "Basic cHJvYmU6eA==", "Bearer a.b", "Bearer not-a-token", "Bearer é.ü"])
async def test_no_token_or_a_made_up_one_is_refused(sandbox: Sandbox, probe: User, header: str) -> None:
    async with probe.http.get(f"{sandbox.url}/rooms", headers={"Authorization": header} if header else {}) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_changed_token_is_refused(probe: User) -> None:
    claims, signature = probe.token.split(".")
    flipped = ("A" if claims[0] != "A" else "B") + claims[1:]
    reply = await probe.call("GET", "/rooms", headers={"Authorization": f"Bearer {flipped}.{signature}"})
    assert (reply.status, reply.json["error"]) == (401, "token_invalid")


async def test_an_unlisted_room_is_found_only_by_its_owners_tag(probe: User, viewer: User) -> None:
    hidden = await probe.room("hidden")
    listed = await probe.room("listed", unlisted=False)
    public = [room["id"] for room in (await viewer.call("GET", "/rooms")).json["rooms"]]
    assert listed in public
    assert hidden not in public
    assert (await probe.call("GET", "/rooms?tag=hidden")).json["rooms"][0]["id"] == hidden
    assert (await viewer.call("GET", "/rooms?tag=hidden")).json == {"rooms": [], "count": 0}


async def test_only_its_owner_ends_a_room_and_then_it_is_gone(probe: User, viewer: User) -> None:
    room = await probe.room()
    assert (await viewer.call("DELETE", f"/rooms/{room}")).status == 403
    assert (await probe.call("DELETE", f"/rooms/{room}")).status == 204
    assert (await probe.call("DELETE", f"/rooms/{room}")).status == 404


async def test_rooms_are_swept_by_tag_and_only_ones_own(probe: User, viewer: User) -> None:
    for who in (probe, probe, viewer):
        await who.room("sweep")
    assert (await probe.call("DELETE", "/rooms?tag=sweep")).json == {"deleted": 2}
    assert (await viewer.call("GET", "/rooms?tag=sweep")).json["count"] == 1
    assert (await probe.call("DELETE", "/rooms")).status == 400


async def test_the_number_of_rooms_is_bounded(probe: User) -> None:
    statuses = [(await probe.call("POST", "/rooms", json={"unlisted": True, "tag": "many"})).status for _ in range(201)]
    assert statuses[-1] == 429
    await probe.call("DELETE", "/rooms?tag=many")
    assert (await probe.call("POST", "/rooms", json={"tag": "many"})).status == 201


async def test_a_payment_is_booked_once_per_reference(viewer: User) -> None:
    body = {"amount": 7, "currency": "TEST", "ref": "once"}
    first = await viewer.call("POST", "/payments/coins", json=body)
    again = await viewer.call("POST", "/payments/coins", json=body)
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    listed = (await viewer.call("GET", "/payments?ref=once")).json
    assert (listed["count"], listed["payments"][0]["amount"]) == (1, 7)


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 5, "currency": "EUR", "ref": "x"},
        {"amount": -5, "currency": "TEST", "ref": "x"},
        {"amount": True, "currency": "TEST", "ref": "x"},
        {"amount": 5, "currency": "TEST", "ref": ""},
        {"amount": 5, "currency": "TEST", "ref": "x" * 300},
        ["amount"],
    ],
)
async def test_a_bad_payment_is_refused(probe: User, body: object) -> None:
    assert (await probe.call("POST", "/payments/coins", json=body)).status == 400


async def test_a_gift_costs_coins_stands_in_the_ledger_once_and_is_seen_by_the_room(probe: User, viewer: User) -> None:
    room = await probe.room()
    await pay(viewer, "for-a-gift")
    before = (await viewer.call("GET", "/auth/me")).json["balance"]
    async with probe.socket(room) as socket:
        body = {"kind": "rose", "ref": "g1"}
        given = await viewer.call("POST", f"/rooms/{room}/gifts", json=body, headers={"X-Request-ID": "req-1"})
        seen = await socket.receive_json(timeout=2)
        again = await viewer.call("POST", f"/rooms/{room}/gifts", json=body)
    assert given.status == 201
    assert seen == {"type": "gift", "gift": given.json["gift"], "kind": "rose", "request_id": "req-1", "from": "viewer"}
    assert again.json == given.json
    assert (await probe.call("GET", f"/rooms/{room}/gifts?ref=g1")).json["count"] == 1
    assert (await viewer.call("GET", "/auth/me")).json["balance"] == before - 1


async def test_a_gift_that_cannot_be_paid_is_refused(probe: User) -> None:
    room = await probe.room()
    assert (await probe.call("POST", f"/rooms/{room}/gifts", json={"kind": "rocket", "ref": "g"})).status == 402
    assert (await probe.call("POST", f"/rooms/{room}/gifts", json={"kind": "yacht", "ref": "g"})).status == 400
    assert (await probe.call("GET", f"/rooms/{room}/gifts")).json["count"] == 0


async def test_what_one_says_all_hear(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    query = f"{sandbox.url}/rooms/{room}/chat?access_token={viewer.token}"
    async with probe.socket(room) as one, viewer.http.ws_connect(query) as other:
        await wait_until(lambda: sockets(sandbox, 2))
        await one.send_str("hello")
        await other.send_json({"text": "there", "request_id": "mine"})
        for socket in (one, other):
            first, second = await socket.receive_json(timeout=2), await socket.receive_json(timeout=2)
            assert (first["type"], first["text"], first["from"]) == ("chat", "hello", "probe")
            assert second == {"type": "chat", "text": "there", "from": "viewer", "request_id": "mine"}


async def sockets(sandbox: Sandbox, count: int) -> bool:
    return bool((await sandbox.state())["counts"]["sockets"] == count)


async def test_chat_wants_a_token_and_a_room(sandbox: Sandbox, probe: User) -> None:
    room = await probe.room()
    for path, status in ((f"/rooms/{room}/chat", 401), (f"/rooms/none/chat?access_token={probe.token}", 404)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            async with probe.http.ws_connect(sandbox.url + path):
                pass
        assert refusal.value.status == status


async def test_a_message_too_long_ends_its_own_socket_only(probe: User) -> None:
    room = await probe.room()
    async with probe.socket(room) as one, probe.socket(room) as other:
        await one.send_str("x" * 5000)
        assert (await one.receive(timeout=2)).data == 1009
        await other.send_str("still here")
        assert (await other.receive_json(timeout=2))["text"] == "still here"


async def test_a_reader_too_slow_is_dropped_and_nobody_waits_for_it(sandbox: Sandbox, probe: User) -> None:
    room = await probe.room()
    reader, writer = await asyncio.open_connection(*sandbox.url.removeprefix("http://").split(":"), limit=1024)
    upgrade = f"GET /rooms/{room}/chat?access_token={probe.token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    upgrade += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    writer.write(upgrade.encode())
    await reader.readuntil(b"\r\n\r\n")  # and nothing more is ever read
    try:
        async with probe.socket(room) as quick:
            await wait_until(lambda: sockets(sandbox, 2))
            for _ in range(4000):
                await quick.send_str("x" * 4000)
                await quick.receive(timeout=2)
            await wait_until(lambda: sockets(sandbox, 1), what="the end of the slow reader")
    finally:
        writer.transport.abort()


async def test_the_end_of_a_room_closes_its_sockets(sandbox: Sandbox, probe: User) -> None:
    room = await probe.room()
    async with probe.socket(room) as socket:
        await probe.call("DELETE", f"/rooms/{room}")
        assert (await socket.receive(timeout=2)).type is aiohttp.WSMsgType.CLOSE
    await wait_until(lambda: sockets(sandbox, 0))


async def test_a_flag_is_acted_on_by_itself(probe: User) -> None:
    room = await probe.room()
    flagged = await probe.call("POST", f"/rooms/{room}/flags", json={"reason": "a test", "ref": "f"})
    assert flagged.status == 202
    url = f"/rooms/{room}/flags/{flagged.json['flag']}"

    async def acted() -> bool:
        return bool((await probe.call("GET", url)).json["state"] == "acted")

    await wait_until(acted, 1.0)
    assert (await probe.call("GET", f"/rooms/{room}/flags/none")).status == 404


async def test_a_server_span_joins_the_callers_trace_and_the_request_id_comes_back(sandbox: Sandbox, probe: User) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01", "X-Request-ID": "request-7"}
    reply = await probe.call("GET", "/rooms", headers=headers)
    assert reply.headers["X-Request-ID"] == "request-7"
    (span,) = await sandbox.spans(trace)
    assert (span["parent_span_id"], span["name"], span["service.name"]) == (parent, "GET /rooms", "sandbox-room")
    assert span["attributes"]["request_id"] == "request-7"
    assert span["start_unix_ns"] <= span["end_unix_ns"]
    assert await sandbox.spans("f" * 32) == []


async def test_a_hostile_request_id_is_replaced(probe: User) -> None:
    reply = await probe.call("GET", "/rooms", headers={"X-Request-ID": 'x" injected="1'})
    assert len(reply.headers["X-Request-ID"]) == 16


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("PUT", "/rooms", b"{}", 405),
        ("POST", "/rooms", b"{", 400),
        ("POST", "/rooms", b"[]", 400),
        ("POST", "/rooms", b'{"tag": 5}', 400),
        ("POST", "/rooms", b'{"tag": "' + b"x" * 100_000 + b'"}', 413),
        ("POST", "/auth/login", b'{"user": "probe"}', 400),
    ],
)
async def test_a_bad_request_is_told_so_in_json(probe: User, method: str, path: str, body: bytes, status: int) -> None:
    reply = await probe.call(method, path, data=body, headers={"Content-Type": "application/json"})
    assert (reply.status, list(reply.json)) == (status, ["error"])


async def test_a_page_of_another_origin_may_call(probe: User) -> None:
    headers = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    reply = await probe.call("OPTIONS", "/rooms/any/whep", headers=headers)
    assert reply.status == 204
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in reply.headers["Access-Control-Allow-Headers"]


async def test_the_admin_port_wants_its_token(sandbox: Sandbox, probe: User) -> None:
    for token in ("", f"Bearer {probe.token}", "Bearer "):
        reply = await probe.call("GET", f"{sandbox.admin_url}/admin/state", headers={"Authorization": token})
        assert reply.status == 401
    assert (await probe.call("GET", f"{sandbox.admin_url}/healthz")).json == {"ok": True}


async def test_expired_tokens_are_refused_and_a_new_login_helps(sandbox: Sandbox, probe: User) -> None:
    await sandbox.expire_tokens()
    reply = await probe.call("GET", "/rooms")
    assert (reply.status, reply.json["error"]) == (401, "token_expired")
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
    await probe.login()
    assert (await probe.call("GET", "/rooms")).status == 200
