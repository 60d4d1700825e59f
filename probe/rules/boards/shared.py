"""What dashboards have in common: choices at the top, marks across all panels, ways from one to the next, colours.

A fleet is known when they are made, so what none of its scenarios can measure has no panel: `Shown` says what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.model.metrics import PREFIX
from probe.rules.conditions import Alert, Kind
from probe.rules.fleet import Fleet
from probe.rules.grafana import Mark, Variable
from probe.rules.links import Dashboard, runs_url
from probe.rules.panels import BLUE, GREEN, RED, YELLOW, Json, Steps
from probe.scenario.produced import EDGE_PROTOCOLS
from probe.scenario.promised import produced_by

PLACE = 'scenario=~"$scenario",publish_region=~"$publish_region",region=~"$region"'
RUN = f'mode=~"$mode",{PLACE}'
VIEWERS = f'{RUN},role="viewer",protocol=~"$protocol"'
OBJECTIVE = f'{PLACE},slo=~"$slo"'
GOOD: Steps = ((None, RED), (0.9, YELLOW), (0.99, GREEN))  # a share, more is better
BAD: Steps = ((None, GREEN), (0.01, YELLOW), (0.05, RED))  # a share, less is better
ANY: Steps = ((None, GREEN), (1, RED))  # a count that should be nothing
MEASURED: Steps = ((None, RED), (0.5, YELLOW), (0.9, GREEN))  # a share of what was due
BUDGET: Steps = ((None, RED), (0.0001, YELLOW), (0.25, GREEN))  # what is left of it
BURN: Steps = ((None, GREEN), (1, YELLOW), (6, "orange"), (14.4, RED))  # times as fast as it may

_RUNS = f"{PREFIX}runs_total"
SCENARIO = Variable(name="scenario", label="Scenario", series=_RUNS, of="scenario")
PUBLISH_REGION = Variable(
    name="publish_region", label="Published in", series=f'{_RUNS}{{scenario=~"$scenario"}}', of="publish_region"
)
REGION = Variable(name="region", label="Viewed in", series=f'{_RUNS}{{scenario=~"$scenario"}}', of="region")
PLACES = (SCENARIO, PUBLISH_REGION, REGION)
PROTOCOL = Variable(
    name="protocol", label="Protocol", series=f'{PREFIX}attempts_total{{scenario=~"$scenario",role="viewer"}}', of="protocol"
)
SLO = Variable(name="slo", label="Objective", series='slo:objective:ratio{scenario=~"$scenario"}', of="slo")
MODE = Variable(name="mode", label="Why it ran", series=_RUNS, of="mode", chosen="scheduled")
WINDOW = Variable(
    name="window", label="Over", choices=("5m", "15m", "30m", "1h", "6h", "1d"), chosen="30m"
)  # runs are minutes apart: a rate over one scrape's time is nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the fleet measures, over all of its scenarios; and its alerts."""

    fleet: Fleet
    alerts: tuple[Alert, ...]
    cuts: bool
    edges: bool
    steps: bool

    @classmethod
    def of(cls, fleet: Fleet, alerts: tuple[Alert, ...]) -> Shown:
        made = [produced_by(scenario) for scenario in fleet.scenarios.values()]
        return cls(
            fleet=fleet,
            alerts=alerts,
            cuts=any(one.cut for one in made),
            edges=any(one.viewed & EDGE_PROTOCOLS for one in made),
            steps=any(one.services for one in made),
        )

    def firing(self, severity: str) -> str:
        """How many alerts fire, without the one that always does and those that are only tried."""
        other = f'alertname!="{self._watchdog}",shadow!="true"'
        return f'count(ALERTS{{alertstate="firing",severity="{severity}",{other}}}) or {self.alive}'

    def failed_runs(self) -> tuple[Json, ...]:
        """To the runs that failed, at the agents of each region; nothing where no address is known."""
        only = list(self.fleet.scenarios) if len(self.fleet.scenarios) == 1 else [""]
        links = {
            region: runs_url(self.fleet, region=region, scenario=only[0], verdict="fail")
            for region in dict.fromkeys(agent.region for agent in self.fleet.agents)
        }
        return tuple({"title": f"Failed runs: {region}", "url": url, "targetBlank": True} for region, url in links.items() if url)

    @property
    def alive(self) -> str:
        """A series that is there for as long as rules are evaluated: what nothing is counted against is nothing, not zero."""
        return f'0 * count(ALERTS{{alertname="{self._watchdog}",alertstate="firing"}})'

    @property
    def _watchdog(self) -> str:
        (name,) = (alert.name for alert in self.alerts if alert.kind is Kind.WATCHDOG)
        return name


def chosen(board: Dashboard, **variables: str) -> str:
    """A link inside Grafana that keeps time and what is chosen; `variables` as Grafana fills them in."""
    asked = "&".join(f"var-{name}={value}" for name, value in variables.items())
    return f"/d/{board.value}?${{__url_time_range}}" + (f"&{asked}" if asked else "")


def ways(here: Dashboard) -> tuple[Json, ...]:
    """To the other dashboards, with what is chosen."""
    return tuple(
        {
            "title": name,
            "type": "link",
            "url": f"/d/{board.value}",
            "icon": "dashboard",
            "tooltip": "",
            "tags": [],
            "asDropdown": False,
            "targetBlank": False,
            "includeVars": True,
            "keepTime": True,
        }
        for board, name in NAMES.items()
        if board is not here
    )


NAMES = {
    Dashboard.OVERVIEW: "Overview",
    Dashboard.SCENARIO: "Scenario",
    Dashboard.RUN: "Run",
    Dashboard.AUDIENCE: "Audience",
    Dashboard.EDGES: "Edges",
    Dashboard.DRILLS: "Gates and drills",
    Dashboard.PROBE: "The probe",
}


def marks() -> tuple[Mark, ...]:
    """What else happened then, across every panel: releases, pages, closed gates, drills."""
    return (
        Mark(
            name="Releases",
            expr=f"max by (scenario, region) ({PREFIX}release_time_seconds) * 1000",
            title="Release seen by {{scenario}} in {{region}}",
            tags=("scenario", "region"),
            colour=BLUE,
            at_value=True,
        ),
        Mark(
            name="Pages",
            expr='max by (alertname, region) (ALERTS{severity="P1",alertstate="firing"})',
            title="{{alertname}} {{region}}",
            tags=("alertname", "region"),
            colour=RED,
        ),
        Mark(
            name="Gates closed",
            expr=f'max by (gate, publish_region, region) ({PREFIX}gate_state{{verdict="fail"}}) == 1',
            title="Gate {{gate}} closed {{publish_region}} {{region}}",
            tags=("gate", "region"),
            colour="orange",
        ),
        Mark(
            name="Drills",
            expr=f'sum by (scenario, region) (increase({PREFIX}runs_total{{mode="drill"}}[1m])) > 0',
            title="Drill: {{scenario}} in {{region}}",
            tags=("scenario", "region"),
            colour="purple",
        ),
    )
