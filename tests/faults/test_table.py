"""Every planted fault, seen from outside: exit code, who failed, phase and reason. Healthy again afterwards: go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.platform import HERE, Platform

JOURNEY, WHEP, HLS = HERE / "journey.yaml", HERE / "watch-whep.yaml", HERE / "watch-hls.yaml"


@dataclass(frozen=True)
class Row:
    """`expected` is (step or protocol, phase/reason) that must be among the failures."""

    fault: str
    scenario: Path
    exit: int
    expected: tuple[str, str]
    params: dict[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()  # further arguments

    def __str__(self) -> str:
        return f"{self.fault} {' '.join(f'{k}={v}' for k, v in self.params.items())}".strip()


ROWS = [
    # the journey's services
    Row("refuse", JOURNEY, 1, ("login", "auth/http_401"), {"service": "auth", "status": 401}),
    Row("hang", JOURNEY, 1, ("login", "auth/timeout"), {"service": "auth"}),
    Row("expired_token", JOURNEY, 1, ("room", "auth/token_expired")),
    Row("refuse", JOURNEY, 1, ("room", "room/http_500"), {"service": "room", "status": 500, "body": "html"}),
    Row("redirect", JOURNEY, 1, ("room", "room/redirect_refused"), {"service": "room"}),
    Row("endless", JOURNEY, 1, ("room", "room/too_large"), {"service": "room"}),
    Row("chat_lost", JOURNEY, 1, ("chat", "chat/not_seen")),
    Row("refuse", JOURNEY, 1, ("payment", "payment/http_402"), {"service": "payment", "status": 402}),
    Row("payment_twice", JOURNEY, 1, ("charged", "payment/charged_twice")),
    Row("gift_twice", JOURNEY, 1, ("counted", "gift/counted_twice")),
    Row("gift_lost", JOURNEY, 1, ("counted", "gift/not_counted")),
    Row("gift_unseen", JOURNEY, 1, ("gift", "gift/not_seen")),
    Row("flag_ignored", JOURNEY, 1, ("acted", "moderation/not_acted")),
    # signalling
    Row("refuse", WHEP, 1, ("whip", "signal/http_503"), {"service": "whip"}),
    Row("refuse", WHEP, 1, ("whep", "signal/http_404"), {"service": "whep", "status": 404}),
    Row("hang", WHEP, 1, ("whep", "signal/timeout"), {"service": "whep"}),
    Row("sdp_html", WHEP, 1, ("whep", "signal/not_sdp")),
    Row("sdp_garbage", WHEP, 1, ("whep", "signal/not_sdp")),
    Row("sdp_no_video", WHEP, 1, ("whep", "signal/no_video")),
    Row("sdp_high_only", WHEP, 3, ("whep", "skipped/unsupported")),
    Row("no_candidates", WHEP, 1, ("whep", "ice/no_candidates")),
    Row("black_hole", WHEP, 1, ("whep", "ice/timeout")),
    Row("wrong_fingerprint", WHEP, 1, ("whep", "dtls/failed")),
    # media
    Row("media_none", WHEP, 1, ("whep", "first_packet/silence"), {"of": "whep"}),
    Row("media_no_keyframe", WHEP, 1, ("whep", "keyframe/none"), {"of": "whep"}),
    Row("media_black", WHEP, 1, ("whep", "first_frame/black"), {"of": "whep"}),
    Row("media_foreign", WHEP, 1, ("whep", "first_frame/foreign"), {"of": "whep"}),
    Row("media_stale", WHEP, 1, ("whep", "first_frame/stale"), {"of": "whep", "seconds": 2.3}),
    Row("media_stalls", WHEP, 1, ("whep", "playing/frozen"), {"of": "whep", "after": 1}, ("--set", "journey.stay.wait=8s")),
    Row("media_frozen", WHEP, 1, ("whep", "playing/frozen"), {"of": "whep"}),
    Row("media_ends", WHEP, 1, ("whep", "playing/ended"), {"of": "whep", "after": 1}),
    # HLS
    Row("segment_missing", HLS, 1, ("hls", "segment/http_404")),
    Row("segment_garbage", HLS, 1, ("hls", "segment/malformed")),
    Row("playlist_html", HLS, 1, ("hls", "playlist/not_a_playlist")),
    Row("playlist_huge", HLS, 1, ("hls", "playlist/too_large")),
    Row("playlist_private", HLS, 1, ("hls", "segment/address_refused")),
]


@pytest.mark.timing
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_planted_fault_is_named(row: Row, platform: Platform, tmp_path: Path, table: list[tuple[str, ...]]) -> None:
    fault = platform.admin("POST", "/admin/faults", {"fault": row.fault, **row.params})["id"]
    began = time.monotonic()
    try:
        ran = platform.smoke(row.scenario, tmp_path, *row.more)
    finally:
        platform.admin("DELETE", f"/admin/faults/{fault}")
    took = time.monotonic() - began
    table.append((str(row), str(ran.exit), row.expected[0], row.expected[1], f"{took:.1f}"))
    health = ran.verdict.get("probe", {}).get("health", {})
    assert (row.expected in ran.failures(), ran.exit) == (True, row.exit), (
        f"failures {sorted(ran.failures())}, exit {ran.exit}, cause {ran.verdict.get('cause')}, health {health}\n"
        f"{ran.stderr[-2000:]}"
    )


def test_a_starved_probe_blames_nobody(platform: Platform, tmp_path: Path, table: list[tuple[str, ...]]) -> None:
    """Stopped four fifths of the time from the run's first record on, it cannot know: inconclusive, and every attempt marked."""
    began = time.monotonic()
    process = subprocess.Popen(
        platform.command(WHEP, tmp_path), env={**os.environ, **platform.environment}, stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "observations.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        assert time.monotonic() - began < 55
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    table.append(("the probe is starved", str(process.returncode), "", "", f"{time.monotonic() - began:.1f}"))
    assert (process.returncode, verdict["result"]) == (3, "inconclusive"), verdict["cause"]
    assert "loop_lag" in verdict["probe"]["health"]["taints"]
    attempts = verdict["runs"][0]["attempts"]
    assert attempts["failed"]["untainted"] == 0


def test_healthy_again_it_is_go_in_a_process_of_its_own(platform: Platform, tmp_path: Path, table: list[tuple[str, ...]]) -> None:
    began = time.monotonic()
    ran = replace(platform, forks=None).smoke(JOURNEY, tmp_path)
    table.append(("nothing", str(ran.exit), "", "", f"{time.monotonic() - began:.1f}"))
    assert ran.exit == 0, f"{ran.verdict.get('cause')} {ran.failures()} {ran.stderr[-2000:]}"
    assert platform.admin("GET", "/admin/state")["rooms"] == []
