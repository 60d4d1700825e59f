"""What the README and deploy/ tell people to type exists: commands and their options, make targets, metrics, scenarios, files.

Looked at: fenced `sh` and `console` blocks and inline code for `probe …` and `make …`; every word that begins with the
metrics' prefix; fenced YAML that is a scenario; fenced JSON; inline code that names a path of this repository. A word in
capitals or angle brackets is a reader's to fill in.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from probe.cli.files import vocabulary
from probe.errors import ConfigError
from probe.model import metrics
from probe.scenario.load import load, loads
from tests.tools import ROOT

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"(?:probe|tests|deploy|scenarios|\.ci)/[\w./-]*")
GLOBAL_OPTIONS = {"--help", "--version"}


def documents() -> list[Path]:
    kinds = {".md", ".yaml", ".yml", ".service", ".json"}
    return [ROOT / "README.md", *sorted(p for p in (ROOT / "deploy").rglob("*") if p.suffix in kinds)]


def mistakes(text: str) -> Iterator[str]:
    """Everything in `text` that the code does not bear out, in words."""
    for command in commands(text):
        yield from command_mistakes(command)
    for name in sorted(set(re.findall(rf"\b{metrics.PREFIX}\w+", text))):
        if not known_metric(name):
            yield f"no metric {name}"
    for language, block in FENCE.findall(text):
        if language in ("yaml", "yml") and re.search(r"^scenario:", block, re.MULTILINE):
            yield from scenario_mistakes(block)
        if language == "json":
            try:
                json.loads(block)
            except ValueError as error:
                yield f"a JSON block does not parse: {error}"
    for span in inline(text):
        if PATH.fullmatch(span) and not (ROOT / span).exists():
            yield f"no file {span}"


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def commands(text: str) -> Iterator[list[str]]:
    """Each `probe` or `make` command, in words."""
    lines = inline(text)
    for language, block in FENCE.findall(text):
        if language in ("sh", "bash", "shell", "console"):
            prompted = re.findall(r"^\$ (.*(?:\\\n.*)*)", block, re.MULTILINE)
            lines += prompted if language == "console" else block.replace("\\\n", " ").splitlines()
    for line in lines:
        try:
            words = shlex.split(line.replace("\\\n", " "), comments=True)
        except ValueError:
            continue  # prose with an apostrophe
        part: list[str] = []
        for word in [*words, ";"]:
            if word in ("&&", "||", "|", ";", "&"):
                while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
                    part.pop(0)
                if len(part) > 1 and Path(part[0]).name in ("probe", "make"):
                    yield [Path(part[0]).name, *part[1:]]
                part = []
            else:
                part.append(word)


def command_mistakes(words: list[str]) -> Iterator[str]:
    said = shlex.join(words)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for word in words[1:]:
            if re.fullmatch(r"[a-z]+", word) and word not in targets:
                yield f"{said}: no target {word}"
        return
    # Names of commands: the words before the first that is an option, a file, or the reader's to fill in.
    path: tuple[str, ...] = ()
    for word in words[1:]:
        if not re.fullmatch(r"[a-z]+", word):
            break
        if word not in subcommands(path):
            if not path:
                yield f"{said}: no command {word}"
                return
            break
        path = (*path, word)
    for word in words[1:]:
        option = word.split("=")[0]
        if re.fullmatch(r"--[a-z][a-z-]*", option) and option not in GLOBAL_OPTIONS and option not in usage(path):
            yield f"{said}: no option {option}"
    for word in words[1:]:
        if re.fullmatch(r"scenarios/[\w/-]+\.yaml", word) and not (ROOT / word).exists():
            yield f"{said}: no file {word}"


def subcommands(path: tuple[str, ...]) -> set[str]:
    """The commands that the help of `probe PATH` lists."""
    return set(re.findall(r"^[│| ]*([a-z]+)  ", usage(path), re.MULTILINE))


@cache
def usage(path: tuple[str, ...]) -> str:
    """The help of `probe PATH`."""
    done = subprocess.run(
        [sys.executable, "-c", "from probe.cli import main; main()", *path, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def known_metric(name: str) -> bool:
    """A metric of the table, or one of the series or families made of it."""
    known = {metric.name for metric in metrics.METRICS.values()}
    stem = re.sub(r"_(bucket|sum|count|created)$", "", name)
    return name in known or stem in known or name.rstrip("_") + "_total" in known or name == metrics.PREFIX


def scenario_mistakes(block: str) -> Iterator[str]:
    env = dict.fromkeys(re.findall(r"\$\{env\.(\w+)\}", block), "http://127.0.0.1:1")
    try:
        loads(block, "README.md", env=env, words=vocabulary())
    except ConfigError as error:
        yield f"a scenario does not load: {error}"


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_a_document_names_exists(document: Path) -> None:
    assert list(mistakes(document.read_text())) == []


SCENARIOS = sorted(file for file in (ROOT / "scenarios").glob("*.yaml") if "\nscenario:" in file.read_text())


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda p: p.name)
def test_every_shipped_scenario_loads(file: Path) -> None:
    found = re.findall(r"\$\{env\.(\w+)\}", file.read_text())
    env = {name: "rtmp://127.0.0.1/live" if name == "RTMP_URL" else "http://127.0.0.1:1" for name in found}
    assert load(file, env=env, words=vocabulary()).name == file.stem


def test_the_readme_names_every_make_target_of_use() -> None:
    named = {word for words in commands((ROOT / "README.md").read_text()) if words[0] == "make" for word in words[1:]}
    assert {"smoke", "test"} <= named


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("`make nonsense`", "no target nonsense"),
        ("```sh\nFOO=1 probe nonsense --json\n```", "no command nonsense"),
        ("```sh\ncd x && \\\n  .venv/bin/probe smoke \\\n  --nonsense=3\n```", "no option --nonsense"),
        ("```console\n$ probe smoke scenarios/nonsense.yaml\nprobe output\n```", "no file scenarios/nonsense.yaml"),
        (f"see {metrics.PREFIX}nonsense_total", "no metric"),
        ("```yaml\nscenario: x\nnonsense: 1\n```", "does not load"),
        ("```json\n{,}\n```", "does not parse"),
        ("in `probe/nonsense.py`", "no file"),
    ],
)
def test_each_kind_of_mistake_is_found(text: str, mistake: str) -> None:
    (found,) = mistakes(text)
    assert mistake in found


def test_what_is_right_passes() -> None:
    right = f"`probe smoke --json`, `make test`, `probe/errors.py`, {metrics.PREFIX}first_frame_seconds_bucket"
    assert list(mistakes(right + '\n```json\n{"a": 1}\n```\n')) == []
