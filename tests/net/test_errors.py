"""Every error of the network has its phase and reason; what is our own fault has none."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl

import aiohttp
import pytest

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net import errors
from tests.net.servers import client, serving
from tests.net.test_client import ask, echo


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "refused"),
        (OSError(errno.ECONNREFUSED, "Multiple exceptions: …"), "refused"),
        (ConnectionResetError(errno.ECONNRESET, ""), "reset"),
        (OSError(errno.ENETUNREACH, ""), "unreachable"),
        (OSError(errno.EHOSTUNREACH, ""), "unreachable"),
        (TimeoutError(errno.ETIMEDOUT, ""), "timeout"),
        (OSError(errno.EACCES, ""), "failed"),
        (OSError("Multiple exceptions: …"), "failed"),
        (RuntimeError("of uvloop"), "failed"),
    ],
)
def test_connecting(error: Exception, reason: str) -> None:
    failure = errors.of_connecting(error)
    assert failure is not None
    assert (failure.phase, failure.reason) == (Phase.CONNECT, reason)


@pytest.mark.parametrize(
    ("error", "phase", "reason"),
    [
        (TimeoutError(), Phase.SEGMENT, "timeout"),
        (aiohttp.SocketTimeoutError(), Phase.SEGMENT, "timeout"),
        (aiohttp.ServerDisconnectedError(), Phase.SEGMENT, "closed"),
        (aiohttp.ClientConnectionError(), Phase.SEGMENT, "closed"),
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), Phase.SEGMENT, "reset"),
        (aiohttp.ClientOSError(errno.EPIPE, ""), Phase.SEGMENT, "reset"),
        (ConnectionResetError(), Phase.SEGMENT, "reset"),
        (OSError(errno.EHOSTUNREACH, ""), Phase.SEGMENT, "reset"),
        (ssl.SSLError(1, "alert"), Phase.TLS, "failed"),
        (aiohttp.InvalidURL("http://"), Phase.SEGMENT, "malformed"),
        (aiohttp.ClientPayloadError("400, message: …"), Phase.SEGMENT, "protocol"),
        (aiohttp.ClientError(), Phase.SEGMENT, "protocol"),
    ],
)
def test_exchanging(error: Exception, phase: Phase, reason: str) -> None:
    with pytest.raises(Failure) as caught, errors.mapped(Phase.SEGMENT):
        raise error
    assert (caught.value.phase, caught.value.reason) == (phase, reason)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyError("x"), OSError(errno.EMFILE, ""), aiohttp.ClientOSError(errno.ENOBUFS, "")]
)
def test_bugs_and_our_own_exhaustion_propagate(error: Exception) -> None:
    with pytest.raises(type(error)), errors.mapped(Phase.SEGMENT):
        raise error


def test_a_failure_passes_as_it_is() -> None:
    failure = Failure(Phase.CHAT, "closed")
    with pytest.raises(Failure) as caught, errors.mapped(Phase.SEGMENT):
        raise failure
    assert caught.value is failure


async def test_a_probe_out_of_descriptors_blames_nobody() -> None:
    async with serving({"/": echo}) as url, client() as me:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held: list[socket.socket] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            try:
                while True:
                    held.append(socket.socket())
            except OSError:
                pass
            with pytest.raises(OSError) as caught:
                await ask(me, url)
            assert caught.value.errno == errno.EMFILE and not isinstance(caught.value, Failure)
        finally:
            for one in held:
                one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.sleep(0)
        assert (await ask(me, url)).status == 200
