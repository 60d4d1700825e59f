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
from probe.model.comparison import Change, Comparison
from probe.store.records import Event

EVENT = "release"  # the kind of event: `subject` is the scenario; `data` has from, to, changed_ns
COMPARED = "release-compared"  # the runs since against those before; `why` says it, `data` has change, runs_before, runs_after


class ReleaseWatch:
    """Of an agent in `region`; `figures` hold the marker, which is absent until a change was seen."""

    def __init__(self, figures: Families, region: str) -> None:
        self._figures, self._region = figures, region
        self._releases: dict[str, Releases] = {}
        self.compared: dict[str, Comparison] = {}  # by scenario: as last looked at, of the release that there is

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
                if self.compared.pop(run.place.scenario, None) is not None:
                    self._say(run.place.scenario, None)
                news.append((run.place.scenario, changed))
        return news

    def changed(self, scenario: str) -> Changed | None:
        """The last change of a scenario's release; `before` is empty where it was the first that was seen. None: none is
        known."""
        known = self._releases.get(scenario)
        return None if known is None else known.changed

    def due(self, runs: Sequence[RunFigures]) -> list[str]:
        """Scenarios of these runs whose release is to be looked at again, now that they have ended."""
        return [name for name in dict.fromkeys(run.place.scenario for run in runs) if self._releases[name].due]

    def sides(self, scenario: str) -> tuple[Sequence[RunFigures], Sequence[RunFigures]]:
        """Its runs before the release and since."""
        return self._releases[scenario].sides

    def looked(self, scenario: str, found: Comparison) -> None:
        """What comparing its sides came to."""
        self.compared[scenario] = found
        self._say(scenario, found.change)

    def _say(self, scenario: str, said: Change | None) -> None:
        for change in Change:
            labels = {"scenario": scenario, "region": self._region, "kind": change.value}
            self._figures.set("release_change", labels, float(said is change))

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
