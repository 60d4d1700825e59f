"""What a policy allows, and in which words it refuses: always before anything is touched, and naming its file and line."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from probe.drill.core.klass import Klass
from probe.drill.core.policy import BUILT_IN, Hit, Hours, Own, PolicyFile, refusals
from probe.drill.policy_file import VARIABLE, find_policy, load_policy
from probe.errors import ConfigError
from tests.drill.file.support import NOTHING, NOW, loaded

POLICY = """\
drill_policy: production
owner: sre-lead
allow:
  - targets: ["process:origin*", "kubernetes:live/*"]
    share: 50%
    for: 5s
  - targets: clients:*
    class: [self_healing, irreversible]
regions: 1
for: 20s
"""
S = 10**9
HIT = Hit(name="stopped", klass=Klass.REVERSIBLE, targets=("process:origin/1",), of=4, begin=0, end=5 * S)


def policy(folder: Path, text: str = POLICY) -> PolicyFile:
    file = folder / "policy.yaml"
    file.write_text(text)
    return load_policy(file, env={})


def said(found: PolicyFile, folder: Path, *hits: Hit, own: Own = NOTHING, now: int = NOW, **changes: object) -> list[str]:
    drill = loaded(folder).drill.model_copy(update=changes)
    return [
        f"{one.fault} {one.field}: {one.message}".replace(str(folder) + "/", "") for one in refusals(found, drill, hits, own, now)
    ]


def test_what_a_rule_names_may_be_hit(tmp_path: Path):
    assert said(policy(tmp_path), tmp_path, HIT) == []
    assert said(policy(tmp_path), tmp_path, replace(HIT, targets=("kubernetes:live/pod/origin-0",))) == []


def test_what_no_rule_names_is_refused(tmp_path: Path):
    two = replace(HIT, targets=("process:edge/1", "host:clock"))
    assert said(policy(tmp_path), tmp_path, two) == [
        f"stopped with: {target} is outside of what may be touched: policy.yaml:3 allows "
        "process:origin*, kubernetes:live/*, clients:*"
        for target in two.targets
    ]


def test_more_than_its_share_is_refused(tmp_path: Path):
    two = replace(HIT, targets=("process:origin/1", "process:origin/2"))
    assert said(policy(tmp_path), tmp_path, two) == []
    three = replace(two, targets=(*two.targets, "process:origin/3"))
    assert said(policy(tmp_path), tmp_path, three) == ["stopped with: hits 3 of 4, and policy.yaml:4 allows 50% of them at once"]


def test_faults_that_overlap_in_time_share_a_share(tmp_path: Path):
    one = replace(HIT, targets=("process:origin/1", "process:origin/2"))
    other = replace(HIT, name="second", targets=("process:origin/3",), begin=4 * S, end=8 * S)
    assert len(said(policy(tmp_path), tmp_path, one, other)) == 2
    assert said(policy(tmp_path), tmp_path, one, replace(other, begin=5 * S, end=9 * S)) == []


def test_single_things_under_a_rule_without_a_share_may_be_hit_together(tmp_path: Path):
    whole = policy(tmp_path, POLICY.replace("    share: 50%\n", ""))
    one = replace(HIT, of=1)
    assert said(whole, tmp_path, one, replace(one, name="second", targets=("process:origin/2",))) == []


def test_a_class_runs_only_where_its_rule_says(tmp_path: Path):
    crowd = replace(HIT, targets=("clients:viewers",), klass=Klass.REVERSIBLE)
    assert said(policy(tmp_path), tmp_path, crowd) == [
        "stopped fault: is reversible, and policy.yaml:7 allows self_healing, irreversible on clients:*"
    ]
    assert said(policy(tmp_path), tmp_path, replace(crowd, klass=Klass.SELF_HEALING)) == []


def test_what_cannot_be_put_back_names_what_brings_it_back_whatever_the_policy_says(tmp_path: Path):
    killed = replace(HIT, targets=("clients:viewers",), klass=Klass.IRREVERSIBLE)
    own = Own(sandbox=True)
    for given in (policy(tmp_path), BUILT_IN):
        assert said(given, tmp_path, killed, own=own) == [
            "stopped : cannot be put back, and nothing is named that would bring it back"
        ]
    assert said(policy(tmp_path), tmp_path, replace(killed, restored_by="systemd")) == []


def test_a_fault_longer_than_the_policy_allows_is_refused(tmp_path: Path):
    assert said(policy(tmp_path), tmp_path, replace(HIT, end=6 * S)) == [
        "stopped for: lasts 6s, and policy.yaml:4 allows 5s at most"
    ]
    crowd = replace(HIT, targets=("clients:viewers",), klass=Klass.SELF_HEALING, end=21 * S)
    assert said(policy(tmp_path), tmp_path, crowd) == ["stopped for: lasts 21s, and policy.yaml:10 allows 20s at most"]


def test_more_regions_than_allowed_are_refused(tmp_path: Path):
    assert said(policy(tmp_path), tmp_path, HIT, regions=("eu", "us")) == [
        " regions: breaks things in 2 regions, and policy.yaml:9 allows 1 at once"
    ]


def test_two_faults_on_one_target_at_one_time_are_refused_whatever_the_policy_says(tmp_path: Path):
    own = Own(processes=frozenset({1}))
    other = replace(HIT, name="again", begin=4 * S, end=8 * S)
    assert said(BUILT_IN, tmp_path, HIT, other, own=own) == [
        "again : and stopped hit process:origin/1 at the same time; what puts one back would undo the other"
    ]
    assert said(BUILT_IN, tmp_path, HIT, replace(other, begin=5 * S), own=own) == []


def test_a_fault_that_matches_nothing_is_refused(tmp_path: Path):
    assert said(policy(tmp_path), tmp_path, replace(HIT, targets=())) == ["stopped : matches nothing: there is no such target"]


def test_without_a_file_only_clients_and_what_this_command_started_may_be_hit(tmp_path: Path):
    mine = Own(sandbox=True, processes=frozenset({1}))
    targets = ("process:origin/1", "sandbox:edge-b")
    for target in targets:
        hit = replace(HIT, targets=(target,))
        assert said(BUILT_IN, tmp_path, hit, own=mine, regions=("eu", "us")) == []
        assert "built-in policy" in said(BUILT_IN, tmp_path, hit)[0]
    assert said(BUILT_IN, tmp_path, replace(HIT, targets=("clients:viewers",))) == []
    assert said(BUILT_IN, tmp_path, replace(HIT, targets=("process:origin/12",)), own=mine) != []
    assert said(BUILT_IN, tmp_path, replace(HIT, targets=("netns:origin/1",)), own=mine) != []


def test_a_sandbox_that_a_drill_names_by_its_address_is_not_this_command_s_own():
    assert Own(sandbox=True).has("sandbox:edge-a")
    assert not Own(sandbox=True).has("sandbox:127.0.0.1:8000/edge-a")


def test_what_this_command_started_is_no_target_of_a_policy(tmp_path: Path):
    mixed = replace(HIT, targets=("sandbox:edge-b", "process:edge/9"))
    assert len(said(policy(tmp_path), tmp_path, mixed, own=Own(sandbox=True))) == 1


FROZEN = "frozen: {from: 2026-11-18T11:08, to: 2026-11-18T12:00, tz: UTC, why: a release}\n"


def test_nothing_is_touched_in_a_freeze_nor_shortly_before_one(tmp_path: Path):
    frozen = policy(tmp_path, POLICY + FROZEN)
    assert said(frozen, tmp_path, HIT) == [
        " : policy.yaml:11 allows none from 2026-11-18 11:08 UTC to 2026-11-18 12:00 UTC (a release); it takes up to 1m52s"
    ]
    assert said(frozen, tmp_path, HIT, now=NOW - 60 * S) == []  # over by then
    assert said(frozen, tmp_path, HIT, now=NOW + 3600 * S) == []
    assert said(frozen, tmp_path, HIT, own=Own(processes=frozenset({1}))) == []


HOURS = "hours: {days: mon-thu, from: '10:00', to: '16:00', tz: Europe/Berlin}\n"


def test_drills_run_in_the_hours_that_the_policy_names(tmp_path: Path):
    hours = policy(tmp_path, POLICY + HOURS)
    assert said(hours, tmp_path, HIT) == []  # 12:06 in Berlin
    late = NOW + 4 * 3600 * S
    assert said(hours, tmp_path, HIT, now=late) == [
        " : policy.yaml:11 allows drills mon, tue, wed, thu 10:00–16:00 Europe/Berlin only; now is 2026-11-18 15:06 UTC, "
        "and it takes up to 1m52s"
    ]
    assert said(hours, tmp_path, HIT, now=NOW + 2 * 86_400 * S) != []  # Friday
    assert said(hours, tmp_path, HIT, now=NOW + (3 * 3600 + 52 * 60) * S) != []  # ends at 16:00:32


def test_hours_go_by_the_clock_on_the_wall_when_that_is_changed():
    hours = Hours.model_validate({"from": "10:00", "to": "24:00", "tz": "Europe/Berlin"})
    for moment, inside in (
        ("2026-10-25T09:00:30+01:00", False),
        ("2026-10-25T10:00:00+01:00", True),
        ("2026-10-25T23:59:00+01:00", True),
    ):
        at = int(datetime.fromisoformat(moment).timestamp()) * S
        assert hours.hold(at, at + 30 * S) is inside
    assert str(hours) == "every day 10:00–24:00 Europe/Berlin"


CAMPAIGNS = """\
calendar: live
campaigns:
  show:
    from: 2026-11-18T15:00
    to: 2026-11-18T20:00
    tz: UTC
    owner: growth
    failures: []
"""


def test_nothing_is_touched_on_a_campaign_night(tmp_path: Path):
    (tmp_path / "campaigns.yaml").write_text(CAMPAIGNS)
    night = policy(tmp_path, POLICY + "campaigns: {file: campaigns.yaml, before: 4h, after: 1h}\n")
    (told,) = said(night, tmp_path, HIT)
    assert told.startswith(" : policy.yaml:11 allows none from 2026-11-18 11:00 UTC to 2026-11-18 21:00 UTC (campaign show)")
    assert said(night, tmp_path, HIT, now=NOW - 1800 * S) == []
    (tmp_path / "campaigns.yaml").unlink()
    with pytest.raises(ConfigError, match=r"policy\.yaml:11:19 campaigns\.file: .*campaigns\.yaml is not there"):
        load_policy(tmp_path / "policy.yaml", env={})


def test_mistakes_of_a_policy_are_told_at_once_and_in_their_place(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(
        "drill_policy: a\nallow:\n  - {targets: 'origin-*', share: 50}\n  - {targets: [], class: gentle}\n"
        "hours: {from: '22:00', to: '06:00', tz: UTC}\nfrozen: {from: 2026-12-02T00:00, to: 2026-12-01T00:00, tz: UTC}\nmost: 3\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(Path("policy.yaml"), env={})
    assert str(caught.value).splitlines() == [
        "policy.yaml:1:1 owner: is missing",
        "policy.yaml:3:15 allow[0].targets: 'origin-*' is not a pattern of targets; write kind:name, such as process:origin-*",
        "policy.yaml:3:34 allow[0].share: 50 has no unit; write 50% if percent are meant",
        "policy.yaml:4:15 allow[1].targets: is empty: nothing is what is allowed where no rule is",
        "policy.yaml:4:26 allow[1].class: 'gentle' is not one of reversible, self_healing, irreversible",
        "policy.yaml:5:8 hours: ends before it begins; for a night write two, one until 24:00 and one from 00:00",
        "policy.yaml:6:9 frozen: it ends before it begins",
        "policy.yaml:7:1 most: unknown field; known are drill_policy, owner, allow, regions, for, hours, frozen, campaigns",
    ]


def test_a_policy_that_allows_nothing_is_a_mistake(tmp_path: Path):
    with pytest.raises(ConfigError, match="allows nothing"):
        policy(tmp_path, "drill_policy: a\nowner: b\nallow: []\n")


def test_the_policy_in_force_is_named_by_whoever_runs_it_else_by_the_machine(tmp_path: Path):
    policy(tmp_path)
    file, none = tmp_path / "policy.yaml", tmp_path / "none.yaml"
    assert find_policy(None, {}, none) is BUILT_IN
    assert find_policy(None, {}, file).policy.name == "production"
    assert find_policy(None, {VARIABLE: str(file)}, none).policy.name == "production"
    assert find_policy(file, {VARIABLE: str(none)}, none).policy.name == "production"
    for given, env in ((none, {}), (None, {VARIABLE: str(none)})):
        with pytest.raises(ConfigError, match="cannot be read"):
            find_policy(given, env, file)
