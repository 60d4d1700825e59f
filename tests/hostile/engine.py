"""A whole run in this process, against whatever server a test has made: scenario text in, facts out."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.cli.files import vocabulary
from probe.clock import SystemClock
from probe.drivers.table import table
from probe.model.ids import new_run_ids
from probe.model.observation import Note, Observation, RequestDone, SessionEnded, StepDone
from probe.model.outcome import Failed, Outcome
from probe.net.redact import Redactor
from probe.planning import make_plan
from probe.run.engine import Engine
from probe.scenario.load import loads


@dataclass(frozen=True)
class Run:
    """What was observed of it, and the redactor that knows its secrets."""

    facts: list[Observation]
    redactor: Redactor

    def outcome(self, step: str) -> Outcome:
        return next(fact.outcome for fact in self.facts if isinstance(fact, StepDone) and fact.step == step)

    def failed(self, step: str) -> str:
        """`phase/reason` of a step that failed; what else it came to, in full, where it did not."""
        outcome = self.outcome(step)
        return f"{outcome.phase.value}/{outcome.reason}" if isinstance(outcome, Failed) else repr(outcome)

    def ended(self) -> list[str]:
        """`phase/reason` of how each session came to nothing."""
        said = []
        for fact in self.facts:
            if isinstance(fact, SessionEnded):
                outcome = fact.outcome
                said.append(f"{outcome.phase.value}/{outcome.reason}" if isinstance(outcome, Failed) else repr(outcome))
        return said

    def requests(self) -> list[str]:
        return [f"{fact.method} {fact.url}" for fact in self.facts if isinstance(fact, RequestDone)]

    def notes(self) -> list[str]:
        return [fact.text for fact in self.facts if isinstance(fact, Note)]


async def run(journey: str, url: str, state: Path, *, platform: str = "", final: str = "", within: float = 20) -> Run:
    """Run these journey lines against `url`; every end must come within `within` seconds."""
    head = f"scenario: hostile\nowner: tests\nplatform:\n  url: {url}\n{platform}\n"
    head += "deadlines: {run: 15s, reconnect: 1s}\njourney:\n"
    text = head + journey + (f"\nfinally:\n{final}" if final else "")
    scenario = loads(text, env={}, words=vocabulary())
    clock, redactor = SystemClock(), Redactor()
    ids = new_run_ids(clock.wall().unix_ns // 1_000_000, random.SystemRandom())
    plan = make_plan(scenario, scenario.regions[0], 1, ids)
    facts: list[Any] = []
    engine = Engine(plan, clock=clock, put=facts.append, table=table(), state=state, redactor=redactor)
    async with asyncio.timeout(within):
        await engine.run()
    return Run(facts, redactor)
