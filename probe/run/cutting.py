"""One cut as one session lives it: pure, it is told what happened and says how it ended.

Section 2 of the design: `outage` is the longest time without a new verified picture that touches the cut; `reconnect` runs
from the return of the path to the first verified picture whose bytes arrived after it, and exists only where that return
was seen. A buffered player that fetched media after the return without its picture having stopped was unaffected. A publisher's
progress is what the receiver acknowledges, about once a second: it was affected where that stayed away for as long as its
stall timer. Where a publisher dropped out, its viewers have come through when they see what it published after its return: what
a platform still had of the time before comes later than that return and says nothing.

A return that is only seen when somebody looks (a drill's fault that was put back) was there before it was seen: a picture that
came in between ends the cut too, at the instant it was shown, and its reconnect is nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from probe.model.clock import MS
from probe.model.observation import CutOutcome, Resumed
from probe.model.outcome import Failed
from probe.run.watch import Step

NOTICEABLE = 500 * MS
_MEANWHILE = 512  # pictures: some 8 s of them from a return to when it is told, at 60 a second


@dataclass(slots=True, kw_only=True)
class Cutting:
    """`attempt` is the transport alive when the cut began; `last` the newest picture shown then; `noticeable` the shortest
    gap between pictures (ns) that is one. `before`: the publish session whose pictures end nothing, where that is known."""

    kind: str
    step: str
    began: int
    attempt: int
    last: int
    restored: int | None = None
    observable: bool = True
    noticeable: int = NOTICEABLE
    before: int | None = None
    _worst: int = 0
    _since: int = 0  # from here on the path may have been back
    _meanwhile: deque[tuple[Step, int, int]] = field(default_factory=lambda: deque(maxlen=_MEANWHILE))

    def on_step(self, step: Step, attempt: int) -> Resumed | None:
        """A picture was shown; the cut's end, if this ends it."""
        if step.shown > self.began:
            self._worst = max(self._worst, step.shown - self.last)
        self.last = max(self.last, step.shown)
        if self.before is not None and step.publish == self.before:
            return None
        if self.restored is None:
            self._meanwhile.append((step, attempt, self._worst))
            return None
        return self._back(step, attempt, self._worst, self.restored)

    def on_restored(self, at: int, *, observable: bool = True, since: int | None = None) -> Resumed | None:
        """The path was seen to be back `at`, and not before `since` (default: at once); the cut's end, if a picture already
        shown ends it."""
        self.restored, self.observable, self._since = at, observable, at if since is None else min(at, since)
        ends = (self._back(*seen, at) for seen in self._meanwhile)
        return next((end for end in ends if end is not None), None)

    def _back(self, step: Step, attempt: int, worst: int, restored: int) -> Resumed | None:
        if step.arrived <= self._since:
            return None
        reconnect = max(0, step.shown - restored) if self.observable else None
        if attempt != self.attempt:
            return self._end(CutOutcome.RESTARTED, worst, reconnect, attempt)
        if worst >= self.noticeable:
            return self._end(CutOutcome.RESUMED, worst, reconnect, attempt)
        return self._end(CutOutcome.UNAFFECTED, None, None, attempt)

    def on_refill(self, at: int, now: int, attempt: int) -> Resumed | None:
        """A buffered player fetched media; unaffected if that was after the return and its picture never stopped."""
        if self.restored is None or at <= self.restored or attempt != self.attempt or self.before is not None:
            return None
        if max(self._worst, now - self.last) >= self.noticeable:
            return None
        return self._end(CutOutcome.UNAFFECTED, None, None, attempt)

    def failed(self, failure: Failed, attempt: int) -> Resumed:
        return self._end(CutOutcome.FAILED, None, None, attempt, failure)

    def _end(
        self, outcome: CutOutcome, outage: int | None, reconnect: int | None, attempt: int, failure: Failed | None = None
    ) -> Resumed:
        return Resumed(
            kind=self.kind,
            step=self.step,
            outcome=outcome,
            outage=outage,
            reconnect=reconnect,
            attempts=attempt - self.attempt,
            failure=failure,
        )
