"""What goes into a lane comes out, is lost or finds the queue full; in order, at its rate, as often as the seed says."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.link.lane import BUCKET, HEADERS, QUEUE_LEAST, QUEUE_PACKETS, QUEUE_TIME, Lane
from probe.link.traffic import Traffic, Way
from probe.plan import Network

MS = 1_000_000
S = 1_000 * MS


def lane(seed: int = 1, way: Way = Way.DOWN, **network: Any) -> Lane:
    return Lane(Network(**network), way, seed, Traffic())


def run(one: Lane, packets: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    return [one.datagram(size, at) for at, size in packets]


def steadily(count: int, every: int = MS, size: int = 1_000) -> list[tuple[int, int]]:
    return [(i * every, size) for i in range(count)]


networks = st.builds(
    Network,
    delay=st.integers(0, S),
    jitter=st.integers(0, 100 * MS),
    loss=st.floats(0, 0.5),
    burst=st.floats(1, 10),
    rate_down=st.none() | st.integers(50_000, 50_000_000),
    duplicate=st.floats(0, 0.3),
)
arrivals = st.lists(st.tuples(st.integers(0, 20 * MS), st.integers(0, 1_472)), max_size=200).map(
    lambda gaps: [(sum(g for g, _ in gaps[: i + 1]), size) for i, (_, size) in enumerate(gaps)]
)


@settings(max_examples=60, deadline=None)
@given(networks, arrivals, st.integers(0, 1 << 64), st.floats(0, 0.5))
def test_every_packet_comes_out_is_lost_or_finds_the_queue_full(network, packets, seed, reorder):
    one = Lane(Network(**{f: getattr(network, f) for f in network.__slots__} | {"reorder": reorder}), Way.DOWN, seed, Traffic())
    out = run(one, packets)
    gone = sum(not times for times in out)
    assert gone == one.traffic.lost + one.traffic.overflowed
    assert sum(len(times) == 2 for times in out) == one.traffic.duplicated
    for (at, _), times in zip(packets, out, strict=True):
        assert all(time >= at for time in times)


@settings(max_examples=60, deadline=None)
@given(networks, arrivals)
def test_without_reordering_the_order_is_kept_however_delays_wander(network, packets):
    times = [t for out in run(Lane(network, Way.DOWN, 1, Traffic()), packets) for t in out]
    assert times == sorted(times)


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(50_000, 50_000_000))
def test_the_rate_is_kept_over_every_window_but_for_the_bucket(packets, rate):
    out = run(lane(rate_down=rate), packets)
    gone = [(times[0], size + HEADERS["udp"]) for times, (_, size) in zip(out, packets, strict=True) if times]
    for i in range(len(gone)):
        through = 0
        for at, size in gone[i:]:
            through += size
            assert (through - BUCKET) * 8 * S <= rate * (at - gone[i][0] + 1)


@settings(max_examples=40, deadline=None)
@given(arrivals, st.integers(50_000, 5_000_000))
def test_nothing_waits_longer_than_the_queue_is(packets, rate):
    longest = max(QUEUE_TIME, QUEUE_LEAST * 8 * S / rate)
    for (at, _), times in zip(packets, run(lane(rate_down=rate), packets), strict=True):
        assert all(t - at <= longest + 1 for t in times)


@settings(max_examples=30, deadline=None)
@given(networks, arrivals, st.integers(0, 1 << 32))
def test_the_same_seed_and_packets_have_the_same_fate(network, packets, seed):
    first, second = (run(Lane(network, Way.UP, seed, Traffic()), packets) for _ in range(2))
    assert first == second


def test_a_packet_s_loss_depends_on_its_number_and_the_seed_alone():
    harsh: dict[str, Any] = {"loss": 0.2, "burst": 3.0, "duplicate": 0.1, "reorder": 0.1}
    slow = [len(out) for out in run(lane(**harsh), steadily(2_000, every=30 * MS, size=10))]
    fast = [len(out) for out in run(lane(delay=S, **harsh), steadily(2_000, every=1, size=1_400))]
    assert slow == fast


def test_ways_and_seeds_share_no_chance():
    fates = {
        tuple(bool(out) for out in run(lane(seed, way, loss=0.5), steadily(64)))
        for seed in range(4)
        for way in (Way.UP, Way.DOWN)
    }
    assert len(fates) == 8


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1.0), (0.05, 1.0), (0.05, 3.0), (0.2, 8.0), (0.5, 1.0)])
def test_the_mean_loss_and_the_mean_run_of_losses_are_those_asked_for(loss, burst):
    fates = [bool(out) for out in run(lane(loss=loss, burst=burst), steadily(200_000))]
    runs, length = [], 0
    for arrived in fates:
        if arrived and length:
            runs.append(length)
        length = 0 if arrived else length + 1
    expected = max(burst, 1 / (1 - loss))
    # Losses come in runs, so the mean of n packets is as sure as that of n / run of them; four standard errors.
    error = 4 * (loss * (1 - loss) * 2 * expected / len(fates)) ** 0.5
    assert fates.count(False) / len(fates) == pytest.approx(loss, abs=error)
    assert statistics.mean(runs) == pytest.approx(expected, rel=4 / len(runs) ** 0.5)


def test_jitter_has_the_mean_and_deviation_asked_for_between_frames():
    one = lane(delay=100 * MS, jitter=10 * MS)
    delays = [one.datagram(1_000, at)[0] - at for at, _ in steadily(5_000, every=33 * MS)]
    assert statistics.mean(delays) == pytest.approx(100 * MS, rel=0.03)
    assert statistics.stdev(delays) == pytest.approx(10 * MS, rel=0.1)


def test_the_packets_of_one_frame_stay_together_under_jitter():
    one = lane(delay=100 * MS, jitter=10 * MS)
    frames = [[one.datagram(1_000, n * 33 * MS + i * 10_000)[0] for i in range(5)] for n in range(500)]
    assert statistics.median(times[-1] - times[0] for times in frames) < 3 * MS


def test_more_than_the_rate_fills_the_queue_and_its_tail_is_dropped():
    one = lane(rate_down=1_000_000)
    out = run(one, steadily(4_000, every=MS, size=1_222))  # ten times as much
    arrived = [times[0] for times in out if times]
    assert len(arrived) * 1_250 * 8 == pytest.approx(1_000_000 * arrived[-1] / S, rel=0.02)
    assert one.traffic.overflowed == 4_000 - len(arrived)
    assert out[-1] == () or out[-1][0] - 3_999 * MS <= QUEUE_LEAST * 8 * S / 1_000_000


def test_a_queue_is_bounded_in_packets_too():
    one = lane(rate_down=1_000_000)
    through = sum(map(bool, run(one, ((S, 0) for _ in range(5_000)))))
    assert through == QUEUE_PACKETS + BUCKET // HEADERS["udp"]


def test_an_idle_link_takes_two_packets_at_once_and_the_next_waits():
    one = lane(rate_down=8_000_000)
    assert [one.datagram(1_472, S)[0] - S for _ in range(3)] == [0, 0, 1_500 * 1_000]


def test_ways_have_rates_of_their_own():
    network: dict[str, Any] = {"rate_up": 500_000, "rate_down": None}
    assert run(lane(way=Way.DOWN, **network), [(0, 1_400)] * 9) == [(0,)] * 9
    assert run(lane(way=Way.UP, **network), [(0, 1_400)] * 9)[-1][0] > 0


def test_a_share_is_held_back_and_overtaken():
    one = lane(delay=50 * MS, reorder=0.1)
    out = [times[0] - at for times, (at, _) in zip(run(one, steadily(5_000)), steadily(5_000), strict=True)]
    late = [d for d in out if d > 50 * MS]
    assert len(late) / 5_000 == pytest.approx(0.1, abs=0.02)
    assert set(out) == {50 * MS, 70 * MS}
