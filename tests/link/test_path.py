"""The path passes everything while it is open, nothing while it is cut, and loses no byte of a stream."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from probe.clock import SystemClock
from probe.errors import Failure
from probe.link import tcp
from probe.link.path import Path

GRACE = 5.0


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    async with Path(SystemClock()) as one:
        yield one


class Datagrams(asyncio.DatagramProtocol):
    """A UDP peer: keeps what came, echoes it when asked to."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.got: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.address: tuple[str, int] = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        self.got.put_nowait((data, addr[:2]))
        if self.echo:
            self.transport.sendto(data, addr)

    async def next(self) -> tuple[bytes, tuple[str, int]]:
        return await asyncio.wait_for(self.got.get(), GRACE)


async def peer(ip: str = "127.0.0.1", echo: bool = False) -> Datagrams:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(echo), local_addr=(ip, 0))
    return protocol


@pytest.fixture
async def peers() -> AsyncIterator[Callable]:
    made: list[Datagrams] = []

    async def make(ip: str = "127.0.0.1", echo: bool = False) -> Datagrams:
        made.append(await peer(ip, echo))
        return made[-1]

    yield make
    for one in made:
        one.transport.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A TCP server that sends back what it gets, and FIN for FIN."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


async def connect(path: Path, address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = await asyncio.wait_for(path.dial("media.example", *address), GRACE)
    return await asyncio.open_connection(host, port)


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), GRACE)


async def stays_silent(reader: asyncio.StreamReader, seconds: float = 0.15, size: int = 1) -> bool:
    try:
        return not await asyncio.wait_for(reader.read(size), seconds)
    except TimeoutError:
        return True


async def comes(reader: asyncio.StreamReader, seconds: float = 0.15) -> bool:
    return not await stays_silent(reader, seconds, size=1 << 20)


# --- TCP


async def test_a_connection_carries_bytes_both_ways(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    assert await echoed(reader, writer, b"hello") == b"hello"
    assert (path.up.stream_bytes, path.down.stream_bytes) == (5, 5)
    writer.close()


async def test_a_server_on_ipv6_is_reached(path: Path):
    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"six")
        writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    reader, writer = await connect(path, server.sockets[0].getsockname()[:2])
    assert await asyncio.wait_for(reader.readexactly(3), GRACE) == b"six"
    writer.close()
    server.close()


async def test_the_end_of_a_stream_is_passed_on_and_leaves_no_connection(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    writer.write(b"last words")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), GRACE) == b"last words"
    writer.close()
    await writer.wait_closed()
    await until(lambda: not path.connections)


async def test_a_refused_connection_is_refused_in_dial(path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await path.dial("media.example", *address)
    assert path.connections == 0


async def test_no_byte_is_lost_or_reordered_over_many_cuts(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    sent = b"".join(struct.pack(">I", n) for n in range(1_000_000))

    async def send() -> None:
        writer.write(sent)
        await writer.drain()
        writer.write_eof()

    async def flap() -> None:
        while not reader.at_eof():
            path.cut()
            await asyncio.sleep(0.002)
            path.restore()
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        flapping = tasks.create_task(flap())
        got = await asyncio.wait_for(reader.read(), 30)
        flapping.cancel()
    assert got == sent
    assert path.down.stream_bytes == len(sent)
    writer.close()


async def test_a_cut_holds_both_ways_and_the_connection_lives_on(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    await echoed(reader, writer, b"before")
    cut_at = path.cut()
    writer.write(b"during")
    assert await stays_silent(reader)
    assert path.up.stream_bytes == len(b"before")
    restored_at = path.restore()
    assert await asyncio.wait_for(reader.readexactly(6), GRACE) == b"during"
    assert (path.cut_at, path.restored_at) == (cut_at, restored_at)
    assert cut_at < restored_at <= SystemClock().now()
    writer.close()


async def test_what_was_already_read_when_the_cut_came_waits(path: Path):
    """A server that does not read: its buffers fill, ours holds one chunk; after the cut not a byte more may arrive."""
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), "127.0.0.1", 0, limit=1024)
    _, writer = await connect(path, server.sockets[0].getsockname())
    far_reader, far_writer = await accepted.get()
    writer.write(b"x" * (16 << 20))
    passed = -1
    async with asyncio.timeout(GRACE):
        while passed != path.up.stream_bytes:  # until everything is full
            passed = path.up.stream_bytes
            await asyncio.sleep(0.05)
    path.cut()
    while await comes(far_reader):
        pass
    assert path.up.stream_bytes == passed
    writer.transport.abort()
    far_writer.transport.abort()
    server.close()


async def test_the_end_of_a_stream_does_not_pass_a_cut(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    await echoed(reader, writer, b"a")
    path.cut()
    writer.write_eof()
    assert await stays_silent(reader)
    assert not reader.at_eof()
    path.restore()
    assert await asyncio.wait_for(reader.read(), GRACE) == b""
    writer.close()


async def test_a_new_connection_hangs_until_restore(path: Path, echo: tuple[str, int]):
    path.cut()
    async with asyncio.TaskGroup() as tasks:
        dialling = tasks.create_task(path.dial("media.example", *echo))
        done, _ = await asyncio.wait([dialling], timeout=0.1)
        assert not done
        path.restore()
        address = await asyncio.wait_for(dialling, GRACE)
    reader, writer = await asyncio.open_connection(*address)
    assert await echoed(reader, writer, b"at last") == b"at last"
    writer.close()


async def test_rebind_resets_connections_and_new_ones_work(path: Path, echo: tuple[str, int]):
    reader, writer = await connect(path, echo)
    await echoed(reader, writer, b"a")
    await path.rebind()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), GRACE)
    assert path.connections == 0
    reader, writer = await connect(path, echo)
    assert await echoed(reader, writer, b"b") == b"b"
    writer.close()


async def test_rebind_is_a_reset_to_the_server_too(path: Path):
    accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    writers = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        accepted.put_nowait(reader)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await connect(path, server.sockets[0].getsockname())
    far = await accepted.get()
    await path.rebind()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(far.readexactly(1), GRACE)
    for one in (writer, *writers):
        one.transport.abort()
    server.close()


async def test_a_reset_by_the_server_reaches_the_client(path: Path):
    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await connect(path, server.sockets[0].getsockname())
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), GRACE)
    writer.close()
    server.close()


async def test_an_unclaimed_connection_is_given_up(path: Path, echo: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tcp, "UNCLAIMED_SECONDS", 0.05)
    address = await path.dial("media.example", *echo)
    await until(lambda: not path.connections)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_an_address_given_by_dial_serves_one_connection_only(path: Path, echo: tuple[str, int]):
    address = await path.dial("media.example", *echo)
    reader, writer = await asyncio.open_connection(*address)
    await echoed(reader, writer, b"mine")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    writer.close()


async def test_connections_are_limited(echo: tuple[str, int]):
    async with Path(SystemClock()) as path:
        for _ in range(64):
            await path.dial("media.example", *echo)
        with pytest.raises(OSError, match="more than 64"):
            await path.dial("media.example", *echo)


async def test_closing_tells_who_waits_and_leaves_no_descriptor(echo: tuple[str, int]):
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    async with Path(SystemClock()) as path:
        reader, writer = await connect(path, echo)
        await echoed(reader, writer, b"x")
        await path.dial("media.example", *echo)
        await path.udp_local("127.0.0.1", 5000)
        await path.udp_remote("127.0.0.1", 5001)
        path.cut()

        async def wait() -> None:
            with pytest.raises(ConnectionAbortedError) as raised:
                await path.dial("media.example", *echo)
            assert raised.value.errno == errno.ECONNABORTED

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            await asyncio.sleep(0)
            await path.close()
    writer.close()
    await until(lambda: set(os.listdir("/proc/self/fd")) <= before)


# --- UDP


class Ice:
    """Our agent at `ip`, the server at `ip`, and what each was told of the other."""

    def __init__(self, agent: Datagrams, server: Datagrams, path: Path) -> None:
        self.agent, self.server, self.path = agent, server, path

    async def join(self) -> None:
        self.told_server = await self.path.udp_local(*self.agent.address)
        self.told_agent = await self.path.udp_remote(*self.server.address)

    async def round_trip(self, data: bytes) -> tuple[bytes, tuple[str, int]]:
        self.agent.transport.sendto(data, self.told_agent)
        return await self.agent.next()


@pytest.fixture(params=["127.0.0.1", "::1"])
async def ice(path: Path, peers: Callable, request: pytest.FixtureRequest) -> Ice:
    pair = Ice(await peers(request.param), await peers(request.param, echo=True), path)
    await pair.join()
    return pair


async def test_each_side_sees_only_the_relay(ice: Ice):
    data, source = await ice.round_trip(b"check")
    assert (data, source) == (b"check", ice.told_agent)
    assert await ice.server.next() == (b"check", ice.told_server)
    assert len({ice.told_agent, ice.told_server, ice.agent.address, ice.server.address}) == 4


async def test_the_server_may_speak_first(ice: Ice):
    ice.server.transport.sendto(b"first", ice.told_server)
    assert await ice.agent.next() == (b"first", ice.told_agent)


async def test_a_candidate_keeps_its_address_and_candidates_are_told_apart(ice: Ice, peers: Callable):
    assert await ice.path.udp_local(*ice.agent.address) == ice.told_server
    assert await ice.path.udp_remote(*ice.server.address) == ice.told_agent
    second = await peers(ice.server.address[0], echo=True)
    told = await ice.path.udp_remote(*second.address)
    ice.agent.transport.sendto(b"two", told)
    assert await ice.agent.next() == (b"two", told)
    assert await second.next() == (b"two", ice.told_server)


async def test_a_cut_loses_datagrams_both_ways_and_counts_them(ice: Ice):
    await ice.round_trip(b"before")
    ice.path.cut()
    ice.agent.transport.sendto(b"up", ice.told_agent)
    ice.server.transport.sendto(b"down!", ice.told_server)
    await until(lambda: ice.path.up.dropped + ice.path.down.dropped == 2)
    ice.path.restore()
    assert (await ice.round_trip(b"after"))[0] == b"after"
    assert (ice.path.up.packets, ice.path.up.bytes, ice.path.up.dropped, ice.path.up.dropped_bytes) == (2, 11, 1, 2)
    assert (ice.path.down.packets, ice.path.down.dropped, ice.path.down.dropped_bytes) == (2, 1, 5)


async def test_rebind_moves_the_server_side_and_closes_the_old(ice: Ice):
    await ice.round_trip(b"before")
    await ice.server.next()
    await ice.path.rebind()
    assert (await ice.round_trip(b"after"))[1] == ice.told_agent
    moved = (await ice.server.next())[1]
    assert moved != ice.told_server
    assert await ice.path.udp_local(*ice.agent.address) == moved
    ice.server.transport.sendto(b"to the old one", ice.told_server)
    ice.server.transport.sendto(b"to the new one", moved)
    assert (await ice.agent.next())[0] == b"to the new one"


async def test_strangers_are_dropped_and_counted_on_both_sides(ice: Ice, peers: Callable):
    stranger = await peers(ice.agent.address[0])
    stranger.transport.sendto(b"x", ice.told_agent)
    stranger.transport.sendto(b"x", ice.told_server)
    await until(lambda: ice.path.up.stray + ice.path.down.stray == 2)
    await ice.round_trip(b"ours")
    assert (await ice.server.next())[0] == b"ours"
    assert stranger.got.empty()


async def test_a_burst_arrives_whole_and_in_order(ice: Ice):
    for n in range(50):
        ice.agent.transport.sendto(n.to_bytes(2, "big") + bytes(1100), ice.told_agent)
    got = [int.from_bytes((await ice.agent.next())[0][:2], "big") for _ in range(50)]
    assert got == list(range(50))


async def test_families_are_not_mixed(path: Path, peers: Callable):
    four, six = await peers("127.0.0.1"), await peers("::1")
    await path.udp_local(*four.address)
    told = await path.udp_remote(*six.address)
    assert told[0] == "::1"


@pytest.mark.parametrize("bad", ["media.local", "", "300.1.1.1", "1.2.3.4/8"])
async def test_only_literal_addresses_are_candidates(path: Path, bad: str):
    with pytest.raises(ValueError):
        await path.udp_remote(bad, 5000)
    with pytest.raises(ValueError):
        await path.udp_local(bad, 5000)


@pytest.mark.parametrize("port", [0, -1, 65_536])
async def test_only_real_ports_are_candidates(path: Path, port: int):
    with pytest.raises(ValueError):
        await path.udp_remote("127.0.0.1", port)


async def test_a_candidate_that_is_not_ours_is_refused(path: Path):
    with pytest.raises(OSError):
        await path.udp_local("203.0.113.7", 5000)


async def test_a_server_with_endless_candidates_is_the_servers_failure(path: Path):
    for port in range(1000, 1064):
        await path.udp_remote("127.0.0.1", port)
    with pytest.raises(Failure, match="ice/failed: more than 64"):
        await path.udp_remote("127.0.0.1", 1064)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(GRACE):
        while not true():  # noqa: ASYNC110 (counters of the product, which has no event to wait for)
            await asyncio.sleep(0.005)
