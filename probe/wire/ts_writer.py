"""MPEG transport stream, written: H.264 and AAC into datagrams of seven packets (ISO 13818-1), as SRT carries it.

Every picture begins with an access unit delimiter, carries the PCR in its first packet, and names its PES length where that
fits, so that a reader knows its end when it has it. PAT and PMT come before each keyframe and every 100 ms. A unit is never
held back to fill a datagram: latency counts for more than a few bytes. Not attempted: constant bitrate, B frames.
"""

from __future__ import annotations

from probe.wire.ts_tables import crc32

PER_DATAGRAM = 7  # 7 × 188 = 1316 bytes, what every SRT and UDP tool sends
_PMT, _VIDEO, _AUDIO = 0x1000, 0x100, 0x101
_CLOCK = 90_000
_TABLES_EVERY = _CLOCK // 10
_AHEAD = _CLOCK // 5  # a time stamp lies so far ahead of the clock: what a decoder may hold
_BEGIN = _CLOCK  # no stamp before it
_WRAP = 1 << 33
_AUD = b"\0\0\0\1\x09\xf0"


class TsWriter:
    """One programme. `audio_config` is the AudioSpecificConfig of its AAC; empty: there is no sound."""

    def __init__(self, audio_config: bytes = b"") -> None:
        self._adts = _adts_head(audio_config) if audio_config else None
        self._counters = {0: 0, _PMT: 0, _VIDEO: 0, _AUDIO: 0}
        self._tables_at: int | None = None
        self._pat = _section(0, 1, (1).to_bytes(2, "big") + (0xE000 | _PMT).to_bytes(2, "big"))
        kinds = [(0x1B, _VIDEO)] + ([(0x0F, _AUDIO)] if audio_config else [])
        entries = b"".join(bytes([kind]) + (0xE000 | pid).to_bytes(2, "big") + b"\xf0\0" for kind, pid in kinds)
        self._pmt = _section(2, 1, (0xE000 | _VIDEO).to_bytes(2, "big") + b"\xf0\0" + entries)

    def video(self, data: bytes, pts: int, keyframe: bool) -> list[bytes]:
        """One access unit (Annex B) at `pts` of 90 kHz → datagrams."""
        packets: list[bytes] = []
        if keyframe or self._tables_at is None or not 0 <= pts - self._tables_at < _TABLES_EVERY:
            self._tables_at = pts
            packets += [self._table(0, self._pat), self._table(_PMT, self._pmt)]
        if data[3:5] != b"\1\x09" and data[2:4] != b"\1\x09":
            data = _AUD + data
        packets += self._pes(_VIDEO, 0xE0, data, pts, clock=pts + _BEGIN - _AHEAD, keyframe=keyframe)
        return _datagrams(packets)

    def aac(self, frame: bytes, pts: int) -> list[bytes]:
        """One raw AAC frame at `pts` of 90 kHz → datagrams. Nothing for a programme without sound."""
        if self._adts is None:
            return []
        size = len(frame) + 7
        head = bytearray(self._adts)
        head[3] |= size >> 11
        head[4] = size >> 3 & 0xFF
        head[5] = (size & 7) << 5 | 0x1F
        return _datagrams(self._pes(_AUDIO, 0xC0, bytes(head) + frame, pts))

    def _pes(
        self, pid: int, stream_id: int, data: bytes, pts: int, clock: int | None = None, keyframe: bool = False
    ) -> list[bytes]:
        stamp = (pts + _BEGIN) % _WRAP
        length = len(data) + 8 if len(data) + 8 <= 0xFFFF else 0
        optional = bytes([0x84, 0x80, 5]) + _stamp(stamp)
        rest = b"\0\0\1" + bytes([stream_id]) + length.to_bytes(2, "big") + optional + data
        packets, first, at = [], True, 0
        while at < len(rest):
            field = b""
            if first and clock is not None:
                field = bytes([0x10 | 0x40 * keyframe]) + _pcr(clock % _WRAP)
            room = 184 - (len(field) + 1 if field else 0)
            piece = rest[at : at + room]
            at += len(piece)
            packets.append(self._packet(pid, piece, first, field))
            first = False
        return packets

    def _table(self, pid: int, section: bytes) -> bytes:
        return self._packet(pid, (b"\0" + section).ljust(184, b"\xff"), True, b"")

    def _packet(self, pid: int, payload: bytes, begins: bool, field: bytes) -> bytes:
        counter = self._counters[pid]
        self._counters[pid] = (counter + 1) & 15
        short = 184 - len(payload) - (len(field) + 1 if field else 0)
        if short or field:
            if not field and short == 1:
                adaptation = b"\0"
            else:
                field = field or b"\0"
                field = field.ljust(183 - len(payload), b"\xff")
                adaptation = bytes([len(field)]) + field
        else:
            adaptation = b""
        head = bytes([0x47, 0x40 * begins | pid >> 8, pid & 0xFF, (0x30 if adaptation else 0x10) | counter])
        return head + adaptation + payload


def _datagrams(packets: list[bytes]) -> list[bytes]:
    return [b"".join(packets[at : at + PER_DATAGRAM]) for at in range(0, len(packets), PER_DATAGRAM)]


def _section(table: int, number: int, body: bytes) -> bytes:
    section = bytes([table]) + (0xB000 | len(body) + 9).to_bytes(2, "big") + number.to_bytes(2, "big") + b"\xc1\0\0" + body
    return section + crc32(section).to_bytes(4, "big")


def _stamp(stamp: int) -> bytes:
    """A PTS (section 2.4.3.7): 33 bits among markers."""
    return bytes(
        [0x21 | stamp >> 29 & 0x0E, stamp >> 22 & 0xFF, 1 | stamp >> 14 & 0xFE, stamp >> 7 & 0xFF, 1 | stamp << 1 & 0xFE]
    )


def _pcr(base: int) -> bytes:
    return (base << 15 | 0x7E00).to_bytes(6, "big")


def _adts_head(config: bytes) -> bytes:
    """The fixed part of an ADTS header, lengths empty. ValueError for a configuration ADTS cannot say."""
    bits = int.from_bytes(config[:2].ljust(2, b"\0"), "big")
    profile, index, channels = (bits >> 11) - 1, bits >> 7 & 15, bits >> 3 & 15
    if not 0 <= profile <= 3 or index > 12 or not 1 <= channels <= 7:
        raise ValueError(f"ADTS cannot say the AAC configuration {config[:8].hex()}")
    return bytes([0xFF, 0xF1, profile << 6 | index << 2 | channels >> 2, (channels & 3) << 6, 0, 0x1F, 0xFC])
