"""What a person sees while a drill goes: on a terminal one live line and a row per fault, elsewhere a line per change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from probe.drill.core.conclude import Fate
from probe.drill.core.facts import Phase
from probe.drill.runner import Runner
from probe.drill.traffic import Traffic
from probe.export.words import printable
from probe.model.clock import NS

_WORDS = {
    Phase.CHECK: "getting ready",
    Phase.STEADY: "proving that it is steady",
    Phase.ANNOUNCE: "telling everybody",
    Phase.INJECT: "injecting",
    Phase.OBSERVE: "is it really broken?",
    Phase.HOLD: "broken",
    Phase.RESTORE: "putting it back, and looking whether it is",
    Phase.RECOVERY: "recovering",
    Phase.DONE: "over",
}
_STYLES = {Fate.HELD: "red", Fate.NOT_RESTORED: "bold red", Fate.RESTORED: "green", Fate.GONE: "yellow", Fate.PLANNED: "dim"}


@dataclass(slots=True)
class Progress:
    """Told after every step of the runner; draws at most as often as that."""

    console: Console
    redact: Callable[[str], str]
    title: str
    quiet: bool = False
    began: int | None = None
    _runner: Runner | None = None
    _traffic: Traffic | None = None
    _phase: Phase | None = None
    _fates: dict[str, Fate] = field(default_factory=dict)
    _live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        if self.quiet:
            yield
            return
        if not self.console.is_terminal:
            self._line(self.title)
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self._render) as self._live:
            yield
        self._live = None

    def told(self, runner: Runner, traffic: Traffic) -> None:
        self._runner, self._traffic = runner, traffic
        now = runner.job.clock.now()
        self.began = self.began or now
        if self.quiet or self.console.is_terminal:
            return
        for name, fate in runner.machine.fates.items():
            if self._fates.get(name, Fate.PLANNED) is not fate:
                self._line(f"  {self._seconds(now)}  {name}: {fate.value.replace('_', ' ')}")
                self._fates[name] = fate
        if runner.machine.phase is not self._phase:
            self._phase = runner.machine.phase
            self._line(f"  {self._seconds(now)}  {_WORDS[self._phase]}   {self._figures()}".rstrip())
            if self._phase is Phase.ANNOUNCE and (words := announced(runner)):
                self._line(f"           {words}")

    def _seconds(self, now: int) -> str:
        return f"{(now - (self.began or now)) / NS:5.1f} s"

    def _figures(self) -> str:
        """How the traffic fares, in a few words."""
        if self._runner is None or self._traffic is None:
            return ""
        readings, now = self._runner.job.readings, self._runner.job.clock.now()
        there = [readings.playing(region, now) for region in self._traffic.stays]
        playing = f"playing {sum(one for one, _ in there)} of {sum(of for _, of in there)}" if there else ""
        good, bad = readings.rooms()
        rooms = f"rooms started {good}, failed {bad}" if good or bad else ""
        missed = f"{self._traffic.missed} runs could not begin in time" if self._traffic.missed else ""
        return " · ".join(filter(None, (playing, rooms, missed)))

    def _line(self, text: str) -> None:
        self.console.print(printable(self.redact(text)), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        if self._runner is None:
            return Group(Text(self.title), Text(_WORDS[Phase.CHECK], style="dim"))
        machine, now = self._runner.machine, self._runner.job.clock.now()
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row(Text(self._seconds(now)), Text(_WORDS[machine.phase], style="bold"))
        for name, fate in machine.fates.items():
            table.add_row(Text(name), Text(fate.value.replace("_", " "), style=_STYLES.get(fate, "magenta")))
        waits = self._runner.looked.steady.reason if machine.phase is Phase.STEADY else ""
        goals = [told.reason for told in self._runner.looked.goals if told.met is not True and told.reason]
        lines = [printable(self.redact(line)) for line in (self._figures(), waits, *goals) if line]
        return Group(Text(self.title), table, Text("\n".join(lines), style="dim"))


def announced(runner: Runner) -> str:
    """What is said to everybody, and where."""
    comms = runner.job.drill.comms
    return " ".join(filter(None, (f"{comms.channel}:" if comms.channel else "", comms.announce)))
