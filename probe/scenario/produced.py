"""What a journey can measure: an objective or a gate on anything else would wait for ever.

Asked of the file, so that the mistake has its place, and of the plan, which then knows in which cells (objective × protocol)
each of its runs is counted, once, whatever becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.scenario.indicators import INDICATORS, Of

# Whose media are requests of their own, to be told from one another by edge and status.
EDGE_PROTOCOLS = frozenset({"hls", "ll-hls", "dash", "http-flv", "http-ts"})
WHOLE_RUN = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """Protocols of publishers, of viewers, of viewers of our own code, of viewers that a step cuts; services of steps; and
    whether there is anything that can fail."""

    published: frozenset[str] = frozenset()
    viewed: frozenset[str] = frozenset()
    coded: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    tries: bool = False

    def cells(self, indicator: str) -> tuple[str, ...]:
        """The protocols in which an indicator is counted; of one empty text where it is the whole run's, of none where it is
        never measured, or not by a run."""
        match INDICATORS[indicator].of:
            case Of.ROOM:
                return WHOLE_RUN if self.published and self.viewed else ()
            case Of.VIEWERS:
                return tuple(sorted(self.viewed))
            case Of.CODED:
                return tuple(sorted(self.coded))
            case Of.PUBLISHERS:
                return tuple(sorted(self.published))
            case Of.CUTS:
                return tuple(sorted(self.cut))
            case Of.EDGES:
                return tuple(sorted(self.viewed & EDGE_PROTOCOLS))
            case Of.STEPS:
                return WHOLE_RUN if indicator in self.services else ()
            case Of.SESSIONS:
                return WHOLE_RUN if self.published or self.viewed else ()
            case Of.ANYTHING:
                return WHOLE_RUN if self.tries else ()
            case Of.DUE | Of.STAY:
                return ()

    def missing(self, indicator: str) -> str:
        """What a journey lacks that an indicator is counted of; empty: nothing."""
        if INDICATORS[indicator].of is Of.DUE or self.cells(indicator):
            return ""
        return {
            Of.ROOM: "needs a publish and a view step",
            Of.VIEWERS: "needs a view step",
            Of.CODED: "needs a view step of what is published here (verify: code)",
            Of.PUBLISHERS: "needs a publish step",
            Of.CUTS: "needs a cut step that its viewers live through",
            Of.EDGES: f"needs viewers over {', '.join(sorted(EDGE_PROTOCOLS))}",
            Of.STEPS: f"needs a step with service: {indicator}",
            Of.SESSIONS: "needs a publish or a view step",
            Of.ANYTHING: "needs a step that tries something",
            Of.STAY: "needs a drill, whose audience stays",
        }[INDICATORS[indicator].of]
