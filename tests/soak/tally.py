"""What many runs came to: counted, and one row of a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.platform import Ran

WORDS = {0: "go", 1: "no-go", 3: "inconclusive"}
COLUMNS = (
    "part",
    "runs",
    "go",
    "warn",
    "inconclusive",
    "no-go",
    "error",
    "s a run",
    "start ms: median (worst) n",
    "taints, by run",
)


def word(ran: Ran) -> str:
    """go, warn, inconclusive, no-go; error for whatever else came of it."""
    return "warn" if ran.verdict.get("result") == "warn" and ran.exit == 0 else WORDS.get(ran.exit, "error")


def sessions(ran: Ran) -> list[dict[str, Any]]:
    """The publishers and viewers of a verdict."""
    return [session for run in ran.verdict.get("runs", []) for session in run["sessions"]]


def identity(ran: Ran) -> str:
    """Run id and seed: enough to look at a run, and to repeat its random choices."""
    return ", ".join(f"run {run['run_id']} seed {run['seed']}" for run in ran.verdict.get("runs", [])) or "no verdict"


def why(ran: Ran) -> str:
    """What a run that was not go says of itself, in one line."""
    cause = (ran.verdict.get("cause") or {}).get("words", "")
    failures = ", ".join(f"{who} {what}" for who, what in sorted(ran.failures()))
    health = ran.verdict.get("probe", {}).get("health", {})
    words = [cause, failures, f"taints {', '.join(health.get('taints', [])) or 'none'}"]
    if not ran.verdict:
        words.append(ran.stderr.strip()[-400:])
    return "; ".join(filter(None, words))


@dataclass(slots=True)
class Tally:
    """One part of the soak. Start times are of every session that started, tainted or not."""

    part: str
    words: Counter[str] = field(default_factory=Counter)
    taints: Counter[str] = field(default_factory=Counter)  # runs with such a taint on a session, step or cut
    starts: dict[str, list[float]] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def count(self, ran: Ran, took: float) -> None:
        self.words[word(ran)] += 1
        self.took.append(took)
        for run in ran.verdict.get("runs", []):
            spoilt = [*run["sessions"], *run["steps"], *(cut for s in run["sessions"] for cut in s["reconnects"])]
            self.taints.update({taint for result in spoilt for taint in result.get("taints", [])})
        for session in sessions(ran):
            start = session.get("first_frame_seconds", session.get("start_seconds"))
            if start is not None:
                self.starts.setdefault(session["protocol"], []).append(start * 1000)

    @property
    def runs(self) -> int:
        return self.words.total()

    def row(self) -> tuple[str, ...]:
        starts = (f"{protocol} {_spread(values)}" for protocol, values in sorted(self.starts.items()))
        taints = (f"{taint} {count}" for taint, count in self.taints.most_common())
        counts = (str(self.words[name]) for name in COLUMNS[2:7])
        took = f"{statistics.median(self.took):.1f}" if self.took else ""
        return (self.part, str(self.runs), *counts, took, ", ".join(starts), ", ".join(taints) or "none")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({max(values):.0f}) n={len(values)}"


def table(tallies: Iterable[Tally]) -> str:
    return plain([COLUMNS, *(tally.row() for tally in tallies)])


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows)
