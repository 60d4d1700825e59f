"""Where the records of drills are: where `probe drill run` puts them unless somebody says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from probe.cli.invoke import state_directory
from probe.errors import ConfigError, Located
from probe.store.errors import StoreRefused


@dataclass(frozen=True, slots=True)
class Kept:
    """What the command line says of it: an address, an agent.yaml that has one, or the directory that drills were given."""

    store: str | None = None
    agent: Path | None = None
    state: Path | None = None

    def url(self) -> str:
        """Raises ConfigError."""
        from probe.cli.trace import records_url  # brings the database's library, which nobody who runs no drill waits for
        from probe.store.address import resolve

        try:
            if self.store is None and self.agent is None:
                return resolve("sqlite", self.directory)
            return records_url(self.store, self.agent, os.environ)
        except StoreRefused as error:
            raise self.refused(error) from error

    @property
    def directory(self) -> Path:
        """Where drills keep what must survive them."""
        return state_directory(self.state)

    def refused(self, error: StoreRefused) -> ConfigError:
        """In the place that it comes from."""
        return ConfigError([Located("--store" if self.agent is None else str(self.agent), 0, 0, "", str(error))])
