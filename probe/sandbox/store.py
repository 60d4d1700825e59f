"""The platform's state: one SQLite file, written ahead, so that a hard end loses nothing that was answered for.

The ledgers are the truth: a balance is the sum of payments less the sum of gifts, never a number of its own. Every call
is a few rows on a local file, so it runs on the loop.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

_SCHEMA = """
create table if not exists meta (name text primary key, value text not null);
create table if not exists rooms (id text primary key, owner text not null, tag text not null, unlisted int not null,
    synthetic int not null, created int not null, publishes int not null default 0);
create table if not exists payments (id text primary key, user text not null, ref text not null, amount int not null,
    currency text not null, at int not null);
create table if not exists gifts (id text primary key, room text not null, user text not null, kind text not null,
    ref text not null, cost int not null, at int not null);
create table if not exists flags (id text primary key, room text not null, user text not null, reason text not null,
    ref text not null, state text not null, at int not null);
create index if not exists payments_by_user on payments (user, ref);
create index if not exists gifts_by_room on gifts (room, ref);
create index if not exists gifts_by_user on gifts (user, ref);
"""
LEDGER_LIMIT = 100_000


class Store:
    """One open file. Rows come as dicts."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_SCHEMA)

    def run(self, sql: str, *values: Any) -> int:
        """One statement; returns how many rows it touched."""
        return self._db.execute(sql, values).rowcount

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute(sql, values).fetchmany(10_000)]

    def get(self, name: str) -> str | None:
        found = self.rows("select value from meta where name = ?", name)
        return str(found[0]["value"]) if found else None

    def set(self, name: str, value: str) -> None:
        self.run("insert into meta values (?, ?) on conflict (name) do update set value = excluded.value", name, value)

    def full(self, table: str) -> bool:
        """A ledger that has grown past its bound takes no more rows."""
        (row,) = self.rows(f"select count(*) as n from {table}")  # noqa: S608  # a name of our own
        return bool(row["n"] >= LEDGER_LIMIT)

    def balance(self, user: str) -> int:
        (row,) = self.rows(
            "select (select coalesce(sum(amount), 0) from payments where user = ?)"
            " - (select coalesce(sum(cost), 0) from gifts where user = ?) as coins",
            user,
            user,
        )
        return int(row["coins"])

    def close(self) -> None:
        self._db.close()
