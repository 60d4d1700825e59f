"""A week of shifts as a picture: SVG that stands by itself, for a wiki or a wall, in a reader's light or dark.

A row a day by the clock of one zone, a bar a turn; a day on which that clock is changed is as wide as the others. Who is on is
said in words in each bar that is wide enough, below by colour, and by a browser when pointed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from probe.rules.coverage import Roster, Turn, city, moment
from probe.rules.shifts import Duty

DAYS = 7
COLOURS = ("#3d6492", "#86527a", "#3c7a35", "#b83a3c", "#7a5648", "#1f6f6b", "#8a5a10", "#4f53b5")  # white is read on them
_LEFT, _WIDTH, _ROW, _LETTER = 120, 960, 26, 7
_STYLE = """\
svg { font: 12px system-ui, sans-serif; color: #1b1f24; background: #fff }
text { fill: currentColor } .bar text { fill: #fff } .head { font-weight: 600; font-size: 14px } .dim { opacity: .65 }
line { stroke: currentColor; opacity: .15 } .now { stroke: #d1242f; stroke-width: 2; opacity: 1 }
.none { fill: currentColor; opacity: .06 }
@media (prefers-color-scheme: dark) { svg { color: #e6e8eb; background: #16191d } }
"""


@dataclass(frozen=True, slots=True)
class Week:
    """Who is on in several remits at the same times, over seven days; `midnights` of `tz`, eight of them, Unix seconds."""

    words: str
    turns: tuple[Turn, ...]
    midnights: tuple[int, ...]

    @property
    def duties(self) -> tuple[Duty, ...]:
        """Everybody in it, by name."""
        return tuple({turn.duty.name: turn.duty for turn in self.turns}.values())


def midnights(at: int, zone: ZoneInfo) -> tuple[int, ...]:
    """From the day that `at` lies in."""
    today = datetime.fromtimestamp(at, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return tuple(int((today + timedelta(days=day)).timestamp()) for day in range(DAYS + 1))


def weeks(rosters: Sequence[Roster], days: tuple[int, ...]) -> tuple[Week, ...]:
    """A week of each; those of one queue that are alike are one."""
    alike: dict[tuple[object, ...], list[tuple[Roster, tuple[Turn, ...]]]] = {}
    for roster in rosters:
        turns = tuple(turn for turn in roster.turns if turn.end > days[0] and turn.begin < days[-1])
        key = (roster.remit.queue, tuple((turn.begin, turn.end, turn.duty.name) for turn in turns))
        alike.setdefault(key, []).append((roster, turns))
    return tuple(Week("; ".join(r.remit.words for r, _ in same), same[0][1], days) for same in alike.values())


def svg(title: str, found: Sequence[Week], at: int, tz: str) -> str:
    """The picture. `at`: a line there, Unix seconds."""
    body, top = [], 34
    for week in found:
        body += [*_week(week, at, ZoneInfo(tz), top)]
        top += _ROW * (DAYS + 2) + 18 * len(week.duties) + 34
    head = f'<text x="12" y="22" class="head">{escape(title)}, by the clock of {escape(city(tz))}</text>'
    size = f'viewBox="0 0 {_LEFT + _WIDTH + 12} {top}" width="{_LEFT + _WIDTH + 12}" height="{top}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>', f"<style>{_STYLE}</style>", head, *body, "</svg>"]
    return "\n".join(lines) + "\n"


def _week(week: Week, at: int, zone: ZoneInfo, top: int) -> Iterator[str]:
    colours = {duty.name: COLOURS[n % len(COLOURS)] for n, duty in enumerate(week.duties)}
    yield f'<text x="12" y="{top + 16}" class="head">{escape(week.words)}</text>'
    grid = top + _ROW * 2
    for hour in range(0, 25, 3):
        x = _LEFT + _WIDTH * hour / 24
        yield f'<text x="{x:.0f}" y="{grid - 6}" class="dim" text-anchor="middle">{hour}</text>'
        yield f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{grid}" y2="{grid + _ROW * DAYS}"/>'
    for n, (begin, end) in enumerate(pairwise(week.midnights)):
        y = grid + n * _ROW
        yield f'<text x="12" y="{y + 17}">{datetime.fromtimestamp(begin, zone):%a %Y-%m-%d}</text>'
        yield f'<rect x="{_LEFT}" y="{y + 2}" width="{_WIDTH}" height="{_ROW - 4}" class="none"/>'
        for turn in week.turns:
            if turn.end > begin and turn.begin < end:
                yield _bar(turn, begin, end, y, colours[turn.duty.name])
        if begin <= at < end:
            x = _LEFT + _WIDTH * (at - begin) / (end - begin)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + _ROW}" class="now"/>'
    for n, duty in enumerate(week.duties):
        y = grid + _ROW * DAYS + 18 * n + 18
        why = f" ({duty.why})" if duty.why else ""
        words = f"{duty.name}: {duty.call}, then {duty.backup}, by the clock of {city(duty.tz)}{why}"
        yield f'<rect x="{_LEFT}" y="{y - 10}" width="12" height="12" fill="{colours[duty.name]}"/>'
        yield f'<text x="{_LEFT + 18}" y="{y}">{escape(words)}</text>'


def _bar(turn: Turn, begin: int, end: int, y: int, colour: str) -> str:
    low, high = (_LEFT + _WIDTH * (edge - begin) / (end - begin) for edge in (max(turn.begin, begin), min(turn.end, end)))
    duty = turn.duty
    told = f"{duty.call}: {duty.name}, {moment(turn.begin, (duty.tz,))} to {moment(turn.end, (duty.tz,))}"
    words = f'<text x="{(low + high) / 2:.1f}" y="{y + 17}" text-anchor="middle">{escape(duty.call)}</text>'
    shown = words if high - low > len(duty.call) * _LETTER + 8 else ""
    size = f'width="{max(high - low - 1, 0.5):.1f}" height="{_ROW - 4}"'
    rect = f'<rect x="{low:.1f}" y="{y + 2}" {size} rx="3" fill="{colour}"/>'
    return f'<g class="bar"><title>{escape(told)}</title>{rect}{shown}</g>'
