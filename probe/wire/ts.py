"""MPEG transport stream, read: 188-byte packets to encoded packets (ISO 13818-1, ITU-T H.222.0).

What SRT and HTTP-TS carry. A reader of our own because FFmpeg's analyses a live stream for seconds before it gives anything,
and because it must never fail on noise: lost sync is found again, what is damaged is counted and passed over.

**When is a picture complete?** At the end that its PES packet names. Most muxers name none for pictures (length 0). Then it
ends with the transport packet that is filled up by adaptation stuffing: muxers stuff nowhere but at a unit's end. One in 184
units fills its last packet by chance; it is known to be over only when the next one begins, one picture (33 ms at 30/s) late.
Should a stream go on after stuffing, one picture was cut off: `cut_short` counts it, and from then on only the next beginning
ends a unit, always one picture late.

The first programme's first picture and first sound are read. Not attempted: scrambling (Unsupported), several programmes,
private tables, seeking.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.wire.packet import EncodedPacket
from probe.wire.ts_picture import H264Units
from probe.wire.ts_sound import Splitter, opus_frames, splitter_for
from probe.wire.ts_tables import Programme, Sections, programmes, streams
from probe.wire.unwrap import Unwrap

PACKET = 188
SYNC = 0x47
CLOCK = 90_000
_HEADS = struct.Struct(">I184x")
_PLAIN = SYNC << 20 | 1  # the upper 28 bits of a packet that holds payload only and begins nothing, its PID left out
_BODY = PACKET - 4
_BITS = 33  # of a PTS
_NULL = 0x1FFF
_MAX_PES = {"video": 8 << 20, "audio": 256 << 10}  # an intra picture of 2160p is a quarter of it
_NO_SYNC = 64 << 10  # bytes without one packet: it is no transport stream
_HEADERLESS = frozenset({0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF})  # stream ids whose PES has no optional header


class TsReader:
    """One stream from wherever it is joined. `phase` is where a failure belongs: set it as the session goes on.

    `lost`: gaps in continuity counters. `resynced`: times that sync was lost. `broken`: units that made no sense. `pcr`: the
    programme clock in the stream's own seconds. `programme`: what the PMT says, None before there is one."""

    def __init__(self, phase: Phase = Phase.FIRST_PACKET) -> None:
        self.phase = phase
        self.lost = self.resynced = self.broken = self.cut_short = 0
        self.pcr: float | None = None
        self.programme: Programme | None = None
        self._rest = b""
        self._noise = 0
        self._clock = Unwrap(_BITS)
        self._pids: dict[int, _Pid] = {0: _Tables(self._pat)}
        self._plain: dict[int, _Elementary] = {}  # by the upper 28 bits of their headers
        self._pmt_pid: int | None = None

    def feed(self, data: bytes) -> list[EncodedPacket]:
        """Packets completed by `data`. Raises Failure(phase, malformed | too_large), Unsupported for a scrambled stream."""
        buffer = self._rest + data if self._rest else bytes(data)
        out: list[EncodedPacket] = []
        at, end = 0, len(buffer)
        while end - at >= PACKET:
            if buffer[at] == SYNC:
                self._noise = 0
                at = self._packets(buffer, at, out)
            else:
                found = _sync(buffer, at)
                self.resynced += not self._noise
                self._noise += found - at
                at = found
                if self._noise > _NO_SYNC:
                    raise Failure(self.phase, "malformed", f"no MPEG-TS in {self._noise} bytes")
        self._rest = buffer[at:]
        return out

    def _packets(self, buffer: bytes, at: int, out: list[EncodedPacket]) -> int:
        """Read on from `at` for as long as packets begin where they should; where that ends. Nine of ten are the middle of a
        unit: those are taken a run at a time."""
        whole = (len(buffer) - at) // PACKET * PACKET
        heads = [head for (head,) in _HEADS.iter_unpack(memoryview(buffer)[at : at + whole])]
        i = 0
        while i < len(heads):
            pid = self._plain.get(heads[i] >> 4)
            run = pid.run(heads, i, buffer, at) if pid is not None else 0
            if not run:
                if heads[i] >> 24 != SYNC:
                    break
                self._packet(buffer, at, out)
                run = 1
            i += run
            at += run * PACKET
        return at

    def _packet(self, buffer: bytes, at: int, out: list[EncodedPacket]) -> None:
        second, flags = buffer[at + 1], buffer[at + 3]
        number = (second & 0x1F) << 8 | buffer[at + 2]
        pid = self._pids.get(number)
        if pid is None or second & 0x80:  # the demodulator says it is damaged
            return
        start, stuffed, anew = at + 4, False, False
        if flags & 0x20:
            length = buffer[start]
            start += 1 + length
            if start > at + PACKET:
                self.broken += 1
                return
            stuffed, anew = self._adaptation(buffer, at + 5, length, pid)
        if not flags & 0x10:
            return
        if flags & 0xC0:
            raise Unsupported("a scrambled MPEG-TS")
        counter, payload = flags & 15, buffer[start : at + PACKET]
        if counter == pid.counter and not anew and not pid.repeated and pid.again(payload):
            pid.repeated = True
            return
        pid.repeated = False
        if pid.counts and pid.counter >= 0 and counter != (pid.counter + 1) & 15 and not anew:
            self.lost += 1
        pid.counter = counter
        pid.take(payload, bool(second & 0x40), stuffed, out)

    def _adaptation(self, buffer: bytes, at: int, length: int, pid: _Pid) -> tuple[bool, bool]:
        """(stuffed, discontinuity announced)."""
        if not length:
            return True, False
        flags, used = buffer[at], 1
        if flags & 0x10:
            used += 6
            if length >= 7 and pid.clock:
                self.pcr = self._clock((int.from_bytes(buffer[at + 1 : at + 6], "big")) >> 7) / CLOCK
        used += 6 * bool(flags & 8) + bool(flags & 4)
        if flags & 3:  # private data or an extension: stuffing cannot be told from them at a glance
            return False, bool(flags & 0x80)
        return length > used, bool(flags & 0x80)

    # -- tables

    def _pat(self, section: bytes) -> None:
        pid = programmes(section)
        if pid is not None and pid != self._pmt_pid:
            self._pmt_pid = pid
            self._pids = {0: self._pids[0], pid: _Tables(self._pmt)}
            self._plain = {}

    def _pmt(self, section: bytes) -> None:
        programme = streams(section)
        if programme is None or programme == self.programme or self._pmt_pid is None:
            return
        self.programme = programme
        old = self._pids
        self._pids = {0: old[0], self._pmt_pid: old[self._pmt_pid]}
        if programme.pcr_pid != _NULL and programme.pcr_pid not in self._pids:
            self._pids[programme.pcr_pid] = _Pid()
        for stream in (programme.video, programme.audio):
            if stream is not None and stream.pid not in (0, self._pmt_pid):
                known = old.get(stream.pid)
                same = isinstance(known, _Elementary) and known.codec == stream.codec
                self._pids[stream.pid] = (
                    known if same and known else _Elementary(self, stream.kind, stream.codec, stream.channels)
                )
        if programme.pcr_pid in self._pids:
            self._pids[programme.pcr_pid].clock = True
        self._plain = {_PLAIN | pid << 4: known for pid, known in self._pids.items() if isinstance(known, _Elementary)}

    def unwrap(self, stamp: int) -> float:
        """33 bits at 90 kHz → seconds that go on where they wrap."""
        return self._clock(stamp) / CLOCK


class _Pid:
    """What comes on one PID; this one takes nothing."""

    counts = True  # a gap in its counter is a loss

    def __init__(self) -> None:
        self.counter = -1
        self.repeated = False
        self.clock = False  # its PCR is the programme's

    def again(self, payload: bytes) -> bool:
        """Whether this payload, whose counter is that of the one before, is its duplicate."""
        return True

    def take(self, payload: bytes, begins: bool, stuffed: bool, out: list[EncodedPacket]) -> None:
        pass


class _Tables(_Pid):
    """SRS gives every table the counter 0, the new one that has the sound too: only the same bytes are a duplicate."""

    counts = False

    def __init__(self, seen: Callable[[bytes], None]) -> None:
        super().__init__()
        self._sections = Sections(seen)
        self._before = b""

    def again(self, payload: bytes) -> bool:
        return payload == self._before

    def take(self, payload: bytes, begins: bool, stuffed: bool, out: list[EncodedPacket]) -> None:
        self._before = bytes(payload)
        self._sections.feed(payload, begins)


class _Elementary(_Pid):
    """PES packets of one stream (ISO 13818-1 section 2.4.3.6)."""

    def __init__(self, reader: TsReader, kind: str, codec: str, channels: int) -> None:
        super().__init__()
        self.codec = codec
        self._reader, self._kind, self._channels = reader, kind, channels
        self._pes = bytearray()
        self._whole = 0  # bytes that end the unit, or are too many for one; 0 while none is open
        self._open = False
        self._early = True  # stuffing ends a unit
        self._ended_early = False
        self._h264 = H264Units() if codec == "h264" else None
        self._splitter: Splitter | None = splitter_for(codec)

    def run(self, heads: list[int], first: int, buffer: bytes, at: int) -> int:
        """Take the packet of the `first` of `heads`, which begins at `at`, and those after it that go on with the same unit
        and do not end it. How many; 0 where there is more to be seen to than that."""
        head, most = heads[first], (self._whole - len(self._pes) - 1) // _BODY
        if head & 15 != self.counter + 1 & 15 or most < 1:
            return 0
        count = 0
        for found in heads[first : first + most]:
            if found != head:
                break
            head = head + 1 if head & 15 < 15 else head - 15
            count += 1
        self.counter = head - 1 & 15
        self.repeated = False
        self._pes += b"".join([buffer[body : body + _BODY] for body in range(at + 4, at + count * PACKET, PACKET)])
        return count

    def take(self, payload: bytes, begins: bool, stuffed: bool, out: list[EncodedPacket]) -> None:
        if begins:
            if self._open:
                self._finish(out)
            self._open = True
        elif not self._open:
            if self._ended_early and payload:
                self._early = self._ended_early = False
                self._reader.cut_short += 1
            return
        self._ended_early = False
        self._pes += payload
        size = len(self._pes)
        if size > _MAX_PES[self._kind]:
            raise Failure(self._reader.phase, "too_large", f"a unit of more than {_MAX_PES[self._kind]} bytes")
        if size < 6:
            return
        length = self._pes[4] << 8 | self._pes[5]
        self._whole = length + 6 if length else _MAX_PES[self._kind]
        if length:
            if size >= self._whole:
                self._finish(out)
        elif stuffed and self._early:
            self._finish(out)
            self._ended_early = True

    def _finish(self, out: list[EncodedPacket]) -> None:
        pes, self._pes, self._open, self._whole = bytes(self._pes), bytearray(), False, 0
        if pes[:3] != b"\0\0\1" or len(pes) < 9 or pes[3] in _HEADERLESS or pes[6] & 0xC0 != 0x80:
            self._reader.broken += 1
            return
        end = 6 + (pes[4] << 8 | pes[5]) if pes[4] or pes[5] else len(pes)
        pts = None
        if pes[7] & 0x80 and pes[8] >= 5 and len(pes) >= 14:
            pts = self._reader.unwrap(
                (pes[9] >> 1 & 7) << 30 | pes[10] << 22 | (pes[11] >> 1) << 15 | pes[12] << 7 | pes[13] >> 1
            )
        payload = pes[9 + pes[8] : end]
        if not payload:
            self._reader.broken += 1
        elif self._kind == "video":
            self._picture(payload, pts, out)
        else:
            self._sound(payload, pts, out)

    def _picture(self, payload: bytes, pts: float | None, out: list[EncodedPacket]) -> None:
        data, keyframe = self._h264.unit(payload) if self._h264 else (payload, False)
        out.append(
            EncodedPacket(
                kind="video",
                codec=self.codec,
                extradata=b"",
                data=data,
                pts=pts,
                duration=None,
                keyframe=keyframe,
                size=len(payload),
            )
        )

    def _sound(self, payload: bytes, pts: float | None, out: list[EncodedPacket]) -> None:
        if self._splitter is not None:
            frames, broken = self._splitter.feed(payload, pts)
        elif self.codec == "opus":
            frames, broken = opus_frames(payload, pts, self._channels)
        else:  # nobody here can take it apart; whoever decodes says that it cannot
            out.append(
                EncodedPacket(
                    kind="audio", codec=self.codec, extradata=b"", data=payload, pts=pts, duration=None, keyframe=True,
                    size=len(payload),
                )
            )  # fmt: skip
            return
        out += frames
        self._reader.broken += broken


def _sync(buffer: bytes, at: int) -> int:
    """Where the next packet begins, so far as can be seen; the buffer's end where none does."""
    while True:
        at = buffer.find(SYNC, at + 1)
        if at < 0:
            return len(buffer)
        if at + PACKET >= len(buffer) or buffer[at + PACKET] == SYNC:
            return at
