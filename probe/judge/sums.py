"""What becomes of attempts, and which of it may be counted.

attempts = done + failed + skipped + cancelled + aborted + in flight, each split tainted or not; ratios use done and failed,
untainted. Here too: the one rule for how far a session counts at all. A session that our own link/ cuts counts up to the
cut, and after it only for reconnect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from probe.judge.fold import came_back, taints_between
from probe.model.observation import UNHEARD, CutOutcome, Role
from probe.model.outcome import Done, Failed, Outcome
from probe.model.verdict import CutResult, RunResult, SessionResult

KINDS = ("done", "failed", "skipped", "cancelled", "aborted", "in_flight")
OWN_CUTS = frozenset({"flap", "rebind"})
UNPLANNED = "unplanned"  # the kind of an interruption that nobody made


def kind_of(outcome: Outcome | None) -> str:
    """The outcome's word; `in_flight` for none yet."""
    return "in_flight" if outcome is None else outcome.kind


@dataclass(slots=True)
class Sums:
    """Attempts by outcome: `clean` and `tainted`, each with every kind present."""

    clean: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    tainted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def count(self, outcome: Outcome | None, *, tainted: bool) -> None:
        (self.tainted if tainted else self.clean)[kind_of(outcome)] += 1

    @property
    def attempts(self) -> int:
        return sum(self.clean.values()) + sum(self.tainted.values())

    @property
    def measured(self) -> int:
        """The denominator of every ratio: done and failed, untainted."""
        return self.clean["done"] + self.clean["failed"]

    @property
    def ratio(self) -> float | None:
        """done ÷ (done + failed), untainted; None where there is neither."""
        return self.clean["done"] / self.measured if self.measured else None

    def as_json(self) -> dict[str, object]:
        """`attempts{}` of verdict.json."""
        return {"attempts": self.attempts, **{k: self.clean[k] + self.tainted[k] for k in KINDS}, "tainted": dict(self.tainted)}


def sums(sessions: Iterable[SessionResult]) -> Sums:
    """The attempts of some sessions: one each."""
    out = Sums()
    for session in sessions:
        out.count(session.outcome, tainted=bool(session.taints))
    return out


def counts_until(session: SessionResult) -> int | None:
    """The instant from which a session counts for reconnect only: the first cut of our own. None: it counts throughout."""
    return min((cut.began for cut in session.cuts if cut.kind in OWN_CUTS), default=None)


def crash_taints(result: RunResult, session: SessionResult) -> frozenset[str]:
    """Taints between the last good picture of a session that crashed and its end."""
    failed = [cut for cut in session.cuts if cut.outcome is CutOutcome.FAILED]
    if failed:
        return failed[-1].taints
    ended = session.ended if session.ended is not None else session.began
    good = [window.at for window in session.windows if window.verified]
    return taints_between(result.health, max(good, default=session.started or session.began), ended)


def crashed(session: SessionResult) -> bool | None:
    """The indicator: whether a session that had a first frame ended unplanned. None where that is not known or not the
    platform's: no first frame, still in flight, its picture away at the end, ended by the probe's own fault."""
    if session.started is None or not isinstance(session.outcome, Done):
        return None
    until = counts_until(session)
    if until is not None and session.ended is not None and session.ended > until:
        return False
    return None if session.ended is None or left_open(session) else session.ending == "crashed"


def ended_unplanned(session: SessionResult) -> bool:
    """Whether a run is to fail for how the stay ended. A session lost to a cut of the journey is told by that cut."""
    by_cut = any(cut.step and cut.outcome is CutOutcome.FAILED for cut in session.cuts)
    return session.ending == "crashed" and not by_cut


_LISTEN = 3_000_000_000  # ns of watching in which a mark, one a second, must have been heard


def heard_sound(result: RunResult, session: SessionResult) -> bool | None:
    """Whether a viewer heard its publisher's sound marks. None where it cannot be said: no sound is sent, no picture of ours
    was seen, too little was watched while the probe was well and the path whole, or what sounded is nothing we can hear."""
    if not session.sound or session.verify != "code" or session.role is not Role.VIEWER or session.started is None:
        return None
    until = counts_until(session)
    windows = [w for w in session.windows if w.verified and (until is None or w.at <= until)]
    if any(w.sounds for w in windows):
        return True
    well = sum(w.took for w in windows if not taints_between(result.health, w.at - w.took, w.at))
    return False if well >= _LISTEN and UNHEARD not in session.facts else None


def interruptions(session: SessionResult) -> list[CutResult]:
    """What broke off by itself and came back by itself."""
    return [cut for cut in session.cuts if cut.kind == UNPLANNED and came_back(cut)]


def left_open(session: SessionResult) -> list[CutResult]:
    """What broke off by itself and was not back when the stay was ended, with time left."""
    return [cut for cut in session.cuts if cut.outcome is CutOutcome.OPEN]


def failure_of(outcome: Outcome | None) -> Failed | None:
    return outcome if isinstance(outcome, Failed) else None
