"""One connection to the records, as a writer or a reader has it; and what its errors mean, in words.

SQLite: write-ahead log, so that readers and the writer never wait for each other; a writer begins with its lock (BEGIN
IMMEDIATE) so that two never deadlock half-way; `synchronous=FULL`, since one sync a batch is cheap and what was taken out of
the outbox must not be lost with the power. PostgreSQL: psycopg 3, every wait bounded by the server or by TCP.

A connection that has failed once is closed and never used again. There is no pool.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from probe.errors import ProbeError
from probe.net.redact import Redactor
from probe.store import address, migrate
from probe.store.errors import StoreError, StoreRefused

_BUSY_SECONDS = 1.0  # for another's lock; who waits longer does so between tries, and can be stopped there
_CONNECT_SECONDS = 5
_STATEMENT_MS = 30_000
_WAL_LIMIT = 64 * 2**20
_CACHE_KIB = {False: 8192, True: 1024}  # a writer stays open for months, and appends; a reader is gone with its answer
_TIMES = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5}
_WAITS = "records wait in the outbox"
_DAMAGED = f"move it away with its -wal and -shm and a new one is begun ({_WAITS}); or recover it: sqlite3 FILE .recover"
_REMEDIES = (
    ("file is not a database", _DAMAGED),
    ("malformed", _DAMAGED),
    ("is locked", f"another program holds it; {_WAITS}"),
    ("is full", f"make room on its disk; {_WAITS}"),
    ("disk i/o error", f"look at its disk, its quota and its limits; {_WAITS}"),
    ("readonly database", f"its file and directory must be writable by this user; {_WAITS}"),
    ("unable to open", "its directory must be there and be writable by this user"),
)  # fmt: skip


class Database:
    """Opens connections to the database at `url`. Raises StoreRefused where it is none of ours."""

    def __init__(self, url: str) -> None:
        self._url = address.parse(url)
        self._redactor = Redactor(*address.secrets(self._url))
        self._engines: dict[bool, Engine] = {}
        self.name = self._redactor.redact(address.name(self._url))

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    @property
    def file(self) -> Path | None:
        """Of SQLite."""
        return Path(str(self._url.database)) if self._url.drivername == "sqlite" else None

    def writer(self) -> Connection:
        """A connection to write with; the database is made and brought to this program's schema first."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        connection = self._engine(write=True).connect()
        try:
            connection.info["file"] = None if self.file is None else _identity(self.file)
            migrate.migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self) -> Connection:
        """A connection to read with; it changes nothing. Raises StoreError where there are no records of this schema."""
        if self.file is not None and not self.file.exists():
            raise StoreError(f"{self.name}: there are no records yet")
        connection = self._engine(write=False).connect()
        try:
            migrate.require(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def require_same(self, connection: Connection) -> None:
        """Raises StoreError where SQLite's file is not the one that was opened: somebody moved it away, or another in its place.
        Nobody would ever read what is written to it."""
        if self.file is not None and connection.info.get("file") != _identity(self.file):
            raise StoreError(f"{self.name}: the file was moved or replaced; it is opened anew")

    def words(self, error: BaseException) -> str:
        """What went wrong, where, and what to do; no password."""
        if isinstance(error, ProbeError):
            text = str(error)
            return text if self.name in text else f"{self.name}: {text}"
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = " ".join(str(cause).split())[:400] or type(cause).__name__
        remedy = next((f": {what}" for sign, what in _REMEDIES if self.file is not None and sign in text.lower()), "")
        return self._redactor.redact(f"{self.name}: {text}{remedy}")

    def error(self, error: BaseException) -> StoreError:
        """As one of ours."""
        return error if isinstance(error, StoreError) else StoreError(self.words(error))

    def _engine(self, *, write: bool) -> Engine:
        if write not in self._engines:
            self._engines[write] = self._made(write)
        return self._engines[write]

    def _made(self, write: bool) -> Engine:
        if self.file is not None:
            return _sqlite(self.file, write)
        try:
            return _postgresql(self._url, write)
        except ImportError:
            raise StoreRefused("records in PostgreSQL need psycopg: pip install 'stream-probe[postgresql]'") from None


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sqlite(file: Path, write: bool) -> Engine:
    uri = f"file:{quote(str(file))}?mode={'rwc' if write else 'ro'}"

    def connect() -> sqlite3.Connection:
        # Who closes a connection need not be the thread that used it.
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA cache_size={-_CACHE_KIB[write]}")
            if write:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # a new file only; before anything is in it
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    begin = "BEGIN IMMEDIATE" if write else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql(url: Any, write: bool) -> Engine:
    given = {key: value for key, value in _TIMES.items() if key not in url.query}
    # No prepared statements and no options of the connection: poolers between us and the server know neither.
    arguments = {"application_name": "stream-probe", "prepare_threshold": None, **given}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {_STATEMENT_MS}")
            # What was committed leaves the outbox, so it must be safe, whatever the server's own setting is.
            cursor.execute("SET synchronous_commit = on" if write else "SET default_transaction_read_only = on")
        connection.autocommit = False

    return engine


RETRIED = (SQLAlchemyError, StoreError, sqlite3.Error, OSError)
