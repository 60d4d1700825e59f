"""Runs since a release against those before it."""

from __future__ import annotations

from probe.judge.compare_figures import RunFigures
from probe.judge.compare_release import Changed, Releases, since_release
from probe.model.comparison import Change
from tests.judge.builds import FIRST_FRAME, run

MINUTE = 60 * 10**9


def made(number: int, release: str, seconds: float = 0.4) -> RunFigures:
    return run(number, {FIRST_FRAME: seconds + number % 5 / 100}, release=release, began=number * MINUTE)


def test_the_first_release_seen_is_known_and_is_no_change_of_one() -> None:
    watch = Releases()
    assert watch.add(made(0, "")) is None and watch.changed is None
    assert watch.add(made(1, "1.4")) == Changed("", "1.4", MINUTE)
    assert since_release(*watch.sides) is None and not watch.due


def test_runs_since_a_release_are_held_against_those_before_it() -> None:
    watch = Releases()
    assert [watch.add(made(n, "1.4")) for n in range(8)][1:] == [None] * 7
    assert watch.add(made(8, "1.5", 0.9)) == Changed("1.4", "1.5", 8 * MINUTE)
    for n in range(9, 16):
        assert watch.add(made(n, "1.5", 0.9)) is None
    found = since_release(*watch.sides)
    assert found is not None and found.change is Change.WORSE
    assert (found.release_before, found.release_after, found.runs_before, found.runs_after) == ("1.4", "1.5", 8, 8)


def test_a_run_that_could_not_learn_the_release_is_one_of_the_last_that_was_seen() -> None:
    watch = Releases(Changed("1.3", "1.4", 0))
    for n in range(4):
        watch.add(made(n, "1.4"))
    watch.add(made(4, "1.5"))
    assert watch.add(made(5, "")) is None
    found = since_release(*watch.sides)
    assert found is not None and (found.runs_after, found.release_after) == (2, "1.5")


def test_a_run_begun_before_the_change_and_ended_after_it_is_no_change_back() -> None:
    watch = Releases(Changed("1.3", "1.4", 0))
    watch.add(made(1, "1.4"))
    watch.add(made(3, "1.5"))
    assert watch.add(made(2, "1.4")) is None
    found = since_release(*watch.sides)
    assert found is not None and (found.runs_before, found.runs_after) == (2, 1)


def test_going_back_to_the_release_before_is_a_change_too() -> None:
    watch = Releases(Changed("1.3", "1.4", 0))
    assert watch.add(made(2, "1.3")) == Changed("1.4", "1.3", 2 * MINUTE)


def test_with_no_run_of_before_there_is_nothing_to_hold_it_against() -> None:
    watch = Releases(Changed("1.3", "1.4", MINUTE))
    watch.add(made(2, "1.4"))
    assert since_release(*watch.sides) is None and not watch.due


def test_who_looks_looks_seldom_for_each_look_may_be_mistaken() -> None:
    watch = Releases(Changed("1.3", "1.4", 0))
    watch.add(made(1, "1.4"))
    looked = []
    for n in range(2, 250):
        watch.add(made(n, "1.5"))
        looked += [n - 1] if watch.due else []
    assert looked == [8, 16, 32, 64, 128]
