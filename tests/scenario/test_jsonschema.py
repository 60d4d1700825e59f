"""The schema that editors get."""

from __future__ import annotations

import json
from typing import Any

from probe.scenario.jsonschema import json_schema

SCHEMA = json_schema()


def properties(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(node, dict):
        for name, field in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
            found.append((f"{path}.{name}", field))
        for key, value in node.items():
            if key != "examples":
                found += properties(value, f"{path}/{key}")
    elif isinstance(node, list):
        for value in node:
            found += properties(value, path)
    return found


def test_every_field_has_a_description_and_an_example():
    containers = {"platform", "deadlines", "journey", "finally", "objectives", "gates", "body", "json"}
    bare = [
        path
        for path, field in properties(SCHEMA)
        if not field.get("description") or not (field.get("examples") or path.rsplit(".", 1)[-1] in containers)
    ]
    assert bare == []


def test_a_step_is_one_name_and_one_body():
    step = SCHEMA["$defs"]["Step"]
    assert (step["minProperties"], step["maxProperties"]) == (1, 1)
    assert set(step["properties"]) == {"publish", "view", "cut", "wait"}
    assert len(step["additionalProperties"]["anyOf"]) == 7
    assert SCHEMA["properties"]["journey"]["items"] == {"$ref": "#/$defs/Step"}


def test_a_publish_step_is_written_with_via():
    short = SCHEMA["$defs"]["Step"]["properties"]["publish"]["anyOf"][0]
    assert "via" in short["properties"] and "publish" not in short["properties"]
    assert set(short["required"]) == {"via", "url"}


def test_defaults_are_written_as_in_a_file():
    assert SCHEMA["$defs"]["Deadlines"]["properties"]["reconnect"]["default"] == "10s"
    assert SCHEMA["$defs"]["Publish"]["properties"]["bitrate"]["default"] == "800kbps"
    assert SCHEMA["$defs"]["View"]["properties"]["phase"]["default"] == "1s"


def test_a_step_s_name_is_its_key_and_no_field():
    assert all("name" not in SCHEMA["$defs"][kind]["properties"] for kind in ("Http", "Publish", "View", "Wait"))


def test_nothing_may_be_null():
    assert '{"type": "null"}' not in json.dumps(SCHEMA)


def test_a_viewer_names_its_protocol_or_a_device_and_everybody_may_have_a_network():
    viewers = SCHEMA["$defs"]["Viewers"]
    assert viewers["anyOf"] == [{"required": ["via"]}, {"required": ["device"]}] and "required" not in viewers
    assert {"device", "network"} <= viewers["properties"].keys() & SCHEMA["$defs"]["Publish"]["properties"].keys()
    assert list(SCHEMA["properties"]["devices"]["patternProperties"].values()) == [{"$ref": "#/$defs/Device"}]
    assert SCHEMA["$defs"]["Network"]["properties"]["delay"]["default"] == "0s"
