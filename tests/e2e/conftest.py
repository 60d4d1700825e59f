"""One whole journey on the embedded platform, looked at by everyone who may: a trace collector, a Prometheus, its own files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.e2e.support import explained, smoke
from tests.faults.platform import Ran
from tests.peers import otlp, prometheus
from tests.tools import free_port

Series = Mapping[tuple[tuple[str, str], ...], float]


@dataclass(frozen=True)
class Journey:
    """What was left when it was over: every span that was sent, the series Prometheus last saw of each metric asked for
    below, and the exemplars it keeps of e2e_latency_seconds."""

    ran: Ran
    collector: otlp.Collector
    scraped: Mapping[str, Series]
    exemplars: list[dict[str, Any]]

    @property
    def trace_id(self) -> str:
        trace_id: str = self.ran.verdict["runs"][0]["trace_id"]
        return trace_id

    def file(self, name: str) -> str:
        return (self.ran.out / name).read_text()


@pytest.fixture(scope="package")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """`probe smoke`, told nothing but where to send traces and where to serve metrics.

    A machine that was too busy taints timings (test_outputs says so), not what these tests ask; a failure is one."""
    found = asyncio.run(_journey(tmp_path_factory.mktemp("journey") / "out"))
    assert found.ran.exit in (0, 3) and not found.ran.failures(), explained(found.ran)
    return found


async def _journey(out: Path) -> Journey:
    port = free_port()
    async with AsyncExitStack() as stack:
        collector = await stack.enter_async_context(otlp.running())
        # Only what asks Prometheus needs it: the rest of the journey's tests run on a machine without.
        server = await stack.enter_async_context(prometheus.running([f"127.0.0.1:{port}"])) if which("prometheus") else None
        ran = await smoke(
            out, "--json", "-v", f"--metrics-port={port}", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, deadline=45
        )
        if server is None:
            return Journey(ran, collector, {}, [])
        names = ("attempts_total", "frames_total", "e2e_latency_seconds_count", "failures_total")
        scraped = {name: await server.query(f"last_over_time(streamprobe_{name}[5m])") for name in names}
        return Journey(ran, collector, scraped, await server.exemplars("streamprobe_e2e_latency_seconds_bucket"))
