"""The schema and its version: brought forward by alembic, within one transaction, one program at a time.

SQLite's BEGIN IMMEDIATE and PostgreSQL's advisory lock let two agents that start at once take turns; the second finds nothing
left to do. A database that is newer than this program is refused and left as it is: a migration back would lose what the
newer one keeps. Alembic is imported only where there is something to do, as it costs an agent 12 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, func, inspect, select, table

from probe.store.errors import StoreError, StoreRefused

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0006"
_LOCK = 0x70726F6265  # "probe"
_VERSION = table("alembic_version", column("version_num"))


def migrate(connection: Connection) -> None:
    """Bring the database to HEAD. Raises StoreRefused where it is newer than this program."""
    if _current(connection) == HEAD:
        return
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        current = _version(connection)
        if current != HEAD:
            _upgrade(connection, current)


def require(connection: Connection) -> None:
    """Raises StoreError where the database has not the schema this program reads, StoreRefused where it is newer."""
    current = _current(connection)
    if current == "":
        raise StoreError("there are no records yet")
    if current != HEAD:
        _refuse_unknown(current)
        raise StoreError(f"its schema is {current}, this program reads {HEAD}: an agent of this version brings it forward")


def _current(connection: Connection) -> str:
    with connection.begin():
        return _version(connection)


def _version(connection: Connection) -> str:
    """Empty where there is no schema."""
    if not inspect(connection).has_table(_VERSION.name):
        return ""
    return str(connection.execute(select(_VERSION.c.version_num)).scalar() or "")


def _refuse_unknown(current: str) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current not in known:
        raise StoreRefused(f"its schema is {current}, newer than this program, which knows {HEAD}: install a newer stream-probe")


def _upgrade(connection: Connection, current: str) -> None:
    from alembic import command

    if current:
        _refuse_unknown(current)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "probe.store:migrations")
    return config
