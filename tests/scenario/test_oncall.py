"""Every bad oncall.yaml of tests/config/oncall beside its exact messages, and what a good one means."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import jsonschema
import pytest

from probe.errors import ConfigError
from probe.model.clock import NS
from probe.rules.coverage import examine
from probe.rules.walltime import year
from probe.scenario.oncall import Shift, json_schema
from probe.scenario.oncall_file import load_oncall
from probe.scenario.text import parse
from tests.tools import ROOT

BAD = Path(__file__).parent.parent / "config" / "oncall"
HORIZON = year(1_780_000_000)  # 2026


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gets_exactly_these_messages(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError) as caught:
        load_oncall(file.name, examine=lambda found: examine(found, *HORIZON), env={})
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text()
    assert "hunter2" not in str(caught.value)


def test_the_shipped_one_covers_its_year_and_takes_its_addresses_from_the_environment() -> None:
    env = {"PAGER_URL": "https://pager.example/live"}
    found = load_oncall(ROOT / "scenarios" / "oncall.yaml", examine=lambda one: examine(one, *HORIZON), env=env)
    webhook = found.receivers["media-eu"].webhook
    assert webhook is not None and webhook.url == "https://pager.example/live/media-eu"
    assert found.queue_of("media-sre") == "media" and found.queue_of("nobody") is None
    assert found.escalation.sla == {"P1": 300 * NS, "P2": 4 * 3600 * NS, "P3": 7 * 86_400 * NS}
    christmas = found.queues["media"].overrides[0]
    assert christmas.on == (date(2026, 12, 25), date(2027, 12, 25))


def test_its_schema_for_editors_takes_the_shipped_one_and_refuses_what_is_none() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = parse((ROOT / "scenarios" / "oncall.yaml").read_text(), "oncall.yaml").data
    assert list(validator.iter_errors(document)) == []
    document["queues"]["media"]["shifts"][0]["from"] = "8:00"
    assert [list(error.absolute_path)[-1] for error in validator.iter_errors(document)] == ["from"]


@pytest.mark.parametrize(
    ("days", "numbers"),
    [("mon-fri", (0, 1, 2, 3, 4)), ("sat", (5,)), (["fri-mon"], (0, 4, 5, 6)), (["mon", "wed-thu"], (0, 2, 3))],
)
def test_days_are_said_as_people_say_them(days: object, numbers: tuple[int, ...]) -> None:
    shift = Shift.model_validate({"shift": "a", "tz": "UTC", "call": "x", "days": days, "to": "24:00"})
    assert (shift.days, shift.begin, shift.end) == (numbers, 0, 1440)
