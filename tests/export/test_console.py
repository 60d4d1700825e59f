"""Terminal and log output: the same words, nothing a server sent is obeyed."""

from __future__ import annotations

import io
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from probe.export.console import plain_lines, summary, verdict_line
from probe.export.results import Evaluation
from probe.export.words import DECISION, duration, printable
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.model.verdict import Check, Verdict
from tests.export import sample


def plain(text: str) -> str:
    return text


def rendered(evaluation: Evaluation, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(summary(evaluation, plain))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def hostile(text: str) -> Evaluation:
    base = sample.failing()
    run = base.runs[0]
    steps = (replace(run.result.steps[0], outcome=Failed(Phase.AUTH, "malformed", text)),)
    sessions = tuple(replace(s, name=text) for s in run.result.sessions)
    checks = (Check(name=text, result=Verdict.FAIL, reason=text),)
    return replace(
        base, cause=None, runs=(replace(run, checks=checks, result=replace(run.result, steps=steps, sessions=sessions)),)
    )


def test_the_verdict_line_says_go_or_no_go_and_why() -> None:
    assert verdict_line(sample.healthy(), plain) == (
        "go (pass): every check passed (5 of 5); 5 of 5 viewers and 1 of 1 publisher well"
    )
    assert verdict_line(sample.failing(), plain).startswith("no-go (fail): a viewer on hls saw only black")
    assert set(DECISION) == set(Verdict)


def test_without_a_cause_the_first_failed_check_is_the_reason() -> None:
    line = verdict_line(replace(sample.failing(), cause=None), plain)
    assert line.startswith("no-go (fail): 1 of 5: first_frame/black, and 1 more;")


def test_the_log_names_every_failure_with_phase_and_reason() -> None:
    lines = plain_lines(sample.failing(), plain)
    assert any("viewer-5 hls: failed: first_frame/black" in line for line in lines)
    assert any("step gift: failed: gift/counted_twice" in line for line in lines)
    assert any("viewer-3 whep" in line and "rebind: failed: reconnecting/timeout" in line for line in lines)
    assert any("tainted: loop_lag" in line for line in lines)
    assert lines[-1] == verdict_line(sample.failing(), plain)


def test_the_table_shows_start_latency_and_reconnect() -> None:
    text = rendered(sample.failing())
    row = next(line for line in text.splitlines() if line.startswith("viewer-1"))
    assert "2.27 s" in row and "288 ms" in row and "restarted" in row
    assert "NO-GO" in text and "trace e7e1858dd1a382c30c5c7fd0a6a3a450" in text


def test_a_crowd_is_not_listed_whole() -> None:
    assert len(plain_lines(sample.crowd(80, failures=2), plain)) < 12
    assert "and 78 more" in rendered(sample.crowd(80, failures=2))


def test_markup_and_escapes_of_a_server_are_not_obeyed() -> None:
    text = rendered(hostile("[red]\x1b[2J\n::error::[/red]"), width=400)
    assert "\x1b" not in text and "[red]" in text
    assert all("\n" not in line and "\x1b" not in line for line in plain_lines(hostile("\x1b]0;x\x07\n"), plain))


@given(st.text(max_size=400))
def test_any_text_is_one_printable_line(text: str) -> None:
    line = printable(text)
    assert len(line) <= 300
    assert line.isprintable()
    rendered(hostile(text), width=80)


def test_no_secret_is_shown() -> None:
    def redact(text: str) -> str:
        return text.replace("hunter2", "•••")

    evaluation = hostile("token hunter2")
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(evaluation, redact))
    assert isinstance(console.file, io.StringIO)
    assert "hunter2" not in console.file.getvalue() + "\n".join(plain_lines(evaluation, redact))


def test_durations_are_written_as_people_read_them() -> None:
    written = [duration(ns) for ns in (None, 900_000, 38_400_000, 1_450_000_000, 125_000_000_000)]
    assert written == ["–", "0.9 ms", "38 ms", "1.45 s", "2 min 5 s"]
