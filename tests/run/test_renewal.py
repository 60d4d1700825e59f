"""A token that expires for everybody at once is renewed once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from probe.drivers.base import SessionIO, StepIO
from probe.errors import Failure
from probe.model.clock import NS
from probe.model.observation import Resumed, SessionEnded
from probe.model.outcome import Done, Outcome
from probe.model.stage import Phase
from probe.plan import Step, WaitStep
from tests.run.test_engine import PUBLISH, Platform, World, http, platform, view

__all__ = ["platform"]
VIEWERS = 4


@pytest.fixture
def world(platform: Platform, tmp_path: Path) -> World:
    return World(platform, tmp_path)


class Login:
    """Gives another token each time, and takes its time."""

    def __init__(self, fail: int = 0) -> None:
        self.calls, self._fail = 0, fail

    async def run(self, step: Step, io: StepIO) -> Outcome:
        self.calls += 1
        await asyncio.sleep(0.05)
        if 1 < self.calls <= 1 + self._fail:
            raise Failure(Phase.AUTH, "http_503")
        io.keep("token", f"token-{self.calls}")
        return Done()


async def watched(world: World, login: Login) -> None:
    """All viewers are dropped together, and let in again with a token newer than the first."""
    world.steps["http"] = login

    async def enter(io: SessionIO, attempt: int) -> None:
        if attempt < VIEWERS:
            asyncio.get_running_loop().call_later(0.3, io.feed.close)
        elif login.calls <= 1 + login._fail:
            raise Failure(Phase.AUTH, "token_expired")

    world.viewer.enter = enter
    journey = (http("login", "POST /login", keep={"token": "id"}), PUBLISH, view(VIEWERS, account="viewer"))
    wait = WaitStep(name="stay", duration=NS)
    await world.engine(*journey, wait, accounts={"viewer": "${token}"}, reconnect_deadline=2 * NS).run()


async def test_one_renewal_serves_all_whose_token_was_the_old_one(world: World) -> None:
    login = Login()
    await watched(world, login)
    assert login.calls == 2, "the journey's own, and one for everybody"
    assert len(world.all(Resumed)) == VIEWERS
    assert {fact.ending for fact in world.all(SessionEnded)} == {"planned"}


async def test_where_a_renewal_fails_the_next_who_needs_it_tries_again(world: World) -> None:
    login = Login(fail=1)
    await watched(world, login)
    assert login.calls == 3 and "credentials could not be renewed" in world.notes()
    assert len(world.all(Resumed)) == VIEWERS
