"""Journals of Chaos Toolkit by our rules, and ours as they would tell them."""

from __future__ import annotations

from typing import Any

import pytest

from probe.drill.core.facts import Checked, Did, DrillBegan, DrillEnded, DrillFact, FaultDid, Verdict
from probe.drill.toolkit.journal import journal, judged
from probe.drill.toolkit.writing import MODULE

MET = {"steady_state_met": True, "probes": []}
UNMET = {"steady_state_met": False, "probes": []}


def activity(kind: str = "action", status: str = "succeeded", output: Any = None, **more: Any) -> dict[str, Any]:
    return {"activity": {"type": kind, "name": f"the {kind}", **more}, "status": status, "output": output}


SEEN = activity("probe", output=True, tolerance=True)

OURS = activity(provider={"module": MODULE, "func": "run"})


def told(**changed: Any) -> dict[str, Any]:
    made = {
        "experiment": {"title": "origin gone"},
        "start": "2026-11-21T20:00:00+00:00",
        "status": "completed",
        "deviated": False,
        "steady_states": {"before": MET, "after": MET, "during": []},
        "run": [activity(), SEEN],
        "rollbacks": [activity()],
    }
    return made | changed


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({}, Verdict.PASS, "the fault was seen"),
        ({"deviated": True, "steady_states": {"before": MET, "after": UNMET}}, Verdict.WEAKNESS, "not met again"),
        ({"run": [activity(status="failed"), SEEN]}, Verdict.INVALID, "so its fault was never there; the journal says completed"),
        ({"run": [activity(output={"status": 500, "body": ""}), SEEN]}, Verdict.INVALID, "never there"),
        ({"run": [activity(output={"status": 1, "stdout": ""}), SEEN]}, Verdict.INVALID, "never there"),
        ({"run": [activity(output={"status": 0, "stdout": ""}), SEEN]}, Verdict.PASS, "seen"),
        ({"run": []}, Verdict.INVALID, "no action"),
        ({"run": [activity()]}, Verdict.INVALID, "nothing in it shows that the fault was there"),
        ({"run": [activity(), activity("probe", output=False, tolerance=True)]}, Verdict.INVALID, "nothing in it shows"),
        ({"run": [activity(), activity("probe", output={"status": 503}, tolerance=503)]}, Verdict.PASS, "seen"),
        ({"run": [activity(), activity("probe", output={"status": 503}, tolerance=[502, 503])]}, Verdict.PASS, "seen"),
        ({"run": [activity(), activity("probe", output=5, tolerance={"type": "range"})]}, Verdict.INVALID, "nothing in it"),
        ({"run": [activity(), activity("probe", tolerance_met=True)]}, Verdict.INVALID, "nothing in it"),
        ({"run": [OURS]}, Verdict.PASS, "seen"),
        (
            {"run": [OURS | {"status": "failed", "exception": ["x: drill d: weakness: it did not recover\n"]}]},
            Verdict.WEAKNESS,
            "recover",
        ),
        ({"run": [OURS | {"status": "failed", "exception": ["x: drill d: NOT RESTORED: a\n"]}]}, Verdict.NOT_RESTORED, "d:"),
        ({"run": [OURS | {"status": "failed", "exception": "?"}]}, Verdict.INCONCLUSIVE, "does not say why"),
        ({"rollbacks": [activity(status="failed")]}, Verdict.NOT_RESTORED, "may still be broken"),
        ({"rollbacks": [activity(output={"status": 503})]}, Verdict.NOT_RESTORED, "may still be broken"),
        ({"status": "interrupted", "rollbacks": []}, Verdict.NOT_RESTORED, "no rollback was run"),
        ({"status": "interrupted"}, Verdict.ABORTED, "interrupted"),
        ({"status": "aborted", "run": [], "rollbacks": []}, Verdict.ABORTED, "aborted"),
        ({"steady_states": {"before": UNMET, "after": None}, "run": []}, Verdict.ABORTED, "before anything was touched"),
        ({"steady_states": {"before": MET, "after": None}}, Verdict.INCONCLUSIVE, "was not asked"),
        ({"steady_states": None}, Verdict.INCONCLUSIVE, "was not asked"),
    ],
)
def test_what_a_journal_comes_to(changed, verdict, words):
    found = judged(told(**changed))
    assert found.verdict is verdict
    assert words in found.reason
    assert (found.title, found.started) == ("origin gone", "2026-11-21T20:00:00+00:00")


def test_a_probe_of_the_method_that_was_held_against_its_tolerance():
    run = activity("probe") | {"tolerance_met": True}
    assert judged(told(run=[activity(), run])).verdict is Verdict.PASS


@pytest.mark.parametrize("data", [{}, {"experiment": {}}, {"status": "completed"}, {"experiment": [], "status": "completed"}])
def test_what_is_no_journal(data):
    with pytest.raises(ValueError, match="is no Chaos Toolkit journal"):
        judged(data)


def test_hostile_lists_are_looked_at_as_far_as_they_go():
    found = judged(told(run=["x", None, activity()] * 5000, rollbacks="none"))
    assert found.verdict is Verdict.INVALID


# -- ours as theirs

S = 10**9


def facts(verdict: Verdict, *between: DrillFact) -> list[DrillFact]:
    began = DrillBegan(
        at=0,
        drill="origin",
        run="r",
        owner="o",
        scenario="s",
        regions=("eu",),
        targets=("fake:a",),
        wall_unix_ns=0,
        probe_version="1",
    )
    return [began, *between, DrillEnded(at=60 * S, verdict=verdict, reason="because", wall_unix_ns=60 * S)]


def did(at: int, what: Did, detail: str = "") -> FaultDid:
    return FaultDid(at=at * S, fault="origin-gone", kind="fake", did=what, detail=detail)


def steady(at: int, met: bool | None) -> Checked:
    return Checked(at=at * S, part="steady", condition="room_start[10s] >= 99%", met=met, value=1.0, n=9)


def test_a_drill_that_passed_is_a_journal_that_judges_the_same():
    whole = facts(
        Verdict.PASS,
        steady(5, None),
        steady(9, True),
        did(10, Did.INJECTING),
        did(11, Did.SEEN_INJECTED, "gone"),
        did(20, Did.RESTORING),
        did(21, Did.SEEN_RESTORED),
        steady(50, True),
    )
    made = journal(whole, {"title": "origin"})
    assert made["status"] == "completed"
    assert (made["steady_states"]["before"]["steady_state_met"], made["steady_states"]["after"]["steady_state_met"]) == (
        True,
        True,
    )
    assert made["run"][0]["duration"] == 1.0
    assert made["run"][0]["start"] == "1970-01-01T00:00:10+00:00"
    assert (made["duration"], made["end"]) == (60.0, "1970-01-01T00:01:00+00:00")
    assert judged(made | {"run": [made["run"][0], SEEN]}).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("verdict", "status", "deviated"),
    [
        (Verdict.WEAKNESS, "completed", True),
        (Verdict.INVALID, "failed", False),
        (Verdict.INCONCLUSIVE, "failed", False),
        (Verdict.ABORTED, "aborted", False),
        (Verdict.NOT_RESTORED, "failed", False),
    ],
)
def test_no_other_verdict_looks_like_a_success(verdict, status, deviated):
    made = journal(facts(verdict), {"title": "origin"})
    assert (made["status"], made["deviated"]) == (status, deviated)
    assert made["steady_states"]["before"] is None
    assert made["stream-probe"] == {"verdict": str(verdict), "reason": "because"}


def test_a_fault_that_failed_or_was_never_seen_has_failed():
    failed = journal(facts(Verdict.INVALID, did(1, Did.INJECTING), did(2, Did.FAILED, "no")), {})
    never = journal(facts(Verdict.INVALID, did(1, Did.INJECTING)), {})
    assert [run["status"] for run in (*failed["run"], *never["run"])] == ["failed", "failed"]
    assert [run["output"] for run in (*failed["run"], *never["run"])] == ["no", "never observed"]


def test_half_an_account_is_none():
    with pytest.raises(ValueError, match="is not the account of a whole drill"):
        journal(facts(Verdict.PASS)[:-1], {})
