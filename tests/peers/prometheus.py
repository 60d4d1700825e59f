"""A real Prometheus server, scraping each second, exemplars kept, asked over its own API."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.tools import Child, requires, spawn, wait_until


@dataclass(frozen=True)
class Prometheus:
    """A running server at `url`."""

    child: Child
    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an API answer. AssertionError where the server refuses."""
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """An instant query: sorted label pairs (without __name__) → value."""
        data = await self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return {(): float(data["result"][1])}
        return {
            tuple(sorted((k, v) for k, v in row["metric"].items() if k != "__name__")): float(row["value"][1])
            for row in data["result"]
        }

    async def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """Exemplars of the last hour of the series in `expression`: seriesLabels, exemplars[labels, value, timestamp]."""
        now = (await self.query("time()"))[()]
        data = await self.get("query_exemplars", query=expression, start=str(now - 3600), end=str(now + 60))
        assert isinstance(data, list)
        return data

    async def scraped(self, deadline: float = 15.0) -> None:
        """Wait until every target has been scraped and is up; AssertionError with the targets' own errors."""

        async def up() -> bool:
            targets = (await self.get("targets"))["activeTargets"]
            broken = [f"{t['scrapeUrl']}: {t['lastError']}" for t in targets if t["health"] == "down"]
            if broken:
                raise AssertionError("; ".join(broken))
            return bool(targets) and all(t["health"] == "up" for t in targets)

        await wait_until(up, deadline, "a first good scrape")


@contextlib.asynccontextmanager
async def running(
    targets: Sequence[str],
    *,
    rules: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    rule_files: Mapping[str, str] | None = None,
    alertmanagers: Sequence[str] = (),
    history: str = "",
) -> AsyncIterator[Prometheus]:
    """Scrapes `targets` (host:port, path /metrics) each second; `rules` is the content of a rule file, `rule_files` are the texts
    of some by name. Tells `alertmanagers` (host:port) each second; has seen `history` (OpenMetrics with timestamps) before."""
    command = requires("prometheus")
    with tempfile.TemporaryDirectory(prefix="prometheus-") as name:
        folder = Path(name)
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {"job_name": "probe", "static_configs": [{"targets": list(targets), "labels": dict(labels or {})}]}
            ],
        }
        if rules is not None:
            (folder / "rules.yml").write_text(json.dumps(rules))
            configuration["rule_files"] = [str(folder / "rules.yml")]
        if rule_files:
            for file, text in rule_files.items():
                (folder / file).write_text(text)
            configuration["rule_files"] = [str(folder / file) for file in rule_files]
        if alertmanagers:
            configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]}
        if history:
            (folder / "history.om").write_text(history)
            backfill(folder / "history.om", folder / "data")
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
        arguments = [
            command,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:0",
            "--enable-feature=exemplar-storage",
            "--rules.alert.resend-delay=1s",
            "--log.format=json",
        ]
        with spawn(arguments, folder / "prometheus.log") as child:
            said = await child.says("Server is ready to receive web requests", 20.0)
            found = re.search(r'"address":"(127\.0\.0\.1:[1-9]\d*)"', said)
            assert found, said
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                yield Prometheus(child, f"http://{found[1]}", session)


def backfill(openmetrics: Path, data: Path) -> None:
    """Blocks of the samples in a text of OpenMetrics with timestamps, as a server would have written them."""
    promtool = requires("promtool", package="prometheus")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(openmetrics), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def check_metrics(text: str) -> list[str]:
    """What `promtool check metrics` has to say of a classic text exposition; empty when it has nothing to."""
    promtool = requires("promtool", package="prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return said or ([f"exit {done.returncode}"] if done.returncode else [])
