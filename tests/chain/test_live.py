"""The whole chain, real but for the agents: figures → Prometheus with the rules that ship → Alertmanager → whoever is on."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

from probe.model.metrics import PREFIX
from probe.rules.alerts import alerts
from probe.rules.fleet import Agent, Beat, Fleet
from probe.rules.groups import rule_files
from probe.rules.promql import DUE
from probe.rules.routing import alertmanager
from probe.rules.selfwatch import EXPECTED
from tests.chain.figures import Figures, Series, exposed
from tests.chain.test_routing import QUEUES
from tests.peers import alertmanager as peer
from tests.peers import prometheus
from tests.rules.fleets import REGIONS, two_ingests
from tests.rules.oncalls import YEAR, oncall
from tests.tools import wait_until

WHEN = "2026-03-10T13:30Z"  # 14:30 in Berlin, a Tuesday; New York has its summer already
SILENT = "sa"
ESCALATION = """\
escalation:
  P1: {within: 2s, wait: 100ms, steps: [{}, {after: 5m, call: backup}]}
  P2: {within: 2s, wait: 100ms, clock: shifts}
"""
PAGE = {
    "alertname": "RoomStartPage",
    "slo": "room-start",
    "scenario": "room-start",
    "service": "room",
    "severity": "P1",
    "owner": "media-sre",
    "region": "us",
    "publish_region": "us",
}
ANNOTATIONS = {"summary", "description", "action", "runbook", "dashboard", "sla"}


def fleet() -> Fleet:
    """Two publishing regions, three viewing ones, and an agent in a fourth."""
    base = two_ingests()
    lone = Agent(name="sa-1", region=SILENT, beats=(Beat(scenario="room-start", publish_region="eu", runs_per_hour=60.0),))
    kept = tuple(slo for slo in base.slos if slo.name in ("room-start", "payments"))
    return replace(base, agents=(*base.agents, lone), slos=kept)


def fill(figures: Figures) -> tuple[str, dict[tuple[str, str, str, str], Series]]:
    """A day: all is well but 4 % of payments that eu's viewers make; and nothing of `sa` for the last twenty minutes."""
    runs: dict[tuple[str, str, str, str], Series] = {}
    for slo, region, publish in ((s, r, p) for s in ("room-start", "payments") for r in REGIONS for p in ("eu", "us")):
        bad = 0.04 if (slo, region) == ("payments", "eu") else 0.0
        for outcome, each in (("good", 1 - bad), ("bad", bad)):
            labels = {"mode": "scheduled", "scenario": "room-start", "slo": slo, "region": region, "publish_region": publish}
            runs[slo, publish, region, outcome] = figures.series(
                f"{PREFIX}objective_runs_total", each, protocol="", outcome=outcome, **labels
            )
    gone = []
    for region in (*REGIONS, SILENT):
        labels = {"mode": "scheduled", "scenario": "room-start", "region": region, "publish_region": "eu", "verdict": "pass"}
        made = figures.series(f"{PREFIX}runs_total", 1.0, **labels)
        speaks = figures.series(f"{PREFIX}self_agent_info", region=region)
        gone += [made, speaks] if region == SILENT else []
    return figures.history(26, dict.fromkeys(gone, 20.0)), runs


def recorded(one: Fleet) -> str:
    """What the rules have recorded of the inventory for an hour, as blocks take it."""
    now = time.time()
    lines = [f"# TYPE {EXPECTED} gauge"]
    lines += [f'{EXPECTED}{{region="{a.region}"}} 1 {now - back * 60:.3f}' for a in one.agents for back in range(60, 0, -1)]
    lines.append(f"# TYPE {DUE} gauge")
    for agent in one.agents:
        for beat in agent.beats:
            labels = f'scenario="{beat.scenario}",publish_region="{beat.publish_region}",region="{agent.region}"'
            lines += [f"{DUE}{{{labels}}} {beat.runs_per_hour} {now - back * 60:.3f}" for back in range(60, 0, -1)]
    return "\n".join(lines) + "\n"


def told(receiver: peer.Receiver, name: str, alert: str, status: str = "firing") -> list[dict[str, Any]]:
    """Of one alert, everything that a receiver was told, each label set once."""
    found = [one for body in receiver.said[name] for one in body["alerts"]]
    found = [one for one in found if one["labels"]["alertname"] == alert and one["status"] == status]
    return list({str(sorted(one["labels"].items())): one for one in found}.values())


async def test_a_fault_reaches_whoever_is_on_for_it_once_and_so_does_its_end() -> None:
    one = fleet()
    made = alerts(one)
    found = oncall(QUEUES, ESCALATION)
    found = found.model_copy(update={"watchdog": found.watchdog.model_copy(update={"every": 10**9})})
    routing = alertmanager(replace(one, sla={}), made, found, YEAR)
    rules = {
        path.replace("/", "-"): re.sub(r"(interval|keep_firing_for): \S+", r"\1: 1s", text)
        for path, text in rule_files(one, made).items()
    }
    async with exposed() as figures, peer.receiving() as receiver, AsyncExitStack() as stack:
        history, runs = fill(figures)
        files = {path: text.replace("http://127.0.0.1:1/", f"{receiver.url}/") for path, text in routing.items()}
        manager = await stack.enter_async_context(peer.running(files, at=datetime.fromisoformat(WHEN)))
        server = prometheus.running(
            [figures.address],
            rule_files=rules,
            alertmanagers=[manager.url.removeprefix("http://")],
            history=history.replace("# EOF\n", recorded(one) + "# EOF\n"),
        )
        async with server:
            # Of the past: a slow leak is triaged by its own queue, a silent region pages, and nobody else is told of either.
            await wait_until(lambda: told(receiver, "lead", "RoomStartPaymentsTriage"), 30.0, "the leak")
            (leak,) = told(receiver, "lead", "RoomStartPaymentsTriage")
            assert (leak["labels"]["severity"], leak["labels"]["region"], leak["labels"]["owner"]) == ("P2", "eu", "payments")
            await wait_until(lambda: told(receiver, "europe", "RegionSilent"), 30.0, "the silence")
            (silence,) = told(receiver, "europe", "RegionSilent")
            assert (silence["labels"]["severity"], silence["labels"]["region"]) == ("P1", SILENT)
            assert not told(receiver, "europe", "RoomStartPage")

            # Whatever is published in us breaks, wherever it is viewed: one page, that names it.
            for region in REGIONS:
                figures.now[runs["room-start", "us", region, "bad"]] += 40
            await wait_until(lambda: told(receiver, "europe", "RoomStartPage"), 30.0, "the page")
            (page,) = told(receiver, "europe", "RoomStartPage")
            assert page["labels"] == PAGE
            assert page["annotations"].keys() >= ANNOTATIONS and all(page["annotations"].values())
            quiet = await wait_until(lambda: kept_quiet(manager), 30.0, "the triage of the same")
            assert quiet == {"RoomStartTriage": "RoomStartPage"}

            # Healed: those who were told of it are told.
            for region in REGIONS:
                figures.now[runs["room-start", "us", region, "good"]] += 20_000
            await wait_until(lambda: told(receiver, "europe", "RoomStartPage", "resolved"), 30.0, "the end")
            assert len(told(receiver, "europe", "RoomStartPage")) == 1
            assert receiver.told().keys() == {"europe", "lead", "outside"}
            assert {one["alertname"] for one in receiver.told()["lead"]} == {"RoomStartPaymentsTriage"}
            await wait_until(lambda: len(receiver.said["outside"]) > 3, 30.0, "the watchdog, again and again")
        # Prometheus is dead: the watchdog, heard each second, falls silent, and nobody is told that this is well.
        await wait_until(lambda: time.monotonic() - receiver.heard["outside"] > 3.0, 30.0, "the watchdog's silence")
        assert not told(receiver, "outside", "Watchdog", "resolved")


async def kept_quiet(manager: peer.Alertmanager) -> dict[str, str]:
    found = await manager.alerts()
    names = {one["fingerprint"]: name for name, one in found.items()}
    return {name: names[by] for name, one in found.items() for by in one["status"]["inhibitedBy"]}
