"""`probe gate`: nobody to ask and answers that are none are never a pass; what records say is believed as long as it is young."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from probe.cli.gate import Asked, gate, text
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.model.clock import NS
from probe.store.address import sqlite_url
from probe.store.records import GateKept
from probe.store.store import Store
from tests.decide.receiver import Receiver, breaks_off, floods, receiving
from tests.tools import free_port, wait_until

MINUTE = 60 * NS


def says(document: object, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        body = document if isinstance(document, str) else json.dumps(document)
        return web.Response(status=status, text=body, content_type="application/json")

    return answer


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROBE_AGENT", "PROBE_AUTH"):
        monkeypatch.delenv(name, raising=False)


async def asked(answer: Any, **question: Any) -> tuple[int, Receiver]:
    async with receiving(Receiver(answer=answer)) as to:
        return await gate(Asked(name="hold", agent=to.url, **question)), to


@pytest.mark.parametrize(("result", "code"), [("pass", 0), ("warn", 0), ("fail", 1), ("inconclusive", 3)])
@pytest.mark.parametrize("status", [200, 412, 503])
async def test_the_answer_decides_and_not_its_status(result: str, code: int, status: int):
    assert (await asked(says({"name": "hold", "result": result}, status)))[0] == code


@pytest.mark.parametrize(
    "document",
    [
        {"name": "hold", "result": "PASS"}, {"name": "other", "result": "pass"}, {"result": "pass"}, ["pass"], "pass", "", "{",
        '{"name": "hold", "result": "pass", "value": NaN}', "[" * 50_000, {"name": "hold", "result": ["pass"]},
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_inconclusive(document: object, capsys: pytest.CaptureFixture[str]):
    assert (await asked(says(document)))[0] == 3
    assert "what is no gate's answer" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [floods, breaks_off])
async def test_an_agent_that_misbehaves_is_inconclusive(answer: Any):
    assert (await asked(answer, as_json=True))[0] == 3


async def test_nobody_there_is_inconclusive_and_a_word_over_it_is_an_error(capsys: pytest.CaptureFixture[str]):
    nobody = f"http://127.0.0.1:{free_port()}"
    assert await gate(Asked(name="hold", agent=nobody, as_json=True)) == 3
    assert json.loads(capsys.readouterr().out)["reason"].endswith("cannot be reached: Connection refused")
    with pytest.raises(ConfigError, match="the word was perhaps not heard"):
        await gate(Asked(name="hold", agent=nobody, clear=True))


async def test_it_is_asked_again_while_it_is_inconclusive_and_not_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("probe.cli.gate._AGAIN", 0.02)
    answers = ["inconclusive", "inconclusive", "pass"]

    async def turns(request: web.Request) -> web.StreamResponse:
        return await says({"name": "hold", "result": answers.pop(0) if len(answers) > 1 else answers[0]})(request)

    code, to = await asked(turns, wait="30s")
    assert code == 0 and len(to.heard) == 3
    code, to = await asked(says({"name": "hold", "result": "fail"}), wait="30s")
    assert code == 1 and len(to.heard) == 1
    code, to = await asked(says({"name": "hold", "result": "inconclusive"}), wait="100ms")
    assert code == 3 and len(to.heard) > 1


async def test_a_word_says_who_and_why_and_a_password_goes_by_reference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PASSWORD", "ada:canary-pw")
    word = {"override": "pass", "lasts": "30m", "reason": "ours", "by": "ada", "region": "eu"}
    code, to = await asked(says({"name": "hold", "result": "pass"}), auth="env:PASSWORD", **word)
    assert code == 0 and to.heard[0].document == {"result": "pass", "for": "30m", "reason": "ours", "by": "ada", "region": "eu"}
    assert to.heard[0].headers["Authorization"].startswith("Basic ")
    monkeypatch.setenv("PROBE_AUTH", "x:y")
    _, to = await asked(says({"name": "hold", "result": "fail"}), override="fail", lasts="1m", reason="by nobody")
    assert to.heard[0].document["by"] and "Authorization" in to.heard[0].headers


@pytest.mark.parametrize(("status", "words"), [(401, "give --auth"), (403, "only this machine"), (404, "no such gate")])
async def test_a_question_that_is_refused_is_a_wrong_question(status: int, words: str):
    with pytest.raises(ConfigError, match=words):
        await asked(says("only this machine, no such gate", status))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"override": "maybe", "lasts": "1m", "reason": "x"}, "is not pass or fail"),
        ({"override": "pass"}, "needs --for, such as 30m, and --reason"),
        ({"override": "pass", "lasts": "5", "reason": "x"}, "is not a duration"),
        ({"override": "pass", "lasts": "5m", "reason": "x", "clear": True}, "either says a word or takes it away"),
        ({"reason": "x"}, "go with --override"),
        ({"clear": True, "wait": "1m"}, "leave out --store and --wait"),
        ({"wait": "soon"}, "is not a duration"),
        ({"snippet": "jenkins"}, "is not one of argo, flagger, github, gitlab"),
        ({"store": "x", "agent": "http://a"}, "leave out --agent"),
        ({"agent": "probe.example"}, "is not the address of an agent"),
        ({"agent": "http://ada:pw@probe.example"}, "carries a password"),
        ({"auth": "ada:pw"}, "env:NAME or file:PATH"),
        ({"auth": "env:NOT_THERE"}, "is not set"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_before_anybody_is_asked(question: dict[str, Any], words: str):
    with pytest.raises(ConfigError) as caught:
        await gate(Asked(name="hold", **question))
    assert words in str(caught.value) and "pw" not in str(caught.value)


async def test_a_snippet_asks_nobody(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROBE_AGENT", "http://probe.example:1")
    assert await gate(Asked(name="hold", snippet="argo", region="eu")) == 0
    assert "http://probe.example:1/gate/hold?region=eu" in capsys.readouterr().out


def test_what_is_told_is_printed_on_lines_of_its_own_whatever_is_in_it():
    hostile = {"name": "a\nb", "result": "pass", "value": True, "n": "x", "reason": "\x1b[31m\n", "override": 7, "holding": []}
    assert text(hostile).splitlines() == ["pass  a b", "  reason    �[31m "]
    told = {
        "name": "hold", "result": "fail", "region": "eu", "protocol": "whep", "value": 0.5, "unit": "ratio", "n": 8,
        "window": "4m", "coverage": 0.75, "override": {"result": "pass", "by": "ada", "until": "then", "reason": "why"},
        "holding": {"towards": "opening", "held": 60, "of": 180},
    }  # fmt: skip
    lines = text({"gates": [{"name": "hold", "result": "pass"}, told]}).splitlines()
    assert lines[0] == "fail  hold (eu · whep)" and lines[-1] == "pass  hold"
    assert "  seen      50.0%, of 8 samples in 4m, 75% of the runs due" in lines
    assert "  override  pass by ada until then: why" in lines and "  holding   opening, 60 of 180 s" in lines


# -- of the records; ages are as of the moment at which a row is put


def kept(result: str | None, *, agent: str = "a", region: str = "eu", override: Any = None) -> GateKept:
    told = {"name": "hold", "region": region, "owner": "me", "reason": "because", "action": "wait"}
    data = {"result": result, "told": told, "override": override}
    return GateKept(agent=agent, key=f"one/hold/{region}//", at_ns=0, data=data)


def looked(ago: int, agent: str = "a") -> GateKept:
    return GateKept(agent=agent, key="*", at_ns=-ago, data={})


def put(store: Store, row: GateKept) -> None:
    now, word = SystemClock().system(), row.data.get("override")
    if isinstance(word, dict):
        word = {**word, "since": now + word["since"], "until": now + word["until"]}
    store.put(replace(row, at_ns=now + row.at_ns, data=row.data and {**row.data, "override": word}))


def word(passes: bool, left: int) -> dict[str, Any]:
    return {"passes": passes, "since": 0, "until": left, "who": "ada", "why": "x"}


@pytest.mark.parametrize(("rows", "code", "words"), [
    ([kept("pass"), looked(10 * NS)], 0, "because"), ([kept("fail"), looked(10 * NS)], 1, "because"),
    ([kept("warn"), looked(10 * NS)], 0, ""), ([kept(None), looked(10 * NS)], 3, ""), ([kept("perhaps"), looked(0)], 3, ""),
    ([kept("pass"), looked(10 * MINUTE)], 3, "a has not looked at it for 10 min"), ([kept("pass")], 3, "a never looked at it"),
    ([kept("fail"), looked(10 * MINUTE)], 1, "because"), ([kept("pass"), looked(0, "b")], 3, "never looked"),
    ([kept("pass", override=word(True, MINUTE)), looked(0)], 0, ""), ([kept("fail", override=word(False, MINUTE))], 1, ""),
    ([kept("pass", override=word(True, -1)), looked(0)], 3, "has run out"),
    ([kept("pass"), kept("fail", region="us"), looked(0)], 1, "us"),
])  # fmt: skip
async def test_records_are_believed_while_they_are_young(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[GateKept], code: int, words: str
):
    async with Store.opened(sqlite_url(tmp_path / "records.sqlite"), SystemClock(), tmp_path / "outbox") as store:
        for row in rows:
            put(store, row)
        await wait_until(lambda: not store.behind, 10)
    assert await gate(Asked(name="hold", store=str(tmp_path / "records.sqlite"))) == code
    assert words in capsys.readouterr().out


async def test_records_that_are_none_or_have_no_such_gate_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "records.sqlite"
    assert await gate(Asked(name="hold", store=str(file))) == 3
    assert "there are no records yet" in capsys.readouterr().out
    async with Store.opened(sqlite_url(file), SystemClock(), tmp_path / "outbox") as store:
        put(store, kept("pass"))
        await wait_until(lambda: not store.behind, 10)
    for name, region, words in (("x", "", "there are hold"), ("hold", "us", "there is one in eu")):
        with pytest.raises(ConfigError, match=words):
            await gate(Asked(name=name, region=region, store=str(file)))
    with pytest.raises(ConfigError):
        await gate(Asked(name="hold", store="mysql://x/y"))
