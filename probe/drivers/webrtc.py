"""What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) have in common: offer, answer, transport, DELETE.

Not trickle: the offer carries its candidates, as every server must accept. Servers are taken as they are: 200 for 201,
no Location, a relative one, one with a query, DELETE refused; what deserves to be read is noted. ETag, extensions,
PATCH and ICE restarts are not used, counter-offers (406) are only noted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from yarl import URL

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.net.client import Answer, Client
from probe.net.link_header import IceServer, ice_servers
from probe.rtc.answer import MAX_BYTES, Accepted, read_answer
from probe.rtc.ice import TransactionError, TurnServer
from probe.rtc.peer import Link, Peer
from probe.rtc.relay import relay_answer, relay_offer

GOODBYE = 1.5  # s a DELETE may take
_LOOPBACK = frozenset({"127.0.0.1", "::1"})  # of a platform on this machine; the other 16 million are somebody else's
RELAYS = 2  # TURN servers of an answer that are tried
_SURVIVED = {
    404: "it had ended already",
    405: "the server knows no DELETE",
    410: "it had ended already",
    501: "the server knows no DELETE",
}


@asynccontextmanager
async def connected(peer: Peer, spec: Spec, io: SessionIO, *, sending: bool) -> AsyncIterator[Accepted]:
    """Bring a new `peer`'s transport up through the server at `spec.url`; DELETE and close at the end, however it comes.

    Marks PROBE, SIGNAL, ICE and DTLS in `io.stages` and leaves DTLS open. When the transport ends by itself later,
    `io.feed` is closed with (playing, ended)."""
    client = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)  # a viewer has connections of its own
    session: str | None = None
    try:
        offer = await peer.offer()
        answer = await _post(client, spec, io, offer if io.path is None else await relay_offer(offer, io.path))
        io.stages.enter(Stage.PROBE, io.clock.now())
        session = _session_url(answer, io)
        accepted = _read(answer, spec, io, offer, sending)
        await peer.accept(accepted.sdp if io.path is None else await relay_answer(accepted.sdp, io.path))
        io.stages.enter(Stage.ICE, io.clock.now())
        await _up(peer, io, [] if io.path is not None else _relays(answer))
        yield accepted
    finally:
        ended = peer.ended
        peer.on_link = None
        try:
            if session is not None:
                await _delete(client, session, spec, io, ended)
        finally:
            await peer.close()
            await client.close()


async def _post(client: Client, spec: Spec, io: SessionIO, offer: str) -> Answer:
    try:
        answer = await client.request(
            "POST",
            spec.url,
            purpose=spec.protocol,
            phase=Phase.SIGNAL,
            body=offer.encode(),
            content_type="application/sdp",
            headers={"Accept": "application/sdp"},
            credential=spec.credential,
            ok={200, 201},
            limit=MAX_BYTES,
            stages=io.stages,
            stage=Stage.SIGNAL,
        )
    except Failure as failure:
        if failure.reason == "http_406":
            io.note("the server answered 406: a counter-offer, if there is one, is not taken up")
        raise
    if answer.status == 200:
        io.note("the server answered 200 where 201 is due")
    server = answer.headers.get("Server", "")
    if server:
        io.facts["server"] = server[:60]
    return answer


def _session_url(answer: Answer, io: SessionIO) -> str | None:
    """Absolute URL of the session (RFC 9725 section 4.2), None where the server names none that could be asked."""
    location = answer.headers.get("Location")
    if not location:
        io.note("the server named no Location: the session cannot be deleted")
        return None
    try:
        url = URL(answer.url).join(URL(location[:2048]))
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        io.note("the server's Location is no HTTP URL: the session cannot be deleted")
        return None
    return str(url)


def _read(answer: Answer, spec: Spec, io: SessionIO, offer: str, sending: bool) -> Accepted:
    def refusal(ip: str) -> str | None:
        if spec.loopback and ip in _LOOPBACK:
            return None
        return io.http.allow.refusal(ip, ip)

    accepted = read_answer(
        answer.body, offer, sending=sending, refusal=refusal, content_type=answer.headers.get("Content-Type", "")
    )
    for note in accepted.notes:
        io.note(note)
    io.facts["codec"] = accepted.codec
    io.facts["audio"] = "yes" if accepted.audio else "no"
    return accepted


def _relays(answer: Answer) -> list[IceServer]:
    """TURN servers the answer names (RFC 9725 section 4.6). Its STUN servers would only tell us what the far side learns
    from our checks anyway."""
    named = ice_servers(_all(answer.headers, "Link"))
    return [s for s in named if s.scheme in ("turn", "turns") and s.credential_type == "password"][:RELAYS]


async def _use_relays(peer: Peer, io: SessionIO, servers: list[IceServer]) -> None:
    """Try them beside the direct pairs; one that fails is noted, for the others may do."""
    for server in servers:
        try:
            await peer.relay_through(await _judged(server, io))
        except Failure as failure:
            io.note(f"the TURN server that the answer names was left out: {failure}")
        except (OSError, TransactionError, ConnectionError, ValueError) as error:
            io.note(f"the TURN server that the answer names gave no allocation: {type(error).__name__}")


async def _judged(server: IceServer, io: SessionIO) -> TurnServer:
    """Its address, if the policy allows it. Raises Failure(ICE, address_refused) or OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    ip = str(found[0][4][0])
    io.http.allow.check(server.host, ip, Phase.ICE)
    return TurnServer(ip, server.port, server.transport, server.scheme == "turns", server.username, server.credential)


async def _up(peer: Peer, io: SessionIO, relays: list[IceServer]) -> None:
    """Wait for ICE and DTLS, marking where one ends and the other begins."""

    def hear(link: Link) -> None:
        match link:
            case Link.ICE_UP:
                io.stages.enter(Stage.DTLS, io.clock.now())
                io.facts["ice"] = "/".join(peer.candidates or ())
            case Link.ENDED:
                io.feed.close(Failure(Phase.PLAYING, "ended", "the server ended the session"))
            case _:
                pass

    peer.on_link = hear
    async with asyncio.TaskGroup() as group:
        trying = group.create_task(_use_relays(peer, io, relays))
        link = await peer.up()
        trying.cancel()
    match link:
        case Link.UP:
            pass
        case Link.DTLS_FAILED:
            raise Failure(Phase.DTLS, "failed", "no handshake, or a certificate that is not the answer's")
        case _:
            raise Failure(Phase.ICE, "failed", "every candidate pair failed")


async def _delete(client: Client, url: str, spec: Spec, io: SessionIO, ended: bool) -> None:
    """End the session on the server (RFC 9725 section 4.2). Whatever it answers, we are leaving."""
    try:
        await client.request(
            "DELETE", url, purpose=f"{spec.protocol} end", phase=Phase.ENDING, credential=spec.credential, timeout=GOODBYE
        )
    except Failure as failure:
        status = failure.reason.removeprefix("http_")
        if ended and status in ("404", "410"):
            return
        why = _SURVIVED.get(int(status), "") if status.isdecimal() else ""
        io.note(f"DELETE of the session came to {failure.phase}/{failure.reason}" + (f": {why}" if why else ""))


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    every = getattr(headers, "getall", None)
    return list(every(name, [])) if every is not None else [v for k, v in headers.items() if k.lower() == name.lower()]
