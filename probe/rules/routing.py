"""Who is on call, and what alerts there are → Alertmanager's configuration (prometheus.io/docs/alerting/latest/configuration),
for 0.25 and newer: before it, intervals had no `location`.

A route that is muted at an hour still matches: Alertmanager drops what it would have sent and looks no further. So everybody of a
queue gets the alert at once, on a route of their own (`continue`), and only whoever is on sends it. Which has three good
consequences: at a handover the next one is told of what still burns (P1 in a minute); a moment that nobody covers is known, and
a route that is muted whenever somebody is on sends what comes then to the fallback; and two who were on together would both be
told. What no queue takes goes to the fallback too, at any hour.

An escalation's step waits on its route (`group_wait`, which Alertmanager counts from the alert's own start) and is sent if the
alert still fires then: Alertmanager knows nothing of acknowledging. Steps that must depend on that belong to the pager
(`by: pager`), and are not written here.

Said aloud, since no configuration changes it: whoever's shift ends before an alert does is not told that it was resolved, the
one who took over is; with one pager integration per shift the earlier incident is closed by hand. A new alert that joins a group
whose step has been called is told of within `group_interval`, not after a wait of its own.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.rules.conditions import Alert, Kind, Scope
from probe.rules.coverage import needs_shifts
from probe.rules.fleet import Fleet, Severity
from probe.rules.inhibition import inhibitions, names, one_of
from probe.rules.notify import TEMPLATES, TEXTS, mail, receiver
from probe.rules.promql import EVERYWHERE
from probe.rules.shifts import Duty, Remit, duties, remits
from probe.rules.walltime import Window
from probe.scenario.oncall import BACKUP, ON_SHIFT, PAGED, OnCall, Paged, Policy, clock_text
from probe.scenario.units import format_duration

SHADOW = "shadow"
GROUPS = ["slo", "region"]
INTERVAL = {"P1": 60 * NS, "P2": 300 * NS}  # news of a group are told so often
WAIT = {"P1": 10 * NS, "P2": 300 * NS}  # what begins together is told together
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def alertmanager(fleet: Fleet, alerts: Sequence[Alert], oncall: OnCall, horizon: tuple[int, int]) -> Mapping[str, str]:
    """Path → text of Alertmanager's configuration and its texts. `horizon`: the years (Unix seconds) whose changes of clocks are
    reckoned with. Raises ConfigError where the parts do not fit each other."""
    if mistakes := [*_misfits(fleet, alerts, oncall), *_uncovered(fleet, alerts, oncall, horizon)]:
        raise ConfigError(mistakes)
    intervals = _Intervals()
    queues = [route for queue in oncall.queues for route in _queue(oncall, queue, intervals, horizon)]
    watchdog = names(alert for alert in alerts if alert.kind is Kind.WATCHDOG)
    document = {
        "global": {"resolve_timeout": "5m", **mail(oncall)},
        "templates": [TEMPLATES],
        "route": {
            "receiver": oncall.fallback,
            "group_by": GROUPS,
            **_timing("P1", oncall.escalation.p1),
            "routes": [
                {"matchers": [watchdog], **_beat(oncall)},
                {"matchers": ['shadow="true"'], "receiver": SHADOW},
                *queues,
            ],
        },
        "inhibit_rules": inhibitions(alerts),
        "receivers": [
            *(receiver(name, found, resolved=name != oncall.watchdog.call) for name, found in oncall.receivers.items()),
            {"name": SHADOW},  # told nobody: Prometheus keeps count
        ],
        "time_intervals": intervals.document(),
    }
    return {"alertmanager.yml": _written(document), TEMPLATES: TEXTS}


def _misfits(fleet: Fleet, alerts: Sequence[Alert], oncall: OnCall) -> Iterator[Located]:
    """Where fleet, alerts and oncall.yaml say different things."""
    if not any(alert.kind is Kind.WATCHDOG for alert in alerts):
        message = "no alert always fires: whoever waits for the dead man's switch would be called"
        yield Located(f"oncall {oncall.name}", 0, 0, "watchdog", message)
    owners: dict[str, str] = {fleet.owner: f"fleet {fleet.name}"}
    for slo in fleet.slos:
        owners.setdefault(slo.owner, slo.place or f"objective {slo.name}")
    for scenario, gate in fleet.gates:
        owners.setdefault(gate.owner or fleet.scenarios[scenario].owner, f"gate {gate.name} of {scenario}")
    for alert in alerts:
        if owner := alert.labels.get("owner"):
            owners.setdefault(owner, f"alert {alert.name}")
    known = ", ".join(owner for queue in oncall.queues.values() for owner in queue.owners)
    for owner, place in owners.items():
        if oncall.queue_of(owner) is None:
            yield Located(place, 0, 0, "owner", f"no queue of oncall {oncall.name} answers for {owner!r}; there are {known}")
    for severity in PAGED:
        said, policy = fleet.sla.get(Severity(severity)), oncall.escalation.of(severity)
        if said is not None and said != policy.within:
            message = f"is {format_duration(said)} here and {format_duration(policy.within)} in oncall {oncall.name}: say one"
            yield Located(f"fleet {fleet.name}", 0, 0, f"sla.{severity}", message)


def _uncovered(fleet: Fleet, alerts: Sequence[Alert], oncall: OnCall, horizon: tuple[int, int]) -> Iterator[Located]:
    """Regions of the fleet and its alerts that no shift takes."""
    cells = [cell for slo in fleet.slos for cell in slo.cells]
    regions = {agent.region for agent in fleet.agents} | {c.region for c in cells} | {c.publish_region for c in cells}
    told = [alert for alert in alerts if alert.kind is not Kind.WATCHDOG]
    if any(Scope.EVERYWHERE in one.scopes or one.labels.get("region") == EVERYWHERE for one in told):
        regions.add(EVERYWHERE)
    for queue in oncall.queues:
        for severity in PAGED:
            parts = remits(oncall, severity, queue)
            left = sorted(regions - {"", *(region for remit in parts for region in remit.regions)})
            if left and needs_shifts(oncall.escalation.of(severity)) and not duties(oncall, parts[-1], *horizon):
                everywhere = f" ({EVERYWHERE}: what is bad everywhere)" if EVERYWHERE in left else ""
                message = (
                    f"no shift takes {severity} of region {', '.join(left)}{everywhere}: leave the regions of one away, or add it"
                )
                yield Located(f"oncall {oncall.name}", 0, 0, f"queues.{queue}.shifts", message)


def _queue(oncall: OnCall, queue: str, intervals: _Intervals, horizon: tuple[int, int]) -> Iterator[dict[str, Any]]:
    for severity in PAGED:
        policy = oncall.escalation.of(severity)
        parts = remits(oncall, severity, queue)
        yield {
            "matchers": [one_of("owner", oncall.queues[queue].owners), f'severity="{severity}"'],
            "receiver": oncall.fallback,
            **_timing(severity, policy),
            "routes": [route for remit in parts for route in _remit(oncall, remit, parts, intervals, horizon)],
        }


def _remit(
    oncall: OnCall, remit: Remit, parts: Sequence[Remit], intervals: _Intervals, horizon: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """A route for everybody who may be on, of each step, and one for when nobody is."""
    policy = oncall.escalation.of(remit.severity)
    everybody = duties(oncall, remit, *horizon) if needs_shifts(policy) else ()
    if needs_shifts(policy) and not everybody:
        return  # none of its children: the queue's route itself, to the fallback
    where = _where(remit, parts)
    active = {duty.path: intervals.name(remit, duty, duty.active) for duty in everybody}
    muted = {duty.path: _muted(remit, duty, everybody, active, intervals) for duty in everybody}
    for step in policy.steps:
        if step.by == "pager":
            continue
        wait = {"group_wait": _go(step.after)} if step.after else {}
        if step.call not in (ON_SHIFT, BACKUP):
            yield {**where, "receiver": step.call, **wait, "continue": True}
            continue
        for duty in everybody:
            called = duty.backup if step.call == BACKUP else duty.call
            quiet = {"mute_time_intervals": muted[duty.path]} if muted[duty.path] else {}
            on = {"active_time_intervals": [active[duty.path]]}
            yield {**where, "receiver": called, **wait, **on, **quiet, "continue": True}
    if everybody and policy.clock == "always":
        taken = list(dict.fromkeys(active.values()))
        yield {**where, "receiver": oncall.fallback, "mute_time_intervals": taken, "continue": True}


def _muted(
    remit: Remit, duty: Duty, everybody: Sequence[Duty], active: Mapping[tuple[str | int, ...], str], intervals: _Intervals
) -> list[str]:
    """Names of what a duty gives way to: exceptions, and the next one's begin by the next one's clock."""
    exceptions = [] if duty.exception else [other for other in everybody if other.exception]
    away = {window for other in exceptions for window in other.active}
    handed = tuple(window for window in duty.muted if window not in away)
    own = [intervals.name(remit, duty, handed, "handed over")] if handed else []
    return [*own, *(active[other.path] for other in exceptions)]


def _where(remit: Remit, parts: Sequence[Remit]) -> dict[str, Any]:
    if remit.regions:
        return {"matchers": [one_of("region", remit.regions)]}
    named = [region for part in parts for region in part.regions]
    return {"matchers": [one_of("region", named, none=True)]} if named else {}


def _timing(severity: Paged, policy: Policy) -> dict[str, Any]:
    """What begins together is told together; it is told again while it fires as often as the SLA says."""
    interval = min(INTERVAL[severity], policy.within)
    return {
        "group_by": GROUPS,
        "group_wait": _go(WAIT[severity] if policy.wait is None else policy.wait),
        "group_interval": _go(interval),
        "repeat_interval": _go(max(interval, policy.again or policy.within)),
    }


def _beat(oncall: OnCall) -> dict[str, Any]:
    """Alertmanager repeats at a multiple of group_interval, once repeat_interval has passed; three quarters make every second
    one count, however late the first was sent."""
    every = oncall.watchdog.every
    return {
        "receiver": oncall.watchdog.call,
        "group_by": ["alertname"],
        "group_wait": "0s",
        "group_interval": _go(every // 2),
        "repeat_interval": _go(every * 3 // 4),
    }


def _go(ns: int) -> str:
    """As Alertmanager reads it: nothing finer than a millisecond."""
    return format_duration(ns // 1_000_000 * 1_000_000)


class _Intervals:
    """Stretches of wall time by name; the same stretches have one."""

    def __init__(self) -> None:
        self._names: dict[tuple[Window, ...], str] = {}

    def name(self, remit: Remit, duty: Duty, windows: tuple[Window, ...], more: str = "") -> str:
        """Of windows, made where there is none."""
        if windows not in self._names:
            words = " ".join(part for part in (f"{remit.queue}/{duty.name}", more) if part)
            if words in self._names.values():
                words += f" ({', '.join((remit.severity, *remit.regions))})"
            same = sum(name.partition(" #")[0] == words for name in self._names.values())
            self._names[windows] = f"{words} #{same + 1}" if same else words
        return self._names[windows]

    def document(self) -> list[dict[str, Any]]:
        """The `time_intervals`."""
        return [{"name": name, "time_intervals": list(stretches(windows))} for windows, name in self._names.items()]


def stretches(windows: Iterable[Window]) -> Iterator[dict[str, Any]]:
    """As `time_intervals` has them."""
    dated: defaultdict[tuple[str, int, int, int, int], list[date]] = defaultdict(list)
    for window in windows:
        if window.on is None:
            weekdays = {} if len(window.weekdays) == 7 else {"weekdays": list(_runs(window.weekdays))}
            yield {**_times(window.start, window.end), **weekdays, "location": window.tz}
        else:
            dated[window.tz, window.start, window.end, window.on.year, window.on.month].append(window.on)
    for (tz, start, end, year, month), days in dated.items():
        in_month = sorted(day.day for day in days)
        yield {
            **_times(start, end),
            "days_of_month": [_quoted(f"{first}:{last}") for first, last in _neighbours(in_month)],
            "months": [str(month)],
            "years": [str(year)],
            "location": tz,
        }


def _times(start: int, end: int) -> dict[str, Any]:
    return (
        {}
        if (start, end) == (0, 1440)
        else {"times": [{"start_time": _quoted(clock_text(start)), "end_time": _quoted(clock_text(end))}]}
    )


def _quoted(text: str) -> SingleQuotedScalarString:
    """Quoted in the file too: to YAML 1.1 10:30 is a number of minutes."""
    quoted: SingleQuotedScalarString = SingleQuotedScalarString(text)
    return quoted


def _runs(weekdays: Sequence[int]) -> Iterator[str]:
    """Alertmanager's week begins on Sunday, and a range does not go round."""
    for first, last in _neighbours(sorted((day + 1) % 7 for day in weekdays)):
        yield _DAYS[(first + 6) % 7] if first == last else f"{_DAYS[(first + 6) % 7]}:{_DAYS[(last + 6) % 7]}"


def _neighbours(days: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of numbers that follow each other: first, last."""
    first = before = days[0]
    for day in (*days[1:], -1):
        if day != before + 1:
            yield first, before
            first = day
        before = day


def _written(document: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 130
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda *_: True
    out = io.StringIO()
    yaml.dump(document, out)
    return (
        "# Written by `probe rules` from oncall.yaml and the alerts; changes belong there. Alertmanager 0.25 or newer.\n"
        + out.getvalue()
    )
