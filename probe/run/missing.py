"""The picture that is missed: since when, why, how often somebody tried to get it back, and how long there is left.

Pure: it is told instants (monotonic ns), reads no clock, and says what is to be told of it. The reconnect deadline runs from
the moment the picture was missed, or, under a cut of our own, from the return of the path; it runs on from the first time while
the picture only comes now and then, for that is no recovery. While we hold the path nobody can come back, and no deadline runs.
What is still missing when the stay is ended is an interruption left open, or, where it has lasted for longer than there is to
come back, one that failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from probe.model.clock import NS
from probe.model.observation import CutOutcome, Resumed
from probe.model.outcome import Failed
from probe.model.stage import Phase

UNPLANNED = "unplanned"
_STEADY = 2 * NS  # progress must last this long before a session counts as back
_AT_LEAST = NS // 2  # an attempt is given no less, however little is left
_TOLD = ("timeout", "refused", "reset", "closed")  # what a last try may be called by; any other is a timeout


@dataclass(slots=True, kw_only=True)
class Missing:
    """`deadline` ns are given to come back. `since`: when the picture was missed, None while it is there, steadily. `last`: when
    one was shown last."""

    deadline: int
    last: int = 0
    since: int | None = None
    why: Failed = field(default_factory=lambda: Failed(Phase.PLAYING, "ended"))
    tries: int = 0
    _back: int | None = None

    @property
    def away(self) -> bool:
        """Missed, and not seen since."""
        return self.since is not None and self._back is None

    def missed(self, why: Failed, now: int) -> None:
        """The picture stopped. Why it did so first is kept."""
        self._back = None
        if self.since is None:
            self.since, self.why, self.tries = now, why, 0

    def path_returned(self, at: int) -> None:
        """Nobody could have come back before."""
        if self.since is not None:
            self.since = max(self.since, at)

    def seen(self, shown: int) -> Resumed | None:
        """A picture was shown; the interruption's end, where it is the first since one was missed."""
        before, self.last = self.last, max(self.last, shown)
        if self.since is None:
            return None
        first, self._back = self._back is None, self._back or shown
        if shown - self._back >= _STEADY:
            self.since = self._back = None
        return self._told(CutOutcome.RESTARTED, at=shown, outage=shown - before) if first else None

    def too_late(self, now: int, *, held: bool) -> bool:
        """Whether the deadline has passed. `held`: by a cut of our own."""
        return self.since is not None and not held and now - self.since > self.deadline

    def limit(self, start: int, now: int, *, held: bool) -> int:
        """How long an attempt may take to come up: the `start`'s deadline, and a reconnect no more than is left."""
        if self.since is None or held:
            return start
        return min(start, max(self.deadline - (now - self.since), _AT_LEAST))

    def failure(self, last: Failed) -> Failed:
        """That nothing came back in time, by the `last` try."""
        reason = last.reason if last.reason in _TOLD or last.reason.startswith("http_") else "timeout"
        detail = f"not back within {self.deadline / NS:g} s; last try: {last.phase}/{last.reason}"
        return Failed(Phase.RECONNECTING, reason, detail)

    def failed(self, failure: Failed) -> Resumed:
        return self._told(CutOutcome.FAILED, failure=failure)

    def left_open(self, now: int, standing: int | None, why: Failed) -> Resumed | None:
        """What is to be told where the stay is ended at `now`; None: the picture is there. `standing`: since when it has stood,
        where nobody has missed it yet; `why` it does."""
        standing, tries = (self.last, self.tries) if self.away else (standing, 0)
        if standing is None or standing >= now:
            return None
        late = now - standing > self.deadline
        return Resumed(
            at=now,
            kind=UNPLANNED,
            step="",
            outcome=CutOutcome.FAILED if late else CutOutcome.OPEN,
            attempts=tries,
            failure=self.failure(why) if late else why,
            so_far=now - standing,
        )

    def _told(self, outcome: CutOutcome, **more: Any) -> Resumed:
        return Resumed(kind=UNPLANNED, step="", outcome=outcome, attempts=self.tries, **more)
