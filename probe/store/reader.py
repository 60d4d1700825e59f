"""Asking the records from a loop: in a thread, each question with a connection of its own and an end in time.

The connection is closed with the answer: in one process SQLite's connections share what was found out when the first was opened,
and a reader that stays would keep the writer on a disk that was read-only once.

A question that takes too long is stopped where it runs: SQLite asks a handler every so many steps, PostgreSQL has its own
limit. No more than a few wait at a time; who comes then is told so at once.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from sqlalchemy import Connection

from probe.model.clock import MS, NS, Clock
from probe.store import queries
from probe.store.database import RETRIED, Database
from probe.store.errors import StoreError
from probe.store.records import Event, GateKept, Request
from probe.store.rows import Found, Judged, Measured, RunRow

T = TypeVar("T")
_SECONDS = 5.0
_WAITING = 32  # questions at a time
_STEPS = 20_000  # of SQLite's machine between two looks at the clock, well under a ms


class Records:
    """The records, read only. Every method raises StoreError where they cannot be read, or not in time."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._database = Database(url)
        self._clock = clock
        self._asking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-read")
        self._waiting = 0

    @classmethod
    @asynccontextmanager
    async def reading(cls, url: str, clock: Clock) -> AsyncIterator[Self]:
        """The records at `url`, which nothing here changes. Raises StoreRefused where that is no store."""
        records = cls(url, clock)
        try:
            yield records
        finally:
            await records._end_reading()

    async def runs(
        self,
        limit: int = 50,
        before: str = "",
        *,
        scenario: str = "",
        region: str = "",
        verdict: str = "",
        trace_id: str = "",
    ) -> list[RunRow]:
        """Newest first; `before` is the id of the last run of the page before; an empty filter lets all through."""
        filters = {"scenario": scenario, "region": region, "verdict": verdict, "trace_id": trace_id}
        given = {column: value for column, value in filters.items() if value}
        return await self._ask(lambda c: queries.select_runs(c, limit, before, given))

    async def run(self, run_id: str) -> RunRow | None:
        return await self._ask(lambda c: queries.select_run(c, run_id))

    async def report(self, run_id: str) -> str | None:
        """Its report.html; None where there is none, or retention took it."""
        return await self._ask(lambda c: queries.select_big(c, run_id, "report_html"))

    async def verdict(self, run_id: str) -> str | None:
        """Its verdict.json; None where there is none, or retention took it."""
        return await self._ask(lambda c: queries.select_big(c, run_id, "verdict_json"))

    async def requests(self, run_id: str) -> list[Request]:
        """The journey's requests of a run, in the order they were asked."""
        return await self._ask(lambda c: queries.select_requests(c, run_id))

    async def trace(self, request_id: str, limit: int = 20) -> list[Found]:
        """The requests of that id, each with its run; several where an answer sent us on."""
        return await self._ask(lambda c: queries.select_trace(c, request_id, limit))

    async def events(self, kind: str = "", limit: int = 100, subject: str = "") -> list[Event]:
        """Newest first, of one kind or of all, about one subject or all."""
        return await self._ask(lambda c: queries.select_events(c, kind, limit, subject))

    async def measures(self, agent: str, since: int, before: str = "") -> list[Measured]:
        """What windows need of an agent's runs that ended after Unix ns `since`: a page, newest first; `before` is the id of the
        last run of the page before."""
        return await self._ask(lambda c: queries.select_measures(c, agent, since, before))

    async def verdicts(self, since: int, before: str = "") -> list[Judged]:
        """The verdict.json of scheduled runs that ended after Unix ns `since`: a page, newest first, as `measures`. A run whose
        verdict retention took is left out."""
        return await self._ask(lambda c: queries.select_verdicts(c, since, before))

    async def gates(self, agent: str = "") -> list[GateKept]:
        """What agents kept of their gates, or one did."""
        return await self._ask(lambda c: queries.select_gates(c, agent))

    async def sums(self, since: int = 0) -> Mapping[str, int]:
        """Attempts by outcome of the runs begun at Unix ns `since` or later, and how many runs there were by state."""
        return await self._ask(lambda c: queries.select_sums(c, since))

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        if self._waiting >= _WAITING:
            raise StoreError(f"{self._database.name}: {_WAITING} questions wait for an answer already")
        self._waiting += 1
        try:
            async with asyncio.timeout(_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._asking, functools.partial(self._answer, question))
        except TimeoutError:
            raise StoreError(f"{self._database.name}: no answer within {_SECONDS:g} s") from None
        finally:
            self._waiting -= 1

    def _answer(self, question: Callable[[Connection], T]) -> T:
        """In the thread."""
        ends = self._clock.now() + int(_SECONDS * NS)
        try:
            with self._database.reader() as connection, connection.begin():
                self._until(connection, ends)
                return question(connection)
        except RETRIED as error:
            if self._clock.now() >= ends:
                raise StoreError(f"{self._database.name}: no answer within {_SECONDS:g} s") from None
            raise self._database.error(error) from None

    def _until(self, connection: Connection, deadline: int) -> None:
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            driver.set_progress_handler(lambda: self._clock.now() >= deadline, _STEPS)
        else:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max((deadline - self._clock.now()) // MS, 1)}")

    async def _end_reading(self) -> None:
        await asyncio.to_thread(self._asking.shutdown)
