"""The files of a drill (scorecard.html and .json, verdict.json, junit.xml, drill.jsonl, observations.jsonl), and the index of
several.

The pages are one file each and ask the network for nothing: the policy in their head forbids everything but their own stylesheet,
by its hash. Every value a template prints is redacted, made printable and escaped (export/report).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from pydantic import ValidationError

from probe.drill.core.facts import DrillBegan, DrillFact, to_json
from probe.drill.core.marks import marks
from probe.drill.core.measure import results_of
from probe.drill.core.page import SIGNS, Card, tone, word
from probe.drill.core.score import Score
from probe.drill.core.timeline import timeline
from probe.drill.core.verdict import evaluation
from probe.errors import ConfigError, Located
from probe.export import report
from probe.export.charts import Bar
from probe.export.figures import Redact, redacted
from probe.export.junit import junit_xml
from probe.export.verdict_json import verdict_json
from probe.export.words import in_seconds
from probe.model.observation import Observation
from probe.model.observation import to_json as observed_json
from probe.plan import Plan

_log = logging.getLogger(__name__)
FILES = ("scorecard.html", "scorecard.json", "verdict.json", "junit.xml", "drill.jsonl", "observations.jsonl")
_TEMPLATES = Path(__file__).parent / "templates"
_MOST = 32 * 2**20  # bytes of a scorecard that is read


def write(
    score: Score,
    out: Path,
    *,
    facts: Sequence[DrillFact],
    observations: Iterable[Observation],
    plans: Mapping[str, Plan],
    stays: Collection[str],
    redact: Redact,
) -> list[str]:
    """Every file, into a directory that is there; names of those that could not be written. One that cannot does not keep the
    others from being written."""
    seen = list(observations)
    results = results_of(seen)
    began = next(fact for fact in facts if isinstance(fact, DrillBegan))
    ended = began.wall_unix_ns + marks(facts).ended - began.at
    judged = evaluation(score, results, plans, started=began.wall_unix_ns, evaluated=ended)
    picture = timeline(facts, marks(facts), results, stays, score.alarms)
    files: dict[str, Callable[[], Iterable[str]]] = {
        "scorecard.html": lambda: [_page("scorecard.html.j2", redact, c=Card(score), p=picture, when=_when(score.began))],
        "scorecard.json": lambda: [score_json(score, redact)],
        "verdict.json": lambda: [verdict_json(judged, redact)],
        "junit.xml": lambda: [junit_xml(judged, redact)],
        "drill.jsonl": lambda: _lines((to_json(fact) for fact in facts), redact),
        "observations.jsonl": lambda: _lines((observed_json(fact) for fact in seen), redact),
    }
    return [name for name in FILES if not _written(out / name, files[name])]


def score_json(score: Score, redact: Redact) -> str:
    """scorecard.json: absent is absent."""
    plain = redacted(score.model_dump(mode="json", exclude_none=True), redact)
    return json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_score(path: Path, drill: str = "") -> Score:
    """A scorecard.json: the file, the one in an --out directory, or that of `drill` in one of several. Raises ConfigError where
    there is none that can be read, or it is another drill's."""
    folder = path / drill if drill and (path / drill).is_dir() else path
    file = folder / "scorecard.json" if folder.is_dir() else folder
    try:
        if file.stat().st_size > _MOST:
            raise _unread(file, f"is larger than {_MOST >> 20} MiB: not a scorecard")
        score = Score.model_validate_json(file.read_bytes())
    except OSError as error:
        hint = "; name the --out directory of a drill, or its scorecard.json"
        raise _unread(file, f"cannot be read: {error.strerror}{hint}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unread(file, f"is no scorecard of this version: {first['msg']}", where) from error
    if drill and score.drill != drill:
        raise _unread(file, f"is of drill {score.drill}, not of {drill}")
    return score


def _unread(file: Path, why: str, where: str = "") -> ConfigError:
    return ConfigError([Located(str(file), 0, 0, where, why)])


# -- the index


@dataclass(frozen=True, slots=True)
class _Entry:
    """One drill in the index. `link` is below the index's own directory."""

    name: str
    link: str
    word: str
    tone: str
    reason: str
    figures: str
    bars: tuple[Bar, ...]
    bands: tuple[Bar, ...]


def write_index(scores: Sequence[tuple[Score, str]], out: Path, *, redact: Redact) -> None:
    """index.html of several drills: each with the folder, below `out`, that its scorecard is in. Raises OSError."""
    worst = next((t for t in ("fail", "inconclusive") if any(tone(score.verdict) == t for score, _ in scores)), "pass")
    passed = sum(score.verdict == "pass" for score, _ in scores)
    page = _page(
        "index.html.j2",
        redact,
        drills=[_entry(score, folder) for score, folder in scores],
        headline=f"{passed} of {len(scores)} drills passed",
        tone=worst,
        sign=SIGNS[worst],
        when=_when(scores[0][0].began) if scores else "",
    )
    _replace(out / "index.html", [page])


def _entry(score: Score, folder: str) -> _Entry:
    whole = max(score.seconds, 1.0)

    def bar(at: float, took: float, kind: str, height: float = 100.0) -> Bar:
        at, took = min(max(at, 0.0), whole), max(took, 0.0)
        return Bar(round(100 * at / whole, 3), round(100 * min(took, whole - at) / whole, 3), kind, "", height)

    bands = []
    if score.injected_at is not None:
        end = score.restored_at if score.restored_at is not None else whole
        bands.append(bar(score.injected_at, end - score.injected_at, "broken"))
    bars = [
        bar(one.at, one.took, "frames" if one.share >= 0.9 else "frames thin", round(min(100.0, 100 * one.share), 1))
        if one.share > 0
        else bar(one.at, one.took, "away", 10.0)
        for one in score.strip
    ]
    told = [f"noticed in {in_seconds(score.detection.took)}"] if score.detection is not None else []
    told += [f"well again in {in_seconds(score.mitigation.took)}"] if score.mitigation is not None else []
    return _Entry(
        name=score.drill,
        link=f"{quote(folder)}/scorecard.html",
        word=word(score.verdict),
        tone=tone(score.verdict),
        reason=score.reason,
        figures=", ".join(told),
        bars=tuple(bars),
        bands=tuple(bands),
    )


# -- files


def _page(name: str, redact: Redact, **values: object) -> str:
    sheets = (Path(report.__file__).parent / "templates" / "report.css", _TEMPLATES / "scorecard.css")
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = report.environment(redact, _TEMPLATES).get_template(name)
    return template.render(style=Markup(style), digest=digest, **values)  # noqa: S704 - our own files, their hash in the policy


def _when(rfc3339: str) -> str:
    return f"{datetime.fromisoformat(rfc3339):%-d %b %Y, %H:%M:%S} UTC"


def _lines(facts: Iterable[object], redact: Redact) -> Iterator[str]:
    return (json.dumps(redacted(fact, redact), ensure_ascii=False, allow_nan=False) + "\n" for fact in facts)


def _written(path: Path, text: Callable[[], Iterable[str]]) -> bool:
    try:
        _replace(path, text())
    except OSError as error:
        _log.error("%s could not be written: %s", path.name, error.strerror)
    except Exception:
        _log.exception("%s could not be written", path.name)
    else:
        return True
    return False


def _replace(path: Path, pieces: Iterable[str]) -> None:
    """A reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(pieces)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
