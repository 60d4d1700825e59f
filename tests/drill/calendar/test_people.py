"""A rehearsal is recorded with who took part and what was learned, and is in the calendar from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe.cli.app import app
from probe.clock import SystemClock
from probe.drill.core.calendar import HELD
from probe.drill.history import history
from probe.drill.records import record_drill
from probe.store.reader import Records
from probe.store.store import Store
from tests.drill.calendar.test_files import CAMPAIGNS, DRILL, REHEARSAL


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("drills").mkdir()
    Path("drills/one.yaml").write_text(DRILL.format(name="one"))
    Path("drills/room.yaml").write_text(REHEARSAL)
    return tmp_path


def probe(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        app(list(words))
    return int(caught.value.code or 0)


def url(here: Path) -> str:
    return f"sqlite:///{here}/state/stream-probe/records.sqlite"


async def drilled(here: Path, verdict: str) -> None:
    """As the runner records it."""
    clock = SystemClock()
    async with Store.opened(url(here), clock, here / "outbox") as store:
        now = clock.wall().unix_ns
        record_drill(store, drill="one", run=f"run-{now}", at_ns=now, owner="media-sre", verdict=verdict, reason="why", score={})


def test_the_sheet_is_printed_for_whoever_leads_it(here: Path, capsys):
    assert probe("drill", "people", "drills/room.yaml") == 0
    shown = capsys.readouterr().out
    assert all(
        words in shown for words in ("war-room: 30m, led by lead", "on-call: has the pager", "an answer", "somebody decides")
    )
    assert probe("drill", "people", "drills/room.yaml", "--json") == 0
    sheet = json.loads(capsys.readouterr().out)
    assert (sheet["lasts"], sheet["injects"][1]["at"]) == ("30m", "10m")
    assert not (here / "state" / "stream-probe" / "records.sqlite").exists()  # nothing was held


def test_one_that_was_held_is_recorded_and_said_twice_counts_once(here: Path, capsys):
    held = (
        "drill",
        "people",
        "drills/room.yaml",
        "--took-part",
        "anna=on-call",
        "--took-part",
        "ben",
        "--on",
        "2026-11-20T14:00",
    )
    for _ in range(2):
        assert probe(*held, "--learned", "nobody found the runbook") == 0
    assert "recorded, with anna=on-call, ben" in capsys.readouterr().out
    assert probe("drill", "list", "drills", "--json") == 0
    room = next(one for one in json.loads(capsys.readouterr().out)["drills"] if one["name"] == "war-room")
    assert room["last"] == {
        "at": "2026-11-20T14:00:00.000Z", "verdict": HELD, "took_part": ["anna=on-call", "ben"],
        "learned": ["nobody found the runbook"],
    }  # fmt: skip


async def test_what_the_records_say_is_told_newest_first(here: Path):
    await drilled(here, "pass")
    await drilled(here, "invalid")
    async with Records.reading(url(here), SystemClock()) as records:
        found = await history(records)
    assert [(one.name, one.verdict, one.reason, one.counts) for one in found] == [
        ("one", "invalid", "why", False),
        ("one", "pass", "why", True),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--took-part", "anna"), "--learned say what was learned"),
        (("--learned", "x"), "--took-part say who was there"),
        (("--took-part", "anna=boss", "--learned", "x"), "'anna=boss': write name or name=role, with a role of on-call"),
        (("--took-part", "=on-call", "--learned", "x"), "write name or name=role"),
        (("--took-part", "anna", "--learned", "x", "--on", "yesterday"), "'yesterday' is not a day or a moment"),
        (("--took-part", "anna", "--learned", "x", "--on", "2999-01-01"), "2999-01-01 is yet to come"),
        (
            ("--took-part", "anna", "--learned", "x", "--store", "postgresql://u:hunter2@h/d"),
            "the store's URL carries a password",
        ),
    ],
)
def test_what_cannot_be_recorded_is_told_and_nothing_is(here: Path, capsys, words: tuple[str, ...], told: str):
    assert probe("drill", "people", "drills/room.yaml", *words) == 2
    error = capsys.readouterr().err
    assert told in error and "hunter2" not in error
    assert not (here / "state" / "stream-probe" / "records.sqlite").exists()


def test_a_rehearsal_is_not_run_as_a_drill(here: Path, capsys):
    assert probe("drill", "run", "drills/room.yaml", "--out", "out") == 2
    assert "probe drill people drills/room.yaml" in capsys.readouterr().err


async def test_what_is_due_is_an_exit_code(here: Path):
    import asyncio

    assert await asyncio.to_thread(probe, "drill", "list", "drills/one.yaml", "--due") == 1
    await drilled(here, "invalid")
    assert await asyncio.to_thread(probe, "drill", "list", "drills/one.yaml", "--due") == 1
    await drilled(here, "weakness")
    assert await asyncio.to_thread(probe, "drill", "list", "drills/one.yaml", "--due") == 0
    assert await asyncio.to_thread(probe, "drill", "list", "drills", "--due") == 1  # the rehearsal


async def test_campaigns_of_this_directory_are_asked_and_told_in_the_review(here: Path, capsys):
    import asyncio

    Path("campaigns.yaml").write_text(CAMPAIGNS)
    await drilled(here, "weakness")
    assert await asyncio.to_thread(probe, "drill", "list", "--json", "--since", "1d") == 0
    found = json.loads(capsys.readouterr().out)
    assert {due["campaign"] for due in found["due"] if "campaign" in due} <= {"show"}
    assert found["review"][0].startswith("overdue: war-room, never done")
    assert any(line.startswith("drilled: one on ") and line.endswith(": weakness (why)") for line in found["review"])
    assert await asyncio.to_thread(probe, "drill", "list", "--since", "1d") == 0
    assert "drilled: one on " in capsys.readouterr().out
    assert await asyncio.to_thread(probe, "drill", "list") == 0
    shown = capsys.readouterr().out
    assert "weakness" in shown and "stop who=origin" in shown and "overdue, never done" in shown


def test_records_that_cannot_be_read_are_no_drills_that_were_not_done(here: Path, capsys):
    broken = here / "broken.sqlite"
    broken.write_bytes(b"not a database" * 100)
    assert probe("drill", "list", "drills", "--store", str(broken)) == 0
    shown = capsys.readouterr().out
    assert "last: ?" in shown and "what was done is not known: " in shown and "overdue" not in shown
    assert probe("drill", "list", "drills", "--due", "--store", str(broken)) == 3
    assert "nobody knows what is due" in capsys.readouterr().out
    assert probe("drill", "list", "drills", "--json", "--store", str(broken)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unread"] and "due" not in found and all("last" not in one for one in found["drills"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "nowhere cannot be read: No such file"),
        (("drills", "--since", "7"), "--since '7' is not a duration"),
        (("--campaigns", "none.yaml"), "none.yaml cannot be read"),
        (("drills", "--store", "mysql://h/d"), "records are kept in SQLite or PostgreSQL"),
    ],
)
def test_a_wrong_question_is_told(here: Path, capsys, words: tuple[str, ...], told: str):
    assert probe("drill", "list", *words) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_drills_says_so(here: Path, capsys):
    Path("empty").mkdir()
    assert probe("drill", "list", "empty") == 0
    assert "there is no drill here" in capsys.readouterr().out
