"""campaigns.yaml, rehearsals and the shelf of drills: every mistake at its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.cli.checking import checked
from probe.drill.campaigns_file import load_campaigns
from probe.drill.core import campaigns, people, policy
from probe.drill.people_file import load_rehearsal
from probe.drill.policy_file import load_policy
from probe.drill.shelf import shelf
from probe.errors import ConfigError
from probe.scenario.text import parse
from tests.tools import ROOT

DRILL = """\
drill: {name}
owner: media-sre
scenario: room
steady: {{of: "start >= 95%", within: 30s}}
method:
  - cut: {{fault: stop, for: 8s, with: {{who: origin, how: {{fault: down}}}}}}
abort: {{incident: true}}
recovery: {{reconnect: 95%, within: 10s}}
tags: payment
"""
REHEARSAL = """\
rehearsal: war-room
owner: lead
lasts: 30m
scene: Saturday.
roles: {on-call: has the pager}
injects:
  - {tell: the pager}
  - {at: 10m, tell: a question, to: on-call, good: an answer}
good: somebody decides
"""
CAMPAIGNS = """\
calendar: live
drills: drills
top: 1
campaigns:
  show:
    from: 2026-12-31T18:00
    to: 2027-01-01T03:00
    tz: Europe/Berlin
    owner: growth
    failures:
      - {failure: origin dies, drill: one, owner: media-sre}
    people: war-room
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    drills = tmp_path / "drills"
    drills.mkdir()
    (drills / "one.yaml").write_text(DRILL.format(name="one"))
    (drills / "war-room.yaml").write_text(REHEARSAL)
    (drills / "scenario.yaml").write_text("scenario: room\n")  # passed over
    (drills / "notes.txt").write_text("not even YAML: [")
    (tmp_path / "campaigns.yaml").write_text(CAMPAIGNS)
    return tmp_path


def mistakes(text: str) -> list[str]:
    Path("campaigns.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_campaigns(Path("campaigns.yaml"), env={})
    return str(caught.value).splitlines()


def test_a_calendar_knows_the_drills_that_stand_where_it_says(folder: Path):
    found = load_campaigns(Path("campaigns.yaml"), env={})
    assert [(one.name, one.kind, one.owner, one.tags, one.problem) for one in found.known] == [
        ("one", "drill", "media-sre", ("payment",), ""),
        ("war-room", "people", "lead", (), ""),
    ]
    assert found.known[0].faults == ("stop who=origin how={fault: down}",)
    assert [one.length for one in found.known] == [48 * 10**9, 1800 * 10**9]


def test_a_failure_without_drill_or_owner_is_a_mistake_and_so_are_too_few_of_them(folder: Path):
    text = CAMPAIGNS.replace("top: 1", "top: 5").replace("    people", "      - {failure: b, drill: one}\n    people")
    assert mistakes(text.replace("drill: one,", "")) == [
        "campaigns.yaml:11:9 campaigns.show.failures[0].drill: is missing",
        "campaigns.yaml:12:9 campaigns.show.failures[1].owner: is missing",
    ]
    assert mistakes(CAMPAIGNS.replace("top: 1\n", "")) == [
        "campaigns.yaml:10:7 campaigns.show.failures: names 1 of the 5 failures that it is to be rehearsed for (top)"
    ]


def test_drills_that_there_are_not_are_told_with_what_is_meant(folder: Path):
    text = CAMPAIGNS.replace("drill: one", "drill: oen").replace("people: war-room", "people: [war-rooms, one]")
    text += "policy: [{every: 30d, drills: [two]}, {every: 7d, tag: gifts}, {every: 7d, drills: war-room, kind: people}]\n"
    assert mistakes(text) == [
        "campaigns.yaml:11:39 campaigns.show.failures[0].drill: there is no drill 'oen'; did you mean 'one'?",
        "campaigns.yaml:12:14 campaigns.show.people[0]: there is no rehearsal 'war-rooms'; did you mean 'war-room'?",
        "campaigns.yaml:12:25 campaigns.show.people[1]: there is no rehearsal 'one'; there are war-room",
        "campaigns.yaml:13:32 policy[0].drills[0]: there is no drill 'two'; there are one",
        "campaigns.yaml:13:56 policy[1].tag: no drill has the tag 'gifts'; there are payment",
    ]


def test_two_drills_of_one_name_are_a_mistake(folder: Path):
    Path("drills/other.yaml").write_text(DRILL.format(name="one"))
    assert mistakes(CAMPAIGNS) == [
        "campaigns.yaml:2:9 drills: drills/other.yaml and drills/one.yaml are both called 'one'; whose run would count?"
    ]


def test_what_is_wrong_in_the_file_itself_is_told_at_once(folder: Path):
    text = CAMPAIGNS.replace("to: 2027-01-01T03:00", "to: 2026-12-31T03:00").replace("drills: drills", "drills: [drills, more]")
    text += "before: {earliest: 2d, latest: 3d}\npolicy: [{every: 30}, {every: 30d, drills: one, tag: payment}]\n"
    assert mistakes(text) == [
        "campaigns.yaml:6:5 campaigns.show: it ends before it begins",
        "campaigns.yaml:13:9 before: leaves no time: nothing counts before 2d, and it is overdue 3d before the campaign",
        "campaigns.yaml:14:18 policy[0].every: 30 has no unit; write 30s if seconds are meant",
        "campaigns.yaml:14:23 policy[1]: is of drills or of a tag; write two rules",
    ]
    assert mistakes(CAMPAIGNS.replace("drills: drills", "drills: [drills, more]")) == [
        "campaigns.yaml:2:18 drills[1]: more: No such file or directory"
    ]
    assert mistakes("") == ["campaigns.yaml is empty"]
    assert mistakes("- a") == ["campaigns.yaml is a list, not a mapping that begins with calendar:"]


def test_a_drill_that_is_broken_is_on_the_shelf_with_its_problem(folder: Path):
    Path("drills/bad.yaml").write_text(DRILL.format(name="bad").replace("for: 8s", "for: 8"))
    Path("drills/torn.yaml").write_text("drill: [")
    Path("drills/room.yaml").write_text(REHEARSAL.replace("lasts: 30m", "lasts: 30").replace("war-room", "bad-room"))
    Path("drills/experiment.json").write_text('{"title": "An experiment", "method": []}')
    Path("drills/latin.yaml").write_bytes(b"drill: caf\xe9")
    found = {one.name: one for one in shelf([Path("drills")])}
    assert set(found) == {"an-experiment", "bad", "bad-room", "latin", "one", "torn", "war-room"}
    assert "8 has no unit" in found["bad"].problem and found["bad"].owner == "media-sre"
    assert "is not YAML" in found["torn"].problem
    assert "30 has no unit" in found["bad-room"].problem and found["bad-room"].kind == "people"
    assert "is not UTF-8" in found["latin"].problem
    assert found["an-experiment"].problem
    assert [one.name for one in shelf([Path("drills/one.yaml")])] == ["one"]


def test_a_rehearsal_tells_its_mistakes_at_their_place(folder: Path):
    file = Path("room.yaml")
    file.write_text("rehearsal: war-room\nlasts: 30\n")
    with pytest.raises(ConfigError, match=r"room\.yaml:1:1 owner: is missing"):
        load_rehearsal(file, env={})
    file.write_text(
        REHEARSAL.replace("{tell: the pager}", "{at: 20m, tell: the pager, to: pager}").replace("lasts: 30m", "lasts: 15m")
    )
    with pytest.raises(ConfigError) as caught:
        load_rehearsal(file, env={})
    assert str(caught.value).splitlines() == [
        "room.yaml:7:10 injects[0].at: comes after its end: it lasts 15m",
        "room.yaml:7:36 injects[0].to: 'pager' is not one of the roles: on-call, everybody",
        "room.yaml:8:10 injects[1].at: is before the one above it, at 20m; write them in order",
    ]


@pytest.mark.parametrize("file", ["drill-policy.yaml", "campaigns.yaml", "rehearsals/war-room-origin-lost.yaml"])
def test_what_comes_along_is_well(file: str):
    assert checked(ROOT / "scenarios" / file).endswith(": valid")


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("drill-policy.yaml", policy.json_schema),
        ("campaigns.yaml", campaigns.json_schema),
        ("rehearsals/war-room-origin-lost.yaml", people.json_schema),
    ],
)
def test_a_schema_admits_what_comes_along_and_not_what_is_misspelt(file: str, schema: Callable[[], dict[str, Any]]):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    document = parse((ROOT / "scenarios" / file).read_text(), file).data
    jsonschema.validate(document, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "ownr": "x"}, schema())


def test_the_policy_that_comes_along_keeps_drills_off_its_campaigns():
    found = load_policy(ROOT / "scenarios" / "drill-policy.yaml", env=os.environ)
    assert [stretch.why for stretch in found.stretches] == ["end of year", "campaign new-year-show"]
