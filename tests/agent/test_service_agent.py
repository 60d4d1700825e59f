"""A whole agent behind its HTTP service: what it says of itself, a run on demand, and what is read back of it."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from probe.agent.loading import Loaded, load_config
from probe.agent.reload import Configuration
from probe.agent.serve import opened
from probe.cli.files import find, vocabulary
from probe.clock import SystemClock
from probe.net.redact import Redactor
from tests.tools import wait_until

AGENT = """
agent: jakarta-1
region: apac
state: {state}
listen: 127.0.0.1:0
workers: {{count: 1}}
schedules:
  idle: {{scenario: idle.yaml, every: 1h}}
  gated: {{scenario: gated.yaml, every: 1h}}
"""
IDLE = """
scenario: idle
owner: media-sre
regions: [apac]
platform: {url: "http://127.0.0.1:9"}
deadlines: {run: 5s}
journey:
  - wait: 50ms
"""
GATED = (
    IDLE.replace("scenario: idle", "scenario: gated")
    + """
  - ask: {http: GET /, service: auth, optional: true}
gates:
  - {name: hold, when: "auth[10m] < 90%", min_n: 5, owner: growth-lead, action: pause}
"""
)


def configured(folder: Path) -> Loaded:
    (folder / "agent.yaml").write_text(AGENT.format(state=folder / "state"))
    (folder / "idle.yaml").write_text(IDLE)
    (folder / "gated.yaml").write_text(GATED)
    return load_config(folder / "agent.yaml", env={}, words=vocabulary(), find=find)


async def test_an_agent_is_asked_for_a_run_and_says_what_came_of_it(tmp_path: Path):
    configuration = Configuration(configured(tmp_path), lambda: configured(tmp_path))
    async with opened(configuration, SystemClock(), Redactor()) as parts, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{parts.port}"

        async def got(path: str, status: int = 200) -> str:
            async with client.get(url + path) as answer:
                text = await answer.text()
                assert answer.status == status, text
                return text

        assert "jakarta-1" in await got("/") and "every 1h" in await got("/")
        await got("/gate/hold", 503)  # no run has judged it
        await wait_until(lambda: parts.pool.ready, 20)
        found = {f.name: f for f in text_string_to_metric_families(await got("/probe?scenario=idle")) if f.samples}
        assert found["probe_success"].samples[0].value == 1
        assert 0.04 < found["probe_duration_seconds"].samples[0].value < 5
        [run] = [s for s in found["streamprobe_runs"].samples if s.value]
        assert (run.labels["mode"], run.labels["verdict"]) == ("adhoc", "pass")
        assert "is not listed" in await got("/probe?scenario=idle&target=http://192.0.2.1", 403)
        assert "there are gated, idle" in await got("/probe?scenario=other", 404)
        async with client.get(f"{url}/probe?scenario=idle", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"}) as answer:
            assert answer.status == 422  # a run may take 5 s, and half a minute to end

        async def listed() -> list[dict[str, str]]:
            async with client.get(f"{url}/runs?format=json") as answer:
                runs: list[dict[str, str]] = (await answer.json())["runs"]
                return [r for r in runs if r["state"] == "ended"]

        [row] = await wait_until(listed)
        assert (row["scenario"], row["verdict"], row["mode"]) == ("idle", "pass", "adhoc")
        assert "<title>go" in await got(f"/runs/{row['run_id']}")
        assert '"kind":"run"' in (await got(f"/runs/{row['run_id']}?format=json")).replace(" ", "")
        assert "stands on 1 of at least 5" in await got("/probe?scenario=gated", 503)
        assert "in its window" in await got("/gate/hold", 503)  # a run on demand judges no gate
        async with client.post(f"{url}/-/reload") as answer:
            assert answer.status == 200
