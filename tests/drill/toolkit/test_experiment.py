"""Experiments read as drills and written from them."""

from __future__ import annotations

from typing import Any

import pytest
from chaoslib.experiment import ensure_experiment_is_valid

from probe.drill.toolkit.experiment import drill_data, is_experiment, left_out, name_of
from probe.drill.toolkit.writing import experiment

ACTION = {"type": "action", "name": "stop", "provider": {"type": "process", "path": "true"}, "pauses": {"before": 1, "after": 12}}
PROBE = {"type": "probe", "name": "is-stopped", "tolerance": 0, "provider": {"type": "process", "path": "true"}}
LOOK = {"type": "probe", "name": "look", "provider": {"type": "process", "path": "true"}}
OWN = {"owner": "media-sre", "scenario": "room-start", "target": "process:origin-1"}


def written(**changed: Any) -> dict[str, Any]:
    return {
        "title": "Does the origin come back?",
        "description": "It is stopped.",
        "tags": ["origin", 3],
        "method": [ACTION, PROBE, LOOK],
        "rollbacks": [{**ACTION, "name": "start"}],
        "extensions": [{"name": "other"}, {"name": "stream-probe", "drill": OWN}],
    } | changed


def test_what_is_an_experiment():
    assert is_experiment(written())
    assert not is_experiment({"drill": "x", "title": "x", "method": []})
    assert not is_experiment([])


def test_a_foreign_one_is_one_fault_that_its_own_probes_see():
    read = drill_data(written(configuration={"a": 1}, secrets={}))
    assert (read["drill"], read["owner"], read["tags"]) == ("does-the-origin-come-back", "media-sre", ["origin"])
    assert "target" not in read
    use = read["method"][0]["experiment"]
    assert (use["fault"], use["for"]) == ("activities", "12s")
    assert [len(use["with"][part]) for part in ("actions", "probes", "rollbacks")] == [1, 1, 1]
    assert use["with"]["target"] == "process:origin-1"
    assert "pauses" not in use["with"]["actions"][0]
    assert use["with"]["configuration"] == {"a": 1}


def test_what_it_does_not_say_is_left_for_the_file_to_be_told_of():
    bare = drill_data({"title": "?", "method": [{**ACTION, "pauses": {"after": "${wait}"}}, "nonsense"], "rollbacks": None})
    assert bare["drill"] == "experiment"
    assert "owner" not in bare
    assert bare["method"][0]["experiment"]["for"] == "1s"
    assert bare["method"][0]["experiment"]["with"]["target"] == "experiment:experiment"
    nothing = drill_data({"title": "x", "method": []})["method"][0]["experiment"]["with"]
    assert nothing["actions"] == nothing["probes"] == []


def test_our_own_method_goes_before_theirs():
    own = {**OWN, "method": [{"gone": {"fault": "fake", "for": "2s"}}], "for": "9s"}
    assert drill_data(written(extensions=[{"name": "stream-probe", "drill": own}]))["method"] == own["method"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"controls": [{}]}, "controls are not run"),
        ({"rollbacks": [{**ACTION, "controls": [{}]}]}, "controls are not run"),
        ({"method": [{**ACTION, "background": True}]}, "waited for"),
        ({"steady-state-hypothesis": {"title": "x"}}, "hypothesis is not asked"),
        ({}, ""),
    ],
)
def test_what_is_left_out_is_told(changed, words):
    told = left_out(written(**changed))
    assert bool(told) == bool(words)
    assert words in " ".join(told)


def test_what_we_write_is_valid_to_them_and_reads_back_as_the_drill_it_was():
    drill = {"drill": "origin-gone", "description": "It goes.", "owner": "o", "method": [{"a": {"fault": "fake"}}], "tags": ["x"]}
    made = experiment(drill, "room-start")
    ensure_experiment_is_valid(made)
    read = drill_data(made)
    assert read == drill | {"scenario": "room-start"}


def test_a_title_becomes_a_name():
    assert name_of("  What if … 2 edges die?! ") == "what-if-2-edges-die"
    assert len(name_of("x" * 200)) == 63
