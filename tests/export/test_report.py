"""The report: one file, nothing fetched, nothing a server sent obeyed, every fact of the verdict in it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from probe.export import charts
from probe.export.report import report_html
from probe.export.results import Evaluation
from probe.model.clock import NS
from probe.model.observation import Note
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.model.verdict import Check, Verdict
from tests.export import sample
from tests.tools import requires

HOSTILE = '"><script>alert(1)</script><img src=//x onerror=y>&amp;{{ 7*7 }}\x1b[2J\u202e'
_VOID = {"meta", "rect", "line", "circle", "br", "link", "img"}


def plain(text: str) -> str:
    return text


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID or self.get_starttag_text() == f"<{tag}>":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))


def hostile(text: str) -> Evaluation:
    """Every field that a platform, or a careless scenario, has a hand in."""
    base = sample.failing()
    run = base.runs[0]
    r = run.result
    failed = Failed(Phase.SIGNAL, "malformed", text)
    sessions = tuple(
        replace(
            s,
            name=text,
            device=text,
            facts={text: text},
            outcome=failed if n == 5 else s.outcome,
            requests=tuple(replace(q, edge=text, cache=text, url=text) for q in s.requests),
            windows=tuple(replace(w, rendition=text) for w in s.windows),
            taints=frozenset({text}),
        )
        for n, s in enumerate(r.sessions)
    )
    steps = tuple(replace(s, step=text, service=text, outcome=failed) for s in r.steps)
    dirty = replace(
        r,
        sessions=sessions,
        steps=steps,
        notes=(Note(at=r.began.at, session=text, text=text),),
        began=replace(r.began, target=text, scenario=text, region=text, mode=text),
        available={("", text): 1},
        health=tuple(replace(h, taints=(text,)) for h in r.health),
    )
    check = Check(
        name=text,
        result=Verdict.FAIL,
        threshold=text,
        owner=text,
        action=text,
        reason=text,
        subject=text,
        window=text,
        unit=text,
        value=1,
    )
    return replace(base, runs=(replace(run, result=dirty, checks=(check,)),), release=text, probe_version=text)


def test_it_is_one_file_that_asks_the_network_for_nothing() -> None:
    html = report_html(sample.failing(), plain)
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "use", "image"}
        assert not {"src", "href", "xlink:href", "style", "srcset"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert set(re.findall(r"url\(([^)]*)\)", html)) == {"#hatch"}
    assert "@import" not in html


def test_the_policy_allows_its_own_stylesheet_and_nothing_else() -> None:
    html = report_html(sample.failing(), plain)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_verdict_and_its_reason_stand_on_top() -> None:
    text = Page(report_html(sample.failing(), plain)).text
    assert re.search(
        r"No-go fail A viewer on hls saw only black; edge-a answered 503\. 3 of 5 viewers and 1 of 1 publisher well\.", text
    )
    assert text.index("No-go") < text.index("Checks") < text.index("How each start went") < text.index("Journey")
    assert "eu fail" in text
    assert Page(report_html(sample.healthy(), plain)).text.index("Go pass Every check passed (5 of 5).") < 200


def test_every_failure_is_named_with_phase_and_reason() -> None:
    text = Page(report_html(sample.failing(), plain)).text
    for words in (
        "first_frame/black",
        "gift/counted_twice",
        "reconnecting/timeout",
        "too few untainted",
        "loop_lag",
        "DELETE was answered 405",
    ):
        assert words in text
    assert sample.result().began.trace_id in text
    assert "edge-a" in text and "5xx" in text


def test_every_session_has_a_waterfall_and_a_timeline() -> None:
    page = Page(report_html(sample.failing(), plain))
    labels = [a["aria-label"] or "" for t, a in page.tags if t == "svg" and "aria-label" in a]
    for session in sample.result().sessions:
        assert sum(label.startswith(f"{session.name}:") for label in labels) >= 2
    kinds = {a.get("class") for t, a in page.tags if t == "rect"}
    assert {
        "network",
        "signal",
        "transport",
        "media",
        "picture",
        "probe",
        "frames",
        "frames thin",
        "freeze",
        "cut",
        "unwell",
        "away",
    } <= kinds


def test_what_a_server_sent_is_text_and_never_markup() -> None:
    html = report_html(hostile(HOSTILE), plain)
    assert "<script" not in html and "<img" not in html
    assert "\x1b" not in html and "\u202e" not in html
    assert "{{ 7*7 }}" in html
    known = {tag for tag, _ in Page(report_html(sample.failing(), plain)).tags}
    assert {tag for tag, _ in Page(html).tags} <= known


@settings(max_examples=15, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_no_text_adds_a_tag_or_an_attribute(text: str) -> None:
    shape = [(tag, sorted(attributes)) for tag, attributes in Page(report_html(hostile(text), plain)).tags]
    expected = [(tag, sorted(attributes)) for tag, attributes in Page(report_html(hostile("x"), plain)).tags]
    assert shape == expected


def test_no_secret_is_shown() -> None:
    html = report_html(hostile("token hunter2"), lambda t: t.replace("hunter2", "•••"))
    assert "hunter2" not in html and "•••" in html


def test_its_template_is_compiled_once_and_hides_each_ones_own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    report_html(hostile("token hunter2"), lambda t: t.replace("hunter2", "•••"))
    monkeypatch.delattr(Environment, "compile")
    html = report_html(hostile("hunter2 and swordfish"), lambda t: t.replace("swordfish", "•••"))
    assert "hunter2" in html and "swordfish" not in html


def test_a_crowd_draws_at_most_fifty_rows_and_keeps_what_failed() -> None:
    html = report_html(sample.crowd(400, failures=3), plain)
    page = Page(html)
    assert "and 350 more" in page.text
    assert page.text.count("failed: ice/timeout") >= 3
    assert len(html) < 1_500_000


@pytest.mark.parametrize("cut", ["no sessions", "nothing at all", "under way"])
def test_a_run_that_got_nowhere_still_makes_a_page(cut: str) -> None:
    base = sample.failing()
    run = base.runs[0]
    r = run.result
    match cut:
        case "no sessions":
            r = replace(r, sessions=())
        case "nothing at all":
            r = replace(r, sessions=(), steps=(), health=(), notes=(), requests=(), available={}, ended=None, outcome=None)
        case _:
            sessions = tuple(
                replace(s, outcome=None, ended=None, started=None, took=None, windows=(), cuts=(), slices=(), stages={})
                for s in r.sessions
            )
            r = replace(r, sessions=sessions, ended=None, outcome=None)
    text = Page(report_html(replace(base, runs=(replace(run, result=r),)), plain)).text
    assert "No-go" in text
    assert "nan" not in text.lower().split()


def test_several_runs_stand_under_their_own_names() -> None:
    base = sample.failing()
    other = replace(sample.healthy().runs[0], result=sample.result(healthy=True, region="us"))
    text = Page(report_html(replace(base, runs=(*base.runs, other)), plain)).text
    assert "room-start · eu → eu fail" in text and "room-start · eu → us pass" in text


def bars(chart: charts.Chart) -> Iterator[charts.Bar]:
    for row in chart.rows:
        yield from row.bars
        yield from row.marks


@pytest.mark.parametrize("healthy", [True, False])
def test_nothing_is_drawn_outside_its_picture(healthy: bool) -> None:
    result = sample.result(healthy=healthy)
    for chart in (charts.waterfall(result), charts.timeline(result)):
        for bar in bars(chart):
            assert 0 <= bar.at <= 100 and bar.width >= 0 and bar.at + bar.width <= 100.01, bar
            assert 0 <= bar.height <= 100
        assert all(0 <= t.at <= 100 for t in chart.ticks)
    for distribution in (charts.first_frames(result), charts.latencies(result)):
        assert distribution is not None
        assert all(0 <= d.at <= 100 for s in distribution.strips for d in s.dots)


def test_the_slices_drawn_add_up_to_the_start() -> None:
    result = sample.result()
    longest = max(sum(p.took for p in s.slices) for s in result.sessions)
    for row, session in zip(charts.waterfall(result).rows, result.sessions, strict=True):
        drawn = sum(bar.width for bar in row.bars) / 100 * longest * 1.02
        assert drawn == pytest.approx(sum(p.took for p in session.slices), rel=1e-3)


@given(st.floats(0.001, 1e14))
def test_axes_have_few_round_marks(span: float) -> None:
    found = charts.ticks(span, lambda value: f"{value:g}")
    assert 2 <= len(found) <= 12
    assert found[0].at == 0 and all(a.at < b.at for a, b in pairwise(found))


def test_a_window_is_judged_only_where_frames_could_be() -> None:
    assert charts.pieces(0, 10, [(2, 4), (3, 6), (9, 20)]) == [(0, 2), (6, 9)]
    assert charts.pieces(0, 10, [(-5, 30)]) == []
    assert charts.pieces(5, 10, [(0, 2)]) == [(5, 10)]
    result = sample.result(healthy=True)
    cut = next(s for s in result.sessions if s.protocol == "whep")
    row = next(r for r in charts.timeline(result).rows if r.label == cut.name)
    assert not any(bar.kind == "frames thin" for bar in row.bars), "an outage of our own making is not a thin stream"


def test_passed_checks_of_steps_and_sessions_are_folded_away_and_gates_are_not() -> None:
    html = report_html(sample.failing(), plain)
    folded = re.findall(r"<summary>(\d+) checks? of steps and sessions passed</summary>", html)
    assert folded == []  # in the sample both passing checks are gates
    base = sample.healthy()
    run = base.runs[0]
    quiet = tuple(Check(name=f"step {n}", result=Verdict.PASS, subject=f"{n}", n=1) for n in range(20))
    html = report_html(replace(base, runs=(replace(run, checks=(*run.checks, *quiet)),)), plain)
    assert "21 checks of steps and sessions passed" in html
    assert html.index("hold-campaign") < html.index("21 checks") < html.index("step 19")


def test_a_tainted_start_is_drawn_apart_and_not_counted() -> None:
    chart = charts.first_frames(sample.result())
    assert chart is not None
    whep = next(s for s in chart.strips if s.label == "whep")
    assert [d.kind for d in whep.dots] == ["", "tainted", ""]
    assert whep.note == "2 of 3 untainted"


@pytest.mark.parametrize(("width", "scheme"), [(500, 1), (1280, 0)])
def test_a_real_browser_draws_it(tmp_path: Path, width: int, scheme: int) -> None:
    chromium = requires("chromium", "chromium-browser", package="chromium")
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report_html(sample.failing(), plain), encoding="utf-8")
    command = [
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},1200"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"),
        *(f"--screenshot={picture}", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, timeout=50)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 30_000, "an unstyled or empty page is smaller"
    assert b"Content Security Policy" not in done.stderr


def test_times_are_the_runs_own() -> None:
    base = sample.failing()
    text = Page(report_html(replace(base, evaluated=base.evaluated + 3600 * NS), plain)).text
    assert "Evaluated 21 Nov 2026, 10:00:25 UTC" in text
