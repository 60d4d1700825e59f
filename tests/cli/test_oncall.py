"""`probe oncall`: who is called, the year, the week; and that it answers what is asked and refuses what is not there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import defusedxml.ElementTree
import pytest
from rich.console import Console

from probe.cli.oncall import Asked, oncall, read
from probe.errors import ConfigError
from tests.rules.oncalls import shifts, text
from tests.tools import ROOT

SHIPPED = ROOT / "scenarios" / "oncall.yaml"


async def said(asked: Asked, file: Path = SHIPPED, *, check: bool = False, week: bool = False) -> str:
    out = io.StringIO()
    assert await oncall(file, Console(file=out, width=200), asked, check=check, week=week, as_json=False) == 0
    return out.getvalue()


async def test_who_is_on_who_comes_next_and_who_is_called_after_which_step() -> None:
    asked = Asked(at="2026-03-10T14:58", tz="Europe/Berlin", owner="media-sre", region="eu", severity="p1")
    assert (await said(asked)).splitlines() == [
        "Tue 2026-03-10 13:58 UTC",
        "",
        "queue media, P1, every region (media-sre)",
        "  on now   media-eu: eu, until Tue 2026-03-10 14:00 UTC (15:00 Berlin)",
        "  next     media-us: us, from Tue 2026-03-10 14:00 UTC (10:00 New York)",
        "  calls    at once    media-eu         Tue 2026-03-10 13:58 UTC (14:58 Berlin)",
        "           after 5m   media-lead       Tue 2026-03-10 14:03 UTC (10:03 New York), if it still fires: Alertmanager",
        "           after 10m  head of live     Tue 2026-03-10 14:08 UTC (15:08 Berlin), if nobody has acknowledged: the pager",
        "  looked at within 5m: by Tue 2026-03-10 14:03 UTC (15:03 Berlin)",
    ]


async def test_what_waits_says_until_when_and_what_nobody_owns_says_so() -> None:
    waits = await said(Asked(at="2026-06-20T12:00", queue="growth", severity="P2"))
    assert "on now   nobody" in waits
    assert "Mon 2026-06-22 07:00 UTC (09:00 Berlin), when the shift begins" in waits
    assert "looked at within 4h while somebody is on: by Mon 2026-06-22 11:00 UTC (13:00 Berlin)" in waits
    stranger = await said(Asked(at="2026-06-20T12:00", owner="stranger", severity="P1"))
    assert "P1 of stranger: no queue answers for stranger; the fallback does" in stranger
    assert "duty-phone" in stranger


async def test_without_a_question_every_queue_answers_for_now() -> None:
    answer = await said(Asked())
    queues = [line for line in answer.splitlines() if line.startswith("queue")]
    assert [line.split(" (")[0] for line in queues] == [
        "queue media, P1, every region",
        "queue media, P2, every region",
        "queue growth, P1, every region",
        "queue growth, P2, every region",
    ]
    assert "duty-phone: phone, without end" in answer


async def test_json_has_the_same_with_times(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(at="2026-12-25T12:00Z", queue="media", severity="P1")
    assert await oncall(SHIPPED, Console(stderr=True), asked, check=False, week=False, as_json=True) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["now"] == {
        "shift": "eu 2026-12-25",
        "call": "media-us",
        "backup": "media-lead",
        "from": "2026-12-25T07:00:00Z",
        "to": "2026-12-25T15:00:00Z",
        "tz": "Europe/Berlin",
        "why": "Christmas",
    }
    calls: list[dict[str, Any]] = answer["calls"]
    assert [(call["after"], call["call"], call["by"]) for call in calls] == [
        ("0s", "media-us", "alertmanager"),
        ("5m", "media-lead", "alertmanager"),
        ("10m", "head of live", "pager"),
    ]
    assert (answer["within"], answer["due"]) == ("5m", "2026-12-25T12:05:00Z")
    assert await oncall(SHIPPED, Console(stderr=True), Asked(queue="growth"), check=False, week=False, as_json=True) == 0
    always, office = json.loads(capsys.readouterr().out)
    assert always["now"]["to"] is None and always["next"] is None
    assert office["next"]["to"] > office["next"]["from"]


async def test_the_year_says_who_has_how_much_and_what_is_the_pagers() -> None:
    answer = await said(Asked(at="2026-06-01T00:00"), check=True)
    assert answer.startswith("live: 2026-01-01 to 2027-12-31, by the clocks of every zone\n")
    assert "queue media, P1, every region: covered without a hole or an overlap" in answer
    assert "queue growth, P2, every region: nobody is on for 2d17h at most; alerts wait" in answer
    assert "P1 after 10m: head of live is the pager's to call, not Alertmanager's" in answer
    shares = [float(line.split("%")[0].split()[-1]) for line in answer.splitlines() if "media-" in line and "%" in line]
    assert sum(shares[: len(shares) // 2]) == pytest.approx(100.0, abs=0.3)


async def test_the_week_is_a_row_a_day_a_sign_each_half_hour() -> None:
    asked = Asked(at="2026-03-28T12:10", tz="Europe/Berlin", queue="growth", severity="P2")
    rows = [line for line in (await said(asked, week=True)).splitlines() if line.startswith("  ") and "2026-" in line]
    assert rows[2] == "  Mon 2026-03-30 ··················AAAAAAAAAAAAAAAA··············"
    assert [len(row.split()[-1]) for row in rows] == [48, 46, 48, 48, 48, 48, 48]  # Sunday's clock is set forward
    assert rows[0].split()[-1].index("▲") == 24


async def test_the_week_is_a_picture_too_with_a_bar_a_turn(tmp_path: Path) -> None:
    file, out = tmp_path / "week.svg", io.StringIO()
    asked = Asked(at="2026-12-24T13:00", tz="Europe/Berlin", severity="P1")
    given = {"check": False, "week": False, "as_json": False}
    assert await oncall(SHIPPED, Console(file=out, width=200), asked, **given, picture=file) == 0
    picture = defusedxml.ElementTree.parse(file)
    bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}g") if bar.get("class") == "bar"]
    titles = [str(bar[0].text) for bar in bars]
    assert len([title for title in titles if title.startswith("duty-phone")]) == 7
    assert len([title for title in titles if title.startswith("media-")]) == 3 * 7
    assert [title.partition(",")[0] for title in titles if "2026-12-25," in title] == ["media-us: eu 2026-12-25"]
    assert picture.find("{http://www.w3.org/2000/svg}line[@class='now']") is not None
    with pytest.raises(ConfigError, match="--svg .* cannot be written"):
        await oncall(SHIPPED, Console(file=out), asked, **given, picture=tmp_path / "nowhere" / "week.svg")


async def test_people_of_the_same_hours_have_one_picture() -> None:
    pictures = await said(Asked(at="2026-06-15T12:00", queue="media"), week=True)
    assert pictures.startswith("queue media, P1, every region; queue media, P2, every region, by the clock of UTC\n")
    assert pictures.count("by the clock of UTC") == 1
    assert "  C us: media-us, then media-lead, by the clock of America/New_York" in pictures


async def test_regions_that_are_told_apart_answer_apart(tmp_path: Path) -> None:
    file = tmp_path / "oncall.yaml"
    file.write_text(
        text(shifts("shift: eu, regions: [eu], tz: UTC, call: europe", "shift: us, regions: [us], tz: UTC, call: america"))
    )
    every = await said(Asked(severity="P1"), file)
    assert "queue media, P1, eu (media-sre)" in every and "queue media, P1, us (media-sre)" in every
    assert "europe" not in await said(Asked(severity="P1", region="us"), file)
    other = await said(Asked(severity="P1", region="mars"), file)
    assert "queue media, P1, any other region" in other and "phone" in other


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(at="tomorrow"), "--at 'tomorrow' is not a moment; write for example 2026-12-24T18:00, or 2026-12-24T18:00+01:00"),
        (Asked(at="9999-01-01T00:00"), "--at 9999 is a year that nobody is on call in"),
        (Asked(tz="Berlin"), "--tz 'Berlin' is not a time zone; write for example Europe/Berlin"),
        (Asked(severity="P3"), "--severity P3 is a line of the report: nobody is called for it"),
        (Asked(severity="high"), "--severity 'high' is not one of P1, P2"),
        (Asked(queue="sales"), "--queue 'sales' is not one of media, growth"),
        (Asked(queue="growth", owner="media-sre"), "--queue media-sre is answered for by media; give an owner or a queue"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_what_would_be_one(asked: Asked, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await said(asked)
    assert str(caught.value) == message


def test_holes_end_it_with_their_lines_as_bad_configuration(tmp_path: Path) -> None:
    file = tmp_path / "oncall.yaml"
    file.write_text(text(shifts('shift: day, from: "08:00", to: "20:00", tz: UTC, call: europe')))
    with pytest.raises(ConfigError, match=r"oncall.yaml:18:9 queues.media.shifts\[0\]: nobody is on from"):
        read(file, 1_780_000_000)
    command = [sys.executable, "-m", "probe", "oncall", str(file), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody is on from" in done.stderr
