"""When each runbook is to be read through again, as a date and as a metric.

A text that nobody has read for a year is believed in the one hour when it is wrong. So each is due some time after its last
reading, and soon after a major incident in which it was used; overdue are those where
`time() > streamprobe_runbook_review_due_timestamp_seconds`. One that was never read through is due since 1970: were it absent,
nobody would miss it. It is a line of a dashboard and never an alert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from probe.rules.groups import Group, Rule
from probe.scenario.runbooks import Note, Runbooks

METRIC = "streamprobe_runbook_review_due_timestamp_seconds"
FILE = "runbooks"  # of the rules
_DAY = 86_400 * 10**9
_INTERVAL = 60 * 10**9
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Of one runbook. `reviewed` None: never; `due` then is the beginning of time. `because`: the incident that makes it due."""

    owner: str
    reviewed: date | None
    every: int
    due: date
    because: str = ""

    @property
    def due_seconds(self) -> int:
        """Unix time."""
        return (self.due - _EPOCH).days * 86_400


def review(runbooks: Runbooks, notes: Sequence[Note], owner: str) -> Review:
    """`notes`: those that belong to the runbook, the most special last. `owner`: of the alert, where no note says one."""
    owner = next((note.owner for note in reversed(notes) if note.owner), runbooks.owner or owner)
    reviewed = next((note.reviewed for note in reversed(notes) if note.reviewed is not None), runbooks.reviewed)
    every = next((note.every for note in reversed(notes) if note.every is not None), runbooks.every)
    if reviewed is None:
        return Review(owner=owner, reviewed=None, every=every, due=_EPOCH)
    due, because = reviewed + _days(every), ""
    for incident in sorted((one for note in notes for one in note.incidents), key=lambda one: one.on):
        soon = incident.on + _days(runbooks.after_incident)
        if incident.on > reviewed and soon < due:
            due, because = soon, incident.what
    return Review(owner=owner, reviewed=reviewed, every=every, due=due, because=because)


def review_group(due: Mapping[str, Review]) -> Group:
    """Recording rules for each runbook: the value of label `runbook` → its review."""
    rules = (
        Rule(record=METRIC, expr=f"vector({one.due_seconds})", labels={"runbook": name}) for name, one in sorted(due.items())
    )
    return Group(name="runbook reviews", interval=_INTERVAL, rules=tuple(rules))


def _days(ns: int) -> timedelta:
    return timedelta(days=-(-ns // _DAY))
