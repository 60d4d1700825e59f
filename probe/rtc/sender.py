"""Senders of what is encoded already, and what the far side says about it.

aiortc packs av.Packets as they are. What it lacks: it ignores a PLI or FIR for packets (RFC 4585, RFC 5104), and keeps
receiver reports to itself. Both become callbacks here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtp import AnyRtcpPacket, RtcpRrPacket, RtcpSrPacket
from av.packet import Packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a receiver report said of our stream. `received` counts packets, by its own arithmetic; `lost` cumulative."""

    received: int
    lost: int


class UnitSender(RTCRtpSender):
    """An aiortc sender that tells of keyframe requests and receiver reports."""

    def __init__(self, track_or_kind: MediaStreamTrack | str, transport: object) -> None:
        super().__init__(track_or_kind, transport)  # type: ignore[arg-type]
        self.on_keyframe_request: Callable[[], None] | None = None
        self.on_report: Callable[[Report], None] | None = None
        self.keyframe_requests = 0

    @property
    def packets(self) -> int:
        """RTP packets sent."""
        return int(self._RTCRtpSender__packet_count)  # type: ignore[attr-defined]

    @property
    def bytes(self) -> int:
        """RTP payload bytes sent."""
        return int(self._RTCRtpSender__octet_count)  # type: ignore[attr-defined]

    def _send_keyframe(self) -> None:
        self.keyframe_requests += 1
        if self.on_keyframe_request is not None:
            self.on_keyframe_request()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        await super()._handle_rtcp_packet(packet)
        if self.on_report is None or not isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            return
        for report in packet.reports:
            if report.ssrc == self._ssrc:
                received = self._received(report.highest_sequence, report.packets_lost)
                if received > 0:
                    self.on_report(Report(received=received, lost=report.packets_lost))

    def shut(self) -> None:
        """Its tasks cancelled, without a goodbye."""
        for task in (self._RTCRtpSender__rtp_task, self._RTCRtpSender__rtcp_task):  # type: ignore[attr-defined]
            if task is not None:
                task.cancel()

    def _received(self, highest: int, lost: int) -> int:
        """Packets the far side has. 0 for a report made before anything came: its highest number is none we sent."""
        history = self._RTCRtpSender__rtp_history  # type: ignore[attr-defined]
        numbers = [packet.sequence_number for packet in history.values()]
        if not numbers:
            return 0
        last = max(numbers, key=lambda n: (n - numbers[0] + 0x8000) & 0xFFFF)
        behind = (last - highest) & 0xFFFF
        return max(0, self.packets - behind - max(0, lost)) if behind < self.packets else 0


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Have every PLI and FIR about this sender's stream. Runs on the loop."""
    ours(sender).on_keyframe_request = callback


def on_report(sender: RTCRtpSender, callback: Callable[[Report], None]) -> None:
    """Have every receiver report that acknowledges media of this sender. Runs on the loop."""
    ours(sender).on_report = callback


def ours(sender: RTCRtpSender) -> UnitSender:
    """The sender as what `new_peer` made it. TypeError for one of a stock RTCPeerConnection."""
    if not isinstance(sender, UnitSender):
        raise TypeError("the sender belongs to no peer of ours: use new_peer()")
    return sender


class UnitTrack(MediaStreamTrack):
    """A track of encoded units, sent as they are. Bounded: who cannot send in time starts again at a keyframe."""

    def __init__(self, kind: str, limit: int = 64) -> None:
        super().__init__()
        self.kind = kind
        self.dropped = 0
        self._units: deque[Packet[Any]] = deque()
        self._limit = limit
        self._wake = asyncio.Event()
        self._reading = False
        self._need_key = False

    @property
    def reading(self) -> bool:
        """Whether the transport is up and takes units."""
        return self._reading

    def push(self, data: bytes, pts: int, time_base: Fraction, keyframe: bool) -> bool:
        """Queue one unit (Annex B, a VP8 frame or an Opus packet). False when it was dropped: nobody reads yet, or the
        queue is full; then nothing but a keyframe is taken next."""
        if not self._reading or self.readyState != "live":
            return False
        if len(self._units) >= self._limit:
            self.dropped += len(self._units)
            self._units.clear()
            self._need_key = self.kind == "video"
        if self._need_key and not keyframe:
            self.dropped += 1
            return False
        self._need_key = False
        packet = Packet(data)
        packet.pts = pts
        packet.time_base = time_base
        self._units.append(packet)
        self._wake.set()
        return True

    async def recv(self) -> Packet[Any]:
        self._reading = True
        while not self._units:
            if self.readyState != "live":
                raise MediaStreamError
            self._wake.clear()
            await self._wake.wait()
        return self._units.popleft()

    def stop(self) -> None:
        super().stop()
        self._wake.set()
