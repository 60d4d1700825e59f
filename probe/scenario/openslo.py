"""One OpenSLO v1 document → an objective as it would stand in a scenario, or what keeps it from being one.

OpenSLO says what is promised and where its figures are; which part of a run that is, only annotations can say:

    metadata:
      name: first-frame
      annotations:
        stream-probe/scenario: room-start
        stream-probe/indicator: first_frame     # or an indicatorRef, or an indicator's name, that is one of ours
        stream-probe/within: 2s                 # at_most, at_least: as in a scenario
        stream-probe/owner: media-sre
        stream-probe/action: drain the ingest that is named

Taken: an SLO of one objective, a rolling window, Occurrences. Refused: what would be another promise here (calendar windows,
time slices, threshold metrics, several objectives). Passed over, and said: queries (runs are judged by the probe and counted
under the objective's own name), alert policies and every other kind. Source: OpenSLO's v1 specification (README of
OpenSLO/OpenSLO) and its schemas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.scenario.indicators import INDICATORS
from probe.scenario.text import Path
from probe.scenario.units import describe, format_ratio

VERSION = "openslo/v1"
PREFIX = "stream-probe/"
KINDS = ("SLO", "SLI", "Service", "DataSource", "AlertPolicy", "AlertCondition", "AlertNotificationTarget", "BudgetAdjustment")
# Annotations that are fields of an objective, and what each text comes to.
_FIELDS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("within", "at_most", "at_least", "owner", "action", "below"), str),
    **dict.fromkeys(("regions", "protocols"), lambda text: [part.strip() for part in text.split(",")]),
    **dict.fromkeys(("page", "shadow"), lambda text: {"true": True, "false": False}.get(text, text)),
}
_OTHERS = ("scenario", "indicator", "name", "service")
_PROMISED = tuple(row.name for row in INDICATORS.values() if row.objective)
_WINDOW = re.compile(r"([1-9]\d{0,4})([mhdwMQY])", re.ASCII)


@dataclass(slots=True)
class Taken:
    """`objective`: fields as in a scenario, and for each the place it came from. `mistakes`: place and message. `notes`: what was
    passed over, in words."""

    scenario: str = ""
    objective: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    mistakes: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_openslo(data: Any) -> bool:
    return isinstance(data, dict) and str(data.get("apiVersion", "")).startswith("openslo")


def take(data: Mapping[str, Any]) -> Taken | None:
    """One document. None for a kind that promises nothing."""
    taken = Taken()
    if data.get("apiVersion") != VERSION:
        taken.mistakes.append((("apiVersion",), f"{describe(data.get('apiVersion'))}: only {VERSION} is read"))
        return taken
    if data.get("kind") != "SLO":
        if data.get("kind") not in KINDS:
            taken.mistakes.append((("kind",), f"{describe(data.get('kind'))} is not one of {', '.join(KINDS)}"))
        return taken if taken.mistakes else None
    metadata, spec = _mapping(data.get("metadata")), _mapping(data.get("spec"))
    annotations = _mapping(metadata.get("annotations"))
    _put(taken, "name", annotations.get(f"{PREFIX}name", metadata.get("name")), ("metadata", "name"))
    _put(taken, "service", annotations.get(f"{PREFIX}service", spec.get("service")), ("spec", "service"))
    taken.scenario = str(annotations.get(f"{PREFIX}scenario", ""))
    if not taken.scenario:
        taken.mistakes.append((("metadata", "annotations"), f"says of no scenario; add {PREFIX}scenario: room-start"))
    for key, value in annotations.items():
        name = key.removeprefix(PREFIX)
        if key.startswith(PREFIX) and name in _FIELDS:
            _put(taken, name, _FIELDS[name](str(value)), ("metadata", "annotations", key))
        elif key.startswith(PREFIX) and name not in _OTHERS:
            known = ", ".join(PREFIX + one for one in (*_OTHERS, *_FIELDS))
            taken.mistakes.append((("metadata", "annotations", key), f"unknown; known are {known}"))
    _indicator(taken, annotations, spec)
    _window(taken, spec)
    _target(taken, spec)
    if spec.get("alertPolicies"):
        taken.notes.append("alertPolicies: alerts are made from the objective itself")
    return taken


def _put(taken: Taken, name: str, value: Any, place: Path) -> None:
    if value is not None:
        taken.objective[name], taken.places[name] = value, place


def _indicator(taken: Taken, annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    inline = _mapping(spec.get("indicator"))
    inside = _mapping(inline.get("spec"))
    key = f"{PREFIX}indicator"
    candidates: list[tuple[str, Path]] = [
        (str(spec.get("indicatorRef", "")).replace("-", "_"), ("spec", "indicatorRef")),
        (str(_mapping(inline.get("metadata")).get("name", "")).replace("-", "_"), ("spec", "indicator", "metadata", "name")),
    ]
    if (asked := annotations.get(key)) is not None:
        _put(taken, "indicator", asked, ("metadata", "annotations", key))
    elif found := [one for one in candidates if one[0] in _PROMISED]:
        _put(taken, "indicator", *found[0])
    else:
        message = f"which part of a run is it? add the annotation {key}, one of {', '.join(_PROMISED)}"
        taken.mistakes.append((("spec", "indicator") if inline else ("spec",), message))
    if "thresholdMetric" in inside:
        place = ("spec", "indicator", "spec", "thresholdMetric")
        taken.mistakes.append((place, "a threshold on a metric is not judged by run; say what is good by annotation"))
    elif inside.get("ratioMetric"):
        taken.notes.append("ratioMetric: runs are judged by the probe, its queries are not used")


def _window(taken: Taken, spec: Mapping[str, Any]) -> None:
    windows = spec.get("timeWindow")
    window = windows[0] if isinstance(windows, list) and len(windows) == 1 and isinstance(windows[0], dict) else None
    if window is None:
        taken.mistakes.append((("spec", "timeWindow"), "expected one window, such as [{duration: 30d, isRolling: true}]"))
        return
    place: Path = ("spec", "timeWindow", 0)
    if "calendar" in window or window.get("isRolling") is not True:
        taken.mistakes.append((place, "a budget here is of a rolling window; write isRolling: true, and no calendar"))
    match = _WINDOW.fullmatch(str(window.get("duration", "")))
    if match is None or match[2] in "MQY":
        message = f"{describe(window.get('duration'))} is not a window of fixed length; write for example 30d or 4w"
        taken.mistakes.append(((*place, "duration"), message))
        return
    length = f"{7 * int(match[1])}d" if match[2] == "w" else match[0]
    _put(taken, "window", length, (*place, "duration"))


def _target(taken: Taken, spec: Mapping[str, Any]) -> None:
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        taken.mistakes.append((("spec", "budgetingMethod"), "runs are counted: only Occurrences can be promised"))
    objectives = spec.get("objectives")
    if not isinstance(objectives, list) or len(objectives) != 1 or not isinstance(objectives[0], dict):
        taken.mistakes.append((("spec", "objectives"), "expected one objective; write an SLO for each"))
        return
    place: Path = ("spec", "objectives", 0)
    one = objectives[0]
    if "indicator" in one or "indicatorRef" in one:
        taken.mistakes.append((place, "a composite of indicators is several promises; write an SLO for each"))
    given = [(key, one[key], scale) for key, scale in (("target", 1), ("targetPercent", 100)) if key in one]
    if len(given) != 1 or not isinstance(given[0][1], int | float):
        taken.mistakes.append((place, "say the target once: target: 0.995, or targetPercent: 99.5"))
        return
    key, number, scale = given[0]
    value = float(number) / scale
    if not 0 < value < 1:
        message = "a target of 100% leaves no room for any failure and 0% promises nothing; write for example 0.995"
        taken.mistakes.append(((*place, key), message))
        return
    _put(taken, "target", format_ratio(round(value, 9)), (*place, key))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
