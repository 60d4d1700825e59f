"""One session's life: start, stall, reconnect, crash, planned end; with a scripted driver and the real clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from probe.drivers.base import SessionIO, Spec
from probe.errors import DriverBug, Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.observation import (
    CutBegan,
    CutOutcome,
    Note,
    Observation,
    Resumed,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StageDone,
    Window,
)
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Skipped
from probe.model.stage import Phase, Stage
from probe.run.stay import Stay
from tests.run.scripted import Scripted, Source, make_stay
from tests.tools import wait_until

T = TypeVar("T", bound=Observation)


def only(facts: list[Observation], kind: type[T]) -> T:
    (fact,) = [f for f in facts if isinstance(f, kind)]
    return fact


async def forever(io: SessionIO, attempt: int) -> None:
    await asyncio.Event().wait()


async def test_a_start_that_works_has_stages_that_add_up_and_a_planned_end() -> None:
    source = Source()
    driver = Scripted(lambda io, n: source.play(io))
    stay, facts = make_stay(driver)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        assert stay.playing
        stay.end()
    started, ended = only(facts, SessionStarted), only(facts, SessionEnded)
    stages = [f for f in facts if isinstance(f, StageDone)]
    assert sum(stage.took for stage in stages) == started.took
    assert [s.stage for s in stages] == [Stage.PROBE, Stage.SIGNAL, Stage.FIRST_PACKET, Stage.KEYFRAME]
    assert (ended.outcome, ended.ending, driver.left) == (Done(), "planned", 1)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("nothing", Failed(Phase.FIRST_PACKET, "silence", "deadline of 0.5 s passed")),
        ("foreign", Failed(Phase.FIRST_FRAME, "foreign")),
        ("stale", Failed(Phase.FIRST_FRAME, "stale")),
        ("uncoded", Failed(Phase.FIRST_FRAME, "uncoded")),
    ],
)
async def test_a_start_that_never_comes_is_named_by_its_open_stage_or_by_what_it_showed(what: str, expected: Failed) -> None:
    source = Source()

    async def script(io: SessionIO, n: int) -> None:
        if what == "nothing":
            return
        for _ in range(200):
            frame = source.frame(
                io, run=77 if what == "foreign" else 5, old_ms=9000 if what == "stale" else 10, coded=what != "uncoded"
            )
            io.feed.post(frame)
            await asyncio.sleep(0.02)

    stay, facts = make_stay(Scripted(script))
    await stay.run()
    outcome = only(facts, SessionEnded).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.phase, outcome.reason) == (expected.phase, expected.reason)
    assert only(facts, SessionEnded).ending == ""
    assert [f for f in facts if isinstance(f, SessionBegan)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Failure(Phase.SIGNAL, "http_404"), Failed),
        (Unsupported("offered H264, answered AV1"), Skipped),
        (ZeroDivisionError("a bug"), Aborted),
    ],
)
async def test_whatever_a_driver_raises_becomes_an_outcome(error: Exception, expected: type) -> None:
    async def connect(io: SessionIO, n: int) -> None:
        raise error

    stay, facts = make_stay(Scripted(forever, connect))
    await stay.run()
    assert isinstance(only(facts, SessionEnded).outcome, expected)


async def test_a_start_is_never_tried_twice() -> None:
    async def connect(io: SessionIO, n: int) -> None:
        raise Failure(Phase.CONNECT, "refused")

    driver = Scripted(forever, connect)
    stay, _ = make_stay(driver)
    await stay.run()
    assert driver.entered == 1


async def test_a_stall_reconnects_and_tells_the_outage() -> None:
    source = Source()

    async def script(io: SessionIO, n: int) -> None:
        await source.play(io, frames=5 if n == 0 else 10_000)

    driver = Scripted(script)
    stay, facts = make_stay(driver)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: any(isinstance(f, Resumed) for f in facts))
        stay.end()
    resumed = only(facts, Resumed)
    assert (resumed.kind, resumed.outcome, resumed.reconnect) == ("unplanned", CutOutcome.RESTARTED, None)
    assert resumed.outage is not None
    assert 250 * MS <= resumed.outage <= NS
    assert driver.entered == driver.left == 2
    assert only(facts, SessionEnded).ending == "planned"


async def test_what_stays_away_past_the_deadline_has_crashed_with_the_reason_it_stopped() -> None:
    source = Source()

    async def script(io: SessionIO, n: int) -> None:
        await source.play(io, frames=5)
        io.feed.close(Failure(Phase.PLAYING, "ended", "closed by the server"))

    async def connect(io: SessionIO, n: int) -> None:
        if n:
            raise Failure(Phase.CONNECT, "refused")

    driver = Scripted(script, connect)
    stay, facts = make_stay(driver, reconnect=NS)
    await stay.run()
    ended, resumed = only(facts, SessionEnded), only(facts, Resumed)
    assert (ended.outcome, ended.ending) == (Done(), "crashed")
    assert ended.ended_by is not None
    assert (ended.ended_by.phase, ended.ended_by.reason) == (Phase.PLAYING, "ended")
    assert resumed.outcome is CutOutcome.FAILED
    assert resumed.failure is not None
    assert (resumed.failure.phase, resumed.failure.reason) == (Phase.RECONNECTING, "refused")
    assert driver.entered > 2


async def test_a_picture_now_and_then_is_no_recovery() -> None:
    source = Source()
    driver = Scripted(lambda io, n: source.play(io, frames=5))
    stay, facts = make_stay(driver, reconnect=NS)
    await stay.run()
    ended = only(facts, SessionEnded)
    assert ended.ending == "crashed"
    assert ended.ended_by is not None
    assert (ended.ended_by.phase, ended.ended_by.reason) == (Phase.PLAYING, "frozen")
    assert [f.outcome for f in facts if isinstance(f, Resumed)][-1] is CutOutcome.FAILED


async def test_foreign_pictures_after_the_start_are_not_progress() -> None:
    source = Source()

    async def script(io: SessionIO, n: int) -> None:
        if n == 0:
            await source.play(io, frames=5)
        for _ in range(10_000):
            io.feed.post(source.frame(io, run=77))
            await asyncio.sleep(0.02)

    stay, facts = make_stay(Scripted(script), reconnect=NS // 2)
    await stay.run()
    ended = only(facts, SessionEnded)
    assert ended.ended_by is not None
    assert (ended.ended_by.phase, ended.ended_by.reason) == (Phase.PLAYING, "foreign")


async def test_a_cut_that_heals_before_the_stall_is_resumed_by_the_same_session() -> None:
    source = Source()
    gate = asyncio.Event()
    gate.set()

    async def script(io: SessionIO, n: int) -> None:
        while True:
            await gate.wait()
            io.feed.post(source.frame(io))
            await asyncio.sleep(0.02)

    stay, facts = make_stay(Scripted(script), stall=5 * NS)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        stay.cut_began("flap", "cut")
        gate.clear()
        await asyncio.sleep(0.7)
        stay.restored(at=stay.ctx.clock.now())
        gate.set()
        async with asyncio.timeout(5):
            await stay.settled.wait()
        stay.end()
    resumed = only(facts, Resumed)
    assert (resumed.outcome, resumed.kind, resumed.attempts) == (CutOutcome.RESUMED, "flap", 0)
    assert resumed.outage is not None
    assert resumed.reconnect is not None
    assert resumed.outage > 600 * MS > resumed.reconnect


async def test_a_second_ends_where_a_cut_begins() -> None:
    source = Source()
    stay, facts = make_stay(Scripted(lambda io, n: source.play(io)))
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: source.sequence > 10)
        stay.cut_began("flap", "cut")
        stay.end()
    cut = only(facts, CutBegan)
    before = [f for f in facts if isinstance(f, Window) and f.at <= cut.at]
    assert sum(window.verified for window in before) >= 9
    assert all(window.latencies for window in before)


async def test_under_a_cut_the_deadline_waits_for_the_return() -> None:
    source = Source()
    down = True

    async def script(io: SessionIO, n: int) -> None:
        await source.play(io, frames=5 if n == 0 else 10_000)

    async def connect(io: SessionIO, n: int) -> None:
        if n and down:
            raise Failure(Phase.CONNECT, "timeout")

    driver = Scripted(script, connect)
    stay, facts = make_stay(driver, reconnect=NS // 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        stay.cut_began("rebind", "cut")
        await asyncio.sleep(1.5)
        assert not stay.over
        down = False
        stay.restored(at=stay.ctx.clock.now())
        async with asyncio.timeout(5):
            await stay.settled.wait()
        stay.end()
    resumed = only(facts, Resumed)
    assert resumed.outcome is CutOutcome.RESTARTED
    assert resumed.reconnect is not None


async def test_a_401_on_the_way_back_renews_the_credentials() -> None:
    source = Source()
    renewed = asyncio.Event()

    async def refresh() -> None:
        renewed.set()

    async def connect(io: SessionIO, n: int) -> None:
        if n and not renewed.is_set():
            raise Failure(Phase.AUTH, "http_401")

    async def script(io: SessionIO, n: int) -> None:
        await source.play(io, frames=5 if n == 0 else 10_000)

    stay, facts = make_stay(Scripted(script, connect), refresh=refresh)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: any(isinstance(f, Resumed) for f in facts))
        stay.end()
    assert renewed.is_set()


async def test_a_publisher_that_drops_comes_back_as_a_new_attempt() -> None:
    source = Source()
    driver = Scripted(lambda io, n: source.play(io))
    stay, facts = make_stay(driver)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        stay.cut_began("drop", "cut")
        stay.leave()
        await asyncio.sleep(0.2)
        assert driver.left == 1
        stay.come_back()
        stay.restored(at=stay.ctx.clock.now())
        async with asyncio.timeout(5):
            await stay.settled.wait()
        stay.end()
    assert only(facts, Resumed).outcome is CutOutcome.RESTARTED
    assert driver.entered == driver.left == 2


async def test_cancelled_before_it_could_end_is_cancelled_and_leaves_the_driver() -> None:
    driver = Scripted(forever)
    stay, facts = make_stay(driver)
    task = asyncio.get_running_loop().create_task(stay.run())
    await wait_until(lambda: driver.entered)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(only(facts, SessionEnded).outcome, Cancelled)
    assert driver.left == 1


async def test_pictures_that_come_while_an_attempt_is_being_left_are_not_called_a_decode_backlog() -> None:
    source = Source()

    @asynccontextmanager
    async def open_slowly(spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        driver.entered += 1
        io.stages.enter(Stage.KEYFRAME, io.clock.now())
        if driver.entered == 1:
            io.feed.post(source.frame(io))
        try:
            yield
        finally:
            for _ in range(30):  # somebody else's pictures, while we say goodbye
                io.feed.post(source.frame(io, run=77))
                await asyncio.sleep(0.02)

    driver = Scripted(forever)
    driver.open = open_slowly  # type: ignore[method-assign]
    stay, _ = make_stay(driver, start=NS // 4, reconnect=3 * NS)
    worst = 0.0
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        while not stay.over:
            worst = max(worst, stay.feed.backlog if stay.feed is not None else 0.0)
            await asyncio.sleep(0.01)
    assert driver.entered > 3
    assert worst < 0.2


async def test_nor_are_those_that_come_while_a_slow_platform_lets_us_go() -> None:
    source = Source()

    @asynccontextmanager
    async def left_slowly(spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        io.stages.enter(Stage.KEYFRAME, io.clock.now())
        io.feed.post(source.frame(io))
        try:
            yield
        finally:
            for _ in range(30):
                io.feed.post(source.frame(io))
                await asyncio.sleep(0.02)

    driver = Scripted(forever)
    driver.open = left_slowly  # type: ignore[method-assign]
    stay, _ = make_stay(driver)
    worst = 0.0
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: stay.playing)
        stay.end()
        while not stay.done.is_set():
            worst = max(worst, stay.feed.backlog if stay.feed is not None else 0.0)
            await asyncio.sleep(0.01)
    assert worst < 0.2


async def test_a_renewal_that_breaks_is_noted_and_ends_nothing() -> None:
    source = Source()

    async def refresh() -> None:
        raise DriverBug("nothing has provided ${token} yet")

    async def connect(io: SessionIO, n: int) -> None:
        if n == 1:
            raise Failure(Phase.AUTH, "http_401")

    async def script(io: SessionIO, n: int) -> None:
        await source.play(io, frames=5 if n == 0 else 10_000)

    stay, facts = make_stay(Scripted(script, connect), refresh=refresh)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: any(isinstance(f, Resumed) for f in facts))
        stay.end()
    assert only(facts, SessionEnded).ending == "planned"
    assert any("could not be renewed" in note.text for note in facts if isinstance(note, Note))


async def test_no_second_is_told_of_a_session_before_its_intent() -> None:
    stay, facts = make_stay(Scripted(forever))
    stay.tick(stay.ctx.clock.now() + 5 * NS)
    assert facts == []


async def test_the_goodbye_after_a_deadline_is_no_part_of_the_stage_it_found_open() -> None:
    @asynccontextmanager
    async def open_and_hang(spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        io.stages.enter(Stage.ICE, io.clock.now())
        try:
            await asyncio.Event().wait()
            yield
        finally:
            await asyncio.sleep(0.4)

    driver = Scripted(forever)
    driver.open = open_and_hang  # type: ignore[method-assign]
    stay, facts = make_stay(driver, start=NS // 5)
    await stay.run()
    stages = [f for f in facts if isinstance(f, StageDone)]
    assert [s.stage for s in stages] == [Stage.PROBE, Stage.ICE]
    assert sum(s.took for s in stages) == NS // 5


async def ended_while(
    script: Callable[[Source, SessionIO, int], Awaitable[None]], ready: Callable[[Stay, Source], bool], **more: int
) -> list[Observation]:
    """The facts of a stay that is asked to end once `ready`."""
    source = Source()

    async def scripted(io: SessionIO, n: int) -> None:
        await script(source, io, n)

    stay, facts = make_stay(Scripted(scripted), **more)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await wait_until(lambda: ready(stay, source))
        stay.end()
    return facts


async def five(source: Source, io: SessionIO, n: int) -> None:
    if n == 0:
        await source.play(io, frames=5)


def stood(stay: Stay, source: Source, *, ns: int = 700 * MS) -> bool:
    return bool(stay.watch.standing(stay.ctx.clock.now() - (ns - 500 * MS)))


async def test_a_stay_that_is_ended_while_its_picture_stands_leaves_the_interruption_open() -> None:
    facts = await ended_while(five, stood, stall=5 * NS, reconnect=5 * NS)
    resumed, ended = only(facts, Resumed), only(facts, SessionEnded)
    assert (resumed.kind, resumed.outcome, resumed.outage, resumed.attempts) == ("unplanned", CutOutcome.OPEN, None, 0)
    assert resumed.failure is not None
    assert (resumed.failure.phase, resumed.failure.reason) == (Phase.PLAYING, "frozen")
    assert resumed.so_far is not None
    assert 700 * MS <= resumed.so_far <= 3 * NS
    assert (ended.outcome, ended.ending, ended.ended_by) == (Done(), "planned", None)


async def test_a_stay_that_is_ended_while_it_reconnects_leaves_the_interruption_open() -> None:
    facts = await ended_while(five, lambda stay, _: stay.outcome is not None and not stay.playing, reconnect=5 * NS)
    resumed = only(facts, Resumed)
    assert resumed.outcome is CutOutcome.OPEN
    assert resumed.so_far is not None
    assert resumed.so_far >= 250 * MS, "the stall timer's time is part of it"
    assert only(facts, SessionEnded).ending == "planned"


async def test_a_picture_that_stands_for_longer_than_there_is_to_come_back_has_not_come_back() -> None:
    facts = await ended_while(five, stood, stall=5 * NS, reconnect=NS // 2)
    resumed, ended = only(facts, Resumed), only(facts, SessionEnded)
    assert resumed.outcome is CutOutcome.FAILED
    assert resumed.failure is not None
    assert (resumed.failure.phase, resumed.failure.reason) == (Phase.RECONNECTING, "timeout")
    assert (ended.ending, ended.ended_by and ended.ended_by.reason) == ("crashed", "frozen")


async def test_a_stay_that_is_ended_under_a_cut_of_the_journey_is_told_by_that_cut_alone() -> None:
    source = Source()
    stay, facts = make_stay(Scripted(lambda io, n: five(source, io, n)), stall=5 * NS)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        stay.cut_began("flap", "cut")
        await wait_until(lambda: stood(stay, source))
        stay.end()
    assert not [f for f in facts if isinstance(f, Resumed)]
    assert only(facts, SessionEnded).ending == "planned"


async def test_a_stay_that_is_ended_while_it_plays_leaves_nothing_open() -> None:
    facts = await ended_while(lambda source, io, n: source.play(io), lambda _, source: source.sequence > 20)
    assert not [f for f in facts if isinstance(f, Resumed)]


async def test_what_a_cut_of_the_journey_took_for_good_is_that_cuts_failure_and_the_sessions() -> None:
    source = Source()
    stay, facts = make_stay(Scripted(lambda io, n: five(source, io, n)), reconnect=NS // 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(stay.run())
        await stay.started.wait()
        stay.cut_began("flap", "cut")
        await wait_until(lambda: not stay.playing)
        stay.restored(at=stay.ctx.clock.now())
    resumed, ended = only(facts, Resumed), only(facts, SessionEnded)
    assert (resumed.kind, resumed.outcome) == ("flap", CutOutcome.FAILED)
    assert ended.ended_by == resumed.failure
