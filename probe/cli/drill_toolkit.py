"""`probe drill export` and `probe drill journal`: drills and journals, to Chaos Toolkit and from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probe.cli import exits
from probe.cli.drill_run import find_drill
from probe.drill.core.facts import DrillFact, Verdict, from_json
from probe.drill.load import load_whole
from probe.drill.toolkit.journal import journal, judged
from probe.drill.toolkit.writing import experiment
from probe.errors import ConfigError, Located
from probe.export.words import printable

MOST = 64 * 1024 * 1024  # bytes of a journal or of a drill's facts
_CODES = {Verdict.PASS: 0, Verdict.WEAKNESS: 1, Verdict.NOT_RESTORED: exits.NOT_RESTORED}


async def export(file: Path) -> int:
    """Print the experiment. Raises ConfigError."""
    loaded = load_whole(find_drill(file))
    print(json.dumps(experiment(loaded.document.data, str(loaded.scenario_file)), indent=2, ensure_ascii=False))
    return 0


async def tell(path: Path, folder: bool, as_json: bool) -> int:
    """Print a drill's journal, or what a journal comes to; the exit code. Raises ConfigError."""
    return _told(path) if folder else _judged(path, as_json)


def _told(folder: Path) -> int:
    facts: list[DrillFact] = []
    file = folder / "drill.jsonl"
    for number, line in enumerate(_text(file).splitlines(), 1):
        try:
            facts.append(from_json(json.loads(line)))
        except ValueError as error:
            raise ConfigError([Located(str(file), number, 1, "", str(error))]) from error
    try:
        print(json.dumps(journal(facts, {"title": facts[0].drill if facts and hasattr(facts[0], "drill") else ""}), indent=2))
    except ValueError as error:
        raise ConfigError([Located(str(file), 0, 0, "", str(error))]) from error
    return 0


def _judged(file: Path, as_json: bool) -> int:
    try:
        data: Any = json.loads(_text(file))
        told = judged(data if isinstance(data, dict) else {})
    except ValueError as error:
        raise ConfigError([Located(str(file), 0, 0, "", str(error))]) from error
    if as_json:
        said = {"title": told.title, "verdict": str(told.verdict), "reason": told.reason}
        print(json.dumps(said | {"started": told.started, "ended": told.ended}))
    else:
        print(printable(f"{told.title}: {told.verdict}: {told.reason}", 400))
    return _CODES.get(told.verdict, 3)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MOST + 1)
    except OSError as error:
        raise ConfigError([Located(str(file), 0, 0, "", f"cannot be read: {error.strerror}")]) from error
    if len(raw) > MOST:
        raise ConfigError([Located(str(file), 0, 0, "", f"is longer than {MOST // 1024 // 1024} MiB")])
    return raw.decode("utf-8", "replace")
