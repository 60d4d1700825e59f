"""An SRT server of our own on port 0 and what may be wrong with it, and a path that loses datagrams by a seed.

`platform` answers every caller with a Listener and hands it to a behaviour once it stands. Transport streams are made of the
same clip as elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import cast

from probe.clock import SystemClock
from probe.media.encode import aac_config
from probe.wire.srt.packets import Kind
from probe.wire.ts_writer import TsWriter
from tests.drivers.hls_origin import FPS, clip
from tests.wire.srt_listener import Listener

Address = tuple[str, int]
_SILENCE = b"\x01\x18\x20\x07"  # an AAC frame


def ts(count: int, *, first: int = 0, sound: bool = False, jump: int = 0) -> Iterator[list[bytes]]:
    """The clip's pictures as datagrams, one list a picture; `jump` seconds are added to the time of all from the tenth on."""
    writer = TsWriter(aac_config(1) if sound else b"")
    for n in range(first, first + count):
        data, keyframe = clip().units[n]
        pts = n * 90_000 // FPS + (90_000 * jump if n >= 10 else 0)
        yield writer.video(data, pts, keyframe) + (writer.aac(_SILENCE, pts) if sound else [])


@dataclass
class Guest:
    """One caller."""

    listener: Listener
    address: Address
    platform: Platform

    async def play(self, what: Iterator[list[bytes]], pace: float = 0.01) -> None:
        """One list after another, `pace` seconds between them; then a little patience for what must be sent again."""
        for datagrams in what:
            for datagram in datagrams:
                self.listener.send(datagram, self.platform.clock.now())
            await asyncio.sleep(pace)

    def say(self, kind: Kind, body: bytes = b"") -> None:
        self.listener.now = self.platform.clock.now()
        self.listener.control(kind, body=body)


Behaviour = Callable[[Guest], Coroutine[None, None, None]]


@dataclass
class Platform(asyncio.DatagramProtocol):
    behaviour: Behaviour
    make: Callable[[int], Listener]
    clock: SystemClock = field(default_factory=SystemClock)
    guests: dict[Address, Guest] = field(default_factory=dict)
    port: int = 0
    heard: int = 0
    answer: Callable[[bytes], bytes] | None = None  # instead of SRT
    transport: asyncio.DatagramTransport | None = None
    start: Callable[[Coroutine[None, None, None]], None] = lambda job: None

    def url(self, query: str = "", host: str = "127.0.0.1") -> str:
        return f"srt://{host}:{self.port}{query}"

    @property
    def guest(self) -> Guest:
        """The last to come."""
        return list(self.guests.values())[-1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Address) -> None:
        assert self.transport is not None
        self.heard += 1
        if self.answer is not None:
            self.transport.sendto(self.answer(data), addr)
            return
        if addr not in self.guests:
            self.guests[addr] = Guest(self.make(self.clock.now()), addr, self)
        guest = self.guests[addr]
        stood = guest.listener.connected
        guest.listener.receive(data, self.clock.now())
        if guest.listener.connected and not stood:
            self.start(self.behaviour(guest))
        self.flush()

    def flush(self) -> None:
        for guest in self.guests.values():
            for datagram in guest.listener.outgoing():
                if self.transport is not None and not self.transport.is_closing():
                    self.transport.sendto(datagram, guest.address)

    async def tick(self) -> None:
        while True:
            for guest in self.guests.values():
                guest.listener.timer(self.clock.now())
            self.flush()
            await asyncio.sleep(0.002)

    def vanish(self) -> None:
        """The socket closes: the port is closed from now on."""
        assert self.transport is not None
        self.transport.abort()


async def stay(guest: Guest) -> None:
    """Say nothing."""


@contextlib.asynccontextmanager
async def platform(behaviour: Behaviour = stay, **listener: object) -> AsyncIterator[Platform]:
    """What the block raises comes out as it is."""
    raised: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        made = Platform(behaviour, lambda now: Listener(now=now, **listener))  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
        running = [tasks.create_task(made.tick())]
        made.start = lambda job: running.append(tasks.create_task(job))
        try:
            yield made
        except Exception as error:
            raised = error
        finally:
            transport.close()
            for task in running:
                task.cancel()
    if raised is not None:
        raise raised


@dataclass
class Lossy:
    """A path to `server`: every datagram is lost with the probability `loss`, each way, by a seed."""

    server: Address
    loss: float
    port: int = 0
    lost: int = 0
    passed: int = 0


@contextlib.asynccontextmanager
async def lossy(port: int, loss: float, seed: int = 1) -> AsyncIterator[Lossy]:
    loop = asyncio.get_running_loop()
    path = Lossy(("127.0.0.1", port), loss)
    rand = random.Random(seed)
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    client: list[Address] = []

    def passes() -> bool:
        lost = rand.random() < path.loss
        path.lost += lost
        path.passed += not lost
        return not lost

    def up() -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data, source = near.recvfrom(2048)
                client[:] = [source]
                if passes():
                    far.sendto(data, path.server)

    def down() -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data = far.recv(2048)
                if client and passes():
                    near.sendto(data, client[0])

    with near, far:
        for sock, reader in ((near, up), (far, down)):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            loop.add_reader(sock, reader)
        path.port = near.getsockname()[1]
        try:
            yield path
        finally:
            loop.remove_reader(near)
            loop.remove_reader(far)
