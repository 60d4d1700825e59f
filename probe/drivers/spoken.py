"""What is said of a protocol without a driver at hand: who reads a scenario, or makes a series for whatever may happen, needs no
codec for it."""

from __future__ import annotations

from dataclasses import dataclass

from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.stage import Phase, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A protocol in a role, and the facts `run/` needs of it. Times in ns.

    `stages` are those a start of this protocol goes through, beside resolve, connect, tls, auth and probe.
    `buffered`: the driver is a player with a buffer that heals itself; the stay waits instead of reconnecting at a stall."""

    role: Role
    protocol: str
    stages: tuple[Stage, ...]
    start: int
    max_age: int = 0
    stall: int = NS
    buffered: bool = False

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Where a session of this protocol can fail."""
        stages = (Stage.RESOLVE, Stage.CONNECT, Stage.TLS, Stage.AUTH, Stage.PROBE, *self.stages)
        return (*(Phase(stage.value) for stage in stages), Phase.PLAYING, Phase.RECONNECTING)
