"""deploy/chain starts everything, proves it alive with a real Prometheus and a real Alertmanager, and leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from tests.tools import ROOT, requires, spawn

CHAIN = ROOT / "deploy" / "chain"


@pytest.mark.timing
@pytest.mark.timeout(120)
async def test_one_run_is_found_in_metrics_traces_and_records_the_pager_hears_and_then_all_ends(tmp_path: Path) -> None:
    requires("prometheus")
    requires("prometheus-alertmanager")
    state = tmp_path / "state"
    with spawn([CHAIN, "--once", "--state", state], tmp_path / "said") as chain:
        code = await chain.exit(110)
        said = chain.text()
    assert code == 0, said + "".join(log.read_text(errors="replace")[-2000:] for log in sorted(state.glob("*.log")))
    assert re.search(r"^query +min\(up\) → 1$", said, re.MULTILINE), said
    assert re.search(r"^exemplar +trace_id [0-9a-f]{32}$", said, re.MULTILINE), said
    assert re.search(r"^collector +[1-9]\d* spans of it$", said, re.MULTILINE), said
    assert re.search(r"^record +run [0-9a-f-]{36} of room-start: \w+$", said, re.MULTILINE), said
    assert re.search("^pager +hears the watchdog", said, re.MULTILINE), said
    assert running(str(state)) == []


async def test_what_does_not_come_up_is_told_and_all_else_ends(tmp_path: Path) -> None:
    requires("prometheus")
    state, wrong = tmp_path / "state", tmp_path / "agent.yaml"
    wrong.write_text("region: local\nschedules: {x: {scenario: nowhere.yaml, every: 1m}}\n")
    with spawn([CHAIN, "--once", "--state", state, "--agent", wrong], tmp_path / "said") as chain:
        code = await chain.exit(50)
        said = chain.text()
    assert code == 1, said
    assert "agent ended with 2" in said
    assert "schedules.x.scenario: cannot be read" in said
    assert running(str(state)) == []


def running(path: str) -> list[str]:
    """Processes that have `path` on their command line or in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.status() != psutil.STATUS_ZOMBIE and any(path in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found
