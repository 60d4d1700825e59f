"""One look at everything a drill asks of the world, every half second: is it steady, must it stop, is what was promised kept, has
it recovered. Pure: it reads `Readings` and what others know, tells a `Checked` fact for each condition it read, and answers with
what the machine wants to hear.

What is asked when. *Steady*: until it is proven (and while it is broken of the last seconds, which decides nothing and tells
whether the platform healed itself), and again after the restore, from runs that began after it: a platform that does not come
back to where it was has not recovered, whatever its recovery objectives say; it is given as long as it was given to prove it at
first. *Promises*: while it is broken, and after it of the runs that began by then and end only now. *Aborts*: until all is
restored; after that only a real incident, for there is nothing left to stop. What they ask of our own traffic is asked once the
audience is there: who has not arrived yet is not missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from probe.drill.core.conclude import Told
from probe.drill.core.facts import Checked, DrillFact, Phase
from probe.drill.core.file import Abort, Drill
from probe.drill.core.phases import Goal, Looked
from probe.drill.core.readings import ANYTIME, Begun, Readings, told
from probe.judge.reading import Answer
from probe.model.clock import NS
from probe.scenario.gates import Expression
from probe.scenario.units import format_ratio

_LATELY = 10 * NS  # of what is seen while it is broken


class Known(Protocol):
    """What is known of the world beside our own traffic (watching.Standing)."""

    @property
    def incidents(self) -> Sequence[str]: ...
    @property
    def silent(self) -> str: ...
    @property
    def named(self) -> bool: ...
    @property
    def closed(self) -> frozenset[tuple[str, str]]: ...
    @property
    def budget(self) -> Mapping[str, float]: ...


@dataclass(slots=True, kw_only=True)
class Times:
    """Instants of this drill so far, monotonic ns, and who `played` when it began to be broken."""

    broken: int | None = None
    restored: int | None = None
    played: frozenset[str] = frozenset()


@dataclass(slots=True)
class Looks:
    """`regions`: all of the scenario's; `arrived`: whether the audience that is to stay is there."""

    drill: Drill
    regions: Sequence[str]
    readings: Readings
    known: Callable[[], Known]
    arrived: Callable[[], Told]
    put: Callable[[DrillFact], None]
    times: Times = field(default_factory=Times)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """In the order in which they are read."""
        asked = [Goal(words=str(one), within=one.within) for one in self.drill.recovery]
        longest = max((one.within for one in self.drill.recovery), default=0)
        again = max(longest, self.drill.steady.within)
        return (*asked, *(Goal(words=f"steady again: {one}", within=again) for one in self.drill.steady.of))

    def look(self, phase: Phase, now: int) -> Looked:
        steady = Told(None)
        if phase is Phase.STEADY:
            steady = self.arrived()
            if steady.met:
                steady = _all([self._read("steady", one, now) for one in self.drill.steady.of])
        elif self.times.broken is not None and self.times.restored is None:
            for one in self.drill.steady.of:  # for the time to mitigate only: does the platform heal itself?
                self._read("steady", one, now, since=max(self.times.broken, now - _LATELY))
        return Looked(
            steady=steady,
            promises=tuple(self._promise(one, now) for one in self.drill.meanwhile) if self.times.broken is not None else (),
            goals=self._goals(now) if phase is Phase.RECOVERY else (),
            abort=self._abort(phase, now),
        )

    # -- each of them

    def _promise(self, expression: Expression, now: int) -> Told:
        broken, restored = self.times.broken, self.times.restored
        assert broken is not None
        if restored is None:
            return self._read("meanwhile", expression, now, since=broken)
        if any(term.indicator == "playing" for term in expression.terms):
            return Told(None, "not asked any more")
        return self._read("meanwhile", replace(expression, hold=None), now, since=broken, begun=Begun(0, restored))

    def _goals(self, now: int) -> tuple[Told, ...]:
        restored = self.times.restored
        assert restored is not None
        found = []
        fresh = Begun(restored)
        for one in self.drill.recovery:
            if one.when is not None:
                found.append(self._read("recovery", one.when, now, since=restored, begun=fresh))
            elif one.reconnect is not None:
                back = self.readings.reconnected(self.times.played, restored, one.reconnect, one.within, now)
                words = f"{format_ratio(one.reconnect)} of viewers reconnect"
                self.put(Checked(at=now, part="recovery", condition=words, met=back.met, reason=back.reason))
                found.append(back)
        return (*found, *(self._read("recovery", one, now, since=restored, begun=fresh) for one in self.drill.steady.of))

    def _abort(self, phase: Phase, now: int) -> str:
        """Why to stop; empty: go on."""
        known = self.known()
        if phase is Phase.DONE:
            return ""
        asked = [one for one in self.drill.abort if phase is not Phase.RECOVERY or one.incident]
        return next((words for one in asked if (words := self._stops(one, known, phase, now))), "")

    def _stops(self, one: Abort, known: Known, phase: Phase, now: int) -> str:
        if one.when is not None or one.outside is not None:
            if phase is Phase.STEADY and self.arrived().met is not True:
                return ""
            here = self.drill.regions if one.when is not None else self._elsewhere
            expression = one.when or one.outside
            assert expression is not None
            answers = self._answers("abort", expression, now, here)
            stopping = {region: answer for region, answer in answers.items() if answer.met}
            return f"{one}: {told(stopping).reason}" if stopping else ""
        words, value, met = "", None, None
        if one.budget is not None:
            slo, value = max(known.budget.items(), key=lambda spent: spent[1], default=("", None))
            met = None if value is None else value >= one.budget
            words = f"{one}: {slo} {value:.1%}" if met and value is not None else ""
        elif one.incident:
            met = bool(known.incidents) if known.named and not known.silent else True if known.incidents else None
            words = f"a real incident: {'; '.join(known.incidents)}" if known.incidents else ""
            if not words and known.silent and phase is Phase.STEADY:
                words = f"whether there is an incident cannot be told: {known.silent}"
        else:
            shut = sorted(region for gate, region in known.closed if gate == one.gate and region in self._elsewhere)
            met = bool(shut)
            words = f"gate {one.gate} is closed in {', '.join(shut)}" if shut else ""
        reason = words or ("no source of alerts was named" if one.incident and not known.named else "")
        self.put(Checked(at=now, part="abort", condition=str(one), met=met, value=value, reason=reason))
        return words

    # -- reading

    @property
    def _elsewhere(self) -> tuple[str, ...]:
        return tuple(region for region in self.regions if region not in self.drill.regions)

    def _read(self, part: str, expression: Expression, now: int, *, since: int = 0, begun: Begun = ANYTIME) -> Told:
        return told(self._answers(part, expression, now, self.drill.regions, since=since, begun=begun))

    def _answers(
        self, part: str, expression: Expression, now: int, regions: Sequence[str], *, since: int = 0, begun: Begun = ANYTIME
    ) -> dict[str, Answer]:
        key = f"{part} again" if begun.since else part
        found = {region: self.readings.read(key, expression, region, now, since=since, begun=begun) for region in regions}
        for region, one in found.items():
            self.put(
                Checked(
                    at=now, part=part, condition=str(expression), met=one.met, value=one.value, n=one.n, region=region,
                    reason=one.reason,
                )
            )  # fmt: skip
        return found


def _all(found: Sequence[Told]) -> Told:
    for met in (False, None):
        if words := [one.reason for one in found if one.met is met]:
            return Told(met, "; ".join(words))
    return Told(True, "; ".join(one.reason for one in found))
