"""What `probe smoke` takes beside what every running command takes: how often to run, and what to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.judge.compare import LEAST, RATIOS, Least
from probe.model.comparison import Place
from probe.plan import Plan
from probe.run.compared import Wanted
from probe.run.former import Former, read_former
from probe.scenario.units import parse_duration, parse_ratio

_NS = 1e9
_GROUP = Group("Comparing", sort_key=1)
_MOST = 200  # runs of a scenario and region in one smoke test


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Comparing:
    """Options of `probe smoke` alone."""

    repeat: Annotated[
        int,
        Parameter(
            group=_GROUP,
            help="Run each scenario so many times, one after the other, and judge them together.",
            validator=Number(gte=1, lte=_MOST),
        ),
    ] = 1
    compare: Annotated[
        tuple[Path, ...],
        Parameter(
            group=_GROUP,
            negative=(),
            show_default=False,
            help="The last good build: a verdict.json, an --out directory, or a directory of those; repeatable.",
        ),
    ] = ()
    compare_store: Annotated[
        str | None,
        Parameter(
            group=_GROUP,
            show_default=False,
            help="Also, or instead: an agent's records of the last week, a file or a URL; env:NAME, file:PATH hold one.",
        ),
    ] = None
    compare_fail: Annotated[
        bool, Parameter(group=_GROUP, negative=(), help="Worse is no-go, and what cannot be told is inconclusive.")
    ] = False
    least: Annotated[
        tuple[str, ...],
        Parameter(
            group=_GROUP,
            negative=(),
            show_default=False,
            help="The smallest difference that matters, such as --least first_frame=150ms or --least start=5%; repeatable.",
        ),
    ] = ()


def wanted(options: Comparing) -> Wanted | None:
    """What is to be compared with, files read and records not yet; None: nothing. Raises ConfigError."""
    if not options.compare and options.compare_store is None:
        given = [name for name, there in (("--compare-fail", options.compare_fail), ("--least", options.least)) if there]
        if given:
            raise ConfigError([Located(given[0], 0, 0, "", "says how to compare; say with what: --compare LAST-GOOD")])
        return None
    least = dict(_least(text) for text in options.least)
    former = read_former(options.compare) if options.compare else None
    return Wanted(former or Former((), frozenset(), ()), options.compare_fail, least)


async def complete(asked: Wanted, options: Comparing, plans: Iterable[Plan], release: str, clock: SystemClock) -> Wanted:
    """With the records, too. Raises ConfigError where nothing of it can be compared with these plans, StoreError."""
    here = places(plans)
    former = asked.former
    if options.compare_store is not None:
        from probe.cli.compare_records import joined, read_records  # a database, for those who have one

        former = joined(former, await read_records(options.compare_store, here, release, clock))
    former.require(here)
    return replace(asked, former=former)


def places(plans: Iterable[Plan]) -> set[Place]:
    return {Place(plan.scenario, plan.publish_region, plan.region) for plan in plans}


def _least(text: str) -> tuple[str, Least]:
    name, _, value = text.partition("=")
    known = (*LEAST, *RATIOS)
    try:
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        shares = name in RATIOS or name == "freeze_ratio"
        amount = parse_ratio(value) if shares else parse_duration(value) / _NS
        if amount <= 0:
            raise ValueError("a difference that matters is larger than nothing")
        return name, Least(amount)
    except ValueError as error:
        raise ConfigError([Located("--least", 0, 0, text, str(error))]) from None
