"""What counts as a verified frame, as progress, as loss, as a freeze and as latency."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.model.clock import MS, NS
from probe.model.frames import SEQUENCE_MODULUS, Chirp, FrameCode, FrameRecord, Reading, Refill, Undecodable
from probe.wire.playback import STAMP_ERROR, Expected, Playback, Sight

OFFSET = 1_700_000_000 * NS
RUN, TRACE = 7, 99


def frame(
    at_ms: float, sequence: int | None = None, *, age_ms: float = 50, publish: int = 1, run: int = RUN, **more: object
) -> FrameRecord:
    at = int(at_ms * MS)
    code = None
    if sequence is not None:
        stamp = (at + OFFSET) // MS - int(age_ms)
        code = FrameCode(run=run, trace=TRACE, publish=publish, sequence=sequence % SEQUENCE_MODULUS, stamp_ms=stamp)
    record = FrameRecord(
        arrived=at - 2 * MS,
        decoded=at,
        shown=at,
        media_time=at / NS,
        size=1000,
        keyframe=False,
        width=640,
        height=360,
        reading=Reading.CODE if code else Reading.NONE,
        code=code,
        black=False,
        changed=True,
    )
    return dataclasses.replace(record, **more)  # type: ignore[arg-type]


def playback(**more: object) -> Playback:
    expected = Expected(run=RUN, trace=TRACE, publishes=[1], max_age=2 * NS)
    return Playback(dataclasses.replace(expected, **more), OFFSET, 0)  # type: ignore[arg-type]


def steady(machine: Playback, frames: int, *, step: int = 1, start: int = 0, from_ms: float = 0) -> float:
    for n in range(frames):
        machine.on_record(frame(from_ms + n * 33.3, start + n * step))
    return from_ms + frames * 33.3


def test_a_frame_with_this_publish_sessions_code_is_verified_and_progresses() -> None:
    machine = playback()
    machine.on_record(frame(100, 5))
    assert machine.tally == {Sight.VERIFIED: 1}
    assert machine.progress is not None
    assert machine.progress.shown == 100 * MS


@pytest.mark.parametrize(
    ("record", "sight"),
    [
        (frame(100, 5, run=8), Sight.FOREIGN),
        (frame(100, 5, publish=2), Sight.FOREIGN),
        (frame(3000, 5, age_ms=2001), Sight.STALE),
        (frame(100), Sight.UNCODED),
        (frame(100, reading=Reading.CORRUPT), Sight.CORRUPT),
        (frame(100, black=True), Sight.BLACK),
    ],
)
def test_what_is_not_this_broadcast_now_does_not_progress(record: FrameRecord, sight: Sight) -> None:
    machine = playback()
    machine.on_record(record)
    assert machine.tally == {sight: 1}
    assert machine.progress is None


def test_latency_is_taken_when_a_picture_is_shown_however_early_it_was_decoded() -> None:
    machine = playback()
    for n in range(40):  # decoded eight at a time, half a second ahead
        at = int(n * 33.3 * MS)
        machine.on_record(frame(n * 33.3, n, age_ms=500, decoded=at - at % (266 * MS) - 500 * MS))
    window = machine.tick(2 * NS)
    assert window is not None
    assert window.latencies == pytest.approx([0.5] * 40, abs=0.0011)


def test_what_our_own_player_jumped_over_is_skipped_and_not_lost() -> None:
    machine = playback()
    steady(machine, 40)
    machine.on_record(frame(1400, 100, jumped=True))
    steady(machine, 20, start=103, from_ms=1433)  # two are missing after it
    window = machine.tick(3 * NS)
    assert window is not None
    assert (window.verified, window.skipped, window.lost) == (61, 60, 2)


def test_a_jump_is_counted_by_the_renditions_own_frame_rate() -> None:
    machine = playback()
    steady(machine, 40, step=2)
    machine.on_record(frame(1400, 200, jumped=True))
    window = machine.tick(3 * NS)
    assert window is not None
    assert (window.skipped, window.lost) == (60, 0)


def test_the_same_picture_again_is_a_duplicate_and_an_older_one_reordered() -> None:
    machine = playback()
    for at, sequence, age in ((0, 10, 50), (33, 11, 50), (66, 11, 83), (100, 9, 183)):
        machine.on_record(frame(at, sequence, age_ms=age))
    assert machine.tally == {Sight.VERIFIED: 2, Sight.DUPLICATE: 1, Sight.REORDERED: 1}
    assert machine.progress is not None
    assert machine.progress.shown == 33 * MS


def test_a_16th_publish_session_has_the_firsts_ordinal_and_is_new_by_its_stamps() -> None:
    machine = playback()
    steady(machine, 40, start=500)
    steady(machine, 40, start=0, from_ms=5000)
    window = machine.tick(7 * NS)
    assert window is not None
    assert (window.verified, window.duplicate, window.reordered, window.lost) == (80, 0, 0, 0)


def test_sequence_wraps_without_loss() -> None:
    machine = playback()
    steady(machine, 40, start=SEQUENCE_MODULUS - 20)
    window = machine.tick(2 * NS)
    assert window is not None
    assert (window.verified, window.lost, window.reordered) == (40, 0, 0)


def test_a_ladder_that_halves_the_frame_rate_loses_nothing() -> None:
    machine = playback()
    steady(machine, 60, step=2)
    window = machine.tick(3 * NS)
    assert window is not None
    assert window.lost == 0


def test_a_switch_to_half_the_frame_rate_and_back_loses_nothing() -> None:
    machine = playback()
    high, low = [*range(40)], [*range(40, 120, 2)]
    sequences = [(n, "720p") for n in high] + [(n, "360p") for n in low] + [(n + 120, "720p") for n in high]
    for at, (sequence, rendition) in enumerate(sequences):
        machine.on_record(frame(at * 33, sequence, rendition=rendition))
    window = machine.tick(10 * NS)
    assert window is not None
    assert (window.lost, window.verified) == (0, 120)


def test_what_is_lost_at_a_switch_is_counted() -> None:
    machine = playback()
    sequences = [*((n, "720p") for n in range(40)), *((n, "360p") for n in range(48, 88, 2))]  # 40, 42, 44, 46 are missing
    for at, (sequence, rendition) in enumerate(sequences):
        machine.on_record(frame(at * 33, sequence, rendition=rendition))
    window = machine.tick(10 * NS)
    assert window is not None
    assert window.lost == 3  # 39 → 48, in steps of two


def test_loss_before_the_step_is_known_is_counted_once_it_is() -> None:
    machine = playback()
    for n, sequence in enumerate((0, 1, 5, 6, 7, 8, 9)):
        machine.on_record(frame(n * 33, sequence))
    window = machine.tick(NS)
    assert window is not None
    assert window.lost == 3


@given(st.lists(st.integers(min_value=1, max_value=4), min_size=10, max_size=60))
def test_loss_equals_the_gaps_when_single_steps_dominate(deltas: list[int]) -> None:
    machine = playback()
    sequence, at = 0, 0.0
    machine.on_record(frame(at, sequence))
    for _ in range(40):
        sequence, at = sequence + 1, at + 33
        machine.on_record(frame(at, sequence))
    machine.tick(int(at * MS) + 1, force=True)
    for delta in deltas[:10]:
        sequence, at = sequence + delta, at + 33
        machine.on_record(frame(at, sequence))
    window = machine.tick(int(at * MS) + 2, force=True)
    assert window is not None
    assert window.lost == sum(d - 1 for d in deltas[:10])


def test_a_reconnects_gap_is_neither_loss_nor_w3c_freeze() -> None:
    machine = playback()
    end = steady(machine, 40)
    machine.interrupted()
    freezes = machine.on_record(frame(end + 3000, 130))
    window = machine.tick(10 * NS, force=True)
    assert window is not None
    assert window.lost == 0
    assert [freeze.rule for freeze in freezes] == ["fixed_500ms"]


def test_w3c_freeze_needs_three_times_the_average_or_150_ms_more() -> None:
    machine = playback()
    end = steady(machine, 40) - 33.3
    assert machine.on_record(frame(end + 180, 40)) == []
    (freeze,) = machine.on_record(frame(end + 180 + 200, 41))
    assert freeze.rule == "w3c"
    assert freeze.took == pytest.approx(200 * MS, abs=MS)


def test_a_picture_stands_once_it_has_done_so_for_half_a_second_and_three_of_its_gaps() -> None:
    machine = playback()
    assert machine.standing(99 * NS) is None
    steady(machine, 30)
    assert machine.progress is not None
    last = machine.progress.shown
    assert machine.standing(last + 499 * MS) is None
    assert machine.standing(last + 500 * MS) == last
    slow = playback()
    for n in range(10):
        slow.on_record(frame(sequence=n, at_ms=400 * n))
    assert slow.progress is not None
    last = slow.progress.shown
    assert slow.standing(last + 540 * MS) is None, "two and a half pictures a second"
    assert slow.standing(last + 1200 * MS) == last


def test_latency_is_stamp_to_decode_and_carries_its_clock_error() -> None:
    machine = playback(clock_error=0.002)
    machine.on_record(frame(100, 1, age_ms=42))
    window = machine.tick(2 * NS)
    assert window is not None
    assert window.latencies == pytest.approx((0.042,), abs=0.001)
    assert window.clock_error == pytest.approx(0.002 + STAMP_ERROR)


def test_a_negative_latency_beyond_the_error_is_a_clock_fault_and_no_latency() -> None:
    machine = playback()
    machine.on_record(frame(100, 1, age_ms=-20))
    window = machine.tick(2 * NS)
    assert window is not None
    assert (window.latencies, window.clock_faults, window.verified) == ((), 1, 1)


def test_without_a_known_clock_error_no_latency_is_told() -> None:
    machine = playback(clock_error=None)
    machine.on_record(frame(100, 1))
    window = machine.tick(2 * NS)
    assert window is not None
    assert (window.latencies, window.clock_error) == ((), None)


def test_moving_verifies_any_changing_picture_and_tells_no_latency() -> None:
    machine = playback(verify="moving")
    machine.on_record(frame(0))
    machine.on_record(frame(33, changed=False))
    machine.on_record(frame(66, black=True))
    window = machine.tick(NS)
    assert window is not None
    assert machine.tally == {Sight.VERIFIED: 1, Sight.STILL: 1, Sight.BLACK: 1}
    assert window.latencies == ()


def test_a_new_publish_session_goes_on_and_its_predecessors_late_frames_are_reordered() -> None:
    machine = playback(publishes=[1, 2])
    machine.on_record(frame(0, 500))
    machine.on_record(frame(100, 1, publish=2))
    machine.on_record(frame(110, 501, age_ms=90))
    assert machine.tally == {Sight.VERIFIED: 2, Sight.REORDERED: 1}


def test_windows_count_only_their_own_second() -> None:
    machine = playback()
    assert machine.tick(NS // 2) is None
    machine.on_record(frame(0, 1))
    machine.on_record(Undecodable(at=0))
    machine.on_record(Refill(at=0))
    first, second = machine.tick(NS), machine.tick(2 * NS)
    assert first is not None
    assert second is not None
    assert (first.decoded, first.bytes, first.undecodable) == (1, 1000, 1)
    assert (second.decoded, second.bytes, second.took) == (0, 0, NS)


def test_the_first_window_begins_with_the_first_verified_picture() -> None:
    machine = playback()
    machine.on_record(frame(700, 1))
    assert machine.tick(NS) is None
    window = machine.tick(int(1.7 * NS))
    assert window is not None
    assert (window.took, window.verified) == (NS, 1)


def test_skew_is_the_chirps_delay_against_the_pictures() -> None:
    machine = playback()
    machine.on_record(frame(1000, 1, age_ms=100))
    machine.on_record(Chirp(shown=1130 * MS, media_time=None, score=0.9))
    machine.on_record(Chirp(shown=1500 * MS, media_time=None, score=0.2))
    window = machine.tick(2 * NS)
    assert window is not None
    assert window.skews == pytest.approx((0.030,), abs=0.001)


def test_a_second_of_two_renditions_has_no_media_seconds_to_take_a_rate_from() -> None:
    machine = playback()
    for n in range(90):
        machine.on_record(frame(n * 33.3, n, rendition="360p" if n < 45 else "180p"))
        if n % 30 == 29:
            window = machine.tick((n // 30 + 1) * NS + 1)
            assert window is not None and window.decoded == 30
            assert (window.media_seconds > 0) is (n // 30 != 1)


def test_sound_that_came_late_beside_the_right_time_is_not_out_of_step() -> None:
    """FLV's sound came 60 ms after its picture and said when it belonged: no player shows that; it was once told as skew."""
    machine = playback()
    machine.on_record(frame(1000, 1, age_ms=100, media_time=20.0))  # stamped at 0.9 s
    machine.on_record(Chirp(shown=1160 * MS, media_time=20.1, score=0.9))  # sounds the whole second
    machine.on_record(Chirp(shown=1160 * MS, media_time=20.13, score=0.9))
    machine.on_record(Chirp(shown=1160 * MS, media_time=500.0, score=0.9))  # of another clock: by when it was here
    machine.on_record(Chirp(shown=1160 * MS, media_time=None, score=0.9))
    window = machine.tick(2 * NS)
    assert window is not None
    assert window.skews == pytest.approx((0.0, 0.030, 0.060, 0.060), abs=0.001)


@pytest.mark.parametrize(("hole_ms", "counted"), [(100, 100), (500, 33.3), (990, 33.3), (1500, 0)])
def test_a_hole_in_the_streams_own_time_is_no_media_that_came(hole_ms: float, counted: float) -> None:
    machine = playback()
    at = steady(machine, 31)
    steady(machine, 31, from_ms=at - 33.3 + hole_ms, start=31)
    window = machine.tick(5 * NS)
    assert window is not None
    assert window.media_seconds == pytest.approx((60 * 33.3 + counted) / 1000, abs=0.001)


def test_a_rendition_of_a_third_of_the_pictures_is_no_row_of_holes() -> None:
    machine = playback()
    at = steady(machine, 60)
    for n in range(30):
        machine.on_record(frame(at + 100 * n, 60 + 3 * n))
    window = machine.tick(6 * NS)
    assert window is not None
    assert window.media_seconds == pytest.approx((59 * 33.3 + 33.3 + 29 * 100) / 1000, abs=0.1)


def test_media_seconds_add_up_from_the_streams_own_time() -> None:
    machine = playback()
    steady(machine, 31)
    window = machine.tick(NS + 1)
    assert window is not None
    assert window.media_seconds == pytest.approx(0.999, abs=0.01)
