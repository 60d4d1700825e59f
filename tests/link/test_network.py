"""A path with a network between, over real sockets: what waits waits that long, what is lost is counted, and no byte of a
stream is lost, whatever happens."""

from __future__ import annotations

import asyncio
import socket
import statistics
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from probe.clock import SystemClock
from probe.link import gate
from probe.link.path import Path
from probe.plan import Network
from tests.link.test_path import GRACE, Datagrams, connect, peer, until
from tests.tools import steady

MS = 1_000_000
CLOCK = SystemClock()


def network(seed: int = 1, **fields: Any) -> Path:
    return Path(CLOCK, Network(**fields), seed)


@asynccontextmanager
async def echoing(half_close: bool = True) -> AsyncIterator[tuple[str, int]]:
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


@asynccontextmanager
async def serving(data: bytes, *, reset: bool = False) -> AsyncIterator[tuple[str, int]]:
    """A server that sends `data` to whoever comes, and then FIN, or RST."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(data)
            await writer.drain()
            if reset:
                await reader.read(1)  # until the client says that all is there
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
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


@asynccontextmanager
async def tunnel(path: Path, echo: bool = False) -> AsyncIterator[tuple[Datagrams, Datagrams, tuple[str, int]]]:
    """A client, a server, and where the client sends to."""
    client, server = await peer(), await peer(echo=echo)
    try:
        yield client, server, await path.udp(*server.address)
    finally:
        client.transport.close()
        server.transport.close()


async def elapsed(since: int) -> float:
    return (CLOCK.now() - since) / MS


# --- UDP


@pytest.mark.timing
async def test_datagrams_come_at_their_time():
    """Median error of release under 2 ms, and never early beyond the line's slack."""
    async with network(delay=50 * MS) as path, tunnel(path) as (client, server, to):
        errors: list[float] = []
        arrived: list[int] = []
        server.datagram_received = lambda data, addr: arrived.append(CLOCK.now())  # type: ignore[method-assign]
        async with steady():
            sent = []
            for _ in range(200):
                sent.append(CLOCK.now())
                client.transport.sendto(b"x" * 1_000, to)
                await asyncio.sleep(0.003)
            await until(lambda: len(arrived) == 200)
        errors = [(a - s) / MS - 50 for s, a in zip(sent, arrived, strict=True)]
        assert statistics.median(errors) < 2
        assert min(errors) > -0.5
        assert path.up.delayed == path.up.packets == 200


async def test_what_is_held_keeps_its_order_and_its_content():
    async with network(delay=20 * MS, jitter=10 * MS, rate_up=4_000_000) as path, tunnel(path) as (client, server, to):
        for n in range(20):
            client.transport.sendto(n.to_bytes(2, "big") + bytes(1_000), to)
        assert [int.from_bytes((await server.next())[0][:2], "big") for _ in range(20)] == list(range(20))


async def test_losses_duplicates_and_overtaking_are_counted_each_by_its_name():
    async with network(loss=0.2, duplicate=0.1, reorder=0.1) as path, tunnel(path) as (client, server, to):
        for n in range(500):
            client.transport.sendto(n.to_bytes(2, "big"), to)
            await asyncio.sleep(0.001 if n % 10 == 0 else 0)
        up = path.up
        await until(lambda: up.packets + up.lost == 500 + up.duplicated)
        assert (up.dropped, up.overflowed, up.stray) == (0, 0, 0)
        assert 60 < up.lost < 150
        assert 20 < up.duplicated < 70
        assert 0 < up.reordered <= 100
        numbers = [int.from_bytes((await server.next())[0], "big") for _ in range(up.packets)]
        assert len(set(numbers)) == 500 - up.lost
        assert any(later < earlier for earlier, later in pairwise(numbers))


async def test_the_same_seed_loses_the_same_packets():
    fates = []
    for seed in (7, 7, 8):
        async with network(seed, loss=0.3) as path, tunnel(path) as (client, server, to):
            for n in range(100):
                client.transport.sendto(n.to_bytes(2, "big"), to)
            await until(lambda p=path: p.up.packets + p.up.lost == 100)  # type: ignore[misc]
            fates.append([int.from_bytes((await server.next())[0], "big") for _ in range(path.up.packets)])
    assert fates[0] == fates[1] != fates[2]


async def test_a_cut_loses_what_is_under_way():
    async with network(delay=100 * MS) as path, tunnel(path) as (client, server, to):
        for _ in range(5):
            client.transport.sendto(b"under way", to)
        await until(lambda: path.up.delayed == 5)
        path.cut()
        path.restore()
        client.transport.sendto(b"after", to)
        assert (await server.next())[0] == b"after"
        assert (path.up.dropped, path.up.packets) == (5, 1)


async def test_a_path_closed_with_packets_under_way_leaves_nothing():
    async with network(delay=10_000 * MS) as path, tunnel(path) as (client, _, to):
        client.transport.sendto(b"never", to)
        await until(lambda: path.up.delayed == 1)
    assert path.up.packets == 0


@pytest.mark.parametrize(("bound", "most"), [("HELD_PACKETS", 10), ("HELD_BYTES", 10_000)])
async def test_what_is_under_way_is_bounded(bound, most, monkeypatch):
    monkeypatch.setattr(gate, bound, most)
    async with network(delay=200 * MS) as path, tunnel(path) as (client, server, to):
        for _ in range(30):
            client.transport.sendto(bytes(1_000), to)
        await until(lambda: path.up.overflowed == 20)
        for _ in range(10):
            await server.next()
        assert server.got.empty()


async def test_a_session_can_say_what_its_network_did():
    async with Path(CLOCK) as path:
        assert path.facts() == {}
    async with network(seed=3, loss=0.5) as path, tunnel(path) as (client, _, to):
        for _ in range(20):
            client.transport.sendto(b"x", to)
        await until(lambda: path.up.packets + path.up.lost == 20)
        assert path.facts() == {"network up": f"{path.up.packets} datagrams, {path.up.lost} lost", "network down": ""}


async def test_a_client_without_candidates_reaches_its_server_both_ways_and_over_a_rebind():
    async with Path(CLOCK) as path, tunnel(path, echo=True) as (client, server, to):
        client.transport.sendto(b"one", to)
        assert (await client.next()) == (b"one", to)
        before = (await server.next())[1]
        await path.rebind()
        client.transport.sendto(b"two", to)
        assert (await client.next()) == (b"two", to)
        assert (await server.next())[1] != before
        stranger = await peer()
        stranger.transport.sendto(b"x", to)
        await until(lambda: path.up.stray == 1)
        stranger.transport.close()


async def test_the_next_attempt_s_client_gets_an_address_of_its_own():
    async with Path(CLOCK) as path, tunnel(path, echo=True) as (client, server, to):
        client.transport.sendto(b"one", to)
        assert (await client.next())[0] == b"one"
        again, second = await path.udp(*server.address), await peer()
        assert again != to
        second.transport.sendto(b"two", again)
        assert (await second.next())[0] == b"two"
        second.transport.close()


# --- TCP


@pytest.mark.timing
async def test_a_connection_takes_one_round_trip_and_each_answer_another():
    async with network(delay=40 * MS) as path, echoing() as server, steady():
        began = CLOCK.now()
        reader, writer = await connect(path, server)
        assert 79 < await elapsed(began) < 150, "two would be 160"
        took = []
        for _ in range(5):
            began = CLOCK.now()
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), GRACE) == b"hello"
            took.append(await elapsed(began))
        assert statistics.median(took) == pytest.approx(80, abs=15) and min(took) > 79, took
        writer.close()


async def test_a_connection_in_the_making_is_told_when_the_path_is_closed():
    async with network(delay=5_000 * MS) as path, asyncio.timeout(GRACE):
        async with asyncio.TaskGroup() as tasks:
            dialling = tasks.create_task(aborted(path))
            await until(lambda: path.connections == 1)
            await path.close()
            await dialling


async def aborted(path: Path) -> None:
    with pytest.raises(ConnectionAbortedError):
        await path.dial("media.example", "127.0.0.1", 9)


@pytest.mark.timing
async def test_a_stream_keeps_its_rate():
    data = bytes(range(256)) * 1_000
    async with network(rate_down=4_000_000, delay=5 * MS) as path, serving(data) as server, steady(0.1):
        reader, writer = await connect(path, server)
        began = CLOCK.now()
        assert await asyncio.wait_for(reader.read(), GRACE) == data
        through = len(data) * 8 / (await elapsed(began) / 1_000)
        assert 3_000_000 < through < 4_000_000  # headers are 2.7 %, the rest slow start and losses at the queue's tail
        writer.close()


async def test_a_stream_begins_slowly_over_a_long_path():
    """146 KB over 100 ms: windows of 10, 20, 40 and 30 segments, so four rounds; without a model of it, one."""
    async with network(delay=25 * MS) as path, serving(bytes(146_000)) as server:
        reader, writer = await connect(path, server)
        began = CLOCK.now()
        await asyncio.wait_for(reader.read(), GRACE)
        assert await elapsed(began) >= 25 + 3 * 50
        writer.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": 0.1, "delay": 5 * MS},
        {"loss": 0.1, "burst": 5.0, "delay": 2 * MS, "jitter": 2 * MS},
        {"rate_up": 20_000_000, "rate_down": 20_000_000},
        {"reorder": 0.2, "duplicate": 0.2, "delay": MS},
    ],
    ids=["loss", "burst", "rate", "reorder"],
)
async def test_no_byte_of_a_stream_is_lost_or_reordered(fields):
    sent = b"".join(struct.pack(">I", n) for n in range(60_000))
    async with network(**fields) as path, echoing() as server:
        reader, writer = await connect(path, server)

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        async def flap() -> None:
            while True:
                await asyncio.sleep(0.05)
                path.cut()
                await asyncio.sleep(0.01)
                path.restore()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            flapping = tasks.create_task(flap())
            got = await asyncio.wait_for(reader.read(), 30)
            flapping.cancel()
        path.restore()
        assert got == sent
        if fields.get("loss"):
            assert path.up.resent >= path.up.lost > 4
        writer.close()
        await until(lambda: not path.connections)


async def test_a_loss_is_felt_as_a_wait():
    """Small messages over a path that loses a fifth: some wait for a retransmission, all arrive."""
    async with network(seed=4, loss=0.2, delay=MS) as path, echoing() as server:
        reader, writer = await connect(path, server)
        waits = []
        for n in range(12):
            began = CLOCK.now()
            writer.write(n.to_bytes(2, "big"))
            assert await asyncio.wait_for(reader.readexactly(2), 20) == n.to_bytes(2, "big")
            waits.append(await elapsed(began))
        assert max(waits) > 150
        assert min(waits) < 50
        writer.close()


async def test_what_a_server_sent_before_its_reset_still_arrives():
    async with network(delay=20 * MS) as path, serving(b"last words", reset=True) as server:
        reader, writer = await connect(path, server)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(10), GRACE) == b"last words"
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), GRACE)
        writer.close()


async def test_the_end_of_a_stream_waits_under_a_cut_and_comes_after_it():
    async with network(delay=30 * MS) as path, serving(b"all") as server:
        reader, writer = await connect(path, server)
        await until(lambda: path.down.delayed >= 1)
        path.cut()
        await asyncio.sleep(0.1)  # its time passes
        assert path.down.stream_bytes == 0
        path.restore()
        assert await asyncio.wait_for(reader.read(), GRACE) == b"all"
        writer.close()


async def test_a_client_that_does_not_read_makes_the_server_wait():
    async with network(delay=MS) as path:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(lambda r, w: accepted.put_nowait(w), "127.0.0.1", 0)
        host, port = await path.dial("media.example", *server.sockets[0].getsockname())
        with socket.socket() as deaf:
            deaf.connect((host, port))
            far = await accepted.get()
            far.write(bytes(32 << 20))
            passed = -1
            async with asyncio.timeout(GRACE):
                while passed != path.down.stream_bytes:
                    passed = path.down.stream_bytes
                    await asyncio.sleep(0.1)
            assert far.transport.get_write_buffer_size() > 16 << 20
        far.transport.abort()
        server.close()
