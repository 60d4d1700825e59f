"""Facts of a drill go to JSON and back."""

from __future__ import annotations

import json

import pytest

from probe.drill.core.facts import (
    ActionSeen,
    AlertChanged,
    Checked,
    Did,
    DrillBegan,
    DrillEnded,
    Entered,
    FaultDid,
    Phase,
    Verdict,
    from_json,
    to_json,
)


@pytest.mark.parametrize(
    "fact",
    [
        DrillBegan(
            at=1,
            drill="d",
            run="r",
            owner="o",
            scenario="s",
            regions=("eu",),
            targets=("a:b",),
            wall_unix_ns=2,
            probe_version="1",
        ),
        Entered(at=1, phase=Phase.HOLD, why="so"),
        FaultDid(at=1, fault="f", kind="k", did=Did.SEEN_INJECTED, targets=("a:b", "a:c")),
        AlertChanged(at=1, source="gate", name="hold", firing=True),
        ActionSeen(at=1, who="me", words="x"),
        Checked(at=1, part="steady", condition="playing >= 99%", met=None),
        DrillEnded(at=1, verdict=Verdict.PASS, reason="r", wall_unix_ns=3),
    ],
)
def test_there_and_back(fact):
    assert from_json(json.loads(json.dumps(to_json(fact)))) == fact


@pytest.mark.parametrize("data", [{}, {"fact": "Entered"}, {"fact": "No"}, {"fact": "Entered", "at": 1, "phase": "nap"}, []])
def test_what_is_none(data):
    with pytest.raises(ValueError, match="is no fact of a drill"):
        from_json(data)
