"""From RTP packets to access units, as a player does it: whole, in order, from a keyframe on. Pure.

A unit is complete when its packets are consecutive up to the marker bit (RFC 6184 section 5.1, RFC 7741 section 4.1), and
is released there: waiting for the next unit's first packet, as jitter buffers do, costs a frame interval. A packet
without marker is tolerated where the next timestamp follows without a gap.

A gap is waited for while it may still be mended by retransmission, less long when a whole keyframe stands behind it;
then it is given up, and nothing is released before the next keyframe: that is what a browser shows. A jump of sequence numbers
confirmed by a second packet (RFC 3550 appendix A.1), or another SSRC, is another source: it begins anew and the
timeline goes on by arrival time.

Not done: several spatial layers, FEC, smoothing of arrival times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import vp8_depayload

from probe.rtc.packet import Rtp

NS = 1_000_000_000
GIVE_UP = 400_000_000  # ns a gap may stay open: several retransmissions on any sane path
MENDABLE = 100_000_000  # ns it may stay open although a whole keyframe stands behind it: one retransmission
MAX_HELD = 2048  # packets held behind a gap
MAX_UNIT = 8 << 20  # bytes
MAX_DROPOUT = 3000
MAX_MISORDER = 1000  # wider than the RFC's 100: retransmissions come late
HALF = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessUnit:
    """One encoded picture (H.264: Annex B; VP8: a frame) or one Opus packet.

    `timestamp` counts the codec's clock, unwrapped; arrival times are monotonic ns of its first and last packet to
    arrive; `size` is encoded bytes; `lost_before` counts RTP packets given up since the unit before."""

    codec: str  # h264 | vp8 | opus
    data: bytes
    timestamp: int
    keyframe: bool
    first_arrived: int
    last_arrived: int
    size: int
    lost_before: int


@dataclass(slots=True)
class Counts:
    """Cumulative, of one receiver. `bytes` are RTP payload bytes as received, retransmissions included."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0  # given up
    late: int = 0  # duplicates, and what came after it was given up
    garbage: int = 0
    units: int = 0
    keyframes: int = 0
    skipped: int = 0  # whole units before a keyframe
    nacks: int = 0
    plis: int = 0
    sources: int = 0


@dataclass(slots=True)
class _Held:
    packet: Rtp
    data: bytes
    key: bool

    @property
    def stamp(self) -> int:
        return self.packet.timestamp


def depayload(codec: str, payload: bytes) -> bytes:
    """RFC 6184 (single NAL unit, STAP-A, FU-A) or RFC 7741. Raises ValueError or IndexError for anything else."""
    return h264_depayload(payload) if codec == "h264" else vp8_depayload(payload)


def nal_types(data: bytes) -> list[int]:
    """Types of the NAL units that begin in Annex B bytes, in order (H.264 table 7-1)."""
    types: list[int] = []
    at = 0
    while (at := data.find(b"\0\0\1", at)) >= 0:
        at += 3
        if at < len(data):
            types.append(data[at] & 0x1F)
    return types


def holds_key(codec: str, data: bytes, payload: bytes) -> bool:
    """Whether a packet tells that its picture needs no other: a slice of an IDR picture begins in it; VP8's own bit."""
    if codec == "vp8":
        return begins_picture(codec, data, payload) and not data[0] & 1
    return 5 in nal_types(data)


def begins_key(codec: str, data: bytes, payload: bytes) -> bool:
    """Whether a packet opens a keyframe: parameter sets or the first slice of an IDR picture."""
    if codec == "vp8":
        return holds_key(codec, data, payload)
    return begins_picture(codec, data, payload) and data[4] & 0x1F in (5, 7, 8)


def begins_picture(codec: str, data: bytes, payload: bytes) -> bool:
    """Whether nothing of the packet's picture can lie before it: what comes before slices, or a slice of macroblock 0."""
    if codec == "vp8":
        return bool(data) and bool(payload[0] & 0x10) and not payload[0] & 0x0F
    if len(data) < 6 or data[:4] != b"\0\0\0\1":
        return False
    kind = data[4] & 0x1F
    return kind in (6, 7, 8, 9) or (kind in (1, 5) and bool(data[5] & 0x80))


@dataclass(slots=True)
class Assembler:
    """The pictures of one receiver. `add` takes its packets, units leave through `release`.

    Sequence numbers are extended beyond 16 bits inside. `_next` is where the open unit begins, `_scan` the first number
    from there on that has not come; `_top` the highest that has."""

    release: Callable[[AccessUnit], None]
    counts: Counts = field(default_factory=Counts)
    parameter_sets: bytes = b""  # from the answer, for streams that carry none (RFC 6184 sprop-parameter-sets)
    clock_rate: int = 90_000
    need_key: bool = True
    source: int | None = None
    codec: str = ""
    _held: dict[int, _Held] = field(default_factory=dict)
    _next: int = 0
    _scan: int = 0
    _top: int = -1
    _begun: bool = False  # something of this source was released or given up: `_next` moves no more backwards
    _edge: bool = False  # whether `_next` is known to begin a picture
    _stranger: Rtp | None = None  # a packet far off, until a second one confirms the jump
    _in_band: bool = False  # whether keyframes of this source bring their parameter sets
    _lost: int = 0
    _gap_since: int | None = None
    _stamp: int | None = None
    _unwrapped: int = 0
    _last_arrived: int = 0

    def add(self, packet: Rtp, codec: str) -> None:
        """Take one packet; may release units."""
        if packet.ssrc != self.source or codec != self.codec:
            self.source, self.codec = packet.ssrc, codec
            self._restart(packet)
        if self._strange(packet):
            return
        stranger, self._stranger = self._stranger, None
        if stranger is not None:
            self._restart(stranger)
            self._insert(stranger)
        self._insert(packet)

    def _insert(self, packet: Rtp) -> None:
        codec = self.codec
        sequence = self._top + self._ahead(packet)
        if sequence in self._held or (sequence < self._next and self._begun):
            self.counts.late += 1
            return
        try:
            data = depayload(codec, packet.payload) if packet.payload else b""
        except (ValueError, IndexError):
            self.counts.garbage += 1
            data = b""
        self._held[sequence] = _Held(packet, data, holds_key(codec, data, packet.payload))
        self._top = max(self._top, sequence)
        if sequence < self._next:
            self._next = self._scan = sequence
        self._advance()
        if len(self._held) > MAX_HELD:  # a gap nobody mends, or one picture without end
            self._give_up()
        self._watch(packet.arrived)

    def poll(self, now: int) -> None:
        """Give up a gap that has been open for too long. Call it every 20 ms or so while `waiting`."""
        if self._gap_since is None:
            return
        age = now - self._gap_since
        if age >= GIVE_UP or (age >= MENDABLE and self._whole_key() is not None):
            self._give_up()
            self._watch(now)

    @property
    def waiting(self) -> bool:
        """Whether a gap is open."""
        return self._scan <= self._top

    def missing(self, limit: int = 128) -> list[int]:
        """Sequence numbers (16 bits) that a retransmission could still bring, oldest first."""
        out: list[int] = []
        for sequence in range(self._scan, self._top):
            if sequence not in self._held:
                out.append(sequence & 0xFFFF)
                if len(out) == limit:
                    break
        return out

    def _restart(self, packet: Rtp) -> None:
        """Another source begins with this packet."""
        self.counts.sources += 1
        self.need_key = True
        self._held.clear()
        self._next = self._scan = packet.sequence_number + 0x10000
        self._top = self._next - 1
        self._begun = self._edge = False
        self._in_band = not self.parameter_sets
        self._stranger = self._gap_since = self._stamp = None

    def _ahead(self, packet: Rtp) -> int:
        """How far the packet's number lies beyond the highest."""
        return (packet.sequence_number - self._top + 0x8000 & 0xFFFF) - 0x8000

    def _strange(self, packet: Rtp) -> bool:
        """Whether the packet is far off and nothing confirms it yet; it is kept for the one that would."""
        if -MAX_MISORDER <= self._ahead(packet) < MAX_DROPOUT:
            if self._stranger is not None:
                self.counts.late += 1
                self._stranger = None
            return False
        if self._stranger is not None and packet.sequence_number == (self._stranger.sequence_number + 1) & 0xFFFF:
            return False
        self.counts.late += self._stranger is not None
        self._stranger = packet
        return True

    def _advance(self) -> None:
        """Release what is whole."""
        while (held := self._held.get(self._scan)) is not None:
            if self._scan > self._next and held.stamp != self._held[self._next].stamp:
                self._finish(self._scan)
            self._scan += 1
            if held.packet.marker:
                self._finish(self._scan)

    def _finish(self, after: int) -> None:
        parts = [self._held.pop(sequence) for sequence in range(self._next, after)]
        edge, self._edge = self._edge, True
        self._next = after
        self._begun = True
        self._emit(parts, edge)

    def _emit(self, parts: list[_Held], edge: bool) -> None:
        first = parts[0]
        size = sum(len(part.data) for part in parts)
        timestamp = self._unwrap(first.stamp, first.packet.arrived)
        if not size:  # padding
            return
        key = any(part.key for part in parts) and (edge or self._opens(parts))
        if size > MAX_UNIT or (self.need_key and not key):
            self.counts.skipped += 1
            self.need_key = True
            return
        self.need_key = False
        data = b"".join(part.data for part in parts)
        if key:
            self.counts.keyframes += 1
            if self.codec == "h264":
                if 7 in nal_types(data):
                    self._in_band = True
                elif self.parameter_sets:
                    data = self.parameter_sets + data
        self.counts.units += 1
        lost, self._lost = self._lost, 0
        arrivals = [part.packet.arrived for part in parts]
        self.release(
            AccessUnit(
                codec=self.codec,
                data=data,
                timestamp=timestamp,
                keyframe=key,
                first_arrived=min(arrivals),
                last_arrived=max(arrivals),
                size=size,
                lost_before=lost,
            )
        )

    def _opens(self, parts: list[_Held]) -> bool:
        """Whether the packets of a keyframe are all of it, nothing being known of the packet before them. Where parameter
        sets are sent along, a keyframe without them has lost its head."""
        first = parts[0]
        if not begins_picture(self.codec, first.data, first.packet.payload):
            return False
        return self.codec != "h264" or not self._in_band or any(7 in nal_types(part.data) for part in parts)

    def _watch(self, now: int) -> None:
        if not self.waiting:
            self._gap_since = None
        elif self._gap_since is None:
            self._gap_since = now

    def _give_up(self) -> None:
        """Leave the gap behind: go on at a whole keyframe if there is one, else at the next picture."""
        whole = self._whole_key()
        target = self._behind() if whole is None else whole
        for sequence in range(self._next, target):
            if self._held.pop(sequence, None) is None:
                self._lost += 1
                self.counts.lost += 1
        self._next = self._scan = target
        self._top = max(self._top, target - 1)
        self._begun = True
        self._edge = False
        self._gap_since = None
        self.need_key = True
        self._advance()

    def _behind(self) -> int:
        """Where the first picture that may be whole begins behind the gap, or behind everything when none does."""
        sequence = self._scan
        while sequence <= self._top and sequence not in self._held:
            sequence += 1
        while (held := self._held.get(sequence)) is not None:
            if begins_picture(self.codec, held.data, held.packet.payload):
                return sequence
            sequence += 1
            following = self._held.get(sequence)
            if held.packet.marker or (following is not None and following.stamp != held.stamp):
                return sequence
        return sequence

    def _whole_key(self) -> int | None:
        """Where a complete keyframe begins behind the gap."""
        for sequence in sorted(s for s, held in self._held.items() if held.key and s > self._scan):
            stamp = self._held[sequence].stamp
            begin = end = sequence
            while (before := self._held.get(begin - 1)) is not None and before.stamp == stamp:
                begin -= 1
            while (held := self._held.get(end)) is not None and held.stamp == stamp and not held.packet.marker:
                end += 1
            if held is None or held.stamp != stamp:
                continue
            if before is not None or self._opens([self._held[n] for n in range(begin, end + 1)]):
                return begin
        return None

    def _unwrap(self, stamp: int, arrived: int) -> int:
        if self._stamp is not None:
            self._unwrapped += (stamp - self._stamp + HALF & 0xFFFFFFFF) - HALF
        elif self._last_arrived:  # another source: the timeline goes on by arrival
            self._unwrapped += max(1, (arrived - self._last_arrived) * self.clock_rate // NS)
        self._stamp = stamp
        self._last_arrived = arrived
        return self._unwrapped
