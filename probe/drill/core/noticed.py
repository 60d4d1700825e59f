"""Who noticed a fault and when, when users were well again, and what became of the drill's conditions. Pure.

Time to detect runs from the fault seen to be there to the first alert or gate that fired for it; one that already fired when it
was injected, or that is not this drill's, detects nothing. Time to mitigate runs to the moment from which all conditions on users
(steady and recovery) held for good, as they were read: by the platform itself where nobody had begun to put the last fault back
by then. Where no condition ever failed nothing was to be mitigated, and there is no such time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, cast

from probe.drill.core.facts import AlertChanged, Checked, DrillFact
from probe.drill.core.marks import Marks, seconds
from probe.drill.core.score import AlarmScore, ConditionScore, DetectionScore, MitigationScore

_PARTS = ("steady", "meanwhile", "abort", "recovery")
_USERS = ("steady", "recovery")


def detection(facts: Sequence[DrillFact], at: Marks) -> DetectionScore | None:
    """The first alarm for this drill since the injection; None: none came."""
    if at.injecting is None or at.seen is None:
        return None
    alarms = [fact for fact in facts if isinstance(fact, AlertChanged) and fact.firing and fact.ours and fact.at >= at.injecting]
    first = min(alarms, key=lambda fact: fact.at, default=None)
    if first is None:
        return None
    return DetectionScore(
        took=seconds(max(0, first.at - at.seen)),
        source=_source(first),
        name=first.name,
        region=first.region or None,
        severity=first.severity or None,
        after_restore=at.restored is not None and first.at > at.restored,
    )


def mitigation(told: Sequence[Checked], at: Marks) -> tuple[MitigationScore | None, str | None]:
    """The moment from which all conditions on users held for good; or why there is none."""
    if at.seen is None or at.injecting is None:
        return None, "no fault was seen to be there"
    by: dict[tuple[str, str], list[Checked]] = {}
    for fact in told:
        if fact.part in _USERS and fact.at >= at.injecting and fact.met is not None:
            by.setdefault((fact.condition, fact.region), []).append(fact)
    if at.restoring is not None:  # what was read only afterwards, and always met, tells nothing of when
        by = {key: looks for key, looks in by.items() if looks[0].at < at.restoring or not all(look.met for look in looks)}
    if not by:
        return None, "no condition could be read while it was broken"
    if not any(fact.met is False for looks in by.values() for fact in looks):
        return None, "no condition failed: there was nothing to mitigate"
    held = [_held_since(looks) for looks in by.values()]
    if None in held:
        worst = next(looks[-1] for looks in by.values() if looks[-1].met is False)
        return None, f"users were not seen to be well again: {worst.condition}"
    moment = max(first for first in held if first is not None)
    alone = at.restoring is None or moment < at.restoring
    return MitigationScore(took=seconds(max(0, moment - at.seen)), by="platform" if alone else "restore"), None


def _held_since(looks: Sequence[Checked]) -> int | None:
    """The first look of the last stretch of met ones; None where the last look was not met."""
    first = None
    for look in sorted(looks, key=lambda fact: fact.at):
        first = (look.at if first is None else first) if look.met else None
    return first


def conditions(told: Sequence[Checked], at: Marks) -> list[ConditionScore]:
    """Each condition in each region, once."""
    by: defaultdict[tuple[str, str, str], list[Checked]] = defaultdict(list)
    for fact in told:
        by[fact.part, fact.condition, fact.region].append(fact)
    ordered = sorted(by.items(), key=lambda item: _PARTS.index(item[0][0]))
    return [_condition(*key, sorted(looks, key=lambda fact: fact.at), at) for key, looks in ordered]


def _condition(part: str, condition: str, region: str, looks: Sequence[Checked], at: Marks) -> ConditionScore:
    if part == "steady" and at.injecting is not None:  # what it was afterwards is told by the time to mitigate
        looks = [look for look in looks if look.at <= at.injecting] or looks
    worst = {"meanwhile": False, "abort": True}.get(part)  # that an abort condition is met is the worst of it
    decides = _last_known(looks)
    if worst is not None:
        decides = next((look for look in looks if look.met is worst), decides)
    took = None
    if part == "recovery" and (first := next((look for look in looks if look.met), None)) is not None:
        decides = first  # once reached is reached: what comes after it is told by the time to mitigate
        took = seconds(max(0, first.at - at.restored)) if at.restored is not None else None
    return ConditionScore(
        part=cast(Literal["steady", "meanwhile", "abort", "recovery"], part),
        condition=condition,
        region=region or None,
        met=decides.met,
        value=decides.value,
        n=decides.n,
        looks=len(looks),
        took=took,
        reason=decides.reason or None,
    )


def _last_known(looks: Sequence[Checked]) -> Checked:
    return next((look for look in reversed(looks) if look.met is not None), looks[-1])


def alarms(facts: Sequence[DrillFact], at: Marks) -> list[AlarmScore]:
    """Every alert and gate that fired, in order; one that goes on has no end."""
    open_: dict[tuple[str, str, str], AlarmScore] = {}
    out: list[AlarmScore] = []
    for fact in facts:
        if not isinstance(fact, AlertChanged):
            continue
        key = fact.source, fact.name, fact.region
        if fact.firing and key not in open_:
            open_[key] = AlarmScore(
                at=seconds(fact.at - at.began),
                source=_source(fact),
                name=fact.name,
                region=fact.region or None,
                severity=fact.severity or None,
                ours=fact.ours,
            )
        elif not fact.firing and key in open_:
            out.append(open_.pop(key).model_copy(update={"ended_at": seconds(fact.at - at.began)}))
    return sorted((*out, *open_.values()), key=lambda alarm: alarm.at)


def _source(fact: AlertChanged) -> Literal["gate", "prometheus", "alertmanager"]:
    return cast(Literal["gate", "prometheus", "alertmanager"], fact.source)
