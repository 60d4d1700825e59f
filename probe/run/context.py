"""What the parts of one run share: its plan, clock, stamp of facts, and the sessions alive in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from probe.model.clock import Clock, Wall
from probe.model.ids import span_id
from probe.model.observation import Note, Observation, RunBegan
from probe.plan import Plan
from probe.version import VERSION

Put = Callable[[Observation], None]


@dataclass(slots=True)
class Context:
    """One run's shared state. `put` is every sink at once; it never awaits and never raises."""

    plan: Plan
    clock: Clock
    put: Put
    rng: random.Random
    ids: random.Random = field(default_factory=random.SystemRandom)  # ids must never repeat, whatever the seed
    root_span: str = ""
    publishes: list[int] = field(default_factory=list)
    _seq: int = 0

    def __post_init__(self) -> None:
        self.root_span = self.new_span()

    def emit(self, fact: Observation, session: str = "") -> None:
        """Stamp a fact with run, session, sequence and, where it carries none, the time; then hand it to the sinks."""
        self._seq += 1
        self.put(
            replace(fact, run=self.plan.run_id, session=fact.session or session, seq=self._seq, at=fact.at or self.clock.now())
        )

    def note(self, text: str, session: str = "") -> None:
        self.emit(Note(text=text), session)

    def new_span(self) -> str:
        return span_id(self.ids)

    def new_publish(self) -> int:
        """The ordinal of a new publish session: 1..15, then round again (4 bits in the code)."""
        ordinal = len(self.publishes) % 15 + 1
        self.publishes.append(ordinal)
        return ordinal


def began(plan: Plan, wall: Wall, span: str) -> RunBegan:
    """A run's first fact, not yet stamped. `span` is its root."""
    return RunBegan(
        scenario=plan.scenario,
        mode=plan.mode,
        seed=plan.seed,
        publish_region=plan.publish_region,
        region=plan.region,
        run_number=plan.run_number,
        trace_id=plan.trace_id,
        span_id=span,
        wall_unix_ns=wall.unix_ns,
        wall_error_ns=wall.error_ns,
        target=plan.platform_url,
        probe_version=VERSION,
    )
