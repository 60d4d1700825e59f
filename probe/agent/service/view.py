"""What the HTTP service sees of the agent, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from prometheus_client import CollectorRegistry

from probe.agent.handed import Handed
from probe.export.families import Families
from probe.judge.hold import Override
from probe.store.reader import Records


class Refusal(Enum):
    """Why a probe was not made, or a run not taken; the value is its HTTP status."""

    UNKNOWN_SCENARIO = 404
    TARGET_NOT_LISTED = 403
    LONGER_THAN_THE_SCRAPE = 422
    BUSY = 503
    UNFIT = 409


@dataclass(frozen=True, slots=True)
class Refused:
    """A probe that was not made, a run that was not taken, and why, in words with the remedy."""

    why: Refusal
    words: str


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe that was made. `success` None: inconclusive. `registry` holds the metrics of this run alone; `duration` seconds."""

    run_id: str
    verdict: str
    success: bool | None
    cause: str
    duration: float
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True)
class GateState:
    """A gate in one group: what it says, and what of. `since`, `evaluated` and `stood` (open or closed) are Unix ns, 0 where it
    was not judged; `value` None: nothing to judge by. `towards` closing or opening: seen so for `held` of `hold` ns. `beneath` an
    override: what the rule says."""

    name: str
    region: str
    scenario: str
    result: str  # pass, warn, fail, inconclusive
    value: float | None
    since: int
    evaluated: int
    reason: str
    owner: str
    action: str
    publish_region: str = ""
    protocol: str = ""
    unit: str = ""
    window: str = ""
    n: int = 0
    min_n: int = 0
    coverage: float = 0.0
    min_coverage: float = 0.0
    rule: str = ""
    resume: str = ""
    source: str = "agent"
    position: str = ""
    stood: int = 0
    towards: str = ""
    held: int = 0
    hold: int = 0
    override: Override | None = None
    beneath: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule: when, in words; its next run as Unix ns (None: none is to come); what holds back a run that is due; runs
    under way. `release` of its platform and since when (Unix ns, 0: no change was seen), and `compared`: what runs since are
    against those before, in words; empty where that is not known."""

    name: str
    scenario: str
    when: str
    next: int | None
    held_by: str
    running: int
    release: str = ""
    released: int = 0
    compared: str = ""


class View(Protocol):
    """The agent, as its HTTP service needs it. All but the coroutines answer at once."""

    @property
    def figures(self) -> Families:
        """Where the service counts what becomes of its connections."""
        ...

    @property
    def registry(self) -> CollectorRegistry: ...

    @property
    def records(self) -> Records: ...

    def about(self) -> Mapping[str, str]:
        """Its name, region and version."""
        ...

    def not_ready(self) -> Sequence[str]:
        """Why it is not ready, in words; nothing where it is."""
        ...

    def not_alive(self) -> str:
        """Why it should be restarted; empty while its loop schedules."""
        ...

    async def reload(self) -> Sequence[str]:
        """Take the configuration of the file; why not, where it is refused."""
        ...

    async def take(self, handed: Handed) -> bool | Refused:
        """Count, judge and record a run that was made elsewhere; False where it was taken before."""
        ...

    async def probe(self, scenario: str, target: str, within: float | None) -> Probed | Refused:
        """Run a scenario of the configuration once, now, against `target` (empty: its own), in at most `within` seconds."""
        ...

    def gates(self, name: str, region: str) -> Sequence[GateState]:
        """The gates of that name or (empty) all, in that region or (empty) in all; none: there is no such gate. One that no run
        has judged lately is inconclusive."""
        ...

    def override(self, name: str, region: str, override: Override | None) -> bool:
        """Put somebody's word in place of a gate's rule in a region (empty: everywhere), or (None) take it away; whether there is
        such a gate."""
        ...

    def schedules(self) -> Sequence[Planned]:
        """All there are, in the order of the configuration."""
        ...
