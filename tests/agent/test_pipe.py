"""Frames between the agent and a worker: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import asyncio
import pickle
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.agent import pipe
from probe.agent.cleaning import Cleaner
from probe.agent.codec import encode
from probe.agent.pipe import BATCH, Garbled, Kind, facts_frames, frame, read, read_facts, read_outcome, read_started
from probe.model.observation import (
    Ladder,
    Note,
    Observation,
    RequestDone,
    Role,
    Rung,
    SessionBegan,
    SessionEnded,
    StageDone,
    Window,
)
from probe.model.outcome import Aborted, Failed
from probe.model.stage import Phase, Stage

REQUEST = RequestDone(
    run="r", seq=3, service="auth", purpose="login", method="POST", url="https://p/login", edge="edge-1", cache="hit", status=200,
    size=1, took=5, request_id="q", span_id="s", parent_span_id="t", failure=Failed(Phase.AUTH, "http_401", "said no"),
)  # fmt: skip
FACTS: list[Observation] = [
    Note(run="r", seq=1, text="one"),
    StageDone(run="r", seq=2, stage=Stage.ICE, began=1, took=2),
    REQUEST,
    Ladder(run="r", seq=4, rungs=(Rung(name="720p", width=1280), Rung(name="360p"))),
    Window(run="r", seq=5, took=10**9, latencies=(0.1, 0.2), clock_error=0.001, rendition="720p"),
    SessionEnded(run="r", seq=6, outcome=Aborted("x"), facts={"server": "y"}),
    SessionBegan(
        run="r", session="s", seq=7, step="view", name="whep-1", role=Role.VIEWER, protocol="whep", device="default", region="eu",
        publish_region="eu", join="mid_stream", verify="code", buffered=False, optional=False, span_id="a",
    ),
]  # fmt: skip


async def all_of(data: bytes) -> list[tuple[Kind, bytes]]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames = []
    while (one := await read(reader)) is not None:
        frames.append(one)
    return frames


async def told(facts: list[Observation]) -> list[Observation]:
    frames = await all_of(b"".join(facts_frames(facts)))
    assert {kind for kind, _ in frames} <= {Kind.FACTS}
    return [fact for _, payload in frames for fact in read_facts(payload)]


async def test_facts_arrive_as_they_were_in_order_and_in_frames_of_few() -> None:
    many = [replace(FACTS[0], seq=seq) for seq in range(1000)]
    assert await told(FACTS) == FACTS
    assert await told(many) == many
    assert max(len(read_facts(payload)) for _, payload in await all_of(b"".join(facts_frames(many)))) == BATCH


def test_numpys_numbers_arrive_as_numbers() -> None:
    (window,) = read_facts(encode([Window(took=np.int64(5), clock_error=np.float64(0.5), latencies=(np.float32(0.25),))]))  # type: ignore[arg-type]
    assert window == Window(took=5, clock_error=0.5, latencies=(0.25,))


async def test_large_facts_have_frames_of_their_own_and_one_too_large_is_told_in_its_place() -> None:
    large = [Note(run="r", seq=seq, text=str(seq) * 600_000) for seq in range(3)]
    huge = Note(run="r", seq=3, at=7, text="x" * 2_000_000)
    *kept, last = await told([*large, huge])
    assert kept == large
    assert isinstance(last, Note) and (last.run, last.seq, last.at) == ("r", 3, 7)
    assert last.text.startswith("a Note of 2000") and len(last.text) < 200


async def test_a_frame_cut_off_by_its_writers_death_is_the_end() -> None:
    whole = b"".join(facts_frames(FACTS))
    for cut in range(1, len(whole)):
        assert await all_of(whole[:-cut]) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 64, id="length"),
        pytest.param(frame(Kind.FACTS, b"abc")[:-1] + b"d", id="checksum"),
        pytest.param(b"\0\0\0\0\0\0\0\0\x63", id="kind"),
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        await all_of(data)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(pickle.dumps(FACTS), id="a pickle"),
        pytest.param(b"[1,2]", id="no facts"),
        pytest.param(b"7", id="no list"),
        pytest.param(encode([Aborted()]), id="an outcome"),
        pytest.param(b"[[0]]", id="no fields"),
        pytest.param(b"[[99]]", id="no class"),
        pytest.param(encode(FACTS[:1]).replace(b'"one"', b"[]"), id="a list where text belongs"),
        pytest.param(encode(FACTS[1:2]).replace(b'"ice"', b'"snow"'), id="no stage"),
        pytest.param(encode(FACTS[2:3]).replace(b'"http_401"', b'"http_999"'), id="no reason"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(encode([FACTS[0]] * (BATCH + 1)), id="too many"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_payload_that_holds_something_else_is_refused(payload: bytes) -> None:
    with pytest.raises(Garbled):
        read_facts(payload)


@settings(max_examples=300)
@given(st.data())
def test_damaged_payloads_are_facts_or_refused(data: st.DataObject) -> None:
    whole = bytearray(encode(FACTS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for reading in (read_facts, read_outcome, read_started):
        try:
            reading(bytes(whole))
        except Garbled:
            pass


async def test_bits_that_flip_on_the_way_never_pass() -> None:
    whole = bytearray(next(facts_frames(FACTS)))
    for at in range(9, len(whole), 7):
        whole[at] ^= 0x10
        with pytest.raises(Garbled):
            await all_of(bytes(whole))
        whole[at] ^= 0x10
    assert zlib.crc32(whole[9:]) == int.from_bytes(whole[4:8], "big")


def test_what_a_platform_said_is_cleaned_of_secrets_and_what_names_series_is_not() -> None:
    cleaner = Cleaner()
    cleaner.add("hunter2hunter2")
    quoted = replace(
        REQUEST,
        url="https://p/hunter2hunter2/x",
        edge="hunter2hunter2",
        failure=Failed(Phase.AUTH, "http_401", "hunter2hunter2?"),
    )
    clean = cleaner.fact(quoted)
    assert isinstance(clean, RequestDone) and clean.failure is not None
    assert (clean.url, clean.edge, clean.failure.detail) == ("https://p/[redacted]/x", "", "[redacted]?")
    ladder = cleaner.fact(Ladder(rungs=(Rung(name="720p hunter2hunter2"),)))
    assert isinstance(ladder, Ladder) and ladder.rungs[0].name == "720p [redacted]"
    ended = cleaner.fact(SessionEnded(outcome=Aborted("hunter2hunter2"), facts={"server": "hunter2hunter2"}))
    assert "hunter2" not in repr(ended)
    assert all(cleaner.fact(fact) == fact for fact in FACTS)
    assert cleaner.fact(Note(text="later-known")) == Note(text="later-known")
    cleaner.add("later-known")
    assert cleaner.fact(Note(text="later-known")) == Note(text="[redacted]")
    cleaner.add("scheduled-by-us")
    assert cleaner.fact(replace(FACTS[0], session="scheduled-by-us")).session == "scheduled-by-us"


def test_jobs_and_times_arrive() -> None:
    assert read_started(pipe.started_frame(0.25)[9:]) == 0.25
    for payload in (b"", b"\xff" * 8):
        with pytest.raises(Garbled):
            read_started(payload)
