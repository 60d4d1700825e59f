"""A build against the last good one, both run on a real platform: a planted delay is worse and named, nothing is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe.cli.compare import Comparing, wanted
from probe.errors import ConfigError
from tests.e2e.support import HERE, explained, smoke
from tests.faults.platform import Platform, Ran

SCENARIO = HERE / "release.yaml"
RUNS = 6
DELAY = 0.6  # s that the platform takes longer to answer a viewer's offer


async def build(platform: Platform, out: Path, release: str, *more: str) -> Ran:
    """Once more where the probe was unwell in too many of its runs."""
    asked = ("--repeat", str(RUNS), "--release", release, *more)
    for _ in range(2):
        ran = await smoke(out, SCENARIO, *asked, env=platform.environment, deadline=40)
        if sum(run["result"] == "inconclusive" for run in ran.verdict["runs"]) < RUNS / 2:
            break
    return ran


@pytest.mark.timing
@pytest.mark.timeout(150)
async def test_a_build_that_answers_viewers_later_is_worse_and_one_like_it_is_not(tmp_path: Path) -> None:
    for name in ("good", "slow"):
        (tmp_path / name).mkdir()
    with Platform.started(tmp_path / "good") as healthy, Platform.started(tmp_path / "slow") as delayed:
        last = tmp_path / "last-good"
        good = await build(healthy, last, "1.4")
        assert good.exit == 0, explained(good)
        delayed.admin("POST", "/admin/faults", {"fault": "delay", "service": "whep", "seconds": DELAY})
        against = ("--compare", str(last), "--compare-fail")
        slow = await build(delayed, tmp_path / "out-slow", "1.5", *against)
        same = await build(healthy, tmp_path / "out-same", "1.4.1", *against)

    assert slow.exit == 1 and slow.verdict["result"] == "fail", explained(slow)
    found = slow.verdict["comparison"]
    assert (found["change"], found["release_before"], slow.verdict["release"]) == ("worse", "1.4", "1.5")
    (worse,) = [one for one in found["differences"] if one["change"] == "worse"]
    assert (worse["indicator"], worse["protocol"]) == ("first_frame", "whep")
    assert worse["low"] <= DELAY <= worse["high"] + 0.2 and max(worse["stages"], key=worse["stages"].get) == "signal"
    assert "of it signal" in worse["words"] and worse["words"] in slow.stdout
    (check,) = [one for one in slow.verdict["checks"] if one["name"] == "compare"]
    assert check["result"] == "fail" and check["reason"].startswith("worse than 1.4: first frame over WHEP is ")
    report = (slow.out / "report.html").read_text()
    assert "Compared with 1.4" in report and report.count('<circle class=""') >= 1
    assert 'name="compared"' in (slow.out / "junit.xml").read_text()

    assert same.verdict["comparison"]["change"] != "worse", json.dumps(same.verdict["comparison"], indent=1)
    assert same.exit in (0, 3), explained(same)


async def test_against_runs_of_another_scenario_nothing_runs(tmp_path: Path) -> None:
    at = "2026-11-21T09:00:00Z"
    run = {"run_id": "1", "scenario": "other", "publish_region": "eu", "region": "eu", "started_at": at}
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps({"schema_version": 1, "result": "pass", "started_at": at, "runs": [run]}))
    env = {"PLATFORM_URL": "http://127.0.0.1:9", "BROADCASTER_PASSWORD": "x" * 8, "VIEWER_PASSWORD": "x" * 8}
    ran = await smoke(tmp_path / "out", SCENARIO, "--compare", file, env=env)
    assert ran.exit == 2 and not (tmp_path / "out").exists(), ran.stderr
    assert "has runs of other (eu → eu); these are of release (local → local): nothing can be compared" in ran.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (Comparing(compare_fail=True), "say with what: --compare LAST-GOOD"),
        (Comparing(compare=(Path("x"),), least=("first_frame",)), "'' is not a duration"),
        (Comparing(compare=(Path("x"),), least=("first_frame=5%",)), "'5%' is not a duration"),
        (Comparing(compare=(Path("x"),), least=("start=1s",)), "'1s' is not a ratio"),
        (Comparing(compare=(Path("x"),), least=("start=0%",)), "larger than nothing"),
        (Comparing(compare=(Path("x"),), least=("speed=1s",)), "'speed' is not one of first_frame, "),
        (Comparing(compare=(Path("/nowhere"),)), "is neither a verdict.json nor a directory with one"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Comparing, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        wanted(options)
    assert why in str(error.value)


def test_without_a_build_to_compare_with_nothing_is_compared() -> None:
    assert wanted(Comparing()) is None
