"""How a cut's end is told: unaffected, resumed, restarted, failed; outage and reconnect."""

from __future__ import annotations

from dataclasses import replace

from probe.model.clock import MS
from probe.model.observation import CutOutcome
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.run.cutting import Cutting
from probe.run.watch import Step


def step(ms: int, arrived: int | None = None) -> Step:
    return Step((ms if arrived is None else arrived) * MS, ms * MS)


def cutting(restored: int | None = 3000, *, observable: bool = True) -> Cutting:
    cut = Cutting(kind="flap", step="cut", began=1000 * MS, attempt=0, last=990 * MS)
    if restored is not None:
        cut.on_restored(restored * MS, observable=observable)
    return cut


def test_the_same_transport_going_on_is_resumed_with_the_gap_as_outage() -> None:
    end = cutting().on_step(step(3200), attempt=0)
    assert end is not None
    assert (end.outcome, end.outage, end.reconnect) == (CutOutcome.RESUMED, 2210 * MS, 200 * MS)


def test_a_new_transport_is_restarted() -> None:
    end = cutting().on_step(step(3600), attempt=2)
    assert end is not None
    assert (end.outcome, end.attempts, end.reconnect) == (CutOutcome.RESTARTED, 2, 600 * MS)


def test_frames_whose_bytes_came_before_the_return_do_not_end_it() -> None:
    cut = cutting()
    assert cut.on_step(step(3100, arrived=2990), attempt=0) is None
    end = cut.on_step(step(3200), attempt=0)
    assert end is not None
    assert end.outage == 2110 * MS


def test_a_picture_that_came_before_the_return_was_seen_ends_it_where_it_was_shown() -> None:
    cut = cutting(None)
    assert cut.on_step(step(2990, arrived=2980), attempt=0) is None  # what was on its way
    assert cut.on_step(step(3030), attempt=0) is None
    assert cut.on_step(step(3990), attempt=0) is None
    end = cut.on_restored(3100 * MS, since=3000 * MS)
    assert end is not None
    assert (end.outcome, end.outage, end.reconnect) == (CutOutcome.RESUMED, 2000 * MS, 0)


def test_a_picture_after_the_return_was_seen_is_counted_from_then() -> None:
    cut = cutting(None)
    assert cut.on_step(step(2990, arrived=2980), attempt=0) is None
    assert cut.on_restored(3100 * MS, since=3000 * MS) is None
    end = cut.on_step(step(3150, arrived=3050), attempt=1)
    assert end is not None
    assert (end.outcome, end.reconnect) == (CutOutcome.RESTARTED, 50 * MS)


def test_while_the_path_is_cut_nothing_ends_it() -> None:
    assert cutting(None).on_step(step(2000), attempt=1) is None


def test_an_unseen_return_gives_an_outage_and_no_reconnect() -> None:
    end = cutting(observable=False).on_step(step(3600), attempt=1)
    assert end is not None
    assert (end.outage, end.reconnect) == (2610 * MS, None)


def test_a_picture_that_never_stopped_is_unaffected_and_has_neither_figure() -> None:
    cut = cutting()
    for ms in range(1000, 3100, 33):
        end = cut.on_step(step(ms), attempt=0)
    assert end is not None
    assert (end.outcome, end.outage, end.reconnect) == (CutOutcome.UNAFFECTED, None, None)


def test_a_buffered_player_that_fetches_again_before_it_stops_is_unaffected() -> None:
    cut = cutting()
    for ms in range(1000, 3300, 33):
        cut.on_step(step(ms, arrived=500), attempt=0)
    assert cut.on_refill(2900 * MS, 3300 * MS, 0) is None
    end = cut.on_refill(3290 * MS, 3300 * MS, 0)
    assert end is not None
    assert end.outcome is CutOutcome.UNAFFECTED


def test_a_buffered_player_that_had_stopped_is_not_unaffected_by_a_fetch() -> None:
    cut = cutting()
    assert cut.on_refill(3290 * MS, 3300 * MS, 0) is None
    end = cut.on_step(step(3400), attempt=0)
    assert end is not None
    assert end.outcome is CutOutcome.RESUMED


def test_failure_carries_its_reason() -> None:
    end = cutting().failed(Failed(Phase.RECONNECTING, "timeout"), attempt=4)
    assert (end.outcome, end.attempts, end.failure) == (CutOutcome.FAILED, 4, Failed(Phase.RECONNECTING, "timeout"))


def test_a_publisher_acknowledged_once_a_second_was_not_affected_by_a_second_without() -> None:
    cut = Cutting(kind="restart", step="cut", began=1000 * MS, attempt=0, last=600 * MS, noticeable=4000 * MS)
    cut.on_restored(1200 * MS, observable=False)
    end = cut.on_step(step(1700), attempt=0)
    assert end is not None
    assert (end.outcome, end.outage) == (CutOutcome.UNAFFECTED, None)


def test_what_was_published_before_the_drop_ends_nothing_however_late_it_comes() -> None:
    """A playlist's last segment of the old session came after the publisher's return: it was once called unaffected, and the
    picture stood a second later."""
    cut = Cutting(kind="drop", step="cut", began=1000 * MS, attempt=0, last=990 * MS, before=1)
    cut.on_restored(3000 * MS)
    for ms in range(1000, 4000, 33):
        assert cut.on_step(replace(step(ms), publish=1), attempt=0) is None
    assert cut.on_refill(3200 * MS, 3210 * MS, attempt=0) is None
    end = cut.on_step(replace(step(5500), publish=2), attempt=0)
    assert end is not None and cut.before == 1
    assert (end.outcome, end.outage, end.reconnect) == (CutOutcome.RESUMED, 1530 * MS, 2500 * MS)


def test_a_buffer_that_reaches_the_new_session_bridged_the_drop() -> None:
    cut = Cutting(kind="drop", step="cut", began=1000 * MS, attempt=0, last=990 * MS, before=1)
    cut.on_restored(3000 * MS)
    for ms in range(1000, 4000, 33):
        assert cut.on_step(replace(step(ms), publish=1), attempt=0) is None
    end = cut.on_step(replace(step(4010), publish=2), attempt=0)
    assert end is not None and end.outcome is CutOutcome.UNAFFECTED
