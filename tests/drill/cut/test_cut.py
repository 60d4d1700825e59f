"""What viewers' sessions tell of a real cut, against the frame codes they took and the packets on the wire.

Here two cuts of two protocols; the whole table: `python -m tests.drill.cut`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.model.observation import CutOutcome
from tests.drill.cut.cuts import measured
from tests.drill.cut.told import errors, table
from tests.truth.measure import behind
from tests.truth.namespaces import cable


async def test_outage_and_reconnect_in_a_real_cut_are_those_of_the_frame_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (0.7, 1.6)
    with cable() as wire, behind(wire, tmp_path) as platform:
        for name, value in platform.environment.items():
            monkeypatch.setenv(name, value)
        found = await measured(wire, platform, lengths, 1, ("whep", "http-flv"), tmp_path, quiet=0.5)
    print(table(found))
    assert len(found.lived) == 4 and not found.missed
    for cut in found.cuts:
        # The path was silent for as long as it was to be, and what nft says it dropped is what was sent meanwhile.
        assert cut.leaked == 0 and cut.first - cut.last >= cut.length * 1e9
        assert cut.dropped.partition(" ")[0] not in ("", "0")
    for one in found.lived:
        assert one.told.outcome in (CutOutcome.RESUMED, CutOutcome.RESTARTED), one
        assert one.told.outage is not None and one.told.outage >= one.length * 1e9
        assert one.true.reconnect is not None and one.true.reconnect > 0
    # What the sessions say is what the codes say, to the instants they were told.
    for what in ("outage", "reconnect"):
        told = errors(found.lived, what, as_told=True)
        assert len(told) == 4 and max(abs(error) for error in told) < 1, told
