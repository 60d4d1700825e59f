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
from probe.model.clock import NS
from probe.model.outcome import Done, Failed, Outcome, Skipped
from probe.plan import CutStep, HttpStep
from probe.run.sessions import Sessions
from probe.run.stay import Stay

_OURS = ("flap", "rebind")


async def run_cut(step: CutStep, sessions: Sessions, io: StepIO) -> Outcome:
    """Returns Done when every session hit came back; the first failure otherwise. The sessions tell their own story."""
    hit = _targets(step, sessions)
    if not hit:
        return Skipped("nothing_to_cut", f"no session of {step.of} is playing")
    for stay in hit:
        stay.cut_began(step.cut, step.name)
    if step.cut in _OURS:
        at = await _cut_paths(step, hit, sessions)
    elif step.cut == "drop":
        at = await _drop(step, sessions)
    else:
        failed = await _switch(step, io)
        at = sessions.ctx.clock.now()
        if isinstance(failed, Failed):
            for stay in hit:
                stay.restored(at=at, observable=False)
            return failed
    for stay in hit:
        stay.restored(at=at, observable=step.cut in (*_OURS, "drop"))
    return await _wait_for(hit, sessions)


def _targets(step: CutStep, sessions: Sessions) -> list[Stay]:
    """Every session that this cut touches: a dropped publisher or a restarted platform touches its viewers too."""
    viewers = sessions.viewers(None if step.of in ("viewers", "publisher", "platform") else step.of)
    stays = [stay for stay in viewers if stay.playing]
    if step.cut in _OURS:
        return [stay for stay in stays if stay.path is not None]
    return stays


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


async def _drop(step: CutStep, sessions: Sessions) -> int:
    """The publisher leaves and returns; the path is back when its media is acknowledged again."""
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
    return sessions.ctx.clock.now()


async def _switch(step: CutStep, io: StepIO) -> Outcome:
    """The platform's own switch, then the time it is given to come back."""
    if step.call is None:
        return Done()
    outcome = await HttpDriver().run(HttpStep(name=step.name, service=step.service, call=step.call, deadline=step.deadline), io)
    await asyncio.sleep(step.duration / NS)
    return outcome


async def _wait_for(hit: list[Stay], sessions: Sessions) -> Outcome:
    """Until each has settled. The longest is the reconnect deadline and one more start, for an attempt under way then; a
    session that has not settled by that time ends in its own name, not in the step's."""
    limit = max((sessions.ctx.plan.reconnect_deadline + stay.start_deadline for stay in hit), default=0) / NS
    with suppress(TimeoutError):
        async with asyncio.timeout(limit):
            for stay in hit:
                await stay.settled.wait()
    return Done()
