"""The records of an agent. `put` writes to the outbox on disk and returns; a thread brings them to the database when it can.

What the agent measures never waits for the database and is never lost with it: the outbox is bounded, drops its oldest when
full, and counts that. Reading is separate (reader.py), so that a page is served while the database is locked by a writer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from probe.export.spool import Spool
from probe.model.clock import Clock
from probe.store.database import Database
from probe.store.errors import StoreError
from probe.store.lease import Lease
from probe.store.payload import Swept, encode
from probe.store.reader import Records
from probe.store.records import Record
from probe.store.retention import RETENTION, Retention
from probe.store.rows import Pruned
from probe.store.writer import Writer

OUTBOX_BYTES = 256 * 10**6
_OPEN_SECONDS = 5.0  # how long the first try is waited for
_SWEEP_SECONDS = 5.0
_STOP_SECONDS = 5.0  # what the database has not taken by then waits in the outbox for the next life


class Store(Records):
    """Records that can be put. `put` may be called from any thread; all else from the loop."""

    def __init__(self, url: str, clock: Clock, outbox: Spool, retention: Retention, lease: Lease | None = None) -> None:
        super().__init__(url, clock)
        self._outbox = outbox
        self._life = secrets.token_hex(8)
        self._writer = Writer(self._database, outbox, retention, clock, lease)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        url: str,
        clock: Clock,
        outbox: Path,
        *,
        retention: Retention = RETENTION,
        limit: int = OUTBOX_BYTES,
        lease: Lease | None = None,
    ) -> AsyncIterator[Self]:
        """The store at `url`, its schema brought to this program's, with an outbox of at most `limit` bytes in the directory
        `outbox`. A database that cannot be reached is no error: see `problem`. `lease`: the name that is written by; while it is
        another's, records wait. Raises StoreRefused where waiting will not help or the name is another's, SpoolInUse where
        another process has the outbox. At the end the outbox is emptied as far as the database takes it."""
        Database(url)  # refused before anything is opened
        spool = await asyncio.to_thread(Spool, outbox, limit, name="records")
        try:
            store = cls(url, clock, spool, retention, lease)
            try:
                await asyncio.to_thread(store._writer.tried.wait, _OPEN_SECONDS)
                if store._writer.refused is not None:
                    raise store._writer.refused
                yield store
            finally:
                await asyncio.to_thread(store._writer.stop, _STOP_SECONDS)
                await store._end_reading()
        finally:
            await asyncio.to_thread(spool.close)

    def put(self, record: Record) -> bool:
        """Append; returns whether the outbox took it. Never raises, never waits for the database. A run's end carries its report
        and compresses it, some ms for each MB: put that from a thread."""
        taken = self._outbox.put(encode(record, self._life))
        self._writer.wake()
        return taken

    async def abort_in_flight(self, agent: str) -> int:
        """Runs of this agent that a dead process left running are aborted, once what that process had to say of them is in the
        database. Returns how many; 0 too where the database is not to be had now, and it is done when it is."""
        sweep = Swept(mark=secrets.token_hex(8), agent=agent, at_ns=self._clock.wall().unix_ns)
        found = self._writer.swept(sweep.mark)
        self._outbox.put(encode(sweep, self._life))
        self._writer.wake()
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                return await asyncio.wrap_future(found)
        except (TimeoutError, StoreError):
            return 0

    async def prune(self, now: int | None = None) -> Pruned:
        """Forget what is older than the retention says at Unix ns `now`. Raises StoreError where the database fails meanwhile."""
        when = self._clock.wall().unix_ns if now is None else now
        return await asyncio.wrap_future(self._writer.prune(when))

    @property
    def behind(self) -> int:
        """Records not yet in the database."""
        return self._outbox.count

    @property
    def dropped(self) -> int:
        """Records lost: the outbox was full, its disk refused, or the database would never take them."""
        return self._outbox.dropped

    @property
    def outbox(self) -> Spool:
        """For its figures."""
        return self._outbox

    @property
    def outbox_bytes(self) -> int:
        return self._outbox.bytes

    @property
    def problem(self) -> str:
        """Why the database takes nothing now, in words without secrets; empty while all is well."""
        return self._writer.problem

    @property
    def errors(self) -> int:
        """How often it has failed."""
        return self._writer.errors
