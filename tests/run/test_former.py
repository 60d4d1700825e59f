"""The last good build, as somebody may have kept it, named it or garbled it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.errors import ConfigError
from probe.export.results import counted, regional
from probe.export.verdict_json import verdict_json
from probe.judge.compare import Least
from probe.model.comparison import Change, Place
from probe.model.verdict import Verdict
from probe.run.compared import Wanted, compared
from probe.run.former import Former, read_former
from tests.export import sample

HERE = Place("room-start", "eu", "eu")


def plain(text: str) -> str:
    return text


def kept(directory: Path, **changes: Any) -> Path:
    """A verdict.json, with `changes` to its document."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {**json.loads(verdict_json(sample.healthy(), plain)), **changes}
    file = directory / "verdict.json"
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return file


def refused(*paths: Path) -> str:
    with pytest.raises(ConfigError) as error:
        read_former(paths)
    return str(error.value)


def test_a_file_a_directory_and_a_directory_of_directories_name_the_last_good_build(tmp_path: Path) -> None:
    file = kept(tmp_path / "nightly" / "1")
    kept(tmp_path / "nightly" / "deeper" / "2")
    assert len(read_former([file]).runs) == len(read_former([file.parent]).runs) == 1
    assert len(read_former([tmp_path / "nightly"]).runs) == 2
    assert len(read_former([file, tmp_path / "nightly" / "deeper"]).runs) == 2


def test_runs_carry_release_place_and_occasion(tmp_path: Path) -> None:
    (run,) = read_former([kept(tmp_path)]).runs
    assert (run.place, run.release) == (HERE, "2026.11.3") and run.occasion.startswith("2026-11-21T")


def test_a_build_that_was_no_go_itself_is_noted(tmp_path: Path) -> None:
    assert read_former([kept(tmp_path, result="fail")]).notes == (f"{tmp_path / 'verdict.json'} was no go itself (fail)",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no verdict.json of `probe smoke` or `probe run`"),
        ('{"runs": []}', "is no verdict.json of `probe smoke` or `probe run`"),
        ('{"schema_version": 7, "runs": []}', "is of schema_version 7; this program reads 1"),
        ('{"schema_version": 1, "runs": {}}', "runs: input should be a valid list"),
        ('{"schema_version": 1, "runs": [{}]}', "runs.0.run_id: field required"),
        (
            '{"schema_version": 1, "result": "pass", "started_at": "then", "runs": []}',
            "started_at: input should be a valid datetime",
        ),
        ('{"schema_version": 1, "result": "pass", "started_at": "2026-11-21T09:00:00Z", "runs": []}', "holds no run"),
    ],
)
def test_what_is_no_verdict_is_one_clear_error(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "verdict.json"
    file.write_text(text)
    words = refused(file)
    assert words.startswith(str(file)) and why in words and len(words.splitlines()) <= 3


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    file = kept(tmp_path)
    file.write_text(file.read_text().replace('"first_frame_seconds": 0.2', '"first_frame_seconds": NaN, "x": 0.2', 1))
    assert "first_frame_seconds: input should be a finite number" in refused(file)


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    assert "release: string should have at most 300 characters" in refused(kept(tmp_path, release="1" * 10_000))


def test_what_is_not_there_cannot_be_read_or_is_endless_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert "is neither a verdict.json nor a directory with one" in refused(tmp_path / "gone")
    assert "holds no verdict.json, nor do its directories" in refused(tmp_path / "empty")
    words = refused(tmp_path / "gone", tmp_path / "empty")
    assert len(words.splitlines()) == 2
    monkeypatch.setattr("probe.run.former._MOST_BYTES", 1000)
    assert "is larger than" in refused(kept(tmp_path / "large"))


def test_runs_of_another_scenario_are_refused_before_anything_runs(tmp_path: Path) -> None:
    former = read_former([kept(tmp_path)])
    former.require([HERE, Place("other", "eu", "eu")])
    with pytest.raises(ConfigError, match=r"has runs of room-start \(eu → eu\); these are of other \(eu → us\): nothing can be"):
        former.require([Place("other", "eu", "us")])


# -- what it makes of a verdict


def slow(former: Former, seconds: float, runs: int) -> Former:
    """So many runs like the one that is, each so much quicker than it."""
    (one,) = former.runs
    made = []
    for number in range(runs):
        values = {about: max(0.0, value - seconds + number / 1000) for about, value in one.values.items()}
        made.append(type(one)(run_id=str(number), place=one.place, release="old", occasion="then", began=number, values=values))
    return Former(tuple(made), former.targets, ())


def test_one_run_against_one_is_a_warning_and_where_it_decides_inconclusive(tmp_path: Path) -> None:
    former = read_former([kept(tmp_path)])
    advised = compared(sample.healthy(), Wanted(former), plain)
    decided = compared(sample.healthy(), Wanted(former, decides=True), plain)
    assert (advised.verdict, decided.verdict) == (Verdict.WARN, Verdict.INCONCLUSIVE)
    assert decided.checks[-1].name == "compare" and "is too few" in decided.checks[-1].reason
    assert advised.comparison is not None and advised.comparison.found.notes == ("Both are of release 2026.11.3.",)


def test_one_run_now_can_be_told_from_very_many_before(tmp_path: Path) -> None:
    """1 against 199: the one that is slower than all of them is so by chance in 1 of 200 cases."""
    many = slow(read_former([kept(tmp_path)]), 0.0, 1)
    first = next(about for about in many.runs[0].values if about.indicator == "first_frame" and about.protocol == "whep")
    before = [type(one)(run_id=str(n), place=one.place, occasion="then", began=n, values={first: 0.1 + n / 1e4})
              for n, one in enumerate(many.runs * 199)]  # fmt: skip
    found = compared(sample.healthy(), Wanted(Former(tuple(before), frozenset({"http://elsewhere"}), ())), plain).comparison
    assert found is not None and found.found.change is Change.WORSE
    assert found.found.notes[0].startswith("All runs before are of one occasion")
    assert found.found.notes[1] == "Before was measured at http://elsewhere, now at https://live.example.test."


def test_another_version_of_the_probe_is_noted(tmp_path: Path) -> None:
    document = json.loads(verdict_json(sample.healthy(), plain))
    former = read_former([kept(tmp_path, probe={**document["probe"], "version": "0.0.9"})])
    found = compared(sample.healthy(), Wanted(former), plain).comparison
    assert found is not None and "Before was measured by probe 0.0.9, now by 0.1.0." in found.found.notes


def test_of_repeated_runs_the_conclusive_ones_speak_where_there_are_enough() -> None:
    healthy = sample.healthy().runs[0]
    began = healthy.result.began
    runs = [
        replace(
            healthy,
            verdict=Verdict.INCONCLUSIVE if number < 2 else Verdict.PASS,
            result=replace(healthy.result, began=replace(began, run=str(number))),
        )
        for number in range(5)
    ]
    assert regional(runs, 3) is Verdict.PASS and [run.result.began.run for run in counted(runs, 3)] == ["2", "3", "4"]
    assert regional(runs, 4) is Verdict.INCONCLUSIVE and len(counted(runs, 4)) == 5
    other = replace(runs[0], result=replace(healthy.result, began=replace(began, run="other", scenario="other")))
    assert regional([*runs, other], 3) is Verdict.INCONCLUSIVE  # each scenario needs its own


def test_what_matters_can_be_said(tmp_path: Path) -> None:
    former = read_former([kept(tmp_path)])
    wanted = Wanted(former, least={"first_frame": Least(0.5)})
    found = compared(sample.healthy(), wanted, plain).comparison
    assert found is not None and {one.least for one in found.found.differences if one.about.indicator == "first_frame"} == {0.5}
