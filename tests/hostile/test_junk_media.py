"""An authenticated server that sends junk into an established session: the viewer neither falls over, fills up nor lags."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pylibsrtp
import pytest

from probe.rtc.peer import Peer
from tests.drivers.signalling import rogue
from tests.hostile.engine import run
from tests.tools import wait_until

RNG = random.Random(7)
MIB = 1 << 20


def rtp(payload: bytes, *, pt: int, seq: int, ts: int, ssrc: int = 1, marker: bool = False, first: int = 0x80) -> bytes:
    return struct.pack("!BBHII", first, pt | (0x80 if marker else 0), seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc & 0xFFFFFFFF) + payload


def noise(pt: int) -> Iterator[bytes]:
    for n in range(2000):
        yield rtp(RNG.randbytes(RNG.randrange(1100)), pt=pt, seq=n, ts=n * 3000, marker=RNG.random() < 0.5)


def leaps(pt: int) -> Iterator[bytes]:
    """Timestamps and sequence numbers that leap about, each picture a whole one by its look."""
    for n in range(2000):
        key = b"\x65" if n % 2 else b"\x41"
        yield rtp(key + RNG.randbytes(40), pt=pt, seq=n * 977, ts=RNG.randrange(1 << 32), marker=True)


def crowd(pt: int) -> Iterator[bytes]:
    for n in range(4000):
        yield rtp(b"\x65" + RNG.randbytes(40), pt=pt, seq=n, ts=n, ssrc=RNG.randrange(1 << 32), marker=True)


def endless_fragments(pt: int) -> Iterator[bytes]:
    """One picture (FU-A of an IDR, begun and never ended) of 24 MiB."""
    yield rtp(b"\x7c\x85" + bytes(1000), pt=pt, seq=0, ts=1)
    for n in range(1, 24_000):
        yield rtp(b"\x7c\x05" + bytes(1000), pt=pt, seq=n, ts=1)


def aggregates(pt: int) -> Iterator[bytes]:
    """STAP-A with lengths that lie, empty NAL units, reserved types, header extensions and padding beyond the packet."""
    shapes = [
        b"\x18\xff\xff\x65",
        b"\x18\x00\x00\x00\x00",
        b"\x1e",
        b"\x1c",
        b"\x7c",
        b"",
        b"\x00" * 900,
        b"\x1f" + b"\xff" * 900,
    ]
    for n in range(2000):
        first = (0x80, 0x90, 0xA0, 0x8F, 0xBF)[n % 5]
        yield rtp(RNG.choice(shapes), pt=pt, seq=n, ts=n * 3000, marker=True, first=first)


JUNK: dict[str, Callable[[int], Iterator[bytes]]] = {
    "noise": noise,
    "leaps": leaps,
    "crowd": crowd,
    "endless fragments": endless_fragments,
    "aggregates": aggregates,
}


def payload_type(peer: Peer) -> int:
    sdp = peer.localDescription.sdp
    return next(int(line.split(":")[1].split()[0]) for line in sdp.splitlines() if "H264/90000" in line)


async def pour(peer: Peer, packets: Iterator[bytes]) -> None:
    secure = peer._secures[0]
    for n, packet in enumerate(packets):
        with suppress(pylibsrtp.Error):  # some of it our own library will not even sign
            secure.agent.send_now(secure._tx_srtp.protect(packet))
        if n % 50 == 0:
            await asyncio.sleep(0)


async def pour_control(peer: Peer) -> None:
    """RTCP of lengths that lie, and datagrams nobody signed."""
    secure = peer._secures[0]
    for n in range(1000):
        kind = 200 + n % 8
        body = RNG.randbytes(4 * RNG.randrange(1, 30))
        head = struct.pack("!BBHI", 0x80 | RNG.randrange(32), kind, RNG.choice([len(body) // 4 + 1, 0, 0xFFFF]), 1)
        secure.agent.send_now(secure._tx_srtp.protect_rtcp(head + body))
        secure.agent.send_now(os.urandom(RNG.randrange(1, 1200)))
        if n % 50 == 0:
            await asyncio.sleep(0)


@pytest.mark.parametrize("name", [*JUNK, "control"])
async def test_junk_in_an_established_session_is_no_picture_and_no_burden(name: str, tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    journey = "  - view: {via: whep, url: /session, start: 1500ms, verify: moving}\n"
    async with rogue() as server, asyncio.TaskGroup() as group:
        watching = group.create_task(run(journey, server.url, tmp_path))
        await wait_until(lambda: bool(server.peers), what="a peer")
        peer = server.peers[0]
        await peer.up()
        await (pour_control(peer) if name == "control" else pour(peer, JUNK[name](payload_type(peer))))
        ran = await watching
    (ended,) = ran.ended()
    assert ended in ("first_packet/silence", "keyframe/none", "first_frame/undecodable", "first_frame/none"), ended
    assert server.deletes == ["/session/1"]
    assert psutil.Process().memory_info().rss - before < 100 * MIB
