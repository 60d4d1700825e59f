"""RTP packets (RFC 3550 section 5.1), read and no more: what assembling needs, header extensions skipped.

Our own reader instead of aiortc's: that one builds nine objects a packet for extensions nobody reads here.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from


@dataclass(slots=True)
class Rtp:
    """One packet. `arrived` monotonic ns. Padding and extensions are taken off the payload."""

    ssrc: int
    payload_type: int
    sequence_number: int
    timestamp: int
    marker: bool
    payload: bytes
    arrived: int = 0


def parse_rtp(data: bytes) -> Rtp:
    """Raises ValueError for anything that is not a whole RTP packet."""
    if len(data) < 12:
        raise ValueError("RTP header is cut off")
    first, second, sequence, timestamp, ssrc = unpack_from("!BBHLL", data)
    if first >> 6 != 2:
        raise ValueError("not RTP version 2")
    begin = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < begin + 4:
            raise ValueError("RTP header extension is cut off")
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = len(data)
    if first & 0x20:
        end -= data[-1]
        if not data[-1]:
            raise ValueError("RTP padding of no length")
    if begin > end:
        raise ValueError("RTP packet is cut off")
    return Rtp(ssrc, second & 0x7F, sequence, timestamp, bool(second & 0x80), data[begin:end])


def unwrap_rtx(packet: Rtp, payload_type: int, ssrc: int) -> Rtp:
    """The packet a retransmission carries (RFC 4588 section 4). Raises ValueError when it carries none."""
    if len(packet.payload) < 2:
        raise ValueError("retransmission of nothing")
    original = int.from_bytes(packet.payload[:2], "big")
    return Rtp(ssrc, payload_type, original, packet.timestamp, packet.marker, packet.payload[2:], packet.arrived)
