"""What is asked of the world when, and what it comes to."""

from __future__ import annotations

from typing import Any

import pytest

from probe.drill.core.conclude import Ending, Fate, Kept, Told, conclude
from probe.drill.core.facts import Checked, DrillFact, Phase, Verdict
from probe.drill.core.file import Drill
from probe.drill.core.looks import Looks, Times
from probe.drill.core.readings import Readings
from probe.drill.watching import Standing
from probe.model.clock import NS
from tests.drill.run.crowd import STAY, whole_run
from tests.drill.run.test_readings import audience
from tests.drill.run.test_runner import drill

NOW = 10 * NS


class Asked:
    """A look at a drill in eu, whose scenario is in us, too."""

    def __init__(self, drill: Drill, known: Standing | None = None, arrived: Told = Told(True)) -> None:  # noqa: B008  # frozen
        self.facts: list[DrillFact] = []
        self.readings = Readings(stays=[STAY], min_n=1)
        self.looks = Looks(
            drill, ("eu", "us"), self.readings, lambda: known or Standing(), lambda: arrived, self.facts.append, Times()
        )

    def checked(self, part: str) -> list[Checked]:
        return [fact for fact in self.facts if isinstance(fact, Checked) and fact.part == part]


def test_before_the_audience_is_there_nothing_is_steady_and_nobody_is_missing() -> None:
    asked = Asked(drill(abort=[{"when": "playing < 50%"}]), arrived=Told(None, "not there yet"))
    for fact in audience(NOW, False):
        asked.readings.saw(fact)
    found = asked.looks.look(Phase.STEADY, NOW)
    assert (found.steady, found.abort) == (Told(None, "not there yet"), "")


def test_another_region_that_suffers_stops_it_and_its_own_does_not() -> None:
    for region, stops in (("us", True), ("eu", False)):
        asked = Asked(drill(abort=[{"outside": "room_start < 50%"}]))
        for fact in whole_run("r", 1, 2, good=False, region=region):
            asked.readings.saw(fact)
        assert bool(asked.looks.look(Phase.HOLD, NOW).abort) is stops
        assert {fact.region for fact in asked.checked("abort")} == {"us"}


@pytest.mark.parametrize(
    ("abort", "known", "met"),
    [
        ({"budget": "10%"}, Standing(), None),
        ({"budget": "10%"}, Standing(budget={"a": 0.05}), False),
        ({"incident": True}, Standing(), None),
        ({"incident": True}, Standing(named=True), False),
        ({"incident": True}, Standing(named=True, silent="it is away"), None),
        ({"gate": "hold"}, Standing(closed=frozenset({("hold", "eu"), ("other", "us")})), False),
    ],
)
def test_what_is_not_known_stops_nothing_and_is_told_as_such(abort: dict[str, Any], known: Standing, met: bool | None) -> None:
    asked = Asked(drill(abort=[abort]), known)
    assert asked.looks.look(Phase.HOLD, NOW).abort == ""
    assert [fact.met for fact in asked.checked("abort")] == [met]


def test_after_the_restore_only_a_real_incident_stops_it() -> None:
    both = drill(abort=[{"budget": "1%"}, {"incident": True}])
    asked = Asked(both, Standing(named=True, budget={"a": 0.5}))
    asked.looks.times.broken, asked.looks.times.restored = 1, 2
    assert asked.looks.look(Phase.HOLD, NOW).abort
    assert not asked.looks.look(Phase.RECOVERY, NOW).abort
    asked = Asked(both, Standing(named=True, incidents=("RoomsFail in us",)))
    asked.looks.times.broken, asked.looks.times.restored = 1, 2
    assert asked.looks.look(Phase.RECOVERY, NOW).abort == "a real incident: RoomsFail in us"


def test_recovered_means_what_was_steady_too_and_for_as_long_as_that_took() -> None:
    asked = Asked(drill(steady={"of": ["playing >= 100%"], "within": "40s"}))
    words = [(goal.words, goal.within) for goal in asked.looks.goals]
    assert words[-1] == ("steady again: playing >= 100%", 40 * NS)
    assert len(words) == 3


def test_recovery_is_told_by_runs_that_began_after_the_restore() -> None:
    asked = Asked(drill(recovery=[{"when": "room_start >= 99%", "within": "20s"}]))
    asked.looks.times.broken, asked.looks.times.restored = 1 * NS, 5 * NS
    for fact in (*whole_run("a", 4 * NS, 6 * NS, good=False), *whole_run("b", 6 * NS, 7 * NS)):
        asked.readings.saw(fact)
    assert asked.looks.look(Phase.RECOVERY, NOW).goals[0].met is True


def test_a_promise_is_told_by_runs_that_began_by_the_restore_and_ended_after_it() -> None:
    asked = Asked(drill(meanwhile=["room_start[1s] >= 99%", "playing >= 100%"]))
    asked.looks.times.broken, asked.looks.times.restored = 1 * NS, 5 * NS
    for fact in (*whole_run("a", 4 * NS, 6 * NS, good=False), *whole_run("b", 6 * NS, 7 * NS)):
        asked.readings.saw(fact)
    rooms, playing = asked.looks.look(Phase.RECOVERY, NOW).promises
    assert rooms.met is False
    assert playing.met is None, "who plays after the restore says nothing of the time before"


def test_nothing_broken_or_nothing_to_recover_is_no_drill() -> None:
    kept = [Kept("well", Told(True))]
    seen = Ending("it", Fate.RESTORED, seen=True)
    assert conclude(None, [], [], kept)[0] is Verdict.INVALID
    assert conclude(None, [seen], [], [])[0] is Verdict.INVALID
    assert conclude(None, [Ending("it", Fate.RESTORED, seen=False)], [], kept)[0] is Verdict.INVALID
    assert conclude(None, [seen], [], kept) == (Verdict.PASS, "well")


def test_what_still_stands_beats_every_other_reason() -> None:
    for fate in (Fate.HELD, Fate.RESTORING, Fate.NOT_RESTORED):
        verdict, reason = conclude(None, [Ending("it", fate, seen=True)], [], [Kept("well", Told(True))])
        assert verdict is Verdict.NOT_RESTORED
        assert reason == "it: not seen to be gone"


def test_a_weakness_that_was_seen_is_one_however_little_else_is_known() -> None:
    goals = [Kept("a", Told(None, "unwell")), Kept("b", Told(False, "half of them"))]
    verdict, reason = conclude(None, [Ending("it", Fate.GONE, seen=True)], [], goals)
    assert (verdict, reason) == (Verdict.WEAKNESS, "not recovered: b (half of them)")
