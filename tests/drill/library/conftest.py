"""A sandbox that the environment tells of, as `probe drill run` sets it; one for all tests of a file, healed after each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest_asyncio

from probe.cli.serve import environment
from probe.sandbox.launch import Sandbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as sandbox:
        with patch.dict(os.environ, environment(sandbox)):
            yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(running: Sandbox) -> AsyncIterator[Sandbox]:
    yield running
    await running.heal()
