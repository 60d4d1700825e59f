"""What a collector's answers mean, by the OTLP specification; whatever it says, an answer comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from probe.export.otlp_rules import REFUSALS, Again, Refused, Taken, meaning
from probe.model.clock import NS

NOW = 1_700_000_000 * NS
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def test_success_whole_and_partial() -> None:
    partial = ExportMetricsServiceResponse()
    partial.partial_success.rejected_data_points = 7
    partial.partial_success.error_message = "too old"
    assert meaning("metrics", 200, PROTOBUF, b"", NOW) == Taken()
    assert meaning("metrics", 200, PROTOBUF, partial.SerializeToString(), NOW) == Taken(7, "too old")
    assert meaning("traces", 202, {}, b"", NOW) == Taken()
    said = b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "no"}}'
    assert meaning("traces", 200, {"Content-Type": "application/json; charset=utf-8"}, said, NOW) == Taken(3, "no")
    assert meaning("traces", 200, {"Content-Type": "application/json"}, b"{}", NOW) == Taken()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_sent_again(status: int) -> None:
    assert meaning("traces", status, {}, b"", NOW) == Again(f"HTTP {status}")
    assert meaning("traces", status, {"Retry-After": "7"}, None, NOW) == Again(f"HTTP {status}", 7.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 415, 418, 500, 501, 505, 599])
def test_what_must_not(status: int) -> None:
    answer = meaning("traces", status, {"Retry-After": "7"}, b"", NOW)
    assert isinstance(answer, Refused) and answer.why in REFUSALS


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0), ("120", 120), ("99999999", 300), ("-5", 0), ("soon", 0), ("٣", 0), ("1e9", 0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30), ("Tue, 14 Nov 2023 22:10:00 GMT", 0), ("Tue, 14 Nov 2033 22:10:00 GMT", 300),
    ],
)  # fmt: skip
def test_how_long_to_wait(said: str, seconds: float) -> None:
    answer = meaning("traces", 503, {"Retry-After": said}, b"", NOW)
    assert isinstance(answer, Again) and answer.after == seconds


@given(
    st.sampled_from(["traces", "metrics"]),
    st.integers(200, 999),
    st.dictionaries(
        st.sampled_from(["Content-Type", "Retry-After"]),
        st.sampled_from(["application/json", "application/x-protobuf", "text/html", ""]) | st.text(max_size=40),
    ),
    st.none()
    | st.binary(max_size=80)
    | st.sampled_from([b"[" * 5000, b'{"partialSuccess": 1}', b"null", b'{"partialSuccess":{"rejectedSpans":1e999}}']),
)
def test_any_answer_has_a_meaning(kind: str, status: int, headers: dict[str, str], body: bytes | None) -> None:
    match meaning(kind, status, headers, body, NOW):
        case Taken(rejected, message):
            assert 200 <= status < 300 and rejected >= 0 and isinstance(message, str)
        case Again(why, after):
            assert why and 0 <= after <= 300
        case Refused(why):
            assert why in REFUSALS
