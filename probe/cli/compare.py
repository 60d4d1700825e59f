"""What `probe smoke` takes beside what every running command takes: how often to run, and what to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from probe.errors import ConfigError, Located
from probe.judge.compare import LEAST, RATIOS, Least
from probe.model.comparison import Place
from probe.plan import Plan
from probe.run.compared import Wanted
from probe.run.former import read_former
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
    """What is to be compared with, read; None: nothing. Raises ConfigError."""
    if not options.compare:
        given = [name for name, there in (("--compare-fail", options.compare_fail), ("--least", options.least)) if there]
        if given:
            raise ConfigError([Located(given[0], 0, 0, "", "says how to compare; say with what: --compare LAST-GOOD")])
        return None
    least = dict(_least(text) for text in options.least)
    return Wanted(read_former(options.compare), options.compare_fail, least)


def places(plans: Iterable[Plan]) -> list[Place]:
    return [Place(plan.scenario, plan.publish_region, plan.region) for plan in plans]


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
