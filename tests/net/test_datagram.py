"""A connected UDP socket: what comes is stamped, what cannot go is counted, a closed port is told, and after close nothing is."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator

import pytest

from probe.clock import SystemClock
from probe.net.datagram import Endpoint
from tests.tools import free_port, wait_until


class Told:
    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, int]]] = []
        self.errors: list[OSError] = []

    @property
    def datagrams(self) -> list[bytes]:
        return [datagram for batch in self.batches for datagram, _ in batch]

    def endpoint(self, ip: str, port: int) -> Endpoint:
        return Endpoint(ip, port, SystemClock(), self.batches.append, self.errors.append)


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((request.param, 0))
        except OSError:
            pytest.skip(f"this machine has no {request.param}")
        sock.settimeout(2)
        yield sock


async def test_datagrams_go_both_ways_and_are_stamped_as_they_come(server: socket.socket):
    told = Told()
    endpoint = told.endpoint(*server.getsockname()[:2])
    before = SystemClock().now()
    endpoint.send([b"one", b"two"])
    assert server.recv(100) == b"one"
    _, source = server.recvfrom(100)
    server.sendto(b"three", source)
    await wait_until(lambda: told.datagrams, what="the answer")
    endpoint.close()
    ((datagram, at),) = told.batches[0]
    assert datagram == b"three" and before <= at <= SystemClock().now()
    assert told.errors == [] and endpoint.lost == 0


async def test_a_stranger_is_not_heard(server: socket.socket):
    told = Told()
    endpoint = told.endpoint(*server.getsockname()[:2])
    endpoint.send([b"here"])
    _, source = server.recvfrom(100)
    with socket.socket(server.family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"me too", source)
        server.sendto(b"mine", source)
        await wait_until(lambda: told.datagrams, what="the answer")
    endpoint.close()
    assert told.datagrams == [b"mine"]


async def test_a_closed_port_is_told():
    told = Told()
    endpoint = told.endpoint("127.0.0.1", free_port(socket.SOCK_DGRAM))
    endpoint.send([b"hello?"])
    await wait_until(lambda: told.errors, what="the refusal")
    endpoint.close()
    assert isinstance(told.errors[0], ConnectionRefusedError)


async def test_what_a_filter_of_this_machine_swallows_is_lost_and_nothing_more():
    told = Told()
    endpoint = told.endpoint("127.0.0.1", free_port(socket.SOCK_DGRAM))

    class Filtered:
        def send(self, datagram: bytes) -> int:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        def fileno(self) -> int:
            return 1

    sock, endpoint._sock = endpoint._sock, Filtered()  # type: ignore[assignment]
    endpoint.send([b"one", b"two"])
    endpoint._sock = sock
    endpoint.close()
    assert endpoint.lost == 2
    assert told.errors == []


async def test_a_flood_is_read_in_batches_that_leave_the_loop_its_turn(server: socket.socket):
    told = Told()
    endpoint = told.endpoint(*server.getsockname()[:2])
    endpoint.send([b"here"])
    _, source = server.recvfrom(100)
    for number in range(200):
        server.sendto(str(number).encode(), source)
    await wait_until(lambda: len(told.datagrams) == 200, what="all of them")
    endpoint.close()
    assert max(len(batch) for batch in told.batches) <= 64
    assert told.datagrams == [str(number).encode() for number in range(200)]


async def test_after_close_nothing_comes_and_nothing_goes(server: socket.socket):
    told = Told()
    endpoint = told.endpoint(*server.getsockname()[:2])
    endpoint.send([b"here"])
    _, source = server.recvfrom(100)
    endpoint.close()
    endpoint.close()
    endpoint.send([b"again"])
    server.sendto(b"late", source)
    await asyncio.sleep(0.05)
    assert told.batches == []
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(100)
