"""Alertmanager's configuration: what amtool makes of it, and what of it only its own text shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from probe.errors import ConfigError
from probe.rules.alerts import alerts
from probe.rules.conditions import Kind, Scope
from probe.rules.fleet import Fleet, Severity
from probe.rules.inhibition import inhibitions, one_of
from probe.rules.notify import TEMPLATES, TEXTS
from probe.rules.routing import alertmanager
from probe.scenario.oncall import OnCall
from probe.scenario.oncall_file import load_oncall, loads_oncall
from tests.peers import alertmanager as peer
from tests.rules.fleets import HOUR, MINUTE, fleet, two_ingests
from tests.rules.oncalls import SUN, YEAR, faults, oncall, shifts
from tests.tools import ROOT

OWNERS = "[media-sre, payments, growth-lead]"  # of the small fleets
EVERY_WAY = """\
oncall: ways
receivers:
  all:
    webhook: {url: {file: secrets/url}}
    pagerduty: {routing_key: {file: secrets/pd}}
    slack: {url: {file: secrets/slack}, channel: "#live"}
    opsgenie: {api_key: {file: secrets/og}, teams: [live]}
    email: {to: [a@example.com, b@example.com]}
  some:
    webhook: {url: "https://pager.example/x", token: {file: secrets/token}}
    pagerduty: {service_key: {file: secrets/pd-service}}
    opsgenie: {api_key: {file: secrets/og}, api_url: "https://api.eu.opsgenie.com/"}
  outside: {webhook: {url: "https://snitch.example/x"}}
smtp: {smarthost: "mail.example.com:587", from: am@example.com, username: am, password: {file: secrets/smtp}}
fallback: some
watchdog: {call: outside, every: 2m}
escalation: {P1: {within: 5m}, P2: {within: 4h}}
queues:
  media:
    owners: [media-sre, growth-lead, payments]
    shifts: [{shift: always, tz: UTC, call: all}]
"""


def written(found: OnCall, one: Fleet | None = None) -> dict[str, Any]:
    one = one or fleet()
    text = alertmanager(one, alerts(one), found, YEAR)["alertmanager.yml"]
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return document


def shipped() -> OnCall:
    return load_oncall(ROOT / "scenarios" / "oncall.yaml", examine=faults, env={})


def everything(document: Any) -> list[Any]:
    """Every value in it."""
    if isinstance(document, dict):
        return [value for one in document.values() for value in everything(one)]
    return [value for one in document for value in everything(one)] if isinstance(document, list) else [document]


class TestAmtool:
    def test_takes_what_is_written(self, tmp_path: Path) -> None:
        found = oncall(
            SUN + "    overrides:\n      - {from: 2026-12-24T18:00, to: 2027-01-01T06:00, tz: Asia/Tokyo, call: lead}\n"
        )
        assert "SUCCESS" in peer.check(tmp_path, alertmanager(two_ingests(), alerts(two_ingests()), found, YEAR))

    def test_takes_every_way_to_tell_somebody(self, tmp_path: Path) -> None:
        files = alertmanager(fleet(), alerts(fleet()), load(EVERY_WAY), YEAR)
        # An address by file needs Alertmanager 0.26; all else is taken by 0.25.
        older = {path: text.replace("url_file: secrets/url", "url: http://x/") for path, text in files.items()}
        assert "SUCCESS" in peer.check(tmp_path, older)

    def test_takes_the_shipped_one(self, tmp_path: Path) -> None:
        one = replace(fleet(), slos=tuple(slo for slo in fleet().slos if slo.owner == "media-sre"))
        assert "SUCCESS" in peer.check(tmp_path, alertmanager(one, alerts(one), shipped(), YEAR))

    @pytest.mark.parametrize(
        ("labels", "receivers"),
        [
            # Everybody who may be on at some hour matches; intervals, which amtool does not look at, leave one of them.
            ({"owner": "media-sre", "severity": "P1", "region": "eu"}, ["asia", "europe", "lead", "phone"]),
            ({"owner": "media-sre", "severity": "P1", "region": "mars"}, ["asia", "america", "lead", "phone"]),
            ({"owner": "media-sre", "severity": "P2", "region": "eu"}, ["asia", "europe"]),
            ({"owner": "payments", "severity": "P1", "region": "eu"}, ["america", "lead", "phone"]),
            ({"owner": "nobody-known", "severity": "P1", "region": "eu"}, ["phone"]),
            ({"severity": "P1"}, ["phone"]),
            ({"owner": "media-sre", "severity": "P3", "region": "eu"}, ["phone"]),
            ({"owner": "media-sre", "region": "eu"}, ["phone"]),
            ({"owner": "media-sre", "severity": "P1", "region": "eu", "shadow": "true"}, ["shadow"]),
            ({"alertname": "Watchdog", "owner": "media-sre", "severity": "P2", "region": "all"}, ["outside"]),
        ],
    )
    def test_leads_each_alert_to_those_who_may_be_on(self, routed: Path, labels: dict[str, str], receivers: list[str]) -> None:
        found = peer.routes(routed, {"alertname": "RoomStartPage", "slo": "room-start", **labels})
        assert list(dict.fromkeys(found)) == receivers


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routed")
    queues = """\
  media:
    owners: [media-sre, growth-lead]
    shifts:
      - {shift: apac, from: "08:00", tz: Asia/Tokyo, call: asia, backup: lead}
      - {shift: eu, regions: [eu], from: "08:00", tz: Europe/Berlin, call: europe, backup: lead}
      - {shift: us, regions: [us, mars], severities: [P1], from: "08:00", tz: America/New_York, call: america, backup: phone}
  money:
    owners: [payments]
    shifts: [{shift: always, tz: UTC, call: america, backup: lead}]
"""
    steps = "escalation: {P1: {within: 5m, steps: [{}, {after: 5m, call: backup}]}, P2: {within: 4h, clock: shifts}}\n"
    peer.write(folder, alertmanager(fleet(), alerts(fleet()), oncall(queues, steps), YEAR))
    return folder


def load(text: str) -> OnCall:
    return loads_oncall(text, examine=lambda _: (), env={})


def test_secrets_are_files_and_stand_nowhere_else() -> None:
    document = written(load(EVERY_WAY))
    (told,) = (one for one in document["receivers"] if one["name"] == "all")
    files = {value for value in everything(document) if isinstance(value, str) and value.startswith("secrets/")}
    assert files == {f"secrets/{name}" for name in ("url", "pd", "slack", "og", "smtp", "token", "pd-service")}
    keys = {key for way in told.values() if isinstance(way, list) for key in way[0]}
    assert {"url_file", "routing_key_file", "api_url_file", "api_key_file"} <= keys
    assert document["global"]["smtp_auth_password_file"] == "secrets/smtp"


def test_the_watchdog_is_repeated_without_end_and_never_said_to_be_resolved() -> None:
    document = written(load(EVERY_WAY))
    route = document["route"]["routes"][0]
    assert route["matchers"] == ['alertname="Watchdog"']
    assert (route["receiver"], route["group_interval"], route["repeat_interval"]) == ("outside", "1m", "1m30s")
    assert "active_time_intervals" not in route and "mute_time_intervals" not in route
    outside = next(one for one in document["receivers"] if one["name"] == "outside")
    assert outside["webhook_configs"][0]["send_resolved"] is False


def test_what_nobody_takes_goes_to_the_fallback_at_any_hour() -> None:
    route = written(oncall())["route"]
    assert route["receiver"] == "phone"
    assert not {"mute_time_intervals", "active_time_intervals"} & route.keys()
    for queue in route["routes"][2:]:
        (hole,) = (one for one in queue["routes"] if "active_time_intervals" not in one)
        assert hole["receiver"] == "phone"
        on = {name for one in queue["routes"] for name in one.get("active_time_intervals", ())}
        assert set(hole["mute_time_intervals"]) == on


def test_a_page_is_sooner_and_oftener_repeated_than_a_triage() -> None:
    page, triage = written(oncall())["route"]["routes"][2:4]
    assert page["matchers"][1] == 'severity="P1"' and triage["matchers"][1] == 'severity="P2"'
    times = ("group_wait", "group_interval", "repeat_interval")
    assert [page[name] for name in times] == ["10s", "1m", "5m"]
    assert [triage[name] for name in times] == ["5m", "5m", "4h"]
    assert page["group_by"] == triage["group_by"] == ["slo", "region"]


def test_steps_wait_on_their_routes_and_the_pagers_are_not_routed() -> None:
    steps = (
        "escalation:\n  P1: {within: 5m, wait: 1s, again: 7m, steps: [{}, {after: 5m, call: backup}, {after: 9m, call: lead},"
        " {after: 20m, call: the boss, by: pager}]}\n  P2: {within: 4h, steps: [{call: lead}]}\n"
    )
    page, triage = written(
        oncall(shifts("shift: all, tz: UTC, call: europe, backup: america").replace("[media-sre]", OWNERS), steps)
    )["route"]["routes"][2:4]
    assert (page["group_wait"], page["repeat_interval"]) == ("1s", "7m")
    assert [(one["receiver"], one.get("group_wait")) for one in page["routes"]] == [
        ("europe", None),
        ("america", "5m"),
        ("lead", "9m"),
        ("phone", None),
    ]
    assert [(one["receiver"], one.get("active_time_intervals")) for one in triage["routes"]] == [("lead", None)]


def test_days_are_written_as_alertmanagers_weeks_and_months_have_them() -> None:
    overrides = "from: 2026-12-30T18:00, to: 2027-01-03T06:00, tz: UTC, call: lead"
    queue = shifts(
        'shift: a, from: "22:00", to: "06:00", days: [sun, mon, wed, thu, fri], tz: UTC, call: europe', overrides=overrides
    ).replace("[media-sre]", OWNERS)
    intervals = {one["name"]: one["time_intervals"] for one in written(oncall(queue))["time_intervals"]}
    assert intervals["media/a"] == [
        {
            "times": [{"start_time": "22:00", "end_time": "24:00"}],
            "weekdays": ["sunday:monday", "wednesday:friday"],
            "location": "UTC",
        },
        {
            "times": [{"start_time": "00:00", "end_time": "06:00"}],
            "weekdays": ["monday:tuesday", "thursday:saturday"],
            "location": "UTC",
        },
    ]
    assert intervals["media/2026-12-30"] == [
        {
            "times": [{"start_time": "18:00", "end_time": "24:00"}],
            "days_of_month": ["30:30"],
            "months": ["12"],
            "years": ["2026"],
            "location": "UTC",
        },
        {"days_of_month": ["31:31"], "months": ["12"], "years": ["2026"], "location": "UTC"},
        {"days_of_month": ["1:2"], "months": ["1"], "years": ["2027"], "location": "UTC"},
        {
            "times": [{"start_time": "00:00", "end_time": "06:00"}],
            "days_of_month": ["3:3"],
            "months": ["1"],
            "years": ["2027"],
            "location": "UTC",
        },
    ]


def test_a_shift_that_ends_at_another_time_in_some_region_has_an_interval_of_its_own_there() -> None:
    queue = shifts(
        'shift: a, from: "08:00", tz: UTC, call: europe', 'shift: b, regions: [us], from: "20:00", tz: UTC, call: america'
    ).replace("[media-sre]", OWNERS)
    names = [one["name"] for one in written(oncall(queue))["time_intervals"]]
    assert names == ["media/a", "media/b", "media/a (P1)"]


def test_intervals_that_would_be_called_alike_are_not() -> None:
    hours = [f"      - {{from: 2026-12-25T{n:02}:00, to: 2026-12-25T{n + 1:02}:00, tz: UTC, call: lead}}\n" for n in range(4)]
    document = written(oncall(SUN + "    overrides:\n" + "".join(hours)))
    names = [one["name"] for one in document["time_intervals"]]
    assert len(names) == len(set(names))
    assert {"media/2026-12-25", "media/2026-12-25 (P1)", "media/2026-12-25 (P1) #2", "media/2026-12-25 (P1) #3"} <= set(names)


def test_what_a_telephone_shows_says_what_to_do_first(tmp_path: Path) -> None:
    labels = {"alertname": "A", "severity": "P1", "slo": "room-start", "region": "eu", "owner": "media-sre"}
    notes = {"summary": "rooms do not start", "action": "drain it", "sla": "5m", "runbook": "https://r", "dashboard": "https://d"}
    one = {"status": "firing", "labels": labels, "annotations": notes}
    two = {"status": "resolved", "labels": labels, "annotations": {"summary": "no sound"}}
    data = {"status": "firing", "commonLabels": labels, "groupLabels": {}, "alerts": [one, one, two]}
    (tmp_path / "data.json").write_text(json.dumps(data))
    (tmp_path / TEMPLATES).write_text(TEXTS)

    def shown(name: str, **more: str) -> str:
        (tmp_path / "data.json").write_text(json.dumps({**data, **more}))
        said = f'{{{{ template "{name}" . }}}}'
        options = (
            f"--template.glob={tmp_path / TEMPLATES}",
            f"--template.text={said}",
            f"--template.data={tmp_path / 'data.json'}",
        )
        return peer.amtool("template", "render", *options)

    assert shown("probe.title").strip() == "P1 room-start in eu (2 alerts)"
    assert shown("probe.title", status="resolved").startswith("resolved: P1 room-start in eu")
    page = "rooms do not start\nDo first: drain it\nWithin: 5m\nOwner: media-sre\nRunbook: https://r\nDashboard: https://d"
    assert shown("probe.text").strip().split("\n\n") == [page, page, "resolved: no sound\nOwner: media-sre"]


class TestMisfits:
    def of(self, found: OnCall, one: Fleet) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            alertmanager(one, alerts(one), found, YEAR)
        return [str(mistake) for mistake in caught.value.mistakes]

    def test_an_owner_whom_no_queue_answers_for_is_named_with_its_place(self) -> None:
        assert self.of(oncall(shifts("shift: all, tz: UTC, call: europe")), fleet()) == [
            "room-start.yaml:16 owner: no queue of oncall test answers for 'payments'; there are media-sre",
            "gate hold-campaign of room-start owner: no queue of oncall test answers for 'growth-lead'; there are media-sre",
        ]

    def test_two_words_on_one_sla(self) -> None:
        one = replace(fleet(), sla={Severity.P1: 5 * MINUTE, Severity.P2: 2 * HOUR})
        assert self.of(oncall(), one) == ["fleet demo sla.P2: is 2h here and 4h in oncall test: say one"]

    def test_rules_without_a_watchdog(self) -> None:
        with pytest.raises(ConfigError, match="no alert always fires"):
            alertmanager(fleet(), [alert for alert in alerts(fleet()) if alert.kind is not Kind.WATCHDOG], oncall(), YEAR)

    def test_a_region_of_the_fleet_that_no_shift_takes(self) -> None:
        queue = shifts("shift: all, regions: [eu, us], tz: UTC, call: europe").replace("[media-sre]", OWNERS)
        remedy = "leave the regions of one away, or add it"
        assert self.of(oncall(queue), fleet()) == [
            f"oncall test queues.media.shifts: no shift takes {severity} of region apac: {remedy}" for severity in ("P1", "P2")
        ]
        assert self.of(oncall(queue.replace("[eu, us]", "[eu, us, apac]")), two_ingests()) == [
            f"oncall test queues.media.shifts: no shift takes {severity} of region all (all: what is bad everywhere): {remedy}"
            for severity in ("P1", "P2")
        ]


class TestInhibition:
    def test_every_equal_label_is_asked_to_be_there_on_both_sides(self) -> None:
        for one in (fleet(), two_ingests()):
            rules = inhibitions(alerts(one))
            assert rules
            for rule in rules:
                for label in rule["equal"]:
                    for side in ("source_matchers", "target_matchers"):
                        named = [m for m in rule[side] if m.startswith((f'{label}!=""', f'{label}="')) and m != f'{label}=""']
                        assert named, (label, rule)

    def test_shadows_and_the_watchdog_are_neither_source_nor_written_about(self) -> None:
        shadows = [replace(alert, shadow=True) for alert in alerts(fleet())]
        assert inhibitions(shadows) == []
        for rule in inhibitions(alerts(fleet())):
            assert 'shadow!="true"' in rule["source_matchers"]
            assert "Watchdog" not in str(rule)

    def test_where_nothing_can_be_bad_everywhere_nothing_is_said_of_it(self) -> None:
        def everywhere(found: list[dict[str, Any]]) -> bool:
            return any('region="all"' in rule["source_matchers"] for rule in found)

        wide = [replace(alert, scopes=tuple(Scope)) for alert in alerts(fleet())]
        assert (everywhere(inhibitions(alerts(fleet()))), everywhere(inhibitions(wide))) == (False, True)

    def test_a_room_start_that_is_tried_or_knows_no_place_keeps_nothing_of_its_viewers_quiet(self) -> None:
        def starts(**changed: Any) -> list[dict[str, Any]]:
            every = [replace(one, **changed) if one.name == "RoomStartPage" else one for one in alerts(two_ingests())]
            return [rule for rule in inhibitions(every) if 'alertname="RoomStartPage"' in rule["source_matchers"]]

        assert [rule["equal"] for rule in starts()] == [
            ["scenario", "region"], ["scenario", "region", "publish_region"], ["scenario"]
        ]  # fmt: skip
        assert starts(shadow=True) == starts(scopes=(Scope.EVERYWHERE,)) == []
        assert [rule["equal"] for rule in starts(scopes=(Scope.REGION,))] == [["scenario", "region"]]

    def test_a_matcher_takes_a_value_for_itself(self) -> None:
        assert one_of("owner", ["a.b"]) == 'owner="a.b"'
        assert one_of("owner", ["a.b", 'c"d']) == r'owner=~"a\\.b|c\"d"'
        assert one_of("region", ["eu", "us"], none=True) == 'region!~"eu|us"'
        assert one_of("region", ["eu"], none=True) == 'region!="eu"'
