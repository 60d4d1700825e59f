"""Which rendition is played: by the device, by the path, and not to and fro."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.model.observation import Rung
from probe.wire.abr import Fetched, Switcher, Throughput, playable

LADDER = [
    Rung(name="360p", codecs="avc1.42e01e,mp4a.40.2", width=640, height=360, bandwidth=400_000),
    Rung(name="720p", codecs="avc1.64001f", width=1280, height=720, bandwidth=1_600_000),
    Rung(name="1080p", codecs="avc1.640028", width=1920, height=1080, bandwidth=4_000_000),
]


def names(rungs: list[Rung]) -> list[str]:
    return [rung.name for rung in rungs]


def test_a_device_has_what_it_decodes_and_what_fits_its_screen():
    hevc = Rung(name="4k", codecs="hvc1.1.6.L150", width=3840, height=2160, bandwidth=9_000_000)
    silent = Rung(name="?", bandwidth=1)
    sound = Rung(name="sound", codecs="mp4a.40.2", bandwidth=64_000)
    offered = [*LADDER, hevc, silent, sound]
    assert names(playable(offered, ["h264"], None)) == ["?", "360p", "720p", "1080p"]
    assert names(playable(offered, ["h264"], 720)) == ["?", "360p", "720p"]
    assert names(playable(offered, ["hevc"], None)) == ["?", "4k"]
    assert names(playable(LADDER, ["h264"], 100)) == ["360p"]
    assert playable([hevc, sound], ["h264"], None) == []
    assert playable(LADDER, [], None) == []


def test_portrait_is_measured_by_its_shorter_side():
    tall = Rung(name="tall", codecs="avc1", width=720, height=1280, bandwidth=1)
    assert playable([tall], ["h264"], 720) == [tall]


def test_throughput_is_the_lower_of_two_means_and_one_breath_is_fifty_milliseconds():
    path = Throughput()
    assert path.estimate is None
    path.add(12_500, 0.0)
    assert path.estimate == pytest.approx(2_000_000)
    for _ in range(20):
        path.add(62_500, 1.0)
    assert path.estimate == pytest.approx(500_000, rel=0.1)


def play(switcher: Switcher, bits: float, *, seconds: float = 60.0, duration: float = 2.0) -> list[str]:
    """Segments over a path of so many bit/s, by a player that fetches whenever less than 6 s wait; what was switched to."""
    now, buffered, seen = 0.0, 0.0, []
    while now < seconds:
        size = round((switcher.current.bandwidth or 0) * duration / 8)
        took = size * 8 / bits
        now += took
        buffered = max(0.0, buffered - took) + duration
        if (to := switcher.fetched(Fetched(size, took, duration), buffered, now)) is not None:
            seen.append(to.name)
        if buffered > 6.0:
            now, buffered = now + buffered - 6.0, 6.0
    return seen


def test_a_path_of_500_kbit_steps_down_to_what_it_carries_and_stays():
    switcher = Switcher(LADDER)
    assert switcher.current.name == "1080p"
    assert play(switcher, 500_000) == ["360p"]


def test_a_good_path_never_switches():
    assert play(Switcher(LADDER), 20_000_000) == []


def test_a_path_that_recovers_is_climbed_again_rung_by_rung_after_a_while():
    switcher = Switcher(LADDER)
    play(switcher, 500_000)
    assert play(switcher, 20_000_000, seconds=120.0) == ["720p", "1080p"]


def test_a_climb_that_is_regretted_makes_the_next_one_wait_longer():
    switcher = Switcher(LADDER[:2])
    play(switcher, 500_000)
    up = 0.0
    waits = []
    for _ in range(3):
        now = up
        while switcher.fetched(Fetched(1_000_000, 0.5, 2.0), 6.0, now) is None:
            now += 1.0
        waits.append(now - up)
        up = now + 1.0
        while switcher.fetched(Fetched(100_000, 4.0, 2.0), 0.1, up) is None:
            up += 0.1
    assert waits[0] < waits[1] < waits[2]


def test_a_fetch_that_will_come_too_late_is_given_up():
    switcher = Switcher(LADDER)
    assert not switcher.hopeless(10_000, 1_000_000, 0.5, 2.0, 6.0)  # too soon to tell
    assert switcher.hopeless(50_000, 1_000_000, 1.0, 2.0, 6.0)  # 19 s to come, 6 in the buffer
    assert not switcher.hopeless(500_000, 1_000_000, 1.0, 2.0, 6.0)
    assert switcher.hopeless(0, None, 1.5, 2.0, 6.0)
    assert switcher.abandoned(50_000, 1.0, 1.0) == LADDER[0]
    assert not switcher.hopeless(0, None, 1.5, 2.0, 6.0)  # nothing lower
    assert switcher.abandoned(0, 1.0, 1.0) is None


def test_what_cannot_be_had_is_not_played():
    switcher = Switcher(LADDER)
    before = switcher.current
    assert switcher.abandoned(1000, 1.0, 1.0) is not None
    switcher.stay(before)
    assert switcher.current == before


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 25), st.floats(0, 3600), st.floats(0, 3600), st.floats(0, 1e6), st.booleans()), max_size=40
    )
)
def test_whatever_comes_it_stays_on_the_ladder(pieces: list[tuple[int, float, float, float, bool]]):
    switcher = Switcher(LADDER)
    for now, (size, took, duration, buffered, give_up) in enumerate(pieces):
        switcher.hopeless(size, None, took, duration, buffered)
        if give_up:
            switcher.abandoned(size, took, float(now))
        else:
            switcher.fetched(Fetched(size, took, duration), buffered, float(now))
        assert switcher.current in LADDER
