"""The metrics of a real run: linted, scraped while it went on, and adding up."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from probe.model.metrics import LABELS, PREFIX
from tests.e2e.conftest import Journey
from tests.peers import prometheus
from tests.tools import requires

pytestmark = pytest.mark.timing
Key = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def families(journey: Journey) -> list[Metric]:
    return list(text_string_to_metric_families(journey.file("metrics.prom")))


def values(families: list[Metric], name: str, without: tuple[str, ...] = ()) -> Counter[Key]:
    """Sums of a counter's samples by their labels, those in `without` left out."""
    found: Counter[Key] = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name == PREFIX + name:
                found[tuple(sorted((k, v) for k, v in sample.labels.items() if k not in without))] += int(sample.value)
    return found


def test_promtool_has_nothing_to_say(journey: Journey) -> None:
    assert prometheus.check_metrics(journey.file("metrics.prom")) == []


def test_no_label_beyond_the_contract_and_no_id_in_any(journey: Journey, families: list[Metric]) -> None:
    run = journey.ran.verdict["runs"][0]
    for family in families:
        assert family.name.startswith(PREFIX), family.name
        for sample in family.samples:
            inner = {"le"} if family.type == "histogram" else set()
            assert sample.labels.keys() <= LABELS | inner, sample
            said = " ".join(sample.labels.values())
            assert not any(text in said for text in ("://", "127.0.0.1", run["run_id"], run["trace_id"])), sample
            assert sample.value == sample.value, f"{sample} is not a number"


def test_attempts_are_the_sum_of_their_outcomes(journey: Journey, families: list[Metric]) -> None:
    attempts = values(families, "attempts_total")
    assert attempts == values(families, "outcomes_total", without=("outcome", "tainted")) and sum(attempts.values()) == 6
    by_protocol = Counter({dict(key)["protocol"]: count for key, count in attempts.items()})
    assert by_protocol == {"whip": 1, "whep": 3, "hls": 2}
    assert journey.ran.verdict["runs"][0]["attempts"]["total"] == 6
    assert sum(values(families, "runs_total").values()) == 1
    failures = values(families, "failures_total")
    assert len(failures) > 500 and sum(failures.values()) == 0, "failures that did not happen exist at 0"


def test_a_real_prometheus_saw_the_run_while_it_went_on_with_exemplars(journey: Journey) -> None:
    requires("prometheus")
    # Outcomes are counted when the run is judged, after the last scrape of a lone run; what is live was seen live.
    assert sum(journey.scraped["attempts_total"].values()) == 6
    assert sum(journey.scraped["failures_total"].values()) == 0
    frames = {(dict(key)["protocol"], dict(key)["kind"]): value for key, value in journey.scraped["frames_total"].items()}
    assert all(frames[protocol, "verified"] > 20 for protocol in ("whep", "hls"))
    assert sum(journey.scraped["e2e_latency_seconds_count"].values()) > 20
    seen = [exemplar for series in journey.exemplars for exemplar in series["exemplars"]]
    assert {exemplar["labels"]["trace_id"] for exemplar in seen} == {journey.trace_id}
    assert {series["seriesLabels"]["protocol"] for series in journey.exemplars} == {"whep", "hls"}
