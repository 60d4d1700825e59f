"""Releases of the platforms that an agent looks at: it notices when one changes, remembers when that was, and holds the runs
since against those before.

By scenario: its schedules look at one platform. What a former life of this agent knew is read from the records, so that a restart
is no release, and one that came while it was away is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from probe.export.families import Families
from probe.judge.compare_figures import RunFigures
from probe.judge.compare_release import Changed, Releases
from probe.model.clock import NS
from probe.model.comparison import Comparison
from probe.store.records import Event

EVENT = "release"  # the kind of event: `subject` is the scenario; `data` has from, to, changed_ns


class ReleaseWatch:
    """Of an agent in `region`; `figures` hold the marker, which is absent until a change was seen."""

    def __init__(self, figures: Families, region: str) -> None:
        self._figures, self._region = figures, region
        self._releases: dict[str, Releases] = {}

    def remember(self, events: Iterable[Event]) -> None:
        """What was recorded of releases, newest first."""
        for event in events:
            if event.kind == EVENT and event.subject not in self._releases and event.region == self._region:
                changed = _changed(event.data)
                if changed is not None:
                    self._releases[event.subject] = Releases(changed)
                    self._mark(event.subject, changed)

    def seen(self, runs: Sequence[RunFigures]) -> list[tuple[str, Changed]]:
        """Runs that have ended. Returns the scenarios whose release is another one now."""
        news = []
        for run in runs:
            changed = self._releases.setdefault(run.place.scenario, Releases()).add(run)
            if changed is not None:
                self._mark(run.place.scenario, changed)
                news.append((run.place.scenario, changed))
        return news

    def changed(self, scenario: str) -> Changed | None:
        """The last change of a scenario's release; `before` is empty where it was the first that was seen. None: none is
        known."""
        known = self._releases.get(scenario)
        return None if known is None else known.changed

    def since_release(self, scenario: str, now: int, window: int) -> Comparison | None:
        """As `Releases.since_release`; times are Unix ns."""
        known = self._releases.get(scenario)
        return None if known is None else known.since_release(now, window)

    def _mark(self, scenario: str, changed: Changed) -> None:
        if changed.before:
            self._figures.set("release_time_seconds", {"scenario": scenario, "region": self._region}, changed.at / NS)


def noted(changed: Changed) -> Mapping[str, object]:
    """The event's data."""
    return {"from": changed.before, "to": changed.after, "changed_ns": changed.at}


def _changed(data: Mapping[str, object]) -> Changed | None:
    match data:
        case {"from": str(before), "to": str(after), "changed_ns": int(at)} if after:
            return Changed(before, after, at)
        case _:
            return None
