"""What a drill file comes to when it is well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe.drill.load import load_drill, load_whole
from probe.drill.schema import json_schema
from probe.errors import ConfigError
from tests.drill.file.faults import KINDS, kind
from tests.drill.file.support import GOOD, loaded

jsonschema = pytest.importorskip("jsonschema")


def test_objectives_and_gates_of_the_scenario_become_conditions(tmp_path: Path):
    drill = loaded(tmp_path).drill
    assert [str(one) for one in drill.steady.of] == [
        "start >= 95%",
        "room_start >= 99%",
        "first_frame.p95 <= 2s",
        "freeze_ratio <= 2%",
        "room_start > 99%",  # what opens the gate again
        "start >= 80%",  # a gate without resume: what closes it, turned round
    ]


def test_a_drill_is_in_every_region_of_its_scenario_unless_it_says_where(tmp_path: Path):
    text = GOOD.replace("regions: [eu]\n", "").replace(', {outside: "start[10s] < 50%"}, {gate: hold}', "")
    assert loaded(tmp_path, text).drill.regions == ("eu", "us", "apac")
    assert loaded(tmp_path).drill.regions == ("eu",)


def test_how_long_it_takes_is_told(tmp_path: Path):
    drill = loaded(tmp_path).drill
    assert drill.broken == 12 * 10**9
    assert drill.length == (40 + 12 + 60) * 10**9
    held = loaded(tmp_path, GOOD + "hold: 5m\n").drill
    assert held.length == (40 + 300) * 10**9


def test_parameters_are_the_fault_s_own(tmp_path: Path):
    params = loaded(tmp_path).params
    assert params["edge"].model_dump()["delay"] == 2 * 10**9
    assert params["stopped"].model_dump()["who"] == "origin"


def test_the_environment_is_filled_in(tmp_path: Path):
    file = tmp_path / "drill.yaml"
    loaded(tmp_path)
    file.write_text(GOOD.replace("who: origin", 'who: "${env.WHO}"'))
    found = load_whole(file, env={"WHO": "nginx"}, kinds=KINDS, kind=kind)
    assert found.params["stopped"].model_dump()["who"] == "nginx"


def test_the_scenario_is_changed_as_its_own_commands_change_it(tmp_path: Path):
    found = loaded(tmp_path, sets={"regions": "[eu, us]"})
    assert found.scenario.regions == ("eu", "us")
    with pytest.raises(ConfigError, match="'eu' is not one of the scenario's regions: us"):
        loaded(tmp_path, sets={"regions": "[us]"})


def test_the_scenario_may_stand_in_the_folder_above_the_drill(tmp_path: Path, monkeypatch):
    loaded(tmp_path)
    (tmp_path / "drills").mkdir()
    (tmp_path / "drill.yaml").rename(tmp_path / "drills" / "drill.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_whole("drills/drill.yaml", env={}, kinds=KINDS, kind=kind).scenario.name == "room"
    monkeypatch.chdir("drills")
    assert load_whole("drill.yaml", env={}, kinds=KINDS, kind=kind).scenario.name == "room"


def test_conditions_are_told_in_words(tmp_path: Path):
    drill = loaded(tmp_path).drill
    assert [str(one) for one in drill.abort] == [
        "a page that is not this drill's",
        "10% of an error budget spent",
        "in another region: start[10s] < 50%",
        "gate hold closes in another region",
        "playing < 1% for 20s",
    ]
    assert [str(one) for one in drill.recovery] == ["start[10s] >= 99% within 1m", "95% of viewers reconnect within 10s"]


def test_an_experiment_is_a_drill_whose_block_keeps_its_places(tmp_path: Path):
    loaded(tmp_path)
    block = {
        "owner": "media-sre", "scenario": "room", "steady": {"of": ["start >= 95%"]}, "abort": [{"incident": True}],
        "recovery": [{"reconnect": "95%", "within": "10s"}], "target": "experiment:origin",
    }  # fmt: skip
    activity = {"type": "action", "name": "stop", "provider": {"type": "process", "path": "true"}, "pauses": {"after": 3}}
    probe = {"type": "probe", "name": "down", "tolerance": 0, "provider": {"type": "process", "path": "true"}}
    whole = {
        "title": "Origin stops", "method": [activity, probe], "rollbacks": [activity],
        "extensions": [{"name": "other"}, {"name": "stream-probe", "drill": block}],
    }  # fmt: skip
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(whole))
    drill = load_drill(file, env={})
    assert (drill.drill, drill.method[0].fault, drill.method[0].lasts) == ("origin-stops", "activities", 3 * 10**9)


def test_a_schema_tells_each_kind_s_parameters_and_admits_the_file(tmp_path: Path):
    schema = json_schema(KINDS, kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    bodies = schema["properties"]["method"]["items"]["additionalProperties"]["oneOf"]
    assert [body["properties"]["fault"]["const"] for body in bodies] == ["stop", "missing"]
    assert set(bodies[0]["properties"]["with"]["properties"]) >= {"who", "delay"}
    document = {
        "drill": "a", "owner": "b", "scenario": "room", "steady": {"of": ["start >= 95%"]}, "abort": [{"incident": True}],
        "method": [{"one": {"fault": "stop", "for": "8s", "with": {"who": "x"}}}],
        "recovery": [{"reconnect": "95%", "within": "10s"}],
    }  # fmt: skip
    jsonschema.validate(document, schema)
    for wrong in ({"owner": None}, {"method": [{"one": {"fault": "stop", "for": "8s", "with": {"whoo": "x"}}}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, **wrong}, schema)


def test_the_schema_of_every_kind_that_comes_along_is_one():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    named = json.dumps(schema)
    for reference in [part.split('"')[0] for part in named.split('"#/$defs/')[1:]]:
        assert reference in schema["$defs"], reference
