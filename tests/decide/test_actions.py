"""Actions of gates: signed, tried again, bounded, in order, and each told once how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.clock import SystemClock
from probe.decide.actions import Actions, Done, Order, document, from_json, signature
from probe.decide.settings import Action
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.decide.receiver import Receiver, breaks_off, floods, hangs, receiving
from tests.tools import free_port, wait_until

SECRET = "canary-7d1f0-hook-secret"


def order(number: int = 1, **changes: Any) -> Order:
    told = Order(
        id=f"order-{number}", action="pause", key="one/hold/eu//", gate="hold", scenario="one", region="eu", publish_region="",
        protocol="", to="closed", result="fail", reason="start[4m] < 90%", value=0.5, owner="me", what="pause campaigns",
        who="me", at=SystemClock().system(),
    )  # fmt: skip
    return replace(told, **changes)


class Bench:
    """Actions that run, and what was told of them."""

    def __init__(self, **actions: Mapping[str, Any]) -> None:
        self.settings = {name: Action.model_validate({"gates": "hold", **action}) for name, action in actions.items()}
        self.done: list[tuple[Order, Done]] = []
        self.redactor = Redactor()
        self.actions = Actions(
            lambda: self.settings, lambda *told: self.done.append(told), SystemClock(), self.redactor, first_wait=0.02
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Actions]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.actions.run())
            try:
                yield self.actions
            finally:
                task.cancel()

    async def ends(self, count: int = 1) -> list[Done]:
        await wait_until(lambda: len(self.done) >= count, 10, f"{count} ends")
        return [done for _, done in self.done]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


async def test_a_webhook_is_told_and_can_prove_who_told_it():
    async with receiving(Receiver()) as to:
        bench = Bench(pause={"webhook": {"url": to.url + "/hooks", "secret": {"env": "HOOK_SECRET"}}})
        async with bench.running() as actions:
            actions.order(order())
            [done] = await bench.ends()
    assert (done.outcome, done.attempts) == ("done", 1) and done.said == "200 thanks"
    [heard] = to.heard
    assert heard.headers["Idempotency-Key"] == "order-1" and heard.headers["Content-Type"] == "application/json"
    timestamp = heard.headers["X-Probe-Timestamp"]
    expected = hmac.new(SECRET.encode(), timestamp.encode() + b"." + heard.body, hashlib.sha256).hexdigest()
    assert heard.headers["X-Probe-Signature"] == f"v1={expected}"
    assert abs(int(timestamp) - SystemClock().system() // NS) < 30
    told = heard.document
    assert (told["gate"], told["region"], told["to"], told["do"], told["value"]) == (
        "hold",
        "eu",
        "closed",
        "pause campaigns",
        0.5,
    )
    assert SECRET.encode() not in heard.body and told["version"] == 1


def test_a_signature_is_of_the_time_and_the_body():
    one = signature("k", "1", b"body")
    assert len({one, signature("k", "2", b"body"), signature("k", "1", b"other"), signature("l", "1", b"body")}) == 4
    assert document(order(value=None)).keys() >= {"gate", "to", "at"} and "value" not in document(order(value=None))


@pytest.mark.parametrize(("statuses", "outcome", "tries"), [
    ([503, 500, 200], "done", 3), ([429, 408, 425, 204], "done", 4), ([400], "failed", 1), ([404], "failed", 1),
])  # fmt: skip
async def test_what_may_heal_is_tried_again_with_one_key_and_what_may_not_is_final(statuses: list[int], outcome: str, tries: int):
    async with receiving(Receiver(statuses=statuses)) as to:
        bench = Bench(pause={"webhook": {"url": to.url}})
        async with bench.running() as actions:
            actions.order(order())
            [done] = await bench.ends()
    assert (done.outcome, done.attempts) == (outcome, tries)
    assert {heard.headers["Idempotency-Key"] for heard in to.heard} == {"order-1"} and len(to.heard) == tries


@pytest.mark.parametrize(("answer", "words"), [
    (hangs, "no answer within 0.2 s"), (floods, "more than 64 KiB"), (breaks_off, "without an answer"),
])  # fmt: skip
async def test_a_receiver_that_misbehaves_costs_a_try_and_is_given_up_by_age(answer: Any, words: str):
    async with receiving(Receiver(answer=answer)) as to:
        bench = Bench(pause={"webhook": {"url": to.url}, "timeout": "200ms", "give_up": "500ms"})
        async with bench.running() as actions:
            actions.order(order())
            [done] = await bench.ends()
    assert done.outcome == "given_up" and done.attempts >= 1 and words in done.said


async def test_a_receiver_that_is_away_and_a_redirect_are_no_success():
    async with receiving(Receiver(statuses=[302], headers={"Location": "/elsewhere"})) as to:
        bench = Bench(
            pause={"webhook": {"url": to.url}, "give_up": "300ms"},
            away={"webhook": {"url": f"http://127.0.0.1:{free_port()}"}, "give_up": "300ms"},
        )
        async with bench.running() as actions:
            actions.order(order())
            actions.order(order(2, action="away"))
            await bench.ends(2)
        said = {told.action: done for told, done in bench.done}
    assert {done.outcome for done in said.values()} == {"given_up"}
    assert "would send us elsewhere" in said["pause"].said and "Connection refused" in said["away"].said


async def test_a_secret_that_is_not_there_is_waited_for_and_never_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HOOK_SECRET")
    async with receiving(Receiver(text=f"you said {SECRET}")) as to:
        bench = Bench(
            pause={"webhook": {"url": to.url, "secret": {"env": "HOOK_SECRET"}, "headers": {"x-token": {"env": "HOOK_SECRET"}}}}
        )
        async with bench.running() as actions:
            actions.order(order())
            await asyncio.sleep(0.05)
            assert not to.heard and not bench.done
            monkeypatch.setenv("HOOK_SECRET", SECRET)
            [done] = await bench.ends()
    assert done.outcome == "done" and SECRET not in done.said and to.heard[0].headers["x-token"] == SECRET


async def test_a_newer_change_supersedes_one_that_was_not_delivered_and_never_overtakes_it():
    gate = asyncio.Event()

    async def waits(_: Any) -> Any:
        from aiohttp import web

        await gate.wait()
        return web.Response()

    async with receiving(Receiver(answer=waits)) as to:
        bench = Bench(pause={"webhook": {"url": to.url}})
        async with bench.running() as actions:
            actions.order(order(1))
            await wait_until(lambda: to.heard)
            actions.order(order(2, to="opened"))
            actions.order(order(3))
            gate.set()
            await bench.ends(3)
    assert [(told.id, done.outcome) for told, done in bench.done] == [
        ("order-2", "superseded"), ("order-1", "done"), ("order-3", "done"),
    ]  # fmt: skip
    assert [heard.headers["Idempotency-Key"] for heard in to.heard] == ["order-1", "order-3"]


async def test_one_that_is_tried_again_gives_way_to_a_newer_change_at_once():
    async with receiving(Receiver(statuses=[503, 200])) as to:
        bench = Bench(pause={"webhook": {"url": to.url}})
        bench.actions.first_wait = 60
        async with bench.running() as actions:
            actions.order(order(1))
            await wait_until(lambda: to.heard)
            actions.order(order(2, to="opened"))
            await bench.ends(2)
    assert [(told.id, done.outcome) for told, done in bench.done] == [("order-1", "superseded"), ("order-2", "done")]


async def test_an_order_of_a_life_before_that_is_too_old_is_given_up_and_never_sent():
    async with receiving(Receiver()) as to:
        bench = Bench(pause={"webhook": {"url": to.url}, "give_up": "1m"})
        async with bench.running() as actions:
            actions.order(from_json(order(at=SystemClock().system() - 3600 * NS).as_json()))
            [done] = await bench.ends()
        assert done.outcome == "given_up" and "3600 s old" in done.said and not to.heard


async def test_an_action_that_was_removed_fails():
    bench = Bench()
    async with bench.running() as actions:
        actions.order(order())
        [done] = await bench.ends()
    assert done.outcome == "failed" and "no such action" in done.said


@pytest.mark.parametrize("kept", [{}, {"id": 1}, {**order().as_json(), "at": "x"}, {**order().as_json(), "more": 1}])
def test_what_is_no_order_is_refused(kept: dict[str, Any]):
    with pytest.raises((TypeError, KeyError, ValueError)):
        from_json(kept)


# -- commands


async def test_a_command_is_told_by_an_environment_of_its_own(tmp_path: Path):
    told = tmp_path / "told"
    program = (
        f"import os, json, sys; json.dump(dict(os.environ), open({str(told)!r}, 'w')); print(sys.argv[1]); print(os.getcwd())"
    )
    bench = Bench(pause={"command": [sys.executable, "-c", program, "$(id); `id` *"]})
    async with bench.running() as actions:
        actions.order(order(reason="line\none\0two"))
        [done] = await bench.ends()
    assert done.outcome == "done" and done.said.startswith("$(id); `id` * /")  # no shell read it
    environment = __import__("json").loads(told.read_text())
    assert environment["PROBE_GATE"] == "hold" and environment["PROBE_TO"] == "closed" and environment["PROBE_VALUE"] == "0.5"
    assert environment["PROBE_REASON"] == "line one�two"
    assert "HOOK_SECRET" not in environment and "HOME" not in environment


@pytest.mark.parametrize(("program", "words"), [
    ("import sys; print('no'); sys.exit(3)", "ended with 3: no"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
    ("import time; print('x', flush=True); time.sleep(60)", "took longer than 1 s: x"),
])  # fmt: skip
async def test_a_command_that_fails_is_told_and_not_run_again(program: str, words: str):
    bench = Bench(pause={"command": [sys.executable, "-c", program], "timeout": "1s"})
    async with bench.running() as actions:
        actions.order(order())
        [done] = await bench.ends()
    assert (done.outcome, done.attempts) == ("failed", 1) and words in done.said


async def test_a_command_that_says_much_costs_little_and_one_that_is_not_there_says_so():
    bench = Bench(
        pause={"command": [sys.executable, "-c", "print('y' * 30_000_000)"]}, none={"command": ["/nowhere/program"]}
    )  # fmt: skip
    async with bench.running() as actions:
        actions.order(order())
        actions.order(order(2, action="none"))
        await bench.ends(2)
    said = {told.action: done for told, done in bench.done}
    assert said["pause"].outcome == "done" and len(said["pause"].said) <= 1_000
    assert said["none"].outcome == "failed" and "cannot be run: No such file" in said["none"].said


async def test_what_a_command_started_is_killed_with_it(tmp_path: Path):
    marker = tmp_path / "pid"
    program = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); open({str(marker)!r}, 'w').write(str(p.pid)); time.sleep(60)"  # noqa: E501
    bench = Bench(pause={"command": [sys.executable, "-c", program], "timeout": "1s"})
    async with bench.running() as actions:
        actions.order(order())
        await bench.ends()

    def gone() -> bool:
        stat = Path(f"/proc/{marker.read_text()}/stat")
        return not stat.exists() or stat.read_text().split()[2] == "Z"

    await wait_until(gone, 5, "the end of the grandchild")
