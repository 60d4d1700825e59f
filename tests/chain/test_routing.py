"""A real Alertmanager, at hours of our choosing: who is told, who is not, and what keeps what quiet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from probe.rules.alerts import alerts
from probe.rules.coverage import nobodys, who
from probe.rules.routing import alertmanager
from probe.rules.shifts import remit_of
from probe.scenario.oncall import PAGED, OnCall
from tests.peers import alertmanager as peer
from tests.rules.fleets import two_ingests
from tests.rules.oncalls import YEAR, oncall
from tests.tools import wait_until

STEPS = "escalation:\n  P1: {within: 5m, steps: [{}, {after: 5m, call: backup}]}\n  P2: {within: 4h, clock: shifts}\n"
SOON = (
    "escalation:\n  P1: {within: 2s, wait: 10ms, steps: [{}, {after: 4s, call: backup}]}\n"
    "  P2: {within: 2s, wait: 10ms, clock: shifts}\n"
)
ALERTS = alerts(two_ingests())
DAY = """\
  media:
    owners: [media-sre, payments, growth-lead]
    shifts: [{shift: day, from: "08:00", to: "20:00", tz: Etc/UTC, call: europe}]
"""
QUEUES = """\
  media:
    owners: [media-sre]
    shifts:
      - {shift: apac, from: "08:00", tz: Asia/Tokyo, call: asia, backup: lead}
      - {shift: eu, from: "08:00", tz: Europe/Berlin, call: europe, backup: lead}
      - {shift: us, from: "10:00", tz: America/New_York, call: america, backup: lead}
    overrides:
      - {shift: eu, on: 2026-12-25, call: asia, backup: phone}
      - {from: 2026-12-31T18:00, to: 2027-01-01T06:00, tz: Europe/Berlin, regions: [eu], call: lead}
  money:
    owners: [payments, growth-lead]
    shifts:
      - {shift: phone, severities: [P1], tz: Europe/Berlin, call: phone, backup: lead}
      - {shift: office, severities: [P2], days: mon-fri, from: "09:00", to: "17:00", tz: Europe/Berlin, call: lead}
"""
# Whose hour it is for media-sre's alerts of (eu, us), worked out by hand.
HOURS = {
    "2026-01-15T14:59Z": ("europe", "europe"),  # winter everywhere: 10:00 in New York is 16:00 in Berlin
    "2026-01-15T15:00Z": ("america", "america"),
    "2026-03-10T14:00Z": ("america", "america"),  # America's summer has begun, Europe's has not: an hour earlier
    "2026-03-10T13:59Z": ("europe", "europe"),
    "2026-10-28T14:00Z": ("america", "america"),  # Europe's is over, America's not
    "2026-10-25T00:30Z": ("asia", "asia"),  # half past two in Berlin, for the first time
    "2026-06-20T07:15Z": ("europe", "europe"),  # a Saturday
    "2026-12-25T12:00Z": ("asia", "asia"),  # Christmas
    "2026-12-31T17:30Z": ("lead", "america"),  # New Year's Eve, in one region
}
OWNERS, REGIONS = ("media-sre", "payments", "stranger"), ("eu", "us")


@asynccontextmanager
async def server(found: OnCall, address: str, at: str) -> AsyncIterator[peer.Alertmanager]:
    one = replace(two_ingests(), sla={})  # oncall.yaml alone says it: tests cannot wait for minutes
    files = alertmanager(one, ALERTS, found, YEAR)
    files = {path: text.replace("http://127.0.0.1:1/", f"{address}/") for path, text in files.items()}
    async with peer.running(files, at=datetime.fromisoformat(at)) as running:
        yield running


def alert(name: str, severity: str = "P1", region: str = "eu", owner: str = "media-sre", **labels: str) -> dict[str, str]:
    every = {"slo": "room-start", "scenario": "room-start", "service": "room"}
    return {**every, "alertname": name, "severity": severity, "region": region, "owner": owner, **labels}


def by_alert(receiver: peer.Receiver, status: str = "firing") -> dict[str, set[str]]:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for name, labels in receiver.told(status).items():
        for one in labels:
            told[one["alertname"]].add(name)
    return dict(told)


@pytest.mark.parametrize("moment", HOURS)
async def test_at_this_hour_exactly_those_are_told(moment: str) -> None:
    found = oncall(QUEUES, STEPS)
    when = int(datetime.fromisoformat(moment).timestamp())
    expected: dict[str, set[str]] = {}
    asked = []
    for owner in OWNERS:
        for region in REGIONS:
            for severity in PAGED:
                queue = found.queue_of(owner)
                answer = (
                    who(found, remit_of(found, severity, queue, region), when, YEAR) if queue else nobodys(found, severity, when)
                )
                asked.append(alert(f"{owner} {region} {severity}", severity, region, owner, slo=f"{owner} {region} {severity}"))
                # What began an hour ago has passed every step; what waits for a shift is told nobody yet.
                called = {call.call for call in answer.calls if call.at <= when + 3600}
                if called and (answer.now or queue is None):
                    expected[asked[-1]["alertname"]] = called
    for region, hand in zip(REGIONS, HOURS[moment], strict=True):
        assert hand in expected[f"media-sre {region} P1"]
        assert expected[f"media-sre {region} P2"] == {hand}
    async with peer.receiving() as receiver, server(found, receiver.url, moment) as running:
        await running.post(*asked)
        await wait_until(lambda: by_alert(receiver).keys() >= expected.keys(), 10.0, "everybody who is to be told")
        await running.post(alert("afterwards", owner="stranger", slo="last"))
        await wait_until(lambda: "afterwards" in by_alert(receiver), 10.0, "what was posted last")
        assert {name: told for name, told in by_alert(receiver).items() if name != "afterwards"} == expected


async def test_at_a_handover_the_next_one_is_told_of_what_still_burns_and_that_it_is_over() -> None:
    async with peer.receiving() as receiver, server(oncall(QUEUES, SOON), receiver.url, "2026-03-10T13:59:57Z") as running:
        await running.post(alert("burns"))
        await wait_until(lambda: "europe" in by_alert(receiver).get("burns", ()), 5.0, "whoever is on")
        assert "america" not in by_alert(receiver)["burns"]
        await wait_until(lambda: "america" in by_alert(receiver)["burns"], 10.0, "whoever takes over")
        await running.post(alert("burns"), lasts=-1.0)
        await wait_until(lambda: "burns" in by_alert(receiver, "resolved"), 10.0, "the end")
        assert "america" in by_alert(receiver, "resolved")["burns"]
        assert "europe" not in by_alert(receiver, "resolved")["burns"]


async def test_a_triage_waits_until_somebody_is_on() -> None:
    async with peer.receiving() as receiver, server(oncall(QUEUES, SOON), receiver.url, "2026-06-22T06:59:57Z") as running:
        await running.post(alert("waits", "P2", owner="payments", slo="one"), alert("pages", owner="payments", slo="other"))
        await wait_until(lambda: "pages" in by_alert(receiver), 5.0, "the page")
        assert "waits" not in by_alert(receiver)
        await wait_until(lambda: by_alert(receiver).get("waits") == {"lead"}, 10.0, "the office at nine")


async def test_a_step_is_called_for_what_still_fires_then_and_not_for_what_is_over() -> None:
    async with peer.receiving() as receiver, server(oncall(QUEUES, SOON), receiver.url, "2026-06-22T12:00Z") as running:
        await running.post(alert("short", slo="short"), alert("long", slo="long"), ago=0.0)
        await wait_until(lambda: by_alert(receiver) == {"short": {"europe"}, "long": {"europe"}}, 3.5, "the first step")
        await running.post(alert("short", slo="short"), ago=1.0, lasts=-0.1)
        await wait_until(lambda: by_alert(receiver)["long"] == {"europe", "lead"}, 8.0, "the second step")
        assert by_alert(receiver)["short"] == {"europe"}
        assert by_alert(receiver, "resolved")["short"] == {"europe"}


@pytest.mark.parametrize(("moment", "told"), [("2026-06-22T19:59:00Z", "europe"), ("2026-06-22T20:00Z", "phone")])
async def test_a_hole_is_the_fallbacks(moment: str, told: str) -> None:
    async with peer.receiving() as receiver, server(oncall(DAY), receiver.url, moment) as running:
        await running.post(alert("any"))
        await wait_until(lambda: "any" in by_alert(receiver), 5.0, "somebody")
        await running.post(alert("afterwards", owner="stranger", slo="last"))
        await wait_until(lambda: "afterwards" in by_alert(receiver), 5.0, "what was posted last")
        assert by_alert(receiver)["any"] == {told}


async def test_the_watchdog_is_heard_again_and_again_and_never_that_it_is_over() -> None:
    found = oncall()
    found = found.model_copy(update={"watchdog": found.watchdog.model_copy(update={"every": 5 * 10**8})})
    async with peer.receiving() as receiver, server(found, receiver.url, "2026-06-22T12:00Z") as running:
        beats = receiver.said["outside"]
        await running.post(alert("Watchdog", "P2", "all", slo="probe"))
        await wait_until(lambda: len(beats) >= 4, 8.0, "four beats of two a second")
        await running.post(alert("Watchdog", "P2", "all", slo="probe"), lasts=-1.0)
        await running.post(alert("afterwards", owner="stranger", slo="last"))
        await wait_until(lambda: "afterwards" in by_alert(receiver), 5.0, "what was posted last")
        assert {body["status"] for body in beats} == {"firing"}
        assert by_alert(receiver)["Watchdog"] == {"outside"}


# Which alert keeps which quiet: every one is posted, and the API asked.
LOUD = [
    alert("page eu"),  # of what is viewed in eu
    alert("page us ingest", region="us", publish_region="us", slo="first-frame"),
    alert("page everywhere", region="all", slo="payments", owner="payments"),
    alert("shadow page", region="us", slo="shadowed", shadow="true"),
    alert("RegionSilent", region="apac", slo="probe", service="probe") | {"scenario": ""},
    alert("Watchdog", "P2", "all", slo="probe"),
]
KEPT = [
    alert("triage eu", "P2"),
    alert("triage us ingest", "P2", "us", publish_region="us", slo="first-frame"),
    alert("triage payments eu", "P2", "eu", slo="payments", owner="payments"),
    alert("AgentsMissing", "P2", "apac", slo="probe", service="probe") | {"scenario": ""},
    alert("RoomStartMeasuredTriage", "P2", "apac", slo="measured", service="probe"),
]
BY = {
    "triage eu": ["page eu"],
    "triage us ingest": ["page us ingest"],
    "triage payments eu": ["page everywhere"],
    "AgentsMissing": ["RegionSilent"],
    "RoomStartMeasuredTriage": ["RegionSilent"],
}
HEARD = [
    alert("triage us", "P2", "us"),  # another region
    alert("triage eu of another promise", "P2", slo="reconnect"),
    alert("triage eu of another scenario", "P2", scenario="gifts"),
    alert("triage eu ingest", "P2", publish_region="eu"),  # what is published in eu, not what is viewed there
    alert("triage us views", "P2", "us", slo="first-frame"),
    alert("triage shadowed", "P2", "us", slo="shadowed"),
    {"alertname": "bare", "severity": "P2"},  # nothing to be equal in
    {"alertname": "half", "severity": "P2", "slo": "room-start"},
    alert("page apac", "P1", "apac"),  # users of a silent region
    alert("triage apac", "P2", "apac", slo="reconnect"),
]


async def test_what_says_the_same_is_kept_quiet_and_nothing_else() -> None:
    assert {"RegionSilent", "AgentsMissing", "RoomStartMeasuredTriage"} <= {one.name for one in ALERTS}
    async with peer.receiving() as receiver, server(oncall(), receiver.url, "2026-06-22T12:00Z") as running:
        await running.post(*LOUD)
        assert await wait_until(lambda: quiet(running), 5.0, "every alert judged") == {"nobody": []}
        await running.post(*KEPT, *HEARD)
        by = await wait_until(lambda: quiet(running), 5.0, "every alert judged")
        assert by == {"nobody": [], **BY}
        await running.post(alert("afterwards", owner="stranger", slo="last"))
        await wait_until(lambda: "afterwards" in by_alert(receiver), 5.0, "what was posted last")
        assert not BY.keys() & by_alert(receiver).keys()


async def quiet(running: peer.Alertmanager) -> dict[str, list[str]] | None:
    """Alerts that are kept quiet, and by which; None until each has been looked at."""
    found = await running.alerts()
    if any(one["status"]["state"] == "unprocessed" for one in found.values()):
        return None
    names = {one["fingerprint"]: name for name, one in found.items()}
    by = {name: [names[f] for f in one["status"]["inhibitedBy"]] for name, one in found.items()}
    return {"nobody": [], **{name: sources for name, sources in by.items() if sources}}
