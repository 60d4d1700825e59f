"""The responder behind the fault `dns`: a process of its own in the namespace, which ends by itself at expiry.

`python -m probe.drill.faults.dns_responder sp-<token>`; what it is to answer comes as JSON on standard input, its port goes to
standard output once it can be asked, and it goes on in the background, in a session of its own. Names that are not hit, and those
that are only late, are asked of the real server: byte for byte, by a socket with a mark that the redirect leaves alone. UDP
answers leave by the address they were asked at (ip(7), IP_PKTINFO): the kernel's address translation knows no other.

What it reads is hostile: a query is 64 KiB at most, so many are under way at once and no more, and what is no query is dropped.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from probe.clock import boottime
from probe.model.clock import NS

MARK = 0x5350D115  # of the queries that are our own
_SO_MARK, _IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 36, 8, 49, 50
_MOST = 65535
_AT_ONCE = 256
_UPSTREAM = 3.0  # s for the real server
_LOOK = 0.2  # s between two looks at the clock


@dataclass(frozen=True, slots=True)
class Play:
    """What is answered to whom. `answer`: wrong, missing, servfail, slow or dead."""

    answer: str
    names: tuple[dns.name.Name, ...]
    addresses: tuple[str, ...]
    delay: float
    upstream: str

    async def reply(self, query: bytes, ask: Callable[[bytes], Awaitable[bytes | None]]) -> bytes | None:
        """What is sent back; None: nothing. `ask` asks the real server."""
        try:
            message = dns.message.from_wire(query)
            question = message.question[0]
        except (dns.exception.DNSException, IndexError, ValueError):
            return None
        if message.flags & dns.flags.QR:
            return None
        if not any(question.name.is_subdomain(name) for name in self.names):
            return await ask(query)
        match self.answer:
            case "dead":
                return None
            case "slow":
                await asyncio.sleep(self.delay)
                return await ask(query)
        answer = dns.message.make_response(message, recursion_available=True)
        if self.answer == "wrong":
            wanted = [a for a in self.addresses if (":" in a) == (question.rdtype == dns.rdatatype.AAAA)]
            if wanted and question.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                # Kept by nobody: it is to end when the fault ends.
                answer.answer.append(dns.rrset.from_text_list(question.name, 0, dns.rdataclass.IN, question.rdtype, wanted))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN if self.answer == "missing" else dns.rcode.SERVFAIL)
        return answer.to_wire()


class Responder:
    """UDP and TCP of both families on one port."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._under_way = 0

    async def serve(self, sockets: Sequence[socket.socket], streams: Sequence[socket.socket], expires: int) -> None:
        """On these, until CLOCK_BOOTTIME is `expires`."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for datagrams in sockets:
                loop.add_reader(datagrams, self._on_datagram, datagrams, group)
            servers = [await asyncio.start_server(self._on_stream, sock=stream, limit=_MOST) for stream in streams]
            assert servers
            while boottime() < expires:  # noqa: ASYNC110  # a clock that runs on while the machine sleeps wakes nobody
                await asyncio.sleep(min(_LOOK, max(0.0, (expires - boottime()) / NS)))
            os._exit(0)  # nothing is owed to whoever still waits for an answer

    def _on_datagram(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        try:
            query, more, _, peer = sock.recvmsg(_MOST, 256)
        except OSError:
            return
        if self._under_way < _AT_ONCE:
            self._under_way += 1
            group.create_task(self._answer(sock, query, more, peer))

    async def _answer(self, sock: socket.socket, query: bytes, more: list[tuple[int, int, bytes]], peer: Any) -> None:
        try:
            reply = await self._play.reply(query, self._ask_udp)
            if reply is not None:
                with suppress(OSError):
                    sock.sendmsg([reply], _leaving_by(more), 0, peer)
        finally:
            self._under_way -= 1

    async def _ask_udp(self, query: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        with _marked(self._play.upstream, socket.SOCK_DGRAM) as sock:
            try:
                async with asyncio.timeout(_UPSTREAM):
                    await loop.sock_connect(sock, (self._play.upstream, 53))
                    await loop.sock_sendall(sock, query)
                    return await loop.sock_recv(sock, _MOST)
            except (OSError, TimeoutError):
                return None

    async def _on_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._under_way += 1
        try:
            while self._under_way < _AT_ONCE:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                reply = await self._play.reply(query, self._ask_tcp)
                if reply is not None:
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._under_way -= 1
            writer.close()

    async def _ask_tcp(self, query: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        with _marked(self._play.upstream, socket.SOCK_STREAM) as sock:
            try:
                async with asyncio.timeout(_UPSTREAM):
                    await loop.sock_connect(sock, (self._play.upstream, 53))
                    reader, writer = await asyncio.open_connection(sock=sock)
                    try:
                        writer.write(len(query).to_bytes(2, "big") + query)
                        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                    finally:
                        writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                return None


def _marked(server: str, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
    return sock


def _bound() -> tuple[list[socket.socket], list[socket.socket]]:
    """Datagrams and streams, of both families where there are two, on one port that the kernel chooses."""
    for _ in range(20):
        port = 0
        made: dict[socket.SocketKind, list[socket.socket]] = {socket.SOCK_DGRAM: [], socket.SOCK_STREAM: []}
        try:
            for kind, several in made.items():
                for family in (socket.AF_INET, socket.AF_INET6):
                    with suppress(OSError) if family == socket.AF_INET6 else nullcontext():
                        sock = _open(family, kind, port)
                        several.append(sock)
                        port = sock.getsockname()[1]
            return made[socket.SOCK_DGRAM], made[socket.SOCK_STREAM]
        except OSError:
            for sock in (*made[socket.SOCK_DGRAM], *made[socket.SOCK_STREAM]):
                sock.close()
    raise OSError(0, "no port is free for both UDP and TCP")


def _open(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(("", port))
        if kind == socket.SOCK_STREAM:
            sock.listen()  # before its port is told: who comes before there is a loop waits, and is not refused
        sock.setblocking(False)
        return sock
    except OSError:
        sock.close()
        raise


def _leaving_by(more: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    for level, kind, data in more:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return [(level, kind, struct.pack("=I4s4s", 0, data[8:12], b""))]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


def main() -> None:
    given = json.load(sys.stdin)
    play = Play(
        answer=given["answer"],
        names=tuple(dns.name.from_text(name) for name in given["names"]),
        addresses=tuple(given["addresses"]),
        delay=given["delay"],
        upstream=given["upstream"],
    )

    sockets, streams = _bound()
    os.write(1, f"{sockets[0].getsockname()[1]}\n".encode())
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    asyncio.run(Responder(play).serve(sockets, streams, given["expires"]))


if __name__ == "__main__":
    main()
