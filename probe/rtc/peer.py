"""A peer connection that hides no time, leaves nothing behind and says what its transport does.

`new_peer` gives an aiortc RTCPeerConnection whose transports, senders and receivers are those of this folder. Changed
beside what they state themselves:

- No STUN or TURN server but those the caller asks (upstream asks Google's).
- One transport for all media from the beginning (max-bundle, RFC 9725 section 4.2): no sockets that are thrown away.
- REMB is not offered, since our receivers estimate no bandwidth.
- `close` is bounded: what does not end in time is aborted, and the orphan tasks that upstream starts are waited for.
- States arrive as one callback with four ends (ICE up, all up, failed, ended); upstream's connectionState cannot tell a
  goodbye from a failure.
- An error while connecting ends in the void upstream; here it is the transport's failure.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription, clock
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.rtc import upstream
from probe.rtc.dtls import Certificate, Secure
from probe.rtc.ice import Reach, Selected, TurnServer
from probe.rtc.receiver import UnitReceiver
from probe.rtc.sender import UnitSender

CLOSE = 1.0  # s for a polite end: BYE, close_notify, sockets


class Link(StrEnum):
    """What became of a transport."""

    ICE_UP = "ice_up"
    UP = "up"
    ICE_FAILED = "ice_failed"
    DTLS_FAILED = "dtls_failed"
    BROKEN = "broken"  # something of ours raised on the way: see `bug`
    ENDED = "ended"  # it was up; the far side said goodbye or gave no more consent


class Peer(RTCPeerConnection):
    """Made by `new_peer`."""

    def __init__(self, configuration: RTCConfiguration, reach: Reach) -> None:
        super().__init__(configuration)
        self._RTCPeerConnection__certificates = [certificate()]
        self.reach = reach
        self._connecting: set[asyncio.Task[Any]] = set()
        self._was_up = False
        self._closing = False
        self._closed = asyncio.Event()
        self.bug: Exception | None = None
        self.on_link: Callable[[Link], None] | None = None

    async def up(self) -> Link:
        """Wait until the transport is up or will never be; returns which."""
        done: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        heard, before = self.on_link, self._link()
        if before is not None:
            return before

        def hear(link: Link) -> None:
            if heard is not None:
                heard(link)
            if link is not Link.ICE_UP and not done.done():
                done.set_result(link)

        self.on_link = hear
        try:
            return await done
        finally:
            self.on_link = heard

    async def gather(self) -> None:
        """Open our sockets: what `relay_through` and `reflexive` add to, and `offer` tells."""
        for transport in self._secures:
            await transport.transport.iceGatherer.gather()

    async def relay_through(self, server: TurnServer, tls: ssl.SSLContext) -> None:
        """Use a TURN server beside what was gathered, before the offer or after the answer. Raises as Agent's."""
        for transport in self._secures:
            await transport.agent.relay_through(server, tls)

    async def reflexive(self, ip: str, port: int) -> None:
        """Ask a STUN server before the offer is made. Raises as Agent's."""
        for transport in self._secures:
            await transport.agent.reflexive(ip, port)

    @property
    def relays(self) -> int:
        """Relayed candidates that we have."""
        return sum(c.type == "relay" for transport in self._secures for c in transport.agent.local_candidates)

    @property
    def refusal(self) -> str:
        """Why a relay does not reach the other side, or no more; empty where none said so."""
        return next((t.agent.refusal for t in self._secures if t.agent.refusal), "")

    @property
    def ended(self) -> bool:
        """Whether it was up and the far side, or the lack of its consent, ended it."""
        return self._link() is Link.ENDED

    @property
    def selected(self) -> Selected | None:
        """The candidate pair in use."""
        return next((pair for t in self._secures if (pair := t.agent.selected) is not None), None)

    @property
    def _secures(self) -> list[Secure]:
        return [t for t in self._RTCPeerConnection__dtlsTransports if isinstance(t, Secure)]  # type: ignore[attr-defined]

    async def offer(self) -> str:
        """Our offer with its candidates in it. While it has none (relays are to come) it does not say that none will: whoever
        believes that gives up."""
        await self.setLocalDescription(await self.createOffer())
        sdp = self.localDescription.sdp
        return sdp if "a=candidate:" in sdp else sdp.replace("a=end-of-candidates\r\n", "")

    async def accept(self, answer: str) -> None:
        """Take an answer that `read_answer` has let through; connecting begins when this returns.

        Raises Unsupported, or Failure(SIGNAL, sdp_rejected)."""
        try:
            await self.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        except OperationError as error:
            raise Unsupported(str(error)) from error
        except (ValueError, InvalidStateError) as error:
            raise Failure(Phase.SIGNAL, "sdp_rejected", quoted(str(error), 200)) from error

    async def createOffer(self) -> RTCSessionDescription:
        return without_remb(await super().createOffer())

    async def createAnswer(self) -> RTCSessionDescription:
        return without_remb(await super().createAnswer())

    async def close(self) -> None:
        """End politely within a second, or not politely. Leaves no task, timer or socket. Who comes second waits for the first:
        upstream's second waits on a future that its own timeout would cancel under the first."""
        if self._closing:
            await self._closed.wait()
            return
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE):
                await super().close()
                await self._settled()
        except TimeoutError:
            self._abort()
            await asyncio.sleep(0)
        except BaseException:
            self._abort()
            raise
        finally:
            self._closed.set()

    async def _settled(self) -> None:
        """Wait for tasks that upstream starts and forgets."""
        await asyncio.sleep(0)  # those not begun yet see that we are closed
        own = asyncio.current_task()
        tasks = {t for t in self._connecting if t is not own}
        if tasks:
            await asyncio.wait(tasks)

    def _abort(self) -> None:
        for transceiver in self.getTransceivers():
            if isinstance(transceiver.receiver, UnitReceiver):
                transceiver.receiver.shut()
            if isinstance(transceiver.sender, UnitSender):
                transceiver.sender.shut()
        for transport in self._secures:
            if transport._task is not None:
                transport._task.cancel()
            transport.agent.abort()
            if (monitor := transport.transport._RTCIceTransport__monitor_task) is not None:  # type: ignore[attr-defined]
                monitor.cancel()
        for task in self._connecting:
            task.cancel()

    # what upstream calls by its mangled names

    async def _RTCPeerConnection__connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connecting.add(task)
        try:
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]
        except (AssertionError, ValueError, ConnectionError, OSError):
            if not self._closing:
                self._tell(Link.DTLS_FAILED)
        except (
            Exception
        ) as bug:  # upstream forgets its task: nobody would ever hear of it, and the platform be blamed for silence
            self.bug = bug
            self._tell(Link.BROKEN)
        finally:
            self._connecting.discard(task)

    def _RTCPeerConnection__createDtlsTransport(self) -> Secure:
        transport = Secure.adopt(super()._RTCPeerConnection__createDtlsTransport(), self.reach)  # type: ignore[misc]
        transport.transport.on("statechange", lambda: self._ice_changed(transport))
        transport.on("statechange", lambda: self._dtls_changed(transport))
        return transport

    def _RTCPeerConnection__createTransceiver(
        self, direction: str, kind: str, sender_track: MediaStreamTrack | None = None
    ) -> RTCRtpTransceiver:
        made: RTCRtpTransceiver = super()._RTCPeerConnection__createTransceiver(direction, kind, sender_track)  # type: ignore[misc]
        transport: RTCDtlsTransport = made.receiver.transport
        assert isinstance(transport, Secure)
        stream = made.sender._stream_id
        made._RTCRtpTransceiver__sender = sender = UnitSender(sender_track or kind, transport)  # type: ignore[attr-defined]
        made._RTCRtpTransceiver__receiver = receiver = UnitReceiver(kind, transport)  # type: ignore[attr-defined]
        sender._stream_id = stream
        receiver._set_rtcp_ssrc(sender._ssrc)
        return made

    def _ice_changed(self, transport: Secure) -> None:
        state = transport.transport.state
        if state == "completed":
            self._tell(Link.ICE_UP)
        elif state == "failed":
            self._tell(Link.ENDED if self._was_up else Link.ICE_FAILED)

    def _dtls_changed(self, transport: Secure) -> None:
        if transport.state == "connected":
            self._was_up = True
            self._tell(Link.UP)
        elif transport.state == "failed":
            self._tell(Link.DTLS_FAILED)
        elif transport.state == "closed" and self._was_up:
            self._tell(Link.ENDED)

    def _link(self) -> Link | None:
        """Where we stand, for whoever asks late."""
        if self.bug is not None:
            return Link.BROKEN
        states = {t.state for t in self._secures}
        if "failed" in states:
            return Link.DTLS_FAILED
        if "connected" in states:
            return Link.UP
        if "failed" in {t.transport.state for t in self._secures}:
            return Link.ICE_FAILED
        return Link.ENDED if self._was_up or self._closing else None

    def _tell(self, link: Link) -> None:
        if self.on_link is not None and not self._closing:
            self.on_link(link)


_certificate: Certificate | None = None


def certificate() -> Certificate:
    """The process's certificate, valid for 30 days; the first costs 4–11 ms, so a probe warms up before it measures."""
    global _certificate
    if _certificate is None or (_certificate.expires - clock.current_datetime()).days < 7:
        _certificate = Certificate.generateCertificate()
    return _certificate


def new_peer(*, loopback: bool, relayed: bool = False, family: str = "any") -> Peer:
    """A peer. `loopback`: gather this machine's own addresses as well. `relayed`: nothing but relays, of the TURN servers it is
    told. `family`: any, ipv4 or ipv6.

    Raises upstream.Moved when aiortc or aioice are not the ones this folder was written against.
    """
    upstream.check()
    configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    return Peer(configuration, Reach(loopback, relayed, family))


def without_remb(description: RTCSessionDescription) -> RTCSessionDescription:
    """The description without the feedback our receivers do not give, and the header extension it needs."""
    lines = description.sdp.split("\r\n")
    kept = [line for line in lines if not line.endswith((" goog-remb", "/abs-send-time"))]
    return RTCSessionDescription(sdp="\r\n".join(kept), type=description.type)


async def warm() -> None:
    """Pay once for what only the first connection costs: imports, keys, sockets, SDP."""
    peer = new_peer(loopback=True)
    try:
        peer.addTransceiver("video", direction="recvonly")
        peer.addTransceiver("audio", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
    finally:
        await peer.close()


def prefer(transceiver: RTCRtpTransceiver, *codecs: str) -> None:
    """Offer or answer only these codecs (h264, vp8, opus, pcmu, pcma), in this order, with retransmission. Before the
    description is made; upstream would offer VP8 first, and G.722 that nobody here decodes."""
    known = RTCRtpReceiver.getCapabilities(transceiver.kind)
    assert known is not None
    order = {f"{transceiver.kind}/{name}": rank for rank, name in enumerate(codecs)}
    wanted = [c for c in known.codecs if c.mimeType.lower() in order]
    # Constrained baseline before baseline: what every encoder and decoder in a browser has.
    wanted.sort(key=lambda c: (order[c.mimeType.lower()], c.parameters.get("profile-level-id") != "42e01f"))
    retransmission = [c for c in known.codecs if c.mimeType.lower() == f"{transceiver.kind}/rtx"]
    transceiver.setCodecPreferences(wanted + retransmission)
