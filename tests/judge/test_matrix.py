"""The grid of broadcasts × protocols, and the common factor of what fails in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probe.judge.fold import fold
from probe.judge.matrix import matrix
from probe.judge.verdict import judge
from probe.model.clock import Wall
from probe.model.observation import UNHEARD, RequestDone, Role, SessionEnded
from probe.model.outcome import Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.model.verdict import Verdict
from tests.judge.story import Story

WAYS_IN, WAYS_OUT = ("whip", "rtmp"), ("whep", "hls", "ll-hls", "http-flv")
NOW = Wall(unix_ns=0, error_ns=None)
REFUSED = Failed(Phase.PLAYLIST, "http_503", "planted")


def tried(outcome: Callable[[str, str], Outcome], hears: Callable[[str, str], bool] = lambda i, o: True) -> Story:
    """Every way in and out, each viewer ending as `outcome(ingest, protocol)` says and hearing what `hears` says."""
    story = Story()
    for ingest in WAYS_IN:
        story.begin(f"p-{ingest}", ingest, role=Role.PUBLISHER, step=f"go-{ingest}", ingest=ingest).start(f"p-{ingest}")
    names = []
    for ingest in WAYS_IN:
        for protocol in WAYS_OUT:
            name, ended = f"{protocol} of {ingest}", outcome(ingest, protocol)
            story.begin(name, protocol, ingest=ingest, sound=True)
            if isinstance(ended, Done):
                story.start(name)
                names.append((name, hears(ingest, protocol)))
            else:
                story.end(name, ended, "")
    for name, heard in names:
        for _ in range(4):
            story.window(name, 0.1, sounds=int(heard))
        story.end(name)
    for ingest in WAYS_IN:
        story.end(f"p-{ingest}")
    story.finish()
    return story


def verdict(story: Story) -> tuple[Verdict, str, dict[str, str]]:
    judged = judge(fold(story.facts), (), NOW)
    return judged.result, judged.cause.words if judged.cause else "", judged.cause.fields if judged.cause else {}


def test_every_pair_is_a_cell_with_its_figures():
    cells = matrix(fold(tried(lambda i, o: Done()).facts))
    assert [(c.ingest, c.protocol) for c in cells] == [(i, o) for i in WAYS_IN for o in WAYS_OUT]
    assert {c.result for c in cells} == {Verdict.PASS} and {c.sound for c in cells} == {True}
    assert {(c.first_frame, c.latency, c.viewers, c.started) for c in cells} == {(0.2, 0.1, 1, 1)}


def test_a_protocol_that_fails_everywhere_is_the_common_factor():
    found, words, fields = verdict(tried(lambda i, o: REFUSED if o == "ll-hls" else Done()))
    assert found is Verdict.FAIL and fields["protocol"] == "ll-hls" and "ingest" not in fields
    assert words.startswith("2 of 2 ll-hls viewers failed: playlist/http_503")


def test_a_broadcast_that_reaches_nobody_is_the_common_factor():
    found, words, fields = verdict(tried(lambda i, o: REFUSED if i == "rtmp" else Done()))
    assert found is Verdict.FAIL and fields["ingest"] == "rtmp" and "protocol" not in fields
    assert words.startswith("4 of 4 viewers of what rtmp published failed")


def test_one_cell_is_named_by_both():
    _, words, fields = verdict(tried(lambda i, o: REFUSED if (i, o) == ("whip", "hls") else Done()))
    assert (fields["ingest"], fields["protocol"]) == ("whip", "hls")
    assert words.startswith("1 of 1 hls viewers of what whip published failed")


def test_a_bad_edge_is_named_across_protocols():
    story = Story()
    for protocol in ("hls", "ll-hls"):
        for n, edge in enumerate(("edge-a", "edge-b")):
            name, bad = f"{protocol}-{n}", edge == "edge-b"
            story.begin(name, protocol, ingest="whip")
            story._tell(
                RequestDone(
                    service=protocol, purpose="playlist", method="GET", url="", edge=edge, cache="", status=503 if bad else 200,
                    size=0, took=1, request_id="", span_id="", parent_span_id="", failure=REFUSED if bad else None,
                ),
                name,
            )  # fmt: skip
            if bad:
                story.end(name, REFUSED, "")
            else:
                story.start(name).window(name, 0.1).end(name)
    story.finish()
    _, words, fields = verdict(story)
    assert fields["edge"] == "edge-b" and "protocol" not in fields and words.startswith("2 of 2 attempts at edge-b failed")


def test_a_picture_without_its_sound_is_a_warning_that_names_the_leg():
    found, words, fields = verdict(tried(lambda i, o: Done(), lambda i, o: (i, o) != ("rtmp", "whep")))
    assert found is Verdict.WARN and fields == {"ingest": "rtmp", "protocol": "whep", "role": "viewer", "sound": "none"}
    assert words == "1 of 1 whep viewers of what rtmp published saw the picture and heard no sound"
    cells = matrix(fold(tried(lambda i, o: Done(), lambda i, o: (i, o) != ("rtmp", "whep")).facts))
    assert [(c.result, c.sound) for c in cells if (c.ingest, c.protocol) == ("rtmp", "whep")] == [(Verdict.WARN, False)]


def test_sound_is_not_asked_of_who_watched_too_little():
    story = Story().begin("v", "whep", ingest="whip", sound=True).start("v").window("v", 0.1).end("v")
    story.finish()
    judged = judge(fold(story.facts), (), NOW)
    assert judged.result is Verdict.PASS and not [c for c in judged.checks if c.name.startswith("sound")]
    assert matrix(fold(story.facts))[0].sound is None


def test_sound_this_probe_cannot_hear_is_no_silence_of_the_platform():
    story = Story().begin("v", "hls", ingest="whip", sound=True).start("v")
    for _ in range(5):
        story.window("v", 0.1)
    story._tell(SessionEnded(outcome=Done(), ending="planned", facts={UNHEARD: "ac3"}), "v")
    story.finish()
    assert judge(fold(story.facts), (), NOW).result is Verdict.PASS
    assert [(cell.result, cell.sound) for cell in matrix(fold(story.facts))] == [(Verdict.PASS, None)]


@pytest.mark.parametrize("outcome", [Skipped("no_publisher"), Skipped("unsupported")])
def test_what_never_came_to_try_is_a_question_and_no_failure(outcome: Skipped):
    cells = matrix(fold(tried(lambda i, o: outcome if i == "rtmp" else Done()).facts))
    assert {c.result for c in cells if c.ingest == "rtmp"} == {Verdict.INCONCLUSIVE}
    assert {c.reason for c in cells if c.ingest == "rtmp"} == {outcome.reason}


def test_where_nobody_views_there_is_no_cell():
    assert matrix(fold(Story().finish())) == ()
