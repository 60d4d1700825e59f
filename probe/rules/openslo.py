"""Objectives as OpenSLO v1, for whoever collects them from many tools; `probe/scenario/openslo` reads them back the same.

An SLO of each objective (rolling window, Occurrences, the runs it counts as a ratio of Prometheus counters), the services they
belong to, and of the alerts what an AlertPolicy can say: a burn rate over one look-back window. OpenSLO has no word for the rest,
which stands in annotations (what makes a run good, who acts and how) or is said in the comment atop (`UNSAID`).

Source: the v1 specification (README of OpenSLO/OpenSLO); names as its Go SDK checks them: DNS labels, annotation keys in lower
case.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.model.clock import NS
from probe.rules.block import block
from probe.rules.conditions import Alert, Burn
from probe.rules.fleet import Fleet, Severity, Slo, Source
from probe.rules.promql import RUNS, error_name, of
from probe.rules.windows import prom
from probe.scenario.indicators import INDICATORS, Bound
from probe.scenario.objective import Objective
from probe.scenario.openslo import PREFIX, VERSION
from probe.scenario.units import format_ratio

_UNITS = (("d", 86_400 * NS), ("h", 3_600 * NS), ("m", 60 * NS))
_SEVERITY = {Severity.P1: "page", Severity.P2: "ticket"}
_LONGEST = 1050  # characters of a description
UNSAID = (
    "that both of an alert's windows must burn: an AlertPolicy looks back over one",
    "how many runs must be bad before an alert believes it, and that it names the widest thing that is bad",
    "the direct rule, silence, staleness and taint: they are not burn rates",
    "coverage: what share of the runs that were due a ratio stands on",
)


def openslo(fleet: Fleet, alerts: Sequence[Alert] = ()) -> str:
    """All objectives of a fleet and the burn rates they are alerted on, a YAML stream."""
    out = io.StringIO()
    out.write(f"# {fleet.name}: objectives as {VERSION}. OpenSLO cannot say, and the rules of `probe rules` can:\n")
    out.writelines(f"# - {unsaid}\n" for unsaid in UNSAID)
    for i, document in enumerate(documents(fleet, alerts)):
        out.write("---\n" if i else "")  # between: some readers take what stands before the first for a document
        out.write(block(document))
    return out.getvalue()


def documents(fleet: Fleet, alerts: Sequence[Alert] = ()) -> Iterator[dict[str, Any]]:
    """Services, SLOs, alert policies and whom they tell, in this order."""
    for service in sorted({slo.service for slo in fleet.slos}):
        yield _document("Service", service, {"description": f"Objectives of {service}."})
    policies: list[dict[str, Any]] = []
    for slo in fleet.slos:
        own = [policy for alert in alerts if alert.slo is slo for policy in _policies(slo, alert)]
        objective = next(one for one in fleet.scenarios[slo.scenario].objectives if one.name == slo.name)
        yield _slo(slo, objective, [policy["metadata"]["name"] for policy in own])
        policies += own
    yield from policies
    for owner in sorted({slo.owner for slo in fleet.slos}) if policies else ():
        yield _document(
            "AlertNotificationTarget", owner, {"target": "alertmanager", "description": f"Routed by the label owner: {owner}."}
        )


def _document(kind: str, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": _dns(name)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _slo(slo: Slo, objective: Objective, policies: Sequence[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "description": f"A run is good when {slo.meaning}."[:_LONGEST],
        "service": _dns(slo.service),
        "indicator": {
            "metadata": {"name": _dns(f"{slo.name}-runs")},
            "spec": {"description": INDICATORS[slo.indicator].meaning, "ratioMetric": _ratio(slo)},
        },
        "timeWindow": [{"duration": _shorthand(slo.window), "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"displayName": slo.name, "target": round(slo.target, 9)}],
    }
    if policies:
        spec["alertPolicies"] = [{"alertPolicyRef": name} for name in policies]
    return _document("SLO", slo.name, spec, dict(_annotations(slo, objective)))


def _annotations(slo: Slo, objective: Objective) -> Iterator[tuple[str, str]]:
    """What OpenSLO has no field for."""
    bound = INDICATORS[slo.indicator].bound
    said: dict[str, str] = {
        "scenario": slo.scenario,
        "indicator": slo.indicator,
        "name": slo.name if _dns(slo.name) != slo.name else "",
        "service": slo.service if _dns(slo.service) != slo.service else "",
        bound.value: slo.within if bound is not Bound.NONE else "",
        "regions": ", ".join(objective.regions),
        "protocols": ", ".join(objective.protocols),
        "owner": slo.owner,
        "action": slo.action,
        "below": "" if slo.below is None else format_ratio(slo.below),
        "page": "" if slo.page else "false",
        "shadow": "true" if slo.shadow else "",
    }
    yield from ((f"{PREFIX}{name}", value) for name, value in said.items() if value)


def _ratio(slo: Slo) -> dict[str, Any]:
    if slo.source is Source.COVERAGE:  # what was due is no counter: the ratio is as `probe rules` records it
        return {"counter": False, "rawType": "failure", "raw": _source(f"{error_name(slo.window)}{of(slo)}")}
    runs = f'{RUNS}{{mode="scheduled",scenario="{slo.scenario}",slo="{slo.name}",outcome'
    return {"counter": True, "good": _source(f'sum({runs}="good"}})'), "total": _source(f'sum({runs}=~"good|bad"}})')}


def _source(query: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}


def _policies(slo: Slo, alert: Alert) -> Iterator[dict[str, Any]]:
    for burn in alert.conditions:
        if not isinstance(burn, Burn):
            continue
        name = f"{slo.name}-{alert.severity.lower()}-{prom(burn.long)}"
        condition = {
            "severity": _SEVERITY[alert.severity],
            "condition": {
                "kind": "burnrate",
                "op": "gt",
                "threshold": burn.factor,
                "lookbackWindow": _shorthand(burn.long),
                "alertAfter": _shorthand(alert.hold),
            },
        }
        inline = {"kind": "AlertCondition", "metadata": {"name": _dns(name)}, "spec": condition}
        yield _document(
            "AlertPolicy",
            name,
            {
                "description": f"{alert.name}: burns {burn.factor:g} × too fast over {prom(burn.long)} and {prom(burn.short)}.",
                "alertWhenNoData": False,
                "alertWhenBreaching": True,
                "alertWhenResolved": True,
                "conditions": [inline],
                "notificationTargets": [{"targetRef": _dns(slo.owner)}],
            },
        )


def _shorthand(ns: int) -> str:
    """OpenSLO's duration: one number, one unit; to the minute, rounded up."""
    unit, size = next(((u, s) for u, s in _UNITS if ns and ns % s == 0), _UNITS[-1])
    return f"{-(-ns // size)}{unit}"


def _dns(name: str) -> str:
    """As near to it as a DNS label comes (RFC 1123)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-") or "x"
