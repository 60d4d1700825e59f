"""The ladder as it was declared, against what came of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probe.export.quality import ladder, sounds
from probe.judge.fold import fold
from probe.model.clock import NS
from probe.model.observation import UNHEARD, Ladder, Rung, Window
from probe.model.verdict import SessionResult
from tests.judge.story import Story


def watched(*windows: Window) -> SessionResult:
    story = Story().begin("v", "hls", buffered=True)
    rungs = (Rung(name="360p", frame_rate=30.0), Rung(name="180p", frame_rate=15.0), Rung(name="90p"))
    story._tell(Ladder(rungs=rungs), "v")
    story.start("v")
    for window in windows:
        story.wait(NS)
        story._tell(window, "v")
    story.end("v").finish()
    return fold(story.facts).sessions[0]


def second(rendition: str, pictures: int, media: float, size: int = 100_000, height: int = 360) -> Window:
    return Window(took=NS, decoded=pictures, bytes=size, media_seconds=media, rendition=rendition, width=640, height=height)


def test_a_stream_of_thirty_pictures_a_second_is_said_to_have_thirty():
    """The first second has one picture more than it has time between pictures: 30.17 was once said of 30."""
    rung = ladder(watched(second("360p", 31, 1.0), second("360p", 30, 1.0), second("360p", 33, 1.1)))[0]
    assert rung.delivered_frame_rate == 30.0
    assert rung.delivered_bitrate is not None and rung.delivered_bitrate.n == 2


def test_a_second_in_which_renditions_changed_is_told_of_neither():
    first, then = second("360p", 31, 1.0), second("360p", 30, 1.0)
    rungs = ladder(watched(first, then, second("180p", 23, 0.0, height=180), second("180p", 15, 1.0, 30_000, 180)))
    assert [(r.rendition, r.delivered_frame_rate, r.delivered_height) for r in rungs[:2]] == [
        ("360p", 30, 360),
        ("180p", 15, 180),
    ]
    assert rungs[1].delivered_bitrate is not None and rungs[1].delivered_bitrate.max == pytest.approx(240_000)


def test_sound_we_cannot_hear_is_not_nothing_heard():
    silent = replace(watched(second("360p", 30, 1.0)), sound=True)
    assert sounds(silent) == 0
    assert sounds(replace(silent, facts={UNHEARD: "ac3"})) is None
    assert sounds(replace(silent, sound=False)) is None


def test_what_never_came_has_no_figures_and_no_zeros():
    rungs = ladder(watched(second("360p", 1, 0.0)))
    assert [(r.delivered_frame_rate, r.delivered_bitrate) for r in rungs] == [(None, None)] * 3
    assert [(r.delivered_width, r.delivered_height) for r in rungs[1:]] == [(None, None)] * 2
