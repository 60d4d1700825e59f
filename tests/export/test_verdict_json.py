"""verdict.json keeps its published schema; absent is absent; junit tells failure from error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import export
from probe.export.console import plain_lines, verdict_line
from probe.export.figures import quantile, rfc3339, watched
from probe.export.junit import junit_xml
from probe.export.report import report_html
from probe.export.results import Cause, Evaluation, JudgedRun, ObjectiveRun
from probe.export.verdict_json import MANY, verdict_document, verdict_json
from probe.export.verdict_model import json_schema
from probe.model.clock import MS, NS
from probe.model.observation import CutOutcome
from probe.model.outcome import Aborted, Cancelled, Failed
from probe.model.stage import Phase
from probe.model.verdict import Check, Verdict
from probe.net.redact import Redactor
from tests.export import sample

SCHEMA_FILE = Path(export.__file__).parent / "verdict.schema.json"


def plain(text: str) -> str:
    return text


def document(evaluation: Evaluation) -> dict[str, Any]:
    made = json.loads(verdict_json(evaluation, plain))
    jsonschema.validate(made, json.loads(SCHEMA_FILE.read_text()), format_checker=jsonschema.FormatChecker())
    assert isinstance(made, dict)
    return made


def walk(value: Any) -> list[Any]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value, *(leaf for item in inner for leaf in walk(item))]


def session(made: dict[str, Any], name: str) -> Any:
    return next(s for s in made["runs"][0]["sessions"] if s["name"] == name)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), "write probe.export.verdict_model.json_schema() to the file"
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("evaluation", [sample.failing(), sample.healthy(), sample.crowd()], ids=["failing", "healthy", "crowd"])
def test_every_evaluation_validates_and_holds_no_null(evaluation: Evaluation) -> None:
    made = document(evaluation)
    assert None not in walk(made)


def test_the_contracts_fields_are_there() -> None:
    made = document(sample.failing())
    assert {
        "schema_version",
        "kind",
        "result",
        "cause",
        "started_at",
        "evaluated_at",
        "expires_at",
        "probe",
        "target",
        "release",
    } < set(made)
    assert set(made["regions"][0]) == {"region", "result", "quorum"}
    assert {
        "run_id",
        "trace_id",
        "scenario",
        "mode",
        "seed",
        "publish_region",
        "region",
        "result",
        "attempts",
        "steps",
        "sessions",
    } < set(made["runs"][0])
    viewer = session(made, "viewer-1")
    wanted = {"session_id", "role", "protocol", "device", "region", "outcome", "taints", "first_frame_seconds", "stages"}
    assert wanted | {"e2e_latency_seconds", "frames", "freezes", "bitrate", "reconnects", "edges"} < set(viewer)
    assert {"p50", "p95", "max", "clock_error"} < set(viewer["e2e_latency_seconds"])
    assert made["started_at"] == "2026-11-21T09:00:00.000Z"


def test_the_common_factor_says_how_many_of_how_many_share_it() -> None:
    words = "2 of 7 whep viewers failed: ice/timeout"
    cause = Cause(words=words, fields={"protocol": "whep"}, count=2, of=7)
    evaluation = replace(sample.failing(), cause=cause)
    assert document(evaluation)["cause"] == {"words": words, "fields": {"protocol": "whep"}, "count": 2, "of": 7}
    assert verdict_line(evaluation, plain).count("2 of 7") == 1
    assert "<span>attempts</span>2 of 7" in report_html(evaluation, plain).replace("\u00a0", " ")
    bare = replace(evaluation, cause=replace(cause, words="edge-a is down"))
    assert "edge-a is down (2 of 7 attempts)" in verdict_line(bare, plain)
    assert "of" not in document(replace(evaluation, cause=replace(cause, count=None, of=None)))["cause"]


def test_stages_add_up_to_the_first_frame_within_a_millisecond() -> None:
    for s in document(sample.failing())["runs"][0]["sessions"]:
        if "first_frame_seconds" in s:
            assert sum(s["stages"].values()) == pytest.approx(s["first_frame_seconds"], abs=1e-3)


def test_what_was_not_measured_is_absent_and_never_zero() -> None:
    refused = session(document(sample.failing()), "viewer-5")
    assert refused["outcome"] == "failed"
    assert (refused["phase"], refused["reason"]) == ("first_frame", "black")
    for name in ("first_frame_seconds", "e2e_latency_seconds", "frames", "freezes", "bitrate"):
        assert name not in refused
    publisher = session(document(sample.failing()), "broadcaster")
    assert "start_seconds" in publisher
    assert "first_frame_seconds" not in publisher and "freezes" not in publisher


def test_a_reconnect_is_told_with_its_outage() -> None:
    made = document(sample.failing())
    (cut,) = session(made, "viewer-1")["reconnects"]
    assert cut["outcome"] == "restarted"
    assert cut["outage_seconds"] == pytest.approx(2.27)
    (bridged,) = session(made, "viewer-4")["reconnects"]
    assert bridged["outcome"] == "unaffected" and "outage_seconds" not in bridged
    (lost,) = session(made, "viewer-3")["reconnects"]
    assert (lost["outcome"], lost["phase"], lost["reason"]) == ("failed", "reconnecting", "timeout")


def test_a_picture_away_at_the_end_is_told_by_how_long_so_far_and_is_no_outage() -> None:
    evaluation = sample.healthy()
    run = evaluation.runs[0]
    viewer = next(s for s in run.result.sessions if s.name == "viewer-1")
    failure = Failed(Phase.PLAYING, "frozen")
    cut = replace(
        viewer.cuts[0], kind="unplanned", step="", outcome=CutOutcome.OPEN, outage=None, reconnect=None, so_far=1500 * MS,
        failure=failure,
    )  # fmt: skip
    sessions = tuple(replace(s, cuts=(cut,)) if s is viewer else s for s in run.result.sessions)
    run = replace(run, result=replace(run.result, sessions=sessions))
    made = document(evaluation_with(evaluation, run))
    (told,) = session(made, "viewer-1")["reconnects"]
    assert (told["outcome"], told["so_far_seconds"], told["reason"]) == ("open", 1.5, "frozen")
    assert "outage_seconds" not in told
    assert any("unplanned: still away after 1.50 s" in line for line in plain_lines(evaluation_with(evaluation, run), plain))
    assert "still away after" in report_html(evaluation_with(evaluation, run), plain)


def evaluation_with(evaluation: Evaluation, run: JudgedRun) -> Evaluation:
    return replace(evaluation, runs=(run, *evaluation.runs[1:]))


def test_seconds_before_the_first_picture_are_not_watched() -> None:
    viewer = next(s for s in sample.result(healthy=True).sessions if s.protocol == "hls")
    viewer = replace(viewer, cuts=())
    assert viewer.started is not None
    before = replace(viewer.windows[0], at=viewer.started - 1, verified=0, latencies=())
    assert watched(replace(viewer, windows=(before, *viewer.windows))) == watched(viewer) > 0


def test_freezes_of_our_own_cut_are_not_the_platforms() -> None:
    assert session(document(sample.healthy()), "viewer-1")["freezes"]["count"] == 0
    assert session(document(sample.failing()), "viewer-1")["freezes"]["count"] == 1  # the one before the cut


def test_attempts_add_up() -> None:
    attempts = document(sample.failing())["runs"][0]["attempts"]
    total = attempts.pop("total")
    assert total == sum(n for split in attempts.values() for n in split.values()) == 6
    assert attempts["done"]["tainted"] == 1


def test_above_fifty_sessions_there_are_groups_and_every_failure() -> None:
    run = document(sample.crowd(80, failures=3))["runs"][0]
    assert [s["outcome"] for s in run["sessions"]] == ["failed"] * 3
    (group,) = run["groups"]
    assert group["sessions"] == 80
    assert group["outcomes"] == {"failed": 3, "done": 77}
    assert group["first_frame_seconds"]["n"] == 77
    at_most = document(sample.crowd(MANY, failures=0))["runs"][0]
    assert len(at_most["sessions"]) == MANY and "groups" not in at_most


def test_no_secret_leaves_in_any_text() -> None:
    secret = "hunter2"
    base = sample.failing()
    run = base.runs[0]
    broken = replace(
        run.result.sessions[5], outcome=Failed(Phase.FIRST_FRAME, "black", f"token={secret}"), facts={"server": secret}
    )
    dirty = replace(
        base,
        release=f"r-{secret}",
        runs=(
            JudgedRun(
                result=replace(run.result, sessions=(*run.result.sessions[:5], broken), outcome=Aborted(secret)),
                verdict=Verdict.FAIL,
                checks=(Check(name=secret, result=Verdict.FAIL, reason=secret),),
            ),
        ),
    )

    def redact(text: str) -> str:
        return text.replace(secret, "•••")

    assert secret not in json.dumps(verdict_document(dirty, redact), ensure_ascii=False)
    assert secret not in junit_xml(dirty, redact)


@pytest.mark.parametrize("secret", ["done", "viewer", "pass", "fail", "smoke", "http_500", "ice"])
def test_a_secret_that_is_one_of_our_words_leaves_the_verdict_readable(secret: str) -> None:
    made = verdict_document(sample.failing(), Redactor(secret).redact)
    jsonschema.validate(made, json_schema())
    assert made["result"] == "fail" and {s["role"] for s in made["runs"][0]["sessions"]} == {"publisher", "viewer"}


def test_a_number_that_is_none_never_reaches_the_file() -> None:
    base = sample.failing()
    run = base.runs[0]
    poisoned = replace(run, checks=(Check(name="x", result=Verdict.INCONCLUSIVE, value=float("nan")),))
    with pytest.raises(ValueError, match="finite"):
        verdict_json(replace(base, runs=(poisoned,)), plain)


def test_junit_tells_failure_error_and_skipped_apart() -> None:
    root = ET.fromstring(junit_xml(sample.failing(), plain).split("\n", 1)[1])
    suite = root.find("testsuite")
    assert suite is not None
    kinds = {case.get("name"): [child.tag for child in case] for case in suite.findall("testcase")}
    assert kinds["login"] == []
    assert kinds["gift"] == ["failure"]
    assert kinds["moderate"] == ["skipped"]
    assert kinds["viewer-3 (viewer whep)"] == ["failure"]  # started, cut, never came back
    assert kinds["reconnect p95"] == ["error"]
    assert root.get("tests") == str(len(kinds))
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("6", "1", "1")


def test_junit_does_not_fail_on_what_was_optional() -> None:
    base = sample.failing()
    run = base.runs[0]
    sessions = tuple(replace(s, optional=True) for s in run.result.sessions)
    steps = tuple(replace(s, outcome=Cancelled()) for s in run.result.steps)
    text = junit_xml(
        replace(base, runs=(replace(run, result=replace(run.result, sessions=sessions, steps=steps), checks=()),)), plain
    )
    root = ET.fromstring(text.split("\n", 1)[1])
    assert (root.get("failures"), root.get("errors")) == ("0", str(len(steps)))


def test_junit_tells_aborted_from_in_flight_and_a_warning_passes() -> None:
    base = sample.failing()
    run = base.runs[0]
    ends = (Aborted("decoder died"), None)
    steps = tuple(replace(step, outcome=end) for step, end in zip(run.result.steps, ends, strict=False))
    result = replace(run.result, steps=steps, sessions=())
    text = junit_xml(
        replace(
            base,
            runs=(replace(run, result=result, checks=(Check(name="slow", result=Verdict.WARN, value=2.0, unit="seconds"),)),),
        ),
        plain,
    )
    root = ET.fromstring(text.split("\n", 1)[1])
    assert [error.get("type") for error in root.iter("error")] == ["aborted", "in_flight"]
    assert root.get("failures") == "0"
    assert [out.text for out in root.iter("system-out")] == ["warn: 2 seconds; n=0, needs 0"]


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_any_text_survives_json_and_xml(text: str) -> None:
    base = sample.healthy()
    run = base.runs[0]
    steps = (replace(run.result.steps[0], step=text, outcome=Failed(Phase.ROOM, "timeout", text)),)
    hostile = replace(
        base, runs=(replace(run, result=replace(run.result, steps=steps), checks=(Check(name=text, result=Verdict.WARN),)),)
    )
    safe = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if safe == text:
        assert json.loads(verdict_json(hostile, plain))["runs"][0]["steps"][0]["step"] == text
    ET.fromstring(junit_xml(hostile, plain).encode("utf-8"))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_that_was_measured(values: list[float], q: float) -> None:
    found = quantile(values, q)
    assert found in values
    assert quantile(values, 0) == min(values) and quantile(values, 1) == max(values)


@given(st.integers(0, 4_000_000_000 * NS))
def test_times_are_rfc_3339(unix_ns: int) -> None:
    jsonschema.validate(rfc3339(unix_ns), {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"})


def test_a_run_says_its_part_in_each_objective_and_no_protocol_where_the_objective_has_none() -> None:
    run = replace(
        sample.healthy().runs[0],
        objectives=(ObjectiveRun("room-start", "", "good"), ObjectiveRun("first-frame", "whep", "inconclusive")),
    )
    made = verdict_document(replace(sample.healthy(), runs=(run,)), str)
    jsonschema.validate(made, json.loads(SCHEMA_FILE.read_text()))
    assert made["runs"][0]["objectives"] == [
        {"slo": "room-start", "outcome": "good"},
        {"slo": "first-frame", "protocol": "whep", "outcome": "inconclusive"},
    ]
