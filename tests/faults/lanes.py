"""Rows of the table, two at a time: each lane has a sandbox and a forking process of its own, so that no fault of one row is
met by another. Rows are mostly waiting; what is not has both cores to itself, at the end."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from tests.faults.forks import Forks
from tests.faults.platform import Platform, Ran
from tests.faults.rows import Row

LANES = 2
TIMEOUT = 55.0  # s a row


@dataclass(frozen=True)
class Result:
    """`broke`: what the test itself met with, not `probe`."""

    ran: Ran | None
    took: float = 0.0
    broke: str = ""


@contextmanager
def lanes(directory: Path) -> Iterator[list[Platform]]:
    """The sandboxes, each with its forking process."""
    with ExitStack() as stack:
        platforms = []
        for number in range(LANES):
            (folder := directory / f"sandbox-{number}").mkdir()
            forks = stack.enter_context(Forks.started())
            platforms.append(stack.enter_context(Platform.started(folder, forks=forks)))
        yield platforms


def run_rows(
    rows: Sequence[Row], platforms: Sequence[Platform], directory: Path, environment: Mapping[str, str]
) -> dict[str, Result]:
    """Every row's result, by its words."""
    found: dict[str, Result] = {}
    together, alone = (_queue([row for row in rows if row.alone is kind]) for kind in (False, True))
    with ThreadPoolExecutor(len(platforms)) as threads:
        list(threads.map(lambda platform: _work(platform, together, directory, environment, found), platforms))
    _work(platforms[0], alone, directory, environment, found)
    return found


def _queue(rows: Sequence[Row]) -> SimpleQueue[Row]:
    queue: SimpleQueue[Row] = SimpleQueue()
    for row in rows:
        queue.put(row)
    return queue


def _work(
    platform: Platform, rows: SimpleQueue[Row], directory: Path, environment: Mapping[str, str], found: dict[str, Result]
) -> None:
    while True:
        try:
            row = rows.get_nowait()
        except Empty:
            return
        began = time.monotonic()
        try:
            ran = _run(platform, row, directory / f"row-{len(found)}-{id(row)}", environment)
            found[str(row)] = Result(ran, time.monotonic() - began)
        except Exception:  # one row's; the others go on
            found[str(row)] = Result(None, time.monotonic() - began, traceback.format_exc())


def _run(platform: Platform, row: Row, out: Path, environment: Mapping[str, str]) -> Ran:
    out.mkdir()
    if isinstance(row.scenario, Path):
        scenario = row.scenario
    else:
        scenario = out / "scenario.yaml"
        scenario.write_text(row.scenario.text())
    over = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            if row.fault:
                platform.admin("POST", "/admin/faults", {"fault": row.fault, **row.params})
            then = beside.submit(_plant_then, platform, row, out, over) if row.then else None
            ran = platform.smoke(scenario, out, *row.more, env=dict(environment), timeout=TIMEOUT)
            over.set()
            if then is not None:
                then.result()
        finally:
            over.set()
            platform.admin("DELETE", "/admin/faults")
    return ran


def _plant_then(platform: Platform, row: Row, out: Path, over: threading.Event) -> None:
    """Plant the second fault once the run's record tells that the session of whom the row is about has started."""
    while not _started(out / "observations.jsonl", row.who):
        if over.wait(0.05):
            raise AssertionError(f"no {row.who} session started, and so {row.then} was never planted")
    platform.admin("POST", "/admin/faults", row.then)


def _started(record: Path, protocol: str) -> bool:
    lines = record.read_text().split("\n")[:-1] if record.exists() else []
    facts = [json.loads(line) for line in lines if '"Session' in line[:30]]
    ours = {fact["session"] for fact in facts if fact.get("protocol") == protocol}
    return any(fact["kind"] == "SessionStarted" and fact["session"] in ours for fact in facts)
