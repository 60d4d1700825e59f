"""What every kind of file we read shares: its text, its `${env.…}`, and pydantic's errors in our words, each at its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from probe.errors import ConfigError, Located
from probe.scenario.fields import Model
from probe.scenario.template import VARIABLE, fill_env
from probe.scenario.text import MAX_BYTES, Document, Path
from probe.scenario.units import describe

UNSET = "\x00unset\x00"  # stands where a variable of the environment is missing: what it would have made wrong is told once
Where = Callable[[Path], str]
M = TypeVar("M", bound=BaseModel)


def read(path: str | FilePath) -> str:
    """The text of a file of at most `MAX_BYTES`; a longer one is cut behind them, for `parse` to refuse. Raises ConfigError."""
    file = str(path)
    try:
        with FilePath(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Located(file, 0, 0, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        if len(raw) <= MAX_BYTES:
            raise ConfigError([Located(file, line, column, "", "is not UTF-8 text")]) from error
        return raw.decode("utf-8", "replace")  # cut in the middle of a character: its size is the mistake


def dotted(path: Path) -> str:
    """A path for people: `view[0].via`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def with_env(document: Document, value: Any, env: Mapping[str, str], where: Where = dotted, path: Path = ()) -> Any:
    """`value` with every `${env.…}` replaced; what is not set is a mistake of the document, and `UNSET` in its place."""
    if isinstance(value, dict):
        return {k: with_env(document, v, env, where, (*path, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [with_env(document, v, env, where, (*path, i)) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    text, unset = fill_env(value, env.get)
    for one in unset:
        document.mistake(path, one.message, where(path), offset=one.at)
    # What cannot be filled would be found wrong a second time, as an address or a number.
    return UNSET if unset else text


def validated(
    document: Document,
    model: type[M],
    data: Any,
    *,
    prefix: Path = (),
    back: Callable[[Path], Path] = lambda path: path,
    where: Where = dotted,
    context: Mapping[str, Any] | None = None,
) -> M | None:
    """`data`, which stands at `prefix`, as a `model`; None where it is none, with every mistake in the document. `back`: from a
    path in `data` to the one in the file, where the two differ."""
    try:
        return model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if UNSET in str(detail.get("input")) and isinstance(detail.get("input"), str):
                continue
            inside: Path = tuple(p for p in detail["loc"] if p != "[key]")
            named = bool(inside) and inside == (_key_field(model),)
            path = prefix if named else document.real((*prefix, *back(inside)))
            key = named or detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
            cause = detail.get("ctx", {}).get("error")
            known = [(back((name,)) or (name,))[0] for name in _fields(_model_at(model, inside))] if key else []
            message = _explain(detail, [str(name) for name in known])
            document.mistake(path, message, where(path), key=key, offset=getattr(cause, "at", None))
        return None


def _key_field(model: type[BaseModel]) -> str:
    return model.KEY if issubclass(model, Model) else ""


def _model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The model whose field the last part of `loc` is; None where that is not a model's."""
    current: type[BaseModel] | None = model
    for part in loc[:-1]:
        if current is None or isinstance(part, int):
            continue
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        if field is not None:
            current = _inner_model(field.annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _inner_model(part)) is not None:
            return found
    return None


def _fields(model: type[BaseModel] | None) -> list[str]:
    """The fields that stand in a file."""
    return [] if model is None else [f.alias or n for n, f in model.model_fields.items() if n != _key_field(model)]


def _explain(detail: ErrorDetails, known: list[str]) -> str:
    """A pydantic error in our words: what is wrong and what would be right. `known`: fields there are."""
    value, context = detail.get("input"), detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            close = get_close_matches(str(detail["loc"][-1]), known, 1)
            return "unknown field; " + (f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}")
        case "value_error":
            return str(context["error"])
        case "literal_error" | "enum":
            return f"{describe(value)} is not one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
        case "string_type":
            hint = f'; quote it: "{value}"' if isinstance(value, int | float | bool) else ""
            return f"expected text, got {describe(value)}{hint}"
        case "string_pattern_mismatch":
            signs = "letters, digits and _" if context["pattern"] == VARIABLE else "letters, digits, _ and -"
            return f"{describe(value)} is not a name: {signs}, a letter first"
        case "string_too_short" | "too_short":
            return "is empty"
        case "tuple_type" | "list_type":
            return f"expected a list, got {describe(value)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"expected a mapping, got {describe(value)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"expected a whole number, got {describe(value)}"
        case "bool_type" | "bool_parsing":
            return f"expected true or false, got {describe(value)}"
        case "greater_than_equal":
            return f"{describe(value)} is less than {context['ge']}"
        case "less_than_equal":
            return f"{describe(value)} is more than {context['le']}"
        case _:
            return detail["msg"][:1].lower() + detail["msg"][1:]
