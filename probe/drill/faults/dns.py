"""Wrong, missing, slow or dead DNS answers, in a network namespace or on this host, for the names that are listed.

Questions to the name servers in use are redirected by nft (table `sp_<token>`, family inet) to a responder of ours in the same
namespace. It answers for those names and hands everything else on. As with the fault `nft` the rules match only while an element
with a timeout lives, and the responder ends by itself at the same instant: kernel and responder undo it with everybody dead.

The responder is found by the token on its command line and signalled through a descriptor (`pins`), so that no other process is
ever hit, whoever has its id by then. What is believed is an answer: a question is asked in that namespace, as a client asks,
before anything is touched, while it is broken and afterwards.

A client that keeps one socket for all its questions keeps the way it had when the rules changed until it opens another, since
address translation is by flow; stub resolvers (glibc, musl, systemd-resolved) open one for each question. Answers bear a TTL of
0, and denials no SOA, so that nobody keeps them for longer than the fault lasts. DNS over TLS and over HTTPS are not hit.

Seen at Chaos Mesh (DNSChaos: a DNS server of its own, by patterns of names). Left behind: the restart of a pod to point it there.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import dns.exception
import dns.name
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from probe.clock import boottime
from probe.drill.faults import netns, pins
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
from probe.drill.faults.dns_asking import SILENCE
from probe.drill.faults.dns_responder import MARK
from probe.drill.faults.nft import table
from probe.errors import ProbeError
from probe.model.clock import MS, NS
from probe.scenario.fields import OneOrMany
from probe.scenario.units import PositiveDuration, describe

_RESPONDER = "probe.drill.faults.dns_responder"
_ASKING = "probe.drill.faults.dns_asking"
_PATIENCE = 1.0  # s for one answer
_STARTING = 8.0  # s for the responder to listen
_LEAVING = 2.0  # s for it to end
_NONE = "No such file or directory"


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise ValueError(f"{describe(value)} is not an address; write 192.0.2.1 or 2001:db8::1") from None


def _name(value: str) -> str:
    try:
        return dns.name.from_text(value).to_text()
    except dns.exception.DNSException:
        raise ValueError(f"{describe(value)} is no name of the DNS") from None


Address = Annotated[str, BeforeValidator(_address)]
DnsName = Annotated[str, AfterValidator(_name)]


class DnsParams(netns.Place):
    """What becomes of questions for these names and all below them."""

    answer: Literal["wrong", "missing", "servfail", "slow", "dead"] = Field(
        description="Other addresses, NXDOMAIN, SERVFAIL, the right answer late, or none."
    )
    names: Annotated[tuple[DnsName, ...], OneOrMany()] = Field(
        min_length=1, description="These, and everything below them; a dot alone is every name.", examples=["cdn.example.com"]
    )
    addresses: Annotated[tuple[Address, ...], OneOrMany()] = Field(
        (), description="The wrong ones.", examples=["192.0.2.1", "2001:db8::1"]
    )
    delay: PositiveDuration | None = Field(None, le=10 * NS, description="Of `slow`: how late.", examples=["2s"])
    server: Annotated[tuple[Address, ...], OneOrMany()] = Field(
        (), description="Questions to these name servers; else to those of resolv.conf in that place.", examples=["192.0.2.53"]
    )
    ask: DnsName | None = Field(
        None,
        description="The name that is asked for to see what is answered; else the first of names.",
        examples=["cdn.example.com"],
    )

    @model_validator(mode="after")
    def _whole(self) -> DnsParams:
        if (self.answer == "wrong") != bool(self.addresses):
            raise ValueError("a wrong answer needs addresses; nothing else has them")
        if (self.answer == "slow") != (self.delay is not None):
            raise ValueError("a slow answer needs its delay, such as delay: 2s; nothing else has one")
        asked = self.ask or self.names[0]
        if asked == "." or not any(dns.name.from_text(asked).is_subdomain(dns.name.from_text(name)) for name in self.names):
            raise ValueError("`ask` is to be a name that is hit, and not all of them at once")
        return self


class DnsFault:
    about: ClassVar[str] = "wrong, missing, slow or dead DNS answers for some names (nft and a responder of ours)"
    params: ClassVar[type[Params]] = DnsParams

    async def prepare(self, params: DnsParams, given: Preparing) -> Prepared:
        where = netns.place(params)
        netns.program("nft", "nftables")
        servers = list(params.server) or _configured(params)
        if not servers:
            raise Refused("resolv.conf names no server there; say which is asked: server", "server")
        family = "AAAA" if params.addresses and all(":" in address for address in params.addresses) else "A"
        record: Record = {
            "where": where,
            "servers": servers,
            "answer": params.answer,
            "names": list(params.names),
            "addresses": list(params.addresses),
            "delay": (params.delay or 0) / NS,
            "ask": [params.ask or params.names[0], family],
        }
        tried = await netns.tried("nft", "-f", "-", given=rules(record, given.token, 53, given.lasts))
        if tried.code:
            raise Refused(f"this kernel cannot redirect ({tried.complaint}): nftables with NAT is needed (nft_redir)")
        try:
            before = await _asked(record)
        except (netns.Gone, netns.Unseen) as error:
            raise Refused(str(error)) from None
        if not _good(record, before):
            raise Refused(
                f"{servers[0]} must answer well for {record['ask'][0]} before anything is broken: {_told(before)}", "ask"
            )
        return Prepared(
            klass=Klass.SELF_HEALING,
            targets=tuple(f"{where['name']}/dns:{name}" for name in params.names),
            of=len(params.names),
            record=record,
            commands=(
                Command(
                    netns.typed(where, "nft", "-f", "-", given=rules(record, given.token, "$PORT", given.lasts)),
                    netns.typed(where, "nft", "delete", "table", "inet", table(given.token)),
                ),
                Command(netns.typed(where, sys.executable, "-m", _RESPONDER, _mark(given.token)), "SIGTERM to that process"),
            ),
            limit="kernel and responder end it by themselves at expiry",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        if io.expires - boottime() < MS:
            raise ProbeError("its time is over before it began")
        play = {**{name: record[name] for name in ("answer", "names", "addresses", "delay")}, "upstream": record["servers"][0]}
        command = (sys.executable, "-m", _RESPONDER, _mark(io.token))
        ran = await netns.run(
            record["where"], *command, given=json.dumps({**play, "expires": io.expires}), within=_STARTING
        )  # fmt: skip
        if not ran.out.strip().isdecimal():
            raise ProbeError(f"the responder did not start: {ran.complaint}")
        loaded = await netns.run(
            record["where"], "nft", "-f", "-", given=rules(record, io.token, int(ran.out), max(MS, io.expires - boottime()))
        )
        if loaded.code:
            raise ProbeError(f"nft does not take the rules: {loaded.complaint}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            alive = await _alive(record, io.token)
            answer = await _asked(record)
        except netns.Gone as gone:
            return Observed(State.GONE, str(gone))
        except (netns.Unseen, ValueError) as error:
            return Observed(State.UNKNOWN, str(error))
        told = _told(answer)
        if alive and _planted(record, answer):
            return Observed(State.INJECTED, told)
        if not alive and _good(record, answer):
            return Observed(State.RESTORED, told)
        there = "the redirect is there" if alive else "nothing of ours is left"
        return Observed(State.UNKNOWN, f"{there}, but {told}")

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            ran = await netns.run(record["where"], "nft", "delete", "table", "inet", table(io.token))
            if ran.code and _NONE not in ran.err:
                raise NotUndone(f"nft does not delete {table(io.token)}: {ran.complaint}")
        except netns.Gone:
            pass
        except netns.Unseen as error:
            raise NotUndone(str(error)) from None
        finally:
            await _stop(io.token)


def rules(record: Record, token: str, port: int | str, left: int) -> str:
    """What nft is given: it redirects nothing once `left` ns have passed. Fails where the table is there already."""
    name, ms = table(token), max(1, left // MS)
    lines = [f"create table inet {name}", f"table inet {name} {{", "  counter hit { }"]
    elements = f"elements = {{ ipv4 timeout {ms}ms, ipv6 timeout {ms}ms }}"
    lines.append(f"  set alive {{ typeof meta nfproto; flags timeout; {elements}; }}")
    for chain, hook in (("out", "output"), ("in", "prerouting")):
        lines += [f"  chain {chain} {{", f"    type nat hook {hook} priority -101; policy accept;"]
        for family, of in (
            ("ip", [s for s in record["servers"] if ":" not in s]),
            ("ip6", [s for s in record["servers"] if ":" in s]),
        ):
            if of:
                asked = f"{family} daddr {{ {', '.join(of)} }} meta l4proto {{ tcp, udp }} th dport 53"
                lines.append(f"    meta mark != {MARK:#x} meta nfproto @alive {asked} counter name hit redirect to :{port}")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


async def _alive(record: Record, token: str) -> bool:
    """Whether the redirect is in force. Raises Gone, Unseen, ValueError."""
    ran = await netns.run(record["where"], "nft", "-j", "list", "table", "inet", table(token))
    if ran.code and _NONE in ran.err:
        return False
    if ran.code:
        raise netns.Unseen(ran.complaint)
    try:
        found = json.loads(ran.out)["nftables"]
        return any(item["set"].get("elem") for item in found if "set" in item)
    except (KeyError, TypeError, AttributeError):
        raise netns.Unseen(f"{table(token)} cannot be read") from None


async def _asked(record: Record) -> Mapping[str, Any]:
    """What a client there is told. Raises Gone, Unseen."""
    name, family = record["ask"]
    seconds = f"{_PATIENCE + record['delay']:g}"
    argv = (sys.executable, "-m", _ASKING, record["servers"][0], name, family, seconds)
    ran = await netns.run(record["where"], *argv, within=float(seconds) + _STARTING)
    try:
        told = json.loads(ran.out)
        return {
            "rcode": told.get("rcode"),
            "addresses": told.get("addresses"),
            "error": told.get("error"),
            "took": float(told["took"]),
        }
    except (ValueError, KeyError, AttributeError):
        raise netns.Unseen(f"no question could be asked: {ran.complaint}") from None


def _good(record: Record, answer: Mapping[str, Any]) -> bool:
    """The real server's answer, as far as that can be told."""
    return answer["rcode"] == "NOERROR" and bool(answer["addresses"]) and not _planted(record, answer)


def _planted(record: Record, answer: Mapping[str, Any]) -> bool:
    match record["answer"]:
        case "wrong":
            version = 6 if record["ask"][1] == "AAAA" else 4
            planted = {a for a in record["addresses"] if ipaddress.ip_address(a).version == version}
            return answer["rcode"] == "NOERROR" and set(answer["addresses"]) == planted
        case "missing":
            return bool(answer["rcode"] == "NXDOMAIN")
        case "servfail":
            return bool(answer["rcode"] == "SERVFAIL")
        case "slow":
            return answer["rcode"] is not None and bool(answer["took"] >= record["delay"])
        case _:
            return str(answer["error"]).startswith(SILENCE)


def _told(answer: Mapping[str, Any]) -> str:
    if answer["rcode"] is None:
        return str(answer["error"])
    said = ", ".join(answer["addresses"][:4]) if answer["addresses"] else "no address"
    return f"answered {answer['rcode']}, {said}, in {answer['took'] * 1000:.0f} ms"


def _mark(token: str) -> str:
    return f"sp-{token}"


async def _stop(token: str) -> None:
    """End the responder that bears this token. Raises NotUndone where it does not end."""
    found = []
    for seen in pins.everyone():
        arguments = pins.arguments(seen.pin.pid)
        if seen.alive and arguments[-1:] == [_mark(token)] and _RESPONDER in arguments:
            found.append(seen.pin)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            sent = [pin for pin in found if pins.send(pin, number)]
        except OSError as error:
            raise NotUndone(f"the responder cannot be ended: {error.strerror}") from None
        if not sent or await pins.ended(sent, _LEAVING):
            return
    raise NotUndone(f"the responder (process {found[0].pid}) does not end")


def _configured(params: DnsParams) -> list[str]:
    """The name servers of resolv.conf as that place sees it."""
    files = [f"/proc/{params.pid}/root/etc/resolv.conf" if params.pid else "/etc/resolv.conf"]
    if params.netns:
        files.insert(0, f"/etc/netns/{params.netns}/resolv.conf")
    for file in files:
        if os.path.exists(file):
            text = Path(file).read_bytes()[:65536].decode(errors="replace")
            found = re.findall(r"^\s*nameserver\s+([0-9A-Fa-f:.]+)\s*$", text, re.MULTILINE)
            return [address for address in found if _is_address(address)][:3]
    return []


def _is_address(text: str) -> bool:
    try:
        _address(text)
        return True
    except ValueError:
        return False
