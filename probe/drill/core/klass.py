"""What becomes of a fault that nobody puts back."""

from __future__ import annotations

from enum import StrEnum


class Klass(StrEnum):
    """Decides what may run where."""

    REVERSIBLE = "reversible"  # it stays until it is put back
    SELF_HEALING = "self_healing"  # the target, or the kernel, ends it by itself at its expiry
    IRREVERSIBLE = "irreversible"  # there is no undo (a killed process); what restores it is named, and verified
