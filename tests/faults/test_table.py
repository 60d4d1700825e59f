"""Every planted fault, seen from outside: exit code, who failed, phase and reason, in what time. Healthy again afterwards: go."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from probe.wire.flv import flv_header, flv_tag
from probe.wire.flv_tags import VIDEO, Tag
from tests.faults.lanes import Result, run_rows
from tests.faults.platform import Platform
from tests.faults.rows import JOURNEY, ROWS, Row, Watch

pytestmark = pytest.mark.timing
Table = list[tuple[str, ...]]


class _Vp6(http.server.BaseHTTPRequestHandler):
    """FLV of a codec that nobody has had for fifteen years."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/x-flv")
        self.end_headers()
        self.wfile.write(flv_header(audio=False))
        try:
            for number in range(1000):
                self.wfile.write(flv_tag(Tag(VIDEO, number * 33, b"\x14" + bytes(400))))
                time.sleep(0.033)
        except OSError:
            pass

    def log_message(self, *_: object) -> None: ...


@contextmanager
def stranger() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Vp6) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live.flv"
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, platforms: list[Platform], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Result]:
    """Of the rows that are asked for, all run before the first is looked at."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    asked = [cast(Row, item.callspec.params["row"]) for item in items if "row" in item.fixturenames]
    with stranger() as url:
        return run_rows(asked, platforms, tmp_path_factory.mktemp("rows"), {"STRANGE_FLV": url})


@pytest.mark.timeout(420)  # the first of them has the time of all
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_planted_fault_is_named(row: Row, results: dict[str, Result], table: Table) -> None:
    result = results[str(row)]
    ran = result.ran
    assert ran is not None, result.broke
    table.append((str(row), str(ran.exit), row.who, row.why, f"{result.took:.1f}"))
    cause = ran.verdict.get("cause") or {}
    told = (row.who, row.why) in ran.failures() if row.who else ran.failures() <= {row.may} and row.why in cause.get("words", "")
    assert (told, ran.exit) == (True, row.exit), (
        f"failures {sorted(ran.failures())}, exit {ran.exit}, cause {cause}, "
        f"health {ran.verdict.get('probe', {}).get('health', {})}\n{ran.stderr[-2000:]}"
    )
    assert result.took < row.within, f"{result.took:.1f} s"
    if row.also is not None:
        row.also(ran)


def test_the_table_is_of_every_way_in_and_out() -> None:
    assert {row.scenario.via for row in ROWS if isinstance(row.scenario, Watch)} == {"whep", "hls", "ll-hls", "http-flv"}
    assert {"whip", "rtmp"} < {row.who for row in ROWS}
    assert len({str(row) for row in ROWS}) == len(ROWS)


def test_a_starved_probe_blames_nobody(platform: Platform, tmp_path: Path, table: Table) -> None:
    """Stopped four fifths of the time from the run's first record on, it cannot know: inconclusive, and every attempt marked."""
    (tmp_path / "watch.yaml").write_text(Watch("whep", "5s").text())
    began = time.monotonic()
    process = subprocess.Popen(
        platform.command(tmp_path / "watch.yaml", tmp_path), env={**os.environ, **platform.environment}, stdout=subprocess.DEVNULL
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


def test_healthy_again_it_is_go_in_a_process_of_its_own(platform: Platform, tmp_path: Path, table: Table) -> None:
    began = time.monotonic()
    ran = replace(platform, forks=None).smoke(JOURNEY, tmp_path)
    table.append(("nothing", str(ran.exit), "", "", f"{time.monotonic() - began:.1f}"))
    assert ran.exit == 0, f"{ran.verdict.get('cause')} {ran.failures()} {ran.stderr[-2000:]}"
    assert platform.admin("GET", "/admin/state")["rooms"] == []
