"""Scenario files by path or name, and the words that may stand in them."""

from __future__ import annotations

from pathlib import Path

from probe.drivers.table import protocols
from probe.media.sizes import SIZES
from probe.model.observation import Role
from probe.scenario.fields import DEFAULT_VOCABULARY, Vocabulary

_PACKAGED = Path(__file__).resolve().parent.parent / "_scenarios"


def vocabulary() -> Vocabulary:
    """What the installed drivers can speak."""
    return Vocabulary(
        publish=tuple(protocols(Role.PUBLISHER)),
        view=tuple(protocols(Role.VIEWER)),
        cut=DEFAULT_VOCABULARY.cut,
        programmes=tuple(SIZES),
    )


def find(file: Path) -> Path:
    """The file itself, or the scenario of that name that comes with the product."""
    if file.exists():
        return file
    for candidate in (_PACKAGED / file.name, _PACKAGED / f"{file.name}.yaml"):
        if candidate.exists() and len(file.parts) <= 2:
            return candidate
    return file
