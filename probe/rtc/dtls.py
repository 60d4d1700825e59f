"""DTLS-SRTP: media without a task in between, hostile bytes survived, RSA certificates accepted.

What is changed in aiortc 1.16's transport, each for a reason:

- Media packets are decrypted and routed in the datagram callback (see `ice.py`).
- libsrtp and aiortc's router keep state for every SSRC ever seen; a peer may name 2^32 of them. Bounded here.
- A malformed RTCP packet of an authenticated peer raises through the task that reads and ends the session as if the
  peer had said goodbye. Dropped and counted instead.
- A FIR is routed by a field that RFC 5104 sets to 0, and so reaches nobody.
- Only ECDHE-ECDSA is offered, so a server with an RSA certificate, which every browser accepts, fails the handshake.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

import pylibsrtp
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport, SRTPProtectionProfile
from aiortc.rtp import RTCP_PSFB_FIR, AnyRtcpPacket, RtcpPacket, RtcpPsfbPacket
from OpenSSL import SSL
from pylibsrtp import Session

from probe.rtc.ice import Agent, Reach
from probe.rtc.packet import Rtp, parse_rtp

MAX_SSRCS = 64
CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"  # noqa: E501


class Certificate(RTCCertificate):
    """One per process: a fresh key per connection buys a probe nothing."""

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context


class MediaSink(Protocol):
    """Who takes media packets: the receivers of `receiver.py`."""

    def take(self, packet: Rtp) -> None: ...


class Secure(RTCDtlsTransport):
    """An aiortc DTLS transport taken over after it was made: see `adopt`."""

    garbage: int  # packets dropped because they could not be read
    _ssrcs: set[bytes]

    @staticmethod
    def adopt(transport: RTCDtlsTransport, reach: Reach) -> Secure:
        """Take over a new transport and the ICE agent below it."""
        transport.__class__ = Secure
        assert isinstance(transport, Secure)
        transport.garbage = 0
        transport._ssrcs = set()
        agent = Agent.adopt(transport.transport._connection, reach)
        agent.media = transport._media
        return transport

    @property
    def agent(self) -> Agent:
        agent = self.transport._connection
        assert isinstance(agent, Agent)
        return agent

    def send_rtcp_now(self, packet: AnyRtcpPacket) -> bool:
        """Protect and send without a task. False when there is no transport for it."""
        if self.state != "connected":
            return False
        return self.agent.send_now(self._tx_srtp.protect_rtcp(bytes(packet)))

    def _media(self, data: bytes) -> bool:
        """RTP straight from the socket. False: not ready for it, or RTCP; it shall take the queue."""
        session: Session | None = self._rx_srtp
        if session is None or len(data) < 12 or 192 <= data[1] <= 223:  # RFC 5761 section 4
            return False
        ssrc = data[8:12]
        if ssrc not in self._ssrcs and len(self._ssrcs) >= MAX_SSRCS:
            self.garbage += 1
            return True
        try:
            packet = parse_rtp(session.unprotect(data))
        except (pylibsrtp.Error, ValueError):
            self.garbage += 1
            return True
        self._ssrcs.add(ssrc)  # only now: anybody can send, the peer alone can sign
        receiver = self._rtp_router.route_rtp(packet)  # type: ignore[arg-type]
        if receiver is not None:
            receiver.take(packet)  # type: ignore[attr-defined]
        return True

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        """What arrived while the handshake was finishing, decrypted by upstream."""
        try:
            packet = parse_rtp(data)
        except ValueError:
            self.garbage += 1
            return
        receiver = self._rtp_router.route_rtp(packet)  # type: ignore[arg-type]
        if receiver is not None:
            receiver.take(packet)  # type: ignore[attr-defined]

    async def _handle_rtcp_data(self, data: bytes) -> None:
        try:
            packets = RtcpPacket.parse(data)
        except (ValueError, struct.error, IndexError):
            self.garbage += 1
            return
        for packet in packets:
            recipients: set[Any] = set(self._rtp_router.route_rtcp(packet))
            if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_FIR:
                # RFC 5104 section 4.3.1.2: who is meant stands in the entries, the header says 0; upstream looks there.
                named = (int.from_bytes(packet.fci[at : at + 4], "big") for at in range(0, len(packet.fci) - 7, 8))
                recipients.update(filter(None, map(self._rtp_router.senders.get, named)))
            for recipient in recipients:
                await recipient._handle_rtcp_packet(packet)
