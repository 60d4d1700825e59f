"""H.264 headers, read and written anew: the parameter sets and slice headers of what x264 makes in constrained baseline.

(ITU-T H.264, clauses 7.3.2.1, 7.3.2.2, 7.3.3.) A picture that was encoded without its uppermost rows gets them back as a
slice of its own: the sequence parameter set then counts more rows, and the encoder's slice begins further down. Whatever our
own encoder does not do is refused: fields, CABAC, more than one slice group, reordered references, weighted prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.wire.h264_bits import BitReader, number_of, payload_of, se, ue

SLICE, IDR, SPS, PPS = 1, 5, 7, 8
P, I = 0, 2  # noqa: E741  slice types as the standard names them
ALL = 5  # added: every slice of the picture is of this type
DEBLOCK, NO_DEBLOCK, DEBLOCK_WITHIN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """`columns` and `rows` in macroblocks. `order_bits` is 0 where the output order is the decoding order (type 2)."""

    columns: int
    rows: int
    number_bits: int
    order_bits: int


def read_sps(nal: bytes, rows: int | None = None) -> tuple[SequenceSet, bytes]:
    """What a sequence parameter set says, and the same set with its height changed to `rows`. ValueError: not ours."""
    bits = BitReader(nal[1:])
    if bits.u(8) != 66:
        raise ValueError("not baseline")
    bits.u(16)  # constraints, level
    bits.ue()
    number_bits = bits.ue() + 4
    order = bits.ue()
    if order not in (0, 2):
        raise ValueError(f"picture order count type {order}")
    order_bits = bits.ue() + 4 if order == 0 else 0
    bits.ue()
    bits.u(1)
    columns = bits.ue() + 1
    start = bits.at
    before = bits.since(0)
    found = bits.ue() + 1
    if bits.u(1) != 1:
        raise ValueError("fields")
    bits.at = start
    bits.ue()
    changed = before + ue((rows or found) - 1) + bits.rest()
    return SequenceSet(columns, found, number_bits, order_bits), nal[:1] + payload_of(number_of(changed))


@dataclass(frozen=True, slots=True)
class PictureSet:
    """`qp` is what a slice's quantiser is told against; `bottom`: slices tell the bottom field's order as well."""

    number: int
    qp: int
    bottom: bool


def read_pps(nal: bytes) -> PictureSet:
    """What a picture parameter set says. ValueError: not ours."""
    bits = BitReader(nal[1:])
    number = bits.ue()
    bits.ue()
    cabac, bottom = bits.u(1), bits.u(1)
    groups = bits.ue()
    bits.ue()
    bits.ue()
    weighted = bits.u(3)
    qp = 26 + bits.se()
    bits.se()
    bits.se()
    deblocking = bits.u(1)
    bits.u(1)
    redundant = bits.u(1)
    if cabac or groups or weighted or redundant or not deblocking:
        raise ValueError("coding tools that our encoder was told to leave alone")
    return PictureSet(number, qp, bool(bottom))


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The part of a slice header that tells its picture, shared by all of the picture's slices; then the slice's own."""

    first_byte: int
    number: str  # frame_num
    order: str
    marking: str
    references: str  # of a P slice: how many references it uses
    kind: int  # P or I
    qp_delta: int
    deblocking: int
    offsets: tuple[int, int]

    @property
    def idr(self) -> bool:
        return self.first_byte & 31 == IDR

    def written(self, picture: PictureSet, *, first: int, kind: int, qp_delta: int, deblocking: int, idr_id: int) -> str:
        """The header of a slice of this picture that begins at macroblock `first`. `idr_id` counts only in an IDR."""
        out = ue(first) + ue(kind) + ue(picture.number) + self.number
        if self.idr:
            out += ue(idr_id)
        out += self.order
        if kind % ALL == P:
            out += self.references + "0"
        out += self.marking + se(qp_delta) + ue(deblocking)
        return out if deblocking == NO_DEBLOCK else out + se(self.offsets[0]) + se(self.offsets[1])


def read_slice(nal: bytes, sequence: SequenceSet, picture: PictureSet) -> tuple[SliceHeader, str]:
    """A slice's header and the bits of its macroblocks. ValueError: not ours."""
    bits = BitReader(nal[1:])
    idr = nal[0] & 31 == IDR
    if bits.ue() != 0:
        raise ValueError("more than one slice")
    kind = bits.ue() % ALL
    if kind not in (P, I) or bits.ue() != picture.number:
        raise ValueError("a slice of another kind")
    number = _taken(bits, sequence.number_bits)
    if idr:
        bits.ue()
    order = _taken(bits, sequence.order_bits) if sequence.order_bits else ""
    if sequence.order_bits and picture.bottom:
        start = bits.at
        bits.se()
        order += bits.since(start)
    references = ""
    if kind == P:
        start = bits.at
        if bits.u(1):
            bits.ue()
        references = bits.since(start)
        if bits.u(1):
            raise ValueError("reordered references")
    marking = ""
    if nal[0] >> 5 & 3:
        marking = _taken(bits, 2 if idr else 1)
        if not idr and marking != "0":
            raise ValueError("adaptive reference marking")
    qp_delta = bits.se()
    deblocking = bits.ue()
    offsets = (bits.se(), bits.se()) if deblocking != NO_DEBLOCK else (0, 0)
    header = SliceHeader(nal[0], number, order, marking, references, kind, qp_delta, deblocking, offsets)
    return header, bits.rest()


def _taken(bits: BitReader, count: int) -> str:
    start = bits.at
    bits.u(count)
    return bits.since(start)
