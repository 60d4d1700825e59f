"""A start whose deadline passed is named by its open stage, or by what its pictures were."""

from __future__ import annotations

from collections import Counter

import pytest

from probe.model.outcome import REASONS, Aborted, Failed
from probe.model.stage import Phase, Stage
from probe.run.attempt import at_deadline
from probe.wire.playback import Sight


@pytest.mark.parametrize("stage", list(Stage))
def test_every_open_stage_has_a_valid_reason_and_only_the_probes_own_aborts(stage: Stage) -> None:
    outcome = at_deadline(stage, Counter(), 0, 5)
    if stage is Stage.PROBE:
        assert isinstance(outcome, Aborted)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.phase.value == stage.value
        assert outcome.reason in REASONS[outcome.phase]


@pytest.mark.parametrize(
    ("tally", "reason"),
    [
        ({Sight.FOREIGN: 3, Sight.UNCODED: 1}, "foreign"),
        ({Sight.STALE: 9}, "stale"),
        ({Sight.BLACK: 9}, "black"),
        ({Sight.CORRUPT: 9}, "undecodable"),
        ({Sight.UNCODED: 9}, "uncoded"),
        ({Sight.STILL: 2}, "still"),
    ],
)
def test_pictures_that_came_name_it_even_when_the_probe_was_reading_them(tally: dict[Sight, int], reason: str) -> None:
    outcome = at_deadline(Stage.PROBE, Counter(tally), 0, 5)
    assert isinstance(outcome, Failed)
    assert (outcome.phase, outcome.reason) == (Phase.FIRST_FRAME, reason)


def test_media_that_never_decoded_is_undecodable() -> None:
    outcome = at_deadline(Stage.PROBE, Counter(), 7, 5)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "undecodable"


def test_pictures_do_not_explain_a_handshake() -> None:
    outcome = at_deadline(Stage.ICE, Counter({Sight.FOREIGN: 1}), 0, 5)
    assert isinstance(outcome, Failed)
    assert (outcome.phase, outcome.reason) == (Phase.ICE, "timeout")
