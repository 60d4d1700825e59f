"""An alert in words: when it fires, when it is over, where to look, when to roll back, who is told.

Numbers are those of the conditions themselves, as shares of runs and as runs: nobody on call multiplies a factor with a budget.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from probe.rules.conditions import Alert, Below, Burn, Condition, Kind, Scope, Silent
from probe.rules.fleet import Fleet, Severity, Slo
from probe.rules.links import about_probe, trace_url
from probe.rules.review import Review
from probe.scenario.units import format_duration, format_ratio

_HOUR = 3_600 * 10**9
_LABELS = {"publish_region": "publishing region", "region": "viewing region"}
_LABEL = re.compile(r"\{\{ *\$labels\.(\w+) *\}\}")
_SEVERITY = {
    Severity.P1: "P1: pages, at any hour",
    Severity.P2: "P2: triaged in working hours",
}


def summary(alert: Alert) -> str:
    """In a line. The alert's own are templates, which Prometheus fills in for one place; this is for all."""
    if alert.slo is None:
        return sentence(_LABEL.sub(lambda found: found[1].upper(), alert.annotations["summary"]))
    return f"A promise is not kept: {alert.slo.meaning}."


def severity(fleet: Fleet, alert: Alert) -> str:
    return f"{_SEVERITY[alert.severity]}; somebody looks within {format_duration(fleet.sla[alert.severity])}"


def budget(slo: Slo) -> str:
    """A budget in runs, which is what failures are counted in."""
    runs = sum(cell.due for cell in slo.cells) * slo.window / _HOUR
    return f"some {runs * slo.budget:,.0f} of {runs:,.0f} runs in {format_duration(slo.window)}"


def fires(alert: Alert) -> str:
    if alert.kind is Kind.WATCHDOG:
        return "always: it is the sign of life"
    said = "; or ".join(condition(one, alert.slo) for one in alert.conditions) or "as the rule below says"
    if alert.kind is Kind.TAINT:  # of outcomes, not of runs
        said = said.replace("of runs good", "of outcomes untainted")
    held = f", for {format_duration(alert.hold)}" if alert.hold else ""
    apart = f"; asked apart by {_names(alert.cells or alert.by)}" if alert.cells or alert.by else ""
    told = "; told once, as the widest place that is bad as a whole" if len(alert.scopes) > 1 else ""
    return said + held + apart + told


def condition(one: Condition, slo: Slo | None) -> str:
    match one:
        case Burn(short=short, long=long, factor=factor, bad=bad, fresh=fresh):
            share = (
                f"more than {_percent(factor * slo.budget)} of runs bad" if slo else f"budget burned {factor:g} times too fast"
            )
            least = f", at least {bad}," if bad else ""
            times = f" ({factor:g} × the budget)" if slo else ""
            again = f", at least {fresh} of them," if fresh else ""
            return f"{share}{least} over {format_duration(long)} and{again} over {format_duration(short)}{times}"
        case Below(window=window, ratio=ratio, runs=runs, bad=bad):
            least = f", {bad} of them bad" if bad else ""
            return f"fewer than {_percent(ratio)} of runs good over {format_duration(window)}, of at least {runs}{least}"
        case Silent(window=window, share=share):
            return f"fewer than {_percent(share)} of the runs due over {format_duration(window)} were made"


def over(alert: Alert) -> str:
    if alert.kind is Kind.WATCHDOG:
        return "never"
    windows = sorted({_short(one) + alert.keep for one in alert.conditions})
    if not windows:
        return "by itself, once it no longer holds"
    spread = format_duration(windows[0]) + (f" to {format_duration(windows[-1])}" if len(windows) > 1 else "")
    last = "as runs are made again" if about_probe(alert) else f"at most {spread} after the last bad run"
    return f"by itself, {last}"


def first_look(alert: Alert) -> str:
    if alert.kind is Kind.DRILL:
        return "`probe drill list --due`: which ones, since when, whose they are, and before which campaign."
    if about_probe(alert):
        return "The probe itself: which agent, since when, and whether others of the same place still report."
    which = _names([scope.value for scope in alert.scopes if scope is not Scope.EVERYWHERE] or ["region"])
    return f"Which {which}, since when, and what else began then: releases, drills and gates are marked. One place, or all?"


def second_look(fleet: Fleet, alert: Alert) -> str:
    trace = trace_url(fleet, "TRACE_ID")
    traced = f" A trace by its id: `{trace}`." if trace else " It says the id of its trace, too."
    if not about_probe(alert):
        return (
            f"Open two or three: each has a report (stages, edges, requests, pictures) and says what they have in common.{traced}"
        )
    return f"The newest run of each place tells when it last was well.{traced}"


def rollback(alert: Alert, suspects: str) -> str:
    slo = alert.slo
    if alert.kind is Kind.DRILL:
        return "Nothing: nobody knows that anything is broken. That is what the drill is for."
    if slo is None or about_probe(alert):
        return (
            f"Roll the probe's own version or configuration back if it began with them ({suspects}). It is no ground to roll"
            " anything of the platform back: nothing is known of it."
        )
    windows = [one.long if isinstance(one, Burn) else one.window for one in alert.conditions]
    soonest = min(alert.conditions, key=_short, default=None)
    still = "the rule below" if soonest is None else condition(soonest, slo)
    since, again = max([_HOUR, *windows]), 2 * (_HOUR if soonest is None else _short(soonest))
    return (
        f"Roll back **at once, before the cause is known**, if one of these was released to the region in the"
        f" {format_duration(since)} before it began ({suspects}; releases are marked on the dashboard), and either\n\n"
        f"- it is no better {format_duration(again)} after the first relief: still {still}; or\n"
        f"- `probe smoke {slo.scenario} --region REGION --repeat 6 --compare LAST-GOOD` says that it is worse.\n\n"
        "Nothing was released in that time: do not roll back. It would be one more change, and not the one that broke it."
    )


def _short(one: Condition) -> int:
    return one.short if isinstance(one, Burn) else one.window


def usual(fleet: Fleet, alert: Alert) -> list[str]:
    """Who, where no plan of shifts says it."""
    owner = alert.labels["owner"]
    within = format_duration(fleet.sla[alert.severity])
    lines = [f"**{owner}** looks within {within} and says so where the incident is talked about."]
    if fleet.owner != owner:
        lines.append(f"**{fleet.owner}**, where nobody has looked by then.")
    if not about_probe(alert):
        lines.append("Whoever owns the release or the service that the failures name, as soon as that is known.")
    return lines


def reviewed(found: Review) -> str:
    again = f"every {format_duration(found.every)}"
    if found.reviewed is None:
        return f"**never read through**; {found.owner} does so, then {again} and after each major incident"
    because = f", because of “{cell(found.because)}”" if found.because else ""
    next_ = f"{found.owner} does so again by {found.due}{because}"
    return f"read through on {found.reviewed}; {next_}, {again} and after each major incident"


def sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def cell(text: str) -> str:
    """As a cell of a table of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def target(slo: Slo) -> str:
    return format_ratio(round(slo.target, 9))


def spare(slo: Slo) -> str:
    """The share of runs that may be bad: 0.5%, whatever 1 - 0.995 comes to."""
    return format_ratio(round(slo.budget, 9))


def _names(labels: Sequence[str]) -> str:
    return " and ".join(_LABELS.get(name, name) for name in labels)


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.3g} %"
