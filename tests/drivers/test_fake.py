"""The fake step ends as scripted."""

from __future__ import annotations

import asyncio
import time

import pytest

from probe.drivers.fake import FakeDriver
from probe.errors import DriverBug
from probe.model.clock import MS, NS
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.plan import FakeStep, WaitStep
from tests.drivers.test_http import steps


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (FakeStep(name="f"), Done()),
        (FakeStep(name="f", outcome="failed", phase="signal", reason="http_404"), Failed(Phase.SIGNAL, "http_404", "scripted")),
        (FakeStep(name="f", outcome="skipped", reason="unsupported"), Skipped("unsupported", "scripted")),
        (FakeStep(name="f", outcome="cancelled"), Cancelled()),
        (FakeStep(name="f", outcome="aborted"), Aborted("scripted")),
    ],
)
async def test_it_ends_as_scripted(step: FakeStep, outcome: Outcome) -> None:
    async with steps("http://127.0.0.1:1") as io:
        assert await FakeDriver().run(step, io) == outcome


async def test_it_takes_its_time_and_can_be_cancelled() -> None:
    async with steps("http://127.0.0.1:1") as io:
        began = time.monotonic()
        await FakeDriver().run(FakeStep(name="f", took=50 * MS), io)
        assert time.monotonic() - began >= 0.05
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await FakeDriver().run(FakeStep(name="f", took=60 * NS), io)


@pytest.mark.parametrize(
    "step",
    [
        FakeStep(name="f", outcome="splendid"),
        FakeStep(name="f", outcome="failed", phase="signal", reason="mood"),
        FakeStep(name="f", outcome="failed", phase="nowhere", reason="http_404"),
        WaitStep(name="w", duration=1),
    ],
)
async def test_an_impossible_script_is_our_bug(step: FakeStep | WaitStep) -> None:
    async with steps("http://127.0.0.1:1") as io:
        with pytest.raises(DriverBug):
            await FakeDriver().run(step, io)
