"""What a network does to a stream: nothing is lost, nothing overtakes, and time passes as a sender's TCP would take it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.link.flow import FIRST_WINDOW, RECEIVER_WINDOW, SEGMENT, Flow, handshake
from probe.link.lane import Lane
from probe.link.traffic import Traffic, Way
from probe.plan import Network

MS = 1_000_000
S = 1_000 * MS


def lanes(seed: int = 1, **network: Any) -> tuple[Lane, Lane]:
    made = Network(**network)
    return Lane(made, Way.UP, seed, Traffic()), Lane(made, Way.DOWN, seed, Traffic())


def flow(seed: int = 1, **network: Any) -> Flow:
    up, down = lanes(seed, **network)
    return Flow(down, up)


def transfer(one: Flow, size: int, now: int = 0) -> list[tuple[int, int]]:
    """Send `size` bytes as fast as the window lets; (when, bytes) as they are delivered."""
    out: list[tuple[int, int]] = []
    while size:
        if room := min(size, one.room(now)):
            out += one.send(room, now)
            size -= room
        else:
            opens = one.room_at()
            assert opens is not None and opens > now
            now = opens
    return out


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        dict,
        delay=st.integers(0, 300 * MS),
        jitter=st.integers(0, 50 * MS),
        loss=st.floats(0, 0.5),
        burst=st.floats(1, 10),
        rate_down=st.none() | st.integers(100_000, 50_000_000),
        reorder=st.floats(0, 0.3),
        duplicate=st.floats(0, 0.3),
    ),
    st.integers(1, 300_000),
    st.integers(0, 1 << 32),
)
def test_every_byte_is_delivered_once_and_in_order_and_never_early(network, size, seed):
    one = flow(seed, **network)
    out = transfer(one, size)
    assert sum(n for _, n in out) == size
    assert [at for at, _ in out] == sorted(at for at, _ in out)
    assert out[0][0] >= max(0, network["delay"] - 10 * network["jitter"])
    assert one.end(out[-1][0]) >= out[-1][0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1 << 22), st.floats(0, 0.3))
def test_what_is_in_flight_stays_within_the_receiver_s_window(size, loss):
    one = flow(delay=100 * MS, loss=loss)
    sent, now = 0, 0
    while sent < size and now < 60 * S:
        room = one.room(now)
        assert 0 <= room <= RECEIVER_WINDOW
        if room:
            one.send(min(room, size - sent), now)
            sent += min(room, size - sent)
        now = max(now + 1, one.room_at() or 0)


def test_a_sender_begins_with_ten_segments_and_doubles_every_round():
    out = transfer(flow(delay=50 * MS), 15 * FIRST_WINDOW)
    per_round = {at: sum(n for t, n in out if t == at) // SEGMENT for at, _ in out}
    assert per_round == {50 * MS: 10, 150 * MS: 20, 250 * MS: 40, 350 * MS: 80}


def test_a_window_that_idled_begins_again():
    one = flow(delay=50 * MS)
    transfer(one, 15 * FIRST_WINDOW)
    assert one.room(2 * S) > FIRST_WINDOW
    one.send(SEGMENT, 2 * S)
    assert one.room(2 * S) == FIRST_WINDOW - SEGMENT


def lossless(delay: int) -> int:
    return transfer(flow(delay=delay), 5 * SEGMENT)[-1][0]


def test_a_loss_within_costs_more_than_a_round_trip_and_the_last_one_two():
    """Seeds whose first draw of five is the only loss, and whose fifth is."""
    waits: dict[int, list[int]] = {0: [], 4: []}
    for seed in range(3_000):
        one = lanes(seed, delay=50 * MS, loss=0.1)[1]
        fates = [one.segment(SEGMENT, 0) is None for _ in range(5)]
        if sum(fates) == 1 and fates.index(True) in waits:
            last = transfer(flow(seed, delay=50 * MS, loss=0.1), 5 * SEGMENT)[-1][0]
            waits[fates.index(True)].append(last - lossless(50 * MS))
    assert min(waits[0]) == 125 * MS
    assert min(waits[4]) == 200 * MS


def test_losses_halve_what_gets_through_a_long_path():
    clean = transfer(flow(delay=50 * MS), 2 << 20)[-1][0]
    lossy = transfer(flow(delay=50 * MS, loss=0.02), 2 << 20)[-1][0]
    assert lossy > 3 * clean


@pytest.mark.parametrize("rate", [500_000, 2_000_000, 20_000_000])
def test_a_long_transfer_takes_the_rate_but_for_its_beginning_and_its_losses(rate):
    size = rate // 8 * 20
    took = transfer(flow(delay=20 * MS, rate_down=rate), size)[-1][0] / S
    assert 0.8 < size * 8 / took / rate < SEGMENT / (SEGMENT + 40) + 0.01


def test_a_connection_takes_a_round_trip_and_a_lost_syn_a_second_more():
    assert handshake(*lanes(delay=30 * MS), 5 * S) == 5 * S + 60 * MS
    times = {handshake(*lanes(seed, delay=30 * MS, loss=0.3), 0) for seed in range(200)}
    assert {60 * MS, S + 60 * MS, 3 * S + 60 * MS} <= times
    assert max(times) < 64 * S
