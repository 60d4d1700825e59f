"""The weather of a path changes while it is used: no byte of a stream is lost or overtaken by it, and it ends as it began."""

# ruff: noqa: F401, F811  # fixtures of test_path

from __future__ import annotations

import asyncio
import os

import pytest

from probe.clock import SystemClock
from probe.link.path import Path
from probe.plan import Network
from tests.link.test_path import GRACE, echo, path, peers
from tests.tools import wait_until

MS = 1_000_000
SLOW = Network(delay=100 * MS)


async def test_a_stream_that_is_open_feels_what_begins_and_what_ends(path: Path, echo: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*await path.dial("a.example", *echo))
    clock = SystemClock()

    async def round_trip() -> int:
        began = clock.now()
        writer.write(b"x")
        await asyncio.wait_for(reader.readexactly(1), GRACE)
        return clock.now() - began

    await round_trip()
    path.impair(SLOW)
    assert path.network == SLOW
    assert await round_trip() >= 199 * MS
    path.impair(None)
    assert path.network is None
    before = path.up.delayed
    await round_trip()
    assert path.up.delayed == before
    writer.close()


async def test_every_byte_comes_in_its_order_whatever_the_weather_does(path: Path, echo: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*await path.dial("a.example", *echo))
    sent = os.urandom(3_000_000)

    async def changing() -> None:
        for network in (SLOW, None, Network(delay=20 * MS, loss=0.05), Network(rate_down=40_000_000), None):
            await asyncio.sleep(0.05)
            path.impair(network)

    async with asyncio.TaskGroup() as group:
        group.create_task(changing())
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 20) == sent
    writer.close()


async def test_datagrams_are_lost_while_it_lasts(path: Path, peers) -> None:
    server, client = await peers(echo=True), await peers()
    near = await path.udp(*server.address)
    path.impair(Network(loss=0.5))
    for _ in range(200):
        client.transport.sendto(b"y", near)
    await wait_until(lambda: path.up.packets + path.up.lost == 200)
    assert 50 < path.up.lost < 150
    path.impair(None)
    lost = path.up.lost
    for _ in range(50):
        client.transport.sendto(b"z", near)
    await wait_until(lambda: path.up.packets + path.up.lost == 250)
    assert path.up.lost == lost
    assert "lost" in path.facts()["network up"]


async def test_what_the_path_was_made_with_is_what_it_goes_back_to() -> None:
    async with Path(SystemClock(), SLOW) as path:
        path.impair(Network(loss=0.9))
        path.impair(None)
        assert path.network == SLOW


async def test_a_path_led_astray_misleads_new_connections_only(path: Path, echo: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*await path.dial("a.example", *echo))
    path.lead_astray("127.66.66.66")
    writer.write(b"still here")
    assert await asyncio.wait_for(reader.readexactly(10), GRACE) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        await path.dial("a.example", *echo)
    path.lead_astray(None)
    assert await path.dial("a.example", *echo)
    writer.close()


async def test_a_path_flaps_until_it_settles_and_is_open_then(path: Path) -> None:
    path.settle()
    assert path.restored_at is None  # what did not flap is left alone
    path.flap(20 * MS, 20 * MS)
    assert path.flapping
    assert path.is_cut
    downs: set[int | None] = set()

    def three() -> bool:
        downs.add(path.cut_at)
        return len(downs) >= 3

    await wait_until(three)
    path.settle()
    assert not path.is_cut
    assert not path.flapping
    last = path.cut_at
    await asyncio.sleep(0.06)  # longer than a swing: it must not swing any more
    assert path.cut_at == last
