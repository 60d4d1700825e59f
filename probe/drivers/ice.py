"""STUN and TURN for WHIP and WHEP: which servers, asked when, and what becomes of one that fails.

`all`: those of the scenario are asked before the offer, all at once, as a browser without trickle does, but one that does not
answer is not waited for as long; TURN servers that the answer names (RFC 9725 section 4.6) are tried beside the checks. One
that fails is noted, for the others may do. `relay`: nothing but relays, of the scenario's servers or, where it names none, of
the answer's. If none gives an allocation that is the failure. `direct`: no TURN, whoever names it.

Asking is the stage ICE, before the offer as after the answer. Through an impaired path of ours a relay is reached as
everything is, and the offer stays as it is; where that path is rewritten into the candidates instead (`all`, `direct`), no
server is asked, since nothing may go round it. Answers' STUN servers would only tell us what the far side learns from our
checks anyway. `stuns` is not spoken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.model.text import quoted
from probe.net.client import Answer
from probe.net.link_header import IceServer, ice_server, ice_servers
from probe.net.lookup import family_of
from probe.rtc.ice import TurnServer
from probe.rtc.peer import Peer, new_peer

MOST = 4  # servers of the scenario that are asked
RELAYS = 2  # TURN servers of an answer that are tried
ADDRESSES = 2  # of one server
FURTHER = 0.5  # s for further relays when one is there
BESIDE = 1.5  # s for servers beside the ways that need none


def peer_for(spec: Spec) -> Peer:
    """A new peer that takes the ways the session may take."""
    return new_peer(loopback=spec.loopback, relayed=spec.ice == "relay", family=spec.family)


def rewritten(spec: Spec, io: SessionIO) -> bool:
    """Whether our path stands in the candidates, so that no pair goes round it."""
    return io.path is not None and spec.ice != "relay"


async def gather(peer: Peer, spec: Spec, io: SessionIO) -> None:
    """Ask the scenario's servers, before the offer. Raises Failure where only relays may be used and none is to be had."""
    servers = _of_scenario(spec, io)
    if not servers:
        return
    io.stages.enter(Stage.ICE, io.clock.now())
    await peer.gather()
    failures: list[Failure | None] = [None] * len(servers)
    answered = asyncio.Event()

    async def ask(number: int, server: IceServer) -> None:
        failures[number] = Failure(Phase.ICE, "timeout", f"no answer from {quoted(server.host, 100)} while others could be used")
        try:
            await _ask(peer, server, io)
        except Failure as failure:
            failures[number] = failure
        else:
            failures[number] = None
            answered.set()

    async def impatience(asked: list[asyncio.Task[None]]) -> None:
        if spec.ice == "relay":
            await answered.wait()
            await asyncio.sleep(FURTHER)
        else:
            await asyncio.sleep(BESIDE)
        for task in asked:
            task.cancel()

    async with asyncio.TaskGroup() as asking:
        asked = [asking.create_task(ask(number, server)) for number, server in enumerate(servers)]
        waiting = asking.create_task(impatience(asked))
        await asyncio.wait(asked)
        waiting.cancel()
    _settle(peer, spec, io, failures, "the scenario")
    io.stages.enter(Stage.PROBE, io.clock.now())


def of_answer(answer: Answer, spec: Spec, io: SessionIO) -> list[IceServer]:
    """TURN servers the answer names, as far as they are to be used."""
    if spec.ice == "direct" or rewritten(spec, io):
        return []
    named = ice_servers(_all(answer.headers, "Link"))
    return [s for s in named if s.scheme in ("turn", "turns") and s.credential_type == "password"][:RELAYS]


def check_family(answer: str, spec: Spec) -> None:
    """Raises Failure(ICE, no_candidates) where no candidate of the answer is of the family to be used. A relay may translate."""
    if spec.family == "any" or spec.ice == "relay":
        return
    lines = [line for line in answer.splitlines() if line.startswith("a=candidate:")]
    if not any(family_of(line.split()[4]) == spec.family for line in lines):
        wanted = {"ipv4": "IPv4", "ipv6": "IPv6"}[spec.family]
        raise Failure(Phase.ICE, "no_candidates", f"{len(lines)} candidates in the answer, none an {wanted} address")


async def relay_first(peer: Peer, spec: Spec, io: SessionIO, servers: list[IceServer]) -> None:
    """Where only relays may be used and the scenario's servers gave none: those of the answer, before any check."""
    if spec.ice != "relay" or peer.relays:
        return
    if not servers:
        raise Failure(Phase.ICE, "no_candidates", "only relays may be used, and neither scenario nor answer names a TURN server")
    failures: list[Failure | None] = []
    for server in servers:
        try:
            await _ask(peer, server, io)
        except Failure as failure:
            failures.append(failure)
    _settle(peer, spec, io, failures, "the answer")


async def relay_beside(peer: Peer, spec: Spec, io: SessionIO, servers: list[IceServer]) -> None:
    """The answer's servers beside the pairs there are."""
    if spec.ice == "relay":
        return
    for server in servers:
        try:
            await _ask(peer, server, io)
        except Failure as failure:
            _note(io, "the answer", failure)


def _settle(peer: Peer, spec: Spec, io: SessionIO, failures: list[Failure | None], whose: str) -> None:
    found = [failure for failure in failures if failure is not None]
    if spec.ice == "relay" and not peer.relays and found:
        raise found[0]
    for failure in found:
        _note(io, whose, failure)


def _note(io: SessionIO, whose: str, failure: Failure) -> None:
    io.note(f"an ICE server that {whose} names was left out: {failure}")


def _of_scenario(spec: Spec, io: SessionIO) -> list[IceServer]:
    if rewritten(spec, io):
        return []
    servers: list[IceServer] = []
    for named in spec.ice_servers:
        server = ice_server(named.url, named.username or None, named.credential or None)
        if server is None or server.scheme == "stuns":
            io.note("an ICE server of the scenario is none that can be asked: " + (server.scheme if server else "no such URI"))
        elif (server.scheme == "stun" and spec.ice != "relay") or (server.scheme != "stun" and spec.ice != "direct"):
            servers.append(server)
    if len(servers) > MOST:
        io.note(f"{len(servers)} ICE servers, of which the first {MOST} are asked")
    return servers[:MOST]


async def _ask(peer: Peer, server: IceServer, io: SessionIO) -> None:
    """One server, at the addresses of its name in turn. Raises Failure: of the first of them."""
    found = await io.http.resolve(server.host, server.port, phase=Phase.ICE, most=ADDRESSES)
    first: Failure | None = None
    for ip, port in found:
        try:
            if server.scheme == "stun":
                return await peer.reflexive(ip, port)
            return await peer.relay_through(await _reached(server, ip, port, io), io.http.tls)
        except Failure as failure:
            first = first or failure
            if failure.phase is not Phase.ICE:
                break
    assert first is not None
    raise first


async def _reached(server: IceServer, ip: str, port: int, io: SessionIO) -> TurnServer:
    """The server at an address, through our path where there is one."""
    transport = "tls" if server.scheme == "turns" else server.transport
    if io.path is not None:
        try:
            ip, port = await (io.path.udp(ip, port) if transport == "udp" else io.path.dial(server.host, ip, port))
        except OSError as error:
            raise Failure(Phase.ICE, "no_candidates", f"the TURN server {server.host} cannot be reached") from error
    return TurnServer(server.host, ip, port, transport, server.username, server.credential)


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    every = getattr(headers, "getall", None)
    return list(every(name, [])) if every is not None else [v for k, v in headers.items() if k.lower() == name.lower()]
