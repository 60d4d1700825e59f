"""A run that is held open, and told of what happens to it, by somebody outside of it: a drill, in this process.

The run's own journey ends where it comes to its `hold` step; from then on its sessions stay, and whoever holds this object says
when a cut begins, when the path is back, who leaves and who comes, until `release`. What the sessions live through they measure
and tell themselves, by the same rules as under a cut of the journey's own.

Several faults may stand at once, and one may begin before a session has come back from the last: for the session that is one
cut, from the first beginning to the last restore, and its deadline to come back counts from there. Viewers that joined are a
crowd and no audience: they are told of no cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from probe.link.path import Path
from probe.model.observation import Role
from probe.model.outcome import Done, Outcome
from probe.plan import ViewStep

if TYPE_CHECKING:
    from probe.run.sessions import Sessions
    from probe.run.stay import Stay

KIND = "drill"  # the kind of the cuts
JOINED = "joined"  # the step of who joined

OnPath = Callable[[Path, Role, str], object]


@dataclass(slots=True)
class Outside:
    """`links`: every session has a path of its own, whatever is to befall it; `on_path` is told of each, with the role and the
    protocol, before its first connection. `held`: the run has come to its hold; `over`: it has ended."""

    links: bool = False
    on_path: OnPath | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _sessions: Sessions | None = None
    _faults: set[str] = field(default_factory=set)  # that stand
    _departed: set[str] = field(default_factory=set)

    async def hold(self, sessions: Sessions) -> Outcome:
        """The run's hold step: until it is released."""
        self._sessions = sessions
        self.held.set()
        await self._released.wait()
        return Done()

    def release(self) -> None:
        self._released.set()

    # -- cuts

    def cut_began(self, fault: str) -> None:
        """Something is about to be broken. Told to everybody of the audience who is still there."""
        self._faults.add(fault)
        for stay in self._audience():
            if not stay.cut_again():
                stay.cut_began(KIND, fault)

    def restored(self, fault: str, at: int, since: int | None = None) -> None:
        """It was seen to be back `at`, and may have been since `since`. Where another fault still stands, nobody is told yet."""
        self._faults.discard(fault)
        if not self._faults:
            for stay in self._audience():
                stay.restored(at=at, since=since)

    # -- who is there

    def paths(self, who: str) -> list[Path]:
        return [stay.path for stay in self._of(who) if stay.path is not None]

    def playing(self, who: str) -> int:
        return sum(stay.playing for stay in self._of(who))

    def depart(self, who: str) -> int:
        """All of them leave at once, without a word, and stay away."""
        leaving = [stay for stay in self._of(who) if stay.playing]
        for stay in leaving:
            stay.leave()
        self._departed |= {stay.session for stay in leaving}
        return len(leaving)

    def away(self, who: str) -> int:
        """How many of them departed and have not been let back."""
        return sum(stay.session in self._departed for stay in self._of(who))

    def come_back(self, who: str) -> int:
        """Those of them who departed return at the same instant."""
        returning = [stay for stay in self._of(who) if stay.session in self._departed]
        self._departed -= {stay.session for stay in returning}
        for stay in returning:
            stay.come_back()
        return len(returning)

    def join(self, count: int, within: int) -> int:
        """So many more viewers of the journey's last view step, in its proportions, over `within` ns; how many could begin."""
        step = self._step()
        if step is None or self._sessions is None or self._released.is_set():
            return 0
        views = step.views
        shares = [count * (i + 1) // len(views) - count * i // len(views) for i in range(len(views))]
        crowd = tuple(replace(view, count=share, join="mid_stream") for view, share in zip(views, shares, strict=True) if share)
        joining = replace(step, name=JOINED, views=crowd, phase=within)
        self._sessions.group.create_task(_quietly(self._sessions, joining), name="joining")
        return count

    def joined(self) -> int:
        """How many of those who joined are there."""
        return sum(not stay.over for stay in self._all() if stay.began.step == JOINED)

    async def leave(self) -> None:
        """Those who joined go."""
        crowd = [stay for stay in self._all() if stay.began.step == JOINED]
        for stay in crowd:
            stay.end()
        for stay in crowd:
            await stay.done.wait()

    def _step(self) -> ViewStep | None:
        steps = () if self._sessions is None else self._sessions.ctx.plan.journey
        return next((step for step in reversed(steps) if isinstance(step, ViewStep)), None)

    def _of(self, who: str) -> list[Stay]:
        """viewers, publisher, everybody, or the viewers of one protocol; a crowd that joined is none of them."""
        return [stay for stay in self._audience() if meant(who, stay.began.role, stay.began.protocol)]

    def _audience(self) -> list[Stay]:
        return [stay for stay in self._all() if not stay.over and stay.began.step != JOINED]

    def _all(self) -> Iterable[Stay]:
        return () if self._sessions is None else self._sessions.stays


def meant(who: str, role: Role, protocol: str) -> bool:
    """Whether `who` (viewers, publisher, everybody, a viewers' protocol) speaks of a session."""
    return {"everybody": True, "publisher": role is Role.PUBLISHER, "viewers": role is Role.VIEWER}.get(
        who, role is Role.VIEWER and who == protocol
    )


async def _quietly(sessions: Sessions, step: ViewStep) -> None:
    """A crowd's failures stand in its sessions' names; it never ends the run."""
    try:
        await sessions.view(step)
    except Exception as error:
        sessions.ctx.note(f"a crowd could not join: {type(error).__name__}: {error}")
