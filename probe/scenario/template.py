"""`${…}` in a scenario: what it may name.

`${env.NAME}` and `${env.NAME:-default}` are replaced when the file is loaded. Everything else stays a template in the
plan and is filled by `run/vars`: `${secret.name}`, `${run.id}`, `${run.number}`, `${run.tag}`, `${region}`,
`${publish_region}`, `${platform.url}`, variables that steps keep, and in a view's address `${stream}` (of the publisher it
watches) and `${item}` (of the list it goes `over`). There is no escape: `${` always begins a reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BUILTIN = frozenset({"run.id", "run.number", "run.tag", "region", "publish_region", "platform.url"})
RESERVED = frozenset({"stream", "item", "run", "region", "publish_region", "platform", "env", "secret"})
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

_REFERENCE = re.compile(r"\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)?")
_ENV = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${…}`: the name inside (None: malformed), the text as written, and where it stands in the whole."""

    name: str | None
    written: str
    at: int


def references(text: str) -> Iterator[Reference]:
    """Every reference of a text, in order, malformed ones too."""
    for match in _REFERENCE.finditer(text):
        inside = match[1]
        good = inside is not None and (_NAME.fullmatch(inside) or _ENV.fullmatch(inside))
        written = match[0] if inside is not None else text[match.start() : match.start() + 20]
        yield Reference(inside if good else None, written, match.start())


@dataclass(frozen=True, slots=True)
class Unset:
    """An `${env.…}` that could not be replaced: where in the text, and why."""

    at: int
    message: str


def fill_env(text: str, env: Callable[[str], str | None]) -> tuple[str, list[Unset]]:
    """Replace `${env.…}` alone. An empty variable counts as set only where there is no default.

    What comes from the environment is a value, never a template: one that holds `${` is refused."""
    unset: list[Unset] = []

    def one(match: re.Match[str]) -> str:
        parts = _ENV.fullmatch(match[1] or "")
        if parts is None:
            return match[0]
        name, default = parts.groups()
        value = env(name)
        if default is not None and not value:
            return default
        if value is None:
            unset.append(
                Unset(match.start(), f"environment variable {name} is not set; set it, or write ${{env.{name}:-default}}")
            )
        elif "${" in value:
            unset.append(Unset(match.start(), f"environment variable {name} holds a ${{…}} of its own; only the scenario may"))
            value = ""
        return value or ""

    return _REFERENCE.sub(one, text), unset
