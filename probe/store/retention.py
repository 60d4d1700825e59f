"""What is forgotten, and when: reports and verdict.json first, then runs with all that is theirs, and events.

Taken away a few rows a step, each in a transaction of its own of some milliseconds, so that neither the writer nor another
agent on the same database waits; between two steps the outbox is emptied. SQLite gives pages back to the disk the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, delete, select

from probe.model.clock import NS
from probe.store.rows import Pruned
from probe.store.tables import events, measures, reports, requests, runs

DAY = 86_400 * NS
_REPORTS, _RUNS, _EVENTS, _MEASURES = 50, 100, 500, 500  # rows a step
_WINDOW = 8 * DAY  # measures of runs, in which no gate looks back further
_PAGES = 500  # of a file, given back in a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long, in ns: `keep` rows, since a run began; `keep_reports` reports and verdicts, since it ended."""

    keep: int = 90 * DAY
    keep_reports: int = 14 * DAY


RETENTION = Retention()


def prune(connection: Connection, retention: Retention, now: int) -> Iterator[Pruned]:
    """Each step removes some and says how much; the caller goes on whenever it likes. `now`: Unix ns."""
    while gone := _forget(connection, reports, reports.c.ended_ns, now - retention.keep_reports, _REPORTS):
        yield Pruned(reports=gone)
    while _forget(connection, measures, measures.c.ended_ns, now - min(retention.keep, _WINDOW), _MEASURES):
        yield Pruned()
    while gone := _forget(connection, runs, runs.c.began_ns, now - retention.keep, _RUNS, (requests, reports, measures)):
        yield Pruned(runs=gone)
    while gone := _forget(connection, events, events.c.at_ns, now - retention.keep, _EVENTS):
        yield Pruned(events=gone)
    while connection.dialect.name == "sqlite" and _give_back(connection):
        yield Pruned()


def _forget(
    connection: Connection, table: Table, when: Column[int], before: int, most: int, belonging: tuple[Table, ...] = ()
) -> int:
    """Delete the oldest rows, and those of the tables `belonging` that have the same run."""
    (key,) = table.primary_key.columns
    with connection.begin():
        # Another agent may be forgetting the same ones: PostgreSQL gives each its own.
        some = select(key).where(when < before).order_by(when).limit(most).with_for_update(skip_locked=True)
        old = connection.execute(some).scalars().all()
        if old:
            for other in belonging:
                connection.execute(delete(other).where(other.c.run_id.in_(old)))
            connection.execute(delete(table).where(key.in_(old)))
    return len(old)


def _give_back(connection: Connection) -> bool:
    """Whether pages of the file were free, and are the disk's again."""
    with connection.begin():
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0
        driver = connection.connection.driver_connection
        if free and driver is not None:
            driver.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()  # a page a row, and the rows have no columns
    return bool(free)
