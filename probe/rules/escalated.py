"""Who is called for an alert, in the words of a runbook: the steps of oncall.yaml, and by whose clock each shift begins.

A runbook holds at any hour, so it names shifts and not people; who is on now `probe oncall` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from probe.rules.conditions import Alert, Kind
from probe.scenario.oncall import BACKUP, DAY, ON_SHIFT, OnCall, Shift, Step, clock_text
from probe.scenario.units import format_duration

Escalation = Callable[[Alert], Sequence[str]]  # who is called, first to last, a line of Markdown each


def escalation(oncall: OnCall) -> Escalation:
    """As `runbooks` takes it."""
    return lambda alert: list(_lines(oncall, alert))


def _lines(oncall: OnCall, alert: Alert) -> Iterator[str]:
    if alert.kind is Kind.WATCHDOG:
        every = format_duration(oncall.watchdog.every)
        yield f"**{oncall.watchdog.call}** is told every {every}, and calls when that stops."
        return
    if alert.shadow:
        yield "Nobody: it is only counted, as what would have been told."
        return
    policy = oncall.escalation.of(alert.severity)
    name = oncall.queue_of(alert.labels["owner"])
    if name is None:
        yield f"**{oncall.fallback}**, at any hour: no queue answers for {alert.labels['owner']}."
        return
    shifts = [shift for shift in oncall.queues[name].shifts if alert.severity.value in shift.severities]
    for step in policy.steps:
        yield _step(step, name, shifts)
    clock = ", counted while somebody is on" if policy.clock == "shifts" else ""
    asked = f"`probe oncall oncall.yaml --queue {name} --severity {alert.severity.value}`"
    yield f"Somebody has looked within {format_duration(policy.within)}{clock}. {asked} says who is on."


def _step(step: Step, queue: str, shifts: Sequence[Shift]) -> str:
    when = f"After {format_duration(step.after)}" if step.after else "At once"
    by = ", by the pager, where nobody has acknowledged" if step.by == "pager" else ", if it still fires" if step.after else ""
    if step.call == ON_SHIFT:
        return f"{when}{by}: whoever is on in `{queue}`: " + ("; ".join(map(_shift, shifts)) or "nobody ever is") + "."
    if step.call == BACKUP:
        backups = dict.fromkeys(shift.backup for shift in shifts if shift.backup)
        return f"{when}{by}: their backup" + (f", **{'** or **'.join(backups)}**." if backups else ".")
    return f"{when}{by}: **{step.call}**."


def _shift(shift: Shift) -> str:
    if shift.begin % DAY or shift.end not in (None, DAY):
        until = f" to {clock_text(shift.end)}" if shift.end is not None else ""
        time = f" from {clock_text(shift.begin)}{until} ({shift.tz})"
    else:
        time = ""
    regions = f" for {', '.join(shift.regions)}" if shift.regions else ""
    return f"**{shift.call}**{time}{regions}"
