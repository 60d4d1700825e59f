"""The runner, with a real ledger and a scripted fault: whatever becomes of it, everything that was written down is put back or
said not to be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from probe.clock import BootClock, SystemClock, boottime
from probe.drill.core.facts import ActionSeen, Checked, Did, DrillFact, Entered, FaultDid, Phase, Verdict
from probe.drill.core.file import Drill
from probe.drill.core.readings import Readings
from probe.drill.faults.base import FaultIO, Preparing
from probe.drill.faults.fake import FakeFault, FakeParams
from probe.drill.ledger import Ledger
from probe.drill.prepare import Ready
from probe.drill.runner import INJECT_WITHIN, SEEN_WITHIN, Ended, Job, Runner, course
from probe.drill.undoing import Bound
from probe.drill.watching import Standing
from probe.model.clock import MS, NS
from probe.model.observation import Observation
from probe.net.redact import Redactor
from tests.drill.run.crowd import STAY, Crowd
from tests.tools import wait_until

SOON = Bound(attempt=300 * MS, look=100 * MS, settle=100 * MS, total=700 * MS, pause=50 * MS, longest=100 * MS)


@dataclass
class Dog:
    """A watchdog."""

    died: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""


@dataclass
class Outlook:
    """What is known of the world."""

    known: Standing = field(default_factory=lambda: Standing(named=True))
    injected: list[int] = field(default_factory=list)

    def saw(self, observation: Observation) -> None:
        pass

    def injecting(self, at: int) -> None:
        self.injected.append(at)

    def standing(self) -> Standing:
        return self.known


@dataclass
class Stage:
    """A runner and everything around it."""

    runner: Runner
    crowd: Crowd
    dog: Dog
    outlook: Outlook
    facts: list[DrillFact]
    ledger: Ledger
    file: Path
    on_phase: list[tuple[Phase, Callable[[], object]]] = field(default_factory=list)

    def did(self, fault: str = "it") -> list[Did]:
        return [fact.did for fact in self.facts if isinstance(fact, FaultDid) and fact.fault == fault]

    def at(self, did: Did, fault: str = "it") -> int:
        return next(fact.at for fact in self.facts if isinstance(fact, FaultDid) and fact.did is did and fact.fault == fault)

    @property
    def left(self) -> dict[str, Any]:
        """Tokens of faults that are there, as anybody else sees it."""
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    async def phase(self, phase: Phase) -> None:
        await wait_until(lambda: self.runner.machine.phase is phase, 10, f"phase {phase}")


def drill(**changes: Any) -> Drill:
    whole: dict[str, Any] = {
        "drill": "d", "owner": "o", "scenario": "s", "regions": ("eu",), "min_n": 1,
        "steady": {"of": ["playing >= 100%", "room_start[300ms] >= 99%"], "within": "3s"},
        "method": [{"name": "it", "fault": "fake", "for": "300ms"}],
        "abort": [{"incident": True}],
        "recovery": [{"reconnect": "95%", "within": "2s"}, {"when": "room_start >= 99%", "within": "2s"}],
    }  # fmt: skip
    return Drill.model_validate(whole | changes)


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def made(drill: Drill, *, announce: str = "", **does: Any) -> AsyncIterator[Stage]:
        clock, facts, redactor = SystemClock(), list[DrillFact](), Redactor()
        file = tmp_path / "fake.json"
        readings = Readings(stays=[STAY], min_n=drill.min_n)
        ready = []
        for number, use in enumerate(drill.method):
            params = FakeParams.model_validate({"file": str(file), "name": use.name, **does, **use.with_})
            token, expires = f"{number:08x}", boottime() + 60 * NS
            given = Preparing(clock=clock, token=token, lasts=use.lasts, expires=expires)
            prepared = await FakeFault().prepare(params, given)
            ready.append(Ready(use=use, fault=FakeFault(), prepared=prepared, token=token, expires=expires))

        async def told() -> str:
            return announce

        def noted(fact: DrillFact) -> None:
            facts.append(fact)
            for phase, called in made_of.on_phase:
                if isinstance(fact, Entered) and fact.phase is phase:
                    called()

        with Ledger.opened(tmp_path / "drills", drill=drill.drill, run="0" * 36) as ledger:
            async with Crowd(clock, readings.saw) as crowd:
                dog, outlook = Dog(), Outlook()
                job = Job(
                    drill=drill, regions=("eu", "us"), faults=ready, ledger=ledger, guard=dog, traffic=crowd, readings=readings,
                    outlook=outlook, clock=clock, boot=BootClock(), redactor=redactor, announce=told, put=noted,
                    bound=SOON,
                )  # fmt: skip
                made_of = Stage(Runner(job), crowd, dog, outlook, facts, ledger, file)
                yield made_of

    return made


async def test_a_drill_that_goes_well_passes(stage: Any) -> None:
    async with stage(drill()) as one:
        ended: Ended = await one.runner.run()
        assert (ended.verdict, ended.left, ended.interrupted) == (Verdict.PASS, (), False)
        assert one.did() == [
            Did.WILL, Did.INJECTING, Did.INJECTED, Did.SEEN_INJECTED, Did.RESTORING, Did.SEEN_RESTORED,
        ]  # fmt: skip
        assert one.at(Did.RESTORING) - one.at(Did.SEEN_INJECTED) >= 300 * MS
        assert one.outlook.injected == [one.runner.looks.times.broken]
        assert one.crowd.told == [("cut", "it"), ("restored", "it")]
        assert any(isinstance(fact, ActionSeen) for fact in one.facts)
        phases = [fact.phase for fact in one.facts if isinstance(fact, Entered)]
        assert phases[:2] == [Phase.STEADY, Phase.ANNOUNCE]
        assert phases[-2:] == [Phase.RECOVERY, Phase.DONE]
        assert {fact.part for fact in one.facts if isinstance(fact, Checked)} == {"steady", "abort", "recovery"}
        assert one.left == {}
        assert not one.ledger.book().open


async def test_it_is_on_disk_before_it_is_done(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    async def looks(self: FakeFault, record: Any, io: FaultIO) -> None:
        found.append(one.ledger.path.read_text())
        await real(self, record, io)

    real = FakeFault.inject
    monkeypatch.setattr(FakeFault, "inject", looks)
    async with stage(drill()) as one:
        await one.runner.run()
    assert len(found) == 1
    assert '"will"' in found[0]
    assert "00000000" in found[0]


@pytest.mark.parametrize(
    ("does", "words"),
    [("lies", "not seen to be injected"), ("fails", "could not be injected"), ("vanishes", "vanished"), ("heals", "it was gone")],
)
async def test_a_fault_that_was_not_there_for_its_time_is_invalid(stage: Any, does: str, words: str) -> None:
    lasts = [{"name": "it", "fault": "fake", "for": "20s"}]
    async with stage(drill(method=lasts), does=does, after="400ms") as one:
        ended = await one.runner.run()
        assert (ended.verdict, ended.left) == (Verdict.INVALID, ())
        assert words in ended.reason
        assert one.left == {}


@pytest.mark.parametrize("does", ["stays", "sticks"])
async def test_an_undo_that_fails_or_hangs_is_said_and_stays_in_the_ledger(stage: Any, does: str) -> None:
    async with stage(drill(), does=does) as one:
        ended = await one.runner.run()
        assert (ended.verdict, ended.left) == (Verdict.NOT_RESTORED, ("it",))
        assert list(one.left) == ["00000000"]
        assert [entry.fault for entry in one.ledger.book().open] == ["it"]
        assert one.crowd.told == [("cut", "it")], "nobody is told of a restore that was not seen"


async def test_a_platform_that_does_not_recover_is_a_weakness(stage: Any) -> None:
    async with stage(drill()) as one:
        one.crowd.returns = False
        ended = await one.runner.run()
        assert ended.verdict is Verdict.WEAKNESS
        assert "95% of viewers reconnect within 2s" in ended.reason


async def test_a_promise_that_was_broken_meanwhile_is_a_weakness(stage: Any) -> None:
    async with stage(drill(meanwhile=["playing >= 50%"], method=[{"name": "it", "fault": "fake", "for": "1s"}])) as one:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await one.phase(Phase.HOLD)
            one.crowd.moving = False
            await one.phase(Phase.RECOVERY)
            one.crowd.moving = True
        assert running.result().verdict is Verdict.WEAKNESS
        assert "playing >= 50%" in running.result().reason


async def test_who_leaves_with_the_fault_is_back_after_it(stage: Any) -> None:
    promises = {"meanwhile": ["playing >= 100%"], "method": [{"name": "it", "fault": "fake", "for": "1s"}]}
    async with stage(drill(**promises), departs="viewers") as one:
        ended = await one.runner.run()
        assert ended.verdict is Verdict.WEAKNESS
        assert one.crowd.moving


async def test_what_is_not_steady_is_not_touched(stage: Any) -> None:
    async with stage(drill(steady={"of": ["playing >= 100%"], "within": "700ms"})) as one:
        one.crowd.moving = False
        one.crowd._tell()
        ended = await one.runner.run()
        assert ended.verdict is Verdict.ABORTED
        assert "playing 0.0% of 4" in ended.reason
        assert one.did() == []
        assert one.ledger.book().entries == {}


@pytest.mark.parametrize("why", ["starved", "few"])
async def test_what_cannot_be_told_is_inconclusive_and_not_touched(stage: Any, why: str) -> None:
    few = {"min_n": 1000} if why == "few" else {}
    of = ["room_start >= 99%"] if few else ["playing >= 100%"]
    async with stage(drill(steady={"of": of, "within": "700ms"}, **few)) as one:
        one.crowd.taints = () if few else ("cpu_starved",)
        one.crowd._tell()
        ended = await one.runner.run()
        assert ended.verdict is Verdict.INCONCLUSIVE
        assert ("at least 1000" if few else "the probe is unwell") in ended.reason
        assert one.did() == []


async def test_a_probe_that_starves_while_it_is_to_tell_the_recovery_is_inconclusive(stage: Any) -> None:
    recovery = [{"when": "playing >= 100%", "within": "700ms"}]
    async with stage(drill(recovery=recovery, steady={"of": ["playing >= 100%"], "within": "3s"})) as one:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await one.phase(Phase.HOLD)
            one.crowd.taints = ("cpu_starved",)
        assert running.result().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("abort", "known", "words"),
    [
        ({"incident": True}, Standing(named=True, incidents=("RoomStartFails in us",)), "RoomStartFails in us"),
        ({"budget": "10%"}, Standing(budget={"room-start": 0.25}), "room-start 25.0%"),
        ({"gate": "hold"}, Standing(closed=frozenset({("hold", "us")})), "gate hold is closed in us"),
        ({"when": "playing < 50%"}, None, "playing 0.0%"),
    ],
)
async def test_an_abort_condition_puts_everything_back_at_once(
    stage: Any, abort: dict[str, Any], known: Standing | None, words: str
) -> None:
    lasts = [{"name": "it", "fault": "fake", "for": "30s"}]
    async with stage(drill(abort=[abort], method=lasts)) as one:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await one.phase(Phase.HOLD)
            if known is None:
                one.crowd.moving = False
            else:
                one.outlook.known = known
        assert running.result().verdict is Verdict.ABORTED
        assert words in running.result().reason
        assert one.left == {}


async def test_a_source_of_alerts_that_says_nothing_keeps_it_from_beginning(stage: Any) -> None:
    async with stage(drill()) as one:
        one.outlook.known = Standing(named=True, silent="alertmanager says nothing: refused")
        ended = await one.runner.run()
        assert ended.verdict is Verdict.ABORTED
        assert "alertmanager says nothing" in ended.reason
        assert one.did() == []


async def test_nobody_is_surprised(stage: Any) -> None:
    async with stage(drill(), announce="the webhook answered 500") as one:
        ended = await one.runner.run()
        assert ended.verdict is Verdict.ABORTED
        assert one.did() == []


async def test_a_watchdog_that_dies_ends_it(stage: Any) -> None:
    lasts = [{"name": "it", "fault": "fake", "for": "30s"}]
    async with stage(drill(method=lasts)) as one:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await one.phase(Phase.HOLD)
            one.dog.died.set()
        assert running.result().verdict is Verdict.ABORTED
        assert "watchdog" in running.result().reason
        assert one.left == {}


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.OBSERVE, Phase.HOLD, Phase.RESTORE, Phase.RECOVERY])
async def test_a_cancellation_in_any_phase_comes_back_when_all_is_restored(stage: Any, phase: Phase) -> None:
    """Twice: somebody is impatient."""
    hopeless = [{"when": "room_start < 1%", "within": "60s"}]
    waits = {"steady": {"of": ["room_start < 1%"], "within": "60s"}} if phase is Phase.STEADY else {}
    lasts = [{"name": "it", "fault": "fake", "for": "300ms" if phase in (Phase.RESTORE, Phase.RECOVERY) else "30s"}]
    async with stage(drill(method=lasts, recovery=hopeless, **waits), does="lies" if phase is Phase.OBSERVE else "works") as one:
        running = asyncio.create_task(one.runner.run())
        for _ in range(2):
            one.on_phase.append((phase, lambda: asyncio.get_running_loop().call_soon(running.cancel)))
        ended = await running
        assert ended.verdict is Verdict.ABORTED
        assert ended.interrupted
        assert one.left == {}
        assert not one.ledger.book().open


async def test_two_faults_overlap_and_each_is_put_back_at_its_own_time(stage: Any) -> None:
    method = [
        {"name": "it", "fault": "fake", "for": "1200ms"},
        {"name": "other", "fault": "fake", "at": "400ms", "for": "1500ms"},
    ]
    async with stage(drill(method=method)) as one:
        ended = await one.runner.run()
        assert ended.verdict is Verdict.PASS, ended.reason
        assert one.at(Did.SEEN_INJECTED) < one.at(Did.SEEN_INJECTED, "other") < one.at(Did.SEEN_RESTORED)
        assert one.at(Did.SEEN_RESTORED) < one.at(Did.RESTORING, "other")
        assert one.runner.looks.times.restored == one.at(Did.SEEN_RESTORED, "other")
        assert one.left == {}


async def test_a_ledger_that_takes_nothing_more_keeps_it_from_being_touched(stage: Any) -> None:
    async with stage(drill()) as one:
        one.ledger.leave()
        ended = await one.runner.run()
        assert ended.verdict is Verdict.INVALID
        assert Did.INJECTING not in one.did()
        assert one.left == {}


async def test_a_bug_in_reading_the_conditions_ends_it_restored(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lasts = [{"name": "it", "fault": "fake", "for": "30s"}]
    async with stage(drill(method=lasts)) as one:

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await one.phase(Phase.HOLD)
            monkeypatch.setattr(type(one.runner.looks), "look", broken)
        assert running.result().verdict is Verdict.ABORTED
        assert "a bug" in running.result().reason
        assert one.left == {}


async def test_a_bug_of_ours_in_the_middle_leaves_nothing_broken(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lasts = [{"name": "it", "fault": "fake", "for": "30s"}]
    async with stage(drill(method=lasts)) as one:

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        one.on_phase.append((Phase.HOLD, lambda: monkeypatch.setattr(type(one.runner), "_step", broken)))
        with pytest.raises(ExceptionGroup):
            await one.runner.run()
        assert one.left == {}
        assert not one.ledger.book().open


async def test_who_cannot_draw_it_does_not_end_it(stage: Any) -> None:
    async with stage(drill()) as one:
        told = iter([1])
        object.__setattr__(one.runner.job, "told", lambda _: next(told) and 1 / 0)
        assert (await one.runner.run()).verdict is Verdict.PASS


async def test_it_looks_twice_a_second_and_no_more(stage: Any) -> None:
    recovery = [{"when": "room_start < 1%", "within": "1500ms"}]
    async with stage(drill(recovery=recovery, steady={"of": ["playing >= 100%"], "within": "1500ms"})) as one:
        assert (await one.runner.run()).verdict is Verdict.WEAKNESS
        looks = {fact.at for fact in one.facts if isinstance(fact, Checked) and fact.condition == "room_start < 1%"}
        assert 1 <= len(looks) <= 6


async def test_a_watchdog_that_dies_when_all_is_restored_costs_nothing(stage: Any) -> None:
    async with stage(drill()) as one:
        one.on_phase.append((Phase.RECOVERY, one.dog.died.set))
        assert (await one.runner.run()).verdict is Verdict.PASS


async def test_an_injection_that_heeds_nobody_does_not_keep_it_from_being_put_back(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = asyncio.Event()

    async def deaf(self: FakeFault, record: Any, io: FaultIO) -> None:
        await real(self, record, io)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                pass

    real = FakeFault.inject
    monkeypatch.setattr(FakeFault, "inject", deaf)
    async with stage(drill()) as one:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(one.runner.run())
            await wait_until(lambda: Did.INJECTING in one.did(), 10)
            running.cancel()
            try:
                await wait_until(lambda: Did.SEEN_RESTORED in one.did(), 10)
            finally:
                let_go.set()
        assert one.left == {}


async def test_a_fault_may_say_that_it_takes_longer(stage: Any) -> None:
    async with stage(drill()) as one:
        (ready,) = one.runner.job.faults
        assert (course(ready).inject_within, course(ready).seen_within) == (INJECT_WITHIN, SEEN_WITHIN)
        longer = dict(ready.prepared.record) | {"inject_within": 60 * NS, "seen_within": 30 * NS}
        slow = replace(ready, prepared=replace(ready.prepared, record=longer))
        assert (course(slow).inject_within, course(slow).seen_within) == (60 * NS, 30 * NS)
        for nonsense in (True, "1h", -5, None):
            odd = replace(ready, prepared=replace(ready.prepared, record={"seen_within": nonsense}))
            assert course(odd).seen_within == SEEN_WITHIN
