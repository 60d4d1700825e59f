"""Small oncall.yaml files, made of their queues."""

from __future__ import annotations

from datetime import UTC, datetime

from probe.rules import coverage
from probe.rules.shifts import Remit, remit_of
from probe.rules.walltime import year
from probe.scenario.check import Finding
from probe.scenario.oncall import OnCall, Paged
from probe.scenario.oncall_file import loads_oncall

YEAR = year(int(datetime(2026, 6, 1, tzinfo=UTC).timestamp()))
HEAD = """\
oncall: test
receivers:
  asia: {webhook: {url: "http://127.0.0.1:1/asia"}}
  europe: {webhook: {url: "http://127.0.0.1:1/europe"}}
  america: {webhook: {url: "http://127.0.0.1:1/america"}}
  lead: {webhook: {url: "http://127.0.0.1:1/lead"}}
  phone: {webhook: {url: "http://127.0.0.1:1/phone"}}
  outside: {webhook: {url: "http://127.0.0.1:1/outside"}}
fallback: phone
watchdog: {call: outside}
"""
ESCALATION = """\
escalation:
  P1: {within: 5m}
  P2: {within: 4h}
"""
SUN = """\
  media:
    owners: [media-sre, growth-lead, payments]
    shifts:
      - {shift: apac, from: "08:00", tz: Asia/Tokyo, call: asia, backup: lead}
      - {shift: eu, from: "08:00", tz: Europe/Berlin, call: europe, backup: lead}
      - {shift: us, from: "10:00", tz: America/New_York, call: america, backup: lead}
"""


def text(queues: str = SUN, escalation: str = ESCALATION, address: str = "http://127.0.0.1:1") -> str:
    return f"{HEAD}{escalation}queues:\n{queues}".replace("http://127.0.0.1:1", address)


def oncall(queues: str = SUN, escalation: str = ESCALATION, address: str = "http://127.0.0.1:1") -> OnCall:
    """Of these queues; its coverage is not looked at."""
    return loads_oncall(text(queues, escalation, address), "oncall.yaml", examine=lambda _: (), env={})


def shifts(*lines: str, overrides: str = "") -> str:
    """A queue `media` of these shifts."""
    rows = "".join(f"      - {{{line}}}\n" for line in lines)
    return f"  media:\n    owners: [media-sre]\n    shifts:\n{rows}" + (
        f"    overrides:\n      - {{{overrides}}}\n" if overrides else ""
    )


def faults(found: OnCall) -> list[Finding]:
    """Holes and overlaps of 2026 and 2027."""
    return list(coverage.examine(found, *YEAR))


def at(moment: str) -> int:
    """2026-03-10T14:30Z → Unix seconds."""
    return int(datetime.fromisoformat(moment).timestamp())


def on(found: OnCall, moment: str, region: str = "eu", severity: Paged = "P1", queue: str = "media") -> str | None:
    """Who is on."""
    turn = coverage.Roster.of(found, remit(found, region, severity, queue), *YEAR).at(at(moment))
    return turn.duty.call if turn else None


def remit(found: OnCall, region: str = "eu", severity: Paged = "P1", queue: str = "media") -> Remit:
    return remit_of(found, severity, queue, region)
