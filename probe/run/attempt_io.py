"""What one attempt is given: the SessionIO through which a driver marks stages and tells facts of its session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.observation import Note, Observation
from probe.model.stage import StageTimer
from probe.net.client import Client


@dataclass(slots=True)
class AttemptIO:
    """The SessionIO of one attempt."""

    clock: Clock
    http: Client
    stages: StageTimer
    feed: Feed
    path: Path | None
    facts: dict[str, str]
    _emit: Callable[[Observation, str], None]
    _session: str

    def emit(self, fact: Observation) -> None:
        self._emit(fact, self._session)

    def note(self, text: str) -> None:
        self._emit(Note(text=text), self._session)
