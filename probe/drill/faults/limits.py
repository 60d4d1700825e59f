"""The number of descriptors a running process may have, lowered from outside: RLIMIT_NOFILE by prlimit(2).

Only the soft limit, and only downwards: what was is in the record, and is set again only where what stands there is still ours.
The limit is on a descriptor's number, not on their count (getrlimit(2)): it is set so that as many free numbers are left below it
as the drill says. What is open stays open.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from typing import Any

from probe.drill.faults import pins
from probe.drill.faults.base import NotUndone, Observed, Refused, State
from probe.drill.faults.pins import Pin
from probe.drill.faults.several import of_several

Limits = tuple[int, int]


def lowered(pin: Pin, leave: int) -> dict[str, Any]:
    """What stands, and what is to stand so that it may open `leave` more. Raises Refused."""
    try:
        used = {int(name) for name in os.listdir(f"/proc/{pin.pid}/fd")}
        soft, hard = _limits(pin)
    except ProcessLookupError:
        raise Refused(f"{pin} has just ended", "descriptors") from None
    except OSError as error:
        raise Refused(
            f"the descriptors of {pin} cannot be seen or limited by this user: {error.strerror}", "descriptors"
        ) from None
    free = [number for number in range(len(used) + leave + 1) if number not in used]
    ours = free[leave]
    if ours >= soft:
        raise Refused(f"{pin} may open fewer than {leave} more as it is (limit {soft}, {len(used)} open)", "descriptors")
    return {**pins.written([pin]), "old": [soft, hard], "ours": [ours, hard]}


def lower(limits: Sequence[Mapping[str, Any]]) -> None:
    for one in limits:
        if (pin := _there(one)) is not None and _limits(pin) == tuple(one["old"]):
            resource.prlimit(pin.pid, resource.RLIMIT_NOFILE, tuple(one["ours"]))


def observed(limits: Sequence[Mapping[str, Any]]) -> Observed:
    looks = [_observed(one) for one in limits]
    return of_several([str(pins.read(one)[0]) for one in limits], looks)


def raise_again(limits: Sequence[Mapping[str, Any]]) -> None:
    """Raises NotUndone."""
    for one in limits:
        try:
            if (pin := _there(one)) is not None and _limits(pin) == tuple(one["ours"]):
                resource.prlimit(pin.pid, resource.RLIMIT_NOFILE, tuple(one["old"]))
        except ProcessLookupError:
            continue
        except OSError as error:
            raise NotUndone(f"the limit of {pins.read(one)[0]} cannot be set: {error.strerror}") from None


def _observed(one: Mapping[str, Any]) -> Observed:
    try:
        pin = _there(one)
        limits = _limits(pin) if pin is not None else None
    except ProcessLookupError:
        limits = None
    except OSError as error:
        return Observed(State.UNKNOWN, f"its limit cannot be read: {error.strerror}")
    if limits is None:
        return Observed(State.GONE, "it ended")
    if limits == tuple(one["ours"]):
        return Observed(State.INJECTED, f"may number descriptors below {limits[0]}")
    by = "" if limits == tuple(one["old"]) else ", set by another"
    return Observed(State.RESTORED, f"limit {limits[0]}{by}")


def _there(one: Mapping[str, Any]) -> Pin | None:
    pin = pins.read(one)[0]
    return pin if pins.here(one) and pins.seen(pin) is not None else None


def _limits(pin: Pin) -> Limits:
    return resource.prlimit(pin.pid, resource.RLIMIT_NOFILE)
