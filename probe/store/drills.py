"""What a drill holds while it runs, and what is kept of it: targets that no other drill may touch meanwhile, and events.

A lease is a row per target until a time of the database's own clock: it ends by itself, so a drill that was killed keeps nobody
waiting beyond the time it said it would need at most, by which its watchdog has put everything back. Targets may be patterns
(`*`, `?`); two that could mean the same thing overlap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from probe.store.errors import StoreError
from probe.store.lease import seconds
from probe.store.tables import leases

_LOCK = 0x6472696C6C  # "drill"
_MOST = 1_000  # targets of a drill


class LeaseTaken(StoreError):
    """Another drill has one of the targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """`run` names a drill's execution, `host` and `pid` are for people."""

    drill: str
    run: str
    host: str
    pid: int


def take(connection: Connection, holder: Holder, targets: Sequence[str], lasts: int) -> None:
    """All of them for `lasts` seconds, or none; a transaction of its own. Raises LeaseTaken, which names who has one."""
    if len(targets) > _MOST:
        raise StoreError(f"a drill of {len(targets)} targets: at most {_MOST} can be held")
    now = seconds(connection)
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        connection.execute(delete(leases).where(leases.c.until <= now))
        held = connection.execute(select(leases, (leases.c.until - now).label("left")).where(leases.c.run != holder.run)).all()
        for row in held:
            for target in targets:
                if overlap(row.target, target):
                    who = f"drill {row.drill} (run {row.run}, on {row.host}, process {row.pid})"
                    raise LeaseTaken(
                        f"{target} is held by {who} as {row.target}, for {row.left} s more at most: wait for its end; a drill "
                        "that was killed gives it back by then"
                    )
        about = {"drill": holder.drill, "run": holder.run, "host": holder.host, "pid": holder.pid, "until": now + lasts}
        connection.execute(delete(leases).where(leases.c.run == holder.run))
        for target in dict.fromkeys(targets):
            connection.execute(insert(leases).values(target=target, **about))


def give_back(connection: Connection, run: str) -> None:
    """They are nobody's."""
    with connection.begin():
        connection.execute(delete(leases).where(leases.c.run == run))


def overlap(one: str, other: str) -> bool:
    """Whether there could be a target that both mean."""
    if _wild(one) and _wild(other):  # rather once too often
        a, b = _literal(one), _literal(other)
        return a.startswith(b) or b.startswith(a)
    return _means(one, other) or _means(other, one)


def _means(pattern: str, target: str) -> bool:
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(c) or re.escape(c) for c in pattern), target, re.DOTALL) is not None


def _wild(target: str) -> bool:
    return "*" in target or "?" in target


def _literal(pattern: str) -> str:
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
