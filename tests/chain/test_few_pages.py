"""One fault, one page: what the shipped fleet's alerts do about it, replayed, and what a real Alertmanager then tells whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache

import pytest

from probe.cli.fleets import fleet_at
from probe.rules.alerts import alerts
from probe.rules.faults import Breaks, Fault
from probe.rules.fleet import Severity
from probe.rules.history import Place
from probe.rules.patterns import DAY, HOUR, MONDAY, Chosen, Drawn, Parameters, Pattern, Random, World
from probe.rules.rivals import Ruleset
from probe.rules.routing import alertmanager
from probe.rules.simulate import simulate
from probe.rules.told import Told, ask, heard, notices
from tests.peers import alertmanager as peer
from tests.rules.oncalls import YEAR, oncall
from tests.tools import ROOT, wait_until

FLEET = fleet_at(ROOT / "scenarios" / "fleet.yaml")
ALERTS = {alert.name: alert for alert in alerts(FLEET)}
NOON = datetime.fromisoformat("2026-06-22T12:00Z")
# Long enough for what comes in one post to be told together.
SOON = "escalation:\n  P1: {within: 5m, wait: 200ms}\n  P2: {within: 4h, wait: 200ms}\n"
# What breaks, where, and the one page of it: objective, region, publishing region.
FAULTS = {
    "delivery of one viewing region": (Breaks.PLAYBACK, Place(region="eu"), ("room-start", "eu", "")),
    "ingest of one publishing region": (Breaks.INGEST, Place(publish_region="us"), ("room-start", "us", "us")),
    "login, everywhere": (Breaks.PLATFORM, Place(), ("room-start", "all", "")),
}


@cache
def said(name: str) -> tuple[Told, ...]:
    """Every alert of the shipped fleet over three days, of which two hours see that fault and nothing else."""
    breaks, place, _ = FAULTS[name]

    def draw(world: World, random: Random, given: Parameters) -> Drawn:
        began = MONDAY + 2 * DAY
        return [Fault(began=began, ended=began + 2 * HOUR, place=place, breaks=breaks)], []

    chosen = Chosen(name, ((Pattern(name=name, spoken=name, draw=draw, given=Parameters()), Parameters(noise=0.0)),))
    history = simulate(FLEET, chosen, days=3, seed=1)
    return tuple(ask(history, {"ours": Ruleset(name="ours", spoken="", alerts=tuple(ALERTS.values()))})["ours"])


@pytest.mark.parametrize("name", FAULTS)
def test_of_one_fault_one_page_is_left_by_replay(name: str) -> None:
    pages = [one for one in heard(said(name), list(ALERTS.values())) if one.severity is Severity.P1]
    assert [(one.slo, one.region, one.place.publish_region) for one in pages] == [FAULTS[name][2]]
    assert [notice.alerts for notice in notices(pages, Severity.P1)] == [("RoomStartPage",)]


def labels(one: Told) -> dict[str, str]:
    """As Prometheus sends it."""
    place = {"publish_region": one.place.publish_region} if one.place.publish_region else {}
    return {**ALERTS[one.alert].labels, "alertname": one.alert, "region": one.region, **place}


def moments(told: tuple[Told, ...]) -> Iterator[tuple[list[dict[str, str]], list[dict[str, str]]]]:
    """What fires and what is just over, whenever that changes, in order."""
    for now in sorted({at for one in told for at in (one.firing.began, one.firing.ended) if at is not None}):
        firing = [one for one in told if one.firing.began <= now and (one.firing.ended is None or now < one.firing.ended)]
        yield [labels(one) for one in firing], [labels(one) for one in told if one.firing.ended == now]


@asynccontextmanager
async def server(address: str) -> AsyncIterator[peer.Alertmanager]:
    found = oncall(escalation=SOON, address=address)
    async with peer.running(alertmanager(FLEET, list(ALERTS.values()), found, YEAR), at=NOON) as running:
        yield running


def pages(receiver: peer.Receiver) -> Counter[tuple[str, str, str]]:
    """How often somebody was paged, and for what."""
    bodies = [body for said in receiver.said.values() for body in said if body["status"] == "firing"]
    told = [body["alerts"][0]["labels"] for body in bodies if body["groupLabels"]["slo"] != "last"]
    return Counter((one["slo"], one["region"], one.get("publish_region", "")) for one in told if one["severity"] == "P1")


async def last(running: peer.Alertmanager, receiver: peer.Receiver) -> None:
    """Whatever was to be told before has been, when this has."""
    await running.post({"alertname": "afterwards", "slo": "last", "region": "eu", "severity": "P1", "owner": "nobody"}, ago=0.0)
    await wait_until(lambda: "afterwards" in str(receiver.told()), 5.0, "what was posted last")


async def test_a_pager_is_told_once_of_each_fault() -> None:
    assert any(one.alert == "RoomStartFirstFramePage" for name in FAULTS for one in said(name)), "nothing to keep quiet"
    async with peer.receiving() as receiver, server(receiver.url) as running:
        for name in FAULTS:
            for firing, over in moments(said(name)):
                await running.post(*firing, ago=0.0)
                await running.post(*over, lasts=-1.0)
                await wait_until(lambda: settled(running, receiver), 5.0, f"{name}: every page told or kept quiet")
        await last(running, receiver)
        assert pages(receiver) == Counter(page for _, _, page in FAULTS.values())


async def settled(running: peer.Alertmanager, receiver: peer.Receiver) -> bool:
    found = await running.alerts()
    loud = [one["labels"] for one in found.values() if one["status"]["state"] == "active" and one["labels"]["severity"] == "P1"]
    told = [one for several in receiver.told().values() for one in several]
    return all(one["status"]["state"] != "unprocessed" for one in found.values()) and all(one in told for one in loud)


def alert(name: str, region: str = "eu", **more: str) -> dict[str, str]:
    """One of the fleet's, with these labels; an empty one is as good as none."""
    every = {**ALERTS[name].labels, "alertname": name, "region": region, **more}
    return {**every, "row": " ".join([name.removeprefix("RoomStart"), region, *more.values()])}


LOUD = [
    alert("RoomStartPage"),
    alert("RoomStartPage", "us", publish_region="us"),
    alert("RoomStartPage", "all", scenario="second"),
    # None of these speaks for a whole place.
    alert("RoomStartPage", "apac", shadow="true"),
    alert("RoomStartPage", "sa", protocol="hls"),
    alert("RoomStartPage", "af", scenario=""),
    alert("RoomStartTriage", "me"),
]
KEPT = {
    "Page eu": [
        alert("RoomStartFirstFramePage"),
        alert("RoomStartFirstFramePage", protocol="whep"),
        alert("RoomStartCrashFreePage"),
        alert("RoomStartReconnectPage", owner="another"),
        alert("RoomStartReconnectTimeTriage"),
        alert("RoomStartEdgeSuccessTriage"),
        alert("RoomStartFreezesTriage"),
        alert("RoomStartBitrateTriage"),
    ],
    "Page us us": [
        alert("RoomStartFirstFramePage", "us", publish_region="us"),
        alert("RoomStartCrashFreeTriage", "us", publish_region="us"),
    ],
    "Page all second": [
        alert("RoomStartFirstFramePage", "apac", scenario="second"),
        alert("RoomStartFreezesTriage", "us", publish_region="us", scenario="second"),
        alert("RoomStartReconnectPage", "all", scenario="second"),
    ],
}
HEARD = [
    *(alert(f"RoomStart{name}") for name in ("PaymentPage", "GiftPage", "ChatTriage", "ModerationTriage", "LoginTriage")),
    alert("RoomStartPaymentPage", "us", publish_region="us"),
    alert("RoomStartPaymentPage", "eu", scenario="second"),
    alert("RoomStartCoverageTriage"),
    alert("RegionSilent", "sa"),
    alert("RoomStartFirstFramePage", "eu", publish_region="eu"),  # what is published in eu, not what is viewed there
    alert("RoomStartFirstFramePage", "us"),  # the other way round
    alert("RoomStartFirstFramePage", "all"),  # wider than any page of that scenario
    alert("RoomStartFirstFramePage", "eu", scenario="third"),
    alert("RoomStartFirstFramePage", ""),
    alert("RoomStartFirstFramePage", "apac"),
    alert("RoomStartFirstFramePage", "sa"),
    alert("RoomStartFirstFramePage", "af", scenario=""),
    alert("RoomStartFirstFramePage", "me"),
]


async def test_a_room_that_does_not_start_keeps_quiet_what_follows_for_its_viewers_and_nothing_else() -> None:
    async with peer.receiving() as receiver, server(receiver.url) as running:
        await running.post(*LOUD)
        assert await wait_until(lambda: quiet(running, len(LOUD)), 5.0, "every alert judged") == {"nobody": set()}
        kept = [one for several in KEPT.values() for one in several]
        await running.post(*kept, *HEARD, ago=0.0)
        by = await wait_until(lambda: quiet(running, len(LOUD) + len(kept) + len(HEARD)), 5.0, "every alert judged")
        assert by == {"nobody": set(), **{one["row"]: {source} for source, several in KEPT.items() for one in several}}
        await wait_until(lambda: {one["row"] for one in HEARD} <= rows(receiver), 5.0, "whatever is not kept quiet")
        await last(running, receiver)
        assert not {one["row"] for one in kept} & rows(receiver)


def rows(receiver: peer.Receiver) -> set[str]:
    """Rows that somebody was told of."""
    return {one.get("row", "") for several in receiver.told().values() for one in several}


async def quiet(running: peer.Alertmanager, count: int) -> dict[str, set[str]] | None:
    """Rows that are kept quiet, and by which; None until each has been looked at."""
    async with running.session.get(f"{running.url}/api/v2/alerts") as answer:
        found = await answer.json()
    if len(found) < count or any(one["status"]["state"] == "unprocessed" for one in found):
        return None
    rows = {one["fingerprint"]: one["labels"]["row"] for one in found}
    by = {one["labels"]["row"]: {rows[print] for print in one["status"]["inhibitedBy"]} for one in found}
    return {"nobody": set(), **{row: sources for row, sources in by.items() if sources}}
