"""The JSON Schema of a drill file, for editors: each fault under its name, with the parameters that its kind asks for.

It is for completion and hints: `probe check` knows more (what the scenario measures, what fits into a window) and has the last
word. A kind whose library is not installed here is left without hints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probe.drill.core.file import Drill
from probe.drill.faults.table import fault, known
from probe.scenario.jsonschema import Schema, schema_of


def json_schema(kinds: Sequence[str] = (), kind: Callable[[str], Any] = fault) -> Schema:
    """A JSON Schema (2020-12) of drill files."""
    schema = schema_of(Drill, "stream-probe drill")
    use = schema["$defs"].pop("FaultUse")
    del use["properties"]["name"]
    use["required"] = [name for name in use["required"] if name != "name"]
    bodies: list[Schema] = []
    for name in kinds or known():
        body: Schema = {**use, "properties": dict(use["properties"])}
        body["properties"]["fault"] = {**use["properties"]["fault"], "const": name}
        try:
            made = kind(name)
        except ImportError:
            bodies.append(body)
            continue
        params = schema_of(made.params, name)
        schema["$defs"].update({f"{name}.{inner}": one for inner, one in params.pop("$defs", {}).items()})
        body["description"] = made.about
        body["properties"]["with"] = {**_renamed(params, name), "description": use["properties"]["with"]["description"]}
        bodies.append(body)
    schema["properties"]["method"]["items"] = {
        "type": "object",
        "description": "One fault: its name and its body.",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"oneOf": bodies},
    }
    for name in [inner for inner in schema["$defs"] if "." in inner]:
        schema["$defs"][name] = _renamed(schema["$defs"][name], name.partition(".")[0])
    return schema


def _renamed(node: Any, prefix: str) -> Any:
    """With references to definitions of one kind of fault told apart from another's of the same name."""
    if isinstance(node, list):
        return [_renamed(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _renamed(value, prefix) for key, value in node.items() if key != "$schema"}
    reference = out.get("$ref")
    if isinstance(reference, str):
        out["$ref"] = reference.replace("#/$defs/", f"#/$defs/{prefix}.", 1)
    return out
