"""Two drills never touch one target at a time, on either database; and the last one of a name is found with its score."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from probe.clock import SystemClock
from probe.drill.core.facts import Did, FaultDid
from probe.drill.lease import leased
from probe.drill.records import BEGAN, FAULT, last_drill, record_began, record_drill, record_fault
from probe.model.clock import NS
from probe.store import drills
from probe.store.database import Database
from probe.store.drills import Holder, LeaseTaken, overlap
from probe.store.errors import StoreError
from probe.store.store import Store
from probe.store.tables import leases
from tests.store.support import T0
from tests.tools import wait_until

OURS = Holder(drill="edge-down", run="run-1", host="alpha", pid=7)
THEIRS = replace(OURS, drill="origin-restart", run="run-2", host="beta", pid=8)


async def test_a_target_that_is_held_is_refused_and_says_by_whom_and_is_free_afterwards(url: str) -> None:
    async with leased(url, ["sandbox:edge-b", "clients:viewers"], drill="edge-down", run="run-1", lasts=90 * NS):
        with pytest.raises(LeaseTaken, match="sandbox:edge-b is held by drill edge-down .run run-1, on .*, for [0-9]+ s more"):
            async with leased(url, ["sandbox:origin", "sandbox:edge-b"], drill="other", run="run-2", lasts=NS):
                pytest.fail("it is held")
        async with leased(url, ["sandbox:origin"], drill="other", run="run-3", lasts=NS):  # nothing was half taken
            pass
    async with leased(url, ["sandbox:edge-b"], drill="other", run="run-2", lasts=NS):
        pass


async def test_patterns_hold_what_they_mean_and_are_held_by_it(url: str) -> None:
    with Database(url).writer() as connection:
        drills.take(connection, OURS, ["sandbox:edge-*"], 60)
        for target in ("sandbox:edge-b", "sandbox:*", "*:edge-?"):
            with pytest.raises(LeaseTaken, match=r"as sandbox:edge-\*"):
                drills.take(connection, THEIRS, [target], 60)
        drills.take(connection, THEIRS, ["sandbox:origin", "process:edge-b"], 60)


async def test_a_drill_that_was_killed_keeps_nobody_waiting_beyond_its_time(url: str) -> None:
    with Database(url).writer() as connection:
        drills.take(connection, OURS, ["a:b"], 60)
        with pytest.raises(LeaseTaken):
            drills.take(connection, THEIRS, ["a:b"], 60)
        with connection.begin():
            connection.execute(update(leases).values(until=leases.c.until - 61))
        drills.take(connection, THEIRS, ["a:b"], 60)
        with connection.begin():
            assert connection.execute(select(leases.c.run)).scalars().all() == ["run-2"]


async def test_of_many_at_once_one_has_it(url: str) -> None:
    """Each from a connection of its own, at the same instant."""
    barrier, took = threading.Barrier(4), list[str]()

    def take(n: int) -> None:
        with Database(url).writer() as connection:
            barrier.wait(20)
            try:
                drills.take(connection, replace(OURS, run=f"run-{n}"), ["a:b"], 60)
                took.append(f"run-{n}")
            except LeaseTaken:
                pass

    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(asyncio.to_thread(take, n))
    assert len(took) == 1


async def test_a_store_that_cannot_be_asked_refuses_the_drill(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("no database at all, but a text of some length\n" * 40)
    with pytest.raises(StoreError, match="file is not a database"):
        async with leased(f"sqlite:///{tmp_path / 'records'}", ["a:b"], drill="d", run="r", lasts=NS):
            pytest.fail("nobody could tell whether it is held")


NAMES = st.text("ab:*?[.", max_size=6)


@given(NAMES, NAMES)
def test_overlap_has_no_order_and_a_name_overlaps_with_itself(one: str, other: str) -> None:
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, one)
    assert overlap(one, "*") and overlap("*" + one, one)


@given(NAMES, NAMES, st.text("ab:[.", max_size=5))
def test_what_two_patterns_both_mean_is_an_overlap(one: str, other: str, target: str) -> None:
    if overlap(one, target) and overlap(other, target):
        assert overlap(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("sandbox:a", "sandbox:b"), ("a:*", "b:*"), ("http://[::1]/", "http://:/"), ("a.c", "abc")]
)
def test_what_cannot_be_the_same_does_not_overlap(one: str, other: str) -> None:
    assert not overlap(one, other)


async def test_the_last_drill_of_a_name_is_found_with_its_score(url: str, tmp_path: Path) -> None:
    async with Store.opened(url, SystemClock(), tmp_path / "outbox") as store:
        assert await last_drill(store, "edge-down") is None
        for n, run in enumerate(("run-1", "run-2", "run-3")):
            at = T0 + n * NS
            record_began(store, drill="edge-down", run=run, at_ns=at, owner="media-sre", about={"regions": ["eu"]})
            fact = FaultDid(at=n, fault="edge", kind="sandbox", did=Did.SEEN_INJECTED, targets=("sandbox:edge-b",))
            record_fault(store, drill="edge-down", run=run, at_ns=at, fact=fact)
            if run != "run-3":  # it was killed
                score = {"outage_seconds": {"p95": 1.5 + n}, "nothing": None}
                for _ in range(2):  # said twice, it counts once
                    record_drill(
                        store,
                        drill="edge-down",
                        run=run,
                        at_ns=at,
                        owner="media-sre",
                        verdict="weakness",
                        reason="slow",
                        score=score,
                    )
        record_drill(store, drill="other", run="run-9", at_ns=T0, owner="o", verdict="pass", reason="", score={})
        await wait_until(lambda: not store.behind, 20)
        last = await last_drill(store, "edge-down")
        assert last is not None and (last.run, last.verdict, last.reason, last.owner) == (
            "run-2",
            "weakness",
            "slow",
            "media-sre",
        )
        assert last.score == {"outage_seconds": {"p95": 2.5}, "nothing": None}
        before = await last_drill(store, "edge-down", before="run-2")
        assert before is not None and before.run == "run-1"
        assert await last_drill(store, "edge-down", before="run-1") is None
        assert len(await store.events(BEGAN)) == len(await store.events(FAULT, subject="edge-down")) == 3
