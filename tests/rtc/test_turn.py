"""TURN servers that behave badly: each ends in one failure that names it, within its bound, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aioice.candidate import Candidate
from aioice.ice import Connection
from aioice.stun import Class, Message, Method, parse_message
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure
from probe.model.stage import Phase
from probe.rtc import turn
from probe.rtc.ice import Agent, Reach
from probe.rtc.stun import Socket
from probe.rtc.turn import TurnServer, allocate
from tests.net.servers import Authority, raw
from tests.tools import wait_until

Answer = Callable[[Message], list[bytes]]
SECRET = "s3cret-of-the-relay"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "SECONDS", 0.4)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def error(code: int, phrase: str = "No", **attributes: object) -> Answer:
    def answer(request: Message) -> list[bytes]:
        response = Message(request.message_method, Class.ERROR, request.transaction_id)
        response.attributes.update({"ERROR-CODE": (code, phrase), **attributes})
        return [bytes(response)]

    return answer


def challenge(request: Message) -> list[bytes]:
    """401 for everything, with a nonce and a realm: whoever answers it is asked again."""
    return error(401, f"Unauthorized {SECRET}", NONCE=b"n" * 16, REALM="test.invalid")(request)


def granted(*without: str, lifetime: int = 600) -> Answer:
    def answer(request: Message) -> list[bytes]:
        response = Message(request.message_method, Class.RESPONSE, request.transaction_id)
        whole = {"LIFETIME": lifetime, "XOR-MAPPED-ADDRESS": ("127.0.0.1", 9), "XOR-RELAYED-ADDRESS": ("127.0.0.1", 9)}
        response.attributes.update({name: value for name, value in whole.items() if name not in without})
        return [bytes(response)]

    return answer


def malformed(request: Message) -> list[bytes]:
    """What looks like the answer and has a lifetime of three bytes."""
    body = bytes.fromhex("000d0003") + b"abc\0"
    return [bytes.fromhex("0103") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442") + request.transaction_id + body]


class Udp(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        for piece in self.answer(parse_message(data)):
            self.transport.sendto(piece, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def udp(answer: Answer) -> AsyncIterator[tuple[int, Udp]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Udp(answer), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1], server
    finally:
        transport.close()


def agent() -> Agent:
    return Agent.adopt(Connection(ice_controlling=True), Reach(loopback=True, relayed=True))


async def refused(
    port: int, transport: str = "udp", tls: ssl.SSLContext | None = None, password: str | None = SECRET, host: str = "127.0.0.1"
) -> Failure:
    server = TurnServer(host, "127.0.0.1", port, transport, "probe" if password else None, password)
    began = time.monotonic()
    with pytest.raises(Failure) as caught:
        await allocate(server, agent(), lambda *_: None, tls or ssl.create_default_context(), hide=True)
    assert time.monotonic() - began < 2
    assert password is None or SECRET not in repr(caught.value) + repr(server)
    return caught.value


BAD: dict[str, tuple[Answer, Phase, str, str]] = {
    "hangs": (lambda _: [], Phase.ICE, "timeout", "no answer"),
    "garbage": (lambda _: [b"\0" * 40, b"HTTP/1.1 400 Bad Request", b""], Phase.ICE, "no_candidates", "is no TURN"),
    "malformed": (malformed, Phase.ICE, "no_candidates", "is no TURN"),
    "somebody else's answer": (
        lambda r: granted()(Message(r.message_method, r.message_class)),
        Phase.ICE,
        "timeout",
        "no answer",
    ),
    "401 without end": (challenge, Phase.AUTH, "refused", "refused the credentials: 401"),
    "stale nonce without end": (error(438, "Stale", NONCE=b"n", REALM="r"), Phase.ICE, "no_candidates", "438"),
    "forbidden": (error(403, "Forbidden"), Phase.AUTH, "refused", "forbids it: 403"),
    "allocation mismatch": (error(437, "Allocation Mismatch"), Phase.ICE, "no_candidates", "437 Allocation Mismatch"),
    "quota": (error(486, "Allocation Quota\nReached\x1b[0m"), Phase.ICE, "no_candidates", "486 Allocation QuotaReached0m"),
    "no relay in the answer": (granted("XOR-RELAYED-ADDRESS"), Phase.ICE, "no_candidates", "lacks"),
    "no lifetime in the answer": (granted("LIFETIME"), Phase.ICE, "no_candidates", "lacks"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_server_is_one_failure_that_names_it(name: str) -> None:
    answer, phase, reason, says = BAD[name]
    async with udp(answer) as (port, server):
        failure = await refused(port)
    assert (failure.phase, failure.reason) == (phase, reason), str(failure)
    assert says in str(failure) and "127.0.0.1 (udp)" in str(failure)
    assert server.asked <= 4


async def test_a_401_without_credentials_of_ours_is_the_same_refusal() -> None:
    async with udp(challenge) as (port, server):
        failure = await refused(port, password=None)
    assert (failure.phase, failure.reason, server.asked) == (Phase.AUTH, "refused", 1)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_closed_port_is_told_at_once(transport: str) -> None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    began = time.monotonic()
    failure = await refused(port, transport)
    assert (failure.phase, failure.reason) == (Phase.ICE, "no_candidates") and "ECONNREFUSED" in str(failure)
    assert time.monotonic() - began < 0.35


async def test_over_tcp_garbage_and_a_closed_connection_are_told_apart() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\1\0\0" + b"not the cookie at all" + b"\0" * 400)
        await reader.read(1 << 16)
        await asyncio.sleep(5)

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.sleep(5)

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    for handler in (garbage, http):
        async with raw(handler) as url:
            assert "is no TURN" in str(await refused(int(url.rpartition(":")[2]), "tcp"))
    async with raw(closes) as url:
        failure = await refused(int(url.rpartition(":")[2]), "tcp")
        assert (failure.phase, failure.reason) == (Phase.ICE, "no_candidates") and "ECONNRESET" in str(failure)


TRUST: dict[str, tuple[tuple[str, ...], int, bool, str]] = {
    "untrusted": (("127.0.0.1",), 1, False, "untrusted"),
    "expired": (("127.0.0.1",), -1, True, "expired"),
    "for another host": (("turn.invalid",), 1, True, "wrong_host"),
}


@pytest.mark.parametrize("name", TRUST)
async def test_a_certificate_is_checked_and_its_fault_named(name: str, authority: Authority) -> None:
    names, days, trusted, reason = TRUST[name]

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=authority.server(*names, days=days))
    async with server:
        port = server.sockets[0].getsockname()[1]
        failure = await refused(port, "tls", authority.client() if trusted else None)
    assert (failure.phase, failure.reason) == (Phase.TLS, reason) and "the TURN server 127.0.0.1 (tls)" in str(failure)


async def test_a_server_that_speaks_no_tls_is_no_mystery() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw(plain) as url:
        failure = await refused(int(url.rpartition(":")[2]), "tls")
    assert (failure.phase, failure.reason) == (Phase.TLS, "failed")


async def test_a_lifetime_of_nothing_makes_nobody_spin() -> None:
    async with udp(granted(lifetime=0)) as (port, server):
        one = agent()
        where = TurnServer("127.0.0.1", "127.0.0.1", port, "udp", "probe", SECRET)
        await one.relay_through(where, ssl.create_default_context())
        await asyncio.sleep(0.1)
        assert server.asked == 1
        one.abort()


async def test_a_server_that_does_not_read_fills_no_memory() -> None:
    client = turn._Tcp(("127.0.0.1", 9), username="u", password="p", lifetime=600, channel_refresh_time=500)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with raw(deaf) as url:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: client, "127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(20_000):
            client._send(bytes(1200))
        assert transport.get_write_buffer_size() < turn.UNSENT + 2000
        transport.abort()


async def test_cancelled_in_the_middle_nothing_is_left() -> None:
    async with udp(lambda _: []) as (port, server):
        asking = asyncio.create_task(refused(port))
        await wait_until(lambda: server.asked, what="the request")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_what_only_looks_like_stun_ends_no_socket() -> None:
    one = Agent.adopt(Connection(ice_controlling=True), Reach(loopback=True, family="ipv4"))
    await one.gather_candidates()
    ours = one.local_candidates[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        request = Message(message_method=Method.BINDING, message_class=Class.REQUEST)
        for data in (malformed(request)[0], b"\0", b"", b"\1\1" + b"\0" * 30, b"\x14whatever"):
            far.sendto(data, (ours.host, ours.port))
        await asyncio.sleep(0.05)
    assert one._queue.qsize() == 1, "what is no STUN, and no more"
    await one.close()


@settings(max_examples=300)
@given(data=st.binary(max_size=80), head=st.sampled_from([b"", b"\1\1", b"\0\1\0\x08\x21\x12\xa4\x42", b"\x40\0"]))
def test_no_bytes_raise_in_the_sockets_callback(data: bytes, head: bytes) -> None:
    with _loop():
        one = Agent.adopt(Connection(ice_controlling=True), Reach(loopback=True))
        host = Socket(one)
        host.local_candidate = Candidate("1", 1, "udp", 1, "127.0.0.1", 9, "host")
        host.transport = _Sink()  # type: ignore[assignment]
        host.datagram_received(head + data, ("127.0.0.1", 9))
        client = turn._Udp(("127.0.0.1", 9), username="u", password="p", lifetime=600, channel_refresh_time=500)
        client.datagram_received(head + data, ("127.0.0.1", 9))


class _Sink:
    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        pass


@contextlib.contextmanager
def _loop() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()
