"""One tree of errors. Each edge (net, rtc, media) maps its library's exceptions into these, once, chained.

Anything that is not a ProbeError is a bug of ours: it propagates, ends the attempt as `aborted`, and is never the
platform's failure.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.model.outcome import Failed, Skipped
from probe.model.stage import Phase


class ProbeError(Exception):
    """Base of every error we raise on purpose."""


class Failure(ProbeError):
    """The platform failed an attempt: a valid (phase, reason), and one line for people."""

    def __init__(self, phase: Phase, reason: str, detail: str = "") -> None:
        self.outcome = Failed(phase, reason, detail)
        super().__init__(f"{phase}/{reason}" + (f": {detail}" if detail else ""))

    @property
    def phase(self) -> Phase:
        return self.outcome.phase

    @property
    def reason(self) -> str:
        return self.outcome.reason


class Unsupported(ProbeError):
    """The platform offers what this probe cannot take. Skipped, never failed."""

    def __init__(self, detail: str) -> None:
        self.outcome = Skipped("unsupported", detail)
        super().__init__(f"unsupported: {detail}")


class Misconfigured(ProbeError):
    """The scenario asks for what nobody can do, and only what a step was told shows it. Aborts the attempt: it was never the
    platform's turn. The message says what to change."""


class DriverBug(ProbeError):
    """A driver broke its contract. Aborts the attempt."""


@dataclass(frozen=True, slots=True)
class Located:
    """One mistake in a file: where, and what to do about it. Line and column count from 1; 0 means the whole file."""

    file: str
    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place} {self.where}: {self.message}" if self.where else f"{place} {self.message}"


class ConfigError(ProbeError):
    """Bad configuration or usage: every mistake at once. Exit code 2, before any socket opens."""

    def __init__(self, mistakes: list[Located]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))
