"""Actions of gates: ordered once for a change, tried until they are done or too old, recorded once.

Each (gate, action) is a lane in which one order at a time is under way, so that "opened" never overtakes "closed". An order that
has not been delivered when the next comes is *superseded*: the receiver is told how things stand, and not how they stood while it
was away. What happened to each order is told once: done, failed (it was refused for good), given_up (by age) or superseded.

An order's id is the Idempotency-Key of all its tries, those after a restart included. A kill between delivery and record means a
second delivery with the same key, never a second record: there is no way to have both exactly once over a network.

Retries follow what webhook senders agree on: again after no answer, 408, 425, 429 and 5xx, twice as long after each, a minute at
most, or as long as Retry-After says; anything else that is not 2xx is final.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

from probe.clock import SystemClock
from probe.decide.asking import Away, ask, session
from probe.decide.command import run_command
from probe.decide.settings import Action
from probe.export.words import printable
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.net.secret import revealed

_log = logging.getLogger(__name__)
OUTCOMES = ("done", "failed", "given_up", "superseded")
_LONGEST_WAIT = 60.0  # s between two tries
_AGAIN = (408, 425, 429)
_AT_ONCE = 8
_OUTPUT = 1_000  # characters of what a receiver or command says that are recorded
_MANY = 1_000  # lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One change of one gate, for one action. `at` Unix ns; `to`: closed or opened; `key`: which gate of the agent, and where."""

    id: str
    action: str
    key: str
    gate: str
    scenario: str
    region: str
    publish_region: str
    protocol: str
    to: str
    result: str
    reason: str
    value: float | None
    owner: str
    what: str  # the gate's action, in words
    who: str  # who decided: the gate's owner for its rule, or whoever overrides it
    at: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(kept: Mapping[str, Any]) -> Order:
    """Raises TypeError, KeyError or ValueError for what is none."""
    order = Order(**kept)
    if not all(isinstance(getattr(order, name), str) for name in ("id", "action", "key", "to")) or not isinstance(order.at, int):
        raise ValueError("not an order")
    return order


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an order. `said`: what the receiver or command said, cut short, or why it was not done."""

    outcome: str
    attempts: int
    said: str


@dataclass(slots=True)
class _Lane:
    waiting: deque[Order] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)  # another order makes the one under way stale


class Actions:
    """`settings` are the actions in force; `done` is told of each order's end, on the loop. Secrets go to `redactor`."""

    def __init__(
        self,
        settings: Callable[[], Mapping[str, Action]],
        done: Callable[[Order, Done], None],
        clock: SystemClock,
        redactor: Redactor,
        *,
        first_wait: float = 1.0,
    ) -> None:
        self.first_wait = first_wait  # s between the first two tries
        self._settings, self._done, self._clock, self._redactor = settings, done, clock, redactor
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._random = random.Random()

    def order(self, order: Order) -> None:
        """Have it done; returns at once."""
        lane = self._lanes.get((order.key, order.action))
        if lane is None:
            if len(self._lanes) >= _MANY:
                self._end(order, Done("failed", 0, f"{_MANY} actions are under way already"))
                return
            lane = self._lanes[order.key, order.action] = _Lane()
        while lane.waiting:
            self._end(lane.waiting.popleft(), Done("superseded", 0, f"the gate {order.to} before it was tried"))
        lane.waiting.append(order)
        lane.news.set()
        self._news.set()

    async def run(self) -> None:
        """Until cancelled; what is not done by then is still to be done."""
        async with session() as client, asyncio.TaskGroup() as group:
            while True:
                for key, lane in list(self._lanes.items()):
                    if lane.waiting and lane.task is None:
                        lane.task = group.create_task(self._serve(key, lane, client), name=f"action {key[1]}")
                self._news.clear()
                await self._news.wait()

    async def _serve(self, key: tuple[str, str], lane: _Lane, client: aiohttp.ClientSession) -> None:
        while lane.waiting:
            order = lane.waiting.popleft()
            lane.news.clear()
            try:
                done = await self._deliver(order, lane, client)
            except Exception:
                _log.exception("action %s broke", order.action)
                done = Done("failed", 0, "the probe itself broke")
            self._end(order, done)
        self._lanes.pop(key, None)

    def _end(self, order: Order, done: Done) -> None:
        level = logging.INFO if done.outcome in ("done", "superseded") else logging.ERROR
        _log.log(level, "action %s of gate %s, which %s: %s %s", order.action, order.gate, order.to, done.outcome, done.said)
        self._done(order, done)

    async def _deliver(self, order: Order, lane: _Lane, client: aiohttp.ClientSession) -> Done:
        attempts, said = 0, ""
        while True:
            action = self._settings().get(order.action)
            if action is None:
                return Done("failed", attempts, "there is no such action in agent.yaml any more")
            age = self._clock.system() - order.at
            if age > action.give_up:
                why = f"it is {age / NS:.0f} s old" if not attempts else f"after {attempts} tries: {said}"
                return Done("given_up", attempts, why)
            if lane.waiting:
                return Done("superseded", attempts, f"the gate {lane.waiting[-1].to} meanwhile; {said}")
            attempts += 1
            async with self._slots:
                final, said, again = await self._try(order, action, client)
            if final:
                return Done(final, attempts, said)
            _log.warning("action %s of gate %s: %s; it is tried again", order.action, order.gate, said)
            wait = min(max(again, self._backoff(attempts)), action.give_up / NS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await lane.news.wait()

    def _backoff(self, attempts: int) -> float:
        return min(_LONGEST_WAIT, self.first_wait * 2.0 ** min(attempts - 1, 10)) * self._random.uniform(0.8, 1.2)

    async def _try(self, order: Order, action: Action, client: aiohttp.ClientSession) -> tuple[str, str, float]:
        """(outcome or nothing where it is to be tried again, what was said, seconds to wait at least)."""
        seconds = action.timeout / NS
        if action.webhook is None:
            good, said = await run_command(action.command, environment(order), seconds)
            return "done" if good else "failed", self._short(said), 0.0
        try:
            url, headers, body = await asyncio.to_thread(self._request, order, action)
            reply = await ask(client, "POST", url, headers, seconds, body, 64 * 1024)
        except OSError as error:  # a secret that is not there may come
            return "", error.strerror or "a secret cannot be read", 0.0
        except Away as away:
            return "", str(away), 0.0
        said = self._short(f"{reply.status} {reply.body[: 4 * _OUTPUT].decode(errors='replace')}")
        if 200 <= reply.status < 300:
            return "done", said, 0.0
        return "" if reply.status in _AGAIN or reply.status >= 500 else "failed", said, reply.again

    def _request(self, order: Order, action: Action) -> tuple[str, dict[str, str], bytes]:
        """Address, headers and body of one try. Secrets are read for each: they may have changed."""
        assert action.webhook is not None
        hook = action.webhook
        body = json.dumps(document(order), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        headers = {name: self._secret(source.source) for name, source in hook.headers.items()}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": order.id}
        if hook.secret is not None:
            timestamp = str(self._clock.system() // NS)
            headers |= {"X-Probe-Timestamp": timestamp}
            headers |= {"X-Probe-Signature": signature(self._secret(hook.secret.source), timestamp, body)}
        url = hook.url if isinstance(hook.url, str) else self._secret(hook.url.source)
        return url, headers, body

    def _secret(self, source: tuple[str, str]) -> str:
        return revealed(source, self._redactor)

    def _short(self, text: str) -> str:
        return printable(self._redactor.redact(text), limit=_OUTPUT)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the hex HMAC-SHA256 of timestamp, dot and body: who checks it also checks that the timestamp is young."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def document(order: Order) -> dict[str, Any]:
    """What a webhook is told."""
    told = {
        name: value for name, value in order.as_json().items() if value not in ("", None) and name not in ("key", "at", "what")
    }
    return {"version": 1, **told, "do": order.what, "at": order.at / NS}


def environment(order: Order) -> dict[str, str]:
    """What a command is told: an environment of our own, and nothing of the agent's."""
    told = {
        "ID": order.id, "GATE": order.gate, "SCENARIO": order.scenario, "REGION": order.region, "TO": order.to,
        "PUBLISH_REGION": order.publish_region, "PROTOCOL": order.protocol, "RESULT": order.result, "REASON": order.reason,
        "VALUE": "" if order.value is None else repr(order.value), "OWNER": order.owner, "WHO": order.who, "DO": order.what,
    }  # fmt: skip
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    return base | {f"PROBE_{name}": printable(value, limit=600).replace("\0", "") for name, value in told.items()}
