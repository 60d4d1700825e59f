"""The picture that is missed: since when, and how long there is left to come back."""

from __future__ import annotations

import pytest

from probe.model.clock import NS
from probe.model.observation import CutOutcome
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.run.missing import Missing

FROZEN = Failed(Phase.PLAYING, "frozen")
REFUSED = Failed(Phase.CONNECT, "refused")


def test_the_deadline_runs_from_the_moment_it_was_missed() -> None:
    missing = Missing(deadline=10 * NS)
    assert not missing.too_late(99 * NS, held=False)
    missing.missed(FROZEN, 5 * NS)
    assert not missing.too_late(15 * NS, held=False)
    assert missing.too_late(15 * NS + 1, held=False)


def test_no_deadline_runs_while_a_cut_of_ours_holds_the_path_and_it_begins_at_the_return() -> None:
    missing = Missing(deadline=10 * NS)
    missing.missed(FROZEN, 5 * NS)
    assert not missing.too_late(60 * NS, held=True)
    missing.path_returned(60 * NS)
    assert not missing.too_late(70 * NS, held=False)
    assert missing.too_late(70 * NS + 1, held=False)


def test_a_picture_now_and_then_neither_stops_the_deadline_nor_changes_why() -> None:
    missing = Missing(deadline=10 * NS)
    missing.missed(FROZEN, 1 * NS)
    missing.tries = 3
    missing.last = NS // 2
    back = missing.seen(4 * NS)
    assert back is not None
    assert (back.at, back.outcome, back.outage, back.attempts) == (4 * NS, CutOutcome.RESTARTED, 3 * NS + NS // 2, 3)
    assert missing.seen(5 * NS) is None
    assert not missing.away
    missing.missed(REFUSED, 5 * NS)
    assert (missing.since, missing.why, missing.tries, missing.away) == (1 * NS, FROZEN, 3, True)
    assert missing.too_late(12 * NS, held=False)


def test_two_steady_seconds_are_a_recovery_and_the_next_time_is_another() -> None:
    missing = Missing(deadline=10 * NS)
    assert not missing.seen(1 * NS)
    missing.missed(FROZEN, 2 * NS)
    assert missing.seen(3 * NS)
    assert not missing.seen(5 * NS)
    assert not missing.too_late(99 * NS, held=False)
    missing.missed(REFUSED, 8 * NS)
    assert (missing.since, missing.why, missing.tries) == (8 * NS, REFUSED, 0)
    assert missing.seen(9 * NS)


def test_an_attempt_is_given_what_is_left_and_never_less_than_half_a_second() -> None:
    missing = Missing(deadline=10 * NS)
    assert missing.limit(5 * NS, 0, held=False) == 5 * NS
    missing.missed(FROZEN, 0)
    assert missing.limit(5 * NS, 2 * NS, held=False) == 5 * NS
    assert missing.limit(5 * NS, 8 * NS, held=False) == 2 * NS
    assert missing.limit(5 * NS, 10 * NS, held=False) == NS // 2
    assert missing.limit(5 * NS, 10 * NS, held=True) == 5 * NS


@pytest.mark.parametrize(("last", "reason"), [("refused", "refused"), ("http_503", "http_503"), ("sdp_rejected", "timeout")])
def test_what_did_not_come_back_is_named_by_its_last_try(last: str, reason: str) -> None:
    phase = Phase.CONNECT if last == "refused" else Phase.SIGNAL
    failure = Missing(deadline=10 * NS).failure(Failed(phase, last))
    assert (failure.phase, failure.reason) == (Phase.RECONNECTING, reason)
    assert failure.detail == f"not back within 10 s; last try: {phase}/{last}"


def test_what_is_away_when_the_stay_is_ended_is_left_open_or_has_failed_past_the_deadline() -> None:
    missing = Missing(deadline=10 * NS, last=5 * NS)
    assert missing.left_open(6 * NS, None, FROZEN) is None
    standing = missing.left_open(6 * NS, 5 * NS, FROZEN)
    assert standing is not None
    assert (standing.outcome, standing.so_far, standing.attempts, standing.failure) == (CutOutcome.OPEN, NS, 0, FROZEN)
    missing.missed(REFUSED, 8 * NS)
    missing.tries = 2
    away = missing.left_open(15 * NS, None, REFUSED)
    assert away is not None
    assert (away.outcome, away.so_far, away.attempts, away.failure) == (CutOutcome.OPEN, 10 * NS, 2, REFUSED)
    late = missing.left_open(15 * NS + 1, None, REFUSED)
    assert late is not None and late.failure is not None
    assert (late.outcome, late.failure.phase) == (CutOutcome.FAILED, Phase.RECONNECTING)


def test_what_a_buffer_still_shows_is_not_away_when_the_stay_is_ended() -> None:
    missing = Missing(deadline=10 * NS, last=9 * NS)
    missing.missed(REFUSED, 7 * NS)
    assert missing.left_open(8 * NS, None, REFUSED) is None
