"""A name is one agent's, on either database: the second is refused, and told whose it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from probe.clock import SystemClock
from probe.store import lease as leases
from probe.store import writer
from probe.store.database import Database
from probe.store.errors import StoreRefused
from probe.store.lease import LASTS, Lease
from probe.store.store import Store
from probe.store.tables import agents
from tests.store.support import begun
from tests.tools import wait_until

OURS = Lease(agent="eu-1", place="a", host="alpha", pid=7)
THEIRS = replace(OURS, place="b", host="beta", pid=8)


def aged(url: str, seconds: int) -> None:
    """The name was last said so long before."""
    with Database(url).writer() as connection, connection.begin():
        connection.execute(update(agents).values(at=agents.c.at - seconds))


async def test_the_second_of_a_name_is_refused_and_told_by_whom(url: str, tmp_path: Path) -> None:
    async with Store.opened(url, SystemClock(), tmp_path / "one", lease=OURS):
        with pytest.raises(StoreRefused, match="another agent called eu-1 .* on alpha, process 7, heard of [0-9]+ s ago"):
            async with Store.opened(url, SystemClock(), tmp_path / "two", lease=THEIRS):
                pass
        async with Store.opened(url, SystemClock(), tmp_path / "three", lease=replace(THEIRS, agent="eu-2")):
            pass
    async with Store.opened(url, SystemClock(), tmp_path / "two", lease=THEIRS):
        pass  # it was given back


async def test_a_killed_agent_keeps_nobody_of_its_directory_waiting_and_others_for_a_minute(url: str, tmp_path: Path) -> None:
    with Database(url).writer() as connection:
        leases.hold(connection, OURS)
        leases.hold(connection, replace(OURS, host="gamma"))  # another life, on another machine, of the same directory
        with pytest.raises(StoreRefused, match="gamma"):
            leases.hold(connection, THEIRS)
    aged(url, LASTS + 1)
    with Database(url).writer() as connection:
        leases.hold(connection, THEIRS)


async def test_records_wait_while_the_name_is_anothers(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database was away for so long that somebody else took the name: nothing is written, nothing is lost."""
    monkeypatch.setattr(writer, "AGAIN", 0.05)
    async with Store.opened(url, SystemClock(), tmp_path / "one", lease=OURS) as store:
        with Database(url).writer() as connection, connection.begin():
            connection.execute(update(agents).values(place="b", host="beta"))
        await wait_until(lambda: "beta" in store.problem, 10, "the refusal")
        assert store.put(begun(1))
        assert store.behind == 1
        aged(url, LASTS + 60)
        await wait_until(lambda: store.behind == 0, 20, "its turn")
        assert len(await store.runs()) == 1
