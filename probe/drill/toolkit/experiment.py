"""A Chaos Toolkit experiment → what a drill file would say. Pure: mappings in, mappings out.

What a drill has and an experiment has not (an owner, a scenario that watches, abort conditions, a recovery objective) stands in
the experiment's `extensions`, under the name `stream-probe`; `drill` there is a drill file without, or with, its `method`. One
without is read as one fault: actions of the method break, rollbacks put back, and probes of the method that have a tolerance
say whether it is broken. Their steady-state hypothesis is not ours: it is asked once, after the method, and once is not steady;
what it asks is the platform's health, which our scenario measures. Controls are not run, and that is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAME = "stream-probe"
_SHORTEST = 1.0  # s of a fault whose experiment names no pause


def is_experiment(data: object) -> bool:
    """Whether a file is one: it has a title and a method, and no drill."""
    return isinstance(data, Mapping) and "title" in data and "method" in data and "drill" not in data


def drill_data(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping that `load` validates, as if it had stood in a drill file; what is missing there is its to say."""
    own = _own(experiment)
    data: dict[str, Any] = {
        "drill": name_of(str(experiment.get("title", ""))),
        "description": str(experiment.get("description") or experiment.get("title", "")),
        "tags": list(_texts(experiment.get("tags"))),
        **{key: value for key, value in own.items() if key not in ("target", "for")},
    }
    if "method" not in own:
        data["method"] = [{"experiment": _fault(experiment, own)}]
    return data


def left_out(experiment: Mapping[str, Any]) -> list[str]:
    """What of it is not run here, in words; empty where nothing is left out."""
    told = []
    activities = [a for key in ("method", "rollbacks") for a in _mappings(experiment.get(key))]
    if experiment.get("controls") or any(activity.get("controls") for activity in activities):
        told.append("its controls are not run")
    if any(activity.get("background") for activity in activities):
        told.append("its background activities are waited for")
    if experiment.get("steady-state-hypothesis"):
        told.append("its steady-state hypothesis is not asked: the scenario measures whether the platform is well, all along")
    return told


def name_of(title: str) -> str:
    """A title as a name: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:63] or "experiment"


def _own(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Our block of its extensions."""
    for extension in _mappings(experiment.get("extensions")):
        if extension.get("name") == NAME and isinstance(extension.get("drill"), Mapping):
            block: Mapping[str, Any] = extension["drill"]
            return block
    return {}


def _fault(experiment: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    method = _mappings(experiment.get("method"))
    actions = [dict(activity) for activity in method if activity.get("type") == "action"]
    probes = [dict(activity) for activity in method if activity.get("type") == "probe" and "tolerance" in activity]
    held = sum(_after(activity) for activity in method) or _SHORTEST
    if actions:
        actions[-1] = {key: value for key, value in actions[-1].items() if key != "pauses"}  # it is held for as long, watched
    for probe in probes:
        probe.pop("pauses", None)
    wanted: dict[str, Any] = {
        "target": own.get("target") or f"experiment:{name_of(str(experiment.get('title', '')))}",
        "actions": actions,
        "rollbacks": [dict(activity) for activity in _mappings(experiment.get("rollbacks"))],
        "probes": probes,
    }
    for key in ("configuration", "secrets"):
        if isinstance(experiment.get(key), Mapping):
            wanted[key] = experiment[key]
    return {"fault": "activities", "for": own.get("for") or f"{held:g}s", "with": wanted}


def _after(activity: Mapping[str, Any]) -> float:
    pauses = activity.get("pauses")
    after = pauses.get("after") if isinstance(pauses, Mapping) else None
    return float(after) if isinstance(after, int | float) and not isinstance(after, bool) and after > 0 else 0.0


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
