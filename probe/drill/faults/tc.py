"""A slow or a long path, by tc in a network namespace or on this host: a rate (tbf), delay, jitter and loss (netem).

One root queueing discipline with a handle of ours (4000: to 7fff:, by the token), added and never replaced: an interface whose
root is somebody's is refused, and what is deleted is named by its handle, which the kernel compares (tc(8)). It works on what
leaves the interface; for what arrives, shape the other end of the cable.

netem is not in every kernel; that is found out in a namespace of a moment, so that a refusal has touched nothing. Its queue of
1000 packets would turn delay into loss (tc-netem(8), `limit`): it is made as long as the delay needs. A jitter reorders packets.

Nothing in the kernel ends this by itself but a restart, hence reversible and not self-healing. It slows the way to this host and
cuts nothing.

Seen at pumba and Chaos Mesh (netem, tbf) and chaosblade (netem under a prio root). Left behind: `replace` of whatever root was
there, and a failed `tc qdisc show` read as "nothing there".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, model_validator

from probe.drill.faults import netns
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
from probe.errors import ProbeError
from probe.model.clock import MS, NS
from probe.scenario.fields import OneOrMany
from probe.scenario.units import Duration, PositiveDuration, Rate, Ratio

_TICK = 250  # a second: the coarsest clock a kernel of today sends a bucket's bytes by
_SMALL = 500  # bytes of a packet, where it matters how many there are
_FAST = 10**9  # bit/s taken for an interface whose rate nobody limits
_REMEDY = (
    "this kernel has no netem ({}): load sch_netem (Debian's cloud kernels lack it, linux-image-amd64 has it), or delay the path "
    "of our own clients with the fault `link`"
)


class TcParams(netns.Place):
    """What leaves the interface, all of it."""

    interface: Annotated[tuple[Annotated[str, StringConstraints(pattern=netns.DEVICE)], ...], OneOrMany()] = Field(
        min_length=1, description="What leaves here.", examples=["eth0"]
    )
    rate: Rate | None = Field(None, description="No more than this.", examples=["500kbps"])
    queue: PositiveDuration = Field(
        100 * MS, description="Of a rate alone: how long a packet may wait before the next is lost.", examples=["100ms"]
    )
    delay: Duration = Field(0, description="Each packet later by this; needs netem.", examples=["100ms"])
    jitter: Duration = Field(0, description="And by up to so much more or less.", examples=["20ms"])
    loss: Ratio = Field(0.0, description="Packets lost by chance; needs netem. The fault nft needs none.", examples=["1%"])
    quiet: bool = Field(
        False, description="It may be that nothing passes there at first: being in place is enough to count as injected."
    )

    @model_validator(mode="after")
    def _something(self) -> TcParams:
        if self.rate is None and not (self.delay or self.loss):
            raise ValueError("say what is to be wrong: rate, delay or loss")
        if self.jitter > self.delay:
            raise ValueError("a jitter is no longer than its delay")
        return self


class TcFault:
    about: ClassVar[str] = "a slow or long path: rate, and delay where the kernel has netem (tc)"
    params: ClassVar[type[Params]] = TcParams

    async def prepare(self, params: TcParams, given: Preparing) -> Prepared:
        where = netns.place(params)
        netns.program("tc", "iproute2")
        try:
            mtu, roots = await _links(where), await _roots(where)
        except (netns.Gone, netns.Unseen) as error:
            raise Refused(str(error)) from None
        for name in params.interface:
            if name not in roots:
                raise Refused(f"there is no interface {name} in {where['name']}, but {', '.join(sorted(roots))}", "interface")
            if (handle := roots[name].get("handle")) != "0:":
                theirs = f"{roots[name].get('kind')} {handle}"
                raise Refused(f"{name} has a queueing discipline of somebody's ({theirs}); it is not replaced", "interface")
        netem = bool(params.delay or params.loss)
        words = {name: _netem(params) if netem else _tbf(params, mtu[name]) for name in params.interface}
        tried = await netns.tried(
            "tc", "qdisc", "add", "dev", "lo", "root", "handle", _handle(given.token), *words[params.interface[0]]
        )
        if tried.code:
            raise Refused(_REMEDY.format(tried.complaint) if netem else f"this kernel cannot do it: {tried.complaint}")
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=tuple(f"{where['name']}/{name}" for name in params.interface),
            of=len([name for name in roots if name != "lo"]) or 1,
            record={"where": where, "devices": words, "quiet": params.quiet},
            commands=tuple(
                Command(netns.typed(where, *_add(name, given.token), *added), netns.typed(where, *_delete(name, given.token)))
                for name, added in words.items()
            ),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        for name, words in record["devices"].items():
            ran = await netns.run(record["where"], *_add(name, io.token), *words)
            if ran.code:
                raise ProbeError(f"tc does not take it on {name}: {ran.complaint}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            roots, there = await _roots(record["where"]), await _links(record["where"])
        except netns.Gone as gone:
            return Observed(State.GONE, str(gone))
        except netns.Unseen as error:
            return Observed(State.UNKNOWN, str(error))
        devices = [name for name in record["devices"] if name in there]
        if not devices:
            return Observed(State.GONE, f"no interface {', '.join(record['devices'])} any more")
        ours = {name: roots[name] for name in devices if roots.get(name, {}).get("handle") == _handle(io.token)}
        if not ours:
            return Observed(State.RESTORED, f"nothing of ours on {', '.join(devices)}")
        if len(ours) < len(devices):
            return Observed(State.UNKNOWN, f"on {', '.join(ours)} alone, of {', '.join(devices)}")
        if not record["quiet"] and not any(found.get("packets") for found in ours.values()):
            return Observed(State.UNKNOWN, "in place, but no packet has met it (quiet: true where none is expected)")
        return Observed(State.INJECTED, "; ".join(_told(name, found) for name, found in ours.items()))

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            roots = await _roots(record["where"])
            for name in record["devices"]:
                if roots.get(name, {}).get("handle") == _handle(io.token):
                    ran = await netns.run(record["where"], *_delete(name, io.token))
                    if ran.code:
                        raise NotUndone(f"tc does not delete {_handle(io.token)} of {name}: {ran.complaint}")
        except netns.Gone:
            return
        except netns.Unseen as error:
            raise NotUndone(str(error)) from None


def _handle(token: str) -> str:
    return f"{0x4000 | int(token, 16) & 0x3FFF:x}:"


def _add(name: str, token: str) -> list[str]:
    return ["tc", "qdisc", "add", "dev", name, "root", "handle", _handle(token)]


def _delete(name: str, token: str) -> list[str]:
    return ["tc", "qdisc", "del", "dev", name, "root", "handle", _handle(token)]


def _tbf(params: TcParams, mtu: int) -> list[str]:
    """A bucket that holds what one tick lets through, and two packets at least."""
    assert params.rate is not None
    burst = max(2 * mtu, params.rate // 8 // _TICK)
    limit = burst + params.rate * params.queue // (8 * NS)
    return ["tbf", "rate", f"{params.rate}bit", "burst", str(burst), "limit", str(limit)]


def _netem(params: TcParams) -> list[str]:
    queued = (params.rate or _FAST) * (params.delay + params.jitter) // (8 * _SMALL * NS)
    words = ["netem", "limit", str(max(1000, 2 * queued))]
    if params.delay:
        words += ["delay", f"{params.delay // 1000}us", *([f"{params.jitter // 1000}us"] if params.jitter else [])]
    if params.loss:
        words += ["loss", f"{100 * params.loss:.6f}%"]
    return [*words, "rate", f"{params.rate}bit"] if params.rate is not None else words


async def _links(where: Mapping[str, Any]) -> dict[str, int]:
    """The MTU of each interface."""
    return {link["ifname"]: int(link.get("mtu", 1500)) for link in await _json(where, "ip", "-j", "link", "show")}


async def _roots(where: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The root queueing discipline of each interface."""
    return {each["dev"]: each for each in await _json(where, "tc", "-s", "-j", "qdisc", "show") if each.get("root")}


async def _json(where: Mapping[str, Any], *argv: str) -> list[dict[str, Any]]:
    """Raises Gone, and Unseen: a failed look is not "nothing there"."""
    ran = await netns.run(where, *argv)
    if ran.code:
        raise netns.Unseen(f"{' '.join(argv)} failed: {ran.complaint}")
    try:
        found = json.loads(ran.out)
        if isinstance(found, list) and all(isinstance(each["ifname" if argv[0] == "ip" else "dev"], str) for each in found):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise netns.Unseen(f"{' '.join(argv)} said what cannot be read")


def _told(name: str, found: Mapping[str, Any]) -> str:
    return f"{name}: {found.get('packets', 0)} packets passed, {found.get('drops', 0)} dropped"
