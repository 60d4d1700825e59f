"""junit.xml, for continuous integration: one suite a run, one case a step, a session, a check.

A platform's failure is `failure`; what could not be told (inconclusive, cancelled, aborted) is `error`, so that no
dashboard counts it as passed; skipped is `skipped`, and so is what failed but was optional. Characters that XML 1.0
cannot carry, or discourages because terminals obey them, are replaced.
"""

from __future__ import annotations

import re
from typing import assert_never
from xml.etree import ElementTree as ET

from probe.export.compared_words import headline, title_of, words_of
from probe.export.figures import Redact, rfc3339
from probe.export.results import Compared, Drilled, Evaluation, JudgedRun
from probe.model.clock import NS
from probe.model.comparison import Change
from probe.model.observation import CutOutcome
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.verdict import Check, SessionResult, Verdict

_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(evaluation: Evaluation, redact: Redact) -> str:
    """The file's text. Counts stand on every suite and on the whole."""
    root = ET.Element("testsuites", name=f"stream-probe {evaluation.kind}")
    if evaluation.drill is not None:
        root.append(_drilled(evaluation.drill, evaluation, _Text(redact)))
    else:
        for run in evaluation.runs:
            root.append(_suite(run, _Text(redact)))
    if evaluation.comparison is not None:
        root.append(_compared(evaluation.comparison, evaluation.evaluated, _Text(redact)))
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


class _Text:
    """Text fit for XML, with nothing secret in it."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact

    def __call__(self, text: str) -> str:
        return _UNSPEAKABLE.sub("�", self._redact(text))


def _suite(run: JudgedRun, text: _Text) -> ET.Element:
    result = run.result
    began = result.began
    took = 0 if result.ended is None else result.ended - began.at
    name = f"{began.scenario} {began.publish_region}→{began.region}"
    suite = ET.Element("testsuite", name=text(name), timestamp=rfc3339(began.wall_unix_ns), time=f"{took / NS:.3f}")
    properties = ET.SubElement(suite, "properties")
    for key, value in (
        ("run_id", began.run),
        ("trace_id", began.trace_id),
        ("verdict", run.verdict.value),
        ("target", began.target),
    ):
        ET.SubElement(properties, "property", name=key, value=text(value))
    scope = text(began.scenario)
    for step in result.steps:
        _outcome(_case(suite, f"{scope}.steps", text(step.step), step.took), step.outcome, text, step.optional)
    for session in result.sessions:
        title = text(f"{session.name} ({session.role.value} {session.protocol})")
        case = _case(suite, f"{scope}.sessions", title, session.took)
        _outcome(case, _whole(session), text, session.optional)
    for check in run.checks:
        _check(_case(suite, f"{scope}.checks", text(" ".join(filter(None, (check.name, check.subject)))), None), check, text)
    return _counted(suite)


def _drilled(drilled: Drilled, evaluation: Evaluation, text: _Text) -> ET.Element:
    """A case a fault and a condition. The runs under it were to suffer: a broken one of theirs is no failure of a build."""
    of = drilled.document
    took = (evaluation.evaluated - evaluation.started) / NS
    suite = ET.Element("testsuite", name=text(of.drill), timestamp=rfc3339(evaluation.started), time=f"{took:.3f}")
    properties = ET.SubElement(suite, "properties")
    for key, value in (("run_id", of.run), ("verdict", of.verdict), ("owner", of.owner), ("target", evaluation.target)):
        ET.SubElement(properties, "property", name=key, value=text(value))
    for check in drilled.checks:
        _check(_case(suite, f"{text(of.drill)}.drill", text(check.name), None), check, text)
    return _counted(suite)


def _compared(compared: Compared, at: int, text: _Text) -> ET.Element:
    """A case for the whole and one for each indicator; what cannot be told is skipped, and the whole says what that is worth."""
    suite = ET.Element("testsuite", name="compared", timestamp=rfc3339(at), time="0.000")
    _check(_case(suite, "compared", text(compared.check.name), None), compared.check, text)
    for one in compared.found.differences:
        case = _case(suite, "compared.indicators", text(title_of(one, compared.found)), None)
        words = text(words_of(one, compared.found))
        match one.change:
            case Change.WORSE if compared.check.result is Verdict.FAIL:
                ET.SubElement(case, "failure", type="worse", message=words)
            case Change.CANNOT_TELL:
                ET.SubElement(case, "skipped", message=words)
            case _:
                ET.SubElement(case, "system-out").text = words
    ET.SubElement(suite, "system-out").text = text(headline(compared.found))
    return _counted(suite)


def _counted(suite: ET.Element) -> ET.Element:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    return suite


def _case(suite: ET.Element, scope: str, name: str, took: int | None) -> ET.Element:
    case = ET.SubElement(suite, "testcase", classname=scope, name=name)
    if took is not None:
        case.set("time", f"{took / NS:.3f}")
    return case


def _whole(session: SessionResult) -> Outcome | None:
    """The outcome of the whole stay: a session that started and never came back has failed."""
    lost = [cut.failure for cut in session.cuts if cut.outcome is CutOutcome.FAILED and cut.failure]
    crashed = [session.ended_by] if session.ending == "crashed" and session.ended_by else []
    return next(iter((*lost, *crashed)), session.outcome)


def _outcome(case: ET.Element, outcome: Outcome | None, text: _Text, optional: bool) -> None:
    match outcome:
        case Done():
            pass
        case Failed() if optional:
            ET.SubElement(case, "skipped", message=text(f"optional, and failed: {outcome.phase.value}/{outcome.reason}"))
        case Failed():
            kind = f"{outcome.phase.value}/{outcome.reason}"
            ET.SubElement(case, "failure", type=kind, message=text(": ".join(filter(None, (kind, outcome.detail)))))
        case Skipped():
            ET.SubElement(case, "skipped", message=text(": ".join(filter(None, (outcome.reason, outcome.detail)))))
        case Cancelled():
            ET.SubElement(case, "error", type="cancelled", message="the run was ended before this could end by itself")
        case Aborted():
            ET.SubElement(case, "error", type="aborted", message=text(outcome.detail or "the probe itself broke"))
        case None:
            ET.SubElement(case, "error", type="in_flight", message="still under way when the records end")
        case _:
            assert_never(outcome)


def _check(case: ET.Element, check: Check, text: _Text) -> None:
    measured = "" if check.value is None else f"{check.value:g} {check.unit}".strip()
    words = text("; ".join(filter(None, (check.reason, measured, check.threshold, f"n={check.n}, needs {check.min_n}"))))
    match check.result:
        case Verdict.FAIL:
            ET.SubElement(case, "failure", type=text(check.phase or "check"), message=words)
        case Verdict.INCONCLUSIVE:
            ET.SubElement(case, "error", type="inconclusive", message=words)
        case Verdict.WARN:
            ET.SubElement(case, "system-out").text = f"warn: {words}"
        case Verdict.PASS:
            pass
        case _:
            assert_never(check.result)
