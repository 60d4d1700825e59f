"""What is measured of a drill whose truth is known, because it was made up."""

from __future__ import annotations

import pytest

from probe.drill.core.facts import AlertChanged, Did, FaultDid, Verdict
from probe.drill.core.marks import marks
from probe.drill.core.measure import measure
from probe.drill.core.score import CohortScore, Score, StartScore
from probe.model.observation import CutOutcome
from probe.model.outcome import Failed
from probe.model.stage import Phase as Where
from tests.drill.score.told import REFUSED, Told, about, ns, plans, usual


def cohort(score: Score, protocol: str, region: str = "eu") -> CohortScore:
    return next(one for one in score.cohorts if (one.protocol, one.region) == (protocol, region))


def begun(score: Score, when: str, protocol: str = "whep", region: str = "eu") -> StartScore:
    return next(one for one in score.starts if (one.when, one.protocol, one.region) == (when, protocol, region))


def test_each_cohort_is_told_by_what_became_of_its_viewers() -> None:
    score = usual().score()
    whep, hls = cohort(score, "whep"), cohort(score, "hls")
    assert (whep.viewers, whep.unaffected, whep.restarted, whep.failed) == (4, 2, 2, 0)
    assert (hls.viewers, hls.unaffected, hls.resumed) == (5, 3, 2)
    assert [(one.region, one.protocol, one.meant) for one in score.cohorts] == [
        ("eu", "hls", True), ("eu", "whep", True), ("us", "whep", False)
    ]  # fmt: skip


def test_outage_is_from_the_last_picture_and_reconnect_from_the_restore() -> None:
    whep = cohort(usual().score(), "whep")
    assert whep.outage is not None and whep.reconnect is not None
    assert whep.outage.samples == [pytest.approx(8.8), pytest.approx(9.8)]
    assert whep.reconnect.samples == [pytest.approx(0.6), pytest.approx(1.6)]
    assert (whep.reconnect.n, whep.reconnect.p50, whep.reconnect.max) == about(2, 0.6, 1.6)


def test_who_was_back_before_the_restore_has_no_reconnect() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.viewer(run, "quick", gap=(10.2, 13.2), outcome=CutOutcome.RESTARTED)
    found = cohort(told.score(), "whep")
    assert found.outage is not None and found.outage.max == pytest.approx(3.0)
    assert found.reconnect is None
    assert found.back_before_restore == 1


def test_time_without_a_picture_is_that_of_the_gaps_and_of_nothing_else() -> None:
    score = usual().score()
    whep, hls = cohort(score, "whep"), cohort(score, "hls")
    assert whep.without_picture == pytest.approx(8.8 + 9.8)  # outages, exactly
    assert hls.without_picture == pytest.approx(2 * 4.9)
    assert whep.watched == pytest.approx(4 * 20.0)  # from the injection to the end
    assert cohort(score, "whep", "us").without_picture == 0


def test_who_never_came_back_is_dark_to_the_end() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.viewer(run, "lost", gap=(11.5, 28.5), outcome=CutOutcome.FAILED)
    found = cohort(told.score(), "whep")
    assert (found.failed, found.outage, found.reconnect) == (1, None, None)
    assert found.without_picture == pytest.approx(30 - 11.5, abs=1.0)  # no outage is told: to the second


def test_who_joined_after_the_fault_is_no_audience() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.viewer(run, "there")
    told.viewer(run, "late", began=20.0)
    assert cohort(told.score(), "whep").viewers == 1


def test_what_was_measured_while_the_probe_was_unwell_is_apart() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.viewer(run, "away", gap=(12.0, 19.4), outcome=CutOutcome.RESTARTED)
    told.viewer(run, "there")
    told.unwell(run, 15.0)
    found = cohort(told.score(), "whep")
    assert (found.viewers, found.unaffected, found.restarted, found.tainted) == (2, 1, 0, 1)
    assert found.outage is None, "the gap may be our own doing"
    assert found.reconnect is not None, "between restore and return the probe was well"
    assert found.tainted_seconds == pytest.approx(2 * 0.5)
    assert found.without_picture == pytest.approx(7.4 - 0.5)


def test_trouble_before_the_gap_taints_nothing() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.viewer(run, "away", gap=(14.0, 19.4), outcome=CutOutcome.RESTARTED)
    told.unwell(run, 12.0)
    found = cohort(told.score(), "whep")
    assert (found.tainted, found.restarted) == (0, 1)
    assert found.outage is not None


def test_a_cut_that_was_never_told_is_neither_good_nor_bad() -> None:
    told = Told(back=None, verdict=Verdict.NOT_RESTORED)
    told.viewer(told.run("stay", stays=True), "there", outcome=None)
    found = cohort(told.score(), "whep")
    assert (found.viewers, found.untold, found.unaffected, found.failed) == (1, 1, 0, 0)
    assert told.score().restored_at is None


# -- who noticed, and when users were well again


def test_time_to_detect_is_from_the_fault_seen_to_the_first_alarm() -> None:
    found = usual().score().detection
    assert found is not None
    assert (found.took, found.name, found.source, found.after_restore) == about(3.5, "starts", "gate", False)


@pytest.mark.parametrize(
    ("at", "ours"), [(9.0, True), (9.0, False), (14.0, False)], ids=["before", "before and strange", "not this drill's"]
)
def test_what_fired_before_or_for_something_else_detects_nothing(at: float, ours: bool) -> None:
    told = Told()
    told.alarm(at, ours=ours)
    score = told.score()
    assert score.detection is None
    assert [alarm.ours for alarm in score.alarms] == [ours], "it is told all the same"


def test_an_alarm_after_the_restore_is_late() -> None:
    told = Told()
    told.alarm(25.0)
    found = told.score().detection
    assert found is not None and found.after_restore


def test_nothing_noticed_is_absent_and_not_nought() -> None:
    score = Told().score()
    assert score.detection is None
    assert "detection" not in score.model_dump(exclude_none=True)


def test_users_were_well_again_when_all_conditions_held_for_good() -> None:
    score = usual().score()
    assert score.mitigation is not None
    assert (score.mitigation.took, score.mitigation.by) == about(21.0 - 10.5, "restore")


def test_a_platform_that_heals_itself_is_told_from_one_that_was_healed() -> None:
    told = Told()
    for at, met in ((5.0, True), (12.0, False), (15.0, True), (22.0, True)):
        told.checked(at, met)
    told.checked(19.0, True, part="recovery", condition="95% of viewers reconnect within 10s")  # read only afterwards
    score = told.score()
    assert score.mitigation is not None
    assert (score.mitigation.took, score.mitigation.by) == about(4.5, "platform")


def test_a_condition_that_comes_and_goes_holds_from_its_last_return() -> None:
    told = Told()
    for at, met in ((12.0, False), (15.0, True), (17.0, False), (20.0, True)):
        told.checked(at, met)
    score = told.score()
    assert score.mitigation is not None and score.mitigation.took == pytest.approx(9.5)


@pytest.mark.parametrize(
    ("looks", "why"),
    [
        ((), "no condition could be read"),
        (((12.0, True), (20.0, True)), "nothing to mitigate"),
        (((12.0, False), (20.0, False)), "not seen to be well again"),
        (((12.0, None),), "no condition could be read"),
    ],
)
def test_why_there_is_no_time_to_mitigate_is_said(looks: tuple[tuple[float, bool | None], ...], why: str) -> None:
    told = Told()
    for at, met in looks:
        told.checked(at, met)
    score = told.score()
    assert score.mitigation is None
    assert why in (score.mitigation_untold or "")


def test_a_fault_never_seen_has_neither_time() -> None:
    told = Told(seen=None, verdict=Verdict.INVALID)
    told.alarm(14.0)
    score = told.score()
    assert (score.detection, score.mitigation, score.injected_at) == (None, None, None)


# -- conditions and faults


def test_steady_is_told_as_it_was_before_and_recovery_as_it_ended() -> None:
    found = {one.part: one for one in usual().score().conditions}
    assert (found["steady"].met, found["steady"].looks) == (True, 1)
    assert found["recovery"].met is True
    assert found["recovery"].took == pytest.approx(24 - 18.4)


@pytest.mark.parametrize(("part", "looks", "met"), [
    ("meanwhile", (True, False, True), False),
    ("meanwhile", (None, True), True),
    ("abort", (False, True), True),
    ("abort", (False, None), False),
    ("recovery", (False, True), True),
    ("recovery", (None,), None),
])  # fmt: skip
def test_of_a_promise_the_worst_is_told_and_of_a_goal_the_end(
    part: str, looks: tuple[bool | None, ...], met: bool | None
) -> None:
    told = Told()
    for i, look in enumerate(looks):
        told.checked(19.0 + i, look, part=part)
    (found,) = told.score().conditions
    assert (found.part, found.met, found.looks) == (part, met, len(looks))


def test_a_fault_is_told_with_its_instants_and_who_undid_it() -> None:
    (fault,) = usual().score().faults
    assert (fault.seen_injected_at, fault.seen_restored_at) == about(10.5, 18.4)
    assert (fault.inject_seen_in, fault.restore_seen_in) == about(0.4, 0.4)
    assert (fault.undone_by, fault.targets) == ("runner", ["sandbox:edge-b"])


def test_of_two_faults_the_first_seen_and_the_last_gone_count() -> None:
    told = Told()
    for at, did in ((12.0, Did.INJECTING), (12.5, Did.SEEN_INJECTED), (20.0, Did.RESTORING), (20.5, Did.GONE)):
        told.facts.append(FaultDid(at=ns(at), fault="other", kind="process", did=did, by="watchdog"))
    score = told.score()
    assert (score.injected_at, score.restored_at) == about(10.5, 20.5)
    other = next(fault for fault in score.faults if fault.name == "other")
    assert (other.gone_at, other.seen_restored_at, other.undone_by) == about(20.5, None, "watchdog")


def test_facts_without_a_beginning_are_refused() -> None:
    told = Told()
    with pytest.raises(ValueError, match="beginning"):
        marks(told.whole()[1:])


# -- starts, losses, blast, budget


def test_starts_are_told_by_what_they_met() -> None:
    score = usual().score()
    assert [(one.when, one.done, one.failed) for one in score.starts if (one.region, one.protocol) == ("eu", "whep")] == [
        ("before", 3, 0), ("meanwhile", 0, 3), ("after", 3, 0)
    ]  # fmt: skip
    assert begun(score, "meanwhile").reasons == {"signal/http_503": 3}
    assert begun(score, "meanwhile").first_frame is None
    assert [(one.when, one.done, one.failed) for one in score.rooms if one.region == "eu"] == [
        ("before", 3, 0), ("meanwhile", 0, 3), ("after", 3, 0)
    ]  # fmt: skip


def test_a_start_that_was_under_way_when_it_broke_met_the_fault() -> None:
    told = Told()
    told.run("r", 9.0)
    told.start("r", 9.8, 0.5)
    assert begun(told.score(), "meanwhile").done == 1


def test_a_tainted_start_counts_apart() -> None:
    told = Told()
    told.run("r", 2.0)
    told.start("r", 2.0, failed=REFUSED)
    told.unwell("r", 2.3)
    found = begun(told.score(), "before")
    assert (found.done, found.failed, found.tainted) == (0, 0, 1)


def test_first_frame_again_is_of_the_first_start_after_the_restore() -> None:
    found = {(one.region, one.protocol): one.took for one in usual().score().first_frame_again}
    # The run of 19 s began its viewers at 19.1 and showed at 19.6; the restore was seen at 18.4.
    assert found == {("eu", "whep"): pytest.approx(1.2), ("eu", "hls"): pytest.approx(1.2)}


def test_messages_and_gifts_are_told_by_how_they_were_lost() -> None:
    told = Told()
    told.run("r", 9.0)
    told.step("r", 2.0, 0.1, "chat")
    for i, reason in enumerate(("not_seen", "not_seen", "http_503")):
        told.step("r", 11.0 + i, 0.5, "chat", Failed(Where.CHAT, reason))
    told.step("r", 12.0, 0.5, "gift", Failed(Where.GIFT, "counted_twice"))
    told.step("r", 12.5, 0.5, "gift", Failed(Where.GIFT, "not_counted"))
    told.step("r", 20.0, 0.5, "payment", Failed(Where.PAYMENT, "charged_twice"))
    found = {(one.service, one.when): one for one in told.score().losses}
    assert set(found) == {("chat", "before"), ("chat", "meanwhile"), ("gift", "meanwhile"), ("payment", "after")}
    chat = found["chat", "meanwhile"]
    assert (chat.done, chat.never_seen, chat.twice, chat.failed) == (0, 2, 0, 1)
    gift = found["gift", "meanwhile"]
    assert (gift.twice, gift.not_counted, gift.failed) == (1, 1, 0)
    assert found["payment", "after"].twice == 1


def test_who_was_hit_outside_the_target_is_named() -> None:
    told = usual()
    us = told.run("stay-us-2", region="us", stays=True)
    told.viewer(us, "us-hit", region="us", gap=(11.0, 14.0), outcome=CutOutcome.RESUMED)
    told.run("us-bad", 12.0, region="us")
    told.start("us-bad", 12.0, failed=REFUSED, region="us")
    blast = told.score().blast
    assert (blast.meant_regions, blast.hit_inside, blast.of_inside) == (["eu"], 4, 9)
    assert (blast.hit_outside, blast.of_outside) == (1, 3)
    (hit,) = blast.outside
    assert (hit.region, hit.protocol, hit.viewers, hit.of_viewers, hit.starts_failed) == ("us", "whep", 1, 3, 1)


def test_who_failed_before_the_fault_was_not_hit_by_it() -> None:
    told = usual()
    for at in (2.0, 12.0):
        told.run(f"us-bad-{at}", at, region="us")
        told.start(f"us-bad-{at}", at, failed=REFUSED, region="us")
    assert told.score().blast.outside == []


def test_nobody_outside_is_not_nobody_hit() -> None:
    told = Told()
    told.viewer(told.run("stay", stays=True), "there")
    blast = told.score().blast
    assert (blast.of_inside, blast.of_outside, blast.hit_outside) == (1, 0, 0)


def test_of_a_fault_on_one_protocol_only_that_one_is_meant() -> None:
    told = usual()
    told.facts.append(FaultDid(at=ns(9.95), fault="edge", kind="link", did=Did.WILL, targets=("clients:hls",)))
    facts = [
        fact
        if not isinstance(fact, FaultDid)
        else FaultDid(at=fact.at, fault="edge", kind="link", did=fact.did, targets=("clients:hls",))
        for fact in told.whole()
    ]
    score = measure(facts, told.observed, told.drill, plans=plans(), stays=told.stays)
    assert score.blast.meant_protocols == ["hls"]
    assert [(one.region, one.protocol) for one in score.blast.outside] == [("eu", "whep")]


def test_the_budget_spent_is_that_of_scheduled_runs_that_had_fared_the_same() -> None:
    found = {one.slo: one for one in usual().score().budget}
    rooms = found["room-start"]
    # eu: 3 bad of 7 whole runs that met the fault or came after it (that of 10 s too); us: none of 7. 20 s of 30 days at 99 %.
    assert (rooms.bad, rooms.good) == (3, 9)
    assert rooms.spent == pytest.approx((3 / 6 + 0) / 2 * 20 / (30 * 86_400 * 0.01))
    assert found["first-frame"].spent is not None


def test_a_region_without_traffic_is_taken_to_be_well() -> None:
    told = Told()
    told.whole_run("eu", 12.0, failed=REFUSED)
    (rooms,) = [one for one in told.score().budget if one.slo == "room-start"]
    assert rooms.spent == pytest.approx(0.5 * 20 / (30 * 86_400 * 0.01), rel=1e-6)


def test_without_whole_runs_no_budget_is_told() -> None:
    told = Told()
    told.viewer(told.run("stay", stays=True), "there")
    assert [one.spent for one in told.score().budget] == [None, None]


def test_the_probes_own_taints_are_summed() -> None:
    told = Told()
    run = told.run("stay", stays=True)
    told.unwell(run, 5.0)
    told.unwell(run, 6.0)
    health = told.score().health
    assert (health.samples, health.tainted_samples, health.taints, health.loop_lag_max) == (2, 2, {"loop_lag": 2}, 0.4)


def test_an_aborted_drill_that_touched_nothing_is_measured_all_the_same() -> None:
    told = usual()
    facts = [fact for fact in told.whole() if not isinstance(fact, FaultDid | AlertChanged)]
    score = measure(facts, told.observed, told.drill, plans=plans(), stays=told.stays)
    assert (score.faults, score.cohorts, score.budget, score.detection) == ([], [], [], None)
    assert {one.when for one in score.starts} == {"before"}


def test_instants_are_counted_from_the_drills_beginning() -> None:
    score = usual().score()
    assert score.seconds == pytest.approx(30.0)
    assert score.alarms[0].at == pytest.approx(14.0) and score.alarms[0].ended_at == pytest.approx(24.0)
