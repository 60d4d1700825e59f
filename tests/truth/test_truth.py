"""What the probe reports of an impairment is the same whether link/ plants it or the kernel.

Here 5 % of loss for WHEP and 500 kbit/s for HLS, in one run; the whole table: `python -m tests.truth`.
"""

from __future__ import annotations

import pytest

from tests.truth.cells import LOSS, RATE, table, under_both


@pytest.mark.timing
def test_an_impairment_planted_in_link_and_in_the_kernel_is_reported_alike():
    measured = under_both(6)
    print(table("5 % loss for WHEP, 500 kbit/s for HLS", measured))
    assert {session["outcome"] for session in measured.sessions.values()} == {"done"}

    assert measured.sound_lost("none") == 0
    assert not measured.facts("none", "rtp picture").get("nacks")
    for name in ("link", "kernel"):
        share, picture = measured.sound_lost(name), measured.facts(name, "rtp picture")
        assert share and share == pytest.approx(LOSS, abs=0.05)  # some 350 packets: four standard errors
        assert 0.01 < picture["nacks"] / picture["packets"] < 0.12
    seen, dropped = measured.counted[:2]
    down = measured.facts("link", "network down")
    assert down["lost"] / (down["lost"] + down["datagrams"]) == pytest.approx(dropped / seen, abs=0.03)

    link, kernel = (measured.segment_rate(name) for name in ("hls-link", "hls-kernel"))
    assert link and 0.7 * RATE < link < RATE
    assert kernel and 0.7 * RATE < kernel < RATE
    # A stream of 800 kbit/s and sound needs some 1.9 s for each second.
    for name in ("hls-link", "hls-kernel"):
        assert 0.25 < measured.sessions[name]["freezes"]["rebuffer_ratio"] < 0.75
