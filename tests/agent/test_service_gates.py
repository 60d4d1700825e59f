"""How the gates of an agent stand: over windows of its runs, through restarts and overrides, each change told once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.agent.gates import Change, Gates
from probe.agent.judged import kept
from probe.agent.loading import Loaded, load_config
from probe.cli.files import find, vocabulary
from probe.errors import ConfigError
from probe.judge.hold import Override, Position
from probe.judge.indicators import Part
from probe.judge.reading import Seen
from probe.judge.windows import RunParts
from probe.model.clock import NS
from probe.model.verdict import Verdict

MINUTE = 60 * NS
UNIX = 1_790_000_000 * NS
ENV = {"PLATFORM_URL": "http://127.0.0.1", "BROADCASTER_PASSWORD": "-", "VIEWER_PASSWORD": "-", "XDG_STATE_HOME": "/state"}
GATES = {
    "hold": "{name: hold, when: 'start[4m] < 90% and failures >= 3 for 2m', resume: 'start[4m] > 95% for 3m', action: x, min_n: 4}",  # noqa: E501
    "last": "{name: last, when: start < 100%, action: wait, by: protocol}",
    "asked": "{name: asked, when: 'start[4m] < 90%', action: wait, from: prometheus}",
    "release": "{name: release, when: 'start[10m] < 90%', action: roll back, since: release}",
}
SCENARIO = """
scenario: one
owner: me
regions: [local, eu]
platform: {url: "http://127.0.0.1:9"}
journey:
  - publish: {via: whip, url: /rooms/x/whip, programme: 360p30}
  - view: {via: whep, url: /rooms/x/whep}
"""


def loaded(folder: Path, *gates: str, more: str = "") -> Loaded:
    listed = "".join(f"  - {GATES.get(gate, gate)}\n" for gate in gates)
    (folder / "one.yaml").write_text(SCENARIO + (f"gates:\n{listed}" if gates else ""))
    (folder / "agent.yaml").write_text(f"region: local\nagent: a\n{more}\nschedules:\n  one: {{scenario: one.yaml, every: 1m}}\n")
    return load_config(folder / "agent.yaml", env=ENV, words=vocabulary(), find=find)


class World:
    """A run each minute, and a look after it; `changes` is what was told."""

    def __init__(self, config: Loaded) -> None:
        self.gates = Gates(config)
        self.gates.due("one", 0, 0)
        self.now = 0
        self.slots = 0
        self.changes: list[Change] = []

    @property
    def unix(self) -> int:
        return UNIX + self.now

    def minutes(self, letters: str) -> World:
        """g: two of two started, b: none, -: no run."""
        for letter in letters:
            self.now += MINUTE
            self.slots += 1
            self.gates.due("one", self.slots, self.now)
            if letter != "-":
                good = 2 if letter == "g" else 0
                parts = {
                    (name, protocol): part
                    for protocol in ("", "whep")
                    for name, part in (("start", Part(good, 2, 2)), ("failures", Part(2 - good, n=2)))
                }
                self.gates.ran("one", RunParts(self.now, self.now, parts), self.now, self.unix)
            self.look()
            self.now += 30 * NS
            self.look()
            self.now -= 30 * NS
        return self

    def look(self) -> None:
        self.changes += self.gates.look(self.now, self.unix)

    def says(self, name: str = "", region: str = "") -> str:
        [state] = self.gates.states(name, region)
        return state.result


# -- one life


def test_a_gate_closes_over_its_window_and_opens_by_its_resume_and_each_is_told_once(tmp_path: Path):
    world = World(loaded(tmp_path, "hold"))
    assert world.says() == "inconclusive"
    world.minutes("ggggg")
    [state] = world.gates.states()
    assert (state.result, state.n, state.coverage, state.window, state.value) == ("pass", 8, 1.0, "4m", 1.0)
    assert (state.unit, state.min_n, state.min_coverage, state.position, state.owner) == ("ratio", 4, 0.5, "open", "me")
    world.minutes("bbb")
    [state] = world.gates.states()
    assert (state.result, state.towards, state.hold) == ("pass", "closing", 2 * MINUTE) and 0 < state.held < state.hold
    assert "not for long enough yet" in state.reason
    world.minutes("bb")
    assert world.says() == "fail"
    world.minutes("ggggg")
    [state] = world.gates.states()
    assert (state.result, state.towards) == ("fail", "opening") and "it opens once start[4m] > 95% for 3m" in state.reason
    world.minutes("ggg")
    assert world.says() == "pass"
    told = [(change.before, change.after, change.moved) for change in world.changes]
    assert told == [
        (Verdict.INCONCLUSIVE, Verdict.PASS, None),
        (Verdict.PASS, Verdict.FAIL, Position.CLOSED),
        (Verdict.FAIL, Verdict.PASS, Position.OPEN),
    ]
    assert {change.who for change in world.changes} == {"me"}


def test_an_agent_that_began_just_now_knows_what_was_due_before(tmp_path: Path):
    world = World(loaded(tmp_path, "hold"))
    world.gates.was_due("one", [-k * MINUTE for k in range(10)])
    world.minutes("gg")
    assert world.says() == "pass"  # half of the four
    other = World(loaded(tmp_path, "{name: hold, when: 'start[10m] < 90%', action: wait}"))
    other.gates.was_due("one", [-k * MINUTE for k in range(10)])
    other.minutes("gg")
    [state] = other.gates.states()
    assert state.result == "inconclusive" and "2 of 10 runs were made, fewer than 50%" in state.reason


def test_a_gate_without_a_window_is_the_last_run_as_long_as_that_is_news(tmp_path: Path):
    world = World(loaded(tmp_path, "last"))
    assert "no run has told yet" in _state(world).reason or not world.changes
    world.minutes("gb")
    state = _state(world)
    assert (state.result, state.protocol, state.region) == ("fail", "whep", "local")
    world.minutes("g")
    assert world.says() == "pass"
    world.now += 10 * MINUTE
    world.look()
    assert (world.says(), _state(world).reason) == ("inconclusive", "no run has told lately")


def test_a_release_begins_its_windows_anew(tmp_path: Path):
    world = World(loaded(tmp_path, "release")).minutes("gggggggg")
    world.gates.released("one", world.now + 1)
    world.minutes("b")
    assert world.says() == "fail"
    assert _state(world).n == 2
    world.minutes("gggggggggggg")
    assert world.says() == "pass"


def test_schedules_of_one_scenario_fill_the_same_windows_and_by_publishing_region_each_its_own(tmp_path: Path):
    gates = (
        "{name: all, when: 'start[4m] < 90%', action: x, min_n: 6}",
        ("{name: each, when: 'start[4m] < 90%', action: x, min_n: 2, by: [region, publish_region]}"),
    )
    listed = "".join(f"  - {gate}\n" for gate in gates)
    (tmp_path / "one.yaml").write_text(SCENARIO + f"gates:\n{listed}")
    schedules = "".join(f"  from-{r}: {{scenario: one.yaml, every: 2m, publish_region: {r}}}\n" for r in ("local", "eu"))
    (tmp_path / "agent.yaml").write_text(f"region: local\nagent: a\nschedules:\n{schedules}")
    config = load_config(tmp_path / "agent.yaml", env=ENV, words=vocabulary(), find=find)
    gates_ = Gates(config)
    for name in config.schedules:
        gates_.due(name, 0, 0)
    for k in range(1, 3):
        now = 2 * k * MINUTE
        for name, good in (("from-local", 2), ("from-eu", 0)):
            gates_.due(name, k, now)
            gates_.ran(name, RunParts(now, now, {("start", ""): Part(good, 2, 2)}), now, UNIX + now)
    gates_.look(now, UNIX + now)
    found = {(state.name, state.publish_region): (state.result, state.n, state.coverage) for state in gates_.states()}
    assert found == {("all", ""): ("fail", 8, 1.0), ("each", "local"): ("pass", 4, 1.0), ("each", "eu"): ("fail", 4, 1.0)}
    changed = replace(config, schedules={"from-eu": config.schedules["from-eu"]})
    assert gates_.take(changed) == frozenset() and len(gates_.states()) == 2
    assert gates_.take(config) == {"from-local", "from-eu"}  # of the region that came again nothing was kept


def test_schedules_of_one_scenario_that_gate_other_things_are_refused(tmp_path: Path):
    (tmp_path / "one.yaml").write_text(SCENARIO + f"gates:\n  - {GATES['hold']}\n")
    (tmp_path / "two.yaml").write_text(SCENARIO)
    (tmp_path / "agent.yaml").write_text(
        "region: local\nschedules:\n  a: {scenario: one.yaml, every: 1m}\n  b: {scenario: two.yaml, every: 1m}\n"
    )
    with pytest.raises(ConfigError, match="gates other things of 'one' than a does"):
        load_config(tmp_path / "agent.yaml", env=ENV, words=vocabulary(), find=find)


def test_runs_that_were_not_made_and_schedules_that_are_not_known_change_nothing(tmp_path: Path):
    world = World(loaded(tmp_path, "hold")).minutes("gg")
    world.gates.ran("another", RunParts(world.now, world.now, {("start", ""): Part(0, 9, 9)}), world.now, world.unix)
    world.gates.ran("one", RunParts(world.now, world.now, {}), world.now, world.unix)
    world.gates.due("another", 5, world.now)
    world.gates.was_due("another", [1])
    world.gates.released("another", 1)
    world.look()
    assert _state(world).n == 4 and world.gates.expected("another", MINUTE, world.now) == 0


# -- the next life


def restarted(world: World, config: Loaded, **damage: Any) -> World:
    data = {one.key: {**kept(one), **damage} for one in world.gates}
    after = World(config)
    after.now = world.now + MINUTE
    after.gates.restore(data, after.now, after.unix)
    after.look()
    return after


def test_a_closed_gate_is_closed_in_the_next_life_until_resume_is_met(tmp_path: Path):
    config = loaded(tmp_path, "hold")
    after = restarted(World(config).minutes("bbbbb"), config)
    [state] = after.gates.states()
    assert (state.result, state.position) == ("fail", "closed") and after.changes == []
    assert after.minutes("gggg").says() == "fail"
    assert after.minutes("g").says() == "pass"


def test_an_open_gate_says_nothing_in_the_next_life_before_something_is_seen(tmp_path: Path):
    config = loaded(tmp_path, "hold")
    after = restarted(World(config).minutes("ggggg"), config)
    assert after.says() == "inconclusive"
    assert after.minutes("gg").says() == "pass"


@pytest.mark.parametrize("damage", [{"position": "ajar"}, {"since": "x"}, {"override": {"passes": True}}, {"acted": None}])
def test_what_is_kept_and_damaged_is_not_known_and_passes_only_by_resume(tmp_path: Path, damage: dict[str, Any]):
    config = loaded(tmp_path, "hold")
    after = restarted(World(config).minutes("ggggg"), config, **damage)
    assert after.minutes("gggg").says() == "inconclusive"
    assert "is not known" in _state(after).reason
    assert after.minutes("g").says() == "pass"


def test_where_the_records_cannot_be_read_a_gate_passes_only_by_resume(tmp_path: Path):
    world = World(loaded(tmp_path, "hold"))
    world.gates.unknown()
    assert world.minutes("gggg").says() == "inconclusive"
    assert world.minutes("g").says() == "pass"


# -- somebody's word


def over(world: World, passes: bool, minutes: int = 5) -> Override:
    return Override(passes, world.unix, world.unix + minutes * MINUTE, "ada", "the campaign is ours")


def test_an_override_holds_in_place_of_the_rule_is_told_and_ends_by_itself(tmp_path: Path):
    world = World(loaded(tmp_path, "hold")).minutes("bbbbb")
    changes = world.gates.override("hold", "", over(world, True), world.now, world.unix)
    assert changes is not None
    [change] = changes
    assert (change.before, change.after, change.moved) == (Verdict.FAIL, Verdict.PASS, Position.OPEN)
    assert (change.who, change.reason, change.override) == ("ada", "the campaign is ours", "set")
    state = _state(world)
    assert (state.result, state.beneath, state.position) == ("pass", "fail", "open") and "ada" in state.reason
    world.changes.clear()
    world.minutes("bbbbbb")
    [change] = world.changes
    assert (change.before, change.after, change.moved, change.override) == (
        Verdict.PASS, Verdict.FAIL, Position.CLOSED, "expired",
    )  # fmt: skip
    assert change.who == "me" and _state(world).override is None


def test_an_override_is_taken_away_and_one_that_is_not_there_changes_nothing(tmp_path: Path):
    world = World(loaded(tmp_path, "hold")).minutes("ggggg")
    assert world.gates.override("hold", "", None, world.now, world.unix) == []
    world.gates.override("hold", "local", over(world, False), world.now, world.unix)
    assert world.says() == "fail"
    [change] = world.gates.override("hold", "", None, world.now, world.unix) or []
    assert (change.after, change.moved, change.override, change.who) == (Verdict.PASS, Position.OPEN, "cleared", "ada")
    assert world.gates.override("hold", "mars", None, world.now, world.unix) is None
    assert world.gates.override("none", "", None, world.now, world.unix) is None


def test_an_override_goes_on_in_the_next_life_for_what_is_left_of_it(tmp_path: Path):
    config = loaded(tmp_path, "hold")
    world = World(config).minutes("bbbbb")
    world.gates.override("hold", "", over(world, True, 3), world.now, world.unix)
    after = restarted(world, config)
    assert after.says() == "pass"
    after.minutes("--")
    assert after.says() == "fail"


# -- Prometheus


def test_a_gate_of_prometheus_stands_in_every_region_of_the_scenario(tmp_path: Path):
    world = World(loaded(tmp_path, "asked", more="prometheus: {url: 'http://127.0.0.1:9090'}"))
    world.gates.ask(lambda _schedule, _gate: {(0, ("eu", "", "")): Seen(0.5, 9, 4, 4)})
    world.minutes("g")
    assert (world.says("asked", "eu"), world.says("asked", "local")) == ("fail", "inconclusive")
    assert "Prometheus has nothing of it" in world.gates.states("asked", "local")[0].reason
    world.gates.ask(lambda _schedule, _gate: "Prometheus: no answer within 5 s")
    world.look()
    assert (world.says("asked", "eu"), world.says("asked", "local")) == ("fail", "inconclusive")
    assert "no answer within 5 s" in world.gates.states("asked", "eu")[0].reason


# -- another configuration


def test_what_is_the_same_goes_on_in_another_configuration(tmp_path: Path):
    world = World(loaded(tmp_path, "hold")).minutes("bbbbb")
    assert world.gates.take(loaded(tmp_path, "hold", "last")) == {"one"}  # it asks for more of each run than was kept
    assert world.says("hold") == "fail" and world.says("last") == "inconclusive"
    assert world.gates.take(loaded(tmp_path, "hold")) == frozenset()
    assert world.gates.take(loaded(tmp_path)) == frozenset() and world.gates.states() == []


@pytest.mark.parametrize(
    ("gate", "more", "words"),
    [
        ("asked", "", "gate asked: it is from: prometheus, so say where that is: prometheus: {url: …}"),
        ("hold", "actions: {x: {gates: hald, command: [/bin/true]}}", "'hald' is no gate of a scenario here; there are hold"),
        ("hold", "actions: {x: {gates: hold}}", "say what is done: give webhook or command"),
        ("hold", "actions: {x: {gates: hold, command: [true]}}", "expected text, got true"),
        ("hold", "actions: {x: {gates: hold, command: [sh, -c, ls]}}", "'sh' is not a whole path"),
        ("hold", "actions: {x: {gates: hold, webhook: {url: 'http://me:pw@x/'}}}", "carries a password"),
        ("hold", "actions: {x: {gates: hold, webhook: {url: x, secret: abc}}}", "never write a secret down"),
        ("hold", "prometheus: {url: 'http://127.0.0.1:9090', every: 2m}", "is from 5s to 50s"),
        ("{use: room-start, from: prometheus}", "prometheus: {url: 'http://x'}", "add one on room_start to the scenario"),
        (
            "{name: a, when: start < 9%, action: b, from: prometheus}",
            "prometheus: {url: 'http://x'}",
            "needs a window: start[10m]",
        ),
    ],
)
def test_what_cannot_be_decided_so_is_refused_with_the_remedy(tmp_path: Path, gate: str, more: str, words: str):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, gate, more=more)
    assert words in str(caught.value) and "agent.yaml:" in str(caught.value) and "pw" not in str(caught.value)


def _state(world: World) -> Any:
    [state] = world.gates.states()
    return replace(state)
