"""What gates need of the records: measures of runs and what an agent kept of its gates, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from sqlalchemy import text

from probe.clock import SystemClock
from probe.store import migrate
from probe.store.database import Database
from probe.store.reader import Records
from probe.store.records import GateKept
from probe.store.retention import DAY, Retention
from probe.store.store import Store
from tests.store.support import T0, begun, finished, run_id
from tests.tools import wait_until

PARTS = {"room_start": {"": [1, 1, 1]}, "first_frame": {"whep": [0, 0, 2, [0.25, 1.5]]}}


def kept(key: str, at: int, **data: object) -> GateKept:
    return GateKept(agent="jakarta-1", key=key, at_ns=T0 + at, data=data)


async def test_measures_are_read_back_by_agent_and_time_newest_first(url: str, tmp_path: Path) -> None:
    async with Store.opened(url, SystemClock(), tmp_path) as store:
        for n in range(4):
            store.put(begun(n, agent="another" if n == 2 else "jakarta-1"))
            store.put(finished(n, measures=PARTS if n != 3 else {}))
        await wait_until(lambda: not store.behind, 10)
        found = await store.measures("jakarta-1", 0)
        assert [one.run_id for one in found] == [run_id(1), run_id(0)]  # 2 is another's, of 3 there was nothing to keep
        assert (found[0].data, found[0].schedule, found[0].mode) == (PARTS, "room-start", "scheduled")
        assert found[0].ended_ns == finished(1).ended_ns and found[0].due_ns == begun(1).due_ns
        assert [one.run_id for one in await store.measures("jakarta-1", finished(0).ended_ns)] == [run_id(1)]
        assert [one.run_id for one in await store.measures("jakarta-1", 0, run_id(1))] == [run_id(0)]


async def test_of_a_gate_the_last_word_counts_within_a_batch_and_after_it(url: str, tmp_path: Path) -> None:
    async with Store.opened(url, SystemClock(), tmp_path) as store:
        for at, position in enumerate(("open", "closed", "open")):
            store.put(kept("a", at, position=position))
        store.put(kept("b", 9, position="open"))
        await wait_until(lambda: not store.behind, 10)
        store.put(kept("a", 10, position="closed", pending=[{"id": "x"}]))
        await wait_until(lambda: not store.behind, 10)
        found = {one.key: one for one in await store.gates("jakarta-1")}
        assert found["a"].data == {"position": "closed", "pending": [{"id": "x"}]} and found["a"].at_ns == T0 + 10
        assert found["b"].data == {"position": "open"} and len(await store.gates()) == 2
        assert await store.gates("another") == []


async def test_measures_go_when_no_window_reaches_back_to_them_and_with_their_run(url: str, tmp_path: Path) -> None:
    async with Store.opened(url, SystemClock(), tmp_path, retention=Retention(keep=30 * DAY)) as store:
        store.put(begun(1))
        store.put(finished(1, measures=PARTS))
        await wait_until(lambda: not store.behind, 10)
        await store.prune(T0 + 7 * DAY)
        assert len(await store.measures("jakarta-1", 0)) == 1
        await store.prune(T0 + 9 * DAY)
        assert await store.measures("jakarta-1", 0) == [] and await store.run(run_id(1)) is not None


async def test_records_of_the_schema_before_are_brought_forward_and_kept(empty: str, tmp_path: Path) -> None:
    def old() -> None:
        database = Database(empty)
        connection = database._engine(write=True).connect()
        with connection.begin():
            config = migrate._config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        with connection.begin():
            connection.execute(text("INSERT INTO runs (run_id, agent, began_ns) VALUES ('r1', 'jakarta-1', 1)"))
        connection.close()

    if empty.startswith("sqlite"):
        Path(empty.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(old)
    async with Store.opened(empty, SystemClock(), tmp_path / "outbox") as store:
        store.put(kept("a", 1, position="open"))
        await wait_until(lambda: not store.behind, 10, store.problem)
    async with Records.reading(empty, SystemClock()) as records:
        assert [row.run_id for row in await records.runs()] == ["r1"]
        assert len(await records.gates("jakarta-1")) == 1
