"""Patterns of failures: what happens in a month, when and where it is drawn from a seed, and what is true meanwhile.

The truth is not what a rule would say of it: a region in which nothing starts needs somebody now, five bad minutes at every
deploy need somebody this week, single failures nobody at all. Figures of a pattern can be changed: `slow-burn:loss=5%,lasts=3d`;
several patterns at once are joined by `+`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from probe.model.clock import NS
from probe.rules.faults import WATCHED, Breaks, Fault
from probe.rules.fleet import Fleet
from probe.rules.history import About, Incident, Needs, Place
from probe.scenario.indicators import INDICATORS
from probe.scenario.units import format_duration, format_ratio, parse_duration, parse_ratio

MINUTE, HOUR, DAY = 60 * NS, 3600 * NS, 86_400 * NS
MONDAY = 1_767_571_200 * NS  # 2026-01-05: a simulated month begins at its midnight, UTC
MOST_TIMES = 1_000
Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`times` incidents of `lasts` ns, in which a share `loss` of runs is broken, among a share `noise` of single failures."""

    times: int = 1
    lasts: int = HOUR
    loss: float = 1.0
    noise: float = 0.0005

    def __str__(self) -> str:
        loss = f"{format_ratio(self.loss)} of runs" if self.loss < 1 else "every run"
        what = f"{self.times} × {format_duration(self.lasts)}, {loss}; " if self.times else ""
        return f"{what}noise {format_ratio(self.noise)}"


@dataclass(frozen=True, slots=True)
class World:
    """What faults can be about."""

    began: int
    ended: int
    regions: tuple[str, ...]
    publish_regions: tuple[str, ...]
    protocols: tuple[str, ...]

    @classmethod
    def of(cls, fleet: Fleet, began: int, ended: int) -> World:
        beats = [(beat.publish_region, agent.region) for agent in fleet.agents for beat in agent.beats]
        watched = (slo for slo in fleet.slos if INDICATORS[slo.indicator].of in WATCHED)
        protocols = {cell.protocol for slo in watched for cell in slo.cells if cell.protocol}
        regions, publishing = {region for _, region in beats}, {publish for publish, _ in beats}
        return cls(began, ended, *(tuple(sorted(names)) for names in (regions, publishing, protocols)))

    def starts(self, draw: Random, given: Parameters) -> list[int]:
        """One beginning in each of `times` equal parts, not on the first day, which has no past to judge by."""
        first = min(self.began + DAY, (self.began + self.ended) // 2)
        part = (self.ended - first) / max(1, given.times)
        room = max(0.0, part - given.lasts)
        return [int(first + n * part + draw.random() * room) for n in range(given.times)]


Drawn = tuple[list[Fault], list[Incident]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """`spoken`: what happens, in words. `draw` gives its faults and what is true of them."""

    name: str
    spoken: str
    draw: Callable[[World, Random, Parameters], Drawn]
    given: Parameters


def _one(world: World, draw: Random, given: Parameters, where: Callable[[Random], Place], breaks: Breaks, **more: Any) -> Drawn:
    """`times` stretches, each somewhere else."""
    faults, incidents = [], []
    needs, about = more.get("needs", Needs.PAGE), more.get("about", About.PLATFORM)
    for began in world.starts(draw, given):
        place, ended = where(draw), min(began + given.lasts, world.ended)
        faults.append(Fault(began=began, ended=ended, place=place, breaks=breaks, loss=given.loss))
        incidents.append(Incident(name=breaks.value, began=began, ended=ended, place=place, needs=needs, about=about))
    return faults, incidents


def _region(world: World) -> Callable[[Random], Place]:
    return lambda draw: Place(region=str(draw.choice(world.regions)))


def _ingest(world: World) -> Callable[[Random], Place]:
    return lambda draw: Place(publish_region=str(draw.choice(world.publish_regions)))


def _protocol(world: World) -> Callable[[Random], Place]:
    return lambda draw: Place(protocol=str(draw.choice(world.protocols)) if world.protocols else "")


def _flapping(world: World, draw: Random, given: Parameters) -> Drawn:
    """Down for 3 of every 12 minutes: over before many rules have looked twice."""
    faults, incidents = _one(world, draw, given, _region(world), Breaks.PLATFORM)
    down, every = 3 * MINUTE, 12 * MINUTE
    parts = [replace(f, began=at, ended=min(at + down, f.ended)) for f in faults for at in range(f.began, f.ended, every)]
    return parts, incidents


def _deploys(world: World, draw: Random, given: Parameters) -> Drawn:
    """On working days, at working hours, everywhere. One truth: the way of deploying is wrong."""
    days = [at for at in range(world.began + DAY, world.ended, DAY) if (at - MONDAY) // DAY % 7 < 5]
    chosen = sorted(draw.choice(days, size=min(given.times, len(days)), replace=False).tolist()) if days else []
    begins = [int(day + (9 + 8 * draw.random()) * HOUR) for day in chosen]
    faults = [
        Fault(began=at, ended=at + given.lasts, place=Place(), breaks=Breaks.PLATFORM, loss=given.loss)
        for at in begins
        if at + given.lasts <= world.ended
    ]
    if not faults:
        return [], []
    whole = Incident(name="deploys", began=faults[0].began, ended=faults[-1].ended, place=Place(), needs=Needs.TRIAGE)
    return faults, [whole]


def _campaign(world: World, draw: Random, given: Parameters) -> Drawn:
    """Saturdays from 20:00 UTC: starts become slow in one region, and some fail."""
    nights = [at for at in range(MONDAY + 5 * DAY + 20 * HOUR, world.ended, 7 * DAY) if world.began <= at][: given.times]
    faults, incidents = [], []
    for began in nights:
        place, ended = Place(region=str(draw.choice(world.regions))), min(began + given.lasts, world.ended)
        slow = Fault(began=began, ended=ended, place=place, breaks=Breaks.SLOW, loss=given.loss)
        faults += [slow, replace(slow, breaks=Breaks.PLATFORM, loss=given.loss / 3)]
        incidents.append(Incident(name="campaign night", began=began, ended=ended, place=place, needs=Needs.PAGE))
    return faults, incidents


def _table(*rows: Pattern) -> dict[str, Pattern]:
    return {row.name: row for row in rows}


P = Parameters
PATTERNS = _table(
    Pattern(
        name="region-down", spoken="nothing starts for viewers in one region",
        draw=lambda w, d, p: _one(w, d, p, _region(w), Breaks.PLATFORM), given=P(times=4, lasts=45 * MINUTE),
    ),
    Pattern(
        name="ingest-down", spoken="nobody can publish in one region, seen from everywhere",
        draw=lambda w, d, p: _one(w, d, p, _ingest(w), Breaks.INGEST), given=P(times=4, lasts=45 * MINUTE),
    ),
    Pattern(
        name="protocol-down", spoken="nobody can watch over one protocol; rooms still start",
        draw=lambda w, d, p: _one(w, d, p, _protocol(w), Breaks.PLAYBACK), given=P(times=3, lasts=HOUR),
    ),
    Pattern(
        name="partial", spoken="a fifth of the runs in one region fails",
        draw=lambda w, d, p: _one(w, d, p, _region(w), Breaks.PLATFORM), given=P(times=3, lasts=2 * HOUR, loss=0.2),
    ),
    Pattern(
        name="slow-burn", spoken="2 % of the runs fail everywhere, for days",
        draw=lambda w, d, p: _one(w, d, p, lambda _: Place(), Breaks.PLATFORM, needs=Needs.TRIAGE),
        given=P(times=1, lasts=10 * DAY, loss=0.02),
    ),
    Pattern(
        name="flapping", spoken="one region is down for 3 of every 12 minutes", draw=_flapping, given=P(times=3, lasts=4 * HOUR),
    ),
    Pattern(
        name="campaign-night", spoken="on Saturday nights a quarter of starts in one region is slow, and some fail",
        draw=_campaign, given=P(times=5, lasts=4 * HOUR, loss=0.25),
    ),
    Pattern(
        name="deploys", spoken="deploys that break everything for 5 minutes", draw=_deploys,
        given=P(times=12, lasts=5 * MINUTE),
    ),
    Pattern(
        name="brown-out", spoken="a region's probe is starved: it is tainted, and fails by its own fault",
        draw=lambda w, d, p: _one(w, d, p, _region(w), Breaks.TAINT, needs=Needs.TRIAGE, about=About.PROBE),
        given=P(times=3, lasts=6 * HOUR, loss=0.8),
    ),
    Pattern(
        name="agent-silent", spoken="a region's agent makes no runs",
        draw=lambda w, d, p: _one(w, d, p, _region(w), Breaks.SILENCE, needs=Needs.TRIAGE, about=About.PROBE),
        given=P(times=2, lasts=6 * HOUR),
    ),
    Pattern(
        name="noise", spoken="single failures, nothing else", draw=lambda w, d, p: ([], []),
        given=P(times=0, noise=0.003),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chosen:
    """One pattern with its figures, or several at once: `a+b:loss=5%`."""

    text: str
    parts: tuple[tuple[Pattern, Parameters], ...]

    @property
    def spoken(self) -> str:
        return "; ".join(f"{pattern.spoken} ({given})" for pattern, given in self.parts)


def parse_pattern(text: str) -> Chosen:
    """`name[:figure=value,…][+name…]`: figures are times, lasts, loss and noise. Raises ValueError, with what there is."""
    return Chosen(text, tuple(_part(part) for part in text.split("+")))


def _part(text: str) -> tuple[Pattern, Parameters]:
    name, _, rest = text.strip().partition(":")
    pattern = PATTERNS.get(name)
    if pattern is None:
        close = get_close_matches(name, PATTERNS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(PATTERNS)}"
        raise ValueError(f"unknown pattern {name!r}; {hint}")
    given = pattern.given
    for setting in filter(None, rest.split(",")):
        key, _, value = setting.partition("=")
        given = _changed(given, key.strip(), value.strip())
    return pattern, given


def _changed(given: Parameters, key: str, value: str) -> Parameters:
    match key:
        case "times":
            if not value.isdecimal() or int(value) > MOST_TIMES:
                raise ValueError(f"times={value} is not a number of incidents; write times=3")
            return replace(given, times=int(value))
        case "lasts":
            if (lasts := parse_duration(value)) <= 0:
                raise ValueError("lasts must be longer than nothing")
            return replace(given, lasts=lasts)
        case "loss":
            return replace(given, loss=parse_ratio(value))
        case "noise":
            return replace(given, noise=parse_ratio(value))
        case _:
            raise ValueError(f"a pattern has no {key!r}; it has times, lasts, loss and noise, such as slow-burn:loss=5%,lasts=3d")
