"""From a drill that was read to faults that could be injected: each looks at its targets, and the policy at all of them.

Nothing is touched: `prepare` only reads, under a time limit, since what it reads may hang. Everything that forbids the drill is
told at once, each at its place in the drill file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probe.drill.core.file import FaultUse
from probe.drill.core.policy import Hit, Own, PolicyFile, Refusal, refusals
from probe.drill.faults.base import Fault, Params, Prepared, Preparing, Refused
from probe.drill.faults.table import fault
from probe.drill.load import Loaded
from probe.errors import ConfigError, Located
from probe.model.clock import Clock
from probe.net.redact import Redactor

_SECONDS = 15.0  # for one fault to look at its targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A fault that could be injected. `token` names what it makes; `expires`: CLOCK_BOOTTIME ns by which it must be gone."""

    use: FaultUse
    fault: Fault
    prepared: Prepared
    token: str
    expires: int


async def prepared(
    loaded: Loaded,
    policy: PolicyFile,
    *,
    clock: Clock,
    expires: Callable[[FaultUse], int],
    own: Own,
    redactor: Redactor,
    kind: Callable[[str], Fault] = fault,
) -> tuple[Ready, ...]:
    """Every fault of the drill, in its order. `expires`: by when one must be gone; `own`: what this command started; `kind`: from
    the name of a kind to one. Raises ConfigError with everything that forbids it: what this host or a target cannot do, and
    what the policy does not allow."""
    ready: list[Ready] = []
    mistakes: list[Located] = []
    for use in loaded.drill.method:
        made, token, until = kind(use.fault), secrets.token_hex(4), expires(use)
        given = Preparing(clock=clock, token=token, lasts=use.lasts, expires=until, redactor=redactor)
        try:
            found = await _look(made, loaded.params[use.name], given)
        except Refused as refused:
            inside = ("with", *refused.where.split(".")) if refused.where else ("fault",)
            mistakes.append(loaded.mistake(loaded.of(use.name, *inside), redactor.redact(str(refused))))
            continue
        ready.append(Ready(use=use, fault=made, prepared=found, token=token, expires=until))
    for refusal in refusals(policy, loaded.drill, hits(ready), own, clock.wall().unix_ns):
        mistakes.append(_located(loaded, refusal))
    if mistakes:
        raise ConfigError(sorted(dict.fromkeys(mistakes), key=lambda mistake: (mistake.line, mistake.column)))
    return tuple(ready)


async def _look(made: Fault, params: Params, given: Preparing) -> Prepared:
    try:
        async with asyncio.timeout(_SECONDS):
            return await made.prepare(params, given)
    except TimeoutError:
        raise Refused(f"has not found its targets within {_SECONDS:g} s") from None


def hits(ready: Sequence[Ready]) -> list[Hit]:
    """What they would do, for the policy."""
    return [
        Hit(
            name=one.use.name,
            klass=one.prepared.klass,
            targets=one.prepared.targets,
            of=one.prepared.of,
            begin=one.use.at,
            end=one.use.until,
            restored_by=one.prepared.restored_by,
        )
        for one in ready
    ]


def _located(loaded: Loaded, refusal: Refusal) -> Located:
    inside = (refusal.field,) if refusal.field else ()
    return loaded.mistake(loaded.of(refusal.fault, *inside) if refusal.fault else inside, refusal.message, key=not inside)


def targets(ready: Sequence[Ready]) -> tuple[str, ...]:
    """Everything that the drill hits, once, for leases and reports."""
    return tuple(dict.fromkeys(target for one in ready for target in one.prepared.targets))
