"""Where a store is: a file of SQLite's or a PostgreSQL database, by URL.

A password never stands in a configuration or on a command line: such a URL is named by reference, an environment variable,
a file or a command, and only what was resolved may hold one.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from probe.net.secret import named, read_secret
from probe.store.errors import StoreRefused

FILE = "records.sqlite"
_SECRET_ARGUMENTS = ("password", "sslpassword")
_POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")
_FORMS = "write sqlite, sqlite:////path/to/file or postgresql+psycopg://user@host/database"


def resolve(setting: str | tuple[str, str], state: Path) -> str:
    """The URL that a setting means: `sqlite` is a file in the directory `state`; (kind, argument), or kind:argument in one text,
    is where a secret is that is a URL; any other text is one itself, without a password. Raises StoreRefused, never quoting
    what a reference held."""
    if setting == "sqlite":
        return sqlite_url(state / FILE)
    if isinstance(setting, str):
        kind, _, argument = setting.partition(":")
        if kind not in ("env", "file", "command") or not argument:
            if secrets(parse(setting)):
                raise StoreRefused("the store's URL carries a password: name it by reference, env:NAME or file:PATH")
            return setting
        setting = kind, argument
    try:
        return read_secret(setting).strip()
    except OSError as error:
        raise StoreRefused(f"the store's URL: {named(setting)}: {error.strerror or 'cannot be read'}") from None


def sqlite_url(file: Path) -> str:
    """The URL of a file."""
    return URL.create("sqlite", database=str(file.absolute())).render_as_string(hide_password=False)


def parse(text: str) -> URL:
    """Raises StoreRefused where it names no database that we can use. The text itself is never quoted: it may be a secret."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreRefused(f"the store's URL is none: {_FORMS}") from None
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:":
            raise StoreRefused(f"the store's URL names no file: {_FORMS}")
        return URL.create("sqlite", database=url.database)
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    raise StoreRefused(f"records are kept in SQLite or PostgreSQL, not {url.drivername[:40]}: {_FORMS}")


def secrets(url: URL) -> tuple[str, ...]:
    """The passwords within it."""
    named = (url.query.get(name) for name in _SECRET_ARGUMENTS)
    return tuple(str(value) for value in (url.password, *named) if value)


def name(url: URL) -> str:
    """For people: the file, or the database without password and arguments."""
    if url.drivername == "sqlite":
        return str(url.database)
    return URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()
