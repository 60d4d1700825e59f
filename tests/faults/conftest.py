"""The table of planted faults, printed with the test output, and the sandboxes they are planted in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.lanes import lanes
from tests.faults.platform import Platform

ROWS = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture(scope="package")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Platform]]:
    with lanes(tmp_path_factory.mktemp("lanes")) as running:
        yield running


@pytest.fixture
def platform(platforms: list[Platform]) -> Platform:
    return platforms[0]


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
