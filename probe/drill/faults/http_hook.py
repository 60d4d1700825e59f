"""Any platform's own switch: a request that breaks, one that puts back, and one that says which of the two it is now.

What an answer to the switch says is not believed: the fault is there when the verification meets what is expected of it injected
and not what is expected of it restored, and gone the other way round; both, neither, or no answer is unknown. Before anything is
injected it must say restored: a fault that is there already is somebody else's.

A secret goes to the origins it is for and nowhere else: redirects are not followed, and the record holds references.
`Idempotency-Key` is the token, so that a request repeated after a lost answer is one. A platform that takes `${ttl}` ends the
fault by itself when nobody can reach it any more; one that takes `${token}` can put back ours alone.

Seen at chaosblade's and Chaos Mesh's servers: an id for each experiment, and its duration as a limit on the target's side. Left
behind: "accepted" taken for "injected". Chaos Toolkit's HTTP provider verifies, but its verdict does not count for actions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import jmespath
from jmespath.exceptions import JMESPathError

from probe.clock import boottime
from probe.decide.asking import Away, Reply, ask, session
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.http_call import SECRET, Fill, HookCall, HookSecret, HttpParams, filled, filling, names
from probe.errors import ProbeError
from probe.model.clock import NS
from probe.net.credential import origin_of
from probe.net.redact import Redactor
from probe.net.secret import revealed

_MOST = 256 * 1024  # bytes of an answer
_SHOWN = 120
_UNDONE = (404, 410)  # there is nothing to put back


class HttpFault:
    about: ClassVar[str] = "a platform's own switch: a request that breaks, one that puts back, one that verifies"
    params: ClassVar[type[Params]] = HttpParams

    async def prepare(self, params: HttpParams, given: Preparing) -> Prepared:
        calls = {"inject": params.inject, "restore": params.restore, "verify": params.verify}
        for name, call in calls.items():
            await asyncio.to_thread(_check_secrets, name, call, params.secrets, given.redactor)
        record: Record = {
            **{name: _recorded(call) for name, call in calls.items()},
            "injected": params.verify.injected.model_dump(mode="json"),
            "restored": params.verify.restored.model_dump(mode="json"),
            "secrets": {name: list(secret.source) for name, secret in params.secrets.items()},
            "seconds": params.timeout / NS,
        }
        fill = filling(given.token, given.lasts)
        before = await _verified(record, given.token, given.expires, given.redactor)
        if before.state is not State.RESTORED:
            raise Refused(f"before anything is broken its verification must say so, but {before.detail}", "verify")
        ends = any(name.startswith("ttl") for name in names(params.inject.http, params.inject.body, params.inject.headers))
        addresses = dict.fromkeys(_address(call.http) for call in (params.inject, params.restore))
        return Prepared(
            klass=Klass.SELF_HEALING if ends else Klass.REVERSIBLE,
            targets=tuple(f"http:{address}" for address in addresses),
            of=len(addresses),
            record=record,
            commands=(Command(_typed(record["inject"], fill), _typed(record["restore"], fill)),),
            limit="the target ends it by itself, at the ttl that it is told" if ends else "",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        try:
            reply = await _asked(record, "inject", io.token, io.expires, io.redactor, key=io.token)
        except (Away, OSError) as error:
            raise ProbeError(f"the switch: {_why(error, io.redactor)}") from None
        if not 200 <= reply.status < 300:
            raise ProbeError(f"the switch answered {_said(reply, io.redactor)}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        return await _verified(record, io.token, io.expires, io.redactor)

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            reply = await _asked(record, "restore", io.token, io.expires, io.redactor, key=f"{io.token}-restore")
        except (Away, OSError) as error:
            raise NotUndone(f"the switch: {_why(error, io.redactor)}") from None
        if not 200 <= reply.status < 300 and reply.status not in _UNDONE:
            raise NotUndone(f"the switch answered {_said(reply, io.redactor)}")


def _check_secrets(name: str, call: HookCall, secrets: Mapping[str, HookSecret], redactor: Redactor) -> None:
    """Every secret of a call is there, and for where it goes."""
    origin = origin_of(call.http.partition(" ")[2])
    for header, value in call.headers.items():
        for used in names(value):
            if not used.startswith(SECRET):
                continue
            secret = secrets.get(used.removeprefix(SECRET))
            where = f"{name}.headers.{header}"
            if secret is None:
                raise Refused(f"there is no secret {used.removeprefix(SECRET)}; name it under secrets", where)
            if origin not in (origin_of(each) for each in secret.origins):
                raise Refused(f"the secret {used.removeprefix(SECRET)} is not for {origin}", where)
            try:
                revealed(secret.source, redactor)
            except OSError as error:
                raise Refused(str(error.strerror), where) from None


async def _verified(record: Record, token: str, expires: int, redactor: Redactor) -> Observed:
    try:
        reply = await _asked(record, "verify", token, expires, redactor)
    except (Away, OSError) as error:
        return Observed(State.UNKNOWN, f"verification: {_why(error, redactor)}")
    said = f"it answered {_said(reply, redactor)}"
    try:
        injected, restored = (_meets(reply, record[name]) for name in ("injected", "restored"))
    except (ValueError, RecursionError):
        return Observed(State.UNKNOWN, f"{said}, which is not the JSON expected")
    if injected is restored:
        words = "both injected and restored" if injected else "neither injected nor restored"
        return Observed(State.UNKNOWN, f"{said}, which is {words}")
    return Observed(State.INJECTED if injected else State.RESTORED, said)


def _meets(reply: Reply, expected: Mapping[str, Any]) -> bool:
    """Raises ValueError where its JSON is to be judged and it has none."""
    if reply.status not in expected["status"]:
        return False
    if not expected["when"]:
        return True
    try:
        return bool(jmespath.search(expected["when"], json.loads(reply.body)))
    except JMESPathError as error:  # a function got what it does not take
        raise ValueError(str(error)) from None


async def _asked(record: Record, what: str, token: str, expires: int, redactor: Redactor, key: str = "") -> Reply:
    """Raises Away, and OSError where a secret cannot be read."""
    call = record[what]
    fill = filling(token, expires - boottime())
    used = {name.removeprefix(SECRET) for name in names(call["headers"]) if name.startswith(SECRET)}
    values = {f"{SECRET}{name}": await asyncio.to_thread(revealed, tuple(record["secrets"][name]), redactor) for name in used}
    headers = {name: fill(value, values) for name, value in call["headers"].items()}
    if key:
        headers["Idempotency-Key"] = key
    body = None
    if call["body"] is not None:
        body = json.dumps(filled(call["body"], fill)).encode()
        headers.setdefault("Content-Type", "application/json")
    method, _, url = call["http"].partition(" ")
    async with session() as client:
        return await ask(client, method, fill(url), headers, record["seconds"], body, _MOST)


def _recorded(call: HookCall) -> dict[str, Any]:
    return {"http": call.http, "body": call.body, "headers": call.headers}


def _address(request: str) -> str:
    return request.partition(" ")[2].partition("?")[0]


def _typed(call: Mapping[str, Any], fill: Fill) -> str:
    """In words, secrets by their names."""
    body = "" if call["body"] is None else f" {json.dumps(filled(call['body'], fill), ensure_ascii=False)}"
    headers = "".join(f"\n{name}: {fill(value)}" for name, value in call["headers"].items())
    return f"{fill(call['http'])}{body}{headers}"


def _said(reply: Reply, redactor: Redactor) -> str:
    text = " ".join(redactor.redact(reply.body[: 8 * _SHOWN].decode(errors="replace")).split())
    text = "".join(c for c in text if c.isprintable())
    return f"{reply.status} {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}".rstrip()


def _why(error: Exception, redactor: Redactor) -> str:
    return redactor.redact(str(error.strerror if isinstance(error, OSError) and error.strerror else error))
