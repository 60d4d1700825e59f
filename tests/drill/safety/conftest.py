"""Where the marker fault (marker.py) is known to this process and to those it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from probe.drill.faults import table
from tests.drill.safety.marker import KIND, MarkerFault, installed
from tests.tools import ROOT


@pytest.fixture(scope="package")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which a process has the marker fault."""
    return {"PYTHONPATH": os.pathsep.join([str(installed(tmp_path_factory.mktemp("dist"))), str(ROOT)])}


@pytest.fixture(autouse=True)
def marker(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has it too."""
    monkeypatch.setitem(table.ROWS, KIND, f"{MarkerFault.__module__}:{MarkerFault.__name__}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where markers stand."""
    found = tmp_path / "markers"
    found.mkdir()
    yield found
    for path in found.iterdir():
        with suppress(OSError):
            path.unlink()


@pytest.fixture
def drills(tmp_path: Path) -> Path:
    """A directory of ledgers that is not there yet."""
    return tmp_path / "state" / "drills"
