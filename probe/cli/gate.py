"""`probe gate NAME`: what a gate says, asked of the agent that judges it or of its records; a word over it; a snippet.

Whoever calls it looks at the exit code: nobody to ask, an answer that is none, records that nobody has written to lately are
inconclusive (3) and never a pass. An agent's answer is bounded and taken for what it says; `result` is one of four words or the
answer is none.
"""

from __future__ import annotations

import asyncio
import base64
import getpass
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from probe.cli import exits
from probe.cli.trace import records_url
from probe.clock import SystemClock
from probe.decide.asking import Away, Reply, ask, session
from probe.errors import ConfigError, Located
from probe.export.words import duration, printable
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.net.secret import named, read_secret
from probe.rules.rollouts import SNIPPETS
from probe.rules.rollouts import Asked as Snippet
from probe.scenario.units import parse_duration
from probe.store.errors import StoreError, StoreRefused
from probe.store.reader import Records
from probe.store.records import GateKept

HERE = "http://127.0.0.1:9464"
_SECONDS = 10.0  # for an answer
_AGAIN = 5.0  # s between questions
_ALIVE = 3 * 60 * NS  # since a gate's agent has last looked at it
_ALIVE_KEY = "*"
_WORSE = {verdict.value: verdict.rank for verdict in Verdict}
Told = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question, as the command line has it."""

    name: str
    region: str = ""
    agent: str | None = None
    auth: str | None = None
    store: str | None = None
    wait: str | None = None
    override: str | None = None
    lasts: str | None = None
    reason: str | None = None
    by: str | None = None
    clear: bool = False
    snippet: str | None = None
    as_json: bool = False


async def gate(asked: Asked) -> int:
    """Ask, print, and return the exit code. Raises ConfigError for a question that is none."""
    _sensible(asked)
    if asked.snippet is not None:
        print(SNIPPETS[asked.snippet](Snippet(gate=asked.name, region=asked.region, **_addresses(asked))), end="")
        return 0
    told = await _waited(asked)
    print(json.dumps(told, indent=2, ensure_ascii=False) if asked.as_json else text(told))
    return exits.of_verdict(Verdict(told["result"]))


def _sensible(asked: Asked) -> None:
    """Raises ConfigError."""
    word = asked.override is not None or asked.clear
    if asked.override is not None and asked.clear:
        _wrong("--clear", "either says a word or takes it away")
    if asked.override not in (None, "pass", "fail"):
        _wrong("--override", f"{asked.override!r} is not pass or fail")
    if asked.override is not None and not (asked.lasts and asked.reason):
        _wrong("--override", "needs --for, such as 30m, and --reason: both are recorded, and shown to whoever asks")
    if asked.override is None and (asked.lasts or asked.reason or asked.by):
        _wrong("--for, --reason and --by", "go with --override")
    if word and (asked.store is not None or asked.wait is not None):
        _wrong("--override and --clear", "are for the agent, and at once: leave out --store and --wait")
    if asked.snippet is not None and asked.snippet not in SNIPPETS:
        _wrong("--as", f"{asked.snippet!r} is not one of {', '.join(SNIPPETS)}")
    if asked.store is not None and asked.agent is not None:
        _wrong("--store", "asks records; leave out --agent")
    for option, value in (("--wait", asked.wait), ("--for", asked.lasts)):
        if value is not None:
            try:
                parse_duration(value)
            except ValueError as error:
                _wrong(option, str(error))


def _wrong(option: str, words: str) -> NoReturn:
    raise ConfigError([Located(option, 0, 0, "", words)])


async def _waited(asked: Asked) -> Told:
    """What it says, once it says something, or when there is no more time."""
    clock = SystemClock()
    ends = clock.now() + (parse_duration(asked.wait) if asked.wait is not None else 0)
    while True:
        told = await (_of_records(asked) if asked.store is not None else _of_agent(asked))
        left = (ends - clock.now()) / NS
        if told["result"] != Verdict.INCONCLUSIVE.value or left <= 0:
            return told
        print(f"probe: {asked.name}: inconclusive: {told.get('reason', '')}; asked again for {left:.0f} s", file=sys.stderr)
        await asyncio.sleep(min(_AGAIN, left))


def unknown(asked: Asked, reason: str) -> Told:
    """Nobody could say."""
    return {"name": asked.name, "region": asked.region, "result": Verdict.INCONCLUSIVE.value, "reason": reason}


# -- of an agent


def _address(asked: Asked) -> str:
    url = asked.agent or os.environ.get("PROBE_AGENT", "") or HERE
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        _wrong("--agent", "is not the address of an agent; write http://host:9464")
    if parts.username is not None or parts.password is not None:
        _wrong("--agent", "carries a password; give it with --auth env:NAME")
    return url.rstrip("/")


def _addresses(asked: Asked) -> dict[str, str]:
    """Those that are said; a snippet has its own for the rest."""
    return {"agent": _address(asked)} if asked.agent or os.environ.get("PROBE_AGENT") else {}


def _headers(asked: Asked) -> dict[str, str]:
    reference = asked.auth or ("env:PROBE_AUTH" if os.environ.get("PROBE_AUTH") else "")
    if not reference:
        return {}
    kind, _, argument = reference.partition(":")
    if kind not in ("env", "file") or not argument:
        _wrong("--auth", "says where user:password is: env:NAME or file:PATH")
    try:
        value = read_secret((kind, argument))
    except OSError as error:
        _wrong("--auth", f"{named((kind, argument))} {error.strerror}")
    return {"Authorization": "Basic " + base64.b64encode(value.encode()).decode()}


async def _of_agent(asked: Asked) -> Told:
    url, headers = f"{_address(asked)}/gate/{quote(asked.name, safe='')}", _headers(asked)
    where = f"?region={quote(asked.region, safe='')}" if asked.region else ""
    async with session() as client:
        try:
            if asked.override is not None:
                body = json.dumps(_word(asked)).encode()
                kind = {"Content-Type": "application/json"}
                reply = await ask(client, "POST", f"{url}/override", headers | kind, _SECONDS, body)
            elif asked.clear:
                reply = await ask(client, "DELETE", f"{url}/override{where}", headers, _SECONDS)
            else:
                reply = await ask(client, "GET", url + where, headers, _SECONDS)
        except Away as away:
            if asked.override is not None or asked.clear:
                _wrong("--agent", f"{url}: {away}; the word was perhaps not heard")
            return unknown(asked, f"the agent at {_address(asked)}: {away}")
    return _understood(asked, reply)


def _word(asked: Asked) -> Told:
    said = {"result": asked.override, "for": asked.lasts, "reason": asked.reason, "by": asked.by or _user()}
    return said | ({"region": asked.region} if asked.region else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _understood(asked: Asked, reply: Reply) -> Told:
    """What an agent's answer comes to. Raises ConfigError where it is the question that is wrong."""
    if reply.status in (400, 401, 403, 404, 405, 413, 415):
        said = printable(reply.body[:600].decode(errors="replace").strip(), 300)
        remedy = "; give --auth env:NAME" if reply.status == 401 else ""
        _wrong(f"gate {asked.name}", f"{said or reply.status}{remedy}")
    try:
        told = json.loads(reply.body, parse_constant=_no_number)
        good = isinstance(told, dict) and _verdict(told.get("result")) is not None and told.get("name") == asked.name
    except (ValueError, RecursionError):
        good = False
    if not good:
        return unknown(asked, f"the agent answered {reply.status}, with what is no gate's answer")
    return dict(told)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


# -- of the records


async def _of_records(asked: Asked) -> Told:
    clock = SystemClock()
    try:
        async with Records.reading(_records(asked), clock) as records:
            kept = await records.gates()
    except StoreRefused as error:
        _wrong("--store", str(error))
    except StoreError as error:
        return unknown(asked, str(error))
    now = clock.system()
    looked = {one.agent: one.at_ns for one in kept if one.key == _ALIVE_KEY}
    states = [_kept(one, looked.get(one.agent, 0), now) for one in kept if one.key != _ALIVE_KEY and not one.data.get("gone")]
    known = sorted({str(state["name"]) for state in states})
    states = [state for state in states if state["name"] == asked.name]
    if not states:
        _wrong(f"gate {asked.name}", f"the records have none of that name; there are {', '.join(known) or 'none'}")
    found = [state for state in states if asked.region in ("", state["region"]) or not state["region"]]
    if not found:
        where = ", ".join(sorted({str(state["region"]) for state in states}))
        _wrong("--region", f"{asked.region!r} has no gate {asked.name}; there is one in {where}")
    return {**max(found, key=lambda state: _WORSE[state["result"]]), "gates": found}


def _records(asked: Asked) -> str:
    store = asked.store or ""
    if store.endswith((".yaml", ".yml")):
        return records_url(None, Path(store), os.environ)
    return records_url(store, None, os.environ)


def _kept(one: GateKept, looked: int, now: int) -> Told:
    """A gate as its agent kept it, as far as that is still to be believed."""
    data, told = one.data, dict(_mapping(one.data.get("told")))
    result, over = data.get("result"), _mapping(data.get("override"))
    known = _verdict(result) or Verdict.INCONCLUSIVE.value
    reason = str(told.get("reason", ""))
    if over and isinstance(over.get("until"), int) and over["until"] > now:
        known = Verdict.PASS.value if over.get("passes") is True else Verdict.FAIL.value
    elif now - looked > _ALIVE and known != Verdict.FAIL.value:
        known = Verdict.INCONCLUSIVE.value
        reason = f"{one.agent} has not looked at it for {duration(now - looked)}" if looked else f"{one.agent} never looked at it"
    elif over and known == Verdict.PASS.value:
        known, reason = Verdict.INCONCLUSIVE.value, "a word that held in place of the rule's has run out"
    return {"name": "", "region": "", **told, "result": known, "reason": reason, "agent": one.agent}


def _verdict(value: object) -> str | None:
    return value if isinstance(value, str) and value in _WORSE else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# -- in words


def text(told: Told) -> str:
    """A few lines for people; every value is somebody else's."""
    gates: Sequence[Told] = [one for one in told.get("gates", []) if isinstance(one, dict)] or [told]
    blocks = [_block(one) for one in sorted(gates, key=lambda one: -_WORSE.get(str(one.get("result")), 9))]
    return "\n\n".join(blocks)


def _block(one: Told) -> str:
    def said(name: str) -> str:
        value = one.get(name)
        return printable(str(value), 300) if value not in (None, "") else ""

    place = " · ".join(filter(None, (said("region"), said("publish_region"), said("protocol"))))
    lines = [f"{said('result')}  {said('name')}" + (f" ({place})" if place else "")]
    seen = _seen(one)
    facts = {"reason": said("reason"), "seen": seen, "owner": said("owner"), "action": said("action"), "since": said("since")}
    over = _mapping(one.get("override"))
    if over:
        words = {name: printable(str(value), 300) for name, value in over.items()}
        facts["override"] = f"{words.get('result')} by {words.get('by')} until {words.get('until')}: {words.get('reason')}"
    holding = _mapping(one.get("holding"))
    if holding:
        facts["holding"] = f"{printable(str(holding.get('towards')), 20)}, {holding.get('held')} of {holding.get('of')} s"
    return "\n".join([*lines, *(f"  {name:9} {words}" for name, words in facts.items() if words)])


def _seen(one: Told) -> str:
    value, n, coverage = one.get("value"), one.get("n"), one.get("coverage")
    parts = []
    if isinstance(value, int | float) and not isinstance(value, bool):
        unit = one.get("unit")
        parts.append(f"{value:.1%}" if unit == "ratio" else f"{value:.3g} s" if unit == "seconds" else f"{value:g}")
    if isinstance(n, int):
        window = printable(str(one.get("window") or ""), 20)
        parts.append(f"of {n} samples" + (f" in {window}" if window else ""))
    if isinstance(coverage, int | float) and not isinstance(coverage, bool):
        parts.append(f"{coverage:.0%} of the runs due")
    return ", ".join(parts)
