"""The frame code: what is drawn is read, damage is repaired or refused, and it is found wherever the picture went."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.model.frames import Reading
from probe.wire.finder import Finder
from probe.wire.framecode import (
    BITS,
    BLACK,
    LANDSCAPE,
    LAYOUTS,
    PORTRAIT,
    WHITE,
    Layout,
    band_height,
    cells_of,
    decide,
    draw,
    layout_for,
    pack,
    unpack,
)
from tests.wire.codes import CODES, a_code, coded, grey


@given(CODES)
def test_what_is_packed_is_unpacked(code):
    data = pack(code)
    assert len(data) * 8 == BITS == 200
    assert unpack(data) == code


@given(CODES, st.integers(0, BITS - 1))
def test_any_flipped_bit_is_refused(code, bit):
    data = bytearray(pack(code))
    data[bit // 8] ^= 0x80 >> bit % 8
    assert unpack(bytes(data)) is None


@given(CODES, st.integers(0, 15).filter(lambda version: version != 1))
def test_another_version_is_refused_although_its_check_is_right(code, version):
    payload = bytearray(pack(code)[:21])
    payload[0] = version << 4 | payload[0] & 15
    assert unpack(bytes(payload) + zlib.crc32(payload).to_bytes(4, "big")) is None


@pytest.mark.parametrize(
    "field", [{"run": 1 << 32}, {"trace": -1}, {"publish": 16}, {"sequence": 1 << 20}, {"stamp_ms": 1 << 44}], ids=str
)
def test_a_field_that_does_not_fit_is_refused(field):
    with pytest.raises(ValueError, match="does not fit"):
        pack(replace(a_code(), **field))


@pytest.mark.parametrize("layout", LAYOUTS, ids=["landscape", "portrait"])
def test_a_layout_holds_the_code_and_its_outer_columns_alternate_and_oppose(layout: Layout):
    cells = cells_of(layout)
    assert len(cells.data) == BITS
    every = np.concatenate((cells.data, cells.white, cells.black, cells.known))
    assert sorted(every.tolist()) == list(range(layout.rows * layout.columns))
    left = cells.blank.reshape(layout.rows, layout.columns)[:, 0]
    right = cells.blank.reshape(layout.rows, layout.columns)[:, -1]
    assert left.tolist() == [WHITE if row % 2 == 0 else BLACK for row in range(layout.rows)]
    assert (left != right).all()


def test_cells_lie_on_the_macroblock_grid_where_programmes_are_encoded():
    assert layout_for(640, 360) is LANDSCAPE and (640 / 40, band_height(640, 360) / 6) == (16, 8)
    assert layout_for(1280, 720) is LANDSCAPE and (1280 / 40, band_height(1280, 720) / 6) == (32, 16)
    assert layout_for(360, 640) is PORTRAIT and (360 / 45, band_height(360, 640) / 5) == (8, 16)


@settings(deadline=None)
@given(CODES, st.sampled_from([(640, 360), (1280, 720), (360, 640), (854, 480), (426, 240), (540, 960)]))
def test_what_is_drawn_is_read_at_any_stride(code, size):
    plane = coded(size, code, stride=32)
    assert Finder().find(plane) == (Reading.CODE, code)


def test_drawing_touches_the_band_alone():
    plane = coded((640, 360), a_code())
    assert (plane[48:] == 110).all()
    assert set(np.unique(plane[:48]).tolist()) == {BLACK, WHITE}


@pytest.mark.parametrize("size", [(60, 40), (640, 60), (40, 90)])
def test_a_picture_too_small_to_carry_a_code_is_refused(size):
    with pytest.raises(ValueError, match="too small"):
        draw(grey(size), a_code())


@settings(deadline=None)
@given(CODES, st.sets(st.integers(0, BITS - 1), min_size=1, max_size=8))
def test_up_to_eight_wrong_cells_that_are_the_least_certain_are_repaired(code, wrong):
    soft = np.where(np.unpackbits(np.frombuffer(pack(code), np.uint8)) > 0, 90.0, -90.0).astype(np.float32)
    for cell in wrong:
        soft[cell] *= -0.05
    assert decide(soft) == code
    assert decide(soft, repair=False) is None


@settings(deadline=None)
@given(CODES, st.sets(st.integers(0, BITS - 1), min_size=9, max_size=40))
def test_more_wrong_cells_never_become_another_code(code, wrong):
    soft = np.where(np.unpackbits(np.frombuffer(pack(code), np.uint8)) > 0, 90.0, -90.0).astype(np.float32)
    for cell in wrong:
        soft[cell] *= -1
    assert decide(soft) in (None, code)


def test_random_certainties_are_never_a_code():
    rng = np.random.default_rng(4)
    assert all(decide(rng.normal(0, 60, BITS).astype(np.float32)) is None for _ in range(3000))
