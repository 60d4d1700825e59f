"""report.html: one file that explains a verdict, readable on a phone at night and printable for a meeting.

It asks the network for nothing: the Content-Security-Policy in its head forbids everything but its own stylesheet, by hash,
so that even a hole in the escaping could not reach out. No script. Every value a template prints goes through `redact`,
loses its control characters and is escaped, without the template having a say in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.bccache import Bucket, BytecodeCache
from markupsafe import Markup

from probe.export import charts, figures
from probe.export.charts import Chart, Distribution
from probe.export.compared_words import tallied
from probe.export.figures import Redact, phase_reason, rfc3339, wall_of
from probe.export.forest import Forest, forest
from probe.export.grid import Grid, grid, ladder_lines
from probe.export.results import Compared, Evaluation, JudgedRun, regional
from probe.export.sheet import Line, Tile
from probe.export.words import (
    DECISION,
    duration,
    how_it_came_back,
    in_seconds,
    measured,
    printable,
    reason_of,
    tally,
    well,
    what_happened,
)
from probe.model.clock import NS
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import Done
from probe.model.stage import Stage
from probe.model.verdict import Check, RunResult, SessionResult, StepResult, Verdict

_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|min|kB/s|%)(?:\W|$))")  # a number and its unit stay on one line
_TEMPLATES = Path(__file__).parent / "templates"


def report_html(evaluation: Evaluation, redact: Redact) -> str:
    """The whole page."""
    sheets = ["report.css", *(["comparison.css"] if evaluation.comparison is not None else [])]
    style = "".join((_TEMPLATES / sheet).read_text(encoding="utf-8") for sheet in sheets)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return compiled(redact).render(
        style=Markup(style),  # noqa: S704 - our own file, and its hash stands in the policy
        digest=digest,
        e=evaluation,
        decision=DECISION[evaluation.verdict],
        reason=reason_of(evaluation),
        tally=tally(evaluation),
        cause=_cause(evaluation),
        regions=[(name, regional(runs, evaluation.quorum), len(runs)) for name, runs in evaluation.regions().items()],
        c=None if evaluation.comparison is None else _Comparison(evaluation.comparison),
        runs=[_Page(run) for run in evaluation.runs],
        when=_when,
    )


def compiled(redact: Redact) -> Template:
    """The page's template; the first of a process takes its time."""
    return environment(redact, _TEMPLATES).get_template("report.html.j2")


def _cause(evaluation: Evaluation) -> dict[str, str]:
    """The common factor's fields, and how many share it."""
    cause = evaluation.cause
    if cause is None:
        return {}
    shared = {} if cause.of is None else {"attempts": f"{cause.count} of {cause.of}"}
    return {**cause.fields, **shared}


class _Compiled(BytecodeCache):
    """Templates are compiled once for the life of the process: that takes 50 ms, and an agent has a report to write for each
    run."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._kept[bucket.key, bucket.checksum] = bucket.code


_compiled = _Compiled()


def environment(redact: Redact, folder: Path) -> Environment:
    """Of the templates in a folder: what they print is redacted, printable and escaped, whatever they say."""

    def safe(value: Any) -> Any:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return _UNIT.sub("\u00a0", printable(redact(value), limit=600))

    return Environment(
        loader=FileSystemLoader(folder),
        bytecode_cache=_compiled,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True, slots=True)
class CheckLine:
    """A check in words; what there is nothing to say of is empty."""

    result: str
    name: str
    said: str
    value: str
    wanted: str
    cases: str
    owner: str
    action: str


class _Comparison:
    """What the template asks of a comparison."""

    def __init__(self, compared: Compared) -> None:
        found = compared.found
        self.tone = compared.check.result.value
        self.than = found.release_before or "the runs before"
        self.headline = tallied(found)
        self.forest: Forest | None = forest(found)
        self.notes, self.apart = found.notes, found.apart


class _Page:
    """What the template asks of one run."""

    def __init__(self, run: JudgedRun) -> None:
        self.run = run
        self.result: RunResult = run.result
        self.began = run.result.began
        self.waterfall: Chart = charts.waterfall(run.result)
        self.timeline: Chart = charts.timeline(run.result)
        self.first_frames: Distribution | None = charts.first_frames(run.result)
        self.latencies: Distribution | None = charts.latencies(run.result)

    @property
    def title(self) -> str:
        return f"{self.began.scenario} · {self.began.publish_region} → {self.began.region}"

    @property
    def ids(self) -> list[tuple[str, str]]:
        took = "–" if self.result.ended is None else duration(self.result.ended - self.began.at)
        return [
            ("Run", self.began.run),
            ("Trace", self.began.trace_id),
            ("Mode", self.began.mode),
            ("Seed", str(self.began.seed)),
            ("Began", _when(self.began.wall_unix_ns)),
            ("Took", took),
            ("Target", self.began.target),
        ]

    @property
    def tiles(self) -> list[Tile]:
        viewers = [s for s in self.result.sessions if s.role is Role.VIEWER]
        started = [s for s in viewers if s.started is not None]
        cuts = [cut for s in self.result.sessions for cut in s.cuts if cut.outcome is not None]
        back = [cut for cut in cuts if cut.outcome not in (CutOutcome.FAILED, CutOutcome.OPEN)]
        outage = max((cut.outage for cut in cuts if cut.outage is not None), default=None)
        frozen = sum(f.took for s in viewers for f in figures.counted_freezes(s, figures.W3C))
        watched = sum(figures.watched(s) for s in viewers)
        tiles = [Tile("Viewers started", f"{len(started)} of {len(viewers)}", "", len(started) < len(viewers))]
        tiles += [
            tile
            for tile in (_by_protocol("First frame", viewers, _starts), _by_protocol("End-to-end latency", viewers, _latencies))
            if tile
        ]
        if cuts:
            note = f"longest outage {duration(outage)}" if outage is not None else "no outage seen"
            tiles.append(Tile("Came back from cuts", f"{len(back)} of {len(cuts)}", note, len(back) < len(cuts)))
        if watched:
            tiles.append(Tile("Frozen", f"{100 * frozen / watched:.2g} %", f"{duration(frozen)} of {duration(watched)}"))
        return tiles

    @property
    def checks(self) -> list[CheckLine]:
        """What did not pass, worst first, and the gates, passed or not."""
        ranked = sorted(self.run.checks, key=lambda c: -c.result.rank)
        return [_check(check) for check in ranked if not _quiet(check)]

    @property
    def passed(self) -> list[CheckLine]:
        """The rest: checks of steps and sessions that passed."""
        return [_check(check) for check in self.run.checks if _quiet(check)]

    @property
    def stages(self) -> tuple[list[str], list[Line]]:
        """Stages that occurred, and each listed session's milliseconds in them."""
        listed = [s for s in self.result.sessions if any(row.label == s.name for row in self.waterfall.rows)]
        used = [stage for stage in Stage if any(stage in s.stages for s in listed)]
        lines = []
        for session in listed:
            cells = [f"{session.stages[stage] / 1e6:.1f}" if stage in session.stages else "" for stage in used]
            lines.append(Line((session.name, *cells, f"{sum(session.stages.values()) / 1e6:.1f}")))
        return [stage.value.replace("_", " ") for stage in used], lines

    @property
    def sessions(self) -> list[Line]:
        """What happened to each listed session, in words."""
        listed = {row.label for row in self.waterfall.rows}
        return [_session(s) for s in self.result.sessions if s.name in listed]

    @property
    def steps(self) -> list[Line]:
        return [_step(step) for step in self.result.steps]

    @property
    def edges(self) -> list[Line]:
        seen = figures.edges([*self.result.requests, *(r for s in self.result.sessions for r in figures.counted_requests(s))])
        return [
            Line((edge or "–", cache or "–", status, str(count)), "bad" if status in ("5xx", "4xx", "none") else "")
            for edge, cache, status, count in seen[:60]
        ]

    @property
    def health(self) -> list[tuple[str, str]]:
        samples = self.result.health
        worst: list[tuple[str, float | None, bool]] = [
            ("Event-loop lag, worst", _most(s.loop_lag for s in samples), True),
            ("Decode backlog, worst", _most(s.decode_backlog for s in samples), True),
            ("Ready but not running, worst share", _most(s.run_delay for s in samples), False),
            ("Throttled, worst share", _most(s.throttled for s in samples), False),
            ("Machine busy, worst share", _most(s.pressure for s in samples), False),
        ]
        said = [(name, in_seconds(v) if time else f"{v * 100:.0f} %") for name, v, time in worst if v is not None]
        taints = Counter(taint for s in samples for taint in s.taints)
        unwell = sum(s.took for s in samples if s.taints)
        listed = ", ".join(f"{name} ({count}×)" for name, count in taints.most_common())
        error = self.began.wall_error_ns
        return [
            ("Unwell", f"{duration(unwell)}: {listed}" if taints else "never"),
            *said,
            ("Clock error", "unknown" if error is None else f"± {duration(error)}"),
            ("Looks at itself", str(len(samples))),
        ]

    @property
    def available(self) -> list[tuple[str, str]]:
        several = len({ingest for ingest, _ in self.result.available}) > 1
        return [
            (f"{protocol} of {ingest}" if several else protocol, duration(took))
            for (ingest, protocol), took in self.result.available.items()
        ]

    @property
    def grid(self) -> Grid | None:
        return grid(self.run.matrix)

    @property
    def ladder(self) -> list[Line]:
        """Each rendition of each viewer: declared against delivered."""
        return [Line((s.name, *cells)) for s in self.result.sessions for cells in ladder_lines(s)][:60]

    @property
    def notes(self) -> list[tuple[str, str, str]]:
        names = {s.session: s.name for s in self.result.sessions}
        return [
            (rfc3339(wall_of(self.result, n.at))[11:-1], names.get(n.session, n.session), n.text) for n in self.result.notes[:200]
        ]


def _when(unix_ns: int) -> str:
    """`21 Nov 2026, 09:00:25 UTC`."""
    return f"{datetime.fromtimestamp(unix_ns // NS, UTC):%-d %b %Y, %H:%M:%S} UTC"


def _quiet(check: Check) -> bool:
    return check.result is Verdict.PASS and not (check.threshold and not check.subject)


def _check(check: Check) -> CheckLine:
    about = "" if check.subject in check.name else check.subject
    wrong = "" if check.result is Verdict.PASS else check.reason
    wanted = check.threshold if check.subject or not check.threshold else f"not {check.threshold}"  # a gate's is what closes it
    if wanted and check.window and "[" not in wanted:
        wanted += f" in {check.window}"
    cases = f"{check.n}, {check.min_n} needed" if check.n < check.min_n else str(check.n or "")
    action = check.action if check.result is Verdict.FAIL else ""
    value = "" if check.value is None else measured(check)
    return CheckLine(
        check.result.value, check.name, ": ".join(filter(None, (about, wrong))), value, wanted, cases, check.owner, action
    )


def _starts(session: SessionResult) -> list[float]:
    return [session.took / NS] if session.took is not None and not session.taints else []


def _latencies(session: SessionResult) -> list[float]:
    return [value for w in figures.counted_windows(session) for value in w.latencies]


def _by_protocol(name: str, viewers: list[SessionResult], values: Callable[[SessionResult], list[float]]) -> Tile | None:
    """Medians by protocol, the first one large; protocols differ too much to be pooled."""
    found: list[tuple[str, str]] = []
    for protocol in dict.fromkeys(s.protocol for s in viewers):
        seen = figures.spread(value for s in viewers if s.protocol == protocol for value in values(s))
        if seen:
            found.append((protocol, in_seconds(seen.p50)))
    if not found:
        return None
    (first, much), *others = found
    note = " · ".join([f"median, {first}", *(f"{protocol} {value}" for protocol, value in others)])
    return Tile(name, much, note)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _step(step: StepResult) -> Line:
    detail = phase_reason(step.outcome)[2]
    happened = what_happened(step.outcome) + (" (optional)" if step.optional else "") + (" (finally)" if step.final else "")
    taints = f"tainted: {', '.join(sorted(step.taints))}" if step.taints else ""
    state = "" if isinstance(step.outcome, Done) else "bad" if step.outcome and step.outcome.kind == "failed" else "aside"
    said = "; ".join(filter(None, (detail, taints)))
    return Line((step.step, step.service or step.kind, happened, duration(step.took), said), state)


def _session(session: SessionResult) -> Line:
    said = [what_happened(session.outcome)]
    if detail := phase_reason(session.outcome)[2]:
        said.append(detail)
    for cut in session.cuts:
        back = f", outage {duration(cut.outage)}" if cut.outage is not None else ""
        back += f", reconnect {duration(cut.reconnect)}" if cut.reconnect is not None else ""
        said.append(f"{cut.kind}: {how_it_came_back(cut)}{back}")
    frames = figures.frames(session)
    odd = {kind: count for kind, count in (frames or {}).items() if count and kind not in ("decoded", "verified")}
    pictures = f"{frames['verified']} verified" if frames and session.role is Role.VIEWER else ""
    pictures += "".join(f", {count} {kind}" for kind, count in odd.items()) if pictures else ""
    rate = figures.bitrate(session)
    skew = figures.skew(session)
    heard = f"{skew.p50 * 1000:+.0f} ms" if skew else ""
    facts = ", ".join(f"{key} {value}" for key, value in session.facts.items())
    state = "" if well(session) else "bad"
    speed = f"{rate.p50 / 1000:.0f} kB/s" if rate else ""
    return Line((session.name, session.protocol, "; ".join(said), pictures, speed, heard, facts), state)
