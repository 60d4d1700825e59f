"""What a person sees while a run is under way: one live line and a row per session on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from probe.export.words import printable
from probe.model.clock import NS
from probe.model.observation import (
    CutBegan,
    HealthSample,
    Observation,
    Resumed,
    RunBegan,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StepBegan,
    StepDone,
    Window,
)
from probe.model.outcome import Done, Failed, Outcome


@dataclass(slots=True)
class _Row:
    name: str
    state: str = "starting"
    style: str = "yellow"
    first: str = ""
    fps: str = ""
    delay: str = ""


@dataclass(slots=True)
class Progress:
    """Takes observations as a sink and draws them. On a console that is no terminal it prints a line per step."""

    console: Console
    redact: Callable[[str], str]
    quiet: bool = False
    runs: int = 1  # that are to come
    _run: int = 0
    _rows: dict[str, _Row] = field(default_factory=dict)
    _step: str = ""
    _title: str = ""
    _began: int = 0
    _now: int = 0
    _health: str = ""
    _live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        if self.quiet or not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self._render) as self._live:
            yield
        self._live = None

    def put(self, fact: Observation) -> None:
        self._now = max(self._now, fact.at)
        match fact:
            case RunBegan():
                self._rows.clear()
                self._run += 1
                self._title = f"{fact.scenario} · {fact.publish_region} → {fact.region}"
                self._title += f" · {self._run} of {self.runs}" if self.runs > 1 else ""
                self._began = fact.at
                self._line(f"{self._title} · {fact.target} · run {fact.run} · trace {fact.trace_id}")
            case StepBegan():
                self._step = fact.step
            case StepDone():
                self._line(f"  {fact.step:<16} {_words(fact.outcome)}" + (f" in {fact.took / NS:.2f} s" if fact.took else ""))
            case SessionBegan():
                self._rows[fact.session] = _Row(fact.name)
            case SessionStarted():
                self._change(fact.session, "playing", "green", first=f"{fact.took / NS * 1000:.0f} ms")
            case CutBegan():
                self._change(fact.session, f"cut: {fact.kind}", "magenta")
            case Resumed():
                self._change(fact.session, fact.outcome.value, "red" if fact.failure else "green")
            case SessionEnded():
                ok = isinstance(fact.outcome, Done) and fact.ended_by is None
                self._change(fact.session, "ended" if ok else _words(fact.ended_by or fact.outcome), "dim" if ok else "red")
            case Window():
                delay = f"{sorted(fact.latencies)[len(fact.latencies) // 2] * 1000:.0f} ms" if fact.latencies else ""
                self._change(fact.session, fps=f"{fact.verified / (fact.took / NS):.0f}", delay=delay)
            case HealthSample():
                self._health = ", ".join(fact.taints)
            case _:
                pass

    def _change(self, session: str, state: str = "", style: str = "", *, first: str = "", fps: str = "", delay: str = "") -> None:
        if (row := self._rows.get(session)) is not None:
            row.state, row.style = self._shown(state) or row.state, style or row.style
            row.first, row.fps, row.delay = first or row.first, fps or row.fps, delay or row.delay

    def _shown(self, text: str) -> str:
        """What a server said is neither to give a secret away nor to be obeyed by a terminal."""
        return printable(self.redact(text))

    def _line(self, text: str) -> None:
        if not self.quiet and not self.console.is_terminal:
            self.console.print(self._shown(text), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> Table:
        table = Table(
            box=None, pad_edge=False, title_justify="left", title=f"{self._title}  {(self._now - self._began) / NS:.0f} s"
        )
        for heading in ("session", "state", "first frame", "frames/s", "latency"):
            table.add_column(heading, justify="left" if heading in ("session", "state") else "right")
        for row in self._rows.values():
            table.add_row(row.name, Text(row.state, style=row.style), row.first, row.fps, row.delay)
        table.caption = f"step: {self._step}" + (f"   the probe is unwell: {self._health}" if self._health else "")
        table.caption_justify = "left"
        return table


def _words(outcome: Outcome) -> str:
    match outcome:
        case Failed():
            return f"failed: {outcome.phase}/{outcome.reason}" + (f" ({outcome.detail})" if outcome.detail else "")
        case _:
            detail = getattr(outcome, "detail", "")
            reason = getattr(outcome, "reason", "")
            return " ".join(part for part in (outcome.kind, reason, f"({detail})" if detail else "") if part)
