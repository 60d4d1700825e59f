"""The words of a scenario that are the installed drivers' to say."""

from __future__ import annotations

from probe.drivers.table import protocols
from probe.media.sizes import SIZES
from probe.model.observation import Role
from probe.scenario.fields import DEFAULT_VOCABULARY, Vocabulary


def vocabulary() -> Vocabulary:
    """What they can speak."""
    return Vocabulary(
        publish=tuple(protocols(Role.PUBLISHER)),
        view=tuple(protocols(Role.VIEWER)),
        cut=DEFAULT_VOCABULARY.cut,
        programmes=tuple(SIZES),
    )
