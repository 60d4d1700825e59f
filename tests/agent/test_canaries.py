"""A short day under canaries; the whole of it is `python -m tests.soak --canaries 1440`."""

from __future__ import annotations

from pathlib import Path

from tests.soak import canaries


async def test_no_secret_leaves_an_agent_by_any_way(tmp_path: Path) -> None:
    """Logins are refused, secrets are missing and wrong, workers die, reloads are refused, records and telemetry wait on disk."""
    _, bad = await canaries.day(tmp_path, runs=6, seed=1, each=1)
    assert bad == []
