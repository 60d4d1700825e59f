"""Somebody's word over a gate, by HTTP: from whom it is taken, what it must say, and that it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest

from probe.model.clock import NS
from tests.agent.desks import Desk, served
from tests.agent.test_service import gate

SAID = {"result": "pass", "for": "30m", "reason": "the campaign is ours", "by": "ada"}


def desk() -> Desk:
    made = Desk()
    made.states = [gate("fail", "eu"), gate("fail", "us"), gate("pass", name="other")]
    return made


async def test_a_word_holds_where_it_was_said_and_is_taken_away_again():
    made = desk()
    async with served(made) as (client, url):
        async with client.post(f"{url}/gate/hold/override", json={**SAID, "region": "eu"}) as answer:
            told = await answer.json()
            assert answer.status == 200, told
        over = told["gates"][0]["override"]
        assert told["gates"][0]["result"] == "pass" and len(told["gates"]) == 1
        assert (over["by"], over["reason"], over["result"], over["rule"]) == ("ada", "the campaign is ours", "pass", "fail")
        [eu, us, other] = made.states
        assert eu.override is not None and eu.override.until - eu.override.since == 30 * 60 * NS
        assert us.override is None and other.override is None
        async with client.get(f"{url}/") as answer:
            page = await answer.text()
            assert "the campaign is ours" in page and "ada until" in page and "the rule says fail" in page
        async with client.delete(f"{url}/gate/hold/override?region=eu") as answer:
            assert answer.status == 200 and (await answer.json())["override"] is None
        assert made.states[0].override is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"result": "warn"}, "result is pass or fail"),
        ({"result": ["pass"]}, "result is pass or fail"),
        ({"for": "30"}, "for is how long, such as 30m"),
        ({"for": "0s"}, "more than nothing"),
        ({"for": "8d"}, "at most 7d"),
        ({"for": None}, "for is needed"),
        ({"reason": "  "}, "reason is needed"),
        ({"reason": "x" * 300}, "reason is not a line of text"),
        ({"reason": "a\nb"}, "reason is not a line of text"),
        ({"by": ""}, "by says who answers for it"),
        ({"until": "tomorrow"}, "it takes result, for, reason, by and region"),
    ],
)
async def test_a_word_that_says_too_little_is_refused(change: dict[str, Any], words: str):
    made = desk()
    async with served(made) as (client, url):
        async with client.post(f"{url}/gate/hold/override", json={**SAID, **change}) as answer:
            assert answer.status == 400 and words in await answer.text()
    assert all(state.override is None for state in made.states)


async def test_what_is_no_word_at_all_is_refused():
    made = desk()
    async with served(made) as (client, url):
        for body, kind, status in (
            (b"result=pass", "application/x-www-form-urlencoded", 415),
            (b"{}", "text/plain", 415),
            (b"{", "application/json", 400),
            (b"[" * 9000, "application/json", 400),
            (b"[1]", "application/json", 400),
            (b'"' + b"x" * 20_000 + b'"', "application/json", 413),
        ):
            async with client.post(f"{url}/gate/hold/override", data=body, headers={"Content-Type": kind}) as answer:
                assert answer.status == status, body[:20]
        for path in ("/gate/nobody/override", "/gate/hold/override?x=1"):
            async with client.post(url + path, json=SAID) as answer:
                assert answer.status in (400, 404)
        async with client.get(f"{url}/gate/hold/override") as answer:
            assert answer.status == 405
        async with client.delete(f"{url}/gate/hold/override?region=mars") as answer:
            assert answer.status == 404
    assert all(state.override is None for state in made.states)


async def test_without_authentication_only_this_machine_may_say_it():
    made = desk()
    async with served(made) as (client, url):
        for headers in (
            {"X-Forwarded-For": "192.0.2.1"}, {"Host": "evil.example"}, {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
        ):  # fmt: skip
            for method in ("POST", "DELETE"):
                async with client.request(method, f"{url}/gate/hold/override", json=SAID, headers=headers) as answer:
                    assert answer.status == 403, headers
    assert all(state.override is None for state in made.states)


async def test_with_authentication_it_is_known_who_said_it(tmp_path: Path):
    hashed = bcrypt.hashpw(b"pw", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yaml").write_text(f"basic_auth_users: {{carol: {hashed}}}\n")
    made = desk()
    async with served(made, tmp_path / "web.yaml") as (client, url):
        address = f"{url}/gate/hold/override"
        async with client.post(address, json=SAID) as answer:
            assert answer.status == 401
        carol = {"Authorization": aiohttp.encode_basic_auth("carol", "pw")}
        for by, who in (("", "carol"), ("ada", "ada (as carol)"), ("carol", "carol")):
            async with client.post(address, json={**SAID, "by": by}, headers=carol) as answer:
                assert (await answer.json())["override"]["by"] == who
