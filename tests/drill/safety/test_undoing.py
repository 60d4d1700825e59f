"""Undoing: what restore says counts for nothing, what is seen does; it is tried again within bounds, by one at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from probe.clock import SystemClock
from probe.drill import locks, undoing
from probe.drill.faults.base import FaultIO, Klass, NotUndone, Observed, Params, Prepared, Record, State
from probe.drill.ledger import Ledger
from probe.drill.undoing import Bound, Outcome, Undone, undo, undo_apart
from probe.model.clock import MS, NS
from probe.net.redact import Redactor
from tests.drill.safety.marker import KIND, prepared
from tests.tools import wait_until

SECRET = "canary-55ab0e-token"
BOUND = Bound(attempt=200 * MS, look=0, settle=0, total=1 * NS, pause=20 * MS, longest=100 * MS)


class Scripted:
    """A fault that does what it is told, in the test's own process. `works_after`: the try from which on restore works."""

    about: ClassVar[str] = "scripted"
    params: ClassVar[type[Params]] = Params

    def __init__(self, *, works_after: int = 1, seen: State | None = None, raises: Exception | None = None, hangs: bool = False):
        self.there, self.restores, self.at_once, self.most_at_once = True, 0, 0, 0
        self._after, self._seen, self._raises, self._hangs = works_after, seen, raises, hangs

    async def prepare(self, params: Any, given: Any) -> Prepared:
        raise NotImplementedError

    async def inject(self, record: Record, io: FaultIO) -> None: ...

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if not self.there:
            return Observed(State.RESTORED)
        return Observed(self._seen or State.INJECTED, f"as asked with {SECRET}")

    async def restore(self, record: Record, io: FaultIO) -> None:
        self.restores += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.restores >= self._after:
                await asyncio.sleep(0.01)
                self.there = False
            elif self._hangs:
                await asyncio.sleep(3600)
            elif self._raises is not None:
                raise self._raises
        finally:
            self.at_once -= 1


@pytest.fixture
def ledger(drills: Path) -> Iterator[Ledger]:
    with Ledger.opened(drills, drill="d", run="r", redactor=Redactor(SECRET)) as ledger:
        ledger.will("cut", KIND, prepared(Path("/tmp/x")), "0a1b2c3d", 60 * NS)
        yield ledger


async def undone(ledger: Ledger, fault: Scripted, bound: Bound = BOUND, **others: Any) -> Undone:
    return await undo(
        ledger.entry(1), ledger, clock=SystemClock(), redactor=Redactor(SECRET), bound=bound, fault=lambda _: fault, **others
    )


def events(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.path.read_text().splitlines()][2:]


async def test_restored_and_seen_to_be_it_is_crossed_out(ledger: Ledger) -> None:
    done = await undone(ledger, Scripted())
    assert (done.state, done.tries, done.by) == (Outcome.RESTORED, 1, "runner")
    assert done.seen is not None and done.began <= done.seen
    assert [event["event"] for event in events(ledger)] == ["trying", "undone"]
    assert not ledger.book().open


async def test_what_fails_is_tried_again_and_every_try_is_told(ledger: Ledger) -> None:
    done = await undone(ledger, Scripted(works_after=4, raises=NotUndone(f"401 for {SECRET}")))
    assert (done.state, done.tries) == (Outcome.RESTORED, 4)
    said = events(ledger)
    assert [event["event"] for event in said] == ["trying", "tried"] * 3 + ["trying", "undone"]
    assert [event["try"] for event in said if event["event"] == "trying"] == [1, 2, 3, 4]
    assert "401 for" in said[1]["why"] and "seen injected" in said[1]["why"]
    assert SECRET not in ledger.path.read_text()


async def test_what_hangs_is_cut_short_and_tried_again(ledger: Ledger) -> None:
    done = await undone(ledger, Scripted(works_after=2, hangs=True))
    assert (done.state, done.tries) == (Outcome.RESTORED, 2)
    assert "longer than 0.2 s" in events(ledger)[1]["why"]


async def test_a_restore_that_lies_is_not_believed(ledger: Ledger) -> None:
    """It says nothing went wrong, every time; the target says otherwise."""
    fault = Scripted(works_after=10**9)
    done = await undone(ledger, fault)
    assert done.state is Outcome.FAILED and done.tries == fault.restores > 2
    assert "seen injected" in done.detail and done.seen is None
    assert events(ledger)[-1]["event"] == "not_undone"
    assert [entry.number for entry in ledger.book().open] == [1]


async def test_an_injection_that_was_on_its_way_when_its_sender_died_is_put_back_when_it_arrives(ledger: Ledger) -> None:
    """The first restore finds nothing yet, and the target looks well."""
    fault = Scripted()
    fault.there = False

    async def arrives() -> None:
        await wait_until(lambda: fault.restores == 1 and not fault.at_once)
        fault.there = True

    async with asyncio.TaskGroup() as group:
        group.create_task(arrives())
        done = await undone(ledger, fault, replace(BOUND, settle=NS))
    assert not fault.there and done.state is Outcome.RESTORED and done.tries == fault.restores == 2


async def test_what_was_seen_injected_is_on_its_way_no_more_and_takes_no_longer(ledger: Ledger) -> None:
    ledger.injected(1)
    async with asyncio.timeout(20):
        assert (await undone(ledger, Scripted(), replace(BOUND, settle=3600 * NS))).state is Outcome.RESTORED


async def test_a_failed_look_is_not_restored(ledger: Ledger) -> None:
    done = await undone(ledger, Scripted(works_after=10**9, seen=State.UNKNOWN))
    assert done.state is Outcome.FAILED and "seen unknown" in done.detail
    assert ledger.book().open


async def test_a_target_that_is_gone_took_the_fault_with_it(ledger: Ledger) -> None:
    done = await undone(ledger, Scripted(works_after=10**9, seen=State.GONE, raises=NotUndone("no such process")))
    assert done.state is Outcome.GONE
    assert ledger.book().ended[1].state == "gone"


async def test_an_observe_that_raises_or_hangs_is_a_failed_look(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Scripted(works_after=10**9)

    async def hangs(*_: Any) -> Observed:
        await asyncio.sleep(3600)
        raise AssertionError

    async def raises(*_: Any) -> Observed:
        raise ZeroDivisionError

    for observe, words in ((hangs, "the look took too long"), (raises, "ZeroDivisionError")):
        monkeypatch.setattr(fault, "observe", observe)
        done = await undone(ledger, fault, Bound(attempt=50 * MS, look=0, settle=0, total=0, pause=1))
        assert done.state is Outcome.FAILED and words in done.detail


async def test_what_has_no_undo_is_waited_for_and_says_who_should_have_brought_it_back(drills: Path) -> None:
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        ready = prepared(Path("/tmp/x"), klass=Klass.IRREVERSIBLE)
        ledger.will("killed", KIND, ready, "0a1b2c3d", 60 * NS)
        failed = await undone(ledger, Scripted(works_after=10**9))
        assert failed.state is Outcome.FAILED and "to be restored by the tooth fairy" in failed.detail
        later = Scripted(works_after=10**9)

        async def comes_back() -> None:
            await asyncio.sleep(0.3)
            later.there = False

        async with asyncio.TaskGroup() as group:
            group.create_task(comes_back())
            done = await undone(ledger, later)
        assert done.state is Outcome.RESTORED


async def test_a_kind_this_program_has_not_is_told_and_stays_open(drills: Path) -> None:
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        ledger.will("odd", "of-another-time", prepared(Path("/tmp/x")), "0a1b2c3d", 60 * NS)
        done = await undo(ledger.entry(1), ledger, clock=SystemClock(), redactor=Redactor(), bound=BOUND)
        assert done.state is Outcome.FAILED and "no fault 'of-another-time'" in done.detail
        assert ledger.book().open


async def test_of_many_at_once_one_does_it_and_the_others_learn_of_it(ledger: Ledger) -> None:
    fault = Scripted()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(undone(ledger, fault, by=f"number {n}")) for n in range(6)]
    results = [task.result() for task in tasks]
    assert {done.state for done in results} == {Outcome.RESTORED}
    assert len({done.by for done in results}) == 1  # all name who it was
    assert fault.restores == 1 and fault.most_at_once == 1
    assert sorted(done.tries for done in results) == [0, 0, 0, 0, 0, 1]


async def test_who_holds_the_lock_and_never_moves_is_waited_for_in_bounds(ledger: Ledger) -> None:
    descriptor = locks.opened(ledger.path, 2)
    assert locks.take(descriptor, locks.undoing(1))
    try:
        done = await undone(ledger, Scripted())
    finally:
        locks.closed(descriptor)
    assert done.state is Outcome.RESTORED


async def test_a_ledger_that_is_gone_or_full_keeps_no_fault_in_place(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Scripted()
    ledger.path.unlink()
    assert (await undone(ledger, fault)).state is Outcome.RESTORED

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ledger, "_write", full)
    fault.there = True
    done = await undone(ledger, fault)
    assert done.state is Outcome.RESTORED and "the ledger could not be told" in done.detail


async def test_a_ledger_on_a_disk_that_hangs_delays_no_undo(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(undoing, "_NOTE", 0.05)
    monkeypatch.setattr(Ledger, "_write", lambda *_: release.wait(20))
    fault = Scripted()
    done = await undone(ledger, fault)
    release.set()
    assert done.state is Outcome.RESTORED and "did not answer in time" in done.detail


async def test_an_undo_that_blocks_its_thread_holds_up_nobody(drills: Path, folder: Path) -> None:
    bound = Bound(attempt=100 * MS, look=0, settle=0, total=200 * MS, pause=10 * MS)
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        for name, how in (("bad", "lies"), ("good", "fine")):
            (folder / name).write_text("0a1b2c3d")
            ledger.will(name, KIND, prepared(folder / name, how), "0a1b2c3d", 60 * NS)
            blocked, release = threading.Event(), threading.Event()

        class Blocks(Scripted):
            async def restore(self, record: Record, io: FaultIO) -> None:
                blocked.set()
                release.wait(30)

        common: dict[str, Any] = {"clock": SystemClock(), "redactor": Redactor(), "bound": bound}
        async with asyncio.TaskGroup() as group:
            bad = group.create_task(undo_apart(ledger.entry(1), ledger, fault=lambda _: Blocks(), **common))
            await asyncio.to_thread(blocked.wait, 10)
            good = await undo_apart(ledger.entry(2), ledger, **common)
            assert good.state is Outcome.RESTORED and not (folder / "good").exists()
            assert not bad.done()
        assert bad.result().state is Outcome.FAILED and "does not heed its bound" in bad.result().detail
        assert ledger.book().open == [ledger.entry(1)]
        release.set()
