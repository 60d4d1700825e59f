"""Both databases: a file, and a database of a server that all tests share, copied from a template that was migrated once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from probe.store.address import sqlite_url
from probe.store.database import Database
from tests.store.support import PASSWORD, Cluster, cluster, initdb, installed

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="package", autouse=True)
def _server() -> Iterator[Cluster | None]:
    """A running server; its template `records` has the schema, its user `guest` a password. Before every test, so that none is
    asked why it left a server behind; None where it is not installed."""
    if not installed():
        yield None
        return
    with cluster() as server, server.running():
        with closing(server.connect()) as connection:
            connection.execute("CREATE DATABASE records")
            connection.execute(f"CREATE USER guest PASSWORD '{PASSWORD}'")
        Database(server.url("records")).writer().close()
        yield server


@pytest.fixture
def postgresql(_server: Cluster | None) -> Cluster:
    """The running server."""
    initdb()
    assert _server is not None
    return _server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    yield from _database(request, tmp_path, "template1")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the schema and no records."""
    yield from _database(request, tmp_path, "records")


def _database(request: pytest.FixtureRequest, tmp_path: Path, template: str) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "records.sqlite")
        return
    server: Cluster = request.getfixturevalue("postgresql")
    name = f"test{next(_NUMBERS)}"
    with closing(server.connect()) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield server.url(name)
    with closing(server.connect()) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
