"""DNS answers wrong, missing, late or none in a namespace, for clients that ask the real server at the far end of its cable."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest
from pydantic import ValidationError

from probe.clock import boottime
from probe.drill.faults import netns, pins
from probe.drill.faults.base import Klass, NotUndone, Refused, State
from probe.drill.faults.dns import DnsFault, DnsParams
from tests.drill.net.support import FAR, Bench, Pair, bench, elsewhere, inside, stub
from tests.tools import wait_until

HIT, SPARED = "edge.cdn.example.", "api.example."
TRUE = {HIT: "203.0.113.5", "cdn.example.": "203.0.113.6", SPARED: "203.0.113.7"}


def _answer(query: bytes) -> bytes:
    message = dns.message.from_wire(query)
    answer = dns.message.make_response(message)
    name = message.question[0].name.to_text()
    if name in TRUE:
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", TRUE[name]))
    else:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer.to_wire()


@contextmanager
def _server(cable: Pair) -> Iterator[None]:
    """A name server at the far end, over UDP and TCP."""
    datagrams = inside(cable.far, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    streams = inside(cable.far, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    for sock in (datagrams, streams):
        sock.bind((FAR, 53))
        sock.settimeout(0.05)
    streams.listen()
    over = threading.Event()

    def by_datagram() -> None:
        while not over.is_set():
            try:
                query, peer = datagrams.recvfrom(65535)
            except TimeoutError:
                continue
            datagrams.sendto(_answer(query), peer)

    def by_stream() -> None:
        while not over.is_set():
            try:
                connection, _ = streams.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(2)
                reply = _answer(connection.recv(65535)[2:])
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

    threads = [threading.Thread(target=work) for work in (by_datagram, by_stream)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        datagrams.close()
        streams.close()


@pytest.fixture
def lan(cable: Pair) -> Iterator[Pair]:
    with _server(cable):
        yield cable


def _told(cable: Pair, name: str, *, stream: bool = False, timeout: float = 2) -> str:
    """What a client in near is told: an address, or the code in words, or nothing."""
    query = dns.message.make_query(name, "A")
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    with inside(cable.near, lambda: socket.socket(socket.AF_INET, kind)) as sock:
        try:
            if stream:
                sock.settimeout(timeout)
                sock.connect((FAR, 53))
                sock.setblocking(False)
                answer = dns.query.tcp(query, FAR, timeout=timeout, sock=sock)
            else:
                sock.setblocking(False)
                answer = dns.query.udp(query, FAR, timeout=timeout, sock=sock)
        except (dns.exception.Timeout, EOFError):
            return ""
    return str(answer.answer[0][0]) if answer.answer else dns.rcode.to_text(answer.rcode())


async def _bench(cable: Pair, **more: Any) -> Bench:
    params = {"netns": cable.near, "names": "cdn.example", "ask": "edge.cdn.example", "server": FAR, **more}
    return await bench(DnsFault(), **params)


def _responders(bench: Bench) -> list[int]:
    return [seen.pin.pid for seen in pins.everyone() if seen.alive and f"sp-{bench.io.token}" in pins.arguments(seen.pin.pid)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"answer": "wrong", "addresses": ["192.0.2.66", "2001:db8::66"]}, "192.0.2.66"),
        ({"answer": "missing"}, "NXDOMAIN"),
        ({"answer": "servfail"}, "SERVFAIL"),
        ({"answer": "slow", "delay": "200ms"}, TRUE[HIT]),
        ({"answer": "dead"}, ""),
    ],
)
async def test_names_that_are_hit_are_answered_as_it_says_and_all_others_as_before(
    lan: Pair, more: dict[str, Any], told: str
) -> None:
    fault = await _bench(lan, **more)
    assert fault.prepared.klass is Klass.SELF_HEALING and fault.prepared.targets == (f"netns:{lan.near}/dns:cdn.example.",)
    await fault.inject()
    began = boottime()
    for stream in (False, True):
        assert _told(lan, HIT, stream=stream, timeout=2 if told else 0.2) == told
        assert _told(lan, SPARED, stream=stream) == TRUE[SPARED]
    if more["answer"] == "slow":
        assert boottime() - began > 400_000_000
    seen = await fault.observe()
    assert seen.state is State.INJECTED, seen
    for _ in range(2):
        await fault.restore()
        assert _told(lan, HIT) == TRUE[HIT] and not _responders(fault)
    assert (await fault.observe()).state is State.RESTORED
    assert lan.nft(lan.near, "list", "ruleset") == ""


async def test_kernel_and_responder_end_it_at_expiry_when_everybody_is_dead(lan: Pair) -> None:
    fault = await _bench(lan, answer="missing")
    await fault.ends_soon(elsewhere("dns", "restore", fault), 4)
    await elsewhere("dns", "inject", fault)
    assert _told(lan, HIT) == "NXDOMAIN"
    right: list[int] = []

    def answered() -> bool:
        began = boottime()
        if _told(lan, HIT, timeout=0.2) == TRUE[HIT]:
            right.append(began)
        return bool(right) and not _responders(fault)

    await wait_until(answered, 30, "the end of it")
    assert right[0] > fault.io.expires - 50_000_000
    assert (await fault.observe()).state is State.RESTORED
    await fault.restore()
    assert lan.nft(lan.near, "list", "ruleset") == ""


async def test_another_process_undoes_it_and_a_neighbour_keeps_its_own(lan: Pair) -> None:
    ours = await _bench(lan, answer="missing")
    neighbour = await _bench(lan, answer="servfail", names="api.example", ask="api.example")
    await ours.restore()  # nothing was injected
    await ours.inject()
    await neighbour.inject()
    await elsewhere("dns", "restore", ours)
    assert not _responders(ours) and len(_responders(neighbour)) == 1
    assert (_told(lan, HIT), _told(lan, SPARED)) == (TRUE[HIT], "SERVFAIL")
    await neighbour.restore()
    assert _told(lan, SPARED) == TRUE[SPARED]


async def test_a_responder_that_died_or_a_server_that_did_is_not_called_restored(
    lan: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = await _bench(lan, answer="missing")
    await fault.inject()
    os.kill(_responders(fault)[0], 9)
    seen = await fault.observe()
    assert seen.state is State.UNKNOWN and "the redirect is there" in seen.detail
    await fault.restore()
    monkeypatch.delitem(TRUE, HIT)
    seen = await fault.observe()
    assert seen.state is State.UNKNOWN and "nothing of ours is left, but" in seen.detail


async def test_a_namespace_that_vanishes_leaves_no_responder(lan: Pair) -> None:
    fault = await _bench(lan, answer="missing")
    await fault.inject()
    subprocess.run(["ip", "netns", "del", lan.near], check=True)
    assert (await fault.observe()).state is not State.RESTORED  # our own responder is still in it
    await fault.restore()
    assert not _responders(fault)
    assert (await fault.sees(State.GONE)).detail.startswith("the network namespace is no more")


async def test_what_cannot_be_is_refused_before_anything_is_touched(
    lan: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for more, said in (
        ({"ask": "other.cdn.example"}, "must answer well for other.cdn.example. before .* NXDOMAIN"),
        ({"answer": "wrong", "addresses": [TRUE[HIT]]}, "must answer well"),
    ):
        with pytest.raises(Refused, match=said):
            await _bench(lan, **{"answer": "missing", **more})
    stub(tmp_path, monkeypatch, "nft", "echo 'Error: Could not process rule: No such file or directory' >&2; exit 1")
    with pytest.raises(Refused, match="cannot redirect .*NAT is needed"):
        await _bench(lan, answer="missing")
    monkeypatch.undo()
    assert lan.nft(lan.near, "list", "ruleset") == ""


async def test_a_program_that_hangs_is_bounded(lan: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = await _bench(lan, answer="missing")
    stub(tmp_path, monkeypatch, "nft", "exec sleep 60")
    monkeypatch.setattr(netns.run, "__kwdefaults__", {"given": "", "within": 0.3})
    assert (await fault.observe()).state is State.UNKNOWN
    with pytest.raises(NotUndone, match=r"did not end within 0\.3 s"):
        await fault.restore()


async def test_what_is_no_query_is_dropped_and_the_next_is_answered(lan: Pair) -> None:
    fault = await _bench(lan, answer="missing")
    await fault.inject()
    with inside(lan.near, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for garbage in (b"", b"x", b"\xff" * 500, _answer(dns.message.make_query(HIT, "A").to_wire()), b"\0" * 12):
            sock.sendto(garbage, (FAR, 53))
    with inside(lan.near, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
        sock.connect((FAR, 53))
        sock.sendall(b"\xff\xffhalf")
    assert _told(lan, HIT) == "NXDOMAIN" and _told(lan, HIT, stream=True) == "NXDOMAIN"
    await fault.restore()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"answer": "wrong"}, "needs addresses"),
        ({"answer": "dead", "addresses": "192.0.2.1"}, "nothing else has them"),
        ({"answer": "slow"}, "needs its delay"),
        ({"answer": "dead", "delay": "1s"}, "nothing else has one"),
        ({"answer": "wrong", "addresses": "edge"}, "is not an address"),
        ({"answer": "dead", "names": "."}, "a name that is hit"),
        ({"answer": "dead", "ask": "elsewhere.example"}, "a name that is hit"),
        ({"answer": "dead", "names": "a..b"}, "no name of the DNS"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_words(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DnsParams(**{"netns": "a", "names": "cdn.example", **params})


def test_the_servers_are_those_of_the_places_own_resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.drill.faults import dns as module

    own = tmp_path / "resolv.conf"
    own.write_text("# none\nsearch example\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n nameserver 2001:db8::53\n")
    monkeypatch.setattr(module, "Path", lambda _: own)
    assert module._configured(DnsParams(host=True, answer="dead", names=("a",))) == ["192.0.2.53", "2001:db8::53"]
