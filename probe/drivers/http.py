"""The http step: one request to a service of the product, and what its answer must be.

`until` and `once` ask again, because products are consistent in their own time; a count that came to one is looked at
once more a moment later, for the second booking of a gift is often the slower one. Every way of being wrong has its
reason; a reason the service does not know becomes `unexpected`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from probe.drivers.audience import witnessed
from probe.drivers.base import StepIO
from probe.drivers.service import Deadline, phase_of, reason_of
from probe.errors import DriverBug, Failure
from probe.model.outcome import Done, Outcome, Skipped
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.net.client import Answer
from probe.plan import HttpStep, Step

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 1.0
_LATE_LOOK = 0.5
_LAST_ASK = 0.5  # seconds a request begun just before the deadline is still given: its being cut off is not the platform's fault
_SHOWN = 40


class HttpDriver:
    """Runs HttpStep."""

    async def run(self, step: Step, io: StepIO) -> Outcome:
        """Done, Skipped(no_viewers), or raises Failure: what the request came to, unexpected, missing_field, malformed,
        not_seen, not_acted, not_counted, counted_twice, not_charged, charged_twice."""
        if not isinstance(step, HttpStep):
            raise DriverBug(f"not an http step: {step.kind}")
        task = _Task(step, io)
        if step.seen_by is None:
            await task.done()
            return Done()
        if not io.viewers(step.seen_by or "viewers"):
            return Skipped("no_viewers")
        if step.socket is None:
            raise DriverBug(f"step {step.name} says seen_by but names no socket")
        needle = task.request_id if step.seen is None else io.text(step.seen)
        await witnessed(
            io,
            who=step.seen_by or "viewers",
            url=io.url(step.socket),
            account=step.socket_account,
            phase=task.phase,
            needle=needle,
            act=task.done,
            deadline=task.deadline,
        )
        return Done()


class _Task:
    """One run of one step."""

    def __init__(self, step: HttpStep, io: StepIO) -> None:
        self.step = step
        self.io = io
        self.phase = phase_of(step.service)
        self.deadline = Deadline(step)
        self.request_id = io.http.new_request_id()  # of the first request: what a socket is expected to show

    async def done(self) -> None:
        """Ask, ask again where the step says so, and keep what it keeps."""
        data = await self._ask(self.request_id)
        if self.step.until is not None:
            data = await self._repeat(data, self._reached, reason_of(self.phase, "not_acted"), "not so within the deadline")
        if self.step.once is not None:
            again = self.step.call.method.upper() in ("GET", "HEAD")
            too_few = reason_of(self.phase, "not_counted", "not_charged")
            if again:
                data = await self._repeat(data, self._counted, too_few, "still 0 at the deadline")
                await asyncio.sleep(min(_LATE_LOOK, self.deadline.left / 2))
                data = await self._ask()
            if not self._counted(data):
                raise Failure(self.phase, too_few, f"{self.step.once} is 0")
        for name, path in self.step.keep.items():
            try:
                self.io.keep(name, self._present(path, data))
            except ValueError as error:
                raise Failure(self.phase, "unexpected", f"{path} cannot be kept: {error}") from error

    async def _ask(self, request_id: str | None = None) -> Any:
        """One request, answered as expected; its JSON where the step looks at it."""
        step, io = self.step, self.io
        answer = await io.http.request(
            step.call.method,
            io.url(step.call.url),
            purpose=step.name,
            phase=self.phase,
            json=None if step.call.json is None else io.data(step.call.json),
            headers={name: io.text(value) for name, value in step.call.headers.items()},
            credential=io.credential(step.call.account),
            ok=step.expect.status or None,
            timeout=max(self.deadline.left, _LAST_ASK),
            request_id=request_id,
        )
        return self._checked(answer)

    def _checked(self, answer: Answer) -> Any:
        step = self.step
        if not (step.expect.json or step.keep or step.until or step.once):
            return None
        data = answer.json()
        for path, template in step.expect.json.items():
            expected = self.io.data(template)
            value = _search(path, data, self.phase) if expected is None else self._present(path, data)
            if not _equal(value, expected):
                raise Failure(self.phase, "unexpected", f"{path} is {_shown(path, value)}")
        return data

    async def _repeat(self, data: Any, settled: Callable[[Any], bool], reason: str, detail: str) -> Any:
        """Ask until `settled`, at a modest pace; Failure(reason) at the deadline."""
        pause = _FIRST_PAUSE
        while not settled(data):
            if self.deadline.left <= pause:
                await asyncio.sleep(self.deadline.left)
                raise Failure(self.phase, reason, detail)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            data = await self._ask()
        return data

    def _reached(self, data: Any) -> bool:
        assert self.step.until is not None
        return bool(_search(self.step.until, data, self.phase))

    def _counted(self, data: Any) -> bool:
        """False at 0, True at 1. Raises Failure for more, and for what is no count."""
        assert self.step.once is not None
        value = self._present(self.step.once, data)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value < 0
            or (isinstance(value, float) and not value.is_integer())
        ):
            raise Failure(self.phase, "unexpected", f"{self.step.once} is {_shown(self.step.once, value)}, which is no count")
        if value > 1:
            raise Failure(
                self.phase,
                reason_of(self.phase, "counted_twice", "charged_twice"),
                f"{self.step.once} is {_shown(self.step.once, value)}",
            )
        return value == 1

    def _present(self, path: str, data: Any) -> Any:
        value = _search(path, data, self.phase)
        if value is None:
            raise Failure(self.phase, "missing_field", f"the answer has no {path}")
        return value


def _search(path: str, data: Any, phase: Phase) -> Any:
    try:
        return jmespath.search(path, data)
    except (JMESPathError, TypeError, ValueError, RecursionError) as error:
        raise Failure(phase, "unexpected", f"{path} cannot be asked of this answer") from error


def _equal(value: Any, expected: Any) -> bool:
    """JSON equality: true is not 1."""
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)


def _shown(path: str, value: Any) -> str:
    """A value for people: short, and nothing that may be a secret."""
    if isinstance(value, bool | int | float) or value is None:
        return quoted(str(value), _SHOWN)
    if (
        isinstance(value, str)
        and len(value) <= _SHOWN
        and not any(word in path.lower() for word in ("token", "secret", "password"))
    ):
        return ascii(value)
    return f"another {type(value).__name__}"
