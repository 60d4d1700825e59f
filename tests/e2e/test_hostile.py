"""A platform that pours out whatever it can: the probe says what was wrong with each, in time, and stays small."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from itertools import repeat
from pathlib import Path

import psutil
import pytest

from tests.e2e.support import HERE, command, environment, explained, sessions, verdict_in
from tests.faults.platform import Ran
from tests.tools import ROOT

LIMIT = 300 * 1024 * 1024
BLOCK = 1 << 16


@cache
def bomb() -> bytes:
    """1 MiB that is 1 GiB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()


def endless(kind: str) -> Iterator[bytes]:
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    yield from repeat(b"10000\r\n" + b" " * BLOCK + b"\r\n")


def packed(kind: str) -> Iterator[bytes]:
    body = bomb()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    yield head.encode() + body


def headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    yield from (f"X-{n}: {'x' * 1000}\r\n".encode() for n in range(1_000_000))


def whole(kind: str, body: bytes) -> Iterator[bytes]:
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def million() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nConnection: close\r\n\r\n"
    yield b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n"
    yield from repeat(b"#EXTINF:6,\na.ts\n" * 1000, 500)


def naming(segment: str) -> Iterator[bytes]:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:6", "#EXT-X-MEDIA-SEQUENCE:1"]
    lines += [f"#EXTINF:6,\n{segment}"] * 5
    return whole("application/vnd.apple.mpegurl", "\n".join(lines).encode())


ANSWERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "/endless": lambda: endless("application/json"),
    "/bomb": lambda: packed("application/json"),
    "/deep": lambda: whole("application/json", b"[" * 500_000),
    "/header": headers,
    "/million.m3u8": million,
    "/endless.m3u8": lambda: endless("application/vnd.apple.mpegurl"),
    "/list/endless.m3u8": lambda: naming("/endless.ts"),
    "/list/bomb.m3u8": lambda: naming("/bomb.ts"),
    "/endless.ts": lambda: endless("video/mp2t"),
    "/bomb.ts": lambda: packed("video/mp2t"),
}


@asynccontextmanager
async def hostile() -> AsyncIterator[str]:
    async def on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path in ANSWERS:
                for piece in ANSWERS[path]():
                    writer.write(piece)
                    await writer.drain()
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(on, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()


@pytest.mark.timing
async def test_a_hostile_platform_is_named_and_does_not_fill_the_memory(tmp_path: Path) -> None:
    out, peak = tmp_path / "out", 0
    bomb()
    async with hostile() as url:
        process = await asyncio.create_subprocess_exec(
            *command(out, HERE / "hostile.yaml", "--json"),
            cwd=ROOT,
            env=environment(PLATFORM_URL=url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        ours = psutil.Process(process.pid)
        ending = asyncio.get_running_loop().create_task(process.stderr.read())
        async with asyncio.timeout(50):
            while not ending.done():
                with suppress(psutil.Error):
                    peak = max(peak, ours.memory_info().rss)
                await asyncio.wait([ending], timeout=0.02)
        ran = Ran(await process.wait(), "", ending.result().decode(), verdict_in(out), out)
    assert 50 * 2**20 < peak < LIMIT, f"{peak / 2**20:.0f} MiB; {explained(ran)}"
    steps = {("endless", "room/too_large"), ("bomb", "room/too_large"), ("deep", "room/malformed"), ("header", "room/too_large")}
    assert ran.failures() >= steps, explained(ran)
    found = [(s["protocol"], f"{s.get('phase')}/{s.get('reason')}") for s in sessions(ran)]
    assert sorted(found) == [
        ("hls", "playlist/too_large"),
        ("hls", "playlist/too_large"),
        ("hls", "segment/too_large"),
        ("hls", "segment/too_large"),
        ("whep", "signal/too_large"),
        ("whep", "signal/too_large"),
    ], explained(ran)
    assert ran.exit == 0, "all of it is optional"
