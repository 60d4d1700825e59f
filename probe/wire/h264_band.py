"""The frame code's band as an H.264 slice, written without an encoder (ITU-T H.264, clauses 7.3.5, 8.3.3, 9.2).

Every macroblock is Intra 16x16 with DC coefficients only: a flat macroblock, or one of two halves. At QP 51 one level of a DC
coefficient is 14 in luma, so that 14 levels lie between black (30) and white (226). A macroblock is predicted from the side
its halves run to (landscape: cells are 8 px high or a multiple, predicted from the left; portrait: 8 px wide, from above), so
its bits depend on two cells of its own and two of its neighbour's: sixteen strings, joined here to longer ones ahead of
time. No macroblock has AC coefficients, so coefficients are always coded for nC = 0. Chroma is predicted and stays grey.

In an IDR the slice is of type I. Elsewhere it is of type P and its macroblocks are intra all the same, five bits dearer each:
FFmpeg's parser takes a picture for a keyframe when its first slice is of type I, and whatever remuxes with it would then cut
segments at every picture.

Only sizes whose cells lie on the grid of 8 px can be written; `fits` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from probe.model.frames import FrameCode
from probe.wire.framecode import BITS, LANDSCAPE, PORTRAIT, band_height, layout_for, pack
from probe.wire.h264_bits import Bits, number_of, ue

QP = 51
_STEP = 14  # levels between black and white
_VERTICAL, _HORIZONTAL, _DC = 0, 1, 2  # Intra16x16PredMode
_BESIDE, _BELOW = 1, 2  # place in the zigzag scan of the coefficient that tells left from right, top from bottom
_CHUNK = 4  # columns of cells whose macroblocks are one string


def fits(width: int, height: int) -> bool:
    """Whether the band of a picture of this size can be written."""
    if layout_for(width, height) is LANDSCAPE:
        cell = band_height(width, height) / LANDSCAPE.rows
        return width % (LANDSCAPE.columns * 16) == 0 and band_height(width, height) % 16 == 0 and cell % 8 == 0
    return width == PORTRAIT.columns * 8 and band_height(width, height) == PORTRAIT.rows * 16


def _level(level: int, suffix: int, first: bool) -> str:
    """level_prefix and level_suffix (clause 9.2.2) of a level beyond 1."""
    code = 2 * abs(level) - 2 + (level < 0) - (2 if first else 0)
    if suffix == 0:
        if code < 14:
            return "0" * code + "1"
        return "0" * 14 + "1" + format(code - 14, "04b")  # levels end at 14: code is below 30
    return "0" * (code >> suffix) + "1" + format(code & ((1 << suffix) - 1), f"0{suffix}b")


def _coefficients(flat: int, split: int, place: int) -> str:
    """residual_block_cavlc of a DC coefficient and the one at `place` of the scan. Levels are 0, 7 or 14 either way."""
    if not flat and not split:
        return "1"
    if not split:
        return "000101" + _level(flat, 0, True) + "1"
    if not flat:
        return "000101" + _level(split, 0, True) + {_BESIDE: "011", _BELOW: "010"}[place]
    both = "00000111" + _level(split, 0, True) + _level(flat, 2, False)
    return both + {_BESIDE: "111", _BELOW: "110" + "0"}[place]


def _macroblock(inter: bool, mode: int, first: float, second: float, place: int) -> str:
    """A macroblock whose halves differ from their prediction by so many steps (-1, -0.5, 0, 0.5 or 1). `inter`: in a P slice,
    where none is skipped before it and five other types come first."""
    a, b = round(first * _STEP), round(second * _STEP)
    return (ue(0) + ue(6 + mode) if inter else ue(1 + mode)) + ue(0) + ue(0) + _coefficients((a + b) // 2, (a - b) // 2, place)


class BandWriter:
    """Writes bands for pictures of one size: some tens of microseconds each. ValueError for a size that does not fit."""

    def __init__(self, width: int, height: int) -> None:
        if not fits(width, height):
            raise ValueError(f"no band for {width}x{height}")
        self.layout = layout_for(width, height)
        self.columns, self.rows = (width + 15) // 16, band_height(width, height) // 16
        inner = self.layout.columns - 2
        spare = self.layout.rows * inner - BITS
        self._spare = spare, sum(1 << (spare - 1 - i) for i in range(0, spare, 2))
        self._shifts = [inner * (self.layout.rows - 1 - row) for row in range(self.layout.rows)]
        self._mask = (1 << inner) - 1
        # white and black ends, in turn
        self._ends = [1 << (inner + 1) if row % 2 == 0 else 1 for row in range(self.layout.rows)]
        if self.layout is LANDSCAPE:
            self._tables = [_landscape(inter, self.columns // LANDSCAPE.columns) for inter in (False, True)]
            cell = band_height(width, height) // LANDSCAPE.rows
            self._halves = [(16 * row // cell, (16 * row + 8) // cell) for row in range(self.rows)]

    def write(self, code: FrameCode, inter: bool, before: Bits = (0, 0)) -> Bits:
        """The bits of all the band's macroblocks, in a slice of type P if `inter`, else I, after those of `before`."""
        spare, known = self._spare
        value = int.from_bytes(pack(code), "big") << spare | known
        cells = [value >> shift & self._mask for shift in self._shifts]
        lines = [line << 1 | ends for line, ends in zip(cells, self._ends, strict=True)]
        value, count = before
        for row, size in self._wide(lines, inter) if self.layout is LANDSCAPE else self._tall(lines, inter):
            value, count = value << size | row, count + size
        return value, count

    def _wide(self, lines: list[int], inter: bool) -> Iterator[Bits]:
        first, chunks = self._tables[inter]
        last = self.layout.columns - _CHUNK
        above = 0  # nothing, black, white: what lies above the row's first macroblock
        for upper, lower in self._halves:
            a, b = lines[upper], lines[lower]
            value, count = first[above, a >> last << _CHUNK | b >> last]
            for at in range(last - _CHUNK, -1, -_CHUNK):
                more, size = chunks[(a >> at & 31) << 5 | b >> at & 31]
                value, count = value << size | more, count + size
            yield value, count
            above = 1 + (b >> (self.layout.columns - 1))

    def _tall(self, lines: list[int], inter: bool) -> Iterator[Bits]:
        start, edge, under = _portrait(inter)
        above: list[int] = []
        for line in lines:
            whole = line << 1 | line & 1  # the last macroblock's outer half is cut off
            pairs = [whole >> at & 3 for at in range(2 * self.columns - 2, -1, -2)]
            if above:
                row = [under[up << 2 | pair] for up, pair in zip(above, pairs, strict=True)]
            else:
                row = [start[pairs[0]], *(edge[(left & 1) << 2 | pair] for left, pair in pairwise(pairs))]
            yield number_of("".join(row))
            above = pairs


@lru_cache(maxsize=8)
def _landscape(inter: bool, repeat: int) -> tuple[dict[tuple[int, int], Bits], list[Bits]]:
    """Bits of the macroblocks under four columns of cells, each column `repeat` macroblocks wide. The first dictionary
    is for the beginning of a row, by what lies above (0 nothing, 1 black, 2 white) and four upper and lower cells; the list
    for the rest, by five upper and five lower cells, the first of each being the neighbour on the left."""
    again = _macroblock(inter, _HORIZONTAL, 0, 0, _BELOW) * (repeat - 1)
    beside = [
        [_macroblock(inter, _HORIZONTAL, (p >> 1) - (left >> 1), (p & 1) - (left & 1), _BELOW) + again for p in range(4)]
        for left in range(4)
    ]

    def following(a: int, b: int, count: int) -> str:
        pairs = [(a >> at & 1) << 1 | b >> at & 1 for at in range(count, -1, -1)]
        return "".join(beside[left][pair] for left, pair in pairwise(pairs))

    rest = [number_of(following(key >> 5, key & 31, _CHUNK)) for key in range(1 << 10)]
    first = {}
    for above, luma in enumerate((0.5, 0, 1)):
        for key in range(1 << 8):
            a, b = key >> 4, key & 15
            begin = _macroblock(inter, _DC, (a >> 3) - luma, (b >> 3) - luma, _BELOW) + again
            first[above, key] = number_of(begin + following(a, b, _CHUNK - 1))
    return first, rest


@lru_cache(maxsize=2)
def _portrait(inter: bool) -> tuple[list[str], list[str], list[str]]:
    """Strings for one macroblock of two cells side by side: the very first by its pair; in the first row by the cell on its
    left and its pair; in the others by the pair above and its own."""
    start = [_macroblock(inter, _DC, (p >> 1) - 0.5, (p & 1) - 0.5, _BESIDE) for p in range(4)]
    edge = [_macroblock(inter, _HORIZONTAL, (p >> 1) - left, (p & 1) - left, _BESIDE) for left in range(2) for p in range(4)]
    under = [
        _macroblock(inter, _VERTICAL, (p >> 1) - (up >> 1), (p & 1) - (up & 1), _BESIDE) for up in range(4) for p in range(4)
    ]
    return start, edge, under
