"""A loop of H.264 pictures that was encoded without the band, and each picture given its band when it is sent.

The band is a slice of its own in front of the encoder's. In the encoder's slice the first macroblock moves down, and
deblocking stops at the slice's edge, as it stopped at the picture's. The band's slice is of the same type and repeats what a
header says of the whole picture. An IDR's identifier must differ from that of the IDR before it wherever two may
follow each other (clause 7.4.3); so the caller alternates it. frame_num begins anew at each IDR: a loop whose groups begin
with IDRs may be left at any picture for the beginning of any group.

Whether a decoder's picture is that of the encoder cannot be known here: motion vectors may reach above the encoder's
picture, where the band now is. Who builds a loop has to decode it (probe/media/loop.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.model.frames import FrameCode
from probe.wire.fmp4 import split_annexb
from probe.wire.h264 import (
    ALL,
    DEBLOCK,
    DEBLOCK_WITHIN,
    IDR,
    NO_DEBLOCK,
    PPS,
    SLICE,
    SPS,
    I,
    PictureSet,
    SequenceSet,
    read_pps,
    read_slice,
    read_sps,
)
from probe.wire.h264_band import QP, BandWriter
from probe.wire.h264_bits import Bits, number_of, payload_of

_START = b"\x00\x00\x00\x01"


@dataclass(frozen=True, slots=True)
class _Picture:
    """`before`: parameter sets and the start of the band's slice; `header`: the band's; `after`: the rest. By idr_pic_id."""

    keyframe: bool
    before: bytes
    header: tuple[Bits, Bits]
    after: tuple[bytes, bytes]


class SplicedLoop:
    """`units`: access units (Annex B) of the part below the band, each of one slice, the first an IDR with its parameter
    sets; `width` and `height` those of the whole picture. ValueError for what our encoder would not have made."""

    def __init__(self, units: Sequence[bytes], width: int, height: int) -> None:
        self._band = BandWriter(width, height)
        self._rows = (height + 15) // 16
        self._sequence: SequenceSet | None = None
        self._set: PictureSet | None = None
        self._pictures = [self._picture(unit) for unit in units]
        if not self._pictures or not self._pictures[0].keyframe:
            raise ValueError("a loop begins with a keyframe")
        self.groups = [number for number, picture in enumerate(self._pictures) if picture.keyframe]

    def __len__(self) -> int:
        return len(self._pictures)

    def unit(self, number: int, code: FrameCode, idr_id: int) -> tuple[bytes, bool]:
        """The access unit of picture `number` with its code, and whether it is an IDR. `idr_id` 0 or 1."""
        picture = self._pictures[number]
        band = payload_of(self._band.write(code, not picture.keyframe, picture.header[idr_id]))
        return picture.before + band + picture.after[idr_id], picture.keyframe

    def _picture(self, unit: bytes) -> _Picture:
        sets, slices = b"", []
        for nal in split_annexb(unit):
            kind = nal[0] & 31
            if kind == SPS:
                self._sequence, nal = read_sps(nal, self._rows)
                if self._sequence.columns != self._band.columns or self._sequence.rows + self._band.rows != self._rows:
                    raise ValueError("a picture of another size")
                sets += _START + nal
            elif kind == PPS:
                self._set = read_pps(nal)
                sets += _START + nal
            elif kind in (SLICE, IDR):
                slices.append(nal)
        if len(slices) != 1 or self._sequence is None or self._set is None:
            raise ValueError("not one slice, or no parameter sets")
        (nal,) = slices
        header, data = read_slice(nal, self._sequence, self._set)
        if header.idr and not sets:
            raise ValueError("an IDR without parameter sets")
        ids = (0, 1)
        if header.idr is not (header.kind == I):
            raise ValueError("intra pictures are IDRs and nothing else")
        kind, delta = header.kind + ALL, QP - self._set.qp
        within = DEBLOCK_WITHIN if header.deblocking == DEBLOCK else header.deblocking
        first = self._band.rows * self._band.columns
        start = _START + nal[:1]
        lower = [
            header.written(self._set, first=first, kind=kind, qp_delta=header.qp_delta, deblocking=within, idr_id=i) for i in ids
        ]
        upper = [header.written(self._set, first=0, kind=kind, qp_delta=delta, deblocking=NO_DEBLOCK, idr_id=i) for i in ids]
        after = [start + payload_of(number_of(bits + data)) for bits in (lower if header.idr else lower[:1])]
        return _Picture(header.idr, sets + start, (number_of(upper[0]), number_of(upper[1])), (after[0], after[-1]))
