"""The machine of phases: whatever happens and in whatever order, what was broken is put back or said not to be, and only what was
seen passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.drill.core.conclude import Fate, Told
from probe.drill.core.facts import Phase, Verdict
from probe.drill.core.phases import (
    NS,
    Announce,
    Announced,
    Course,
    Do,
    End,
    Enter,
    Event,
    Goal,
    Inject,
    Injected,
    Looked,
    Machine,
    Ready,
    Recover,
    Restore,
    Script,
    Seen,
    Stop,
    Tick,
    Undone,
)

YES, NO, UNTOLD = Told(True, "so"), Told(False, "not so"), Told(None, "who knows")
ONE = Course(name="a", at=0, lasts=4 * NS)


def script(*faults: Course, **more: object) -> Script:
    goal = Goal(words="well again", within=5 * NS)
    return Script(faults=faults or (ONE,), steady_within=10 * NS, goals=(goal,), **more)  # type: ignore[arg-type]


@dataclass
class Play:
    """Drives a machine by hand."""

    machine: Machine
    now: int = 0
    did: list[Do] = field(default_factory=list)

    def on(self, *events: Event, after: float = 0) -> list[Do]:
        self.now += round(after * NS)
        did = [do for event in events for do in self.machine.on(event, self.now)]
        self.did += did
        return did

    def broken(self) -> Play:
        """As far as the first fault being seen."""
        self.on(Ready(), Looked(YES), Announced(), Injected("a"), Seen("a", "injected"))
        assert self.machine.fates["a"] is Fate.HELD
        return self

    def restored(self) -> Play:
        self.broken().on(Tick(), after=4)
        self.on(Undone("a", "restored", self.now))
        assert self.machine.phase is Phase.RECOVERY
        return self

    @property
    def end(self) -> End | None:
        return next((do for do in self.did if isinstance(do, End)), None)


def play(*faults: Course, **more: object) -> Play:
    return Play(Machine(script(*faults, **more)))


def verdict(one: Play) -> Verdict | None:
    return one.end.verdict if one.end is not None else None


def test_a_drill_that_goes_well_passes_every_phase_in_order() -> None:
    going = play()
    going.restored().on(Looked(UNTOLD, goals=(YES,)), after=1)
    phases = [do.phase for do in going.did if isinstance(do, Enter)]
    assert phases == list(dict.fromkeys(phases))
    assert phases == [phase for phase in Phase if phase not in (Phase.CHECK, Phase.OBSERVE_RESTORED)]
    assert verdict(going) is Verdict.PASS
    assert going.on(Tick(), Ready(), Stop("late"), after=9) == []


def test_nothing_is_touched_before_it_was_steady_and_everybody_told() -> None:
    going = play()
    assert not any(isinstance(do, Inject) for do in going.on(Ready(), Looked(NO), Looked(UNTOLD), Announced(), Injected("a")))
    assert going.on(Looked(YES)) == [Enter(Phase.ANNOUNCE, "so"), Announce()]
    assert Inject("a") in going.on(Announced())


@pytest.mark.parametrize(("told", "expected"), [(NO, Verdict.ABORTED), (UNTOLD, Verdict.INCONCLUSIVE)])
def test_a_steady_state_that_is_not_proven_in_time_ends_it_untouched(told: Told, expected: Verdict) -> None:
    going = play()
    going.on(Ready(), Looked(told))
    going.on(Tick(), after=10)
    assert verdict(going) is expected
    assert going.end is not None
    assert "nothing was touched" in going.end.reason
    assert not any(isinstance(do, Inject) for do in going.did)


def test_whoever_could_not_be_told_keeps_it_from_beginning() -> None:
    going = play()
    going.on(Ready(), Looked(YES), Announced(failed="the webhook answered 500"))
    assert verdict(going) is Verdict.ABORTED
    assert not any(isinstance(do, Inject) for do in going.did)


@pytest.mark.parametrize("state", ["restored", "gone", "unknown", ""])
def test_a_fault_that_is_not_seen_in_time_is_invalid_and_put_back(state: str) -> None:
    going = play()
    going.on(Ready(), Looked(YES), Announced(), Injected("a"))
    going.on(*([Seen("a", state)] if state else []), after=1)
    assert any(isinstance(do, Restore) for do in going.on(Tick(), after=1))
    going.on(Undone("a", "restored", going.now))
    assert verdict(going) is Verdict.INVALID


def test_an_injection_that_raises_or_never_ends_is_put_back_too() -> None:
    for events, after in (((Injected("a", failed="no right"),), 0), ((Tick(),), 5)):
        going = play()
        going.on(Ready(), Looked(YES), Announced())
        assert any(isinstance(do, Restore) for do in going.on(*events, after=after))
        assert verdict(going) is None
        going.on(Undone("a", "restored", going.now))
        assert verdict(going) is Verdict.INVALID


@pytest.mark.parametrize(("state", "words"), [("restored", "it was gone"), ("gone", "its target vanished")])
def test_a_fault_that_goes_long_before_its_time_without_our_doing_is_invalid(state: str, words: str) -> None:
    going = play().broken()
    assert any(isinstance(do, Restore) for do in going.on(Seen("a", state), after=1))
    going.on(Undone("a", "restored", going.now))
    assert verdict(going) is Verdict.INVALID
    assert going.end is not None
    assert words in going.end.reason


def test_one_that_goes_shortly_before_its_time_or_is_brought_back_by_others_is_no_such_thing() -> None:
    for course, after in ((ONE, 3.5), (Course(name="a", at=0, lasts=4 * NS, returns=True), 1)):
        going = Play(Machine(script(course))).broken()
        going.on(Seen("a", "unknown"))
        assert any(isinstance(do, Restore) for do in going.on(Seen("a", "restored"), after=after))
        going.on(Undone("a", "restored", going.now), Looked(UNTOLD, goals=(YES,)))
        assert verdict(going) is Verdict.PASS


def test_an_undo_that_fails_beats_everything_and_ends_only_when_the_others_are_back() -> None:
    going = play(ONE, Course(name="b", at=NS, lasts=9 * NS)).broken()
    going.on(Tick(), after=1)
    going.on(Injected("b"), Seen("b", "injected"))
    going.on(Tick(), after=3)
    assert any(isinstance(do, Restore) and do.fault == "b" for do in going.on(Undone("a", "failed", going.now, "it hangs")))
    assert verdict(going) is None
    going.on(Undone("b", "restored", going.now))
    assert verdict(going) is Verdict.NOT_RESTORED
    assert going.end is not None
    assert "it hangs" in going.end.reason


def test_an_abort_leads_over_the_restore_and_faults_to_come_never_begin() -> None:
    going = play(ONE, Course(name="b", at=2 * NS, lasts=NS)).broken()
    assert [do.fault for do in going.on(Stop("enough"), after=3) if isinstance(do, Restore)] == ["a"]
    going.on(Tick(), after=5)
    going.on(Undone("a", "restored", going.now))
    assert verdict(going) is Verdict.ABORTED
    assert Inject("b") not in going.did


def test_faults_overlap_and_recovery_counts_from_the_last_restore() -> None:
    going = play(ONE, Course(name="b", at=2 * NS, lasts=4 * NS)).broken()
    assert Inject("b") in going.on(Tick(), after=2)
    going.on(Injected("b"), Seen("b", "injected"))
    assert any(isinstance(do, Restore) and do.fault == "a" for do in going.on(Tick(), after=2))
    going.on(Undone("a", "restored", going.now))
    assert going.machine.phase is Phase.HOLD
    going.on(Tick(), after=2)
    going.on(Undone("b", "gone", going.now + 7))
    assert Recover(going.now + 7) in going.did


def test_a_promise_once_broken_stays_broken() -> None:
    going = play(promises=("chat >= 99%",)).broken()
    going.on(Looked(UNTOLD, promises=(UNTOLD,)), Looked(UNTOLD, promises=(YES,)), Looked(UNTOLD, promises=(NO,)))
    going.on(Looked(UNTOLD, promises=(YES,)), Tick(), after=4)
    going.on(Undone("a", "restored", going.now), Looked(UNTOLD, goals=(YES,)))
    assert verdict(going) is Verdict.WEAKNESS
    assert going.end is not None
    assert "chat >= 99%" in going.end.reason


def test_a_promise_of_which_nothing_was_told_is_inconclusive() -> None:
    going = play(promises=("chat >= 99%",)).restored()
    going.on(Looked(UNTOLD, goals=(YES,)))
    assert verdict(going) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("told", "expected"), [(NO, Verdict.WEAKNESS), (UNTOLD, Verdict.INCONCLUSIVE)])
def test_a_goal_is_decided_at_its_end(told: Told, expected: Verdict) -> None:
    going = play().restored()
    going.on(Looked(UNTOLD, goals=(NO,)), Looked(UNTOLD, goals=(UNTOLD,)), after=4)
    assert verdict(going) is None
    going.on(Looked(UNTOLD, goals=(told,)), after=1)
    assert verdict(going) is expected


def test_a_goal_that_is_met_too_late_is_missed_and_one_nobody_looks_at_is_not_met() -> None:
    going = play().restored()
    going.on(Looked(UNTOLD, goals=(YES,)), after=7)
    assert verdict(going) is Verdict.WEAKNESS
    going = play().restored()
    going.on(Tick(), after=7)
    assert verdict(going) is Verdict.INCONCLUSIVE


def test_it_is_not_over_before_its_hold() -> None:
    going = play(hold=30 * NS).restored()
    going.on(Looked(UNTOLD, goals=(YES,)))
    assert verdict(going) is None
    assert going.machine.due == 30 * NS
    going.on(Tick(), after=26)
    assert verdict(going) is Verdict.PASS


def test_the_first_cause_is_the_cause() -> None:
    going = play().broken()
    going.on(Looked(UNTOLD, abort="a real incident: #1"), Stop("interrupted"))
    going.on(Undone("a", "restored", going.now))
    assert going.end == End(Verdict.ABORTED, "a real incident: #1")


# -- whatever happens

NAMES = ("a", "b")
TOLD = st.sampled_from([YES, NO, UNTOLD])
NAMED = st.sampled_from([*NAMES, "nobody"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(Ready()),
    st.just(Tick()),
    st.builds(Announced, st.sampled_from(["", "", "no answer"])),
    st.builds(Injected, NAMED, st.sampled_from(["", "", "", "it raised"])),
    st.builds(Seen, NAMED, st.sampled_from(["injected", "injected", "restored", "gone", "unknown"])),
    st.builds(Undone, NAMED, st.sampled_from(["restored", "restored", "gone", "failed"]), st.integers(0, 60 * NS)),
    st.builds(Looked, TOLD, st.tuples(TOLD), st.tuples(TOLD), st.sampled_from(["", "", "", "", "", "", "abort"])),
    st.builds(Stop, st.just("interrupted")),
)
STEPS = st.lists(st.tuples(EVENTS, st.integers(0, 3 * NS)), max_size=60)
COURSES = st.builds(
    lambda at, lasts, returns: (
        Course(name="a", at=0, lasts=lasts, returns=returns),
        Course(name="b", at=at, lasts=lasts, returns=False),
    ),
    st.integers(0, 8 * NS),
    st.integers(NS, 8 * NS),
    st.booleans(),
)


class World:
    """Answers everything that is asked of it, and notes what was so."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now = 0
        self.willed: list[str] = []
        self.asked: list[str] = []  # to be restored
        self.seen: set[str] = set()
        self.told: list[Told] = []
        self.undone: dict[str, str] = {}
        self.ends: list[End] = []

    def on(self, event: Event) -> Sequence[Do]:
        assert not self.ends or not self.machine.on(event, self.now), "something is to be done after its end"
        if self.ends:
            return ()
        self._note(event)
        did = self.machine.on(event, self.now)
        for do in did:
            match do:
                case Inject():
                    assert do.fault not in self.willed
                    self.willed.append(do.fault)
                case Restore():
                    assert do.fault in self.willed
                    assert do.fault not in self.asked
                    self.asked.append(do.fault)
                case End():
                    self.ends.append(do)
                    self._check(do)
        return did

    def _note(self, event: Event) -> None:
        match event:
            case Seen(fault, "injected"):
                if fault in self.willed and fault not in self.asked:
                    self.seen.add(fault)
            case Undone(fault, state):
                if fault in self.asked and fault not in self.undone:
                    self.undone[fault] = state
            case Looked() if self.machine.phase is Phase.RECOVERY:
                self.told += event.goals
            case _:
                pass

    def _check(self, end: End) -> None:
        assert set(self.willed) == set(self.asked) == set(self.undone), "it ended while something was broken"
        failed = [fault for fault, state in self.undone.items() if state == "failed"]
        assert (end.verdict is Verdict.NOT_RESTORED) == bool(failed)
        if end.verdict is Verdict.PASS:
            assert self.seen == set(self.willed) == set(NAMES)
            assert YES in self.told, "no data passed"
        assert end.reason

    def goes_on(self) -> None:
        """From here on everybody answers: it comes to an end."""
        for _ in range(200):
            if self.ends:
                return
            for name in self.asked:
                if name not in self.undone:
                    self.on(Undone(name, "restored", self.now))
            self.now += NS
            for event in (Ready(), Announced(), Looked(UNTOLD), Tick()):
                self.on(event)
        raise AssertionError(f"it hangs in {self.machine.phase}: {self.machine.fates}")


@given(COURSES, STEPS)
def test_whatever_happens_in_whatever_order(courses: tuple[Course, ...], steps: list[tuple[Event, int]]) -> None:
    world = World(Machine(script(*courses, promises=("kept",))))
    for event, later in steps:
        world.now += later
        world.on(event)
        due = world.machine.due
        assert due is None or world.machine.phase is not Phase.DONE
    world.goes_on()


@given(COURSES, STEPS)
def test_a_drill_under_way_survives_whatever_happens(courses: tuple[Course, ...], steps: list[tuple[Event, int]]) -> None:
    """As above, but from the first fault's injection on, where most of it lies."""
    world = World(Machine(script(*courses, promises=("kept",))))
    begun: tuple[Event, ...] = (Ready(), Looked(YES), Announced(), Injected("a"), Seen("a", "injected"))
    for event, later in (*((event, 0) for event in begun), *steps):
        world.now += later
        world.on(event)
    world.goes_on()
