"""The show of kills in small: every way to die once, over the targets that are up at once. A runner that hangs is
in tests/drill/safety."""

from __future__ import annotations

import pytest

from tests.drill.kills.__main__ import line, show, summary
from tests.drill.kills.kill import WAYS

AT_ONCE = frozenset({"fake", "process", "disk", "net", "http"})


@pytest.mark.timeout(180)
async def test_however_and_whenever_a_drill_dies_nothing_is_left() -> None:
    done = await show(len(WAYS) - 1, seed=3, only=AT_ONCE, verbose=False)
    assert not [line(n, killed) for n, killed in enumerate(done) if killed.left or killed.trouble]
    assert {killed.way for killed in done} == set(WAYS[:-1])
    assert sum(killed.began is not None for killed in done) >= len(WAYS) // 2, summary(done, 0)  # else it shows nothing
