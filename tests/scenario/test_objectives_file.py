"""Objectives in files of their own, ours and OpenSLO's: what is read, and every mistake at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.errors import ConfigError
from probe.scenario.load import loads
from probe.scenario.objectives_file import joined, json_schema, load_objectives

BAD = Path(__file__).parent / "promises"
SCENARIO = loads(
    """
scenario: room-start
owner: media-sre
regions: [eu, us]
platform: {url: "https://live.example"}
journey:
  - publish: {via: whip, url: /whip}
  - view: [{via: whep, url: /whep}, {via: hls, url: /hls}]
  - payment: {http: POST /payments}
objectives:
  - {name: room-start, indicator: room_start, target: 99%, window: 30d}
""",
    env={},
)


def written(folder: Path, text: str, name: str = "objectives.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refused(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_objectives(file, env={})
    return str(caught.value)


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gets_exactly_these_messages(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(BAD)
    assert refused(Path(file.name)) + "\n" == file.with_suffix(".txt").read_text()


def test_an_objective_takes_the_file_s_owner_unless_it_has_one(tmp_path: Path):
    file = written(
        tmp_path,
        """scenario: room-start
owner: growth
objectives:
  - {name: a, indicator: start, target: 99%, window: 30d}
  - {name: b, indicator: payment, target: 99%, window: "${env.WINDOW}", owner: payments}
""",
    )
    found = load_objectives(file, env={"WINDOW": "7d"})
    assert [(one.objective.name, one.objective.owner, one.place) for one in found.placed] == [
        ("a", "growth", f"{file}:4"),
        ("b", "payments", f"{file}:5"),
    ]
    assert joined(SCENARIO, [found]).objectives[1:] == tuple(one.objective for one in found.placed)


def test_what_is_promised_on_another_scenario_is_not_joined(tmp_path: Path):
    objective = "{name: a, indicator: start, target: 99%, window: 30d}"
    found = load_objectives(written(tmp_path, f"scenario: other\nobjectives: [{objective}]\n"), env={})
    assert joined(SCENARIO, [found]).objectives == SCENARIO.objectives


def test_what_the_scenario_never_measures_or_promises_already_is_refused_at_its_place(tmp_path: Path):
    file = written(
        tmp_path,
        """scenario: room-start
objectives:
  - {name: room-start, indicator: start, target: 99%, window: 30d}
  - {name: b, indicator: reconnect, target: 99%, window: 30d}
  - {name: c, indicator: gift, target: 99%, window: 30d}
  - {name: d, indicator: start, target: 99%, window: 30d, regions: [eu, mars], protocols: [whep, dash]}
  - {name: e, indicator: payment, target: 99%, window: 30d, protocols: [whep]}
  - {name: f, indicator: coverage, target: 99%, window: 30d, regions: eu}
""",
    )
    with pytest.raises(ConfigError) as caught:
        joined(SCENARIO, [load_objectives(file, env={})])
    assert str(caught.value).splitlines() == [
        f"{file}:3:12 objectives[0].name: another objective of room-start is called 'room-start' already",
        f"{file}:4:26 objectives[1].indicator: this journey never measures reconnect; it needs a cut step that its viewers live "
        "through",
        f"{file}:5:26 objectives[2].indicator: this journey never measures gift; it needs a step with service: gift",
        f"{file}:6:68 objectives[3].regions: 'mars' is not one of the scenario's regions: eu, us",
        f"{file}:6:91 objectives[3].protocols: start is measured here over hls, whep, not over 'dash'",
        f"{file}:7:72 objectives[4].protocols: payment is a whole run's and has no protocols",
        f"{file}:8:71 objectives[5].regions: coverage is of all runs that are due, wherever; leave regions out",
    ]


OPENSLO = """# ours
apiVersion: openslo/v1
kind: DataSource
metadata: {name: prometheus}
spec: {type: Prometheus}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: starts
  annotations:
    stream-probe/scenario: room-start
    stream-probe/action: look at the last run
    stream-probe/regions: eu, us
    other.example/colour: red
spec:
  service: playback
  indicatorRef: start
  budgetingMethod: Occurrences
  timeWindow: [{duration: 4w, isRolling: true}]
  objectives: [{targetPercent: 99.95}]
  alertPolicies: [{alertPolicyRef: x}]
--- # the second
apiVersion: openslo/v1
kind: SLO
metadata:
  name: quick
  annotations: {stream-probe/scenario: room-start, stream-probe/within: 2s}
spec:
  service: playback
  indicator: {metadata: {name: first-frame}, spec: {ratioMetric: {counter: true}}}
  timeWindow: [{duration: 30d, isRolling: true}]
  objectives: [{target: 0.95}]
"""


def test_openslo_says_the_same(tmp_path: Path):
    file = written(tmp_path, OPENSLO)
    found = load_objectives(file, env={})
    starts, quick = (one.objective for one in found.placed)
    assert (starts.name, starts.indicator, starts.target, starts.window) == ("starts", "start", 0.9995, 28 * 86_400 * 10**9)
    assert (starts.action, starts.regions, starts.service) == ("look at the last run", ("eu", "us"), "playback")
    assert (quick.indicator, quick.bound, quick.target) == ("first_frame", "2s", 0.95)
    assert [one.place for one in found.placed] == [f"{file}:7", f"{file}:24"]
    assert found.notes == (
        f"{file}:2 DataSource prometheus: passed over, it promises nothing",
        f"{file}:7 SLO starts: alertPolicies: alerts are made from the objective itself",
        f"{file}:24 SLO quick: ratioMetric: runs are judged by the probe, its queries are not used",
    )


def test_a_mistake_that_only_the_scenario_shows_has_its_place_in_openslo_too(tmp_path: Path):
    file = written(tmp_path, OPENSLO.replace("indicatorRef: start", "indicatorRef: chat").replace("eu, us", "eu, mars"))
    with pytest.raises(ConfigError) as caught:
        joined(SCENARIO, [load_objectives(file, env={})])
    assert f"{file}:18:17 spec.indicatorRef: this journey never measures chat" in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path):
    assert "cannot be read: No such file" in refused(tmp_path / "gone.yaml")


def test_the_schema_for_editors_knows_every_field():
    properties = json_schema()["$defs"]["Objective"]["properties"]
    assert {"within", "at_most", "at_least", "owner", "service", "action", "regions", "protocols"} <= set(properties)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab-1d%", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["target", "targetPercent", "duration", "metadata", "name", "spec"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SPEC = st.dictionaries(
    st.sampled_from(["service", "indicator", "indicatorRef", "timeWindow", "objectives", "budgetingMethod", "alertPolicies"]),
    ANYTHING,
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from([f"stream-probe/{name}" for name in ("scenario", "indicator", "within", "regions", "shadow", "x")]), ANYTHING
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=SPEC | ANYTHING, annotations=ANNOTATIONS | ANYTHING, name=ANYTHING)
def test_openslo_of_any_shape_is_a_configuration_error_and_nothing_worse(tmp_path: Path, spec, annotations, name):
    document = {"apiVersion": "openslo/v1", "kind": "SLO", "metadata": {"name": name, "annotations": annotations}, "spec": spec}
    with pytest.raises(ConfigError):
        load_objectives(written(tmp_path, json.dumps(document)), env={})
