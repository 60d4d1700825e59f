"""H.264 read and written by ourselves: bits, headers, and bands that a decoder shows as they were meant."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.media.picture import Painter, luma
from probe.model.frames import Reading
from probe.wire.finder import Finder
from probe.wire.fmp4 import split_annexb
from probe.wire.framecode import BITS, band_height
from probe.wire.h264 import read_pps, read_slice, read_sps
from probe.wire.h264_band import BandWriter, fits
from probe.wire.h264_bits import BitReader, number_of, payload_of, se, ue
from probe.wire.h264_splice import SplicedLoop
from tests.wire.codes import CODES, a_code

CODE = a_code()
SIZES = [(640, 360), (1280, 720), (1920, 1080), (360, 640)]


@cache
def below(width: int, height: int, count: int, **options: str) -> tuple[bytes, ...]:
    """Access units of the part of the programme's pictures that lies below the band."""
    painter = Painter(width, height)
    coder = av.CodecContext.create("libx264", "w")
    coder.width, coder.height, coder.pix_fmt = width, height - painter.band, "yuv420p"
    coder.time_base, coder.thread_count = Fraction(1, 30), 1
    params = {"cabac": "0", "ref": "1", "weightp": "0", "scenecut": "0", "slices": "1", "sliced-threads": "0", **options}
    coder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": ":".join(
            f"{k}={v}" for k, v in {"keyint": "4", "min-keyint": "4", "repeat-headers": "1", **params}.items()
        ),
    }
    return tuple(bytes(packet) for n in range(count) for packet in coder.encode(painter.below(n)))


def shown(units: list[bytes]) -> list[np.ndarray]:
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    return [luma(frame).copy() for unit in units for frame in decoder.decode(av.Packet(unit))]


@given(st.integers(0, 1 << 20), st.integers(-(1 << 20), 1 << 20), st.integers(1, 24))
def test_what_is_written_is_read(unsigned, signed, count):
    bits = BitReader(payload_of(number_of(ue(unsigned) + se(signed) + format(1, f"0{count}b") + "10")))
    assert (bits.ue(), bits.se(), bits.u(count), bits.rest()) == (unsigned, signed, 1, "10")


@given(st.binary(min_size=1, max_size=60))
def test_no_payload_holds_a_start_code_and_every_one_is_read_back(data):
    bits = format(int.from_bytes(b"\1" + data), "b")[1:]
    masked = payload_of(number_of(bits))
    assert not any(masked[i : i + 2] == b"\0\0" and masked[i + 2] < 3 for i in range(len(masked) - 2))
    assert BitReader(masked).rest() == bits


@given(st.binary(max_size=80))
@settings(max_examples=400, deadline=None)
def test_garbage_is_refused_and_nothing_else_comes_of_it(data):
    sequence, _ = read_sps(split_annexb(below(640, 360, 5)[0])[0])
    picture = read_pps(split_annexb(below(640, 360, 5)[0])[1])
    for parse in (
        lambda: read_sps(b"\x67" + data),
        lambda: read_pps(b"\x68" + data),
        lambda: read_slice(b"\x65" + data, sequence, picture),
        lambda: read_slice(b"\x41" + data, sequence, picture),
        lambda: SplicedLoop([below(640, 360, 5)[0] + data], 640, 360),
        lambda: SplicedLoop([data], 640, 360),
    ):
        try:
            parse()
        except ValueError:
            pass


def test_a_set_with_another_height_says_nothing_else_anew():
    (sps, *_) = split_annexb(below(640, 360, 1)[0])
    before, same = read_sps(sps)
    assert same == sps and (before.columns, before.rows) == (40, 20)
    after, changed = read_sps(read_sps(sps, 23)[1])
    assert (after.columns, after.rows, after.number_bits, after.order_bits) == (40, 23, before.number_bits, before.order_bits)
    assert read_sps(changed, 20)[1] == sps


@pytest.mark.parametrize(
    "options",
    [{"cabac": "1"}, {"slices": "2"}, {"keyint": "8", "min-keyint": "1", "open-gop": "1", "bframes": "0", "slice-max-mbs": "99"}],
    ids=["cabac", "two_slices", "many_slices"],
)
def test_what_our_encoder_was_told_not_to_do_is_refused(options):
    with pytest.raises(ValueError):
        SplicedLoop(below(640, 360, 5, **options), 640, 360)


@pytest.mark.parametrize("units", [(), (b"",), below(640, 360, 5)[1:]], ids=["none", "empty", "no_keyframe"])
def test_a_loop_that_cannot_begin_is_refused(units):
    with pytest.raises(ValueError):
        SplicedLoop(units, 640, 360)


def test_a_loop_of_another_size_is_refused():
    with pytest.raises(ValueError, match="another size"):
        SplicedLoop(below(640, 360, 5), 1280, 720)


@pytest.mark.parametrize(
    ("size", "can"),
    [(size, True) for size in SIZES] + [((426, 240), False), ((640, 480), False), ((720, 1280), False), ((320, 180), False)],
)
def test_only_sizes_whose_cells_lie_on_the_grid_are_written(size, can):
    assert fits(*size) is can
    if not can:
        with pytest.raises(ValueError, match="no band"):
            BandWriter(*size)


@pytest.mark.parametrize("size", SIZES)
@given(CODES)
@settings(max_examples=12, deadline=None)
def test_a_decoder_shows_the_band_as_it_was_meant_in_both_kinds_of_slice(size, code):
    width, height = size
    units = below(*size, 2)
    spliced = SplicedLoop(units, *size)
    pictures = shown([spliced.unit(number, code, 0)[0] for number in range(2)])
    lower = shown(list(units))
    for picture, expected in zip(pictures, lower, strict=True):
        band = band_height(width, height)
        assert np.array_equal(picture[band:], expected)
        assert set(np.unique(picture[:band]).tolist()) == {30, 226}
        assert Finder().find(picture) == (Reading.CODE, code)


def test_a_picture_that_is_no_keyframe_has_no_slice_that_looks_like_one():
    """FFmpeg's parser takes a picture whose first slice is of type I for a keyframe."""
    spliced = SplicedLoop(below(640, 360, 4), 640, 360)
    for number in range(4):
        data, keyframe = spliced.unit(number, CODE, 1)
        kinds = []
        for nal in split_annexb(data):
            if nal[0] & 31 in (1, 5):
                bits = BitReader(nal[1:])
                bits.ue()
                kinds.append(bits.ue() % 5)
        assert keyframe is (number == 0) and kinds == ([2, 2] if keyframe else [0, 0])


def test_two_keyframes_that_follow_each_other_differ_in_their_number():
    spliced = SplicedLoop(below(640, 360, 1), 640, 360)
    pictures = shown([spliced.unit(0, CODE, n % 2)[0] for n in range(6)])
    assert len(pictures) == 6
    numbers = []
    for idr in (0, 1):
        for nal in split_annexb(spliced.unit(0, CODE, idr)[0])[-2:]:
            bits = BitReader(nal[1:])
            bits.ue()
            bits.ue()
            bits.ue()
            bits.u(read_sps(split_annexb(below(640, 360, 1)[0])[0])[0].number_bits)
            numbers.append(bits.ue())
    assert numbers == [0, 0, 1, 1]


def test_the_cells_left_over_are_drawn_as_a_reader_knows_them():
    for width, height in SIZES:
        painted = Painter(width, height).paint(0, CODE, black=False)
        spliced = SplicedLoop(below(width, height, 1), width, height)
        (picture,) = shown([spliced.unit(0, CODE, 0)[0]])
        band = band_height(width, height)
        assert np.array_equal(luma(painted)[:band] > 128, picture[:band] > 128)
    assert BITS == 200
