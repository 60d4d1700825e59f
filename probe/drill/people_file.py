"""A rehearsal's file → a Rehearsal, or every mistake in it at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from probe.drill.core.people import Rehearsal, findings
from probe.drill.mapping_file import load_mapping, refused
from probe.scenario.located import dotted


def load_rehearsal(path: Path, *, env: Mapping[str, str]) -> Rehearsal:
    """Read it. Raises ConfigError with all mistakes."""
    rehearsal, document = load_mapping(path, Rehearsal, "rehearsal", env)
    for finding in findings(rehearsal):
        document.mistake(finding.path, finding.message, dotted(finding.path), key=finding.key)
    if document.mistakes:
        raise refused(document)
    return rehearsal
