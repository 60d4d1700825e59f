"""Cuts by nft in a router between viewers and their platform, one after the other, and what each viewer's session told of each.

    us ── cable ── router ── cable ── sandbox

The publisher is not cut off: its port is left out of the rules. Everything else between us and the platform goes through them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from probe.clock import SystemClock
from probe.drill.faults.base import State
from probe.drill.faults.nft import NftFault
from probe.drill.traffic import staying
from probe.drivers.table import table
from probe.drivers.vocabulary import vocabulary
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.model.observation import Observation, Resumed, Role, SessionBegan, SessionEnded, SessionStarted
from probe.net.redact import Redactor
from probe.planning import make_plan
from probe.run.engine import Engine
from probe.run.outside import Outside
from probe.scenario.load import load
from tests.drill.cut.seen import Picture, Truth, Wire, pictures, truth
from tests.drill.net.support import bench
from tests.faults.platform import Platform
from tests.tools import wait_until
from tests.truth.namespaces import Cable, run

SCENARIO = """scenario: cut
owner: tests
regions: [local]
platform:
  url: "${{env.PLATFORM_URL}}"
  allow: [{there}/32]
  secrets:
    broadcaster_password: {{env: BROADCASTER_PASSWORD, for: "${{platform.url}}"}}
    viewer_password: {{env: VIEWER_PASSWORD, for: "${{platform.url}}"}}
deadlines: {{reconnect: 25s, run: 60s}}
journey:
  - login:
      http: POST /auth/login
      service: auth
      json: {{user: probe, password: "${{secret.broadcaster_password}}"}}
      keep: {{broadcaster_token: token}}
  - viewer-login:
      http: POST /auth/login
      service: auth
      json: {{user: viewer, password: "${{secret.viewer_password}}"}}
      keep: {{viewer_token: token}}
  - room: {{http: POST /rooms, as: broadcaster, json: {{unlisted: true}}, keep: {{room: id}}}}
  - publish: {{via: rtmp, url: "${{env.RTMP_URL}}", key: "${{room}}?token=${{broadcaster_token}}", bitrate: 800kbps}}
  - view: [{views}]
"""
VIEWS = {
    "whep": "/rooms/${room}/whep",
    "http-flv": "/rooms/${room}/live.flv",
    "hls": "/rooms/${room}/hls/index.m3u8",
    "ll-hls": "/rooms/${room}/ll/index.m3u8",
}


@dataclass(frozen=True)
class Lived:
    """One cut as one viewer lived it: what its session told, and what happened."""

    protocol: str
    length: float  # s
    told: Resumed
    true: Truth  # from the return of the path, as the wire saw it
    as_told: Truth  # from the instants that the session was given for it
    late: int  # ns between the two


@dataclass(frozen=True)
class Cut:
    """Instants, monotonic ns. `calling`: when nft was asked to begin, and had; `returning`: the same of the end; `seen`: when a
    look had shown that, which is what a drill's runner tells its traffic. `dropped`: what nft's counter says."""

    length: float
    calling: tuple[int, int]
    returning: tuple[int, int]
    seen: int
    last: int  # packet that passed before
    first: int  # and after
    leaked: int  # packets between
    dropped: str


@dataclass
class Measured:
    lived: list[Lived]
    cuts: list[Cut]
    missed: int  # cuts of a viewer that its session told nothing of
    wire_dropped: int
    ended: list[str]  # sessions that did not end as planned, and why


async def measured(
    cable: Cable,
    platform: Platform,
    lengths: Sequence[float],
    each: int,
    protocols: Sequence[str],
    state: Path,
    quiet: float = 2.0,
    tell: Callable[[str], object] = lambda _: None,
) -> Measured:
    """`each` viewers of every protocol through all cuts; between two cuts everybody plays for `quiet` seconds and some more."""
    views = ", ".join(f'{{via: {p}, as: viewer, count: {each}, url: "{VIEWS[p]}"}}' for p in protocols)
    file = state / "cut.yaml"
    file.write_text(SCENARIO.format(there=cable.there, views=views))
    clock, random_ = SystemClock(), random.Random(7)
    scenario = load(file, env=platform.environment, words=vocabulary())
    plan = make_plan(scenario, "local", 7, new_run_ids(clock.wall().unix_ns // 1_000_000, random.SystemRandom()))
    held = staying(plan, 3600 * NS)
    assert held is not None
    outside, facts = Outside(), list[Observation]()
    engine = Engine(held, clock=clock, put=facts.append, table=table(), state=state, redactor=Redactor(), outside=outside)
    cuts: list[Cut] = []
    with pictures(clock) as seen, Wire(cable.device) as wire:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run())
            waiting = group.create_task(outside.held.wait())
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert outside.held.is_set(), f"the run ended: {running.result()}"
            there, wanted = outside.playing("viewers"), each * len(protocols)
            assert there == wanted, f"only {there} of {wanted} viewers could start; is the machine busy?"
            for length in lengths:
                with suppress(AssertionError):  # one that is on its way still is cut all the same
                    await wait_until(lambda: outside.playing("viewers") >= len(_there(facts)), 10)
                await asyncio.sleep(quiet + random_.uniform(0, 1))
                cuts.append(await _cut(cable, platform, length, len(cuts), outside, clock, wire))
                await _settled(facts, len(cuts) - 1)
                tell(f"cut {len(cuts)} of {len(lengths)}, {length:g} s: {len(_there(facts))} viewers are there")
            await asyncio.sleep(0.5)
            outside.release()
    viewers = _viewers(facts)
    ended = [
        f"{viewers[fact.session]} after {sum(cut.calling[0] < fact.at for cut in cuts)} cuts: {fact.ended_by}"
        for fact in facts
        if isinstance(fact, SessionEnded) and fact.ended_by is not None and fact.session in viewers
    ]
    return Measured(*_matched(facts, cuts, seen), wire.dropped, ended)


async def _cut(
    cable: Cable, platform: Platform, length: float, number: int, outside: Outside, clock: SystemClock, wire: Wire
) -> Cut:
    ports = _ports(cable, int(platform.ready["rtmp_url"].split(":")[2].partition("/")[0]))
    fault = await bench(NftFault(), netns=cable.router, interface="here", do="cut", port=sorted(ports))
    try:
        outside.cut_began(f"cut-{number}")
        calling = clock.now()
        await fault.inject()
        called = clock.now()
        await asyncio.sleep(length)
        dropped = (await fault.observe()).detail
        returning = clock.now()
    finally:
        await fault.restore()
    returned = clock.now()
    await fault.sees(State.RESTORED)
    at = clock.now()
    outside.restored(f"cut-{number}", at, returning)  # as the runner has it
    await asyncio.sleep(0.3)
    around = wire.passed(ports, calling - NS, returned + NS)
    middle = (called + returning) // 2
    before = [p.at for p in around if p.at < middle and p.at <= called]
    after = [p.at for p in around if p.at > middle]
    leaked = [p for p in around if called + 2_000_000 < p.at < returning]
    return Cut(
        length=length,
        calling=(calling, called),
        returning=(returning, returned),
        seen=at,
        last=max(before, default=calling),
        first=min(after, default=returned),
        leaked=len(leaked),
        dropped=dropped,
    )


def _ports(cable: Cable, spared: int) -> set[int]:
    """Where the platform listens now, and its sockets of datagrams."""
    found = set()
    for kind, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        text = run("ip", "netns", "exec", cable.platform, "cat", f"/proc/self/net/{kind}")
        for line in text.splitlines()[1:]:
            fields = line.split()
            if fields[3] == listening:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found - {spared}


async def _settled(facts: list[Observation], number: int) -> None:
    """Until every viewer has told how this cut ended, or has ended itself."""

    def told() -> bool:
        return _there(facts) <= {fact.session for fact in facts if isinstance(fact, Resumed) and fact.step == f"cut-{number}"}

    with suppress(AssertionError):
        await wait_until(told, 27)


def _matched(facts: list[Observation], cuts: list[Cut], seen: dict[str, list[Picture]]) -> tuple[list[Lived], list[Cut], int]:
    protocols = _viewers(facts)
    started = {f.session for f in facts if isinstance(f, SessionStarted)}
    ends = {(f.session, f.step): f for f in facts if isinstance(f, Resumed)}
    rows, lived, missed = table().sessions, list[Lived](), 0
    for number, cut in enumerate(cuts):
        until = cuts[number + 1].calling[0] if number + 1 < len(cuts) else 1 << 63
        path_back = min(max(cut.first, cut.returning[0]), cut.returning[1])
        for session in protocols.keys() & started:
            told = ends.get((session, f"cut-{number}"))
            if told is None:
                missed += 1
                continue
            oldest = rows[Role.VIEWER, protocols[session]].max_age
            true = truth(seen[session], cut.calling[0], path_back, until, oldest)
            as_told = truth(seen[session], cut.calling[0], cut.returning[0], until, oldest, cut.seen)
            lived.append(Lived(protocols[session], cut.length, told, true, as_told, cut.seen - path_back))
    return lived, cuts, missed


def _there(facts: list[Observation]) -> set[str]:
    """Viewers that have begun and not ended."""
    return _viewers(facts).keys() - {fact.session for fact in facts if isinstance(fact, SessionEnded)}


def _viewers(facts: list[Observation]) -> dict[str, str]:
    """Protocol of each viewer, by session."""
    return {fact.session: fact.protocol for fact in facts if isinstance(fact, SessionBegan) and fact.role == "viewer"}
