from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drill.net.support import Pair, pair


@pytest.fixture
def cable() -> Iterator[Pair]:
    with pair() as made:
        yield made
