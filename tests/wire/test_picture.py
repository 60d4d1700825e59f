"""The picture below the band: a loop whose every picture is its own, and a check that knows when it does not go with its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probe.wire.framecode import LANDSCAPE, PORTRAIT, Layout, Plane, Rect
from probe.wire.picture import CELLS, GROUP, LOOP, MIDDLE, SWING, Grids, PictureCheck, grid_of, recognise, signs
from tests.tools import cost
from tests.wire.codes import a_code

WIDE, TALL = (640, 360), (360, 640)


def plane(number: int, size: tuple[int, int] = WIDE, swing: int = SWING) -> Plane:
    """The cells of picture `number`, each one all over."""
    width, height = size
    grid = grid_of(LANDSCAPE if width > height else PORTRAIT)
    top = round(grid.top * height)
    cells = (MIDDLE + swing * signs()[number % LOOP].astype(int)).reshape(grid.rows, grid.columns)
    rows = np.arange(height - top) * grid.rows // (height - top)
    columns = np.arange(width) * grid.columns // width
    out = np.full((height, width), MIDDLE, np.uint8)
    out[top:] = cells[rows][:, columns]
    return out


def look(check: PictureCheck, picture: Plane, sequence: int, publish: int = 0) -> bool | None:
    height, width = picture.shape
    layout: Layout = LANDSCAPE if width > height else PORTRAIT
    return check.look(picture, layout, Rect(0.0, 0.0, width, height), replace(a_code(sequence), publish=publish))


def running(until: int = 20, offset: int = 0) -> PictureCheck:
    """A check that has seen so many pictures, all right."""
    check = PictureCheck()
    assert all(look(check, plane(n + offset), n) for n in range(until))
    return check


def test_the_loop_is_what_it_is_said_to_be():
    table = signs()
    assert table.shape == (LOOP, CELLS) and LOOP % GROUP == 0
    assert not table.sum(axis=1).any(), "the mean of all cells is the middle"
    turned = table != np.roll(table, 1, axis=0)
    assert turned.sum(axis=1).min() >= 4
    for cell in turned.T:
        at = np.flatnonzero(cell)
        assert np.diff(np.append(at, at[0] + LOOP)).min() >= 6
    apart = (table[:, None] != table[None]).sum(axis=2)
    for step in range(5, LOOP - 4):
        assert min(apart[n, (n + step) % LOOP] for n in range(LOOP)) >= 14


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_every_picture_is_recognised_for_itself_whatever_was_done_to_its_levels(size):
    grids = Grids(LANDSCAPE if size == WIDE else PORTRAIT, Rect(0.0, 0.0, *size), size[1], size[0])
    for number in range(LOOP):
        for levels in (lambda p: p, lambda p: p * 0.5 + 90, lambda p: (p - 16.0) * 255 / 219):
            changed = levels(plane(number, size)).clip(0, 255).astype(np.uint8)
            assert recognise(*grids.read(changed)) == (number, 0)


def test_a_running_picture_is_right_wherever_in_the_loop_it_began_and_over_the_seam():
    for offset in (0, 41, 89):
        running(200, offset)


def test_pictures_left_out_or_shown_twice_do_not_matter():
    check = PictureCheck()
    for number in (0, 2, 4, 4, 5, 9, 9, 9, 40, 41, 3, 200):
        assert look(check, plane(number), number)


def test_an_encoder_that_is_late_by_three_pictures_is_not_wrong():
    check = running()
    late = plane(17).copy()
    for number in range(17, 20):
        assert look(check, late, number)


def test_a_first_picture_that_was_late_is_put_right_and_never_called_broken():
    check = PictureCheck()
    assert look(check, plane(3), 5)
    assert False not in [look(check, plane(n), n) for n in range(6, 40)]
    assert look(check, plane(40), 40)


@pytest.mark.parametrize("to", [0, 30, 60])
def test_a_jump_to_another_keyframe_is_learnt_in_three_pictures(to):
    check = running(47)
    assert [look(check, plane(to + n), 47 + n) for n in range(12)] == [None] * 2 + [True] * 10


def test_a_picture_that_stands_still_under_living_codes_is_broken_in_a_few_pictures_and_stays_so():
    check = running()
    seen = [look(check, plane(19), 20 + n) for n in range(300)]
    first = seen.index(False)
    assert first <= 7 and not any(seen[first:]) and None not in seen[first:]


def test_a_picture_that_stands_still_from_the_beginning_is_broken_too():
    check = PictureCheck()
    assert False in [look(check, plane(55), n) for n in range(8)]


def test_a_picture_that_moves_too_slowly_is_broken():
    check = running()
    seen = [look(check, plane(20 + n // 2), 20 + n) for n in range(200)]
    assert False in seen[:16] and True not in seen[16:]


def test_picture_and_code_that_stand_still_together_are_right():
    check = running()
    assert all(look(check, plane(19), 19) for _ in range(100))


@pytest.mark.parametrize("level", [0, 16, 128])
def test_a_picture_of_one_colour_is_broken_in_four_pictures_and_at_once_where_nothing_else_was_ever_seen(level):
    for check, seen in ((running(), [None, None, None, False, False]), (PictureCheck(), [False] * 5)):
        assert [look(check, np.full((360, 640), level, np.uint8), 20 + n) for n in range(5)] == seen


def test_four_cells_that_are_wrong_break_the_picture_until_they_are_right_again():
    check = running()
    grid = grid_of(LANDSCAPE)
    seen = []
    for number in range(20, 40):
        picture = plane(number)
        for cell in np.flatnonzero(signs()[19] != signs()[20])[:4]:  # they missed a turn, and turn on from there
            row, column = divmod(int(cell), grid.columns)
            place = np.s_[72 + row * 288 // grid.rows : 72 + (row + 1) * 288 // grid.rows, column * 80 : column * 80 + 80]
            picture[place] = 2 * MIDDLE - picture[place]
        seen.append(look(check, picture, number))
    assert False in seen[:10]
    assert [look(check, plane(n), n) for n in range(40, 45)][3:] == [True, True]


def test_a_logo_over_two_cells_is_no_damage():
    check = PictureCheck()
    for number in range(100):
        picture = plane(number)
        picture[72:130, 480:] = 235
        assert look(check, picture, number) is not False


def test_a_picture_that_was_never_the_programmes_is_not_judged():
    dice = np.random.default_rng(1)
    blocks = dice.integers(0, 255, (60, 12, 16), np.uint8)
    check = PictureCheck()
    for number, coarse in enumerate(blocks):
        assert look(check, coarse.repeat(30, axis=0).repeat(40, axis=1), number) is None


def test_another_publish_session_is_learnt_anew():
    check = running()
    assert look(check, plane(70), 0, publish=1)
    assert look(check, plane(71), 1, publish=1)


def test_other_sizes_of_the_same_stream_are_judged_by_what_was_learnt():
    check = running()
    for number in range(20, 60):
        size = (640, 360) if number // 7 % 2 else (320, 180)
        assert look(check, plane(number, size), number)


def test_a_look_costs_some_tens_of_microseconds():
    check, pictures = running(), [plane(n) for n in range(30)]

    def all_of_them() -> None:
        for _ in range(4):
            for number, picture in enumerate(pictures):
                look(check, picture, number)

    assert min(cost(all_of_them) for _ in range(5)) < 1, "20 ms for 120"
