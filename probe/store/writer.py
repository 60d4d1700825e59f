"""The thread that carries records from the outbox into the database: in order, a batch a transaction, until it is told to end.

Whatever the database says (locked, full, read-only, damaged, away, a wrong password) the connection is closed, its words are
kept and logged once, and after a while it is tried again with a new one: a file that was moved away, a server that came back
and a password that was put right all heal by themselves. A batch is taken out of the outbox after its commit, so a kill
between the two writes it twice, which the statements bear.

A record that the database will never take is found by applying its batch one by one, and is dropped and counted: it must not
hold up those behind it. What takes time (retention) is done a step at a time between two batches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from probe.export.spool import Item, Spool
from probe.model.clock import NS, Clock
from probe.store.database import RETRIED, Database
from probe.store.errors import StoreError, StoreRefused
from probe.store.lease import AGAIN, Lease, hold, leave
from probe.store.payload import Entry, decode
from probe.store.retention import Retention, prune
from probe.store.rows import Pruned
from probe.store.write import write

_log = logging.getLogger(__name__)
_BATCH = 200
_BATCH_BYTES = 4 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds between two tries
_NEVER = (KeyError, TypeError, ValueError, OverflowError)  # ValueError: bytes of no record, a half character


class Writer:
    """Starts at once; every method is thread-safe. `tried` is set once the database was tried; then `refused` says whether trying
    again is in vain."""

    def __init__(self, database: Database, outbox: Spool, retention: Retention, clock: Clock, lease: Lease | None = None) -> None:
        self.tried = threading.Event()
        self.refused: StoreRefused | None = None
        self.problem = ""
        self.errors = 0
        self._database = database
        self._outbox = outbox
        self._retention = retention
        self._clock, self._lease = clock, lease
        self._held = 0  # monotonic ns of when the lease was last said
        self._connection: Connection | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._leaving = False
        self._lock = threading.Lock()
        self._sweeps: dict[str, Future[int]] = {}
        self._prunes: list[tuple[int, Future[Pruned]]] = []
        self._pruning: tuple[Iterator[Pruned], list[Pruned], Future[Pruned]] | None = None
        self._thread = threading.Thread(target=self._work, name="store-write", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something in the outbox."""
        self._wake.set()

    def swept(self, mark: str) -> Future[int]:
        """What the sweep of that mark found, once it had its turn. Ask before it is put."""
        found: Future[int] = Future()
        with self._lock:
            self._sweeps[mark] = found
        return found

    def prune(self, now: int) -> Future[Pruned]:
        """Begin to forget what is too old at Unix ns `now`. Fails with StoreError where the database does on the way."""
        gone: Future[Pruned] = Future()
        with self._lock:
            self._prunes.append((now, gone))
        self._wake.set()
        return gone

    def stop(self, seconds: float) -> bool:
        """Empty the outbox as long as the database takes it, then end. Returns whether the thread ended in so many seconds."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(seconds)
        self._leaving = True
        return not self._thread.is_alive()

    # -- in the thread

    def _work(self) -> None:
        pause = 0.0
        try:
            while True:
                if pause:
                    self._stopping.wait(pause)
                elif not self._busy():
                    self._wake.wait(None if self._lease is None else AGAIN)
                self._wake.clear()
                try:
                    carried = self._turn()
                    pause = 0.0
                except Exception as error:  # a bug of ours too must not end the only thread that keeps records
                    self._failed(error)
                    carried = False
                    pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
                self.tried.set()
                if self._leaving or (self._stopping.is_set() and not carried):
                    return
        finally:
            self._leave()

    def _busy(self) -> bool:
        return self._connection is None or bool(self._outbox.count or self._prunes or self._pruning) or self._stopping.is_set()

    def _turn(self) -> bool:
        """One batch, one step of retention. Returns whether there was a batch."""
        if self._connection is None:
            self._connection = self._database.writer()
        self._database.require_same(self._connection)
        self._hold(self._connection)
        if items := self._outbox.peek(_BATCH, _BATCH_BYTES):
            self._carry(self._connection, items)
        self._forget(self._connection)
        if self.problem:
            _log.info("records: %s takes them again; %d wait", self._database.name, self._outbox.count)
            self.problem = ""
        return bool(items)

    def _hold(self, connection: Connection) -> None:
        """Nothing is written by a name that is another's."""
        now = self._clock.now()
        if self._lease is not None and (not self._held or now - self._held >= AGAIN * NS):
            hold(connection, self._lease)
            self._held = now

    def _carry(self, connection: Connection, items: Sequence[Item]) -> None:
        try:
            found = self._commit(connection, [decode(item.payload) for item in items])
        except (DataError, IntegrityError, StatementError, *_NEVER) as error:
            if not _never(error):
                raise
            if len(items) > 1:
                for item in items:
                    self._carry(connection, [item])
                return
            _log.error("records: one was dropped that cannot be kept: %s", self._database.words(error))
            self._outbox.drop([items[0].id], "refused")
            return
        self._outbox.done(item.id for item in items)
        with self._lock:
            waiting = [(self._sweeps.pop(mark, None), count) for mark, count in found.items()]
        for future, count in waiting:
            if future is not None and future.set_running_or_notify_cancel():
                future.set_result(count)

    def _commit(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, int]:
        with connection.begin():
            return write(connection, entries)

    def _forget(self, connection: Connection) -> None:
        if self._pruning is None:
            with self._lock:
                if not self._prunes:
                    return
                now, future = self._prunes.pop(0)
            if future.set_running_or_notify_cancel():
                self._pruning = (prune(connection, self._retention, now), [], future)
            return
        steps, gone, future = self._pruning
        if (step := next(steps, None)) is not None:
            gone.append(step)
            return
        self._pruning = None
        future.set_result(Pruned(**{f.name: sum(getattr(one, f.name) for one in gone) for f in fields(Pruned)}))

    def _failed(self, error: Exception) -> None:
        self._close()
        self._held = 0
        self.errors += 1
        words = self._database.words(error)
        if words != self.problem:
            _log.warning("records: %s", words, exc_info=None if isinstance(error, RETRIED) else error)
        self.problem = words
        if self._pruning is not None:
            self._pruning[2].set_exception(self._database.error(error))
            self._pruning = None
        if isinstance(error, StoreRefused):
            self.refused = error

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except RETRIED:  # what is broken need not end well
                connection.invalidate()

    def _leave(self) -> None:
        if self._connection is not None and self._lease is not None and self._held:
            try:
                leave(self._connection, self._lease)
            except RETRIED as error:
                _log.info("records: the name is given back later: %s", self._database.words(error))
        self._close()
        with self._lock:
            waiting: list[Future[Any]] = [*self._sweeps.values(), *(gone for _, gone in self._prunes)]
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(StoreError("the store was closed meanwhile"))
        if self._pruning is not None:
            self._pruning[2].set_exception(StoreError("the store was closed meanwhile"))


def _never(error: Exception) -> bool:
    """Whether no database would ever take it: its data is at fault, not the database or the way there."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, (StatementError, *_NEVER))
