"""Small fleets, straight from the dataclasses: what rules, routing, dashboards and backtests are tried on without a file.

One scenario, `room-start`, in three viewing regions; published from one region or from two.
"""

from __future__ import annotations

from dataclasses import replace

from probe.model.clock import NS
from probe.rules.fleet import Agent, Beat, Cell, Fleet, Links, Severity, Slo, Source
from probe.scenario.load import loads
from probe.scenario.schema import Scenario

MINUTE, HOUR, DAY = 60 * NS, 3_600 * NS, 86_400 * NS
REGIONS = ("eu", "us", "apac")
PROTOCOLS = ("whep", "hls")
LINKS = Links(
    dashboards="https://grafana.example/d",
    runbooks="https://wiki.example/runbooks",
    traces="https://traces.example/trace/${trace_id}",
    runs="http://${region}.probe.example:9464/runs",
)
SLA = {Severity.P1: 5 * MINUTE, Severity.P2: 4 * HOUR}
TEXT = """
scenario: room-start
description: A broadcaster goes live; viewers in every region see it.
owner: media-sre
regions: [eu, us, apac]
platform: {url: "https://live.example"}
journey:
  - room: {http: POST /rooms, keep: {room: id}}
  - publish: {via: whip, url: "/rooms/${room}/whip"}
  - view: [{via: whep, count: 3}, {via: hls, count: 2}]
  - payment: {http: POST /payments}
  - cut: {of: viewers, kind: rebind, for: 2s}
gates:
  - name: hold-campaign
    when: room_start[10m] < 90% and failures >= 3 for 2m
    resume: room_start[15m] > 99% for 15m
    by: region
    owner: growth-lead
    action: pause campaign expansion
"""


def scenario() -> Scenario:
    return loads(TEXT, "room-start.yaml", env={})


def cells(publish_regions: tuple[str, ...], runs_per_hour: float, protocols: tuple[str, ...] = ("",)) -> tuple[Cell, ...]:
    return tuple(
        Cell(publish_region=publish, region=region, protocol=protocol, runs_per_hour=runs_per_hour)
        for publish in publish_regions
        for region in REGIONS
        for protocol in protocols
    )


def slos(publish_regions: tuple[str, ...], runs_per_hour: float) -> tuple[Slo, ...]:
    """One per kind of counting: the whole run, by protocol, a step of a service, taint, and coverage."""
    whole, apart = cells(publish_regions, runs_per_hour), cells(publish_regions, runs_per_hour, PROTOCOLS)
    base = Slo(
        name="room-start",
        scenario="room-start",
        indicator="room_start",
        meaning="the room went live and was seen",
        target=0.995,
        window=30 * DAY,
        service="room",
        owner="media-sre",
        action="open the last failing run; if one ingest is named, drain it",
        cells=whole,
        place="room-start.yaml:14",
    )
    return (
        base,
        replace(
            base,
            name="first-frame",
            indicator="first_frame",
            meaning="every viewer saw its first frame within 2s",
            within="2s",
            target=0.95,
            service="playback",
            action="compare the stages of the slow runs; roll the player or the edge back",
            cells=apart,
            place="room-start.yaml:15",
        ),
        replace(
            base,
            name="payments",
            indicator="payment",
            meaning="every payment was taken once",
            target=0.99,
            window=28 * DAY,
            service="payment",
            owner="payments",
            action="switch to the alternate method; throttle risky offers",
            place="room-start.yaml:16",
        ),
        replace(
            base,
            name="probe-well",
            indicator="taint_ratio",
            meaning="at most 2% of attempts were measured while the probe was unwell",
            within="2%",
            target=0.95,
            service="probe",
            action="give the probe's machine more CPU or fewer runs",
            place="room-start.yaml:17",
        ),
        replace(
            base,
            name="measured",
            indicator="coverage",
            meaning="the run that was due was made",
            target=0.95,
            service="probe",
            source=Source.COVERAGE,
            action="see why the agent made no runs: its log, its schedule, its machine",
            place="room-start.yaml:18",
        ),
    )


def fleet(publish_regions: tuple[str, ...] = ("eu",), *, every: int = MINUTE) -> Fleet:
    """Three agents, one a region, each viewing what every publishing region publishes, one run each `every` ns."""
    rate = HOUR / every
    agents = tuple(
        Agent(
            name=f"{region}-1",
            region=region,
            instance=f"{region}-1.probe.example:9464",
            beats=tuple(Beat(scenario="room-start", publish_region=publish, runs_per_hour=rate) for publish in publish_regions),
        )
        for region in REGIONS
    )
    made = scenario()
    return Fleet(
        name="demo",
        owner="media-sre",
        agents=agents,
        scenarios={made.name: made},
        slos=slos(publish_regions, rate),
        gates=tuple((made.name, gate) for gate in made.gates),
        links=LINKS,
        sla=SLA,
    )


def two_ingests(*, every: int = MINUTE) -> Fleet:
    """As `fleet`, published from two regions: where one of them breaks, every viewing region sees half its rooms fail."""
    return fleet(("eu", "us"), every=every)
