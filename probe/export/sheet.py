"""What pages of runs and pages of drills are made of alike: figures at the top, lines of tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure at the top of a page: what, how much, and what it is made of."""

    name: str
    value: str
    note: str = ""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its cells; `state`: whether it is bad, aside or only to be noticed, or a tone for its chip; `small`: a
    word below."""

    cells: tuple[str, ...]
    state: str = ""
    small: str = ""
