"""An allocation on a TURN server (RFC 8656) over UDP, TCP or TLS, at an address that was judged, within bounds.

aioice 0.13 speaks the protocol; what is changed beside it, each for a reason:

- It connects by host name, and TLS would be for whatever it connected to. Here the address is given, and the name apart.
- A server that closes the connection, or whose port is closed, leaves its requests waiting for a minute. They end at once.
- What is no STUN may raise in the socket's callback; here it is dropped and remembered, for it says why nothing else came.
- A lifetime of nothing makes its refreshing spin; over TCP it queues without bound for a server that does not read.
- That the server will not relay to a peer (RFC 8656 section 9.2) is told nobody, and the pair's check goes on for a minute.

Not done: TCP allocations (RFC 6062), redirection (300), IPv6 relays on request (the server chooses the family).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import string
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import Connection
from aioice.stun import Class, Message, Method, TransactionError, TransactionFailed, parse_message
from aioice.turn import TurnClientMixin, TurnClientTcpProtocol, TurnClientUdpProtocol, TurnTransport, is_channel_data

from probe.errors import Failure
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.net import errors
from probe.rtc.stun import Socket

SECONDS = 3.0  # an allocation may take
UNSENT = 1 << 20  # bytes that may wait for a server that does not read
_LIFETIME, _CHANNEL_REFRESH = 600, 500  # s, as RFC 8656 recommends
_SHORTEST_LIFETIME = 60
_TLS_GOODBYE = 1.0
_AT_ONCE = 16 * 1024  # bytes: upstream moves all that is still to be read for every message in it
_COOKIE, _HEADER = b"\x21\x12\xa4\x42", 20  # RFC 8489 section 5
_PREFERENCE = {"udp": 65535, "tcp": 65534, "tls": 65533}  # among relays, as browsers have it
_REFUSALS = {401: "refused the credentials", 403: "forbids it", 441: "refused the credentials"}
_PLAIN = frozenset(string.ascii_letters + string.digits + " .,:;-_/()'")


@dataclass(frozen=True, slots=True)
class TurnServer:
    """`host` as it was named, for TLS and for people; `ip` and `port` to connect to. `transport`: udp, tcp or tls."""

    host: str
    ip: str
    port: int
    transport: str
    username: str | None
    credential: str | None = field(repr=False)

    def __str__(self) -> str:
        return f"the TURN server {quoted(self.host, 100)} ({self.transport})"


class Relay(Socket):
    """The far end of an allocation: an ICE socket like any other. `refused` is told the peers it will not relay to, and why; none
    where it relays no more at all."""

    def __init__(
        self, receiver: Connection, server: TurnServer, refused: Callable[[Relay, frozenset[tuple[str, int]], str], None]
    ) -> None:
        super().__init__(receiver)
        self.server = server
        self._refused = refused

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, TransactionFailed):
            peers = frozenset(self.transport._TurnTransport__inner_protocol.peer_to_failed_channel)  # type: ignore[attr-defined]
            self._refused(self, peers, f"{self.server} does not relay to the other side: {_said(exc, self.server)}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._refused(self, frozenset(), f"{self.server} closed the connection, or the allocation ended")
        super().connection_lost(exc)


class _Client(TurnClientMixin):
    """What UDP and TCP have in common."""

    garbage = False  # something came that is no STUN
    transport: Any

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        assert isinstance(data, bytes)
        if not data or not is_channel_data(data):
            try:
                parse_message(data)
            except (ValueError, struct.error):
                self.garbage = True
                return
            self.garbage |= data[4:8] != _COOKIE
        super().datagram_received(data, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(exc or ConnectionResetError(errno.ECONNRESET, "closed"))
        super().connection_lost(exc)

    def error_received(self, exc: Exception) -> None:
        self._give_up(exc)

    def _give_up(self, error: Exception) -> None:
        for transaction in list(self.transactions.values()):
            waiting: asyncio.Future[tuple[Message, tuple[str, int]]] = transaction._Transaction__future  # type: ignore[attr-defined]
            if not waiting.done():
                waiting.set_exception(error)

    async def refresh(self, time_to_expiry: int) -> None:
        """As upstream's, with a shortest pause."""
        while True:
            await asyncio.sleep(5 / 6 * max(time_to_expiry, _SHORTEST_LIFETIME))
            request = Message(message_method=Method.REFRESH, message_class=Class.REQUEST)
            request.attributes["LIFETIME"] = self.lifetime
            try:
                response, _ = await self.request_with_retry(request)
            except (OSError, TransactionError):
                self.transport.close()  # the allocation expires: nothing is to be had from it any more
                return
            time_to_expiry = response.attributes.get("LIFETIME", 0)


class _Udp(_Client, TurnClientUdpProtocol):
    pass


class _Tcp(_Client, TurnClientTcpProtocol):
    buffer = b""

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), _AT_ONCE):
            super().data_received(data[at : at + _AT_ONCE])
        self.garbage |= len(self.buffer) >= _HEADER and not is_channel_data(self.buffer) and self.buffer[4:8] != _COOKIE
        self.garbage |= is_channel_data(self.buffer[:1] or b"\0") and self.receiver is None  # before there is any channel

    def _send(self, data: bytes) -> None:
        if self.transport.get_write_buffer_size() < UNSENT:
            super()._send(data)


async def allocate(
    server: TurnServer,
    receiver: Connection,
    refused: Callable[[Relay, frozenset[tuple[str, int]], str], None],
    tls: ssl.SSLContext,
    *,
    hide: bool,
) -> tuple[Candidate, Relay]:
    """A relayed candidate and its socket, within three seconds. `tls` is used for `transport` tls alone; `hide` keeps our own
    address out of the candidate (RFC 9429 section 3.5.3).

    Raises Failure: (auth, refused), (tls, …), (ice, timeout | no_candidates)."""
    client: _Client | None = None
    try:
        async with asyncio.timeout(SECONDS):
            client = await _connect(server, tls)
            relay = Relay(receiver, server, refused)
            transport = TurnTransport(client)  # type: ignore[arg-type]
            await transport._connect(relay)
    except BaseException as error:
        if client is not None:
            client.transport.abort()
        failure = _failure(server, error, client is not None and client.garbage)
        if failure is None:
            raise
        raise failure from error
    relay.local_candidate = _candidate(transport, server.transport, hide)
    return relay.local_candidate, relay


async def _connect(server: TurnServer, tls: ssl.SSLContext) -> _Client:
    loop = asyncio.get_running_loop()
    where = (server.ip, server.port)
    options: dict[str, Any] = {
        "username": server.username, "password": server.credential, "lifetime": _LIFETIME,
        "channel_refresh_time": _CHANNEL_REFRESH,
    }  # fmt: skip
    client: _Client
    if server.transport == "udp":
        _, client = await loop.create_datagram_endpoint(lambda: _Udp(where, **options), remote_addr=where)
        return client
    secured: dict[str, Any] = {}
    if server.transport == "tls":
        secured = {"ssl": tls, "server_hostname": server.host, "ssl_shutdown_timeout": _TLS_GOODBYE}
    _, client = await loop.create_connection(lambda: _Tcp(where, **options), *where, **secured)
    return client


def _candidate(transport: TurnTransport, by: str, hide: bool) -> Candidate:
    ip, port = transport.get_extra_info("sockname")
    related = transport.get_extra_info("related_address")
    if hide:
        related = ("::" if ":" in ip else "0.0.0.0", 9)  # noqa: S104
    return Candidate(
        foundation=candidate_foundation("relay", "udp", ip),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "relay", _PREFERENCE[by]),
        host=ip,
        port=port,
        type="relay",
        related_address=related[0],
        related_port=related[1],
    )


def _failure(server: TurnServer, error: BaseException, garbage: bool) -> Failure | None:
    """What went wrong, in our words; None for what is not the server's doing."""
    match error:
        case TransactionFailed() if error.response.error_code in _REFUSALS:
            return Failure(Phase.AUTH, "refused", f"{server} {_REFUSALS[error.response.error_code]}: {_said(error, server)}")
        case TransactionFailed():
            return Failure(Phase.ICE, "no_candidates", f"{server} gave no allocation: {_said(error, server)}")
        case TimeoutError() | TransactionError() if garbage:
            return Failure(Phase.ICE, "no_candidates", f"what {server} answers is no TURN")
        case TimeoutError() | TransactionError():
            return Failure(Phase.ICE, "timeout", f"no answer from {server} within {SECONDS:g} s")
        case ssl.SSLError():
            found = errors.of_tls(error)
            return Failure(found.phase, found.reason, f"{server}: {found.outcome.detail}")
        case OSError() if error.errno in errors.OURS:
            return None
        case OSError():
            why = errno.errorcode.get(error.errno, "") if error.errno else "its answer lacks what an allocation must have"
            return Failure(Phase.ICE, "no_candidates", f"{server} gave no allocation: {why}")
        case _:
            return None


def _said(error: TransactionFailed, server: TurnServer) -> str:
    """Code and phrase, as much of it as may be quoted."""
    code, phrase = error.response.attributes.get("ERROR-CODE", (0, ""))
    if server.credential and server.credential in phrase:
        phrase = ""
    return f"{code} {quoted(''.join(c for c in phrase if c in _PLAIN), 60)}".strip()
