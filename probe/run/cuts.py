"""The `cut` step: break something on purpose, put it back, and wait until every session has come back or given up.

What is broken through link/ (flap, rebind) is ours and its return is seen to the nanosecond; a publisher's drop likewise. A
platform's own switch (restart, token expiry) returns when it says so, which is nobody's measurement: outage is told there,
reconnect is not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from probe.drivers.base import StepIO
from probe.drivers.http import HttpDriver
from probe.errors import Failure
from probe.model.clock import NS
from probe.model.outcome import Done, Outcome, Skipped
from probe.plan import CutStep, HttpStep
from probe.run.sessions import Sessions
from probe.run.stay import Stay

_OURS = ("flap", "rebind")


async def run_cut(step: CutStep, sessions: Sessions, io: StepIO) -> Outcome:
    """Done: it was made, and everybody hit has settled or run out of time; whether they came back they tell themselves.
    Failed: the platform's own switch did not work, so nothing was cut. Skipped: there was nobody to hit."""
    hit = _targets(step, sessions)
    if not hit:
        return Skipped("nothing_to_cut", _nobody(step, sessions))
    for stay in hit:
        stay.cut_began(step.cut, step.name)
    outcome: Outcome = Done()
    observable = True
    if step.cut in _OURS:
        at = await _cut_paths(step, hit, sessions)
    elif step.cut == "drop":
        at, observable = await _drop(step, sessions)
    else:
        outcome, observable = await _switch(step, io), False
        at = sessions.ctx.clock.now()
    for stay in hit:
        stay.restored(at=at, observable=observable)
    if isinstance(outcome, Done):
        await _wait_for(hit, sessions)
    return outcome


def _targets(step: CutStep, sessions: Sessions) -> list[Stay]:
    """Every session that this cut touches: a dropped publisher touches its viewers too (it is cut apart, for its return is
    what they wait for), and a platform's own switch everybody that the platform serves."""
    return [stay for stay in _meant(step, sessions) if stay.playing and (stay.path is not None or step.cut not in _OURS)]


def _meant(step: CutStep, sessions: Sessions) -> list[Stay]:
    """Those of whom it speaks, whether they play or not."""
    stays = sessions.viewers(None if step.of in ("viewers", "publisher", "platform") else step.of)
    return [*sessions.publishers(), *stays] if step.of == "platform" or step.cut == "restart" else stays


def _nobody(step: CutStep, sessions: Sessions) -> str:
    """Why there was nobody to hit, in words."""
    started = [stay for stay in _meant(step, sessions) if isinstance(stay.outcome, Done)]
    if any(not stay.playing for stay in started):
        return f"{step.of}: they lost their stream before the cut, and nobody was left to be cut off"
    return f"{step.of}: nobody had a stream that could be cut"


async def _cut_paths(step: CutStep, hit: list[Stay], sessions: Sessions) -> int:
    paths = [stay.path for stay in hit if stay.path is not None]
    for path in paths:
        path.cut()
    try:
        await asyncio.sleep(step.duration / NS)
        if step.cut == "rebind":
            async with asyncio.TaskGroup() as group:
                for path in paths:
                    group.create_task(path.rebind())
    finally:
        for path in paths:
            path.restore()
    return sessions.ctx.clock.now()


async def _drop(step: CutStep, sessions: Sessions) -> tuple[int, bool]:
    """The publisher leaves and returns; the path is back when its media is acknowledged again: that instant, and whether it
    came to it."""
    publishers = [stay for stay in sessions.publishers() if stay.playing]
    for stay in publishers:
        stay.cut_began(step.cut, step.name)
        stay.leave()
    await asyncio.sleep(step.duration / NS)
    at = sessions.ctx.clock.now()
    for stay in publishers:
        stay.come_back()
        stay.restored(at=at)
    await _wait_for(publishers, sessions)
    return sessions.ctx.clock.now(), all(stay.playing for stay in publishers)


async def _switch(step: CutStep, io: StepIO) -> Outcome:
    """The platform's own switch, then the time it is given to come back. One that fails was never thrown."""
    if step.call is None:
        return Done()
    try:
        await HttpDriver().run(HttpStep(name=step.name, service=step.service, call=step.call, deadline=step.deadline), io)
    except Failure as failure:
        return failure.outcome
    await asyncio.sleep(step.duration / NS)
    return Done()


async def _wait_for(hit: list[Stay], sessions: Sessions) -> None:
    """Until each has settled. The longest is the reconnect deadline and one more start, for an attempt under way then; a
    session that has not settled by that time ends in its own name, not in the step's."""
    limit = max((sessions.ctx.plan.reconnect_deadline + stay.start_deadline for stay in hit), default=0) / NS
    with suppress(TimeoutError):
        async with asyncio.timeout(limit):
            for stay in hit:
                await stay.settled.wait()
