"""The page about the metrics is the table's."""

from __future__ import annotations

import re

from probe.export.reference import reference
from probe.model.metrics import METRICS
from tests.tools import ROOT


def test_the_page_in_deploy_is_what_the_code_says() -> None:
    assert (ROOT / "deploy" / "metrics.md").read_text() == reference(), "make it anew: probe schema metrics > deploy/metrics.md"


def test_every_metric_and_every_label_stands_in_it() -> None:
    page = reference()
    first = re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)
    assert set(METRICS) <= set(first)
    assert {label for metric in METRICS.values() for label in metric.labels} <= set(first)
