"""Where people go from an alert, a runbook or a panel: the addresses, made in one place so that all of them lead to the same.

An alert's annotations are templates of Prometheus', so that an address can name the region that fired: `{{ $labels.region }}`.
Never `$value`: promtool compares annotations exactly, and a number that moves would make every alert a new one. Without a base
address (`Fleet.links`) an address is the path below Grafana's own, or the file beside the rules: still true, still to be found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote, urlencode

from probe.rules.conditions import Alert, Below, Burn, Kind, Silent
from probe.rules.fleet import Fleet

_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_HOUR = 3600 * 10**9
EVERYWHERE = "all"  # the label region of an alert about every place
_PLACE = (  # a publishing region's viewers are everywhere, and such an alert's `region` is the publishing one
    "{{ with $labels.publish_region }}&var-publish_region={{ . }}"
    "{{ else }}{{ with $labels.region }}"
    f'{{{{ if ne . "{EVERYWHERE}" }}}}&var-region={{{{ . }}}}{{{{ end }}}}'
    "{{ end }}{{ end }}"
    "{{ with $labels.protocol }}&var-protocol={{ . }}{{ end }}"
)
_PROMISES = frozenset({Kind.BURN, Kind.DIRECT})
_OF_OURS = frozenset({"taint_ratio", "coverage"})  # indicators


class Dashboard(StrEnum):
    """What there is to look at; the value is Grafana's uid, which no title ever changes (at most 40 characters)."""

    OVERVIEW = "streamprobe-overview"
    SCENARIO = "streamprobe-scenario"
    RUN = "streamprobe-run"
    AUDIENCE = "streamprobe-audience"
    EDGES = "streamprobe-edges"
    DRILLS = "streamprobe-drills"
    PROBE = "streamprobe-probe"


def about_probe(alert: Alert) -> bool:
    """Whether it says something of the probe, and nothing of the platform."""
    return alert.slo is None or alert.kind not in _PROMISES or alert.slo.indicator in _OF_OURS


def runbook_name(alert: str) -> str:
    """Name of an alert as file and as label `runbook`."""
    return _NAMES.sub("-", alert)


def runbook_url(fleet: Fleet, alert: Alert) -> str:
    """Where the alert's runbook is read."""
    name = runbook_name(alert.name)
    return f"{fleet.links.runbooks.rstrip('/')}/{name}" if fleet.links.runbooks else f"runbooks/{name}.md"


def dashboard_url(fleet: Fleet, alert: Alert, at: Mapping[str, str] | None = None) -> str:
    """The dashboard that answers the alert's first question, at the place and over the time it is about. `at`: the labels of the
    place; without them they are left for Prometheus to fill in, to the same address."""
    board = Dashboard.PROBE if about_probe(alert) else Dashboard.SCENARIO
    chosen = {} if alert.slo is None else {"scenario": alert.slo.scenario, "slo": alert.slo.name}
    return board_url(fleet, board, since=_since(alert), **chosen) + (_PLACE if at is None else _place(at))


def board_url(fleet: Fleet, board: Dashboard, *, since: int = 0, **variables: str) -> str:
    """A dashboard with its variables set; `since` in ns before now, 0: what the dashboard shows by itself."""
    base = fleet.links.dashboards.rstrip("/") or "/d"
    asked = {f"var-{name}": value for name, value in variables.items()}
    if since:
        asked |= {"from": f"now-{-(-since // _HOUR)}h", "to": "now"}
    query = urlencode(asked, quote_via=quote)
    return f"{base}/{board.value}" + (f"?{query}" if query else "")


def runs_url(fleet: Fleet, *, region: str, **filters: str) -> str:
    """Runs as that region's agent lists them, newest first; filters: scenario, verdict. Empty where no address is known."""
    if not fleet.links.runs:
        return ""
    base = _runs(fleet, region)
    asked = {"region": region, **filters}  # too: agents that share a database list each other's
    return f"{base}?{urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)}"


def run_url(fleet: Fleet, *, region: str, run_id: str) -> str:
    """One run's report; empty where no address is known."""
    return f"{_runs(fleet, region)}/{run_id}" if fleet.links.runs else ""


def trace_url(fleet: Fleet, trace_id: str) -> str:
    """A trace; empty where no address is known."""
    return fleet.links.traces.replace("${trace_id}", trace_id)


def _runs(fleet: Fleet, region: str) -> str:
    return fleet.links.runs.replace("${region}", quote(region, safe="")).rstrip("/")


def _place(at: Mapping[str, str]) -> str:
    """What Prometheus makes of `_PLACE`."""
    chosen = {name: at.get(name, "") for name in ("publish_region", "region", "protocol")}
    if chosen["publish_region"] or chosen["region"] == EVERYWHERE:
        chosen["region"] = ""
    return "".join(f"&var-{name}={value}" for name, value in chosen.items() if value)


def _since(alert: Alert) -> int:
    """Twice the longest window that the alert looks at: what it was like before, too."""
    longest = _HOUR // 2
    for condition in alert.conditions:
        match condition:
            case Burn(long=window) | Below(window=window) | Silent(window=window):
                longest = max(longest, window)
    return 2 * longest
