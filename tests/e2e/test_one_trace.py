"""One run is one trace: what a collector is sent by probe and platform is a single tree, and trace.json is that tree."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from tests.e2e.conftest import Journey
from tests.peers.otlp import Span

pytestmark = pytest.mark.timing
PROBE = "stream-probe"
TOKEN = re.compile(r"[A-Za-z0-9_-]{40,}\.[A-Za-z0-9_-]{43}")  # as the sandbox makes them


def of_the_run(journey: Journey) -> dict[str, Span]:
    spans = [span for span in journey.collector.spans if span.trace_id == journey.trace_id]
    assert len({span.span_id for span in spans}) == len(spans), "a span was sent twice"
    return {span.span_id: span for span in spans}


def service(span: Span) -> str:
    return str(span.resource["service.name"])


def ancestors(span: Span, spans: dict[str, Span]) -> list[Span]:
    found = []
    while span.parent:
        span = spans[span.parent]
        found.append(span)
        assert len(found) < 20, "a circle of parents"
    return found


def test_all_spans_form_one_tree_without_orphans(journey: Journey) -> None:
    spans = of_the_run(journey)
    orphans = [f"{service(s)} {s.name}" for s in spans.values() if s.parent and s.parent not in spans]
    assert orphans == []
    (root,) = (span for span in spans.values() if not span.parent)
    assert (root.name, service(root)) == ("run room-start", PROBE)
    assert all(ancestors(span, spans)[-1] is root for span in spans.values() if span is not root)
    assert all(span.start <= span.end for span in spans.values())


def test_the_platforms_spans_stand_below_our_requests(journey: Journey) -> None:
    spans = of_the_run(journey)
    servers = [span for span in spans.values() if service(span) != PROBE and span.kind == "server"]
    services = Counter(service(span) for span in servers)
    for name in ("auth", "room", "whip", "whep", "hls", "chat", "payment", "gift", "moderation"):
        assert services[f"sandbox-{name}"], services
    for span in servers:
        parent = spans[span.parent]
        if service(span) == "sandbox-origin":
            assert service(parent) == "sandbox-hls"  # the edge asks the origin
        else:
            assert (service(parent), parent.kind) == (PROBE, "client"), f"{span.name} below {parent.name}"
    answered = {span.parent for span in servers}
    requests = [span for span in spans.values() if service(span) == PROBE and span.kind == "client"]
    # Some were cut off on purpose; whoever was answered was seen by the platform too.
    assert [s.name for s in requests if "http.response.status_code" in s.attributes and s.span_id not in answered] == []


def test_from_the_broadcasters_start_request_to_every_viewers_confirmation(journey: Journey) -> None:
    spans = of_the_run(journey)
    (start,) = (span for span in spans.values() if span.name == "POST whip")
    assert [span.name for span in ancestors(start, spans)] == ["publish whip", "step publish", "run room-start"]
    confirmed = [span for span in spans.values() if span.name == "playback confirmed"]
    viewers = Counter(spans[span.parent].name for span in confirmed)
    assert viewers == {"view whep": 3, "view hls": 2}
    assert all(span.start > start.start for span in confirmed)
    assert all(span.attributes["user_agent.synthetic.type"] == "test" for span in spans.values() if service(span) == PROBE)


def test_no_secret_stands_in_any_span(journey: Journey) -> None:
    for span in journey.collector.spans:
        text = repr((span.name, span.attributes, span.events, span.resource)).lower()
        assert not TOKEN.search(text) and "bearer" not in text and "password" not in text and "access_token" not in text, text


def test_trace_json_says_the_same(journey: Journey) -> None:
    sent = {span.span_id: (span.parent, span.name, service(span), span.start, span.end) for span in of_the_run(journey).values()}
    written: dict[str, tuple[Any, ...]] = {}
    for resource in json.loads(journey.file("trace.json"))["resourceSpans"]:
        name = next(a["value"]["stringValue"] for a in resource["resource"]["attributes"] if a["key"] == "service.name")
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                assert span["traceId"] == journey.trace_id
                times = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
                written[span["spanId"]] = (span.get("parentSpanId", ""), span["name"], name, *times)
    assert written == sent
