"""`probe drill run` as it is typed: what it refuses, what a dry run shows, and which exit code several drills come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.cli import exits
from probe.cli.drill_run import Options, _Work, find_drill
from probe.cli.drilling import drill as app
from probe.drill.core.facts import Verdict
from tests.drill.run.test_platform import POLICY, ROOM, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A platform that nobody asks."""
    for name in ("PLATFORM_URL", "BROADCASTER_PASSWORD", "VIEWER_PASSWORD"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("PROBE_DRILL_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.yaml").write_text(ROOM)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def run(*words: str | Path) -> int:
    code = app(["run", *map(str, words), "--state", "state"], exit_on_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name at least one drill"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["drill.yaml", "--region", "mars"], "'mars' is not one of eu"),
        (["drill.yaml", "--set", "platform"], "is not a setting"),
        (["drill.yaml", "--policy", "none.yaml"], "none.yaml"),
        (["drill.yaml", "--alertmanager", "alerts"], "--alertmanager"),
        (["drill.yaml", "--store", "nonsense://x"], "--store"),
        (["drill.yaml", "--compare", "nowhere"], "nowhere"),
        (["drill.yaml"], "fake:fake is outside of what may be touched"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_touched(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    write(folder)
    assert run(*words) == exits.BAD_CONFIGURATION
    assert said in capsys.readouterr().err
    assert not list(folder.rglob("*.jsonl"))


def test_every_mistake_of_every_file_is_told_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder)
    (folder / "bad.yaml").write_text("drill: bad\n")
    assert run("drill.yaml", "bad.yaml", "nowhere.yaml") == exits.BAD_CONFIGURATION
    said = capsys.readouterr().err
    assert "nowhere.yaml" in said
    assert "recovery" in said


def test_a_dry_run_shows_every_command_and_its_undo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder)
    assert run("drill.yaml", "--dry-run", "--policy", "policy.yaml") == 0
    said = capsys.readouterr().out
    assert "nothing was touched" in said
    assert "undone by" in said
    assert not (folder / "fake.json").exists()
    assert not list(folder.rglob("*.jsonl"))


def test_drills_that_come_along_are_found_by_name(tmp_path: Path) -> None:
    assert find_drill(Path("origin-restart")).name == "origin-restart.yaml"
    assert find_drill(tmp_path / "origin-restart") == tmp_path / "origin-restart"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((Verdict.PASS,), 0),
        ((Verdict.PASS, Verdict.INCONCLUSIVE), 3),
        ((Verdict.INVALID, Verdict.PASS), 3),
        ((Verdict.ABORTED, Verdict.WEAKNESS, Verdict.PASS), 1),
        ((Verdict.NOT_RESTORED, Verdict.WEAKNESS), 5),
    ],
)
def test_several_come_to_the_worst_of_them(verdicts: tuple[Verdict, ...], code: int) -> None:
    work = _Work(Options(files=()), None, None, None, None)  # type: ignore[arg-type]  # none of them is asked
    for verdict in verdicts:
        work.comes_to(exits.of_drill(verdict))
    assert work.code == code
