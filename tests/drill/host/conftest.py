"""One other process for all tests of this folder: those who undo from a record alone are asked in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drill.host.tools import elsewhere


@pytest.fixture(scope="package", autouse=True)
def another_process() -> Iterator[None]:
    with elsewhere():
        yield
