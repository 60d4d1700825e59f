"""Which drill is due when, which is overdue, and what covers it.

A drill is done when it ran to a verdict that says something of the platform: pass or weakness. One that was invalid, inconclusive
or aborted showed nothing, and one that was not restored is an incident: none of them moves a date. Before a campaign a drill
counts from `earliest` on, and is overdue at `latest`, even if it was done a week before that: what runs on the evening has been
deployed since. One that was never done has been due since 1970; were it left out, nobody would miss it.

Pure: files, records and the time of day come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from probe.drill.core.campaigns import DAY, Campaign, Campaigns, Rule
from probe.drill.core.facts import Verdict
from probe.model.clock import NS
from probe.scenario.units import format_duration

Kind = Literal["drill", "people"]
COUNTS = (Verdict.PASS, Verdict.WEAKNESS)
HELD = "held"  # what a rehearsal comes to
_SOON = 7 * DAY  # it is told so long before, or a quarter of the time between two


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A drill or rehearsal that there is. `length` ns, None where its file does not say; `faults`: kinds, each with what it is
    told, for people; `problem`: why it could not be run."""

    name: str
    kind: Kind
    owner: str
    tags: tuple[str, ...] = ()
    file: str = ""
    faults: tuple[str, ...] = ()
    length: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One that was run or held, whatever it came to. `at` Unix ns; `people` and `learned` of a rehearsal."""

    name: str
    kind: Kind
    at: int
    verdict: str
    reason: str = ""
    people: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it showed anything."""
        return self.verdict in COUNTS if self.kind == "drill" else self.verdict == HELD


class State(StrEnum):
    DONE = "done"
    LATER = "later"  # what is done now would be too old then
    DUE = "due"  # soon
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One date. `name`: the drill, or `tag:…` where any one of that tag will do; `due` Unix ns, 0: since ever; `by`: what covers
    it, or of a rule, what was done last; `counts_from`: what is done before then is too old for a campaign."""

    name: str
    kind: Kind
    owner: str
    why: str
    due: int
    state: State
    by: Done | None = None
    campaign: str = ""
    counts_from: int = 0


def dues(campaigns: Campaigns, known: Sequence[Known], done: Sequence[Done], now: int) -> tuple[Due, ...]:
    """Every date of the policy, and of each campaign that has not begun at Unix ns `now`; the most urgent first."""
    good = sorted((one for one in done if one.counts and one.at <= now), key=lambda one: one.at)
    found = [due for rule in campaigns.policy for due in _of_rule(rule, known, good, now)]
    for name, campaign in campaigns.campaigns.items():
        if campaign.begins > now:
            found += _of_campaign(name, campaign, campaigns, known, good, now)
    order = (State.OVERDUE, State.DUE, State.LATER, State.DONE)
    return tuple(sorted(found, key=lambda one: (order.index(one.state), one.due, one.name)))


def _of_rule(rule: Rule, known: Sequence[Known], good: Sequence[Done], now: int) -> Iterator[Due]:
    fitting = [one for one in known if one.kind == rule.kind]
    groups = [(one.name, [one]) for one in fitting if not rule.drills or one.name in rule.drills]
    if rule.tag is not None:
        groups = [(f"tag:{rule.tag}", [one for one in fitting if rule.tag in one.tags])]
    for name, members in groups:
        last = _last(members, good, 0, now)
        due = 0 if last is None else last.at + rule.every
        state = State.OVERDUE if due <= now else State.DUE if due - now <= min(_SOON, rule.every // 4) else State.DONE
        owners = ", ".join(dict.fromkeys(one.owner for one in members if one.owner))
        why = f"every {format_duration(rule.every)}"
        yield Due(name=name, kind=rule.kind, owner=owners, why=why, due=due, state=state, by=last)


def _of_campaign(
    name: str, campaign: Campaign, campaigns: Campaigns, known: Sequence[Known], good: Sequence[Done], now: int
) -> Iterator[Due]:
    before = campaign.before or campaigns.before
    opens, due = campaign.begins - before.earliest, campaign.begins - before.latest
    wanted: list[tuple[str, Kind, str, str]] = [
        (one.drill, "drill", one.owner, f"before {name}: {one.failure}") for one in campaign.failures
    ]
    wanted += [(one, "people", campaign.owner, f"before {name}") for one in campaign.people]
    for drill, kind, owner, why in wanted:
        members = [one for one in known if one.name == drill and one.kind == kind]
        last = _last(members, good, opens, now)
        state = State.OVERDUE if now >= due else State.DUE if now >= opens else State.LATER
        yield Due(
            name=drill, kind=kind, owner=owner, why=why, due=due, state=State.DONE if last is not None else state, by=last,
            campaign=name, counts_from=opens,
        )  # fmt: skip


def _last(members: Sequence[Known], good: Sequence[Done], begin: int, end: int) -> Done | None:
    names = {(one.name, one.kind) for one in members}
    fitting = [one for one in good if (one.name, one.kind) in names and begin <= one.at <= end]
    return fitting[-1] if fitting else None


def review_lines(found: Sequence[Due], done: Sequence[Done], since: int, now: int) -> list[str]:
    """Of the week's review: what is overdue, what was done since Unix ns `since` and what it came to, what was learned. Plain
    text, a line each; none where there is nothing to say."""
    lines = [
        f"overdue: {one.name}, {_since(one)}; {one.why}; {one.owner or 'nobody'} answers for it"
        for one in found
        if one.state is State.OVERDUE
    ]
    week = sorted((one for one in done if since <= one.at <= now), key=lambda one: one.at)
    for one in week:
        if one.kind == "drill":
            words = f" ({one.reason})" if one.reason else ""
            shown = "" if one.counts else "; it showed nothing, and stays due"
            lines.append(f"drilled: {one.name} on {day(one.at)}: {one.verdict}{words}{shown}")
        else:
            lines.append(f"rehearsed: {one.name} on {day(one.at)} with {', '.join(one.people)}")
            lines += [f"learned: {text} ({one.name})" for text in one.learned]
    return lines


def _since(one: Due) -> str:
    return f"due since {day(one.due)}" if one.due else "never done"


def day(at: int) -> str:
    """Of Unix ns, in UTC."""
    return f"{datetime.fromtimestamp(at // NS, UTC):%Y-%m-%d}"
