"""Both databases keep what was put: all of it, once, in pages, by request, and no longer than they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from probe.clock import SystemClock
from probe.export.spool import Spool, SpoolInUse
from probe.model.verdict import Verdict
from probe.store import migrate, reader
from probe.store.database import Database
from probe.store.errors import StoreError, StoreRefused
from probe.store.payload import decode, encode
from probe.store.reader import Records
from probe.store.records import RunBegun
from probe.store.retention import DAY, Retention
from probe.store.rows import Pruned
from probe.store.store import Store
from probe.store.tables import ATTEMPTS, whole
from probe.store.write import write
from tests.store.support import T0, begun, finished, happened, request, run_id
from tests.tools import wait_until


@asynccontextmanager
async def opened(url: str, outbox: Path, **options: object) -> AsyncIterator[Store]:
    async with Store.opened(url, SystemClock(), outbox, **options) as store:  # type: ignore[arg-type]
        yield store


async def carried(store: Store) -> None:
    await wait_until(lambda: not store.behind, 10, f"everything in the database ({store.problem})")


async def test_what_was_put_is_read_back(url: str, tmp_path: Path) -> None:
    first, event = finished(1, release="1.4"), happened(1)
    async with opened(url, tmp_path) as store:
        assert store.put(begun(1))
        await carried(store)
        running = await store.run(run_id(1))
        assert running is not None and (running.state, running.verdict, running.ended_ns) == ("running", "", None)
        assert running.attempts == {}
        for name in RunBegun.__slots__:
            assert getattr(running, name) == getattr(begun(1), name)
        assert await store.report(run_id(1)) is None

        store.put(first)
        store.put(event)
        await carried(store)
        row = await store.run(run_id(1))
        assert row is not None and row.attempts == first.attempts
        for name in ("state", "verdict", "cause", "ended_ns", "crashed", "release"):
            assert getattr(row, name) == getattr(first, name)
        assert row.scenario == "room-start" and row.began_ns == begun(1).began_ns
        assert await store.report(run_id(1)) == first.report_html and await store.verdict(run_id(1)) == first.verdict_json
        assert await store.requests(run_id(1)) == list(first.requests)
        assert await store.events() == [event] == await store.events("gate") and await store.events("reload") == []
        assert await store.run("no such run") is None and store.dropped == store.errors == 0


async def test_what_was_put_twice_counts_once(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        for _ in range(2):
            for record in (begun(1), finished(1), happened(1)):
                store.put(record)
            await carried(store)
        assert [row.run_id for row in await store.runs()] == [run_id(1)]
        assert (await store.sums())["runs"] == 1 and (await store.sums())["done"] == 3
        assert len(await store.events()) == 1 == len(await store.trace(request(1).request_id))


async def test_an_end_without_its_beginning_is_a_run_of_which_less_is_known(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        store.put(finished(1, verdict="fail"))
        await carried(store)
        row = await store.run(run_id(1))
        assert row is not None and (row.verdict, row.scenario, row.began_ns) == ("fail", "", finished(1).ended_ns)
        store.put(begun(1))  # late
        await carried(store)
        row = await store.run(run_id(1))
        assert row is not None and (row.verdict, row.scenario, row.began_ns) == ("fail", "room-start", begun(1).began_ns)


async def test_pages_hold_every_run_once_newest_first_and_filters_hold_together(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        for n in range(40):
            store.put(begun(n, scenario="ab"[n % 2], region=("eu", "us", "apac")[n % 3]))
            store.put(finished(n, verdict="fail" if n % 5 == 0 else "pass"))
        await carried(store)
        found: list[str] = []
        while page := await store.runs(7, found[-1] if found else ""):
            found += [row.run_id for row in page]
        assert found == [run_id(n) for n in reversed(range(40))]
        some = await store.runs(scenario="a", region="us", verdict="fail")
        assert [row.run_id for row in some] == [run_id(10)]
        assert [row.run_id for row in await store.runs(trace_id=f"{7:032x}")] == [run_id(7)]
        assert len(await store.runs(region="eu")) == 14 and await store.runs(region="mars") == []
        assert await store.runs(limit=0) == [] == await store.runs(limit=-1)


async def test_a_request_id_leads_to_run_step_and_every_answer_on_the_way(url: str, tmp_path: Path) -> None:
    sent_on = (request(1, "b2", status=302), request(1, "b3", at_ns=request(1).at_ns + 1), request(9, "b4", step="gift"))
    async with opened(url, tmp_path) as store:
        for record in (begun(1), finished(1, requests=sent_on), begun(2), finished(2)):
            store.put(record)
        await carried(store)
        found = await store.trace(request(1).request_id)
        assert [(f.run.run_id, f.request.status, f.request.span_id) for f in found] == [
            (run_id(1), 302, "b2"),
            (run_id(1), 201, "b3"),
        ]
        assert [f.request.step for f in await store.trace(request(9).request_id)] == ["gift"]
        assert await store.trace("unheard of") == []


async def test_sums_are_of_the_attempts_since_then(url: str, tmp_path: Path) -> None:
    attempts = {name: n + 1 for n, name in enumerate(ATTEMPTS)}
    async with opened(url, tmp_path) as store:
        store.put(begun(1))
        store.put(finished(1, attempts={"done": 1000}))
        for n in (5, 6):
            store.put(begun(n))
            store.put(finished(n, attempts=attempts))
        store.put(begun(7))
        store.put(begun(8))
        store.put(finished(8, state="aborted", crashed="signal 11", attempts={"aborted": 1}))
        await carried(store)
        sums = await store.sums(begun(5).began_ns)
        assert sums == {name: 2 * n for name, n in attempts.items()} | {
            "aborted": 2 * attempts["aborted"] + 1, "runs": 4, "running": 1, "ended": 2, "aborted_runs": 1,
        }  # fmt: skip


async def test_only_what_a_dead_life_of_this_agent_left_running_is_aborted(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path / "dead") as store:
        for record in (begun(1), begun(2), begun(3, agent="eu-1"), finished(2)):
            store.put(record)
    async with opened(url, tmp_path / "alive") as store:
        store.put(begun(4))
        assert await store.abort_in_flight("jakarta-1") == 1
        states = {row.run_id: (row.state, row.crashed, row.verdict) for row in await store.runs()}
        assert states == {
            run_id(1): ("aborted", "killed", "inconclusive"),
            run_id(2): ("ended", "", "pass"),
            run_id(3): ("running", "", ""),
            run_id(4): ("running", "", ""),
        }
        assert await store.abort_in_flight("jakarta-1") == 0


async def test_what_the_dead_one_said_last_is_heard_before_its_runs_are_aborted(url: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, name="records")  # a process that was killed before it got that far
    spool.put(encode(begun(1), "dead"))
    spool.put(encode(finished(1), "dead"))
    spool.put(encode(begun(2), "dead"))
    spool.close()
    async with opened(url, tmp_path) as store:
        assert await store.abort_in_flight("jakarta-1") == 1
        assert [(row.run_id, row.state) for row in await store.runs()] == [(run_id(2), "aborted"), (run_id(1), "ended")]


async def test_what_no_database_takes_is_dropped_and_counted_and_holds_up_nothing(url: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, name="records")
    for payload in (encode(begun(1), "x"), b"", b"garbage" * 9, encode(begun(2, began_ns=2**80), "x"), encode(begun(3), "x")):
        spool.put(payload)
    spool.close()
    async with opened(url, tmp_path) as store:
        await carried(store)
        assert [row.run_id for row in await store.runs()] == [run_id(3), run_id(1)]
        assert store.dropped == 3 and not store.problem


async def test_hostile_texts_and_numbers_are_kept_as_far_as_a_database_can(url: str, tmp_path: Path) -> None:
    hostile = "nul\0 half\ud800 " + "x" * 10_000
    async with opened(url, tmp_path) as store:
        store.put(begun(1, target=hostile, seed=2**200))
        store.put(finished(1, cause=hostile, report_html=hostile, requests=(request(1, step=hostile),)))
        deep = [[[[[[[[[[1]]]]]]]]]]
        store.put(happened(1, why=hostile, data={hostile: hostile, "nan": float("nan"), "deep": deep, "o": object()}))
        await carried(store)
        row = await store.run(run_id(1))
        assert row is not None and row.seed == 2**200 and row.cause.startswith("nul� half? xx") and len(row.cause) == 4_000
        assert store.dropped == 0 and len(await store.report(run_id(1)) or "") == len(hostile)
        (event,) = await store.events()
        assert event.data["nan"] is None and event.why == row.cause
        store.put(finished(2, verdict=Verdict.FAIL, attempts=MappingProxyType({"failed": 1})))
        await carried(store)
        other = await store.run(run_id(2))
        assert other is not None and (other.verdict, other.attempts) == ("fail", {"failed": 1})


async def test_reports_go_first_then_runs_with_all_that_is_theirs(url: str, tmp_path: Path) -> None:
    days, noise = 130, random.Random(5).randbytes(5_000)
    async with opened(url, tmp_path) as store:
        for n in range(days):
            at = T0 + n * DAY
            store.put(begun(n, began_ns=at))
            store.put(finished(n, ended_ns=at, report_html=noise.hex()))
            store.put(happened(n, at_ns=at))
    file = Database(url).file
    size = file.stat().st_size if file else 0
    async with opened(url, tmp_path, retention=Retention(keep=90 * DAY, keep_reports=14 * DAY)) as store:
        gone = await store.prune(T0 + days * DAY)
        assert gone == Pruned(runs=40, reports=116, events=40)
        assert len(await store.runs(1000)) == 90 == len(await store.events())
        assert await store.run(run_id(39)) is None and await store.requests(run_id(39)) == []
        assert await store.trace(request(39).request_id) == [] and await store.trace(request(40).request_id)
        assert await store.report(run_id(115)) is None and await store.report(run_id(116)) and await store.verdict(run_id(116))
        assert await store.prune(T0 + days * DAY) == Pruned()
    assert file is None or file.stat().st_size < size / 2, "the file is as large as before"


async def test_records_are_appended_while_old_ones_are_forgotten(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        for n in range(1000):
            store.put(begun(n, began_ns=T0))
        await carried(store)
        async with asyncio.TaskGroup() as group:
            pruning = group.create_task(store.prune(T0 + 100 * DAY))
            while not pruning.done():
                store.put(happened(1, at_ns=T0 + 100 * DAY))
                await carried(store)
                taken_meanwhile = not pruning.done()
                if taken_meanwhile:
                    break
        assert taken_meanwhile and pruning.result().runs == 1000


async def test_two_agents_that_forget_at_once_take_different_rows(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path / "a") as store, opened(url, tmp_path / "b") as other:
        for n in range(600):
            store.put(finished(n, ended_ns=T0))
        await carried(store)
        gone = await asyncio.gather(store.prune(T0 + 100 * DAY), other.prune(T0 + 100 * DAY))
        assert sum(one.runs for one in gone) == 600 and await store.runs() == []


async def test_whoever_waits_when_the_store_closes_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with opened(f"sqlite:///{tmp_path}/file/nowhere", tmp_path) as store, asyncio.TaskGroup() as group:
        sweeping = group.create_task(store.abort_in_flight("jakarta-1"))
        pruning = group.create_task(_refused(store.prune()))
        await asyncio.sleep(0)
        await asyncio.to_thread(store._writer.stop, 10)
    assert sweeping.result() == 0 and "closed meanwhile" in pruning.result()


async def _refused(asked: Coroutine[Any, Any, object]) -> str:
    try:
        return repr(await asked)
    except StoreError as error:
        return str(error)


async def test_what_waits_at_the_end_is_brought_in_and_the_outbox_is_one_processs(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        with pytest.raises(SpoolInUse):
            async with opened(url, tmp_path):
                pass
        for n in range(300):
            store.put(begun(n))
    async with Records.reading(url, SystemClock()) as records:
        assert len(await records.runs(1000)) == 300


async def test_reading_alone_makes_nothing(empty: str) -> None:
    async with Records.reading(empty, SystemClock()) as records:
        with pytest.raises(StoreError, match="there are no records yet"):
            await records.runs()


async def test_a_question_that_takes_too_long_is_stopped_and_the_next_is_answered(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 0.3)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with opened(url, tmp_path) as store:
        with pytest.raises(StoreError, match="no answer within 0.3 s"):
            await store._ask(lambda c: c.execute(text(endless)).scalar())

        async def answered() -> bool:
            try:
                return await store.runs() == []
            except StoreError:  # the thread may be at it still
                return False

        await wait_until(answered, 5, "an answer")


async def test_more_questions_than_wait_are_refused_at_once(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as store:
        asked = await asyncio.gather(*(store.runs() for _ in range(100)), return_exceptions=True)
        refused = [answer for answer in asked if isinstance(answer, StoreError)]
        assert len(refused) == 100 - reader._WAITING and "32 questions wait" in str(refused[0])
        assert await store.runs() == []


def test_migrations_make_the_tables_and_the_version_is_the_newest(empty: str) -> None:
    assert ScriptDirectory.from_config(migrate._config()).get_current_head() == migrate.HEAD
    connection = Database(empty).writer()
    try:
        assert compare_metadata(MigrationContext.configure(connection), whole()) == []
    finally:
        connection.close()


async def test_agents_that_start_at_once_migrate_once(empty: str, tmp_path: Path) -> None:
    outboxes = [tmp_path / str(n) for n in range(4)]

    async def agent(n: int) -> None:
        async with opened(empty, outboxes[n]) as store:
            store.put(begun(n))
            await carried(store)

    async with asyncio.TaskGroup() as group:
        for n in range(len(outboxes)):
            group.create_task(agent(n))
    connection = Database(empty).reader()
    try:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [migrate.HEAD]
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == len(outboxes)
    finally:
        connection.close()


async def test_a_schema_newer_than_the_program_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    connection = Database(url).writer()
    with connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '7777'"))
    connection.close()
    with pytest.raises(
        StoreRefused, match=f"its schema is 7777, newer than this program, which knows {migrate.HEAD}: install a newer"
    ):
        async with opened(url, tmp_path):
            pass
    async with Records.reading(url, SystemClock()) as records:
        with pytest.raises(StoreRefused, match="newer than this program"):
            await records.runs()


def test_a_migration_that_fails_half_way_leaves_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    def fails(*_args: object, **_kw: object) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "create_index", fails)
        with pytest.raises(Exception, match="planted"):
            Database(empty).writer()
    connection = Database(empty).writer()
    connection.close()


@given(target=st.text(), at=st.integers(0, 2**62), words=st.dictionaries(st.text(max_size=5), st.text(), max_size=3))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_the_way(written: Connection, target: str, at: int, words: dict[str, str]) -> None:
    records = (begun(1, target=target, began_ns=at), finished(1, cause=target, ended_ns=at), happened(1, why=target, data=words))
    with written.begin() as transaction:
        write(written, [decode(encode(record, "x")) for record in records])
        read = written.execute(text("SELECT cause, target, began_ns FROM runs")).one()
        transaction.rollback()
    clean = target.replace("\0", "�").encode("utf-8", "replace").decode()
    assert tuple(read) == (clean, clean, at)


@pytest.fixture
def written(url: str) -> Iterator[Connection]:
    connection = Database(url).writer()
    yield connection
    connection.close()


@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_record_raise_valueerror_and_nothing_else(data: bytes) -> None:
    good = encode(happened(1), "life")
    for candidate in (data, good[: len(data)], good[: len(data)] + data, good + data):
        try:
            decode(candidate)
        except (ValueError, KeyError, TypeError):
            pass


def test_a_report_without_end_is_not_kept_but_its_run_is() -> None:
    entry = decode(encode(finished(1, report_html="x" * (33 << 20)), "life"))
    assert entry.report == b"" and entry.verdict and entry.values["run_id"] == run_id(1)
