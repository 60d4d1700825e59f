"""`probe trace`: from a request id to the run, step and trace, with nothing in it that a server could do to a terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from probe.cli.app import app, trace
from probe.clock import SystemClock
from probe.store.address import sqlite_url
from probe.store.records import Record
from probe.store.store import Store
from tests.store.support import PASSWORD, begun, finished, request, run_id
from tests.tools import free_port

ID = request(1).request_id


def _kept(folder: Path, *records: Record) -> Path:
    """A database with these records."""
    file = folder / "records.sqlite"

    async def keep() -> None:
        async with Store.opened(sqlite_url(file), SystemClock(), folder / "outbox") as store:
            for record in records:
                store.put(record)

    asyncio.run(keep())
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _kept(tmp_path, begun(1), finished(1, verdict="fail", cause="gift failed in 1 of 4"), begun(2))


def test_a_request_is_told_with_run_step_trace_and_verdict(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(ID, store=str(file)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "request  POST of room, 201, at 2026-09-21T14:13:21.000Z",
        "step     room",
        f"run      {run_id(1)}: room-start, eu → apac, scheduled, by jakarta-1, began 2026-09-21T14:13:21.000Z",
        "verdict  fail: gift failed in 1 of 4",
        f"trace    {1:032x}, span 00000000000000a1",
    ]


def test_the_command_is_spelled_as_its_help_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["trace", ID, "--store", str(file), "--json"], result_action="return_value") == 0
    assert json.loads(capsys.readouterr().out)[0]["run"]["verdict"] == "fail"


def test_json_says_the_same_and_what_is_absent_is_absent(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(ID, store=sqlite_url(file), as_json=True) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["request_id"], found["step"], found["status"], found["trace_id"]) == (ID, "room", 201, f"{1:032x}")
    assert found["run"]["run_id"] == run_id(1) and found["run"]["cause"] == "gift failed in 1 of 4"
    assert "crashed" not in found["run"]


def test_an_agents_own_configuration_says_where_and_needs_nothing_else_of_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tmp_path / "agent.yaml"
    agent.write_text(
        f"state: {tmp_path}\nschedules:\n  gone: {{scenario: nowhere.yaml, every: 1m, set: {{a: '${{env.UNSET}}'}}}}\n"
    )
    assert trace(ID, agent=agent) == 0
    monkeypatch.setenv("WHERE", sqlite_url(file))
    agent.write_text("store: {url: {env: WHERE}}\n")
    assert trace(ID, agent=agent) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    _kept(tmp_path / "home/stream-probe/agent", begun(1), finished(1))
    assert trace(ID) == 0
    agent.write_text("store: {urll: sqlite}\n")
    assert trace(ID, agent=agent) == 2
    assert "urll" in capsys.readouterr().err


def test_what_is_in_no_record_is_said_and_is_exit_code_1(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace("no-such\x1b[2Jrequest", store=str(file)) == 1
    out, err = capsys.readouterr()
    assert not out and "has no record" in err and "\x1b" not in err
    assert trace("no-such", store=str(file), as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_a_store_that_cannot_be_asked_is_said_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trace(ID, store=str(tmp_path / "none.sqlite")) == 4
    assert "there are no records yet" in capsys.readouterr().err and not (tmp_path / "none.sqlite").exists()
    assert trace(ID, store=f"postgresql://u:{PASSWORD}@h/d") == 2
    assert trace(ID, store="env:NOT_SET_ANYWHERE") == 2
    monkeypatch.setenv("DATABASE", f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()}/d")
    assert trace(ID, store="env:DATABASE") == 4
    out, err = capsys.readouterr()
    assert "refused" in err and PASSWORD not in out + err


def test_a_terminal_is_not_obeyed_and_a_crash_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = request(1, step="\x1b]0;mine\x07step", status=0)
    ended = finished(1, state="aborted", verdict="inconclusive", crashed="signal 11", cause="c\x1b[31m", requests=(odd,))
    assert trace(ID, store=str(_kept(tmp_path, begun(1), ended))) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "no answer" in out and "inconclusive (the probe crashed: signal 11): c" in out
