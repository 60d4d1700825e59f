"""What a run comes to, read from verdict.json."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from probe.export.verdict_json import verdict_document
from probe.export.verdict_model import GroupDoc, ReconnectDoc, RunDoc, SessionDoc, StepDoc, VerdictDoc
from probe.judge import compare_figures
from probe.judge.compare_figures import RunFigures, figures_of
from probe.model.comparison import About
from tests.export import sample

Change = Callable[[dict[str, Any]], None]


def of(change: Change = lambda run: None, evaluation: Any = None) -> RunFigures:
    """The one run of a healthy evaluation, after `change` to its document's run."""
    document = copy.deepcopy(verdict_document(evaluation or sample.healthy(), lambda text: text))
    run = document["runs"][0]
    for one in (*run["sessions"], *run.get("groups", [])):
        one["device"] = "default"
    change(run)
    (found,) = figures_of(document)
    return found


def viewers(run: dict[str, Any], protocol: str = "whep") -> list[dict[str, Any]]:
    return [s for s in run["sessions"] if s["role"] == "viewer" and s["protocol"] == protocol]


def test_a_run_gives_one_value_for_each_thing_the_median_of_its_viewers() -> None:
    found = of()
    assert found.values[About("first_frame", "whep")] == pytest.approx(0.277, abs=0.001)
    assert found.values[About("e2e_latency", "whep")] == pytest.approx(0.084, abs=0.002)
    assert found.values[About("reconnect_seconds", "whep")] == pytest.approx(0.308)
    assert found.values[About("outage_seconds", "whep")] == pytest.approx(2.3, abs=0.05)
    assert found.values[About("publisher_seconds", "whip")] == pytest.approx(0.415, abs=0.001)
    assert found.good[About("room_start")] and found.good[About("start", "whep")] and found.good[About("crash_free", "hls")]
    assert found.stages[About("first_frame", "whep")]["signal"] == pytest.approx(0.05, abs=0.03)
    assert (found.place.scenario, found.release) == ("room-start", "2026.11.3") and found.began > 0


def test_what_it_reads_is_what_the_published_document_says() -> None:
    """Each field that is looked at is one of the schema's."""
    read: dict[type[BaseModel], type[BaseModel]] = {
        compare_figures.Document: VerdictDoc,
        compare_figures._Run: RunDoc,
        compare_figures._Session: SessionDoc,
        compare_figures._Step: StepDoc,
        compare_figures._Cut: ReconnectDoc,
        compare_figures._Group: GroupDoc,
    }
    for mine, published in read.items():
        assert mine.model_fields.keys() <= published.model_fields.keys()


def test_a_tainted_viewer_counts_for_nothing() -> None:
    def one_tainted(run: dict[str, Any]) -> None:
        viewers(run)[0] |= {"taints": ["loop_lag"], "first_frame_seconds": 99.0}

    assert of(one_tainted).values[About("first_frame", "whep")] < 1

    def all_tainted(run: dict[str, Any]) -> None:
        for session in run["sessions"]:
            session["taints"] = ["loop_lag"]

    found = of(all_tainted)
    assert About("first_frame", "whep") not in found.values and About("start", "whep") not in found.good
    assert About("room_start") not in found.good


def test_a_viewer_that_failed_makes_the_run_bad_and_gives_no_time() -> None:
    def failed(run: dict[str, Any]) -> None:
        for session in viewers(run):
            session |= {"outcome": "failed", "phase": "ice", "reason": "timeout"}
            session.pop("first_frame_seconds", None)

    found = of(failed)
    assert found.good[About("start", "whep")] is False and About("first_frame", "whep") not in found.values
    assert found.good[About("room_start")] is True  # somebody saw it, over HLS


def test_a_room_that_did_not_start_is_bad_and_one_that_never_was_to_is_none() -> None:
    def refused(run: dict[str, Any]) -> None:
        for session in run["sessions"]:
            session |= {"outcome": "failed"} if session["role"] == "publisher" else {"outcome": "skipped"}

    assert of(refused).good[About("room_start")] is False

    def skipped(run: dict[str, Any]) -> None:
        for session in run["sessions"]:
            session["outcome"] = "skipped"

    assert About("room_start") not in of(skipped).good

    def elsewhere(run: dict[str, Any]) -> None:
        run["steps"] = [step for step in run["steps"] if step["kind"] != "view"]

    assert About("room_start") not in of(elsewhere).good


def test_steps_give_their_time_and_services_their_word() -> None:
    found = of()
    steps = {about.step for about in found.values if about.indicator == "step_seconds"}
    assert {"login", "chat", "gift"} <= steps and not {"publish", "view", "cut", "end"} & steps
    assert found.good[About("auth")] and found.good[About("chat")]

    def lost(run: dict[str, Any]) -> None:
        next(step for step in run["steps"] if step.get("service") == "chat")["outcome"] = "failed"

    assert of(lost).good[About("chat")] is False


def test_cuts_that_nobody_came_back_from_make_the_run_bad_and_open_ones_are_not_told() -> None:
    def ended(outcome: str) -> Change:
        def change(run: dict[str, Any]) -> None:
            for session in viewers(run):
                session["reconnects"][0]["outcome"] = outcome

        return change

    assert of(ended("failed")).good[About("reconnect", "whep")] is False
    assert About("reconnect", "whep") not in of(ended("open")).good


def test_a_crash_counts_unless_our_own_cut_or_our_own_breath_may_be_why() -> None:
    def crashed(reconnects: bool, taints: list[str]) -> Change:
        def change(run: dict[str, Any]) -> None:
            session = viewers(run)[0]
            session["ending"] = "crashed"
            session["reconnects"] = session["reconnects"] if reconnects else []
            run["taints"] = taints

        return change

    about = About("crash_free", "whep")
    assert of(crashed(False, [])).good[about] is False
    assert of(crashed(True, [])).good[about] is True  # the journey's own rebind
    assert about not in of(crashed(False, ["loop_lag"])).good


def test_several_broadcasts_are_told_apart_and_so_are_devices() -> None:
    def several(run: dict[str, Any]) -> None:
        first, second, third = viewers(run)
        first["ingest"], second["ingest"], third["ingest"] = "whip", "rtmp", "rtmp"
        third["device"] = "android-4g"
        run["available_seconds"] = {"whep of rtmp": 0.4}

    found = of(several)
    assert {about for about in found.values if about.indicator == "first_frame" and about.protocol == "whep"} == {
        About("first_frame", "whep", "whip"),
        About("first_frame", "whep", "rtmp"),
        About("first_frame", "whep", "rtmp", "android-4g"),
    }
    assert found.values[About("available_seconds", "whep", "rtmp")] == 0.4


def test_of_a_crowd_the_groups_speak_and_not_those_few_that_went_wrong() -> None:
    crowd = sample.crowd()
    document = verdict_document(crowd, lambda text: text)
    groups = {group["protocol"]: group for group in document["runs"][0]["groups"] if group["role"] == "viewer"}
    found = of(evaluation=crowd)
    assert groups
    for protocol, group in groups.items():
        assert found.values[About("first_frame", protocol)] == group["first_frame_seconds"]["p50"]
        failed = any(s["outcome"] == "failed" and not s["taints"] for s in viewers(document["runs"][0], protocol))
        assert found.good[About("start", protocol)] is not failed


@pytest.mark.parametrize(
    ("place", "value"),
    [("first_frame_seconds", -1), ("first_frame_seconds", float("nan")), ("first_frame_seconds", "soon"), ("role", "ghost")],
)
def test_what_no_run_can_have_been_is_refused(place: str, value: object) -> None:
    with pytest.raises(ValidationError):
        of(lambda run: run["sessions"][1].update({place: value}))


def test_the_runs_own_release_goes_before_the_documents() -> None:
    assert of(lambda run: run.update({"release": "canary"})).release == "canary"
