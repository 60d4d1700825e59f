"""Two drills never touch one target at a time: what each may hit is held in the shared store while it runs (store/drills.py).

A store that cannot be reached refuses the drill: whether another is at it cannot be told then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Connection

from probe.model.clock import NS
from probe.store import drills
from probe.store.database import RETRIED, Database
from probe.store.drills import Holder, LeaseTaken
from probe.store.errors import StoreError

_log = logging.getLogger(__name__)
_MOST = 10.0  # s, for a store that does not answer

__all__ = ["LeaseTaken", "leased"]


@asynccontextmanager
async def leased(store: str, targets: Sequence[str], *, drill: str, run: str, lasts: int) -> AsyncIterator[None]:
    """They are this drill's while the block lasts, and at most `lasts` ns. `store`: its URL (store.address.resolve). Raises
    LeaseTaken naming who has one of them, StoreError where the store cannot be asked."""
    holder = Holder(drill=drill, run=run, host=platform.node(), pid=os.getpid())
    database = Database(store)
    await _asked(database, lambda connection: drills.take(connection, holder, targets, -(-lasts // NS)))
    try:
        yield
    finally:
        try:
            await _asked(database, lambda connection: drills.give_back(connection, run))
        except StoreError as error:  # they end by themselves
            _log.warning("what drill %s held is free at its time only: %s", drill, error)


async def _asked(database: Database, question: Callable[[Connection], None]) -> None:
    def ask() -> None:
        try:
            with database.writer() as connection:
                question(connection)
        except RETRIED as error:
            raise database.error(error) from None

    try:
        async with asyncio.timeout(_MOST):
            await asyncio.to_thread(ask)
    except TimeoutError:
        raise StoreError(f"{database.name}: no answer within {_MOST:g} s") from None
