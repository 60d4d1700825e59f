"""The JSON Schema of a scenario file, for editors: what `probe schema` prints.

Pydantic describes the models; this turns that into what stands in a file: steps keyed by their names, quantities as text,
nothing about absent values. It is for completion and hints: `probe check` knows more (units of thresholds, variables by
the point of the journey) and has the last word.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from probe.scenario.schema import Scenario
from probe.scenario.steps import MODELS, NAMED_KINDS, SHORT, Viewers
from probe.scenario.units import DURATION_PATTERN, format_duration

Schema = dict[str, Any]


def schema_of(model: type[BaseModel], title: str) -> Schema:
    """A JSON Schema (2020-12) of another kind of file, whose fields stand in it as the model has them."""
    schema = model.model_json_schema(by_alias=True)
    _tidy(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def json_schema() -> Schema:
    """A JSON Schema (2020-12) of scenario files."""
    schema = Scenario.model_json_schema(by_alias=True)
    definitions: Schema = schema["$defs"]
    for model in MODELS.values():
        step = definitions[model.__name__]
        del step["properties"]["name"]
        step["required"] = [name for name in step.get("required", []) if name != "name"]
        if not step["required"]:
            del step["required"]
    viewers = definitions[Viewers.__name__]  # who names no protocol names a device that prefers one
    viewers["required"] = [name for name in viewers["required"] if name != "via"]
    viewers["anyOf"] = [{"required": ["via"]}, {"required": ["device"]}]
    if not viewers["required"]:
        del viewers["required"]
    definitions["Step"] = _step(definitions)
    for section in ("journey", "finally"):
        schema["properties"][section]["items"] = {"$ref": "#/$defs/Step"}
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stream-probe scenario",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _step(definitions: Schema) -> Schema:
    named: Schema = {kind: _ref(MODELS[kind].__name__) for kind in NAMED_KINDS}
    for kind, short in SHORT.items():
        model = definitions[MODELS[kind].__name__]
        renamed = {short if name == kind else name: field for name, field in model["properties"].items()}
        required = [short if name == kind else name for name in model["required"]]
        named[kind] = {"anyOf": [{**model, "properties": renamed, "required": required}, named[kind]]}
    named["view"] = {
        "anyOf": [{"type": "array", "items": _ref(Viewers.__name__), "minItems": 1}, _ref(Viewers.__name__), named["view"]]
    }
    named["wait"] = {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, named["wait"]]}
    return {
        "type": "object",
        "description": "One step: name and body. Its kind is its name where that is a kind, else the field that is one.",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            kind: {**body, "description": (MODELS[kind].__doc__ or "").strip(), "examples": [_EXAMPLES[kind]]}
            for kind, body in named.items()
        },
        "additionalProperties": {"anyOf": [_ref(model.__name__) for model in MODELS.values()]},
    }


_EXAMPLES: Schema = {
    "publish": {"via": "whip", "url": "/rooms/${room}/whip"},
    "view": [{"via": "whep", "count": 3}],
    "cut": {"of": "viewers", "kind": "rebind", "for": "2s"},
    "wait": "5s",
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _tidy(node: Any) -> None:
    """Defaults as they would be written, absent ones not at all; no `or null`; no titles made from field names."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("title"), str):
        del node["title"]
    if "default" in node:
        node["default"] = _written(node["default"], str(node.get("pattern", "")))
        if node["default"] in (None, "", [], {}):
            del node["default"]
    if isinstance(options := node.get("anyOf"), list):
        options[:] = [option for option in options if option != {"type": "null"}]
        if len(options) == 1:
            del node["anyOf"]
            for key, value in options[0].items():
                node.setdefault(key, value)
    for value in list(node.values()):
        _tidy(value)


def _written(default: Any, pattern: str) -> Any:
    """A default as text with its unit. Those of whole models stand at their fields."""
    if isinstance(default, dict):
        return None
    if isinstance(default, int) and "bps" in pattern:
        return f"{default // 1000}kbps"
    return format_duration(default) if pattern == DURATION_PATTERN and isinstance(default, int) else default
