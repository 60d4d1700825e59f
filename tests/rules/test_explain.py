"""What `--explain` says is worked out, of every alert, and for each cadence."""

from dataclasses import replace

import pytest

from probe.rules.alerts import alerts
from probe.rules.explain import Explained, explained
from probe.rules.fleet import Cell, Fleet, Severity
from tests.rules.fleets import MINUTE, fleet, two_ingests


def said(found: Fleet) -> dict[str, Explained]:
    return {one.alert: one for one in explained(found, alerts(found))}


def test_a_page_says_after_how_many_failures_and_how_soon() -> None:
    page = said(two_ingests(every=5 * MINUTE))["RoomStartPage"]
    total, slight = page.noticed
    assert (total.loss, total.failures, total.runs_per_hour) == (1.0, 3, 12.0)
    assert total.after == pytest.approx(15 * 60, abs=60)
    assert total.reset is not None and total.reset <= 30 * 60
    assert slight.after is None  # 2 % is four times what may fail: triage, not a page
    assert page.chance is not None and 0 < page.chance < 1


def test_a_slight_loss_is_triaged() -> None:
    triage = said(two_ingests(every=5 * MINUTE))["RoomStartTriage"]
    assert triage.severity is Severity.P2
    slight = triage.noticed[1]
    assert slight.after is not None and 12 * 3600 < slight.after < 36 * 3600


def test_conditions_are_told_in_words() -> None:
    found = said(two_ingests(every=5 * MINUTE))
    assert found["RoomStartPage"].fires == (
        "below 90% good over 20m, 3 failures at least",
        "above 7.2% bad over 10m and 1h (14.4 × 0.5%), 3 failures at least",
        "above 3% bad over 30m and 6h (6 × 0.5%), 5 failures at least, 2 of them in the last 30m",
    )
    assert found["RegionSilent"].fires == ("fewer than 10% of the runs due over 15m",)
    assert found["Watchdog"].fires == ("always",)


def test_thin_and_dense_cells_are_told_apart() -> None:
    whole = fleet()
    mixed = tuple(Cell(publish_region="eu", region=region, runs_per_hour=rate) for region, rate in (("eu", 60.0), ("us", 12.0)))
    page = said(replace(whole, slos=(replace(whole.slos[0], cells=mixed),)))["RoomStartPage"]
    assert [noticed.runs_per_hour for noticed in page.noticed] == [12.0, 12.0, 60.0, 60.0]
    slow, fast = page.noticed[0].after, page.noticed[2].after
    assert slow is not None and fast is not None and fast < slow


def test_silence_is_told_by_the_runs_that_are_due() -> None:
    silent = said(fleet())["RegionSilent"]
    assert silent.noticed[0].after == pytest.approx(10 * 60, abs=90)
    assert silent.chance is None


def test_as_a_document_what_is_absent_is_absent() -> None:
    document = said(fleet())["AgentsMissing"].document()
    assert "chance" not in document and "scenario" not in document
    assert document["noticed"] == ()
    assert document["fires"] == ("fewer agents are heard than the inventory has, for 10m",)
