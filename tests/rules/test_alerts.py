"""Every alert says who, what to do and by when; none is made that does not; one fault has one."""

from dataclasses import replace

import pytest

from probe.errors import ConfigError
from probe.model.clock import NS
from probe.rules.alerts import ANNOTATIONS, LABELS, alerts
from probe.rules.conditions import Alert, Kind, Scope
from probe.rules.fleet import Beat, Cell, Fleet, Severity, Source
from probe.rules.selfwatch import due
from tests.rules.fleets import HOUR, MINUTE, REGIONS, cells, fleet, two_ingests


def by_name(found: Fleet) -> dict[str, Alert]:
    return {alert.name: alert for alert in alerts(found)}


def mistakes(found: Fleet) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        alerts(found)
    return [str(mistake) for mistake in refused.value.mistakes]


@pytest.mark.parametrize("found", [fleet(), two_ingests(every=5 * MINUTE), two_ingests(every=30 * MINUTE), fleet(REGIONS)])
def test_every_alert_is_complete(found: Fleet) -> None:
    for alert in alerts(found):
        assert all(alert.labels.get(name) or name in alert.by for name in LABELS), alert.name
        assert all(alert.annotations.get(name) for name in ANNOTATIONS), alert.name
        assert alert.severity is not Severity.P3
        assert not any("$value" in text for text in alert.annotations.values())


def test_an_alert_without_owner_action_or_sla_is_refused_at_the_place_of_its_objective() -> None:
    whole = fleet()
    first, second, *rest = whole.slos
    told = mistakes(replace(whole, slos=(replace(first, owner=" "), replace(second, action=""), *rest)))
    assert "room-start.yaml:14:1 objective room-start: alert RoomStartPage has no owner; write owner: into" in told[0]
    assert any(
        line.startswith("room-start.yaml:15:1 objective first-frame: alert RoomStartFirstFramePage has no action")
        for line in told
    )
    assert any("has no sla; write sla: {P1: 5m, P2: 4h}" in line for line in mistakes(replace(whole, sla={})))


def test_every_unsound_objective_is_told_at_once() -> None:
    whole = fleet()
    thin = [replace(slo, cells=cells(("eu",), 0.01)) for slo in whole.slos[:2]]
    told = mistakes(replace(whole, slos=tuple(thin)))
    assert [line.split(" ")[0] for line in told] == ["room-start.yaml:14:1", "room-start.yaml:15:1"]
    assert all("can never alert soundly" in line for line in told)


def test_two_objectives_that_would_share_a_name_are_refused() -> None:
    whole = fleet()
    twin = replace(whole.slos[0], name="start", scenario="room", place="")
    assert any(
        "2 alerts would be called RoomStartPage; rename the objective" in line
        for line in mistakes(replace(whole, slos=(*whole.slos, twin)))
    )


def test_the_direct_rule_and_the_burn_are_one_alert() -> None:
    found = [alert for alert in alerts(fleet()) if alert.slo and alert.slo.name == "room-start" and alert.severity is Severity.P1]
    assert [alert.name for alert in found] == ["RoomStartPage"]
    assert {type(condition).__name__ for condition in found[0].conditions} == {"Below", "Burn"}


def test_a_page_of_the_direct_rule_alone_is_of_that_kind() -> None:
    whole = fleet()
    loose = replace(whole.slos[0], target=0.82, below=0.3)
    assert by_name(replace(whole, slos=(loose,)))["RoomStartPage"].kind is Kind.DIRECT


def test_what_an_alert_can_name_goes_by_who_views_what() -> None:
    own = tuple(Cell(publish_region=region, region=region, runs_per_hour=60) for region in REGIONS)
    whole = fleet()

    def scopes(found: tuple[Cell, ...]) -> tuple[Scope, ...]:
        return by_name(replace(whole, slos=(replace(whole.slos[0], cells=found),)))["RoomStartPage"].scopes

    assert scopes(own) == (Scope.EVERYWHERE, Scope.REGION)
    assert scopes(cells(("eu",), 60)) == (Scope.PUBLISH, Scope.REGION)
    assert scopes(cells(("eu", "us"), 60)) == (Scope.EVERYWHERE, Scope.PUBLISH, Scope.REGION)
    assert scopes(own[:1]) == (Scope.REGION,)
    assert scopes(cells(("eu",), 0.4)) == (Scope.EVERYWHERE,)


def test_a_fault_seen_by_slow_cells_later_waits_for_them() -> None:
    whole = fleet()
    mixed = tuple(
        Cell(publish_region="eu", region=region, runs_per_hour=rate) for region, rate in zip(REGIONS, (60, 60, 6), strict=True)
    )
    page = by_name(replace(whole, slos=(replace(whole.slos[0], cells=mixed),)))["RoomStartPage"]
    assert 5 * MINUTE < page.hold <= 13 * MINUTE
    assert by_name(whole)["RoomStartPage"].hold == 0


def test_shadow_is_a_label() -> None:
    whole = fleet()
    made = by_name(replace(whole, slos=(replace(whole.slos[0], shadow=True),)))
    assert made["RoomStartPage"].labels["shadow"] == "true"
    assert "shadow" not in made["RegionSilent"].labels


def test_what_belongs_to_the_probe_is_the_fleets_owners() -> None:
    for alert in alerts(fleet()):
        if alert.slo is None:
            assert (alert.labels["slo"], alert.labels["owner"]) == ("probe", "media-sre")


def test_objectives_of_the_probe_stand_in_for_its_own_alerts() -> None:
    whole = fleet()
    assert not {"RunsMissing", "ProbeTainted"} & by_name(whole).keys()
    bare = replace(whole, slos=tuple(slo for slo in whole.slos if slo.source is Source.RUNS and slo.indicator != "taint_ratio"))
    assert {"RunsMissing", "ProbeTainted"} <= by_name(bare).keys()


def test_a_fleet_without_agents_still_has_a_watchdog() -> None:
    assert list(by_name(replace(fleet(), agents=(), slos=()))) == ["Watchdog"]


def test_a_schedule_with_pauses_is_not_due_at_any_time() -> None:
    whole = fleet()
    paused = replace(whole.agents[0], beats=(Beat(scenario="room-start", publish_region="eu", runs_per_hour=12, share=0.3),))
    assert due(replace(whole, agents=(paused,))) == {}
    alone = replace(whole, agents=(paused,), slos=())
    assert {"RegionSilent", "RegionStale"} <= by_name(alone).keys()
    assert "RunsMissing" not in by_name(alone)


def test_a_day_of_hourly_runs_does_not_make_silence_of_minutes() -> None:
    assert by_name(fleet(every=HOUR))["RegionSilent"].conditions[0].window == 6 * HOUR  # type: ignore[union-attr]
    assert by_name(fleet())["RegionSilent"].conditions[0].window == 10 * MINUTE  # type: ignore[union-attr]


def test_an_sla_may_be_seconds() -> None:
    assert (
        "within 90s"
        in by_name(replace(fleet(), sla={Severity.P1: 90 * NS, Severity.P2: HOUR}))["RoomStartPage"].annotations["sla"]
    )
