"""What a drill's traffic says: windows, regions, taints, who plays and who came back; no data says nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from probe.drill.core.readings import CUT, Begun, Readings, told
from probe.judge.reading import Answer
from probe.model.clock import NS
from probe.model.observation import CutOutcome, Observation, SessionEnded
from probe.model.outcome import Done, Failed, Skipped
from probe.model.stage import Phase
from probe.run.outside import JOINED, KIND
from probe.scenario.gates import Expression, parse_gate
from probe.scenario.indicators import IN_A_DRILL
from tests.drill.run.crowd import STAY, health, resumed, run_began, session_began, started, whole_run, window


def cond(text: str) -> Expression:
    return parse_gate(text, IN_A_DRILL)


def readings(*facts: Iterable[Observation] | Observation, min_n: int = 1) -> Readings:
    made = Readings(stays=[STAY], min_n=min_n)
    for one in facts:
        for fact in one if isinstance(one, Iterable) else (one,):
            made.saw(fact)
    return made


def audience(at: int, *moving: bool, region: str = "eu") -> list[Observation]:
    """Viewers who began at 0 and were told of at `at`."""
    facts: list[Observation] = [run_began(STAY, 0, region)]
    for number, moves in enumerate(moving):
        facts += [session_began(STAY, f"v{number}", 0, region=region), started(STAY, f"v{number}", NS // 2)]
        facts += [window(STAY, f"v{number}", at, 30 if moves else 0)]
    return facts


def met(found: Readings, text: str, now: int, region: str = "eu", **more: object) -> bool | None:
    return found.read("steady", cond(text), region, now, **more).met  # type: ignore[arg-type]


def test_words_that_two_files_must_agree_on() -> None:
    from probe.drill.core import readings as module

    assert (CUT, module.CROWD) == (KIND, JOINED)


def test_nothing_seen_says_nothing() -> None:
    nobody = readings()
    for text in ("room_start >= 0%", "start[10s] >= 0%", "playing >= 0%", "playing[5s] >= 0%", "first_frame.p95 < 1h"):
        assert met(nobody, text, NS) is None


def test_runs_count_when_they_end_within_the_window_and_in_their_region() -> None:
    found = readings(
        whole_run("a", 1 * NS, 2 * NS, good=False), whole_run("b", 5 * NS, 6 * NS), whole_run("c", 5 * NS, 6 * NS, region="us")
    )
    assert met(found, "room_start >= 99%", 7 * NS) is False
    assert met(found, "room_start[3s] >= 99%", 7 * NS) is True
    assert met(found, "room_start[1s] >= 99%", 9 * NS) is None
    assert met(found, "room_start >= 99%", 7 * NS, "us") is True
    assert met(found, "room_start >= 99%", 7 * NS, "apac") is None


def test_runs_can_be_asked_by_when_they_began() -> None:
    found = readings(whole_run("a", 1 * NS, 4 * NS, good=False), whole_run("b", 5 * NS, 6 * NS))
    assert met(found, "room_start >= 99%", 7 * NS, since=3 * NS) is False
    assert met(found, "room_start >= 99%", 7 * NS, since=3 * NS, begun=Begun(3 * NS)) is True
    assert met(found, "room_start[1s] >= 99%", 7 * NS, since=3 * NS, begun=Begun(0, 3 * NS)) is False


def test_too_few_samples_and_tainted_ones_say_nothing() -> None:
    few = readings(whole_run("a", 1, 2), whole_run("b", 3, 4), min_n=3)
    assert met(few, "start >= 99%", NS) is None
    assert met(few, "attempts >= 2", NS) is True
    ill = readings(*(whole_run(f"r{i}", i * NS, i * NS + NS // 2, taint="loop_lag") for i in range(1, 9)), min_n=3)
    assert met(ill, "start >= 99%", 20 * NS) is None
    assert ill.rooms() == (0, 0)


def test_playing_is_who_moves_now() -> None:
    found = readings(audience(10 * NS, True, True, True, False))
    assert found.playing("eu", 10 * NS) == (3, 4)
    assert met(found, "playing >= 75%", 10 * NS) is True
    assert met(found, "playing > 75%", 10 * NS) is False
    assert met(found, "playing >= 1%", 20 * NS) is False, "what was told long ago says nothing of now"


def test_who_has_just_begun_to_play_plays() -> None:
    found = readings(run_began(STAY, 0), session_began(STAY, "v0", 0), session_began(STAY, "v1", 0), started(STAY, "v0", NS))
    assert found.playing("eu", 2 * NS) == (1, 2)


def test_playing_needs_no_number_for_everybody_there_is_was_asked() -> None:
    assert met(readings(audience(NS, True), min_n=5), "playing >= 100%", NS) is True


def test_who_never_tried_is_no_audience_and_who_crashed_stays_one() -> None:
    def ended(session: str, outcome: Skipped | Done, ending: str = "") -> SessionEnded:
        why = Failed(Phase.PLAYING, "frozen") if ending else None
        return SessionEnded(
            run=STAY, session=session, seq=10**6 + int(session[1]), at=11 * NS, outcome=outcome, ending=ending, ended_by=why
        )

    found = readings(
        audience(10 * NS, True, True, True), ended("v0", Skipped("unsupported")), ended("v1", Done(), "crashed"),
        session_began(STAY, "guest", 0, step=JOINED),
    )  # fmt: skip
    assert found.playing("eu", 10 * NS) == (1, 2)
    assert found.audience(["eu"], 10 * NS) == {"v2"}
    assert met(found, "crash_free >= 99%", 12 * NS) is False


def test_playing_says_nothing_while_the_probe_is_unwell() -> None:
    found = readings(audience(10 * NS, True, False), health(STAY, 10 * NS, "cpu_starved"))
    assert met(found, "playing >= 100%", 10 * NS) is None
    assert met(found, "playing >= 100%", 11 * NS) is None
    assert met(found, "playing >= 100%", 12 * NS) is False


def test_playing_with_a_window_is_a_share_of_the_time() -> None:
    facts = audience(NS, True, True)
    facts += [window(STAY, f"v{viewer}", at * NS, 0 if at > 8 else 30) for at in range(2, 11) for viewer in (0, 1)]
    found = readings(facts)
    assert found.read("steady", cond("playing[10s] >= 80%"), "eu", 10 * NS).value == pytest.approx(0.8)
    assert met(found, "playing[4s] > 50%", 10 * NS) is False


def test_what_the_audience_lives_through_counts_by_the_second_it_happened() -> None:
    facts = audience(NS, True)
    found = readings(facts, resumed(STAY, "v0", 5 * NS, CutOutcome.RESTARTED, 3 * NS))
    assert met(found, "reconnect_seconds.max > 2s", 6 * NS) is True
    assert met(found, "reconnect_seconds.max > 2s", 6 * NS, since=5 * NS) is None


def test_a_start_of_the_audience_counts_when_it_plays_and_not_again_later() -> None:
    found = readings(audience(10 * NS, True, True))
    assert found.read("steady", cond("start >= 99%"), "eu", 10 * NS).n == 2
    assert met(found, "start >= 99%", 10 * NS, since=9 * NS) is None
    assert met(found, "attempts >= 2", 10 * NS) is True
    for fact in (session_began(STAY, "guest", 11 * NS, step=JOINED), started(STAY, "guest", 12 * NS)):
        found.saw(fact)
    assert found.read("steady", cond("start >= 99%"), "eu", 12 * NS, since=9 * NS).n == 1


def test_long_ago_is_forgotten_but_not_who_came() -> None:
    facts = audience(NS, True)
    for at in range(2, 400):
        facts += [health(STAY, at * NS), window(STAY, "v0", at * NS)]
    found = readings(facts)
    assert len(found._runs[STAY].facts) < 400
    assert met(found, "playing[100s] >= 100%", 399 * NS) is True
    assert met(found, "start >= 99%", 399 * NS) is True


def test_for_must_hold_at_every_look() -> None:
    found = readings(audience(10 * NS, True))
    expression = cond("playing >= 100% for 2s")
    assert found.read("steady", expression, "eu", 10 * NS).met is False
    assert found.read("steady", expression, "eu", 11 * NS).met is False
    found.saw(health(STAY, 12 * NS, "loop_lag"))
    assert found.read("steady", expression, "eu", 12 * NS).met is None
    for at in (15, 16, 17):
        found.saw(window(STAY, "v0", at * NS))
    assert found.read("steady", expression, "eu", 15 * NS).met is False
    assert found.read("other", expression, "eu", 17 * NS).met is False
    assert found.read("steady", expression, "eu", 17 * NS).met is True


def test_reconnects_are_counted_of_those_who_played_and_from_the_restore() -> None:
    played = {f"v{i}" for i in range(4)}
    found = readings(audience(10 * NS, *(True,) * 5))
    restored = 20 * NS

    def now(at: float) -> tuple[bool | None, str]:
        answer = found.reconnected(played, restored, 0.75, 10 * NS, round(at * NS))
        return answer.met, answer.reason

    found.saw(resumed(STAY, "v0", 15 * NS, CutOutcome.FAILED))  # of a cut before
    assert now(21) == (None, "0 of 4 viewers were back within 10 s so far")
    found.saw(resumed(STAY, "v0", 22 * NS, CutOutcome.UNAFFECTED))
    found.saw(resumed(STAY, "v1", 23 * NS, CutOutcome.RESTARTED, 3 * NS))
    found.saw(resumed(STAY, "v4", 23 * NS, CutOutcome.RESTARTED, 3 * NS))  # who did not play when it began
    assert now(24)[0] is None
    found.saw(resumed(STAY, "v2", 29 * NS, CutOutcome.RESUMED, 9 * NS))
    assert now(29) == (True, "3 of 4 viewers were back within 10 s")


def test_who_is_late_gone_or_still_away_is_not_back() -> None:
    found = readings(audience(10 * NS, True, True, True))
    found.saw(resumed(STAY, "v0", 32 * NS, CutOutcome.RESTARTED, 12 * NS))
    found.saw(resumed(STAY, "v1", 25 * NS, CutOutcome.FAILED))
    answer = found.reconnected({"v0", "v1", "v2"}, 20 * NS, 0.3, 10 * NS, 30 * NS)
    assert (answer.met, answer.reason) == (False, "0 of 3 viewers were back within 10 s")


def test_reconnects_of_an_unwell_probe_or_of_nobody_say_nothing() -> None:
    found = readings(audience(10 * NS, True, True), health(STAY, 21 * NS, "loop_lag"))
    for viewer in ("v0", "v1"):
        found.saw(resumed(STAY, viewer, 22 * NS, CutOutcome.RESTARTED, 2 * NS))
    assert found.reconnected({"v0", "v1"}, 20 * NS, 0.5, 10 * NS, 40 * NS).met is None
    assert found.reconnected(set(), 20 * NS, 0.5, 10 * NS, 40 * NS).met is None


def test_all_regions_must_agree() -> None:
    term = cond("playing >= 50%").terms[0]
    good, bad, dark = Answer(True, "", term, 1.0, 4), Answer(False, "", term, 0.25, 4), Answer(None, "the probe is unwell", term)
    assert told({"eu": good, "us": good}).met is True
    assert told({"eu": good, "us": bad, "apac": dark}).met is False
    assert told({"eu": good, "us": dark}).met is None
    assert told({}).met is None
    assert told({"eu": good, "us": bad}).reason == "us: playing 25.0% of 4 (playing >= 50%)"
