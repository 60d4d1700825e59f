"""Packets that never arrive, by nft in a network namespace or on this host: lost by chance, all of them, or those of one port.

A table `sp_<token>` of the netdev family holds everything: its hooks are the interfaces' own (ingress, and egress since Linux
5.16), so that what we send is lost as on a cable; a drop in an output chain of `inet` is an error to the sender (EPERM) and no
loss. Loading is one transaction (nft(8), `-f`); what is dropped is counted, and what counts is read back from the kernel.

The rules match only while an element of a set lives, and the element has the kernel's own timeout: at expiry everything passes
again by itself, with the runner, the watchdog and the way to this host all dead. (Its clock stands still while the machine is
suspended.) What is left then is an empty table, which `restore` deletes.

The nft program, not pyroute2 or libnftables' binding: what is loaded is what a person reads in the dry run and may type, it reads
back as JSON, and a hanging child can be killed where a hanging call cannot. pyroute2 has no `numgen`; the binding is on no index.

Losses are decided for each buffer that the kernel hands over: where segmentation is offloaded (most virtual cables), one number
decides over a train of segments. ARP is never hit: a broken path further off would not lose it either.

Seen at Chaos Mesh (iptables and ipset), pumba and chaosblade (`iptables -m statistic`, tc netem): losses by chance, targets by
address and port. Left behind: rules in chains that others own, and an exit code 0 taken for a fault injected.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from probe.clock import boottime
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
from probe.model.clock import MS
from probe.scenario.fields import OneOrMany
from probe.scenario.units import Ratio, describe, format_ratio

_SHARES = 1_000_000
_NONE = "No such file or directory"
_KERNEL = "this kernel cannot do it ({}); Linux 5.16 or later with nftables is needed"


def _network(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{describe(value)} is not an address; write 192.0.2.1, 2001:db8::1 or 192.0.2.0/24")
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{describe(value)} is not an address; write 192.0.2.1, 2001:db8::1 or 192.0.2.0/24") from None


Network = Annotated[str, BeforeValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


class NftParams(netns.Place):
    """What is hit: everything between that place and others, unless narrowed down."""

    do: Literal["cut", "loss", "blackhole"] = Field(description="All packets, a share of them, or those of one port.")
    share: Ratio | None = Field(None, description="Of `loss`: how many of the packets, by chance.", examples=["5%"])
    answer: Literal["drop", "reset"] = Field(
        "drop", description="Of `blackhole`: in silence, or refused (a TCP reset; for datagrams, port unreachable)."
    )
    interface: Annotated[tuple[Annotated[str, StringConstraints(pattern=netns.DEVICE)], ...], OneOrMany()] = Field(
        (), description="Only there; else on every interface but the loopback.", examples=["eth0"]
    )
    direction: Literal["in", "out", "both"] = Field("both", description="As the interface sees it.")
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    address: Annotated[tuple[Network, ...], OneOrMany()] = Field(
        (), description="Only to and from these, on the far side of the interface.", examples=["192.0.2.7", "2001:db8::/32"]
    )
    port: Annotated[tuple[Port, ...], OneOrMany()] = Field((), description="Only to and from these ports.", examples=[1935])
    quiet: bool = Field(
        False, description="It may be that nothing passes there at first: being in place is enough to count as injected."
    )

    @model_validator(mode="after")
    def _whole(self) -> NftParams:
        if (self.do == "loss") != (self.share is not None) or self.share == 0:
            raise ValueError("a loss needs its share, such as share: 5%; nothing else has one")
        if self.do == "blackhole" and not self.port:
            raise ValueError("a blackhole needs the port")
        if self.answer == "reset" and (self.do != "blackhole" or self.direction == "out"):
            raise ValueError("only who comes to a blackholed port can be refused")
        if self.port and self.protocol == "icmp":
            raise ValueError("icmp has no ports")
        return self


class NftFault:
    about: ClassVar[str] = "packets lost: a share of them, all of them, or those of one port (nft)"
    params: ClassVar[type[Params]] = NftParams

    async def prepare(self, params: NftParams, given: Preparing) -> Prepared:
        where = netns.place(params)
        netns.program("nft", "nftables")
        try:
            there = await netns.devices(where)
        except (netns.Gone, netns.Unseen) as error:
            raise Refused(str(error)) from None
        chosen = list(params.interface) or [name for name in there if name != "lo"]
        if missing := [name for name in chosen if name not in there]:
            raise Refused(f"there is no interface {', '.join(missing)} in {where['name']}, but {', '.join(there)}", "interface")
        if not chosen:
            raise Refused(f"{where['name']} has no interface but its loopback")
        what = params.model_dump(mode="json", exclude={"netns", "pid", "host", "interface"})
        record: Record = {"where": where, "devices": chosen, **what}
        tried = await netns.tried("nft", "-f", "-", given=rules({**record, "devices": ["lo"]}, given.token, given.lasts))
        if tried.code:
            raise Refused(_KERNEL.format(tried.complaint))
        return Prepared(
            klass=Klass.SELF_HEALING,
            targets=tuple(f"{where['name']}/{name}" for name in chosen),
            of=len([name for name in there if name != "lo"]) or 1,
            record=record,
            commands=(
                Command(
                    netns.typed(where, "nft", "-f", "-", given=rules(record, given.token, given.lasts)),
                    netns.typed(where, "nft", "delete", "table", "netdev", table(given.token)),
                ),
            ),
            limit="the kernel lets everything through again by itself at expiry",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        left = io.expires - boottime()
        if left < MS:
            raise ProbeError("its time is over before it began")
        ran = await netns.run(record["where"], "nft", "-f", "-", given=rules(record, io.token, left))
        if ran.code:
            raise ProbeError(f"nft does not take the rules: {ran.complaint}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        name = table(io.token)
        try:
            ran = await netns.run(record["where"], "nft", "-j", "list", "table", "netdev", name)
            if ran.code:
                none = _NONE in ran.err
                return Observed(State.RESTORED, f"no table {name}") if none else Observed(State.UNKNOWN, ran.complaint)
            seen, hit, alive, whole = _read(ran.out, rules(record, io.token, 0))
            there = await netns.devices(record["where"])
        except netns.Gone as gone:
            return Observed(State.GONE, str(gone))
        except (netns.Unseen, ValueError, KeyError, TypeError) as error:
            return Observed(State.UNKNOWN, f"{name} cannot be read: {error}")
        if not alive:
            return Observed(State.RESTORED, f"the kernel has ended it; {_told(record, seen, hit)}")
        if not any(device in there for device in record["devices"]):
            return Observed(State.GONE, f"no interface {', '.join(record['devices'])} any more; {_told(record, seen, hit)}")
        if not whole:
            return Observed(State.UNKNOWN, f"somebody has changed the rules of {name}")
        if not seen and not record["quiet"]:
            return Observed(State.UNKNOWN, "in place, but no packet has met it (quiet: true where none is expected)")
        return Observed(State.INJECTED, _told(record, seen, hit))

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            ran = await netns.run(record["where"], "nft", "delete", "table", "netdev", table(io.token))
        except netns.Gone:
            return
        except netns.Unseen as error:
            raise NotUndone(str(error)) from None
        if ran.code and _NONE not in ran.err:
            raise NotUndone(f"nft does not delete {table(io.token)}: {ran.complaint}")


def table(token: str) -> str:
    """The name of the one table that is ours."""
    return f"sp_{token}"


def rules(record: Record, token: str, left: int) -> str:
    """What nft is given: it does nothing once `left` ns have passed. Fails where the table is there already."""
    name, ms = table(token), max(1, left // MS)
    lines = [f"create table netdev {name}", f"table netdev {name} {{"]
    lines += [f"  counter {counter} {{ }}" for counter in ("seen", "hit")]
    lines.append(f"  set alive {{ type ether_type; flags timeout; elements = {{ ip timeout {ms}ms, ip6 timeout {ms}ms }}; }}")
    hooked = " ".join(("devices = {", ", ".join(f'"{device}"' for device in record["devices"]), "}"))
    for way, hook in (("in", "ingress"), ("out", "egress")):
        if record["direction"] in (way, "both") and not (way == "out" and record["answer"] == "reset"):
            lines += [f"  chain act_{way} {{", *(f"    {line}" for line in _acts(record, way)), "  }"]
            lines += [f"  chain {way} {{", f"    type filter hook {hook} {hooked} priority -300; policy accept;"]
            lines += [f"    meta protocol @alive jump act_{way}", "  }"]
    return "\n".join([*lines, "}", ""])


def _acts(record: Record, way: str) -> Iterator[str]:
    seen = "counter name seen"
    for match in _matches(record, "saddr" if way == "in" else "daddr"):
        if record["answer"] == "reset":
            if record["protocol"] != "udp":
                yield f"{match}meta l4proto tcp {seen} counter name hit reject with tcp reset"
            if record["protocol"] != "tcp":
                yield f"{match}{seen} counter name hit reject with icmpx type port-unreachable"
        elif record["do"] == "loss":
            yield f"{match}{seen} numgen random mod {_SHARES} < {max(1, round(record['share'] * _SHARES))} counter name hit drop"
        else:
            yield f"{match}{seen} counter name hit drop"


def _matches(record: Record, far: str) -> Iterator[str]:
    for address in _addresses(record["address"], far):
        for transport in _transports(record["protocol"], record["port"]):
            yield address + transport


def _addresses(networks: Sequence[str], far: str) -> list[str]:
    if not networks:
        return [""]
    by = {4: [n for n in networks if ":" not in n], 6: [n for n in networks if ":" in n]}
    return [f"{'ip' if v == 4 else 'ip6'} {far} {{ {', '.join(found)} }} " for v, found in by.items() if found]


def _transports(protocol: str, ports: Sequence[int]) -> list[str]:
    if protocol == "icmp":
        return ["meta l4proto { icmp, ipv6-icmp } "]
    if not ports:
        return ["" if protocol == "any" else f"meta l4proto {protocol} "]
    of = "meta l4proto { tcp, udp }" if protocol == "any" else f"meta l4proto {protocol}"
    return [f"{of} th {side} {{ {', '.join(str(p) for p in ports)} }} " for side in ("dport", "sport")]


def _read(text: str, loaded: str) -> tuple[int, int, bool, bool]:
    """Packets seen and hit, whether an element lives, and whether there are as many rules as were `loaded`."""
    seen, hit, alive, found = 0, 0, False, 0
    for item in json.loads(text)["nftables"]:
        match item:
            case {"counter": {"name": "seen", "packets": int(packets)}}:
                seen = packets
            case {"counter": {"name": "hit", "packets": int(packets)}}:
                hit = packets
            case {"set": {"name": "alive"} as members}:
                alive = bool(members.get("elem"))
            case {"rule": _}:
                found += 1
            case _:
                pass
    return seen, hit, alive, found == sum(" counter name " in f" {line}" or " jump " in line for line in loaded.splitlines())


def _told(record: Record, seen: int, hit: int) -> str:
    done = "refused" if record["answer"] == "reset" else "dropped"
    share = f", {format_ratio(round(hit / seen, 4))}" if seen and record["do"] == "loss" else ""
    return f"{hit} of {seen} packets {done}{share}"
