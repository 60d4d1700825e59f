"""What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) have in common: offer, answer, transport, DELETE.

Not trickle: the offer carries its candidates, as every server must accept. Servers are taken as they are: 200 for 201,
no Location, a relative one, one with a query, DELETE refused; what deserves to be read is noted. ETag, extensions,
PATCH and ICE restarts are not used, counter-offers (406) are only noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

from probe.drivers import ice
from probe.drivers.base import SessionIO, Spec
from probe.errors import DriverBug, Failure
from probe.model.stage import Phase, Stage
from probe.model.text import quoted
from probe.net.client import Answer, Client
from probe.net.link_header import IceServer
from probe.rtc.answer import MAX_BYTES, Accepted, read_answer
from probe.rtc.peer import Link, Peer
from probe.rtc.relay import relay_answer, relay_offer

GOODBYE = 1.5  # s a DELETE may take
_LOOPBACK = frozenset({"127.0.0.1", "::1"})  # of a platform on this machine; the other 16 million are somebody else's
_SURVIVED = {
    404: "it had ended already",
    405: "the server knows no DELETE",
    410: "it had ended already",
    501: "the server knows no DELETE",
}


@asynccontextmanager
async def connected(peer: Peer, spec: Spec, io: SessionIO, *, sending: bool) -> AsyncIterator[Accepted]:
    """Bring a new `peer` (`ice.peer_for`) up through the server at `spec.url`; DELETE and close at the end, however it comes.

    Marks PROBE, SIGNAL, ICE (where servers of the scenario are asked, before the offer too) and DTLS in `io.stages` and leaves
    DTLS open. When the transport ends by itself later,
    `io.feed` is closed with (playing, ended)."""
    # A viewer has connections of its own; the family that is told is that of its media.
    client = io.http.using(dial=io.path.dial if io.path else None, own_pool=True, reached=lambda _: None)
    path = io.path if ice.rewritten(spec, io) else None
    session: str | None = None
    try:
        await ice.gather(peer, spec, io)
        offer = await peer.offer()
        answer = await _post(client, spec, io, offer if path is None else await relay_offer(offer, path))
        io.stages.enter(Stage.PROBE, io.clock.now())
        session = _session_url(answer, io)
        accepted = _read(answer, spec, io, offer, sending)
        ice.check_family(accepted.sdp, spec)
        relays = ice.of_answer(answer, spec, io)
        io.stages.enter(Stage.ICE, io.clock.now())
        await ice.relay_first(peer, spec, io, relays)
        await peer.accept(accepted.sdp if path is None else await relay_answer(accepted.sdp, path))
        await _up(peer, spec, io, relays)
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
        io.facts["server"] = quoted(server, 60)
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


async def _up(peer: Peer, spec: Spec, io: SessionIO, relays: list[IceServer]) -> None:
    """Wait for ICE and DTLS, marking where one ends and the other begins."""

    def hear(link: Link) -> None:
        match link:
            case Link.ICE_UP:
                io.stages.enter(Stage.DTLS, io.clock.now())
                if (pair := peer.selected) is not None:
                    io.facts["ice"], io.facts["family"] = str(pair), pair.family
            case Link.ENDED:
                io.feed.close(Failure(Phase.PLAYING, "ended", peer.refusal or "the server ended the session"))
            case _:
                pass

    peer.on_link = hear
    async with asyncio.TaskGroup() as group:
        trying = group.create_task(ice.relay_beside(peer, spec, io, relays))
        link = await peer.up()
        trying.cancel()
    match link:
        case Link.UP:
            pass
        case Link.BROKEN:
            raise DriverBug(f"connecting broke: {type(peer.bug).__name__}") from peer.bug
        case Link.DTLS_FAILED:
            raise Failure(Phase.DTLS, "failed", "no handshake, or a certificate that is not the answer's")
        case _:
            raise Failure(Phase.ICE, "failed", peer.refusal or "every candidate pair failed")


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
