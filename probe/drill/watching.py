"""Who noticed: the scenario's own gates on this drill's traffic, and the alerts of Alertmanager and Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from probe.drill.facts import DrillFact
from probe.drill.file import Drill
from probe.drill.sources import Sources
from probe.model.clock import Clock
from probe.model.observation import Observation
from probe.net.redact import Redactor
from probe.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known now. `incidents`: pages that are not this drill's, in words. `silent`: why a source that was named says
    nothing, empty where all do; before injecting, that is a reason to refuse. `named`: whether any source of alerts was named.
    `closed`: (gate, region) that are closed. `budget`: spent by this drill so far, by objective."""

    incidents: tuple[str, ...] = ()
    silent: str = ""
    named: bool = False
    closed: frozenset[tuple[str, str]] = frozenset()
    budget: Mapping[str, float] = field(default_factory=dict)


class Watching:
    """An async context for as long as the drill lasts. `put` receives AlertChanged facts."""

    def __init__(
        self,
        drill: Drill,
        plans: Mapping[str, Plan],
        *,
        clock: Clock,
        put: Callable[[DrillFact], None],
        redactor: Redactor,
        sources: Sources = Sources(),  # noqa: B008  # frozen
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Watching:
        """Asks every source once; what it answers stands in `standing`."""
        raise NotImplementedError

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        raise NotImplementedError

    def saw(self, observation: Observation) -> None:
        """Every observation of every run of the drill, as it is made."""
        raise NotImplementedError

    def injecting(self, at: int) -> None:
        """From here on what fires in the drill's regions is its own."""
        raise NotImplementedError

    def standing(self) -> Standing:
        raise NotImplementedError
