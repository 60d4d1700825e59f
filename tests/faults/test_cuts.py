"""Every kind of cut, on the sandbox: who came back, how, and which figures exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.lanes import Result, run_rows
from tests.faults.platform import HERE, Platform, Ran
from tests.faults.rows import Row

pytestmark = pytest.mark.timing
SWITCH = '{http: "POST ${env.SANDBOX_ADMIN_URL}/admin/%s", as: admin, json: {%s}}'
KINDS = {
    "flap": "{of: viewers, kind: flap, for: 2s}",
    "short flap": "{of: viewers, kind: flap, for: 600ms}",
    "rebind": "{of: viewers, kind: rebind, for: 1s}",
    "drop": "{of: publisher, kind: drop, for: 1s}",
    "restart": "{of: platform, kind: restart, for: 1s, call: " + SWITCH % ("restart", "down: 1") + "}",
    "token_expiry": "{of: platform, kind: token_expiry, for: 1s, call: " + SWITCH % ("expire-tokens", "sessions: true") + "}",
}


@dataclass(frozen=True)
class Cut:
    """cut.yaml with one kind of cut."""

    kind: str

    def text(self) -> str:
        return (HERE / "cut.yaml").read_text().replace("{of: viewers, kind: KIND, for: 2s}", KINDS[self.kind])


@pytest.fixture(scope="module")
def runs(platforms: list[Platform], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    rows = [Row("", Cut(kind), 0, "", "", label=kind) for kind in KINDS]
    return run_rows(rows, platforms, tmp_path_factory.mktemp("cuts"), {})


def run(runs: dict[str, Result], kind: str) -> Ran:
    ran = runs[kind].ran
    assert ran is not None, runs[kind].broke
    assert ran.exit == 0, f"{ran.verdict.get('cause')} {ran.failures()} {ran.verdict.get('probe')}\n{ran.stderr[-2000:]}"
    return ran


def back(ran: Ran, protocol: str) -> list[dict[str, Any]]:
    """One entry for each session of the protocol: how it came back."""
    (one,) = ran.verdict["runs"]
    return [
        cut
        for session in one["sessions"]
        if session["protocol"] == protocol
        for cut in session["reconnects"]
        if cut["step"] == "cut"
    ]


@pytest.mark.parametrize("kind", ["flap", "rebind"])
def test_viewers_cut_off_come_back_as_new_sessions_and_the_buffered_one_as_a_player(kind: str, runs: dict[str, Result]) -> None:
    ran = run(runs, kind)
    whep = back(ran, "whep")
    assert [cut["kind"] for cut in whep] == [kind, kind]
    held = 2.0 if kind == "flap" else 1.0
    for cut in whep:
        assert cut["outcome"] in ("restarted", "resumed")
        assert held <= cut["outage_seconds"] < held + 5
        assert 0 < cut["reconnect_seconds"] < cut["outage_seconds"]
    (hls,) = back(ran, "hls")
    assert hls["outcome"] in ("unaffected", "resumed")
    assert ("outage_seconds" in hls) == (hls["outcome"] == "resumed")


def test_a_flap_shorter_than_the_stall_timer_is_resumed_by_the_same_session(runs: dict[str, Result]) -> None:
    for cut in back(run(runs, "short flap"), "whep"):
        assert (cut["outcome"], cut["attempts"]) == ("resumed", 0)
        assert 0.6 <= cut["outage_seconds"] < 2


def test_a_publisher_that_drops_takes_its_viewers_along_and_all_return(runs: dict[str, Result]) -> None:
    ran = run(runs, "drop")
    (publisher,) = back(ran, "whip")
    assert publisher["outcome"] == "restarted"
    assert publisher["reconnect_seconds"] > 0
    assert len(back(ran, "whep")) == 2


@pytest.mark.parametrize("kind", ["restart", "token_expiry"])
def test_the_platforms_own_switch_gives_an_outage_and_no_reconnect(kind: str, runs: dict[str, Result]) -> None:
    ran = run(runs, kind)
    for cut in back(ran, "whep"):
        assert cut["kind"] == kind
        assert cut["outcome"] == "restarted"
        assert cut["outage_seconds"] > 0
        assert "reconnect_seconds" not in cut
