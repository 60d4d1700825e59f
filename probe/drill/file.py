"""A drill file: what is broken, what ought to be true before, meanwhile and after, and when to stop.

Models only. `check` finds what needs two places or the table of faults; whether a target may be touched is the policy's
(`policy`), which is not the drill's author's to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from probe.scenario.fields import Model, Name
from probe.scenario.gates import Expression
from probe.scenario.units import Duration, PositiveDuration, Ratio


class Condition(Model):
    """An expression of the gate language over this drill's own traffic."""

    when: Any  # → Expression; by the owner of this file


class FaultUse(Model):
    """One fault of the method: `- origin-killed: {fault: process, at: 0s, for: 8s, with: {…}}`."""

    KEY = "name"
    name: Name
    fault: str
    at: Duration = 0  # after the first injection
    lasts: PositiveDuration = Field(alias="for")
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")


class Starts(Model):
    """Whole runs of the scenario, one after the other, each a start in the middle of it."""

    every: PositiveDuration = 3 * 10**9
    most: int = 4  # under way at once, per region


class Traffic(Model):
    """`stay`: one audience per region that came before the fault and stays for all of it."""

    stay: bool = True
    starts: Starts | None = Starts()


class Steady(Model):
    of: tuple[Expression, ...]
    within: PositiveDuration = 60 * 10**9  # how long it may take to be proven


class Abort(Model):
    """One condition to stop by; exactly one of them."""

    when: Expression | None = None  # over the drill's regions
    outside: Expression | None = None  # over every other region of the scenario: the blast went further than meant
    budget: Ratio | None = None  # of any objective's error budget, spent by this drill
    incident: bool | None = None  # a page that is not this drill's
    gate: str | None = None  # a gate of the fleet, outside the drill's region


class Recovery(Model):
    """What recovered means; one of `when` and `reconnect`. Counted from the restore that was observed."""

    within: PositiveDuration
    when: Expression | None = None
    reconnect: Ratio | None = None  # of the viewers that played when the fault began


class Comms(Model):
    """Who is told, and how. `announce`: words for the channel; `webhook`: where they are posted (a reference, or a URL)."""

    channel: str = ""
    announce: str = ""


class Drill(Model):
    KEY = "drill"
    drill: Name
    description: str = ""
    owner: str
    comms: Comms = Comms()
    scenario: str
    regions: tuple[str, ...] = ()
    traffic: Traffic = Traffic()
    steady: Steady
    method: tuple[FaultUse, ...]
    meanwhile: tuple[Expression, ...] = ()  # promises kept while it is broken
    abort: tuple[Abort, ...]
    recovery: tuple[Recovery, ...]
    hold: Duration = 0  # longer than the longest fault
    tags: tuple[str, ...] = ()  # the failure scenarios of a campaign that this one rehearses
