"""Notices held against the truth: what was found and how soon, what was missed, who was woken for nothing.

A notice belongs to an incident where it is about the same thing, touches the same cells and fires while the incident lasts or
within half an hour after. An incident that needs a page is missed where nobody was paged before it ended; one that needs triage,
where nothing was told at all. A page is false where it belongs to no incident that needs anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from probe.rules.gathered import NAMED
from probe.rules.history import History, Incident, Needs, Place
from probe.rules.patterns import MINUTE
from probe.rules.told import Notice

AFTERWARDS = 30 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`took` and `lingered` in ns: from an incident's beginning to the first notice, and from its end until its last notice had
    resolved. None: nobody knows what was true."""

    weeks: float
    incidents: int | None
    missed: int | None
    took: tuple[int, ...]
    lingered: tuple[int, ...]
    pages: int
    false_pages: int | None
    tickets: int

    @property
    def pages_a_week(self) -> float:
        return self.pages / self.weeks

    @property
    def found_in(self) -> int | None:
        """The median detection."""
        return None if not self.took else int(median(self.took))

    @property
    def found_at_last(self) -> int | None:
        """The slowest detection."""
        return max(self.took, default=None)


def score(history: History, pages: Sequence[Notice], tickets: Sequence[Notice]) -> Score:
    """How these notices did over that history."""
    if history.incidents is None:
        return Score(
            weeks=history.weeks, incidents=None, missed=None, took=(), lingered=(), pages=len(pages), false_pages=None,
            tickets=len(tickets),
        )  # fmt: skip
    needing = [incident for incident in history.incidents if incident.needs is not Needs.NOBODY]
    took, lingered = [], []
    for incident in needing:
        told = pages if incident.needs is Needs.PAGE else (*pages, *tickets)
        mine = [notice for notice in told if belongs(notice, incident, 0)]
        if mine:
            took.append(max(0, min(notice.began for notice in mine) - incident.began))
            ended = max(history.ended if notice.ended is None else notice.ended for notice in mine)
            lingered.append(max(0, ended - incident.ended))
    return Score(
        weeks=history.weeks,
        incidents=len(needing),
        missed=len(needing) - len(took),
        took=tuple(took),
        lingered=tuple(lingered),
        pages=len(pages),
        false_pages=sum(not _true(page, needing) for page in pages),
        tickets=len(tickets),
    )


def belongs(notice: Notice, incident: Incident, afterwards: int = AFTERWARDS) -> bool:
    """Whether the notice is of that incident, or of what is left of it `afterwards`."""
    overlaps = notice.began <= incident.ended + afterwards and (notice.ended is None or notice.ended > incident.began)
    return overlaps and notice.about is incident.about and any(_touches(place, incident) for place in notice.places)


def _touches(place: Place, incident: Incident) -> bool:
    return incident.place.covers(*(getattr(place, name) for name in NAMED))


def _true(page: Notice, incidents: Iterable[Incident]) -> bool:
    return any(belongs(page, incident) for incident in incidents)


def total(scores: Sequence[Score]) -> Score:
    """Of several histories together; their weeks add up."""
    known = [s for s in scores if s.incidents is not None]
    return Score(
        weeks=sum(s.weeks for s in scores),
        incidents=sum(s.incidents or 0 for s in known) if known else None,
        missed=sum(s.missed or 0 for s in known) if known else None,
        took=tuple(t for s in scores for t in s.took),
        lingered=tuple(t for s in scores for t in s.lingered),
        pages=sum(s.pages for s in scores),
        false_pages=sum(s.false_pages or 0 for s in known) if known else None,
        tickets=sum(s.tickets for s in scores),
    )
