"""A run that is held open from outside: what its sessions are told, and what they make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from probe.clock import SystemClock
from probe.drivers.base import SessionIO
from probe.model.clock import NS
from probe.model.observation import CutBegan, CutOutcome, Observation, Restored, Resumed, Role
from probe.model.outcome import Done
from probe.run.outside import JOINED, KIND, Outside, meant
from probe.run.stay import Stay
from tests.run.scripted import Scripted, Source, make_stay
from tests.tools import wait_until


@asynccontextmanager
async def held(*stays: Stay) -> AsyncIterator[Outside]:
    """A run come to its hold, with sessions that play."""
    outside = Outside()
    async with asyncio.TaskGroup() as group:
        sessions = SimpleNamespace(stays=list(stays), group=group, ctx=stays[0].ctx)
        holding = group.create_task(outside.hold(cast(Any, sessions)))
        for stay in stays:
            group.create_task(stay.run())
        for stay in stays:
            await stay.started.wait()
        await outside.held.wait()
        try:
            yield outside
        finally:
            outside.release()
            for stay in stays:
                stay.end()
    assert isinstance(holding.result(), Done)


def kept(facts: Sequence[Observation], *kinds: type) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kinds)]


def playing(**more: Any) -> tuple[Stay, list[Observation]]:
    source = Source()

    async def script(io: SessionIO, attempt: int) -> None:
        await source.play(io)

    return make_stay(Scripted(script), **more)


def test_who_is_meant() -> None:
    assert [meant(who, Role.VIEWER, "whep") for who in ("viewers", "publisher", "everybody", "whep", "hls")] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert [meant(who, Role.PUBLISHER, "whip") for who in ("viewers", "publisher", "everybody", "whip")] == [
        False, True, True, False,
    ]  # fmt: skip


async def test_faults_that_overlap_are_one_cut_until_the_last_is_restored() -> None:
    stay, facts = playing()
    clock = SystemClock()
    async with held(stay) as outside:
        outside.cut_began("first")
        outside.cut_began("second")
        outside.restored("first", clock.now())
        await asyncio.sleep(0.1)
        assert kept(facts, Restored, Resumed) == []
        outside.restored("second", at := clock.now())
        await wait_until(lambda: kept(facts, Resumed))
    assert [(fact.kind, fact.step) for fact in kept(facts, CutBegan)] == [(KIND, "first")]
    (back,), (end,) = kept(facts, Restored), kept(facts, Resumed)
    assert back.at == at
    assert (end.step, end.outcome) == ("first", CutOutcome.UNAFFECTED)


async def test_a_fault_that_begins_before_a_viewer_is_back_is_the_same_cut_and_its_time_counts_anew() -> None:
    """The picture stops; the first fault is over, and before it is back the second begins. There is NS to come back, and more
    goes by while that stands."""
    source, broken, tries = Source(), asyncio.Event(), 0

    async def script(io: SessionIO, attempt: int) -> None:
        nonlocal tries
        tries += 1
        while not broken.is_set():
            io.feed.post(source.frame(io))
            await asyncio.sleep(0.02)
        io.feed.close()

    stay, facts = make_stay(Scripted(script), reconnect=NS)
    clock = SystemClock()
    async with held(stay) as outside:
        outside.cut_began("first")
        broken.set()
        await wait_until(lambda: not stay.playing)
        outside.restored("first", clock.now())
        outside.cut_began("second")
        await asyncio.sleep(1.5)
        assert not stay.over, "it gave up while the fault stood"
        broken.clear()
        outside.restored("second", clock.now())
        await wait_until(lambda: kept(facts, Resumed))
        assert stay.playing
    (end,) = kept(facts, Resumed)
    assert (end.step, end.outcome) == ("first", CutOutcome.RESTARTED)
    assert end.outage is not None
    assert end.outage >= 1.5 * NS
    assert len(kept(facts, Restored)) == 2
    assert len(kept(facts, CutBegan)) == 1


async def test_one_after_the_other_are_two_cuts() -> None:
    stay, facts = playing()
    async with held(stay) as outside:
        for fault in ("first", "second"):
            outside.cut_began(fault)
            outside.restored(fault, SystemClock().now())
            await wait_until(lambda: len(kept(facts, Resumed)) == len(kept(facts, CutBegan)))
    assert [fact.step for fact in kept(facts, Resumed)] == ["first", "second"]


async def test_who_departs_stays_away_until_they_are_let_back() -> None:
    stay, facts = playing()
    async with held(stay) as outside:
        assert (outside.playing("viewers"), outside.playing("publisher"), outside.away("viewers")) == (1, 0, 0)
        outside.cut_began("storm")
        assert outside.depart("viewers") == 1
        await wait_until(lambda: not stay.playing)
        assert outside.depart("viewers") == 0
        assert outside.away("viewers") == 1
        assert outside.come_back("publisher") == 0
        assert outside.come_back("viewers") == 1
        assert outside.away("viewers") == 0
        await wait_until(lambda: stay.playing)
        outside.restored("storm", SystemClock().now())
        await wait_until(lambda: kept(facts, Resumed))
    (end,) = kept(facts, Resumed)
    assert end.outcome is CutOutcome.RESTARTED


async def test_a_crowd_that_joined_is_no_audience() -> None:
    stay, _ = playing()
    crowd, told = playing()
    object.__setattr__(crowd.began, "step", JOINED)
    async with held(stay, crowd) as outside:
        outside.cut_began("storm")
        assert kept(told, CutBegan) == []
        assert outside.playing("viewers") == 1
        assert outside.joined() == 1
        await outside.leave()
        assert outside.joined() == 0
        assert not stay.over


async def test_before_its_hold_and_after_its_release_nobody_can_join() -> None:
    outside = Outside()
    assert outside.join(5, NS) == 0
    assert (outside.playing("viewers"), outside.joined(), outside.paths("everybody")) == (0, 0, [])
    stay, _ = playing()
    async with held(stay) as outside:
        pass
    assert outside.join(5, NS) == 0
