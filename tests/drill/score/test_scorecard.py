"""The files of a drill: what they say, that they ask nobody for anything, and that one that cannot be written stops no other."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from probe import drill, export
from probe.drill.core.compared import compared
from probe.drill.core.facts import ActionSeen, AlertChanged, Checked, Did, FaultDid, Verdict, from_json
from probe.drill.core.marks import marks
from probe.drill.core.measure import measure, results_of
from probe.drill.core.score import CommandScore, CostScore, Score, json_schema
from probe.drill.core.timeline import Picture, timeline
from probe.drill.scorecard import FILES, read_score, write, write_index
from probe.errors import ConfigError
from probe.model.observation import CutOutcome
from probe.model.observation import from_json as observed
from probe.model.outcome import Failed
from probe.model.stage import Phase as Where
from tests.drill.score.told import Told, ns, plans, usual
from tests.tools import requires

SCHEMAS = {
    "scorecard.json": Path(drill.__file__).parent / "scorecard.schema.json",
    "verdict.json": Path(export.__file__).parent / "verdict.schema.json",
}


def plain(text: str) -> str:
    return text


def whole(told: Told) -> Score:
    """With all that others add."""
    score = told.score()
    commands = [CommandScore(do="sandbox fault edge-b down", undo="sandbox fault edge-b up")]
    faults = [fault.model_copy(update={"commands": commands, "klass": "reversible", "of": 3}) for fault in score.faults]
    cost = CostScore(seconds=30.0, cpu_seconds=12.5, memory_bytes=180 * 2**20, processors=4)
    again = score.model_copy(update={"run": "0191-before", "verdict": "pass"})
    update = {"faults": faults, "cost": cost, "ledger": "nothing open", "compared": compared(score, again)}
    return score.model_copy(update=update)


def written(told: Told, out: Path, redact: Any = plain) -> Score:
    score = whole(told)
    unwritten = write(score, out, facts=told.whole(), observations=told.observed, plans=plans(), stays=told.stays, redact=redact)
    assert unwritten == []
    return score


class Page(HTMLParser):
    """The words of a page, and whatever in it names something outside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.named: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.named += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def picture(told: Told) -> Picture:
    at = marks(told.whole())
    return timeline(told.whole(), at, results_of(told.observed), told.stays, told.score().alarms)


def test_every_file_is_written_and_holds_to_its_schema(tmp_path: Path) -> None:
    told = usual()
    written(told, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES)
    for name, schema in SCHEMAS.items():
        made = json.loads((tmp_path / name).read_text())
        jsonschema.validate(made, json.loads(schema.read_text()), format_checker=jsonschema.FormatChecker())
    facts = [from_json(json.loads(line)) for line in (tmp_path / "drill.jsonl").read_text().splitlines()]
    assert facts == told.whole()
    seen = [observed(json.loads(line)) for line in (tmp_path / "observations.jsonl").read_text().splitlines()]
    assert seen == told.observed


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert json.loads(SCHEMAS["scorecard.json"].read_text()) == json_schema(), "write core.score.json_schema() to the file"
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    ("verdict", "result", "failures", "errors"),
    [
        (Verdict.PASS, "pass", 0, 0),
        (Verdict.WEAKNESS, "fail", 1, 0),
        (Verdict.NOT_RESTORED, "fail", 1, 0),
        (Verdict.INVALID, "inconclusive", 0, 1),
        (Verdict.ABORTED, "inconclusive", 0, 1),
        (Verdict.INCONCLUSIVE, "inconclusive", 0, 1),
    ],
)
def test_verdict_json_and_junit_say_what_the_drill_came_to(
    tmp_path: Path, verdict: Verdict, result: str, failures: int, errors: int
) -> None:
    told = usual()
    told.verdict = verdict
    written(told, tmp_path)
    made = json.loads((tmp_path / "verdict.json").read_text())
    assert (made["kind"], made["result"], made["drill"]["verdict"]) == ("drill", result, verdict.value)
    assert {region["result"] for region in made["regions"]} == {result}
    assert made["drill"]["faults"][0]["seen_restored"] is True
    assert len(made["runs"]) == 20
    suites = ET.fromstring((tmp_path / "junit.xml").read_text())
    # The runs under it were to suffer: only the drill's own conditions are cases.
    assert [suite.get("name") for suite in suites] == ["edge-down"]
    assert (suites.get("failures"), suites.get("errors")) == (str(failures), str(errors))


def test_a_fault_that_was_not_put_back_is_a_failure_of_its_own(tmp_path: Path) -> None:
    told = Told(back=None, verdict=Verdict.NOT_RESTORED)
    told.viewer(told.run("stay", stays=True), "there", outcome=None)
    written(told, tmp_path)
    suites = ET.fromstring((tmp_path / "junit.xml").read_text())
    failed = {case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None}
    assert failed == {"drill", "edge restored"}
    assert "never seen to be gone" in Page((tmp_path / "scorecard.html").read_text()).text


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    written(usual(), tmp_path)
    page = Page((tmp_path / "scorecard.html").read_text())
    assert page.named == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "default-src 'none'" in (tmp_path / "scorecard.html").read_text()


def test_the_page_says_all_that_was_measured(tmp_path: Path) -> None:
    written(usual(), tmp_path)
    text = Page((tmp_path / "scorecard.html").read_text()).text
    for words in (
        "Pass",
        "1 of 1 fault seen to be gone again; ledger: nothing open",
        "Time to detect 3.50 s starts (gate)",
        "Time to mitigate 10.50 s only by the restore",
        "Viewers hit 4 of 11 0 of 2 outside the target",
        "2 unaffected, 2 restarted",
        "sandbox fault edge-b down",
        "sandbox fault edge-b up",
        "put back at 18.00 s by the runner, seen to be gone at 18.40 s (400 ms later)",
        "3× signal/http_503",
        "First frame again after the restore: hls in eu after 1.20 s, whep in eu after 1.20 s",
        "elsewhere none of 2",
        "0.42 of 4 processors",
        "the same as last time",
    ):
        assert words in text, words


def harsh() -> Told:
    """Everything that can go wrong: two faults, one vanished and one that failed on the way, the blast goes too far, messages and
    gifts are lost, the probe is unwell, somebody acts, and conditions do not hold."""
    told = usual()
    told.verdict = Verdict.WEAKNESS
    for at, did in ((11.0, Did.WILL), (11.0, Did.INJECTING), (11.5, Did.FAILED), (17.0, Did.RESTORING), (17.5, Did.GONE)):
        detail = "to be injected: no route to the target" if did is Did.FAILED else ""
        told.facts.append(FaultDid(at=ns(at), fault="other", kind="process", did=did, detail=detail, by="watchdog"))
    told.facts.append(ActionSeen(at=ns(15.0), who="anna", words="drained eu"))
    run = told.run("sad", stays=True)
    told.viewer(run, "lost", protocol="rtmp", gap=(11.0, 28.6), outcome=CutOutcome.FAILED)
    us = told.run("stay-us-2", region="us", stays=True)
    told.viewer(us, "us-hit", region="us", protocol="hls", gap=(11.0, 14.0), outcome=CutOutcome.RESUMED)
    told.unwell(us, 25.0)
    told.run("talk", 9.0)
    for i, reason in enumerate(("not_seen", "http_503")):
        told.step("talk", 11.0 + i, 0.5, "chat", Failed(Where.CHAT, reason))
    told.step("talk", 12.0, 0.5, "gift", Failed(Where.GIFT, "counted_twice"))
    told.unwell("talk", 22.4)
    told.step("talk", 22.0, 0.5, "payment")
    told.checked(14.0, False, part="meanwhile", condition="playing >= 50%")
    told.checked(14.0, True, part="abort", condition="an abort")
    told.checked(14.0, None, part="recovery", condition="first_frame.p95 < 2s")
    told.alarm(16.0, name="DatabaseDown", ours=False, source="alertmanager")
    return told


def test_whatever_went_wrong_is_said(tmp_path: Path) -> None:
    told = harsh()
    score = written(told, tmp_path)
    text = Page((tmp_path / "scorecard.html").read_text()).text
    for words in (
        "Weakness",
        "2 of 2 faults seen to be gone again",
        "to be injected: no route to the target",
        "its target was gone at 17.50 s, and the fault with it",
        "never seen to be there",
        "1 failed",
        "Did not come back 1 of 13 by the drill's end",
        "elsewhere 1 of 3",
        "us, not meant",
        "meanwhile playing >= 50% eu did not hold",
        "would stop it an abort eu it stopped it",
        "first_frame.p95 < 2s eu cannot tell",
        "loop_lag (2×)",
        "chat meanwhile eu 0 of 2 1 0 0 1",
        "gift meanwhile eu 0 of 1 0 1 0 0",
        "payment afterwards eu – – – – – 1",
        "worse than last time (pass before, weakness now)",
    ):
        assert words in text, words
    found = picture(told)
    assert found.actions is not None and found.actions.marks[0].said == "anna: drained eu"
    assert [row.bars[0].kind for row in found.alarms] == ["alarm", "strange"]
    made = json.loads((tmp_path / "verdict.json").read_text())
    assert made["drill"]["viewers_hit_outside"] == 1
    assert {check["name"]: check["result"] for check in made["checks"]} == {
        "drill": "fail",
        "edge injected": "pass",
        "edge restored": "pass",
        "other injected": "inconclusive",
        "other restored": "pass",
        "steady start >= 95%": "pass",
        "meanwhile playing >= 50%": "fail",
        "abort an abort": "inconclusive",
        "recovery first_frame.p95 < 2s": "inconclusive",
        "recovery 95% of viewers reconnect within 10s": "pass",
    }
    assert score.verdict == "weakness"


def test_a_drill_that_touched_nothing_says_so(tmp_path: Path) -> None:
    told = usual()
    told.verdict = Verdict.ABORTED
    facts = [fact for fact in told.whole() if not isinstance(fact, FaultDid | AlertChanged | Checked)]
    score = measure(facts, told.observed, told.drill, plans=plans(), stays=told.stays)
    assert write(
        score, tmp_path, facts=facts, observations=told.observed, plans=plans(), stays=told.stays, redact=plain
    ) == []  # fmt: skip
    text = Page((tmp_path / "scorecard.html").read_text()).text
    for words in ("Aborted", "Nothing was touched.", "No condition was read.", "no fault was seen", "2 viewers"):
        assert words in text, words
    assert "How far it reached" not in text
    assert json.loads((tmp_path / "verdict.json").read_text())["drill"]["faults"] == []


def test_nobody_noticed_is_said_in_words(tmp_path: Path) -> None:
    told = Told()
    told.viewer(told.run("stay", stays=True), "there")
    written(told, tmp_path)
    text = Page((tmp_path / "scorecard.html").read_text()).text
    assert "Time to detect never no alert and no gate fired" in text
    assert "nobody watched anywhere else, so how far it reached is not known" in text


def test_what_a_server_said_stands_there_as_text_and_without_secrets(tmp_path: Path) -> None:
    told = usual()
    told.alarm(15.0, name="<script>alert(1)</script>\x1b[2J", source="alertmanager")
    told.alarm(15.5, name="hunter2", source="alertmanager")
    written(told, tmp_path, lambda text: text.replace("hunter2", "[hidden]"))
    html = (tmp_path / "scorecard.html").read_text()
    assert "<script" not in html and "\x1b" not in html
    for name in FILES:
        assert "hunter2" not in (tmp_path / name).read_text(), name


def test_a_file_that_cannot_be_written_stops_no_other(tmp_path: Path) -> None:
    told = usual()
    (tmp_path / "verdict.json").mkdir()
    found = write(
        whole(told), tmp_path, facts=told.whole(), observations=told.observed, plans=plans(), stays=told.stays, redact=plain
    )
    assert found == ["verdict.json"]
    assert (tmp_path / "scorecard.html").stat().st_size > 10_000


# -- the picture


def test_everything_stands_on_one_axis() -> None:
    found = picture(usual())
    (fault,) = found.faults
    pending, stood, mending = fault.bars
    assert pending.at == pytest.approx(100 * 10 / 30, abs=0.01)
    assert stood.at == pytest.approx(100 * 10.5 / 30, abs=0.01)
    assert stood.at + stood.width == pytest.approx(100 * 18 / 30, abs=0.01)
    assert mending.at + mending.width == pytest.approx(100 * 18.4 / 30, abs=0.01)
    assert [(line.kind, round(line.at, 1)) for line in found.lines] == [("inject", 35.0), ("restore", 61.3)]
    (alarm,) = found.alarms
    assert alarm.bars[0].kind == "alarm"
    assert alarm.bars[0].at == pytest.approx(100 * 14 / 30, abs=0.01)
    for row in (*found.faults, *found.alarms, *found.cohorts, *found.starts, found.phases):
        for bar in (*row.bars, *row.marks):
            assert 0 <= bar.at <= 100 and bar.width >= 0 and bar.at + bar.width <= 100.01 and 0 < bar.height <= 100


def test_the_drawing_has_a_row_of_each_and_the_faults_instants_through_all_of_them(tmp_path: Path) -> None:
    told = harsh()
    written(told, tmp_path)
    html = (tmp_path / "scorecard.html").read_text()
    drawn = html[html.index('<div class="chart picture">') : html.index("What was expected")]
    rows = [ET.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", drawn, re.DOTALL)]
    found = picture(told)
    assert found.actions is not None and found.health is not None
    expected = (*found.faults, *found.alarms, found.actions, *found.cohorts, *found.starts, found.health)
    assert len(rows) == 1 + len(expected) + 1, "the phases above, the axis below"
    assert [svg.get("aria-label", "").partition(":")[0] for svg in rows[1:-1]] == [row.label for row in expected]
    for svg, row in zip(rows[1:-1], expected, strict=True):
        kinds = [line.get("class") for line in svg.findall("line")]
        assert (kinds.count("inject"), kinds.count("restore")) == (1, 2), "one was seen to be there, two to be gone"
        drawn_bars = [rect for rect in svg.findall("rect") if rect.find("title") is not None]
        assert [rect.get("class") for rect in drawn_bars] == [bar.kind for bar in row.bars]
        for rect in svg.findall("rect"):
            x, width = (float(rect.get(name, "").removesuffix("%")) for name in ("x", "width"))
            assert 0 <= x <= x + width <= 100.01
            assert float(rect.get("y", "")) >= 0 and float(rect.get("y", "")) + float(rect.get("height", "")) <= 30.01


def test_a_gap_of_everybody_is_a_gap_in_the_strip() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    for i in range(3):
        told.viewer(run, f"v{i}", gap=(12.0, 19.0), outcome=CutOutcome.RESTARTED)
    (row,) = picture(told).cohorts
    kinds = {round(bar.at * 30 / 100): bar.kind for bar in row.bars}
    assert all(kinds[second] == "away" for second in range(13, 18))
    assert all(kinds[second] == "frames" for second in (*range(3, 11), *range(20, 29)))


def test_a_gap_of_some_is_a_lower_bar() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    for i in range(4):
        gap = (12.0, 19.0) if i == 0 else None
        told.viewer(run, f"v{i}", gap=gap, outcome=CutOutcome.RESTARTED if gap else CutOutcome.UNAFFECTED)
    (row,) = picture(told).cohorts
    bar = next(bar for bar in row.bars if round(bar.at * 30 / 100) == 15)
    assert bar.kind == "frames thin" and bar.height == pytest.approx(75, abs=2)


def test_starts_are_ticks_good_bad_or_not_told() -> None:
    told = usual()
    told.run("odd", 5.0)
    told.start("odd", 5.0)
    told.unwell("odd", 5.4)
    row = next(row for row in picture(told).starts if (row.label, row.note) == ("starts, whep", "eu"))
    kinds = [mark.kind for mark in row.marks]
    assert (kinds.count("good"), kinds.count("bad"), kinds.count("unsure")) == (6, 3, 1)
    assert row.value == "6 of 9"


def test_when_the_probe_was_unwell_stands_on_the_axis_too() -> None:
    told = usual()
    assert picture(told).health is None
    told.unwell("stay-eu", 20.0)
    told.unwell("stay-us", 20.2)
    row = picture(told).health
    assert row is not None
    (bar,) = row.bars
    assert (bar.kind, bar.said, row.value) == ("unwell", "loop_lag", "700 ms")


def test_a_long_drill_has_no_more_slices_than_can_be_seen() -> None:
    told = Told(ends=3600.0)
    told.viewer(told.run("stay", stays=True), "there")
    found = picture(told)
    assert len(found.cohorts[0].bars) <= 180
    assert found.step == "20 s"


# -- several, and the last one


def test_the_index_links_every_drill_with_its_strip(tmp_path: Path) -> None:
    well, weak = usual().score(), usual()
    weak.verdict = Verdict.WEAKNESS
    write_index([(well, "edge-down"), (weak.score(), "weak one")], tmp_path, redact=plain)
    html = (tmp_path / "index.html").read_text()
    page = Page(html)
    assert page.named == ["edge-down/scorecard.html", "weak%20one/scorecard.html"]
    assert "1 of 2 drills passed" in page.text and "weakness" in page.text
    assert len(re.findall(r"<svg height=\"26\"", html)) == 2


def test_a_scorecard_is_read_back_from_its_directory(tmp_path: Path) -> None:
    score = written(usual(), tmp_path)
    assert read_score(tmp_path) == read_score(tmp_path / "scorecard.json") == score


def test_of_several_drills_the_one_of_that_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "edge-down").mkdir()
    score = written(usual(), tmp_path / "edge-down")
    assert read_score(tmp_path, "edge-down") == score
    with pytest.raises(ConfigError, match="is of drill edge-down, not of other"):
        read_score(tmp_path / "edge-down", "other")


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("{", "no scorecard"), ('{"schema_version": 2}', "no scorecard")]
)
def test_what_is_no_scorecard_is_refused_by_name(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "scorecard.json").write_text(text)
    with pytest.raises(ConfigError, match=says) as refused:
        read_score(tmp_path)
    assert "scorecard.json" in str(refused.value)


@pytest.mark.parametrize(("width", "scheme"), [(500, 1), (1280, 0)])
def test_a_real_browser_draws_it(tmp_path: Path, width: int, scheme: int) -> None:
    chromium = requires("chromium", "chromium-browser", package="chromium")
    written(usual(), tmp_path)
    shot = tmp_path / "shot.png"
    command = [
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},1600"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"),
        *(f"--screenshot={shot}", (tmp_path / "scorecard.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, timeout=50, check=False)
    assert shot.stat().st_size > 30_000, "an unstyled or empty page is smaller"
    assert b"Content Security Policy" not in done.stderr
