"""A schedule's runs since the platform's release changed, against those of the release before: is it to be rolled back?

The same comparison as of two smoke tests, on runs that were made anyway. A run that could not learn the release (it failed
before) is one of the release that was last seen: what a new release breaks first may well be the step that would have named it.
One that began before the change and ends after it is no change back. Where a platform answers with two releases by turns, each
turn is a change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from probe.judge.compare import compare
from probe.judge.compare_figures import RunFigures
from probe.model.comparison import Comparison

FIRST_LOOK = 8  # runs since a release
MOST = 150  # of a release, the latest: the last look is at 128


@dataclass(frozen=True, slots=True)
class Changed:
    """From one release to another; `at`: when the first run that saw the new one began, Unix ns. `before` empty: none was
    known."""

    before: str
    after: str
    at: int


class Releases:
    """Runs of one schedule as they end; `changed` is the last change, None while no release is known. `known`: what a life of the
    agent before this one knew."""

    def __init__(self, known: Changed | None = None) -> None:
        self.changed = known
        self._before: deque[RunFigures] = deque(maxlen=MOST)
        self._since: deque[RunFigures] = deque(maxlen=MOST)

    def add(self, run: RunFigures) -> Changed | None:
        """A run that has ended. Returns the change, where it is the first to see another release."""
        seen = self.changed.after if self.changed is not None else ""
        if self.changed is not None and self.changed.before and run.began < self.changed.at:
            self._before.append(run)
            return None
        if run.release in ("", seen):
            self._since.append(replace(run, release=seen))
            return None
        self._before = self._since if seen else deque(maxlen=MOST)
        self._since = deque([run], maxlen=MOST)
        self.changed = Changed(seen, run.release, run.began)
        return self.changed

    @property
    def sides(self) -> tuple[tuple[RunFigures, ...], tuple[RunFigures, ...]]:
        """The runs of the release before, and those since."""
        return tuple(self._before), tuple(self._since)

    @property
    def due(self) -> bool:
        """Whether it is time to look: at 8 runs since a change, 16, 32 and so on. Who looks after each run finds something in the
        end; five looks in all find by mistake at most five times what one does."""
        count = len(self._since)
        return bool(self._before) and count >= FIRST_LOOK and count & (count - 1) == 0


def since_release(before: Sequence[RunFigures], after: Sequence[RunFigures]) -> Comparison | None:
    """The runs of a release against those of the one before it. None where there are none of either."""
    return compare(before, after) if before and after else None
