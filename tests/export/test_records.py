"""observations.jsonl: every fact as it came, on disk in time, and nobody waits for it."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from probe.export.records import RecordSink
from probe.model.observation import Note, Observation, RunEnded, Window, from_json
from probe.model.outcome import Done
from probe.net.redact import Redactor
from tests.export import sample
from tests.tools import spawn, wait_until


def plain(text: str) -> str:
    return text


def test_what_is_written_reads_back_as_the_same_facts(tmp_path: Path) -> None:
    facts = list(sample.observations(sample.result()))
    sink = RecordSink(tmp_path / "o.jsonl", plain)
    for fact in facts:
        sink.put(fact)
    sink.close()
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [from_json(json.loads(line)) for line in lines] == facts
    assert sink.dropped == 0


def test_a_run_whose_clock_error_is_unknown_reads_back(tmp_path: Path) -> None:
    began = replace(sample.result().began, wall_error_ns=None)
    sink = RecordSink(tmp_path / "o.jsonl", plain)
    sink.put(began)
    sink.close()
    assert from_json(json.loads((tmp_path / "o.jsonl").read_text())) == began


async def test_facts_are_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    sink = RecordSink(path, plain)
    try:
        sink.put(Note(text="first"))
        await wait_until(lambda: "first" in path.read_text(), 1.0, "the first fact on disk")
    finally:
        sink.close()


async def test_what_was_measured_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path
from probe.export.records import RecordSink
from probe.model.observation import Note
sink = RecordSink(Path({str(path)!r}), lambda text: text)
for n in range(1000):
    sink.put(Note(seq=n, text="x"))
print("said", flush=True)
sys.stdin.read()
"""
    with spawn([sys.executable, "-c", code], tmp_path / "out", pipe=True) as child:
        await child.says("said")
        await wait_until(lambda: path.read_text().count("\n") == 1000, 1.0, "all facts within a second")
        os.kill(child.pid, signal.SIGKILL)
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == list(range(1000))


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.export.records.QUEUE", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # a file that takes nothing: its writer stands still
    sink = RecordSink(pipe, plain)
    for n in range(3000):
        sink.put(Note(seq=n, text="x" * 1000))
    assert sink.dropped > 0
    os.set_blocking(reader, True)
    got = b""
    while got.count(b"\n") + sink.dropped < 3000:
        got += os.read(reader, 1 << 16)
    sink.close()
    os.close(reader)
    assert got.count(b"\n") + sink.dropped == 3000


def test_closing_gives_up_on_a_file_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("probe.export.records.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("probe.export.records.QUEUE", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = RecordSink(pipe, plain)
    try:
        for n in range(50):
            sink.put(Note(seq=n, text="x" * 100_000))  # more than a pipe holds
        sink.close()
        assert "not all on disk" in caplog.text
        assert sink.dropped > 0
    finally:
        os.close(reader)  # the writer's next write fails, and its thread ends
        sink._thread.join(5)


def test_a_full_disk_is_one_warning_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordSink(Path("/dev/full"), plain)
    for n in range(50):
        sink.put(Note(seq=n, text="x"))
    sink.close()
    assert sink.dropped == 50
    assert sum("cannot be written" in record.message for record in caplog.records) == 1


def test_a_number_that_is_none_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path / "o.jsonl", plain)
    sink.put(Window(took=1, latencies=(float("nan"),)))
    sink.put(Note(text="kept"))
    sink.close()
    assert [json.loads(line)["kind"] for line in (tmp_path / "o.jsonl").read_text().splitlines()] == ["Note"]
    assert sink.dropped == 1


def test_secrets_are_redacted_even_where_json_would_escape_them(tmp_path: Path) -> None:
    secret = 'a"b\\c'
    sink = RecordSink(tmp_path / "o.jsonl", lambda text: text.replace(secret, "•••"))
    sink.put(Note(text=f"token {secret}"))
    sink.close()
    assert json.loads((tmp_path / "o.jsonl").read_text())["text"] == "token •••"


def test_a_secret_that_is_one_of_our_words_leaves_the_records_readable(tmp_path: Path) -> None:
    secrets = ("viewer", "Note", "done", "Done")
    facts: list[Observation] = [Note(text="the viewer is done"), RunEnded(outcome=Done())]
    sink = RecordSink(tmp_path / "o.jsonl", Redactor(*secrets).redact)
    for fact in facts:
        sink.put(fact)
    sink.close()
    note, ended = (from_json(json.loads(line)) for line in (tmp_path / "o.jsonl").read_text().splitlines())
    assert isinstance(note, Note) and "viewer" not in note.text and "done" not in note.text
    assert ended == facts[1]


def test_after_closing_facts_are_counted_as_dropped(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path / "o.jsonl", plain)
    sink.close()
    sink.close()
    sink.put(Note(text="late"))
    assert sink.dropped == 1
