"""`probe rules`: what it prints, what it writes, what it removes and what it leaves alone."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from probe.cli.app import app
from probe.cli.folder import MANIFEST, differences, write
from probe.cli.rules import PRODUCERS, Asked, rules
from probe.errors import ConfigError

FLEET = Path("fleet.yaml")
SCENARIO = """
scenario: tiny
owner: media-sre
regions: [eu, us]
platform: {url: "https://live.example"}
journey:
  - room: {http: POST /rooms, keep: {room: id}}
  - publish: {via: whip, url: "/rooms/${room}/whip"}
  - view: {via: whep}
objectives:
  - {name: tiny, indicator: room_start, target: %s, window: 30d, action: "see the last run"}
"""


async def told(file: Path, asked: Asked, capsys: pytest.CaptureFixture[str], width: int = 100) -> tuple[int, str]:
    code = await rules(file, asked, Console(width=width, highlight=False))
    return code, capsys.readouterr().out


def scenario(folder: Path, target: str = "99.5%") -> Path:
    file = folder / "tiny.yaml"
    file.write_text(SCENARIO % target)
    return file


async def test_the_fleet_that_comes_along_is_told_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = await told(FLEET, Asked(), capsys)
    assert code == 0
    assert "RoomStartPage" in text and "Watchdog" in text
    assert "P3 is a line of the report and never an alert" in text


async def test_everything_is_written_and_then_nothing_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = await told(FLEET, Asked(out=tmp_path), capsys)
    assert "files in" in text and " new" in text
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "rules/room-start.yaml", "rules/probe.yaml", "rules/tests/room-start.yaml", "alertmanager/alertmanager.yml",
        "dashboards/streamprobe-overview.json", "runbooks/RoomStartPage.md", "openslo.yaml", MANIFEST,
    } <= made  # fmt: skip
    _, again = await told(FLEET, Asked(out=tmp_path), capsys)
    assert "nothing has changed" in again
    code, checked = await told(FLEET, Asked(check=tmp_path), capsys)
    assert code == 0 and "is what `probe rules` makes" in checked.replace("\n", "")


async def test_ci_learns_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await told(FLEET, Asked(out=tmp_path, only=("rules",)), capsys)
    (tmp_path / "rules/probe.yaml").write_text("groups: []\n")
    (tmp_path / "rules/room-start.yaml").unlink()
    code, text = await told(FLEET, Asked(check=tmp_path, only=("rules",)), capsys)
    assert code == 1
    assert "different: " in text and "missing: " in text


async def test_explain_is_a_table_with_reasons_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = await told(FLEET, Asked(explain=True), capsys)
    assert "RoomStartPage pages on" in text
    assert "guarded" in text
    _, raw = await told(FLEET, Asked(explain=True, as_json=True), capsys)
    document = json.loads(raw)
    assert next(one for one in document if one["alert"] == "RoomStartPage")["noticed"][0]["loss"] == 1.0


async def test_json_and_openslo_are_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    _, raw = await told(FLEET, Asked(as_json=True), capsys)
    document = json.loads(raw)
    assert document["series"] < 20_000
    assert {"slo", "severity", "owner"} <= document["alerts"][0]["labels"].keys()
    _, text = await told(FLEET, Asked(openslo=True), capsys)
    assert "kind: SLO" in text


async def test_a_scenario_alone_is_run_by_each_of_its_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = await told(scenario(tmp_path), Asked(explain=True, every="5m"), capsys)
    assert "TinyPage pages on" in text
    assert "12 runs an hour" in text


async def test_what_is_no_longer_made_goes_unless_somebody_changed_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"rules/a.yaml": "a", "rules/b.yaml": "b", "old/c.yaml": "c"})
    (tmp_path / "rules/b.yaml").write_text("mine now")
    (tmp_path / "rules/theirs.yaml").write_text("not ours")
    found = write(tmp_path, {"rules/d.yaml": "d"})
    assert (found.stale, found.kept) == (("old/c.yaml", "rules/a.yaml"), ("rules/b.yaml",))
    assert sorted(path.name for path in (tmp_path / "rules").iterdir()) == ["b.yaml", "d.yaml", "theirs.yaml"]
    assert not (tmp_path / "old").exists()


def test_a_file_of_somebody_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/a.yaml").write_text("theirs")
    with pytest.raises(ConfigError, match=r"rules/a.yaml is here already and was not made by `probe rules`"):
        write(tmp_path, {"rules/a.yaml": "ours", "rules/b.yaml": "ours"})
    assert (tmp_path / "rules/a.yaml").read_text() == "theirs"
    assert not (tmp_path / "rules/b.yaml").exists()


@pytest.mark.parametrize("text", ["no json", "[]", '{"files": 3}'])
def test_a_broken_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="remove it"):
        write(tmp_path, {"a": "a"})


def test_a_manifest_cannot_name_what_lies_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("theirs")
    folder = tmp_path / "out"
    write(folder, {"a.yaml": "a"})
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] |= {"../outside.yaml": manifest["files"]["a.yaml"], str(outside): "x"}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert not differences(folder, {"a.yaml": "a"})
    write(folder, {"a.yaml": "a"})
    assert outside.read_text() == "theirs"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError):
        write(tmp_path / "out", {"a.yaml": "a"})


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("100%", (), "leaves no room for any failure"),
        ("99.5%", ("--every", "10h"), "can never alert soundly: all cells together have 0.2 runs an hour"),
        ("99.5%", ("--every", "nonsense"), "--every"),
        ("99.5%", ("--every", "0s"), "--every"),
        ("99.5%", ("--only", "paintings"), "'paintings' is not one of rules, tests, alertmanager"),
    ],
)
def test_bad_input_is_told_with_its_place(
    tmp_path: Path, target: str, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["rules", str(scenario(tmp_path, target)), *options, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    if not options or "10h" in options:
        assert "tiny.yaml:1" in said  # with its line
    assert not (tmp_path / "out").exists()


def test_an_objective_without_an_action_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scenario(tmp_path)
    file.write_text(file.read_text().replace(', action: "see the last run"', ""))
    with pytest.raises(SystemExit) as ended:
        app(["rules", str(file)])
    assert ended.value.code == 2
    assert "alert TinyPage has no action; write action: into the objective" in capsys.readouterr().err


def test_every_producer_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["rules", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in PRODUCERS)
