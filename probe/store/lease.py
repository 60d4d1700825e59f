"""A name is one agent's: who writes by it says so in the records, and whoever else comes by it is refused.

Two agents of one name would abort each other's runs as those of a dead life. On one machine the lock of the state directory
keeps them apart; on one PostgreSQL only the database can. The row is said again while its agent lives, and is nobody's once it
has not been for `LASTS`. It belongs to a state directory, not to a process: whoever holds that directory knows that its last
agent is dead, and is not kept waiting after a kill. Time is the database's own; hosts need not agree on theirs.

Not chosen: an advisory lock. It is PostgreSQL's alone, is gone with a broken connection while its agent lives on, and poolers
between us and the server do not keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, delete, extract, func, or_, select

from probe.store.errors import StoreRefused
from probe.store.tables import agents
from probe.store.write import insert

LASTS = 60  # s
AGAIN = 15.0  # s after which it is to be said again


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """`agent` is the name, `place` the state directory it is held from, `host` and `pid` for people."""

    agent: str
    place: str
    host: str
    pid: int


def hold(connection: Connection, lease: Lease) -> None:
    """Take it, or say it again; a transaction of its own. Raises StoreRefused where another has it."""
    now = seconds(connection)
    row = {"agent": lease.agent, "place": lease.place, "host": lease.host, "pid": lease.pid, "at": now}
    theirs = or_(agents.c.place == lease.place, func.abs(now - agents.c.at) > LASTS)
    into = insert(connection.dialect.name)(agents).values(row)
    changed = {name: into.excluded[name] for name in ("place", "host", "pid", "at")}
    with connection.begin():
        connection.execute(into.on_conflict_do_update(index_elements=["agent"], set_=changed, where=theirs))
        holds = connection.execute(select(agents, (now - agents.c.at).label("ago")).where(agents.c.agent == lease.agent)).one()
    if holds.place != lease.place:
        raise StoreRefused(
            f"another agent called {lease.agent} writes these records: on {holds.host}, process {holds.pid}, heard of "
            f"{holds.ago} s ago. A name is one in the world: give this one another (agent: in agent.yaml). If that one is dead, "
            f"it is forgotten {LASTS} s after it was last heard of"
        )


def leave(connection: Connection, lease: Lease) -> None:
    """It is nobody's."""
    with connection.begin():
        connection.execute(delete(agents).where(agents.c.agent == lease.agent, agents.c.place == lease.place))


def seconds(connection: Connection) -> ColumnElement[Any]:
    """Unix seconds by the database's clock."""
    if connection.dialect.name == "sqlite":
        return cast(func.strftime("%s", "now"), BigInteger)
    return cast(extract("epoch", func.clock_timestamp()), BigInteger)
