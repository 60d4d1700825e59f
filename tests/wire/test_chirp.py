"""The sound mark: heard where it is, to a fraction of a millisecond, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.wire.chirp import RATE, SCORE, SECONDS, ChirpFinder, chirp


def sound(onsets: list[float], seconds: float, noise: float = 0.01, level: float = 0.35, seed: int = 1) -> np.ndarray:
    """Hiss with chirps at `onsets`, in samples at RATE."""
    out = np.random.default_rng(seed).normal(0, noise, round(seconds * RATE)).astype(np.float32)
    for onset in onsets:
        first = int(np.ceil(onset))
        mark = chirp(RATE, (first - onset) / RATE)
        out[first : first + len(mark)] += np.float32(level) * mark
    return out


def heard(samples: np.ndarray, piece: int = 160) -> list:
    finder = ChirpFinder()
    return [mark for at in range(0, len(samples), piece) for mark in finder.push(samples[at : at + piece])]


@settings(deadline=None, max_examples=40)
@given(st.floats(100, 7000), st.integers(1, 3000))
def test_a_chirp_is_heard_where_it_is_however_the_sound_is_cut(start, piece):
    onsets = [start + second * RATE for second in range(3)]
    marks = heard(sound(onsets, 4.5), piece)
    assert len(marks) == 3
    assert max(abs(mark.onset - onset) for mark, onset in zip(marks, onsets, strict=True)) < 0.0001 * RATE
    assert all(mark.score > 0.9 for mark in marks)


@pytest.mark.parametrize("onset", range(1200, 1300, 7))
def test_a_chirp_on_the_seam_of_two_looks_is_heard_once_and_in_place(onset):
    (mark,) = heard(sound([float(onset)], 1.0))
    assert abs(mark.onset - onset) < 1


def test_a_chirp_in_loud_noise_is_heard_within_a_millisecond():
    onsets = [4000.3 + second * RATE for second in range(10)]
    marks = heard(sound(onsets, 11, noise=0.1))
    assert len(marks) == 10
    assert max(abs(mark.onset - onset) for mark, onset in zip(marks, onsets, strict=True)) < 0.001 * RATE


def test_an_echo_within_half_a_second_is_not_a_second_chirp():
    assert len(heard(sound([4000.0, 6500.0, 12_000.0], 2.5))) == 2


@pytest.mark.parametrize("kind", ["white", "brown", "silence", "tone", "clicks"])
def test_other_sounds_are_no_chirp(kind):
    rng = np.random.default_rng(3)
    n = 30 * RATE
    samples = {
        "white": rng.normal(0, 0.2, n),
        "brown": (lambda walk: (walk - walk.mean()) / walk.std() / 4)(np.cumsum(rng.normal(0, 1, n))),
        "silence": np.zeros(n),
        "tone": 0.5 * np.sin(2 * np.pi * 1000 * np.arange(n) / RATE),
        "clicks": (np.arange(n) % 997 == 0).astype(float),
    }[kind]
    assert heard(samples.astype(np.float32), 1000) == []


def test_scores_say_how_alike_it_is():
    (clear,) = heard(sound([4000.0], 1.5, noise=0.001))
    (faint,) = heard(sound([4000.0], 1.5, noise=0.1))
    assert SCORE <= faint.score < clear.score <= 1


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_the_mark_lasts_fifty_milliseconds_and_begins_and_ends_in_silence(rate):
    mark = chirp(rate)
    assert len(mark) == round(SECONDS * rate)
    assert abs(mark[0]) < 0.01 and abs(mark[-1]) < 0.05 and np.abs(mark).max() > 0.9
