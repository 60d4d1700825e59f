"""The table of planted faults, printed with the test output, and the one sandbox they are planted in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.forks import Forks
from tests.faults.platform import Platform

ROWS = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture(scope="package")
def forks() -> Iterator[Forks]:
    with Forks.started() as forks:
        yield forks


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Platform]:
    with Platform.started(tmp_path_factory.mktemp("sandbox"), forks=forks) as platform:
        yield platform


@pytest.fixture
def own_platform(tmp_path: Path, forks: Forks) -> Iterator[Platform]:
    """For tests that end its processes: nothing of it outlives them."""
    directory = tmp_path / "sandbox"
    directory.mkdir()
    with Platform.started(directory, forks=forks) as platform:
        yield platform


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[tuple[str, ...]]:
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    rows = [("planted", "exit", "who", "phase/reason", "seconds"), *rows]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    terminalreporter.section(f"{len(rows) - 1} planted faults")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
