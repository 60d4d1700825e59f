"""Scenario files: schema, units, gate expressions, loading with located errors. Pure except for reading the files."""

from probe.scenario.fields import DEFAULT_VOCABULARY, Vocabulary
from probe.scenario.gates import Expression, Term, parse_gate
from probe.scenario.load import load, loads
from probe.scenario.schema import Gate, Objective, Scenario

__all__ = [
    "DEFAULT_VOCABULARY",
    "Expression",
    "Gate",
    "Objective",
    "Scenario",
    "Term",
    "Vocabulary",
    "load",
    "loads",
    "parse_gate",
]
