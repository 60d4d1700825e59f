"""What passes between the agent and a worker: frames over a pair of sockets, facts in batches.

A frame is a length, a checksum, a kind and a payload. The worker decodes what strangers send, and a codec that tramples its
memory may write anything here: what is no frame, or holds no facts, is Garbled and costs the worker its life. A fact costs 9 µs
to write and 15 µs to read (codec.py); a frame holds 128 at most, so that reading one holds the loop for 2 ms. Only the job,
which the agent says to its own child, is a pickle.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum

from probe.agent.codec import decode_facts, decode_outcome, encode
from probe.agent.job import Job
from probe.errors import ProbeError
from probe.model.observation import Note, Observation
from probe.model.outcome import Outcome

_HEAD = struct.Struct(">IIB")
_CPU = struct.Struct(">d")
_MOST = 1 << 20
_MOST_JOB = 16 << 20
BATCH = 128


class Kind(IntEnum):
    """READY, FACTS, STARTED (the CPU it took until the first step), OVER (the outcome) come from the worker, the others go to
    it."""

    READY = 1
    FACTS = 2
    STARTED = 3
    OVER = 4
    JOB = 5
    CANCEL = 6


class Garbled(ProbeError):
    """What came is no frame, or holds what it must not."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload), kind) + payload


async def read(reader: asyncio.StreamReader) -> tuple[Kind, bytes] | None:
    """The next frame; None at the end, or where the other side died amid one. Raises Garbled."""
    try:
        length, checksum, number = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if length > (_MOST_JOB if number == Kind.JOB else _MOST):
            raise Garbled(f"a frame of {length} bytes")
        payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    if zlib.crc32(payload) != checksum:
        raise Garbled("a frame whose checksum is wrong")
    try:
        return Kind(number), payload
    except ValueError:
        raise Garbled(f"a frame of kind {number}") from None


def facts_frames(facts: Sequence[Observation]) -> Iterator[bytes]:
    """Frames that hold these facts. A single fact too large for any is told in its place."""
    for at in range(0, len(facts), BATCH):
        yield from _fitting(facts[at : at + BATCH])


def _fitting(facts: Sequence[Observation]) -> Iterator[bytes]:
    payload = encode(facts)
    if len(payload) <= _MOST:
        yield frame(Kind.FACTS, payload)
    elif len(facts) > 1:
        middle = len(facts) // 2
        yield from _fitting(facts[:middle])
        yield from _fitting(facts[middle:])
    else:
        (fact,) = facts
        text = f"a {type(fact).__name__} of {len(payload)} bytes was left out: a fact has room for {_MOST}"
        yield from _fitting([Note(run=fact.run, session=fact.session, seq=fact.seq, at=fact.at, text=text)])


def read_facts(payload: bytes) -> list[Observation]:
    """Raises Garbled."""
    try:
        facts = decode_facts(payload)
    except (ValueError, TypeError) as error:
        raise Garbled(f"a frame of facts that holds something else: {error}") from error
    if len(facts) > BATCH:
        raise Garbled(f"a frame of {len(facts)} facts")
    return facts


def outcome_frame(outcome: Outcome) -> bytes:
    return frame(Kind.OVER, encode([outcome]))


def read_outcome(payload: bytes) -> Outcome:
    """Raises Garbled."""
    try:
        return decode_outcome(payload)
    except (ValueError, TypeError) as error:
        raise Garbled(f"an outcome that is none: {error}") from error


def started_frame(cpu: float) -> bytes:
    return frame(Kind.STARTED, _CPU.pack(cpu))


def read_started(payload: bytes) -> float:
    """Seconds. Raises Garbled."""
    if len(payload) != _CPU.size:
        raise Garbled("a number that is none")
    seconds: float = _CPU.unpack(payload)[0]
    if not 0 <= seconds < 1e6:
        raise Garbled("a time that is none")
    return seconds


def job_frame(job: Job) -> bytes:
    """What the run is judged by stays here: a worker that never sees a gate needs nothing that reads scenarios."""
    made = replace(job, plan=replace(job.plan, gates=(), objectives=()))
    return frame(Kind.JOB, pickle.dumps(made, pickle.HIGHEST_PROTOCOL))


def read_job(payload: bytes) -> Job:
    """For the worker: what the agent says is believed."""
    job = pickle.loads(payload)  # noqa: S301 - from the agent, whose process this was forked for
    assert isinstance(job, Job)
    return job
