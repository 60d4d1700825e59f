"""What many, slow, silent and broken clients cost the agent's HTTP service: a bounded place each, and nobody's scrape."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import ExitStack

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from probe.agent.service import answer as answers
from probe.agent.service import connections
from probe.agent.service.answer import weights
from probe.agent.service.listening import serving
from probe.agent.service.view import Probed
from probe.clock import SystemClock
from probe.errors import ConfigError
from tests.agent.desks import Desk, served
from tests.agent.test_service import probed
from tests.tools import requires_ipv6, wait_until


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def connected(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=5)
    one.setblocking(False)
    return one


def deaf(port: int) -> socket.socket:
    """Asks for the metrics, and never reads them."""
    one = connected(port)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return one


async def said(port: int, data: bytes, end: bool = True) -> bytes:
    """What comes back for these bytes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(1 << 20), 5)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def dropped(desk: Desk, kind: str) -> float:
    return desk.count("self_http_dropped_total", kind=kind)


async def test_a_thousand_connections_that_say_nothing_do_not_stop_a_scrape():
    desk = Desk()
    async with served(desk) as (client, url):
        with ExitStack() as stack:
            for at in range(1000):
                stack.enter_context(connected(port_of(url)))
                if at % 100 == 0:
                    await asyncio.sleep(0)
            for _ in range(3):
                async with client.get(f"{url}/metrics", headers={"Connection": "close"}) as answer:
                    assert answer.status == 200
            assert dropped(desk, "displaced") >= 1000 - connections.MOST
            assert dropped(desk, "full") == 0


async def test_where_all_are_being_answered_a_newcomer_is_closed_at_once():
    desk = Desk()
    desk.probing, desk.hold = (lambda *_: probed(True)), asyncio.Event()
    async with served(desk, most=3) as (client, url):

        async def ask() -> int:
            async with client.get(f"{url}/probe?scenario=x") as answer:
                return answer.status

        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask()) for _ in range(3)]
            await wait_until(lambda: len(desk.asked) == 3)
            assert await said(port_of(url), b"", end=False) == b""
            assert dropped(desk, "full") == 1
            desk.hold.set()
        assert [task.result() for task in asking] == [200, 200, 200]


async def test_a_request_that_does_not_end_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADERS", 0.2)
    desk = Desk()
    async with served(desk) as (_, url):
        started = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "
        assert await said(port_of(url), started, end=False) == b""
        assert dropped(desk, "slow_request") == 1


class Big(Collector):
    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("big", "b", labels=["x"])
        for at in range(40_000):
            family.add_metric([f"{at:064d}" * 2], 1)
        return [family]

    def describe(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily("big", "b")]


async def test_a_client_that_never_reads_is_dropped_and_costs_no_scrape(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "SENDING", 1.0)
    desk = Desk()
    desk.registry.register(Big())
    async with served(desk) as (client, url):
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(deaf(port_of(url)))
            async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status == 200 and "big{" in await answer.text()
            await wait_until(lambda: dropped(desk, "slow_reader") == 20, 8)


async def test_who_does_not_take_answers_makes_room_for_who_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    desk = Desk()
    desk.registry.register(Big())
    async with served(desk, most=4) as (client, url):
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(deaf(port_of(url)))
            await wait_until(lambda: desk.count("self_http_requests_total", **{"class": "2xx"}) == 4)

            async def scrape() -> bool:
                try:
                    async with client.get(f"{url}/metrics") as answer:
                        return "big{" in await answer.text()
                except aiohttp.ClientError:
                    return False

            assert await wait_until(scrape, 10)
            assert dropped(desk, "slow_reader") >= 1


async def test_who_asks_and_asks_and_never_reads_is_not_answered_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "SENDING", 0.5)
    desk = Desk()
    async with served(desk) as (_client, url), asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(url), limit=1024)
        try:
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                    await writer.drain()
        finally:
            writer.transport.abort()
        assert dropped(desk, "slow_reader") == 1


@pytest.mark.parametrize("request_line", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"<script>alert(1)</script> / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /<script>\xff\xfe\x00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"<script>" * 20_000 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
    b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n<script>",
], ids=lambda line: line[:24].decode(errors="replace"))  # fmt: skip
async def test_what_is_no_request_gets_400_and_never_itself(request_line: bytes, caplog: pytest.LogCaptureFixture):
    desk = Desk()
    async with served(desk) as (client, url):
        back = await said(port_of(url), request_line)
        assert back == b"" or b" 400 " in back.split(b"\r\n")[0]
        assert b"<script>" not in back
        async with client.get(f"{url}/healthz") as answer:
            assert answer.status == 200
    assert desk.reloads == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_body_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch):
    desk = Desk()
    async with served(desk) as (_client, url), asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(b"POST /-/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
    assert desk.reloads == 1


async def test_when_it_ends_nothing_of_it_is_left():
    desk = Desk()
    desk.probing, desk.hold = (lambda *_: probed(True)), asyncio.Event()
    before, descriptors = asyncio.all_tasks(), len(os.listdir("/proc/self/fd"))
    ended: list[bool] = []

    async def held(scenario: str, target: str, within: float | None) -> Probed:
        try:
            desk.asked.append((scenario, target, within))
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        raise AssertionError

    desk.probe = held  # type: ignore[method-assign]
    async with serving(desk, ("127.0.0.1", 0), None, SystemClock()) as port:
        asking = connected(port)
        asking.sendall(b"GET /probe?scenario=x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        silent = connected(port)
        await wait_until(lambda: desk.asked)
    assert ended == [True]
    asking.close()
    silent.close()
    await wait_until(lambda: asyncio.all_tasks() == before)
    await wait_until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)


async def test_a_port_in_use_is_one_clear_mistake_with_the_remedy():
    async with served(Desk()) as (_, url):
        with pytest.raises(ConfigError) as caught:
            async with serving(Desk(), ("127.0.0.1", port_of(url)), None, SystemClock()):
                pass
    [mistake] = caught.value.mistakes
    assert str(mistake) == (
        f"agent.yaml listen: 127.0.0.1:{port_of(url)} is in use; end the program that has it, or choose another port (0: any)"
    )


@pytest.mark.parametrize(("host", "words"), [("192.0.2.1", "no address of this machine"), ("a..b", "no host's name")])
async def test_an_address_that_cannot_be_had_is_said(host: str, words: str):
    with pytest.raises(ConfigError, match=words):
        async with serving(Desk(), (host, 0), None, SystemClock()):
            pass


async def test_it_listens_on_ipv6_and_on_both_addresses_of_localhost_and_tells_where(caplog: pytest.LogCaptureFixture):
    requires_ipv6()
    caplog.set_level(logging.INFO, "probe")
    async with serving(Desk(), ("::1", 0), None, SystemClock()) as port, aiohttp.ClientSession() as client:
        async with client.get(f"http://[::1]:{port}/healthz") as answer:
            assert answer.status == 200
        assert f"http://[::1]:{port}" in caplog.text
    async with serving(Desk(), ("localhost", 0), None, SystemClock()) as port, aiohttp.ClientSession() as client:
        async with client.get(f"http://localhost:{port}/healthz") as answer:
            assert answer.status == 200


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from("abq=;,/*. 0123456789e-+\x00é"), max_size=300))
def test_an_accept_header_of_any_kind_has_weights_from_0_to_1(header: str):
    assert all(0 <= weight <= 1 for _, weight in weights(header))
