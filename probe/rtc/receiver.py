"""A receiver of access units in the place of aiortc's, which decodes in a thread of its own into an unbounded queue.

It speaks RTCP as a receiver must (RFC 3550 section 6.4, RFC 4585): reports, the first one as soon as media has come
(section 3.5.2 of RFC 4585 allows it between two), so that a sender is acknowledged in milliseconds instead of a second;
NACKs, repeated ever more rarely while a gap is open, for a path may be slow and what is asked for twice comes twice; and
picture loss indications on its own evidence: at the first packet unless a keyframe begins with it, after a loss given up,
when the decoder refuses a picture, and again while no keyframe comes.

Not done: bandwidth estimation (REMB, transport-wide CC). A probe takes what it is sent; what we cannot do we do not
offer, see `without_remb` in peer.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    clamp_packets_lost,
)
from aiortc.stats import RTCStatsReport

from probe.model.clock import MS, Clock
from probe.rtc.assembly import AccessUnit, Assembler, Counts, begins_key, depayload
from probe.rtc.dtls import Secure
from probe.rtc.packet import Rtp, unwrap_rtx
from probe.rtc.params import parameter_sets

FIRST_REPORT = 0.02  # s after the first packet
REPORT = 1.0
TICK = 0.02
NACK_AGAIN = 40 * MS
PLI_AGAIN = 500 * MS
_NEVER = 0, NACK_AGAIN  # asked for so far

OnUnit = Callable[[AccessUnit], None]


@dataclass(slots=True)
class _Source:
    """What a receiver report says of one SSRC (RFC 3550 appendix A)."""

    base: int
    highest: int
    received: int = 0
    expected_before: int = 0
    received_before: int = 0
    jitter: float = 0.0
    transit: float | None = None
    lsr: int = 0
    lsr_at: int = 0

    def add(self, packet: Rtp, clock_rate: int) -> None:
        self.received += 1
        delta = (packet.sequence_number - self.highest + 0x8000 & 0xFFFF) - 0x8000
        if delta > 0:
            self.highest += delta
        transit = packet.arrived * clock_rate / 1e9 - packet.timestamp
        if self.transit is not None:
            change = abs(transit - self.transit)
            if change < clock_rate:  # the timestamp has not wrapped or jumped
                self.jitter += (change - self.jitter) / 16
        self.transit = transit

    def report(self, ssrc: int, now: int) -> RtcpReceiverInfo:
        expected = self.highest - self.base + 1
        lost = expected - self.received
        expected_now, received_now = expected - self.expected_before, self.received - self.received_before
        self.expected_before, self.received_before = expected, self.received
        lost_now = max(0, expected_now - received_now)
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=min(255, (lost_now << 8) // expected_now) if expected_now > 0 else 0,
            packets_lost=clamp_packets_lost(lost),
            highest_sequence=self.highest & 0xFFFFFFFF,
            jitter=int(self.jitter) & 0xFFFFFFFF,
            lsr=self.lsr,
            dlsr=min(0xFFFFFFFF, (now - self.lsr_at) * 65536 // 1_000_000_000) if self.lsr else 0,
        )


class UnitReceiver(RTCRtpReceiver):
    """Takes media packets from the transport, gives access units to whoever `receive_units` named."""

    def __init__(self, kind: str, transport: Secure) -> None:
        super().__init__(kind, transport)
        self.kind = kind
        self.counts = Counts()
        self.codec = ""  # h264, vp8 or opus, once negotiated
        self._secure = transport
        self._loop = asyncio.get_running_loop()
        self._clock: Clock | None = None
        self._on_unit: OnUnit | None = None
        self._on_first: Callable[[int], None] | None = None
        self._assembler = Assembler(self._release, self.counts)
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._ours = 0
        self._sources: dict[int, _Source] = {}
        self._nacked: dict[int, tuple[int, int]] = {}  # sequence number → when it may be asked for again, and how long after that
        self._asked: int | None = None
        self._last_audio: tuple[int, int, int, int] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._reporting: asyncio.TimerHandle | None = None
        self._running = False

    def subscribe(self, clock: Clock, on_unit: OnUnit, on_first_packet: Callable[[int], None] | None) -> None:
        self._clock, self._on_unit, self._on_first = clock, on_unit, on_first_packet

    # what aiortc's peer connection calls

    def setTransport(self, transport: Any) -> None:
        self._secure = transport
        super().setTransport(transport)

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        if self._running or self._clock is None:
            return
        self._running = True
        self._codecs = {c.payloadType: c for c in parameters.codecs if c.payloadType is not None}
        main = next((c for c in parameters.codecs if c.name.lower() != "rtx"), None)
        if main is not None:
            self.codec = main.name.lower()
            self._assembler.clock_rate = main.clockRate
            self._assembler.parameter_sets = parameter_sets(main)
        self._secure._register_rtp_receiver(self, parameters)

    async def stop(self) -> None:
        self.shut()

    def shut(self) -> None:
        """Timers off, unregistered. Synchronous and repeatable."""
        if self._running:
            self._running = False
            self._secure._unregister_rtp_receiver(self)
        for timer in (self._ticking, self._reporting):
            if timer is not None:
                timer.cancel()
        self._ticking = self._reporting = None
        if self._track is not None:
            self._track.stop()

    async def getStats(self) -> RTCStatsReport:
        return RTCStatsReport()

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._ours = ssrc

    def _handle_disconnect(self) -> None:
        self.shut()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket) and self._clock is not None:
            source = self._sources.get(packet.ssrc)
            if source is not None:
                source.lsr = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                source.lsr_at = self._clock.now()
        elif isinstance(packet, RtcpByePacket):
            for ssrc in packet.sources:
                self._sources.pop(ssrc, None)

    # media

    def take(self, packet: Rtp) -> None:
        """One media packet, from the datagram callback."""
        codec = self._codecs.get(packet.payload_type)
        if not self._running or not self._enabled or codec is None or self._clock is None:
            return
        packet.arrived = now = self._clock.now()
        self.counts.packets += 1
        self.counts.bytes += len(packet.payload)
        name = codec.name.lower()
        if name == "rtx":
            apt = codec.parameters.get("apt")
            original = self._codecs.get(apt) if isinstance(apt, int) else None
            if original is None or not isinstance(apt, int) or self._assembler.source is None:
                return
            try:
                packet = unwrap_rtx(packet, apt, self._assembler.source)
            except ValueError:
                self.counts.garbage += 1
                return
            name = original.name.lower()
        else:
            self._account(packet, codec.clockRate)
        if self._on_first is not None:
            self._on_first(now)
            self._on_first = None
        if self.kind == "audio":
            self._sound(packet, name)
        else:
            self._picture(packet, name)

    def _account(self, packet: Rtp, clock_rate: int) -> None:
        source = self._sources.get(packet.ssrc)
        if source is None:
            source = _Source(packet.sequence_number, packet.sequence_number)
            self._sources[packet.ssrc] = source
            if len(self._sources) > 4:  # a report has room for more, a viewer's stream has no use for them
                del self._sources[next(iter(self._sources))]
        source.add(packet, clock_rate)
        if self._reporting is None:
            self._reporting = self._loop.call_later(FIRST_REPORT, self._report)

    def _picture(self, packet: Rtp, name: str) -> None:
        if packet.ssrc != self._assembler.source:
            if self._opens_key(packet, name):
                self._asked = packet.arrived  # a keyframe is on its way without asking
            else:
                self._ask(packet.ssrc, packet.arrived)
        self._nacked.pop(packet.sequence_number, None)
        self._assembler.add(packet, name)
        if self._assembler.waiting or self._assembler.need_key:
            self._repair(packet.arrived)

    def _opens_key(self, packet: Rtp, name: str) -> bool:
        try:
            return begins_key(name, depayload(name, packet.payload), packet.payload)
        except (ValueError, IndexError):
            return False

    def _sound(self, packet: Rtp, name: str) -> None:
        """Sound in order, late packets dropped: nothing mends it, and a player would conceal."""
        if self._last_audio is None or self._last_audio[0] != packet.ssrc:
            self.counts.sources += 1
            unwrapped, lost = 0 if self._last_audio is None else self._last_audio[3] + 960, 0
        else:
            _, sequence, stamp, before = self._last_audio
            ahead = (packet.sequence_number - sequence + 0x8000 & 0xFFFF) - 0x8000
            if ahead <= 0:
                self.counts.late += 1
                return
            lost = ahead - 1
            unwrapped = before + (packet.timestamp - stamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self._last_audio = (packet.ssrc, packet.sequence_number, packet.timestamp, unwrapped)
        self.counts.lost += lost
        if not packet.payload:
            return
        self.counts.units += 1
        self._release(
            AccessUnit(
                codec=name,
                data=packet.payload,
                timestamp=unwrapped,
                keyframe=True,
                first_arrived=packet.arrived,
                last_arrived=packet.arrived,
                size=len(packet.payload),
                lost_before=lost,
            )
        )

    def _release(self, unit: AccessUnit) -> None:
        if self._on_unit is not None:
            self._on_unit(unit)

    # repair

    def _tick(self) -> None:
        self._ticking = None
        if self._running and self._clock is not None:
            now = self._clock.now()
            self._assembler.poll(now)
            self._repair(now)

    def _repair(self, now: int) -> None:
        """NACK what is missing, ask for a keyframe where only that helps, and look again while anything is open."""
        source = self._assembler.source
        if source is None:
            return
        if self._assembler.waiting:
            due = [s for s in self._assembler.missing() if now >= self._nacked.get(s, _NEVER)[0]]
            if due:
                if len(self._nacked) > 4096:
                    self._nacked.clear()
                for sequence in due:
                    wait = self._nacked.get(sequence, _NEVER)[1]
                    self._nacked[sequence] = now + wait, 2 * wait
                self.counts.nacks += len(due)
                self._send(RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._ours, media_ssrc=source, lost=due))
        else:
            self._nacked.clear()
        if self._assembler.need_key and (self._asked is None or now - self._asked >= PLI_AGAIN):
            self._ask(source, now)
        if self._ticking is None and (self._assembler.waiting or self._assembler.need_key):
            self._ticking = self._loop.call_later(TICK, self._tick)

    def ask_keyframe(self) -> None:
        """The decoder refused a picture, or someone needs a new one: at most one PLI in 500 ms."""
        source = self._assembler.source
        if source is None or self._clock is None:
            return
        now = self._clock.now()
        if self._asked is None or now - self._asked >= PLI_AGAIN:
            self._ask(source, now)

    def _ask(self, source: int, now: int) -> None:
        self._asked = now
        self.counts.plis += 1
        self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._ours, media_ssrc=source))

    def _report(self) -> None:
        self._reporting = None
        if self._running and self._clock is not None:
            now = self._clock.now()
            reports = [source.report(ssrc, now) for ssrc, source in self._sources.items()]
            self._send(RtcpRrPacket(ssrc=self._ours, reports=reports))
            self._reporting = self._loop.call_later(REPORT, self._report)

    def _send(self, packet: AnyRtcpPacket) -> None:
        self._secure.send_rtcp_now(packet)


def receive_units(
    receiver: RTCRtpReceiver, clock: Clock, on_unit: OnUnit, on_first_packet: Callable[[int], None] | None = None
) -> None:
    """Have a receiver's media as access units. Call before its transport is up: before setRemoteDescription where we
    offered, before setLocalDescription where we answer.

    `on_unit` and `on_first_packet(arrived ns)` run on the loop, in the datagram's callback: do little there.
    """
    ours(receiver).subscribe(clock, on_unit, on_first_packet)


def request_keyframe(receiver: RTCRtpReceiver) -> None:
    """Send a PLI, rate-limited (RFC 4585 section 6.3.1)."""
    ours(receiver).ask_keyframe()


def ours(receiver: RTCRtpReceiver) -> UnitReceiver:
    """The receiver as what `new_peer` made it. TypeError for one of a stock RTCPeerConnection."""
    if not isinstance(receiver, UnitReceiver):
        raise TypeError("the receiver belongs to no peer of ours: use new_peer()")
    return receiver
