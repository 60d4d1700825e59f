"""What the template of scorecard.html asks for: a Score in a person's words. No markup here.

What was not measured is a dash, and what nobody noticed is said in words: an empty cell would read as nothing wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.drill.core.score import BudgetScore, CohortScore, ConditionScore, FaultScore, LossScore, Score, Spread, StartScore
from probe.export.sheet import Line, Tile
from probe.export.words import duration, in_seconds
from probe.model.clock import NS

TONES = {"pass": "pass", "weakness": "fail", "not_restored": "fail"}  # the rest: inconclusive
SIGNS = {"pass": "✓", "fail": "✕", "inconclusive": "?"}
WORDS = {"not_restored": "not restored"}
_WHEN = {"before": "before", "meanwhile": "meanwhile", "after": "afterwards"}
_PARTS = {"steady": "before", "meanwhile": "meanwhile", "abort": "would stop it", "recovery": "afterwards"}
_CHANGES = {"better": "better", "same": "the same", "worse": "worse", "cannot_tell": "cannot tell"}
_TONES = {"better": "pass", "same": "pass", "worse": "fail", "cannot_tell": "inconclusive"}


def tone(verdict: str) -> str:
    """pass, fail or inconclusive."""
    return TONES.get(verdict, "inconclusive")


def word(verdict: str) -> str:
    return WORDS.get(verdict, verdict)


class Card:
    """One drill."""

    def __init__(self, score: Score) -> None:
        self.s = score
        self.tone = tone(score.verdict)
        self.sign = SIGNS[self.tone]
        self.word = word(score.verdict)

    @property
    def tally(self) -> str:
        """What became of the faults, in one line."""
        faults = self.s.faults
        touched = [f for f in faults if f.injecting_at is not None]
        if not touched:
            return "nothing was touched"
        back = [f for f in touched if f.seen_restored_at is not None or f.gone_at is not None]
        noun = "fault" if len(touched) == 1 else "faults"
        said = f"{len(back)} of {len(touched)} {noun} seen to be gone again"
        return said + (f"; ledger: {self.s.ledger}" if self.s.ledger else "")

    @property
    def tiles(self) -> list[Tile]:
        s = self.s
        tiles = [self._detected(), self._mitigated()]
        hit = s.blast.hit_inside + s.blast.hit_outside
        of = s.blast.of_inside + s.blast.of_outside
        if of:
            tiles.append(Tile("Viewers hit", f"{hit} of {of}", self._hit_note(), bool(s.blast.hit_outside)))
        if lost := sum(one.failed + one.open for one in s.cohorts):
            tiles.append(Tile("Did not come back", f"{lost} of {of}", "by the drill's end", True))
        if worst := _worst(s.cohorts, "outage"):
            tiles.append(Tile("Longest outage", in_seconds(worst[1].max), f"{worst[0].protocol} in {worst[0].region}"))
        if worst := _worst(s.cohorts, "reconnect"):
            tiles.append(Tile("Slowest reconnect", in_seconds(worst[1].max), f"{worst[0].protocol}, after the restore"))
        tiles += self._starts()
        spent = [one for one in s.budget if one.spent is not None]
        if spent:
            most = max(spent, key=lambda one: one.spent or 0.0)
            tiles.append(Tile("Budget, as if", _percent(most.spent), f"of {most.slo}'s {most.window_days:g} days"))
        return tiles

    def _detected(self) -> Tile:
        found = self.s.detection
        if self.s.injected_at is None:
            return Tile("Time to detect", "–", "no fault was seen")
        if found is None:
            return Tile("Time to detect", "never", "no alert and no gate fired", True)
        late = ", after the restore" if found.after_restore else ""
        return Tile("Time to detect", in_seconds(found.took), f"{found.name} ({found.source}){late}", found.after_restore)

    def _mitigated(self) -> Tile:
        found = self.s.mitigation
        if found is None:
            return Tile("Time to mitigate", "–", self.s.mitigation_untold or "")
        by = "by the platform itself" if found.by == "platform" else "only by the restore"
        return Tile("Time to mitigate", in_seconds(found.took), by)

    def _hit_note(self) -> str:
        blast = self.s.blast
        if not blast.of_outside:
            return "nobody watched outside"
        return f"{blast.hit_outside} of {blast.of_outside} outside the target"

    def _starts(self) -> list[Tile]:
        sums = {when: [0, 0] for when in _WHEN}
        for start in self.s.starts:
            if start.meant:
                sums[start.when][0] += start.done
                sums[start.when][1] += start.done + start.failed
        if not sums["meanwhile"][1]:
            return []
        told = [f"{_WHEN[w]} {done} of {of}" for w, (done, of) in sums.items() if of and w != "meanwhile"]
        done, of = sums["meanwhile"]
        return [Tile("Starts meanwhile", f"{done} of {of}", " · ".join(told))]

    # -- tables

    @property
    def conditions(self) -> list[Line]:
        return [_condition(one) for one in self.s.conditions]

    @property
    def faults(self) -> list[FaultLine]:
        return [FaultLine.of(one) for one in self.s.faults]

    @property
    def cohorts(self) -> list[Line]:
        return [_cohort(one) for one in self.s.cohorts]

    @property
    def starts(self) -> list[Line]:
        return [_start(one) for one in self.s.starts]

    @property
    def again(self) -> str:
        """First frames after the restore, in words; empty where starts never failed."""
        told = [f"{one.protocol} in {one.region} after {in_seconds(one.took)}" for one in self.s.first_frame_again]
        return ", ".join(told)

    @property
    def losses(self) -> list[Line]:
        return [_loss(one) for one in self.s.losses]

    @property
    def blast(self) -> str:
        blast = self.s.blast
        where = ", ".join(blast.meant_regions) + (f" over {', '.join(blast.meant_protocols)}" if blast.meant_protocols else "")
        inside = f"Meant: {where}. Of the viewers there {blast.hit_inside} of {blast.of_inside} were hit"
        if not blast.of_outside and not blast.outside:
            return f"{inside}; nobody watched anywhere else, so how far it reached is not known."
        if not blast.outside:
            return f"{inside}, elsewhere none of {blast.of_outside}."
        return f"{inside}, elsewhere {blast.hit_outside} of {blast.of_outside}."

    @property
    def outside(self) -> list[Line]:
        return [
            Line(
                (
                    one.region,
                    one.protocol,
                    f"{one.viewers} of {one.of_viewers}",
                    f"{one.starts_failed} of {one.of_starts}" if one.of_starts else "–",
                ),
                "bad",
            )
            for one in self.s.blast.outside
        ]

    @property
    def budget(self) -> list[Line]:
        return [_budget(one) for one in self.s.budget]

    @property
    def compared(self) -> list[Line]:
        """What could be told, the worse first."""
        return [line for change in ("worse", "better", "same") for line in self._compared(change)]

    @property
    def untold(self) -> list[Line]:
        return self._compared("cannot_tell")

    def _compared(self, change: str) -> list[Line]:
        figures = self.s.compared.figures if self.s.compared is not None else []
        told = [one for one in figures if one.change == change]
        return [Line((_CHANGES[change], one.name, one.words), _TONES[change]) for one in told]

    @property
    def compared_tone(self) -> str:
        return _TONES[self.s.compared.change] if self.s.compared is not None else ""

    @property
    def health(self) -> list[tuple[str, str]]:
        h = self.s.health
        taints = ", ".join(f"{name} ({count}×)" for name, count in h.taints.items())
        said = f"{h.tainted_samples} of {h.samples} looks" + (f": {taints}" if taints else "")
        worst = [
            ("Event-loop lag, worst", None if h.loop_lag_max is None else in_seconds(h.loop_lag_max)),
            ("Decode backlog, worst", None if h.decode_backlog_max is None else in_seconds(h.decode_backlog_max)),
            ("Ready but not running, worst share", None if h.run_delay_max is None else _percent(h.run_delay_max)),
            ("Throttled, worst share", None if h.throttled_max is None else _percent(h.throttled_max)),
            ("Machine busy, worst share", None if h.pressure_max is None else _percent(h.pressure_max)),
        ]
        return [("Unwell", said), *((name, value) for name, value in worst if value is not None)]

    @property
    def cost(self) -> list[tuple[str, str]]:
        """What the drill took of this host; nothing where it was not measured."""
        c = self.s.cost
        if c is None:
            return []
        cores = c.cpu_seconds / c.seconds if c.seconds else 0.0
        return [
            ("Processor", f"{c.cpu_seconds:.1f} s in {in_seconds(c.seconds)}: {cores:.2f} of {c.processors} processors"),
            ("Memory, at most", f"{c.memory_bytes / 2**20:.0f} MiB"),
        ]

    @property
    def ids(self) -> list[tuple[str, str]]:
        s = self.s
        return [
            ("Drill", s.drill),
            ("Run", s.run),
            ("Scenario", s.scenario),
            ("Regions", ", ".join(s.regions)),
            ("Target", s.target or "–"),
            ("Took", in_seconds(s.seconds)),
            ("Probe", s.probe_version),
        ]


@dataclass(frozen=True, slots=True)
class FaultLine:
    """One fault, for its own block."""

    name: str
    kind: str
    targets: str
    commands: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    trouble: tuple[str, ...]
    bad: bool

    @classmethod
    def of(cls, one: FaultScore) -> FaultLine:
        targets = ", ".join(one.targets[:6]) + (f" and {len(one.targets) - 6} more" if len(one.targets) > 6 else "")
        share = f", {len(one.targets)} of {one.of} there are" if one.of and targets else ""
        facts = [("Class", (one.klass or "–").replace("_", "-"))]
        if one.injecting_at is None:
            facts.append(("Injected", "never touched"))
        elif one.seen_injected_at is None:
            facts.append(("Injected", f"at {_at(one.injecting_at)}; never seen to be there"))
        else:
            facts.append(
                ("Injected", f"at {_at(one.injecting_at)}, seen at {_at(one.seen_injected_at)}{_after(one.inject_seen_in)}")
            )
        facts += _restored(one)
        if one.restored_by:
            facts.append(("Brought back by", one.restored_by))
        bad = one.injecting_at is not None and (
            one.seen_injected_at is None or (one.seen_restored_at is None and one.gone_at is None)
        )
        return cls(
            one.name,
            one.kind,
            targets + share,
            tuple((c.do, c.undo) for c in one.commands),
            tuple(facts),
            tuple(one.trouble),
            bad,
        )


def _restored(one: FaultScore) -> list[tuple[str, str]]:
    if one.injecting_at is None:
        return []
    by = f" by the {one.undone_by}" if one.undone_by else ""
    if one.gone_at is not None:
        return [("Restored", f"its target was gone at {_at(one.gone_at)}, and the fault with it")]
    if one.seen_restored_at is None:
        return [("Restored", "never seen to be gone")]
    began = f"put back at {_at(one.restoring_at)}{by}, " if one.restoring_at is not None else ""
    return [("Restored", f"{began}seen to be gone at {_at(one.seen_restored_at)}{_after(one.restore_seen_in)}")]


def _condition(one: ConditionScore) -> Line:
    said = one.reason if one.reason and one.reason != one.condition else ""
    if one.met is None:
        state, answer = "inconclusive", "cannot tell"
    elif one.part == "abort":
        state, answer = ("fail", "it stopped it") if one.met else ("pass", "did not come")
    else:
        state, answer = ("pass", "held") if one.met else ("fail", "did not hold")
    if one.took is not None:
        answer += f" after {in_seconds(one.took)}"
    looks = f"read {one.looks}×" + (f", on {one.n}" if one.n else "")
    return Line((_PARTS[one.part], one.condition, one.region or "", answer, _value(one), looks), state, said)


def _value(one: ConditionScore) -> str:
    """In the unit that the condition is written in."""
    if one.value is None:
        return ""
    if "%" in one.condition:
        return _percent(one.value)
    timed = ".p" in one.condition or ".max" in one.condition  # a quantile is of durations
    return in_seconds(one.value) if timed else f"{one.value:g}"


def _cohort(one: CohortScore) -> Line:
    who = one.protocol + ("" if one.device == "default" else f", {one.device}") + (f", of {one.ingest}" if one.ingest else "")
    counts = [
        (one.unaffected, "unaffected"),
        (one.resumed, "resumed"),
        (one.restarted, "restarted"),
        (one.failed, "failed"),
        (one.open, "still away"),
        (one.untold, "not told"),
        (one.tainted, "tainted"),
    ]
    said = ", ".join(f"{count} {name}" for count, name in counts if count)
    early = f"{one.back_before_restore} back before the restore" if one.back_before_restore else ""
    dark = "–"
    if one.without_picture is not None and one.watched:
        dark = f"{one.without_picture:.1f} s of {one.watched:.0f} s ({_percent(one.without_picture / one.watched)})"
    state = "bad" if one.failed or one.open or (not one.meant and one.resumed + one.restarted) else ""
    where = one.region + ("" if one.meant else ", not meant")
    return Line((who, where, str(one.viewers), said, _spread(one.outage), _spread(one.reconnect), dark), state, early)


def _start(one: StartScore) -> Line:
    told = one.done + one.failed
    share = f"{one.done} of {told}" if told else "–"
    apart = ", ".join(f"{count} {name}" for count, name in ((one.tainted, "tainted"), (one.other, "not told")) if count)
    why = "; ".join(f"{count}× {reason}" for reason, count in list(one.reasons.items())[:3])
    return Line(
        (_WHEN[one.when], one.protocol, one.region, share, _spread(one.first_frame), why, apart), "bad" if one.failed else ""
    )


def _loss(one: LossScore) -> Line:
    told = one.done + one.never_seen + one.twice + one.not_counted + one.failed
    cells = (one.never_seen, one.twice, one.not_counted, one.failed)
    numbers = tuple(str(count) for count in cells) if told else ("–",) * 4
    state = "bad" if any(cells) else ""
    kept = f"{one.done} of {told}" if told else "–"
    return Line((one.service, _WHEN[one.when], one.region, kept, *numbers, str(one.tainted or "")), state)


def _budget(one: BudgetScore) -> Line:
    runs = f"{one.bad} bad of {one.good + one.bad}" + (f", {one.inconclusive} not told" if one.inconclusive else "")
    return Line((one.slo, f"{one.target * 100:g} % over {one.window_days:g} d", runs, _percent(one.spent)))


def _worst(cohorts: list[CohortScore], name: str) -> tuple[CohortScore, Spread] | None:
    found = [(one, spread) for one in cohorts if (spread := getattr(one, name)) is not None]
    return max(found, key=lambda item: item[1].max, default=None)


def _spread(one: Spread | None) -> str:
    """Median, p95, maximum and of how many; a single value stands for itself."""
    if one is None:
        return "–"
    if one.n == 1:
        return f"{in_seconds(one.p50)} (1)"
    return f"{in_seconds(one.p50)} · {in_seconds(one.p95)} · {in_seconds(one.max)} ({one.n})"


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"


def _at(seconds: float) -> str:
    return duration(seconds * NS)


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" ({in_seconds(seconds)} later)"
