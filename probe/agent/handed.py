"""A run that was made elsewhere, as it passes between two agents: its facts, and what the run was.

An agent that makes every schedule once and is gone has counters that are born with the run and die with it: no rule ever sees
them rise. So it gives its runs to one that stays, which counts them in series that were there at 0 before, judges them by its own
gates, records them and sends their traces: as if a worker of its own had made them.

Whoever receives one believes as little as it can: facts are decoded by the codec that workers are read with (codec.py), told by
the same tally, and must be of a run that this agent could have made: a schedule of its configuration, its region, the steps of
its plan. So nothing becomes a label that its own runs would not make one, and no plan, secret or address is ever taken from
outside.

    {"shape": …, "agent": …, "schedule": …, "began": …, "over": …, "crashed": …}\\n
    [[fact], …]
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from probe.agent import codec
from probe.agent.job import Ended, Job
from probe.agent.pipe import Garbled
from probe.agent.tally import Tally
from probe.drivers.table import spoken
from probe.errors import ProbeError
from probe.model.clock import NS, Clock
from probe.model.observation import Observation, RunBegan, RunEnded, SessionBegan, StepBegan, StepDone
from probe.plan import Plan

MOST = 16 << 20  # bytes of one run
_MOST_FACTS = 150_000
_MOST_HEAD = 4096
_OLDEST, _AHEAD = 24 * 3600 * NS, 300 * NS  # of a run, by the clock of who receives it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_TRACE = re.compile("[0-9a-f]{32}")
RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Unfit(ProbeError):
    """It is not taken, and why, in words that repeat nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A run that is over. `agent` made it, by its schedule of that name; `began` and `over` are Unix ns; `ended` as its worker's
    overseer tells it."""

    agent: str
    schedule: str
    began: int
    over: int
    ended: Ended
    facts: Sequence[Observation]

    @property
    def run_id(self) -> str:
        return self.facts[0].run


def encode(handed: Handed) -> bytes:
    head = {
        "shape": shape(), "agent": handed.agent, "schedule": handed.schedule, "began": handed.began, "over": handed.over,
        "crashed": handed.ended.crashed,
    }  # fmt: skip
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + codec.encode(handed.facts)


def decode(data: bytes, run_id: str) -> Handed:
    """Raises Unfit. Some 15 µs for each fact: for a thread."""
    head, facts = data[:_MOST_HEAD].partition(b"\n")[0], data[data.find(b"\n") + 1 :]
    said = _head(head)
    if said["shape"] != shape():
        raise Unfit("it comes from another version of stream-probe: both are to be of one")
    try:
        decoded = codec.decode_facts(facts, parse_constant=_no_number)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unfit("what follows is no list of facts") from error
    if not decoded or len(decoded) > _MOST_FACTS:
        raise Unfit(f"a run has between 1 and {_MOST_FACTS} facts")
    last = decoded[-1]
    if not isinstance(last, RunEnded) or any(fact.run != run_id for fact in decoded):
        raise Unfit("the facts are not of this one run, to its end")
    return Handed(
        agent=said["agent"],
        schedule=said["schedule"],
        began=said["began"],
        over=said["over"],
        ended=Ended(outcome=last.outcome, crashed=said["crashed"]),
        facts=decoded,
    )


def fitted(handed: Handed, job: Job, now: int, clock: Clock) -> Job:
    """The job that this run was, made of one of our own of that schedule. `now` Unix ns. Raises Unfit where it could not have
    been ours."""
    if not now - _OLDEST <= handed.began <= handed.over <= now + _AHEAD:
        raise Unfit("it was made more than a day ago, or has yet to be made: look at both clocks")
    first = handed.facts[0]
    if not isinstance(first, RunBegan):
        raise Unfit("a run begins once, and first")
    plan = job.plan
    for name in ("scenario", "mode", "region", "publish_region"):
        if getattr(first, name) != getattr(plan, name):
            raise Unfit(f"its {name} is not that of our schedule: both agents are to have it alike")
    if not _is_number(first.run_number, 32) or not _is_number(first.seed, 64) or not _TRACE.fullmatch(first.trace_id):
        raise Unfit("its numbers are none")
    plan = replace(
        plan, run_id=handed.run_id, run_number=first.run_number, trace_low=int(first.trace_id[16:], 16), seed=first.seed
    )
    if plan.trace_id != first.trace_id:
        raise Unfit("its trace is not that of its number")
    tally = Tally(plan, lambda _: None, clock)
    steps = {step.name: (step.kind, step.service) for step in (*plan.journey, *plan.final)}
    try:
        for fact in handed.facts:
            tally.put(fact)
            _known(fact, steps, plan)
    except (Garbled, TypeError) as error:
        raise Unfit("its facts are out of place") from error
    return replace(job, plan=plan)


def _known(fact: Observation, steps: dict[str, tuple[str, str]], plan: Plan) -> None:
    """Raises Unfit for a name that is not of the plan."""
    match fact:
        case StepBegan() | StepDone():
            known = steps.get(fact.step) == (fact.kind, fact.service)
        case SessionBegan():
            places = (fact.region, fact.publish_region) == (plan.region, plan.publish_region)
            known = fact.step in steps and (fact.role, fact.protocol) in spoken() and places
        case _:
            known = True
    if not known:
        raise Unfit("it has steps that our scenario of that name has not: both agents are to have it alike")


def _head(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    texts, times = ("shape", "agent", "schedule", "crashed"), ("began", "over")
    if (
        not isinstance(said, dict)
        or said.keys() != {*texts, *times}
        or not all(isinstance(said[name], str) for name in texts)
        or not all(_is_number(said[name], 63) for name in times)
        or not _NAME.fullmatch(said["agent"])
        or len(said["crashed"]) > 40
    ):
        raise Unfit("it does not begin with what the run was")
    return said


def _is_number(value: object, bits: int) -> bool:
    return type(value) is int and 0 <= value < 1 << bits


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no measurement")


def shape() -> str:
    """Of the facts that this version knows: they go by the places of their fields."""
    return hashlib.sha256(codec.SHAPE.encode()).hexdigest()[:16]
