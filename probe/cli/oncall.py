"""`probe oncall FILE`: who is called, when; whether the year is covered; the week as a picture.

It answers from what Alertmanager will be told, and reads nothing but the file and the clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.text import Text

from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.rules.coverage import Answer, Call, Roster, Turn, examine, moment, nobodys, rosters, sla_words, who
from probe.rules.shifts import Remit, remit_of, remits
from probe.rules.walltime import year
from probe.rules.week import Week, midnights, svg, weeks
from probe.scenario.oncall import OnCall, Paged
from probe.scenario.oncall_file import load_oncall
from probe.scenario.units import format_duration

_CELL = 30 * 60  # s of the week that one sign stands for
_STYLES = ("white on blue", "black on green", "white on magenta", "black on yellow", "white on red", "black on cyan")


def read(file: Path, at: int) -> OnCall:
    """The file, covered in the year of `at` (Unix seconds) and the next. Raises ConfigError with all mistakes, holes and overlaps
    among them."""
    return load_oncall(file, examine=lambda oncall: examine(oncall, *year(at)))


def now() -> int:
    """Unix seconds."""
    clock = SystemClock()
    return clock.wall(clock.now()).unix_ns // NS


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, as the command line has it."""

    at: str | None = None
    tz: str = "UTC"
    region: str | None = None
    owner: str | None = None
    queue: str | None = None
    severity: str | None = None

    def remits(self, found: OnCall) -> list[Remit]:
        """What is asked about; empty for an owner that no queue answers for. Raises ConfigError."""
        if self.queue is not None and self.queue not in found.queues:
            raise _usage("--queue", f"{self.queue!r} is not one of {', '.join(found.queues)}")
        queue = self.queue if self.owner is None else found.queue_of(self.owner)
        if self.owner is not None and self.queue not in (None, queue):
            raise _usage("--queue", f"{self.owner} is answered for by {queue or 'no queue'}; give an owner or a queue")
        queues = (queue,) if queue else () if self.owner else tuple(found.queues)
        return [remit for q in queues for s in _severities(self.severity) for remit in self._remits(found, s, q)]

    def _remits(self, found: OnCall, severity: Paged, queue: str) -> tuple[Remit, ...]:
        if self.region is None:
            return remits(found, severity, queue)
        return (remit_of(found, severity, queue, self.region),)


async def oncall(
    file: Path, console: Console, asked: Asked, *, check: bool, week: bool, as_json: bool, picture: Path | None = None
) -> int:
    """Answer; the exit code. Raises ConfigError."""
    zone = _zone(asked.tz)
    when = now() if asked.at is None else _moment(asked.at, zone)
    found = read(file, when)
    about = asked.remits(found)
    if check:
        _print_coverage(found, console, year(when))
    elif week or picture is not None:
        shown = weeks([Roster.of(found, remit, *year(when)) for remit in about], midnights(when, zone))
        if picture is None:
            _print_week(console, shown, when, asked.tz, zone)
        else:
            _write(picture, svg(found.name, shown, when, asked.tz))
            console.print(f"{picture}: the week", markup=False, soft_wrap=True)
    else:
        answers = [who(found, remit, when, year(when)) for remit in about]
        answers = answers or [nobodys(found, severity, when) for severity in _severities(asked.severity)]
        if as_json:
            print(json.dumps([document(answer) for answer in answers], indent=2, ensure_ascii=False))
        else:
            _print_answers(found, console, answers, asked.owner)
    return 0


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _usage("--svg", f"{file} cannot be written: {error.strerror}") from error


def _usage(option: str, message: str) -> ConfigError:
    return ConfigError([Located(option, 0, 0, "", message)])


def _zone(tz: str) -> ZoneInfo:
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _usage("--tz", f"{tz!r} is not a time zone; write for example Europe/Berlin") from None


def _moment(text: str, zone: ZoneInfo) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _usage("--at", f"{text!r} is not a moment; write for example 2026-12-24T18:00, or 2026-12-24T18:00+01:00") from None
    if not 1970 < at.year < 9990:
        raise _usage("--at", f"{at.year} is a year that nobody is on call in")
    return int((at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp())


def _severities(severity: str | None) -> tuple[Paged, ...]:
    known: tuple[Paged, ...] = get_args(Paged)
    if severity is None:
        return known
    if severity.upper() == "P3":
        raise _usage("--severity", "P3 is a line of the report: nobody is called for it")
    if severity.upper() not in known:
        raise _usage("--severity", f"{severity!r} is not one of {', '.join(known)}")
    return tuple(s for s in known if s == severity.upper())


# -- who


def _print_answers(found: OnCall, console: Console, answers: Sequence[Answer], owner: str | None) -> None:
    def say(text: str = "", style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    say(moment(answers[0].at))
    for answer in answers:
        say()
        if answer.remit is None:
            say(f"{answer.severity} of {owner}: no queue answers for {owner}; the fallback does", "bold")
        else:
            owners = ", ".join(found.queues[answer.remit.queue].owners)
            say(f"{answer.remit.words} ({owners})", "bold")
            say(f"  on now   {_turn(answer.now, answer.at, 'until')}")
            say(f"  next     {_turn(answer.next, answer.at, 'from')}")
        for n, call in enumerate(answer.calls):
            say(f"  {'calls' if n == 0 else '':9}{_after(call):10} {call.call:16} {_when(call, answer)}".rstrip())
        policy = found.escalation.of(answer.severity)
        due = f": by {moment(answer.due, _clocks(answer))}" if answer.due is not None else ""
        say(f"  looked at within {sla_words(policy)}{due}")


def _turn(turn: Turn | None, at: int, word: str) -> str:
    if turn is None:
        return "nobody"
    edge = turn.end if word == "until" else turn.begin
    if edge == year(at)[1]:
        return f"{turn.duty.call}: {turn.duty.name}, without end"
    why = f" ({turn.duty.why})" if turn.duty.why else ""
    return f"{turn.duty.call}: {turn.duty.name}{why}, {word} {moment(edge, (turn.duty.tz,))}"


def _after(call: Call) -> str:
    return f"after {format_duration(call.after)}" if call.after else "at once"


def _when(call: Call, answer: Answer) -> str:
    words = moment(call.at, (call.duty.tz,) if call.duty else _clocks(answer))
    if call.by == "pager":
        return f"{words}, if nobody has acknowledged: the pager"
    if call.after:
        return f"{words}, if it still fires: Alertmanager"
    return f"{words}, when the shift begins" if call.at > answer.at else words


def _clocks(answer: Answer) -> tuple[str, ...]:
    return (answer.now.duty.tz,) if answer.now else (answer.next.duty.tz,) if answer.next else ()


def document(answer: Answer) -> dict[str, Any]:
    """As JSON has it; times by RFC 3339."""
    remit = answer.remit
    return {
        "at": _rfc3339(answer.at),
        "severity": answer.severity,
        "queue": remit.queue if remit else None,
        "regions": list(remit.regions) if remit else [],
        "now": _turn_document(answer.now, answer.at),
        "next": _turn_document(answer.next, answer.at),
        "calls": [
            {
                "at": _rfc3339(call.at),
                "after": format_duration(call.after),
                "call": call.call,
                "by": call.by,
                "shift": call.duty.name if call.duty else None,
            }
            for call in answer.calls
        ],
        "within": format_duration(answer.within),
        "due": None if answer.due is None else _rfc3339(answer.due),
    }


def _turn_document(turn: Turn | None, at: int) -> dict[str, Any] | None:
    """`to` null: without end."""
    if turn is None:
        return None
    duty = turn.duty
    return {
        "shift": duty.name,
        "call": duty.call,
        "backup": duty.backup,
        "from": _rfc3339(turn.begin),
        "to": None if turn.end == year(at)[1] else _rfc3339(turn.end),
        "tz": duty.tz,
        "why": duty.why,
    }


def _rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


# -- the year


def _print_coverage(found: OnCall, console: Console, horizon: tuple[int, int]) -> None:
    begin, end = horizon
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (begin, end - 1))
    console.print(f"{found.name}: {first} to {last}, by the clocks of every zone", soft_wrap=True, markup=False)
    for roster in rosters(found, begin, end):
        waits = max((gap.end - gap.begin for gap in roster.holes()), default=0)
        words = "covered without a hole or an overlap"
        if waits:
            words = f"nobody is on for {format_duration(waits * NS)} at most; alerts wait"
        console.print(Text(f"{roster.remit.words}: {words}", style="bold"), soft_wrap=True)
        for name, call, share, longest in _shares(roster):
            console.print(f"  {name:18} {call:16} {share:6.1%} of the time, {longest}", markup=False, soft_wrap=True)
    for severity in _severities(None):
        for step in found.escalation.of(severity).steps:
            if step.by == "pager":
                words = f"{severity} after {format_duration(step.after)}: {step.call} is the pager's to call, not Alertmanager's"
                console.print(words, markup=False, soft_wrap=True)


def _shares(roster: Roster) -> Iterator[tuple[str, str, float, str]]:
    for name in dict.fromkeys(turn.duty.name for turn in roster.turns):
        turns = [turn for turn in roster.turns if turn.duty.name == name]
        lengths = [turn.end - turn.begin for turn in turns if turn.begin > roster.begin and turn.end < roster.end]
        share = sum(turn.end - turn.begin for turn in turns) / (roster.end - roster.begin)
        yield (
            name,
            turns[0].duty.call,
            share,
            f"at most {format_duration(max(lengths) * NS)} at a time" if lengths else "without end",
        )


# -- the week


def _print_week(console: Console, found: Sequence[Week], at: int, tz: str, zone: ZoneInfo) -> None:
    """A row a day; a sign is half an hour."""
    for week in found:
        console.print(Text(f"{week.words}, by the clock of {tz}", style="bold"), soft_wrap=True)
        _print_picture(console, week, at, zone)
        console.print()


def _print_picture(console: Console, week: Week, at: int, zone: ZoneInfo) -> None:
    signs = {duty.name: chr(ord("A") + n % 26) for n, duty in enumerate(week.duties)}
    styles = {duty.name: _STYLES[n % len(_STYLES)] for n, duty in enumerate(week.duties)}
    waits = False
    console.print((" " * 17 + "".join(f"{hour:<6}" for hour in range(0, 24, 3))).rstrip(), highlight=False)
    for begin, end in pairwise(week.midnights):
        row = Text(f"  {datetime.fromtimestamp(begin, zone):%a %Y-%m-%d} ")
        for cell in range(begin, end, _CELL):
            turn = next((turn for turn in week.turns if turn.begin <= cell < turn.end), None)
            waits = waits or turn is None
            sign = "▲" if cell <= at < cell + _CELL else signs[turn.duty.name] if turn else "·"
            row.append(sign, style=styles[turn.duty.name] if turn else "dim")
        console.print(row, soft_wrap=True)
    for duty in week.duties:
        row = Text("  ").append(signs[duty.name], style=styles[duty.name])
        why = f" ({duty.why})" if duty.why else ""
        row.append(f" {duty.name}: {duty.call}, then {duty.backup}, by the clock of {duty.tz}{why}")
        console.print(row, soft_wrap=True)
    if waits:
        console.print("  · nobody: alerts wait until somebody is on", highlight=False)
