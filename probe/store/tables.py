"""The tables, once for both databases. Every change is a migration too; a test holds the two equal.

A run's big texts stand in a table of their own, so that a page of runs reads small rows. Pages are ordered by run id, which is
a UUIDv7 and so begins with its time: the cursor of a page is its last run, and outlives it. What a page is filtered by stands
in each of its indexes, so that a filter that finds next to nothing in a million runs reads an index and no row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Dialect, Index, Integer, LargeBinary, MetaData, Table, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

OUTCOMES = ("done", "failed", "skipped", "cancelled", "aborted")
ATTEMPTS = tuple(name for outcome in OUTCOMES for name in (outcome, f"{outcome}_tainted"))

metadata = MetaData()

# Compared byte by byte: PostgreSQL would else sort and search by a language's rules.
Id = Text().with_variant(Text(collation="C"), "postgresql")


class _Data(TypeDecorator[Any]):
    """JSON. PostgreSQL's own kind is imported where that is the database: an agent on SQLite does without its 3 MiB."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


runs = Table(
    "runs",
    metadata,
    Column("run_id", Id, primary_key=True),
    _text("agent"),
    _text("schedule"),
    Column("scenario", Id, nullable=False, server_default=""),
    _text("mode"),
    _text("publish_region"),
    Column("region", Id, nullable=False, server_default=""),
    _text("target"),
    Column("seed", Text, nullable=False, server_default="0"),  # as large as somebody cares to make it
    Column("run_number", BigInteger, nullable=False, server_default="0"),
    _text("trace_id"),
    Column("due_ns", BigInteger, nullable=False, server_default="0"),
    Column("began_ns", BigInteger, nullable=False),
    _text("probe_version"),
    _text("life"),  # which process began it: what another life of its agent left running is dead
    Column("state", Text, nullable=False, server_default="running"),
    Column("verdict", Id, nullable=False, server_default=""),
    _text("cause"),
    Column("ended_ns", BigInteger),
    *(_count(name) for name in ATTEMPTS),
    _text("crashed"),
    _text("release"),
)
Index("runs_scenario", runs.c.scenario, runs.c.run_id, runs.c.region, runs.c.verdict)
Index("runs_region", runs.c.region, runs.c.run_id, runs.c.scenario, runs.c.verdict)
Index("runs_verdict", runs.c.verdict, runs.c.run_id, runs.c.scenario, runs.c.region)
Index("runs_began", runs.c.began_ns)
Index("runs_trace", runs.c.trace_id)

reports = Table(
    "reports",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("ended_ns", BigInteger, nullable=False),
    Column("verdict_json", LargeBinary, nullable=False),  # both zlib; empty: there is none
    Column("report_html", LargeBinary, nullable=False),
)
Index("reports_ended", reports.c.ended_ns)

requests = Table(
    "requests",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("request_id", Id, primary_key=True),
    Column("span_id", Id, primary_key=True),  # one id may be asked with more than once: redirects
    _text("service"),
    _text("step"),
    _text("method"),
    _count("status"),
    Column("at_ns", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("requests_request", requests.c.request_id)

measures = Table(
    "measures",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("ended_ns", BigInteger, nullable=False),
    Column("data", _Data, nullable=False),
)
Index("measures_ended", measures.c.ended_ns)

gates = Table(
    "gates",
    metadata,
    Column("agent", Id, primary_key=True),
    Column("gate", Id, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("data", _Data, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("event_id", Id, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    _text("agent"),
    _text("kind"),
    _text("subject"),
    _text("region"),
    _text("who"),
    _text("why"),
    Column("data", _Data, nullable=False),
)
Index("events_at", events.c.at_ns)
Index("events_kind", events.c.kind, events.c.at_ns)


agents = Table(
    "agents",
    metadata,
    Column("agent", Id, primary_key=True),
    _text("place"),
    _text("host"),
    Column("pid", BigInteger, nullable=False, server_default="0"),
    Column("at", BigInteger, nullable=False, server_default="0"),  # Unix seconds by the database's clock
)

leases = Table(
    "leases",
    metadata,
    Column("run", Id, primary_key=True),  # of a drill
    Column("target", Id, primary_key=True),
    _text("drill"),
    _text("host"),
    Column("pid", BigInteger, nullable=False, server_default="0"),
    Column("until", BigInteger, nullable=False, server_default="0"),  # Unix seconds by the database's clock
)


def whole() -> MetaData:
    """The tables and all their indexes. That of the runs under way is of some rows only: to say so imports both dialects."""
    if "runs_running" not in {index.name for index in runs.indexes}:
        running = runs.c.state == "running"
        Index("runs_running", runs.c.agent, sqlite_where=running, postgresql_where=running)
    return metadata
