"""`probe backtest`: what people type, what they read, what is wrong with it; a store and a Prometheus that are real."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from probe.cli.app import app
from probe.cli.backtest import Asked, backtest
from probe.cli.shadowed import over_prometheus
from probe.clock import SystemClock
from probe.errors import ConfigError, ProbeError
from probe.export.figures import rfc3339
from probe.model.clock import NS
from probe.store.store import Store
from tests.peers import prometheus
from tests.rules.fleets import HOUR, MINUTE
from tests.store.support import T0, begun, finished
from tests.tools import ROOT, free_port, wait_until

SCENARIO = ROOT / "scenarios" / "room-start.yaml"


async def said(tmp_path: Path, asked: Asked, *, file: Path = SCENARIO, quiet: bool = False) -> str:
    out = io.StringIO()
    asked = replace(asked, out=tmp_path)
    assert await backtest(file, asked, Console(file=out, width=100), as_json=False, quiet=quiet) == 0
    return out.getvalue()


async def test_a_table_a_picture_and_a_document_come_of_a_scenario_alone(tmp_path: Path) -> None:
    text = await said(tmp_path, Asked(pattern=("region-down:times=1,noise=0%", "noise"), days=3, every="4m"))
    assert "room-start: 3 days each, simulated, seed 1" in text
    assert "region-down:times=1,noise=0%  nothing starts for viewers in one region (1 × 45m, every run; noise 0%)" in text
    ours = next(line for line in text.splitlines() if line.startswith("ours"))
    assert ours.split()[1:4] == ["1", "of", "1"]
    assert "ours: 1 of 1 incidents found" in text and f"picture: {tmp_path / 'backtest.html'}" in text
    made = json.loads((tmp_path / "backtest.json").read_text())
    assert [history["name"] for history in made["histories"]] == ["region-down:times=1,noise=0%", "noise"]
    assert (tmp_path / "backtest.html").read_text().startswith("<!doctype html>")


async def test_quiet_says_what_it_comes_to_for_each_target(tmp_path: Path) -> None:
    asked = Asked(pattern=("noise",), days=2, target=("99%", "99.5%"), against=("sloth",))
    lines = (await said(tmp_path, asked, quiet=True)).splitlines()
    assert [line.split(":")[0] for line in lines if "pages a week" in line] == [
        "ours at 99%", "ours at 99.5%", "gates", "sloth at 99%", "sloth at 99.5%", "sloth-split at 99%", "sloth-split at 99.5%",
    ]  # fmt: skip


async def test_json_alone_goes_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(pattern=("noise",), days=1, out=tmp_path)
    assert await backtest(SCENARIO, asked, Console(file=io.StringIO()), as_json=True, quiet=False) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "backtest"


async def test_every_mistake_is_told_at_once_before_anything_is_read(tmp_path: Path) -> None:
    asked = Asked(
        pattern=("noize",),
        days=0,
        seed=-1,
        target=("100%", "abc"),
        against=("nagios",),
        every="5",
        incidents=tmp_path / "x",
        out=tmp_path,
    )
    with pytest.raises(ConfigError) as found:
        await backtest(tmp_path / "no fleet", asked, Console(file=io.StringIO()), as_json=False, quiet=False)
    assert str(found.value).splitlines() == [
        "--pattern unknown pattern 'noize'; did you mean noise?",
        "--target a target of 100% leaves nothing to spend or nothing to keep; write for example 99.5%",
        "--target 'abc' is not a ratio from 0% to 100%; write for example 99.5%",
        "--against 'nagios' is not one of static, sloth",
        "--days 0 is not a number of days from 1 to 366",
        "--seed -1 is below 0",
        "--every '5' is not a duration; write for example 5s, 1m30s or 250ms",
        "--incidents is about recorded runs; give --from-store or --from-json too",
    ]


async def test_a_target_that_so_few_runs_cannot_carry_is_refused_with_the_sum(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Remedy: more runs"):
        await said(tmp_path, Asked(pattern=("noise",), days=1, target=("99.99%",), every="6h"))


def test_the_command_takes_its_options_and_refuses_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--pattern", "noise", "--pattern", "deploys", "--target", "99%", "--days", "3", "--every", "4m", "-q", "--out"]
    assert run(["backtest", str(SCENARIO), *words, str(tmp_path)]) == 0
    assert "ours: " in capsys.readouterr().out
    assert run(["backtest", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        app(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    shipped = ROOT / "scenarios" / "fleet.yaml"
    command = [sys.executable, "-m", "probe", "backtest", str(shipped), "--days", "60", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while _threads(process.pid) < 2 and time.monotonic() < deadline:  # the thread that computes
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=50)
    assert process.returncode == 130 and "Traceback" not in errors and not (tmp_path / "backtest.html").exists()


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


# -- recorded history


def verdict(outcome: str, at: int, *, mode: str = "scheduled", **more: object) -> dict[str, Any]:
    run = {
        "scenario": "room-start", "publish_region": "local", "region": "local", "mode": mode,
        "objectives": [{"slo": "room-start", "outcome": outcome}, {"slo": "first-frame", "protocol": "whep", "outcome": outcome}],
        **more,
    }  # fmt: skip
    return {"evaluated_at": rfc3339(at), "runs": [run]}


def recorded(began: int, minutes: int, bad: Sequence[int]) -> list[dict[str, Any]]:
    return [verdict("bad" if n in bad else "good", began + n * MINUTE) for n in range(minutes)]


async def test_verdicts_a_line_each_are_replayed_and_held_against_what_is_known(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    runs = recorded(T0, 600, range(300, 330))
    file.write_text("\n".join(json.dumps(one) for one in [*runs, verdict("bad", T0, mode="smoke")]) + "\n\n")
    text = await said(tmp_path, Asked(from_json=file))
    assert "recorded" in text and "as it was recorded; " in text and "of room-start's budget" in text
    known = tmp_path / "known.yaml"
    began, ended = rfc3339(T0 + 300 * MINUTE), rfc3339(T0 + 330 * MINUTE)
    known.write_text(f"incidents:\n  - {{name: drained edge, from: {began}, to: {ended}, region: local}}\n")
    text = await said(tmp_path, Asked(from_json=file, incidents=known))
    assert "ours: 1 of 1 incidents found" in text and "none of" in text


@pytest.mark.parametrize("line", ["{", "[]", '{"evaluated_at": "yesterday", "runs": []}', '{"runs": [7]}', "[" * 5000])
async def test_a_line_that_is_no_verdict_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(verdict("good", T0)) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=r"runs\.jsonl:2:1 is not a verdict\.json in one line"):
        await said(tmp_path, Asked(from_json=file))


async def test_runs_without_objectives_and_incidents_that_are_none_are_told(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(verdict("good", T0, objectives=[])) + "\n")
    with pytest.raises(ConfigError, match="holds no scheduled run"):
        await said(tmp_path, Asked(from_json=file))
    known = tmp_path / "known.yaml"
    known.write_text("incidents:\n  - {from: 5, to: never, regoin: eu}\n")
    with pytest.raises(ConfigError) as found:
        await said(tmp_path, Asked(from_json=file, incidents=known))
    assert "write 2026-11-21T09:00:00Z" in str(found.value) and "known.yaml:2" in str(found.value)


async def test_an_agents_records_are_replayed(tmp_path: Path) -> None:
    clock = SystemClock()
    now = clock.wall(clock.now()).unix_ns
    first = now - 5 * HOUR
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    async with Store.opened(url, clock, tmp_path / "outbox") as store:
        for n in range(250):
            at = first + n * MINUTE
            one = verdict("bad" if 100 <= n < 130 else "good", at)
            run = {"run_id": f"{n:012x}-7000-8000-{0:012x}", "publish_region": "local", "region": "local"}
            store.put(replace(begun(n), began_ns=at, due_ns=at, **run))  # type: ignore[arg-type]
            text = "" if n == 7 else json.dumps(one)  # a run that died has none
            store.put(replace(finished(n), run_id=run["run_id"], ended_ns=at, verdict_json=text))
        await wait_until(lambda: not store.behind, 30)
    agent = tmp_path / "agent.yaml"
    agent.write_text(f"agent: local-1\nstore: {{url: '{url}'}}\n")
    text = await said(tmp_path, Asked(from_store=(str(tmp_path / "records.sqlite"), str(agent)), days=1))  # the same runs, once
    assert "recorded" in text
    made = json.loads((tmp_path / "backtest.json").read_text())
    (history,) = made["histories"]
    assert history["name"] == "recorded" and "incidents" not in history
    paged = next(r for r in history["results"] if r["rules"] == "ours")["paged"]
    assert "room-start" in {page["slo"] for page in paged}
    with pytest.raises(ConfigError, match="no scheduled run has its verdict there"):
        await said(tmp_path, Asked(from_store=(str(tmp_path / "records.sqlite"),), days=0.01))


async def test_a_store_that_is_none_is_refused_without_its_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from-store") as found:
        await said(tmp_path, Asked(from_store=("mysql://me:canary@host/db",)))
    assert "canary" not in str(found.value)


# -- alerts that are only tried


def shadow_fleet(tmp_path: Path) -> Path:
    file = tmp_path / "room-start.yaml"
    file.write_text(SCENARIO.read_text().replace("- name: room-start\n", "- name: room-start\n    shadow: true\n", 1))
    return file


async def test_what_an_alert_in_shadow_would_have_paged_is_told_by_replay(tmp_path: Path) -> None:
    file = shadow_fleet(tmp_path)
    assert "shadow: true" in file.read_text()
    text = await said(tmp_path, Asked(pattern=("region-down:times=1,noise=0%",), days=3, shadow=True), file=file)
    assert "would have told somebody, by history" in text and "RoomStartPage" in text
    assert "nothing would have paged" in await said(tmp_path, Asked(pattern=("noise:noise=0%",), days=1, shadow=True), file=file)


async def test_what_prometheus_saw_firing_is_told_and_two_stretches_are_two_times(tmp_path: Path) -> None:
    clock = SystemClock()
    now = clock.wall(clock.now()).unix_ns // NS
    labels = 'alertname="RoomStartPage",alertstate="firing",slo="room-start",region="eu",severity="P1"'
    stretches = [(now - 5 * 3600, 20), (now - 2 * 3600, 10)]
    lines = ["# TYPE ALERTS gauge"]
    for began, minutes in stretches:
        lines += [f'ALERTS{{{labels},shadow="true"}} 1 {began + 30 * n}' for n in range(2 * minutes)]
    lines += [f'ALERTS{{{labels},shadow="false"}} 1 {now - 3600 + 30 * n}' for n in range(20)]
    async with prometheus.running([], history="\n".join([*lines, "# EOF", ""])) as server:
        (found,) = await over_prometheus(server.url, 1)
        text = await said(tmp_path, Asked(shadow=True, prometheus=server.url, days=1))
        assert await over_prometheus(server.url, 0.05) == []
    assert (found.alert, found.slo, found.region, found.severity, found.times) == ("RoomStartPage", "room-start", "eu", "P1", 2)
    assert 30 * MINUTE <= found.fired <= 42 * MINUTE  # an alert is seen for five minutes after its last sample
    assert abs(found.first - stretches[0][0] * NS) <= MINUTE
    assert "by Prometheus, the last 1 days" in text and "RoomStartPage" in text


async def test_a_prometheus_that_is_away_is_no_answer_and_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ProbeError, match="nothing is known of what would have paged"):
        await over_prometheus(f"http://127.0.0.1:{free_port()}", 1)
    with pytest.raises(ConfigError, match="carries a password") as found:
        await over_prometheus("http://me:canary@127.0.0.1/", 1)
    assert "canary" not in str(found.value)
