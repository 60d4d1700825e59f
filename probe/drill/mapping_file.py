"""What the loaders of policies, campaigns and rehearsals share: one mapping that begins with its own key, validated whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from probe.errors import ConfigError, Located
from probe.scenario.fields import Model
from probe.scenario.located import read, validated, with_env
from probe.scenario.text import Document, parse
from probe.scenario.units import describe

M = TypeVar("M", bound=Model)


def load_mapping(path: Path, model: type[M], key: str, env: Mapping[str, str]) -> tuple[M, Document]:
    """The file as a `model`, and where things stand in it. Raises ConfigError with all mistakes."""
    document = parse(read(path), str(path))
    found = None
    if isinstance(document.data, dict):
        found = validated(document, model, with_env(document, document.data, env))
    elif not document.mistakes:
        what = "is empty" if document.data is None else f"is {describe(document.data)}, not a mapping that begins with {key}:"
        document.mistakes.append(Located(document.file, 0, 0, "", what))
    if found is None or document.mistakes:
        raise refused(document)
    return found, document


def refused(document: Document) -> ConfigError:
    """All of its mistakes, in the order of the file."""
    return ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda mistake: (mistake.line, mistake.column)))
