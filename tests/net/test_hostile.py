"""The client when servers do not behave: within its deadline, within bounds, with the right phase and reason."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from probe.errors import Failure
from probe.model.stage import Phase, Stage, StageTimer
from tests.net.conftest import Names
from tests.net.servers import Authority, Record, client, head, raw, reset, says, serving
from tests.net.test_client import ask, echo, failing
from tests.tools import rss

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"


async def forever(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_port_nobody_listens_on_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client() as me:
            failure = await failing(me, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert (failure.phase, failure.reason) == (Phase.CONNECT, "refused")
    assert me.requests[0].status == 0 and me.requests[0].failure == failure.outcome
    assert isinstance(failure.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "not_found"),
        (socket.gaierror(socket.EAI_AGAIN, "temporary"), "failed"),
        (UnicodeError("label too long"), "failed"),
    ],
)
async def test_names_that_do_not_resolve(names: Names, error: Exception, reason: str) -> None:
    names["nowhere.test"] = error
    async with client() as me:
        failure = await failing(me, "http://nowhere.test/")
    assert (failure.phase, failure.reason) == (Phase.RESOLVE, reason)


async def test_a_lookup_without_addresses_is_not_found(names: Names) -> None:
    names["empty.test"] = []
    async with client() as me:
        assert (await failing(me, "http://empty.test/")).reason == "not_found"


async def test_a_lookup_that_hangs_is_a_resolve_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", hang)
    async with client() as me:
        failure = await failing(me, "http://slow.test/", timeout=0.1)
    assert (failure.phase, failure.reason) == (Phase.RESOLVE, "timeout")


async def test_a_server_that_takes_no_connection_is_a_connect_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with client() as me:
                failure = await failing(me, f"http://127.0.0.1:{port}/", timeout=0.3)
            assert (failure.phase, failure.reason) == (Phase.CONNECT, "timeout")
        finally:
            for filler in fillers:
                filler.close()


async def test_a_server_that_never_speaks_tls_is_a_tls_timeout(authority: Authority) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(silent) as url, client(tls=authority.client()) as me:
        timer = StageTimer(me.client.clock.now())
        failure = await failing(me, url.replace("http", "https"), timeout=0.2, stages=timer)
        assert (failure.phase, failure.reason) == (Phase.TLS, "timeout")
        assert timer.current is Stage.TLS


async def test_plain_http_on_a_tls_port_is_a_tls_failure(authority: Authority) -> None:
    async with serving({"/": echo}) as url, client(tls=authority.client()) as me:
        failure = await failing(me, url.replace("http", "https"))
        assert (failure.phase, failure.reason) == (Phase.TLS, "failed")


async def test_a_tls_port_that_hangs_up_is_a_tls_failure(authority: Authority) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer)

    async with raw(rude) as url, client(tls=authority.client()) as me:
        assert (await failing(me, url.replace("http", "https"))).phase is Phase.TLS


async def test_certificates_are_told_apart(authority: Authority) -> None:
    cases = {
        "expired": authority.server("127.0.0.1", days=-1),
        "wrong_host": authority.server("other.test"),
        "good": authority.server("127.0.0.1"),
    }
    found = {}
    for name, context in cases.items():
        async with serving({"/": echo}, tls=context) as url, client(tls=authority.client()) as me:
            if name == "good":
                assert (await ask(me, url)).status == 200
            else:
                failure = await failing(me, url)
                found[name] = (failure.phase, failure.reason)
    async with serving({"/": echo}, tls=cases["good"]) as url, client() as stranger:
        failure = await failing(stranger, url)
        found["untrusted"] = (failure.phase, failure.reason)
    assert found == {name: (Phase.TLS, name) for name in ("expired", "wrong_host", "untrusted")}


async def test_a_wrong_host_name_is_told_by_name(authority: Authority) -> None:
    async with serving({"/": echo}, tls=authority.server("other.test"), name="localhost") as url:
        async with client("localhost", tls=authority.client()) as me:
            assert (await failing(me, url)).reason == "wrong_host"


HOSTILE: dict[str, tuple[bytes, Callable[[asyncio.StreamWriter], Awaitable[None] | None] | None, str]] = {
    "garbage": (b"\x00\x01\x02 SSH-2.0 hello\r\n\r\n", None, "protocol"),
    "garbage status line": (b"HTTP/1.1 banana OK\r\n\r\n", None, "protocol"),
    "nothing": (b"", None, "closed"),
    "half a status line": (b"HTTP/1.1 20", None, "closed"),
    "reset before an answer": (b"", reset, "reset"),
    "reset mid-body": (OK + b"Content-Length: 1000\r\n\r\nabc", reset, "reset"),
    "closed mid-body": (OK + b"Content-Length: 1000\r\n\r\nabc", None, "closed"),
    "closed mid-chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc", None, "closed"),
    "bad chunk size": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", None, "protocol"),
    "slow body": (OK + b"Content-Length: 1000\r\n\r\nabc", forever, "timeout"),
    "slow headers": (OK + b"X-A: ", forever, "timeout"),
    "huge header": (OK + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n", forever, "too_large"),
    "a thousand headers": (OK + b"X-A: b\r\n" * 1000 + b"\r\n", forever, "too_large"),
    "huge status line": (b"HTTP/1.1 200 " + b"a" * 200_000 + b"\r\n\r\n", forever, "too_large"),
    "declares 10 GB": (OK + b"Content-Length: 10737418240\r\n\r\n" + b"x" * 1000, forever, "too_large"),
    "unasked encoding": (OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", None, "protocol"),
    "false gzip": (OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", None, "protocol"),
    "cut gzip": (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(range(256)) * 99)[:-20], None, "closed"),
    "endless interim answers": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, forever, "timeout"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_a_server_can_do_to_an_exchange(name: str) -> None:
    answer, then, reason = HOSTILE[name]
    async with raw(says(answer, then=then)) as url, client() as me:
        async with asyncio.timeout(5):
            failure = await failing(me, url, timeout=0.5)
        assert (failure.phase, failure.reason) == (Phase.ROOM, reason)
        assert me.requests[-1].failure == failure.outcome


async def test_gzip_that_was_not_asked_for_is_read_all_the_same() -> None:
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    packed = gzip.compress(b'{"a": 1}')
    async with raw(says(answer % (len(packed), packed))) as url, client() as me:
        assert (await ask(me, url)).json() == {"a": 1}


async def test_ten_gigabytes_are_not_read() -> None:
    block = b"x" * 65536

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(10 * (1 << 30) // len(block)):
            await response.write(block)
        return response

    async with serving({"/": endless}) as url, client() as me:
        before, began = rss(), time.monotonic()
        failure = await failing(me, url, limit=8 * MIB)
        took = time.monotonic() - began
        assert failure.reason == "too_large"
        assert me.requests[0].size <= 9 * MIB
        assert took < 5 and rss() - before < 64 * MIB


async def test_a_gzip_bomb_is_defused() -> None:
    bomb = gzip.compress(b"\0" * (256 * MIB), compresslevel=1)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving({"/": handler}) as url, client() as me:
        before, began = rss(), time.monotonic()
        assert (await failing(me, url, limit=4 * MIB)).reason == "too_large"
        assert time.monotonic() - began < 5 and rss() - before < 32 * MIB


async def test_a_body_of_drops_ends_with_the_deadline_and_not_later() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw(says(OK + b"Content-Length: 100000\r\n\r\n", then=drip)) as url, client() as me:
        began = time.monotonic()
        assert (await failing(me, url, timeout=0.3)).reason == "timeout"
        assert time.monotonic() - began < 2


async def test_an_error_with_an_endless_body_is_still_its_status() -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with raw(says(b"HTTP/1.1 503 No\r\nContent-Type: text/plain\r\n\r\n", then=pour)) as url, client() as me:
        began = time.monotonic()
        assert (await failing(me, url)).reason == "http_503"
        assert time.monotonic() - began < 3 and me.requests[0].size <= 8192


async def test_an_error_whose_body_never_comes_is_still_its_status() -> None:
    async with raw(says(b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\n", then=forever)) as url, client() as me:
        began = time.monotonic()
        assert (await failing(me, url)).reason == "http_503"
        assert time.monotonic() - began < 3


async def test_html_where_json_was_expected_is_malformed() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    async with serving({"/": page}) as url, client() as me:
        answer = await ask(me, url)
        with pytest.raises(Failure) as caught:
            answer.json()
        assert (caught.value.phase, caught.value.reason) == (Phase.ROOM, "malformed")
        assert caught.value.outcome.detail == "text/html where JSON was expected"


@pytest.mark.parametrize("body", [b"[" * 200_000, b"NaN", b"\xff\xfe{", b'{"a": 1', b""])
async def test_json_that_is_none_is_malformed(body: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with serving({"/": handler}) as url, client() as me:
        answer = await ask(me, url)
        with pytest.raises(Failure):
            answer.json()


async def test_a_fresh_connection_that_drops_is_asked_once_only() -> None:
    asked: list[bytes] = []

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))

    async with raw(drop) as url, client() as me:
        assert (await failing(me, url)).reason in ("closed", "reset")
        assert len(asked) == 1


@pytest.mark.parametrize(("method", "survives"), [("GET", True), ("POST", False)])
async def test_an_idle_connection_that_turned_out_closed_is_replaced_where_that_is_safe(method: str, survives: bool) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        await head(reader)  # the second request meets a connection that is just being closed

    async with raw(once) as url, client() as me:
        await ask(me, url)
        timer = StageTimer(me.client.clock.now())
        if survives:
            assert (await ask(me, url, method, stages=timer, stage=Stage.SIGNAL)).status == 200
            assert Stage.CONNECT in timer.by_stage()
        else:
            assert (await failing(me, url, method)).reason in ("closed", "reset")
        assert len(me.requests) == 2


async def test_cancelling_leaves_nothing_and_is_recorded(authority: Authority) -> None:
    """Descriptors and tasks are counted by the fixture around every test."""
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await reader.read()

    async with raw(hang) as url, client(tls=authority.client()) as me:
        for target in (url, url.replace("http", "https")):
            arrived.clear()
            task = asyncio.create_task(ask(me, target))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [(r.status, r.failure) for r in me.requests] == [(0, None), (0, None)]


async def test_cancelling_amid_an_error_body_leaves_nothing() -> None:
    arrived = asyncio.Event()

    async def hang(writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with raw(says(b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\n", then=hang)) as url, client() as me:
        task = asyncio.create_task(ask(me, url))
        await arrived.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_hundred_requests_that_fail_leave_nothing() -> None:
    async with raw(says(OK + b"Content-Length: 9\r\n\r\nabc", then=reset)) as url, client() as me:
        await _many(me, url)
        assert {r.failure.reason for r in me.requests if r.failure} == {"reset"}


async def _many(me: Record, url: str) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(failing(me, url))
