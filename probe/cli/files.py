"""Scenario files by path or name, and the words that may stand in them."""

from __future__ import annotations

from pathlib import Path

from probe.drivers.vocabulary import vocabulary as vocabulary

_PACKAGED = Path(__file__).resolve().parent.parent / "_scenarios"


def find(file: Path) -> Path:
    """The file itself, or the scenario of that name that comes with the product."""
    if file.exists():
        return file
    for candidate in (_PACKAGED / file.name, _PACKAGED / f"{file.name}.yaml"):
        if candidate.exists() and len(file.parts) <= 2:
            return candidate
    return file
