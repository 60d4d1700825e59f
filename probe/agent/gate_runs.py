"""The runs of one scenario as its gates see them: windows of what was made, beside what was due.

A gate is of a scenario, and of all its runs here: schedules that differ in where they publish, or when, fill the same windows.
One that is judged by publishing region sees those of each apart. All times are of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probe.agent.loading import Prepared
from probe.judge.reading import Seen, longest, terms
from probe.judge.track import Track
from probe.judge.windows import Cell, RunParts
from probe.model.clock import NS
from probe.scenario.gates import Term
from probe.scenario.schema import Gate, Scenario

_MISSED = 3  # slots without news, after which the last run is old
_LEAST = 3600 * NS  # that is kept whatever gates ask for


class GateRuns:
    """Of a scenario and its `schedules`, in an agent of `region`."""

    def __init__(self, schedules: Mapping[str, Prepared], region: str) -> None:
        self.wanted, self.keep = _asked(schedules)
        self._region = region
        self._counted: dict[str, int] = {}  # slots of each schedule when it was last asked
        self._released: int | None = None
        self._tracks: dict[str, Track] = {}
        self.take(schedules)

    def take(self, schedules: Mapping[str, Prepared]) -> bool:
        """Other schedules of the scenario. Whether what is known of their runs is all that their gates ask for; nothing changes
        where it is not."""
        cells, keep = _asked(schedules)
        origins = {"", *(self._origin(prepared) for prepared in schedules.values())}
        if self._tracks and not (cells <= self.wanted and keep <= self.keep and origins <= self._tracks.keys()):
            return False
        self._tracks = {origin: self._tracks.get(origin) or Track(self.wanted, self.keep) for origin in sorted(origins)}
        self.schedules = schedules
        return True

    @property
    def scenario(self) -> Scenario:
        return next(iter(self.schedules.values())).scenario

    @property
    def origins(self) -> list[str]:
        """The publishing regions of its schedules."""
        return [origin for origin in self._tracks if origin]

    def _origin(self, prepared: Prepared) -> str:
        return prepared.settings.publish_region or self._region

    def _of(self, schedule: str) -> list[Track]:
        prepared = self.schedules.get(schedule)
        return [] if prepared is None else [self._tracks[""], self._tracks[self._origin(prepared)]]

    # -- what is told

    def ran(self, schedule: str, run: RunParts, now: int, unix: int) -> None:
        """A run that was made has ended; at `now` it is Unix `unix`."""
        for track in self._of(schedule):
            at, prepared = unix - (now - run.at), self.schedules[schedule]
            for _ in range(_MISSED):
                at = prepared.entry.when.after(at, 0.0)
            track.ran(run, min(at - unix, 2**62) + now + prepared.deadline)

    def due(self, schedule: str, count: int, now: int) -> None:
        """So many slots of a schedule have come in all."""
        new = count - self._counted.get(schedule, count)
        for track in self._of(schedule):
            track.due(now, max(new, 0))
        self._counted[schedule] = count

    def was_due(self, schedule: str, slots: Iterable[int]) -> None:
        """Slots of the time before."""
        before = list(slots)
        for track in self._of(schedule):
            track.was_due(before)

    def released(self, at: int) -> None:
        """A release of the platform was first seen then."""
        self._released = at

    # -- what is asked

    def expected(self, origin: str, begin: int, now: int) -> int:
        """Slots since `begin` whose runs should have ended, if they take as long as the last few."""
        return self._tracks[origin].expected(begin, now, self._longest_run)

    @property
    def _longest_run(self) -> int:
        return max(prepared.deadline for prepared in self.schedules.values())

    def seen(self, gate: Gate, origin: str, protocol: str, term: Term, window: int | None, now: int) -> Seen:
        """A term of a gate over its window."""
        released = self._released if gate.since is not None else None
        return self._tracks[origin].seen(term, protocol, window, now, self._longest_run, since=released, of=gate.since or "")


def _asked(schedules: Mapping[str, Prepared]) -> tuple[frozenset[Cell], int]:
    """The cells that gates over an agent's own runs ask for, and ns that all gates look back."""
    cells, keep = set(), _LEAST
    for prepared in schedules.values():
        for gate in prepared.scenario.gates:
            keep = max(keep, longest(gate))
            protocols = prepared.protocols if "protocol" in gate.by else ()
            if gate.source == "agent":
                cells |= {(term.indicator, protocol) for term, _ in terms(gate) for protocol in ("", *protocols)}
    return frozenset(cells), keep
