"""`python -m tests.chain.show`: faults are made, and whoever is on is told; with nothing made up, and every time measured.

A real agent runs a broadcast every few seconds; Prometheus scrapes it each second, with the rules that `probe rules` makes of the
fleet (the windows that ship, evaluated each second); Alertmanager tells whoever `probe oncall` says. What is shown:

    python -m tests.chain.show                   on the sandbox: rooms refused (P1), payments refused (P2), each healed;
                                                 then Prometheus is killed, and the watchdog outside hears nothing.  7 min
    python -m tests.chain.show --silence         the same, and the agent is killed: its region is silent (P1).       18 min
    python -m tests.chain.show --regions         agents in eu, us and apac view what eu and us publish; us takes no
                                                 streams any more: one page, which names us.                          6 min
    python -m tests.chain.show --server nginx    a page on nginx-rtmp (Debian's nginx and libnginx-mod-rtmp), killed
                                                 and started again.                                                   3 min
    python -m tests.chain.show --server scenarios/mediamtx.yaml --command "mediamtx mediamtx.yml"
                                                 on any server: the command starts it. Its addresses are what the scenario takes
                                                 from the environment.

It ends with 0 where everything came that was to, and nothing else paged; else with 1. It takes Debian's prometheus and
prometheus-alertmanager. A machine under load taints runs, and they count for nothing: then all of it takes longer.

The times are those of a chain without a past, and an impatient one: a few bad runs are a large share of the windows, scrapes and
evaluations come each second, and Alertmanager waits for one. `probe rules --explain` says what a loss takes among hours of good
runs. Promises here are lower than those that ship, so that a fault leaves the windows within minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from ruamel.yaml import YAML

from tests.chain.whole import Chain, Missing
from tests.faults.platform import Platform
from tests.peers import nginx
from tests.tools import ROOT, spawn

EVERY = 4  # s
SCENARIO = (
    (ROOT / "tests" / "agent" / "short.yaml")
    .read_text()
    .replace("scenario: short", "scenario: room-start")
    .replace("owner: tests", "owner: media-sre", 1)
    .replace("regions: [local]", "regions: [eu, us, apac]")
    .partition("finally:")[0]
)
PAYMENT = """\
  - payment:
      http: POST /payments/coins
      as: viewer
      json: {amount: 10, currency: TEST, ref: "${run.id}"}
      expect: {status: [200, 201]}
      within: 2s
"""
START = """\
finally:
  - end: {http: "DELETE /rooms/${room}", service: room, as: broadcaster, within: 2s}
objectives:
  - {name: start, indicator: room_start, target: 95%, window: 30d, action: "drain the ingest, or roll back the last release"}
"""
PAID = "  - {name: payment, indicator: payment, target: 80%, window: 30d, owner: payments, action: prompt the alternate method}\n"
INGESTS, VIEWS = ("eu", "us"), ("eu", "us", "apac")


async def one(folder: Path, *, silence: bool) -> None:
    """One agent: a page, a triage, and what happens when what watches is dead."""
    (folder / "sandbox").mkdir()
    schedule = f"  room-start: {{scenario: ../scenario.yaml, every: {EVERY}s, run_on_start: true}}\n"
    with Platform.started(folder / "sandbox") as platform:
        text = SCENARIO + PAYMENT + START + PAID
        async with Chain.started(folder, text, schedule, ["eu"], platform.environment) as chain:
            await chain.well("start", 1)
            for service, slo, alert, severity, owner in (
                ("room", "start", "RoomStartStartPage", "P1", "media-sre"),
                ("payment", "payment", "RoomStartPaymentTriage", "P2", "payments"),
            ):
                await chain.fault(
                    (f"planted: {service} answers 503", partial(refuse, platform, service)),
                    (f"healed: {service}", partial(heal, platform)),
                    slo,
                    alert,
                    severity,
                    owner,
                )
            if silence:
                chain.did("the agent is killed; a region must be silent for ten minutes")
                chain.agents[0].popen.kill()
                await chain.until(lambda: chain.fires("RegionSilent"), "RegionSilent fires", 900.0)
                await chain.told("RegionSilent", "P1")
            await chain.dies()
            chain.only()


async def regions(folder: Path) -> None:
    """Only what takes in the streams of one region is broken: one page, that names it, not one for each region that views."""
    async with contextlib.AsyncExitStack() as stack:
        platforms: dict[str, Platform] = {}
        environment: dict[str, str] = {}
        schedules = ""
        for name in INGESTS:
            (folder / f"sandbox-{name}").mkdir()
            platforms[name] = stack.enter_context(Platform.started(folder / f"sandbox-{name}"))
            environment |= {f"{name.upper()}_{key}": value for key, value in platforms[name].environment.items()}
            own = {"platform.url": f"${{env.{name.upper()}_PLATFORM_URL}}"}
            own |= {
                f"platform.secrets.{who}_password.env": f"{name.upper()}_{who.upper()}_PASSWORD"
                for who in ("broadcaster", "viewer")
            }
            given = ", ".join(f'"{key}": "{value}"' for key, value in own.items())
            schedules += (
                f"  from-{name}: {{scenario: ../scenario.yaml, every: {3 * EVERY}s, run_on_start: true, publish_region: {name},"
                f" set: {{{given}}}}}\n"
            )
        environment |= platforms["eu"].environment
        chain = await stack.enter_async_context(Chain.started(folder, SCENARIO + START, schedules, VIEWS, environment))
        await chain.well("start", len(INGESTS) * len(VIEWS))

        async def everywhere() -> bool:
            found = await chain.runs("start", "bad", publish_region="us")
            return len(found) == len(VIEWS) and min(found) >= 1

        await chain.whom("P1", region="us")
        began = await chain.bad("start")
        chain.did("planted: the ingest of us answers 503; eu, us and apac view what is published there")
        refuse(platforms["us"], "whip")
        await chain.goes_bad("start", began)
        await chain.until(everywhere, "every region that views has one")
        await chain.until(lambda: chain.fires("RoomStartStartPage"), "RoomStartStartPage fires")
        await chain.told("RoomStartStartPage", "P1", region="us")
        before = await chain.bad("start")

        async def went_on() -> bool:
            return await chain.bad("start") >= before + 3 * len(VIEWS)

        await chain.until(went_on, "it has gone on for three runs in each")
        await chain.told("RoomStartStartPage", "P1", region="us")
        chain.did("healed: the ingest of us")
        heal(platforms["us"])
        await chain.ends("RoomStartStartPage", "P1", region="us")
        chain.only()


async def foreign(folder: Path, name: str, command: str, every: str) -> None:
    """On a server that nobody here wrote, killed and started again."""
    async with contextlib.AsyncExitStack() as stack:
        if name == "nginx":
            running = await stack.enter_async_context(nginx.running(fragment=1))
            file, child = ROOT / "scenarios" / "nginx-rtmp.yaml", running.child
            environment = {
                "NGINX_RTMP_PORT": str(running.rtmp_port),
                "NGINX_HTTP_PORT": str(running.http_port),
                "NGINX_SETTLE": "3s",
                "NGINX_WATCH": "1s",
            }
        else:
            file, environment = Path(name), {}
            child = stack.enter_context(spawn(shlex.split(command), folder / "server.log"))
        again = cast(list[str], child.popen.args)
        text = re.sub(r"target: [\d.]+%", "target: 95%", file.read_text())
        text = re.sub(r"^regions: .*$", "regions: [eu]", text, flags=re.MULTILINE)
        room, owner = objective(text)
        schedule = f"  show: {{scenario: ../scenario.yaml, every: {every}, run_on_start: true}}\n"
        chain = await stack.enter_async_context(Chain.started(folder, text, schedule, ["eu"], environment))
        await chain.well(room, 1)
        await chain.fault(
            (f"the server is killed (pid {child.pid})", partial(os.killpg, child.pid, signal.SIGKILL)),
            ("the server is started again", lambda: stack.enter_context(spawn(again, folder / "again.log"))),
            room,
            await chain.page_of(room),
            "P1",
            owner,
        )
        chain.only()


def objective(text: str) -> tuple[str, str]:
    """The one of a scenario that says whether a room starts at all, and whose it is. Raises Missing."""
    scenario = YAML(typ="safe").load(text)
    for one in scenario.get("objectives", []):
        if one["indicator"] == "room_start":
            return one["name"], one.get("owner", scenario["owner"])
    raise Missing("this scenario has no objective of room_start: nothing would page")


def refuse(platform: Platform, service: str) -> None:
    platform.admin("POST", "/admin/faults", {"fault": "refuse", "service": service})


def heal(platform: Platform) -> None:
    platform.admin("DELETE", "/admin/faults")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chain.show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--silence", action="store_true", help="also kill the agent, and wait until that pages")
    which.add_argument("--regions", action="store_true", help="three agents, and the ingest of one region broken")
    which.add_argument("--server", metavar="nginx|SCENARIO", help="a server nobody here wrote, by the scenario that fits it")
    parser.add_argument("--command", default="", help="starts the server of --server SCENARIO")
    parser.add_argument("--every", default="10s", help="how often the scenario of --server runs; default: 10s")
    options = parser.parse_args()
    if options.server and options.server != "nginx" and not (options.command and Path(options.server).is_file()):
        parser.error("--server is nginx, or a scenario's file and with it --command, which starts the server")
    minutes = 18 if options.silence else 6 if options.regions else 3 if options.server else 7
    print(f"this takes some {minutes} minutes on an idle machine; Ctrl-C ends it", flush=True)
    with tempfile.TemporaryDirectory(prefix="chain-") as name:
        # Whatever ends it, what it started is ended; a shell's background has SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        folder = Path(name)
        try:
            if options.server:
                asyncio.run(foreign(folder, options.server, options.command, options.every))
            elif options.regions:
                asyncio.run(regions(folder))
            else:
                asyncio.run(one(folder, silence=options.silence))
        except (Missing, pytest.skip.Exception) as missing:  # what comes, or a program that must be there
            print(f"\n{missing}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    print("\nall that was to come came, and nothing else paged", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
