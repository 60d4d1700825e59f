"""What `chaos run` calls: by its own runner, on a stand-in for our command line that says what it was asked and ends as told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed

from probe.drill.core.facts import Verdict
from probe.drill.toolkit import extension
from probe.drill.toolkit.journal import judged
from probe.drill.toolkit.writing import experiment

DRILL = {"drill": "origin-gone", "description": "It goes.", "method": []}
STAND_IN = """
import json, os, pathlib, signal, sys, time
asked = sys.argv[1:]
with open(os.environ["ASKED"], "a") as file:
    file.write(json.dumps(asked) + "\\n")
if asked[1] == "run":
    out = pathlib.Path(asked[asked.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    (out / "verdict.json").write_text(json.dumps({"result": "pass", "drill": json.load(open(asked[2]))["drill"]}))
    if os.environ.get("HANGS"):
        def put_back(*_):
            with open(os.environ["ASKED"], "a") as file:
                file.write('["put back"]\\n')
            sys.exit(143)
        signal.signal(signal.SIGTERM, put_back)
        with open(os.environ["ASKED"], "a") as file:
            file.write('["waits"]\\n')
        time.sleep(30)
    print("origin-gone: said")
    sys.exit(int(os.environ.get("RUN", 0)))
sys.exit(int(os.environ.get("RECOVER", 0)))
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the command line was asked, call by call."""
    script = tmp_path / "probe.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(extension, "_PROBE", (sys.executable, str(script)))
    monkeypatch.setattr(extension, "_passed", {})
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    def calls() -> list[list[str]]:
        path = tmp_path / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return calls


def test_a_drill_that_passes_is_well_after_it(asked):
    assert extension.well("origin-gone")
    assert extension.run(DRILL) == {"result": "pass", "drill": "origin-gone"}
    assert extension.well("origin-gone")
    assert [call[:2] for call in asked()] == [["drill", "recover"], ["drill", "run"]]


@pytest.mark.parametrize(("code", "words"), [(1, "weakness"), (3, "inconclusive, invalid or aborted"), (5, "NOT RESTORED")])
def test_every_other_verdict_fails_the_action_and_deviates(asked, monkeypatch, code, words):
    monkeypatch.setenv("RUN", str(code))
    with pytest.raises(ActivityFailed, match=f"{words}: origin-gone: said"):
        extension.run(DRILL)
    assert not extension.well("origin-gone")


def test_what_is_left_broken_keeps_it_from_beginning(asked, monkeypatch):
    monkeypatch.setenv("RECOVER", "5")
    assert not extension.well("origin-gone")
    with pytest.raises(ActivityFailed):
        extension.recover()
    monkeypatch.setenv("RECOVER", "0")
    assert extension.recover()


@pytest.mark.parametrize(
    ("code", "exit_code", "verdict"), [(0, 0, Verdict.PASS), (1, 1, Verdict.WEAKNESS), (3, 1, Verdict.INCONCLUSIVE)]
)
def test_chaos_run_ends_with_1_for_every_verdict_but_pass(asked, tmp_path, code, exit_code, verdict):
    file, journal = tmp_path / "experiment.json", tmp_path / "journal.json"
    file.write_text(json.dumps(experiment(DRILL, "room-start")))
    ended = _chaos(file, journal, tmp_path, RUN=str(code)).wait(60)
    assert ended == exit_code
    assert judged(json.loads(journal.read_text())).verdict is verdict


def test_ctrl_c_of_chaos_run_lets_the_drill_put_back_first(asked, tmp_path):
    file, journal = tmp_path / "experiment.json", tmp_path / "journal.json"
    file.write_text(json.dumps(experiment(DRILL, "room-start")))
    process = _chaos(file, journal, tmp_path, HANGS="1")
    ends = time.monotonic() + 30
    while ["waits"] not in asked():
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert ["put back"] in asked()


def _chaos(file: Path, journal: Path, folder: Path, **env: str) -> subprocess.Popen[bytes]:
    """The real one; our command line is the stand-in there too."""
    lines = (
        f"import sys; sys.path.insert(0, {os.getcwd()!r})",
        "from probe.drill.toolkit import extension",
        f"extension._PROBE = (sys.executable, {str(folder / 'probe.py')!r})",
    )
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    chaos = Path(sys.executable).parent / "chaos"
    command = [sys.executable, str(chaos), "run", "--journal-path", str(journal), str(file)]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **env, "PYTHONPATH": str(folder)})
