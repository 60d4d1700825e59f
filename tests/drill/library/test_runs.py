"""Drills of the library, really carried out: a healthy platform passes, a planted weakness is found and said, and a fault that is
accepted and never acts is no drill at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.drill.core.facts import Did, FaultDid, Verdict
from tests.drill.library.play import played


def did(done) -> list[Did]:
    return [fact.did for fact in done.facts if isinstance(fact, FaultDid)]


async def test_a_fault_that_silently_fails_to_inject_makes_the_drill_invalid(tmp_path: Path) -> None:
    done = await played("edge-down", tmp_path, {"fault": "sham"}, protocols=("http-flv",))
    assert done.ended.verdict is Verdict.INVALID
    assert "edge-a-gone: not seen to be injected within 2 s" in done.ended.reason
    assert Did.INJECTED in did(done)  # the platform took it, and said so
    assert Did.SEEN_INJECTED not in did(done)
    assert not done.ended.left


@pytest.mark.timeout(90)
async def test_a_platform_that_does_not_come_back_from_a_restart_is_weak(tmp_path: Path) -> None:
    done = await played("origin-restart", tmp_path, {"fault": "not_back", "service": "whep"}, protocols=("whep", "http-flv"))
    assert done.ended.verdict is Verdict.WEAKNESS, done.ended.reason
    assert "95% of viewers reconnect" in done.ended.reason
    assert did(done)[-1] is Did.SEEN_RESTORED  # the fault is gone; what it left behind is the platform's
    assert not done.ended.left


@pytest.mark.timeout(90)
async def test_a_healthy_platform_passes(tmp_path: Path) -> None:
    done = await played("token-expiry", tmp_path, protocols=("whep", "http-flv"))
    assert done.ended.verdict is Verdict.PASS, done.ended.reason
    assert not done.ended.left
