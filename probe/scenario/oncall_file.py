"""An oncall.yaml → an OnCall, or every mistake in it at once, each with its place.

What needs the calendar (holes, overlaps) is asked of the caller's `examine`: it knows what year it is, and regions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path as FilePath

from probe.errors import ConfigError, Located
from probe.scenario.check import Finding
from probe.scenario.located import dotted, read, validated, with_env
from probe.scenario.oncall import BACKUP, ON_SHIFT, PAGED, WEEKDAYS, OnCall, Override, Policy, Queue
from probe.scenario.receivers import TAG
from probe.scenario.text import Path, parse
from probe.scenario.units import describe

Examine = Callable[[OnCall], Iterable[Finding]]
RESERVED = ("shadow",)  # receivers of the generated configuration


def load_oncall(path: str | FilePath, *, examine: Examine, env: Mapping[str, str] | None = None) -> OnCall:
    """Read oncall.yaml. `examine` is asked once everything else is well. Raises ConfigError with all mistakes."""
    return loads_oncall(read(path), str(path), examine=examine, env=env)


def loads_oncall(text: str, file: str = "oncall.yaml", *, examine: Examine, env: Mapping[str, str] | None = None) -> OnCall:
    """`load_oncall` of a text; `file` is what messages call it."""
    document = parse(text, file)
    oncall = None
    if isinstance(document.data, dict):
        data = with_env(document, document.data, os.environ if env is None else env)
        oncall = validated(document, OnCall, data, back=_untagged)
    elif not document.mistakes:
        what = "is empty" if document.data is None else f"is {describe(document.data)}, not a mapping that begins with oncall:"
        document.mistakes.append(Located(file, 0, 0, "", what))
    if oncall is not None and not document.mistakes:
        for finding in list(_findings(oncall)) or examine(oncall):
            document.mistake(finding.path, finding.message, dotted(finding.path), key=finding.key)
    if oncall is None or document.mistakes:
        raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)))
    return oncall


def _untagged(path: Path) -> Path:
    return tuple(part for part in path if not str(part).startswith(TAG))


def _findings(oncall: OnCall) -> Iterator[Finding]:
    """What is wrong between parts of the file, calendar apart."""
    receivers = oncall.receivers
    for name, receiver in receivers.items():
        if name in RESERVED:
            yield Finding(("receivers", name), f"{name!r} is the generated configuration's own; give it another name", key=True)
        if receiver.email is not None and oncall.smtp is None:
            yield Finding(("receivers", name, "email"), "says to whom; say also how mail leaves: smtp: {smarthost: …, from: …}")
    called = list(_called(oncall))
    for path, name in called:
        if name not in receivers:
            yield Finding(path, f"{describe(name)} is not one of the receivers: {', '.join(receivers)}")
        elif name == oncall.watchdog.call:
            yield Finding(path, f"{name!r} is the watchdog's: whoever hears it every minute takes no alert for one")
    if oncall.watchdog.call not in receivers:
        message = f"{describe(oncall.watchdog.call)} is not one of the receivers: {', '.join(receivers)}"
        yield Finding(("watchdog", "call"), message)
    if oncall.escalation.p1.clock != "always":
        yield Finding(("escalation", "P1", "clock"), "P1 pages at any hour: always")
    for severity in PAGED:
        yield from _steps(("escalation", severity, "steps"), oncall.escalation.of(severity))
    owned: dict[str, str] = {}
    for name, queue in oncall.queues.items():
        for index, owner in enumerate(queue.owners):
            if owned.setdefault(owner, name) != name:
                yield Finding(("queues", name, "owners", index), f"{owner!r} is answered for by queue {owned[owner]} already")
        yield from _queue(("queues", name), queue, oncall)


def _called(oncall: OnCall) -> Iterator[tuple[Path, str]]:
    """Every receiver that is named anywhere but by the watchdog."""
    yield ("fallback",), oncall.fallback
    for severity in PAGED:
        for index, step in enumerate(oncall.escalation.of(severity).steps):
            if step.by == "alertmanager" and step.call not in (ON_SHIFT, BACKUP):
                yield ("escalation", severity, "steps", index, "call"), step.call
    for name, queue in oncall.queues.items():
        for kind, turns in (("shifts", queue.shifts), ("overrides", queue.overrides)):
            for index, turn in enumerate(turns):
                yield ("queues", name, kind, index, "call"), turn.call
                if turn.backup is not None:
                    yield ("queues", name, kind, index, "backup"), turn.backup


def _steps(path: Path, policy: Policy) -> Iterator[Finding]:
    first = policy.steps[0]
    if first.after or first.by != "alertmanager":
        yield Finding((*path, 0), "the first step is Alertmanager's, at once: leave `after` and `by` away")
    for index, (before, step) in enumerate(zip(policy.steps, policy.steps[1:], strict=False), start=1):
        if step.after <= before.after:
            yield Finding((*path, index, "after"), "comes no later than the step before it")
        if step.by == "alertmanager" and step.call in [one.call for one in policy.steps[:index] if one.by == "alertmanager"]:
            message = f"{step.call} is called by an earlier step already; while the alert fires that is repeated, as `again` says"
            yield Finding((*path, index, "call"), message)


def _queue(path: Path, queue: Queue, oncall: OnCall) -> Iterator[Finding]:
    names: dict[str, int] = {}
    for index, shift in enumerate(queue.shifts):
        here = (*path, "shifts", index)
        if names.setdefault(shift.name, index) != index:
            yield Finding((*here, "shift"), f"there is a shift {shift.name!r} already; give it another name")
        for severity in shift.severities:
            if shift.backup is None and (step := _backup(oncall.escalation.of(severity))) is not None:
                message = f"escalation.{severity}.steps[{step}] calls the backup of shift {shift.name}, which has none"
                yield Finding(here, f"{message}; give it backup: …")
    for index, override in enumerate(queue.overrides):
        yield from _override((*path, "overrides", index), override, queue)


def _backup(policy: Policy) -> int | None:
    """The step that calls whoever is second."""
    return next((index for index, step in enumerate(policy.steps) if step.call == BACKUP), None)


def _override(path: Path, override: Override, queue: Queue) -> Iterator[Finding]:
    if override.shift is None:
        return
    shift = next((shift for shift in queue.shifts if shift.name == override.shift), None)
    if shift is None:
        known = ", ".join(shift.name for shift in queue.shifts)
        yield Finding((*path, "shift"), f"{describe(override.shift)} is not one of the queue's shifts: {known}")
        return
    for index, day in enumerate(override.on):
        if day.weekday() not in shift.days:
            message = f"shift {shift.name} does not begin on a {WEEKDAYS[day.weekday()]}: nobody is to be replaced"
            yield Finding((*path, "on", index), message)
