"""Junk into the embedded platform's RTMP ingest by a publisher that may: no burden, nothing broken, and others go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from probe.sandbox.launch import Sandbox
from probe.wire.flv_tags import AUDIO, SCRIPT, VIDEO, Tag
from tests.drivers.rtmp_platform import tags
from tests.sandbox.clients import User, user
from tests.sandbox.ways import Rtmp, rtmp
from tests.tools import rss, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")
RNG = random.Random(5)
HOUR = 3_600_000
MIB = 1 << 20


def still() -> Iterator[Tag]:
    """Time that stands: were pictures held until half a second has passed, for ever."""
    yield from list(tags(1))
    for _ in range(4000):
        yield Tag(VIDEO, 0, b"\x27\1\0\0\0" + (20_000).to_bytes(4, "big") + b"\x41" + RNG.randbytes(19_999))


def leaps() -> Iterator[Tag]:
    for n, tag in enumerate(tag for _ in range(10) for tag in tags(40, sound=True)):
        yield Tag(tag.kind, (tag.timestamp + (n % 7) * 9 * HOUR) & 0xFFFFFFFF, tag.payload)


def creeping() -> Iterator[Tag]:
    """Ahead by nine seconds each: within what passes for the same stream, eleven hours in all."""
    for n in range(4400):
        yield Tag(VIDEO, n * 9000, b"\x27\1\0\0\0\0\0\0\x02\x41\x9a")


def bare() -> Iterator[Tag]:
    """Keyframes that no parameter sets precede, or noise for them."""
    for n in range(300):
        if n % 3 == 2:
            yield Tag(
                VIDEO,
                n * 33,
                b"\x17\0\0\0\0\x01\x42\0\x1e\xff\xe1\0\x09\x67" + RNG.randbytes(8) + b"\1\0\x04\x68" + RNG.randbytes(3),
            )
        yield Tag(VIDEO, n * 33, b"\x17\1\0\0\0\0\0\0\x09\x65" + RNG.randbytes(8))


def sounds() -> Iterator[Tag]:
    """Another sound with every frame, most of them none."""
    yield from list(tags(3))
    for n in range(600):
        yield Tag(AUDIO, n * 20, b"\xaf\0" + bytes([RNG.randrange(256), RNG.randrange(256)]))
        yield Tag(AUDIO, n * 20, b"\xaf\1" + RNG.randbytes(40))


def scripts() -> Iterator[Tag]:
    for n in range(300):
        yield Tag(SCRIPT, n, b"\2\0\x0aonMetaData\x0a\0\0\x0f\0" + b"\5" * 0xF00)
        yield Tag(SCRIPT, n, b"\2\0\x0aonMetaData" + b"\3\0\1a" * 15 + b"\5")


JUNK: dict[str, Callable[[], Iterator[Tag]]] = {
    "still": still, "leaps": leaps, "creeping": creeping, "bare": bare, "sounds": sounds, "scripts": scripts,
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ingest") / "log"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(logs: Path) -> AsyncIterator[User]:
    async with Sandbox.start(logs=logs) as sandbox, user(sandbox) as one:
        yield one


async def pour(one: Rtmp, what: Iterator[Tag]) -> None:
    with suppress(ConnectionError):
        for tag in what:
            if one.ended.is_set():
                return
            one.client.put(tag)
            one.writer.write(one.client.take())
            await one.writer.drain()


@pytest.mark.parametrize("name", JUNK)
async def test_junk_from_a_publisher_is_no_burden_and_breaks_nothing(name: str, owner: User, logs: Path) -> None:
    room = await owner.room()
    before, said = rss(owner.sandbox.pid), logs.stat().st_size
    async with rtmp(owner, f"{room}?token={owner.token}") as one:
        async with asyncio.timeout(20):
            await one.joined.wait()
            await pour(one, JUNK[name]())
            await wait_until(
                lambda: one.ended.is_set() or one.acknowledged > one.client.sent - 10_000, 10, "all of it to be read"
            )
            reply = await owner.call("GET", f"/rooms/{room}")
            assert reply.status == 200 and rss(owner.sandbox.pid) - before < 48 * MIB
    assert (await owner.call("DELETE", "/rooms?tag=a-test")).status in (200, 204)
    with logs.open() as file:
        file.seek(said)
        broke = [line for line in file if "broke" in line or "Traceback" in line]
    assert broke == []
