"""The finder: it knows the picture again after scaling, boxing and cropping, and does not see what is not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import probe.wire.finder as finder_module
from probe.model.frames import Reading
from probe.wire.finder import Finder
from probe.wire.framecode import Plane, Rect
from tests.wire.codes import a_code, coded, grey


def boxed(plane: Plane, width: int, height: int, bar: int = 16) -> Plane:
    """The picture, centred in a larger black one."""
    out = grey((width, height), bar)
    top, left = (height - plane.shape[0]) // 2, (width - plane.shape[1]) // 2
    out[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    return out


def scaled(plane: Plane, width: int, height: int) -> Plane:
    """Box-filtered down, sample-repeated up: enough for geometry; codecs have tests of their own."""
    big = plane.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)
    ys = np.linspace(0, big.shape[0], height + 1).astype(int)
    xs = np.linspace(0, big.shape[1], width + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(big, ys[:-1], axis=0), xs[:-1], axis=1)
    return (sums / np.diff(ys)[:, None] / np.diff(xs)).astype(np.uint8)


WIDE, TALL = (640, 360), (360, 640)


@pytest.mark.parametrize(
    ("size", "made"),
    [
        (WIDE, lambda p: p),
        (WIDE, lambda p: scaled(p, 320, 180)),
        (WIDE, lambda p: scaled(p, 160, 90)),
        (WIDE, lambda p: scaled(p, 854, 480)),
        (WIDE, lambda p: boxed(p, 640, 480)),
        (WIDE, lambda p: boxed(p, 640, 480, bar=0)),
        (WIDE, lambda p: boxed(p, 700, 500)),
        (WIDE, lambda p: boxed(p, 800, 360)),
        (WIDE, lambda p: boxed(scaled(p, 360, 202), 360, 640)),
        (TALL, lambda p: p),
        (TALL, lambda p: boxed(scaled(p, 202, 360), 640, 360)),
        (TALL, lambda p: scaled(p, 180, 320)),
        (WIDE, lambda p: p[:, 4:]),
        (WIDE, lambda p: p[:, :-4]),
        (WIDE, lambda p: p[4:-4, 4:-4]),
        (WIDE, lambda p: scaled(p[4:-4, 4:-4], 640, 360)),
        (WIDE, lambda p: p[3:]),
        (TALL, lambda p: p[4:-4, 2:-2]),
        (WIDE, lambda p: (p * 0.6 + 70).astype(np.uint8)),
        (WIDE, lambda p: (16 + p * (219 / 255)).astype(np.uint8)),
        (WIDE, lambda p: ((p.astype(float) - 16) * 255 / 219).clip(0, 255).astype(np.uint8)),
    ],
    ids=[
        "full", "320x180", "160x90", "854x480", "letterbox", "letterbox_black_0", "both_bars", "pillarbox", "wide_in_tall",
        "portrait", "tall_in_wide", "portrait_180x320", "cut_left", "cut_right", "cut_all_sides", "cut_and_scaled_back",
        "cut_top", "portrait_cut", "flat_contrast", "limited_twice", "stretched",
    ],
)  # fmt: skip
def test_the_code_is_found_and_then_kept(size, made):
    finder = Finder()
    first = finder.find(made(coded(size, a_code(1))))
    assert first == (Reading.CODE, a_code(1))
    place = finder.rect
    assert finder.find(made(coded(size, a_code(2)))) == (Reading.CODE, a_code(2))
    assert finder.rect is place


def test_a_black_picture_in_bars_is_found_by_its_width_alone():
    plane = coded(WIDE, a_code())
    plane[48:] = 16
    assert Finder().find(boxed(plane, 700, 500)) == (Reading.CODE, a_code())


def test_the_band_ends_where_the_picture_begins():
    finder = Finder()
    assert (finder.band, finder.rect) == (0, None)
    finder.find(boxed(coded(WIDE, a_code()), 640, 480))
    assert (finder.band, finder.rect) == (60 + 48, Rect(0.0, 60.0, 640.0, 420.0))


def test_a_change_of_size_is_followed_at_once():
    finder = Finder()
    for size in (WIDE, (1280, 720), TALL, WIDE):
        assert finder.find(coded(size, a_code())) == (Reading.CODE, a_code())


def test_a_change_of_place_at_the_same_size_is_followed_at_once():
    finder = Finder()
    finder.find(coded(WIDE, a_code(1)))
    moved = boxed(scaled(coded(WIDE, a_code(2)), 320, 180), 640, 360)
    assert finder.find(moved) == (Reading.CODE, a_code(2))


def test_a_damaged_code_is_corrupt_and_never_another():
    rng = np.random.default_rng(3)
    finder = Finder()
    finder.find(coded(WIDE, a_code(1)))
    for sequence in range(2, 40):
        plane = coded(WIDE, a_code(sequence))
        for _ in range(14):  # whole cells, surely wrong
            row, column = rng.integers(0, 5), rng.integers(1, 39)
            plane[row * 8 : row * 8 + 8, column * 16 : column * 16 + 16] ^= 220 ^ 32
        reading, code = finder.find(plane)
        assert (reading, code) == (Reading.CORRUPT, None) or code == a_code(sequence)  # cells hit twice are whole again


def test_a_damaged_code_is_corrupt_even_where_none_was_seen_before():
    plane = coded(WIDE, a_code())
    plane[16:32, 160:480] = 110
    assert Finder().find(plane) == (Reading.CORRUPT, None)
    assert Finder().find(boxed(plane, 640, 480)) == (Reading.CORRUPT, None)


def test_a_lost_code_is_found_again_after_damage():
    finder = Finder()
    plane = coded(WIDE, a_code())
    finder.find(plane)
    assert finder.find(grey(WIDE)) == (Reading.NONE, None)
    assert finder.find(plane) == (Reading.CODE, a_code())


@pytest.mark.parametrize("size", [WIDE, TALL, (320, 180), (48, 27), (100, 20)])
def test_noise_gradients_and_stripes_hold_no_code(size):
    width, height = size
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    pictures = [
        *(rng.integers(0, 256, (height, width), np.uint8) for _ in range(12)),
        (x * 255 // width).astype(np.uint8),
        ((x // 16 + y // 8) % 2 * 200 + 20).astype(np.uint8),
        (y // 8 % 2 * 200 + 20).astype(np.uint8),
        grey(size, 0),
        grey(size, 255),
    ]
    for picture in pictures:
        assert Finder().find(picture) == (Reading.NONE, None)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_blocks_of_noise_hold_no_code(seed, block):
    cells = np.random.default_rng(seed).integers(0, 256, (360 // block + 1, 640 // block + 1), np.uint8)
    reading, code = Finder().find(cells.repeat(block, 0).repeat(block, 1)[:360, :640])
    assert code is None and reading is Reading.NONE


def test_searches_that_fail_grow_rare_and_a_success_makes_them_eager_again(monkeypatch):
    searches = []
    search = finder_module._search

    def counted(plane: Plane):
        searches.append(1)
        return search(plane)

    monkeypatch.setattr(finder_module, "_search", counted)
    finder = Finder()
    for _ in range(300):
        finder.find(grey(WIDE))
    assert 5 <= len(searches) <= 16
    waited = 0
    while finder.find(coded(WIDE, a_code()))[1] is None:
        waited += 1
    assert waited <= 32
    searches.clear()
    finder.find(grey(WIDE))
    assert searches == [1]
