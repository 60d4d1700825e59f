"""Runbooks say what a paged person needs, keep what people wrote, and are due for review when it was promised."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from jsonschema import validate
from ruamel.yaml import YAML

from probe.agent.fleet_file import load_fleet
from probe.cli.files import find, vocabulary
from probe.errors import ConfigError
from probe.model.stage import Phase
from probe.rules.advice import advice, phases, phases_of
from probe.rules.alerts import alerts
from probe.rules.conditions import Alert, Below, Burn, Kind, Silent
from probe.rules.escalated import escalation
from probe.rules.fleet import Agent, Fleet, Links, Severity
from probe.rules.review import METRIC, review, review_group
from probe.rules.runbooks import edited, reviews, runbooks
from probe.scenario.indicators import INDICATORS
from probe.scenario.oncall_file import load_oncall, loads_oncall
from probe.scenario.runbooks import NotesFile, Runbooks, json_schema, load_beside, load_runbooks
from tests.rules.fleets import HOUR, MINUTE, fleet, two_ingests
from tests.tools import ROOT


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "runbooks.yaml"


def loaded(path: Path, text: str) -> NotesFile:
    path.write_text(text)
    return load_runbooks(path)


def book(of: Fleet, name: str, notes: NotesFile | None = None, **changes: object) -> str:
    found = [replace(alert, **changes) if alert.name == name else alert for alert in alerts(of)]  # type: ignore[arg-type]
    return runbooks(of, found, notes)[f"runbooks/{name}.md"]


def section(text: str, title: str) -> str:
    """What stands below a heading, until the next that is as high."""
    head = re.search(rf"^(##+) {re.escape(title)}\n", text, re.MULTILINE)
    assert head, f"no {title} in {text}"
    return re.split(rf"^#{{2,{len(head[1])}}} ", text[head.end() :], maxsplit=1, flags=re.MULTILINE)[0]


PARTS = ("What it means", "First three looks", "Do", "Roll back", "Who", "When it is over")


@pytest.mark.parametrize("of", [fleet(), two_ingests(), replace(fleet(), links=Links(), gates=())], ids=["one", "two", "bare"])
def test_every_alert_has_a_runbook_with_every_part_and_the_index_leads_to_it(of: Fleet) -> None:
    found = alerts(of)
    files = runbooks(of, found)
    assert set(files) == {
        "runbooks/README.md", "rules/runbooks.yaml", *(f"runbooks/{alert.name}.md" for alert in found),
    }  # fmt: skip
    for alert in found:
        text = files[f"runbooks/{alert.name}.md"]
        for part in PARTS:
            assert section(text, part).strip(), (alert.name, part)
        assert len(re.findall(r"^\d\. \*\*", section(text, "First three looks"), re.MULTILINE)) == 3
        assert f"| owner | {alert.labels['owner']} |" in text and alert.expr in text
        assert alert.annotations["action"][1:] in section(text, "Do")
        assert "{{" not in text.replace(alert.expr, "") and "None" not in text and "\n\n\n" not in text
        assert f"[{alert.name}]({alert.name}.md)" in files["runbooks/README.md"]


def test_every_table_is_a_table() -> None:
    """As many cells in each row as in its head: Markdown drops what is beyond."""
    for text in runbooks(two_ingests(), alerts(two_ingests())).values():
        width = 0
        for line in text.splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("| ") else 0
            assert not cells or not width or cells == width, line
            width = cells


def test_each_objectives_indicator_has_advice_of_its_own_and_each_kind_of_ours() -> None:
    texts = [advice(Kind.BURN, name).means for name, row in INDICATORS.items() if row.objective]
    assert len(set(texts)) == len(texts)
    for kind in (Kind.SILENCE, Kind.STALE, Kind.TAINT, Kind.WATCHDOG):
        assert advice(kind, "").causes
    assert set(phases()) == set(Phase)


@pytest.mark.parametrize(
    ("indicator", "protocols", "has", "has_not"),
    [
        ("start", ["whep"], {"ice", "dtls", "keyframe"}, {"playlist", "ack", "room"}),
        ("room_start", ["whip", "hls"], {"ice", "playlist", "ack", "room"}, {"part", "playing"}),
        ("publisher_start", ["rtmp"], {"handshake", "join", "ack"}, {"ice", "room"}),
        ("first_frame", ["something-new"], {"ice", "playlist", "handshake"}, {"ack"}),
        ("reconnect", ["srt"], {"reconnecting", "auth", "handshake"}, {"ice"}),
        ("gift", ["whep"], {"gift", "connect"}, {"ice", "chat"}),
        ("freeze_ratio", ["whep"], set(), set(Phase)),
    ],
)
def test_phases_are_those_that_can_fail_there(indicator: str, protocols: list[str], has: set[str], has_not: set[str]) -> None:
    found = {phase.value for phase in phases_of(indicator, protocols)}
    assert has <= found and not has_not & found


def test_numbers_are_those_of_the_rule() -> None:
    conditions = (
        Burn(short=5 * MINUTE, long=HOUR, factor=14.4, bad=3, fresh=2),
        Below(window=10 * MINUTE, ratio=0.9, runs=4, bad=3),
    )
    text = book(two_ingests(), "RoomStartPage", conditions=conditions, hold=2 * MINUTE, keep=10 * MINUTE)
    assert (
        "| fires | more than 7.2 % of runs bad, at least 3, over 1h and, at least 2 of them, over 5m (14.4 × the budget); or"
        " fewer than 90 % of runs good over 10m, of at least 4, 3 of them bad, for 2m; asked apart by publishing region and"
        " viewing region;"
    ) in text
    assert "| may be bad | 0.5% of runs: some 1,296 of 259,200 runs in 30d |" in text
    assert "| over | by itself, at most 15m to 20m after the last bad run |" in text
    rollback = section(text, "Roll back")
    assert "in the 1h before it began" in rollback and "no better 10m after the first relief" in rollback
    assert "`probe smoke room-start --region REGION --repeat 6 --compare LAST-GOOD`" in rollback
    silent = book(two_ingests(), "RegionSilent", conditions=(Silent(window=15 * MINUTE, share=0.5),))
    assert "| fires | fewer than 50 % of the runs due over 15m were made; asked apart by viewing region |" in silent


def test_each_place_has_its_own_links() -> None:
    looks = section(book(two_ingests(), "RoomStartPage"), "First three looks")
    assert re.findall(r"^\| ((?:published|viewed) in \w+) \|", looks, re.MULTILINE) == [
        "published in eu", "published in us", "viewed in eu", "viewed in us", "viewed in apac",
    ]  # fmt: skip
    assert looks.count("http://apac.probe.example:9464/runs?region=apac&scenario=room-start&verdict=fail") == 3
    assert "&var-publish_region=us)" in looks and "&var-region=apac)" in looks
    assert "`https://traces.example/trace/TRACE_ID`" in looks
    assert "| 180 runs/h |" in looks and "| 120 runs/h |" in looks
    bare = section(book(replace(two_ingests(), links=Links()), "RoomStartPage"), "First three looks")
    assert "`/runs` of its agent" in bare and "http" not in bare
    ours = section(book(two_ingests(), "RegionSilent"), "First three looks")
    assert "| apac: apac-1 | [dashboard](https://grafana.example/d/streamprobe-probe?" in ours


def test_what_is_measured_at_some_hours_only_is_said_so() -> None:
    paused = [replace(slo, cells=tuple(replace(cell, share=0.25) for cell in slo.cells)) for slo in two_ingests().slos]
    agents = tuple(
        replace(agent, beats=tuple(replace(beat, share=0.5) for beat in agent.beats)) for agent in two_ingests().agents
    )
    of = replace(two_ingests(), slos=tuple(paused[:1]), agents=agents)
    text = book(of, "RoomStartPage")
    assert "| 120 runs/h, 25% of the week |" in text and "some 324 of 64,800 runs in 30d" in text
    assert "| 120 runs/h, 50% of the week |" in book(of, "RegionSilent")
    idle = replace(two_ingests(), agents=(*agents, Agent(name="spare-1", region="eu", beats=())))
    assert "| eu: spare-1 |" in book(idle, "AgentsMissing") and "| 0 runs/h |" in book(idle, "AgentsMissing")


def test_a_gate_on_the_same_indicator_is_named_and_others_are_not() -> None:
    said = "- Gate `hold-campaign` is part of it: closes by region at `room_start[10m] < 90% and failures >= 3 for 2m`, opens at"
    assert said in section(book(fleet(), "RoomStartPage"), "Do")
    assert "hold-campaign" not in book(fleet(), "RoomStartPaymentsPage")


def test_what_is_about_the_probe_rolls_nothing_of_the_platform_back() -> None:
    for alert in alerts(fleet()):
        said = section(book(fleet(), alert.name), "Roll back")
        assert ("no ground to roll anything of the platform back" in said) == (
            alert.slo is None or alert.slo.indicator in ("taint_ratio", "coverage")
        )


NOTES = """\
owner: media-sre
reviewed: 2026-11-02
runbooks:
  all: {text: "The war room is `#live`."}
  burn: {rollback: "In the first hour, always."}
  room-start:
    owner: ingest
    every: 60d
    text: |
      Drain with `ops drain`.

      Then wait.
    regions: {apac: Call the desk., eu: Ask Anna.}
  RoomStartPage:
    text: Only the page.
    regions: {apac: Twice.}
    incidents:
      - {on: 2026-11-10, what: "ingest | full", link: "https://wiki.example/17"}
      - {on: 2026-09-10, what: before the review}
"""


def test_what_people_wrote_is_there_whole_the_general_first(notes: Path) -> None:
    found = loaded(notes, NOTES)
    page, triage = book(two_ingests(), "RoomStartPage", found), book(two_ingests(), "RoomStartTriage", found)
    said = section(page, "Do")
    order = ["The war room is `#live`.", "Drain with `ops drain`.\n\nThen wait.", "Only the page."]
    assert [said.index(one) for one in order] == sorted(said.index(one) for one in order)
    assert section(page, "In apac").strip() == "Call the desk.\n\nTwice." and section(page, "In eu").strip() == "Ask Anna."
    assert "Drain with" in triage and "Only the page." not in triage and section(triage, "In apac").strip() == "Call the desk."
    assert "In the first hour, always." in section(page, "Roll back")
    other = book(two_ingests(), "RegionSilent", found)
    assert "The war room" in other and "Drain" not in other and "first hour" not in other
    assert "| 2026-11-10 | [ingest \\| full](https://wiki.example/17) |" in page and "| 2026-09-10 | before the review |" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "runbooks:\n  room-strat: {text: x}\n",
            "2:3 runbooks.room-strat: there is no alert, objective or kind of this name; did you mean room-start?",
        ),
        ("runbooks:\n  zzz: {text: x}\n", "known are all, kinds, objectives and alerts by name"),
        (
            "runbooks:\n  all:\n    regions: {mars: x}\n",
            "3:15 runbooks.all.regions.mars: no agent views or publishes there; there are apac, eu, us",
        ),
    ],
)  # fmt: skip
def test_a_note_about_nothing_is_a_mistake_with_its_place(notes: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runbooks(fleet(), alerts(fleet()), loaded(notes, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[1]", "is a list, not a mapping with runbooks:"),
        ("runbooks: {all: {reviewed: yesterday}}", "'yesterday' is not a day; write for example 2026-12-25"),
        ("reviewed: 20261102", "is not a day"),
        ("runbooks: {all: {every: 90}}", "90 has no unit"),
        ("runbooks: {all: {txt: x}}", "unknown field; did you mean 'text'?"),
        ("runbooks: {all: {incidents: [{on: 2026-10-03, what: x, link: 'javascript:x'}]}}", "link"),
        ("runbooks: {all: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_with_the_remedy(notes: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(notes, text)
    assert message in str(caught.value) and str(notes) in str(caught.value)


def test_a_file_written_into_by_hand_is_noticed() -> None:
    for path, text in runbooks(fleet(), alerts(fleet())).items():
        if path.endswith(".md"):
            assert not edited(text) and edited(text + "me too\n") and edited(text.partition("\n")[2])


def test_a_review_is_due_after_its_time_or_soon_after_an_incident(notes: Path) -> None:
    due = reviews(alerts(two_ingests()), loaded(notes, NOTES))
    assert due["RoomStartTriage"].due == date(2027, 1, 1) and due["RoomStartTriage"].owner == "ingest"
    assert due["RoomStartPage"].due == date(2026, 11, 17) and due["RoomStartPage"].because == "ingest | full"
    assert due["RegionSilent"].due == date(2027, 1, 31) and due["RegionSilent"].owner == "media-sre"
    assert "because of “ingest \\| full”, every 60d" in book(two_ingests(), "RoomStartPage", loaded(notes, NOTES))
    assert "| RoomStart" not in (index := runbooks(two_ingests(), alerts(two_ingests()))["runbooks/README.md"])
    assert "never read through |" in index


def test_what_nobody_ever_read_through_is_due_since_the_beginning() -> None:
    found = reviews(alerts(fleet()))["RoomStartPage"]
    assert found.reviewed is None and found.due_seconds == 0 and found.owner == "media-sre"
    assert "**never read through**" in book(fleet(), "RoomStartPage")


def test_a_review_that_comes_anyway_before_that_stays_where_it_is() -> None:
    soon = Runbooks.model_validate({
        "reviewed": "2026-11-09", "every": "3d", "runbooks": {"x": {"incidents": [{"on": "2026-11-10", "what": "y"}]}},
    })  # fmt: skip
    found = review(soon, [soon.runbooks["x"]], "o")
    assert found.due == date(2026, 11, 12) and found.because == ""


def test_reviews_are_recorded_by_runbook(notes: Path) -> None:
    group = review_group(reviews(alerts(two_ingests()), loaded(notes, NOTES)))
    rules = {rule.labels["runbook"]: rule for rule in group.rules}
    assert set(rules) == {alert.name for alert in alerts(two_ingests())}
    assert {rule.record for rule in group.rules} == {METRIC}
    assert rules["RoomStartTriage"].expr == "vector(1798761600)"  # date -u -d 2027-01-01 +%s


def test_no_file_is_as_good_as_an_empty_one_and_the_shipped_one_fits(tmp_path: Path) -> None:
    assert load_beside(tmp_path / "fleet.yaml") == NotesFile()
    shipped = load_beside(ROOT / "scenarios" / "fleet.yaml")
    assert shipped.runbooks.runbooks and shipped.file.endswith("runbooks.yaml")


def test_editors_get_a_schema_that_the_shipped_file_meets() -> None:
    schema = json_schema()
    shipped = YAML(typ="safe", pure=True).load(ROOT / "scenarios" / "runbooks.yaml")
    validate(json.loads(json.dumps(shipped, default=str)), schema)
    for model in (schema, *schema["$defs"].values()):
        assert all(field.get("description") and field.get("examples") for field in model["properties"].values())


ONCALL = """\
oncall: x
receivers: {a: &r {webhook: {url: "https://a.example/"}}, b: *r, f: *r, w: *r}
fallback: f
watchdog: {call: w}
escalation:
  P1:
    within: 5m
    steps: [{call: shift}, {after: 5m, call: backup}, {after: 10m, call: the head, by: pager}, {after: 1h, call: f}]
  P2: {within: 4h, clock: shifts}
queues:
  media:
    owners: [media-sre]
    shifts:
      - {shift: day, from: "08:00", to: "20:00", tz: Europe/Berlin, call: a, backup: b, regions: [eu]}
      - {shift: night, from: "20:00", tz: Europe/Berlin, call: b, backup: b, severities: [P1], regions: [eu]}
      - {shift: rest, tz: Europe/Berlin, call: b, backup: a, severities: [P1]}
"""


def test_who_is_called_comes_from_the_shifts_where_there_are_any() -> None:
    lines = escalation(loads_oncall(ONCALL, "oncall.yaml", examine=lambda _: ()))
    found = {alert.name: alert for alert in alerts(fleet())}
    assert lines(found["RoomStartPage"]) == [
        "At once: whoever is on in `media`: **a** from 08:00 to 20:00 (Europe/Berlin) for eu; **b** from 20:00 (Europe/Berlin)"
        " for eu; **b**.",
        "After 5m, if it still fires: their backup, **b** or **a**.",
        "After 10m, by the pager, where nobody has acknowledged: **the head**.",
        "After 1h, if it still fires: **f**.",
        "Somebody has looked within 5m. `probe oncall oncall.yaml --queue media --severity P1` says who is on.",
    ]
    assert lines(found["RoomStartTriage"])[-1].startswith("Somebody has looked within 4h, counted while somebody is on.")
    assert lines(found["Watchdog"]) == ["**w** is told every 1m, and calls when that stops."]
    orphan: Alert = replace(found["RoomStartPage"], labels={"owner": "nobody"})
    assert lines(orphan) == ["**f**, at any hour: no queue answers for nobody."]
    assert lines(replace(orphan, shadow=True)) == ["Nobody: it is only counted, as what would have been told."]
    text = runbooks(fleet(), alerts(fleet()), None, lines)["runbooks/RoomStartPage.md"]
    assert "1. At once: whoever is on in `media`" in section(text, "Who")


def test_without_shifts_it_is_the_owner_then_the_fleets() -> None:
    of = replace(fleet(), owner="operations", sla={Severity.P1: 5 * MINUTE, Severity.P2: HOUR})
    assert section(book(of, "RoomStartPage"), "Who").strip().splitlines()[:2] == [
        "1. **media-sre** looks within 5m and says so where the incident is talked about.",
        "2. **operations**, where nobody has looked by then.",
    ]


def test_the_shipped_notes_and_shifts_make_runbooks_of_the_shipped_fleet() -> None:
    folder = ROOT / "scenarios"
    of = load_fleet(folder / "fleet.yaml", env={}, words=vocabulary(), find=find).fleet
    oncall = load_oncall(folder / "oncall.yaml", examine=lambda _: ())
    files = runbooks(of, alerts(of), load_beside(folder / "fleet.yaml"), escalation(oncall))
    page = files["runbooks/RoomStartPage.md"]
    assert "`ops drain ingest-REGION`" in page and "**media-apac** from 08:00 (Asia/Tokyo)" in page
    assert "**growth**" in files["runbooks/RoomStartPaymentTriage.md"]
