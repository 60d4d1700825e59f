"""Gates that come along: each is whole, can be used by name, and changed in part."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from probe.judge.hold import Position, hold
from probe.judge.reading import terms
from probe.scenario.gate import BUILT_IN, LONGEST, AnyGate, Gate

ANY: TypeAdapter[Gate] = TypeAdapter(AnyGate)


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_is_whole_by_its_name_alone(name: str):
    gate = ANY.validate_python(name)
    assert gate == ANY.validate_python({"use": name}) and gate.name == name
    assert gate.resume is not None and gate.action and gate.min_n > 1 and "region" in gate.by
    assert all(window is not None and window <= LONGEST for _, window in terms(gate))
    assert hold(gate, Position.CLOSED) > 0 and hold(gate, Position.OPEN) > 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_opens_only_where_it_would_not_close(name: str):
    """The two thresholds leave room between them, or the gate would come and go."""
    gate = ANY.validate_python(name)
    assert gate.resume is not None
    closes, opens = gate.when.terms[0], gate.resume.terms[0]
    assert closes.indicator == opens.indicator and closes.comparison[0] != opens.comparison[0]
    assert opens.value > closes.value if closes.comparison == "<" else opens.value < closes.value


def test_what_is_said_beside_it_is_in_place_of_its_own():
    gate = ANY.validate_python({"use": "payment", "when": "payment[5m] < 80%", "owner": "payments", "name": "till"})
    assert (gate.name, str(gate.when), gate.owner) == ("till", "payment[5m] < 80%", "payments")
    assert str(gate.resume) == str(ANY.validate_python("payment").resume)


@pytest.mark.parametrize("said", ["paymen", {"use": "paymen"}, {"use": ["payment"]}, {"use": "gift", "wen": "x"}, {"name": "x"}])
def test_what_is_none_is_refused(said: object):
    with pytest.raises(ValidationError):
        ANY.validate_python(said)


def test_an_editor_knows_them():
    schema = ANY.json_schema(by_alias=True)
    for said in ("payment", {"use": "payment", "owner": "x"}, {"name": "a", "when": "start < 9%", "action": "b"}):
        jsonschema.validate(said, schema)
    for wrong in ("paymen", {"use": "paymen"}, {"use": "payment", "x": 1}, {"owner": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
