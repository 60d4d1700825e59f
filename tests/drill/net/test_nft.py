"""Packets dropped by nft, in namespaces that the test made, seen by sockets on either side."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pydantic import ValidationError

from probe.clock import boottime
from probe.drill.faults import netns
from probe.drill.faults.base import Klass, NotUndone, Refused, State
from probe.drill.faults.nft import NftFault, NftParams
from tests.drill.net.support import FAR, NEAR, Pair, bench, elsewhere, stub
from tests.tools import requires, requires_root, wait_until


async def test_a_cut_is_seen_from_outside_and_by_its_own_look_and_ends_with_restore(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut")
    assert fault.prepared.klass is Klass.SELF_HEALING and fault.prepared.targets == (f"netns:{cable.near}/eth0",)
    assert (await fault.observe()).state is State.RESTORED and cable.passes() and cable.passes(to=cable.near)
    await fault.inject()
    # Who sends into a cut hears nothing of it: an error would be no lost packet.
    assert not cable.passes() and not cable.passes(to=cable.near)
    seen = await fault.observe()
    assert seen.state is State.INJECTED and seen.detail == "2 of 2 packets dropped"
    for _ in range(2):
        await fault.restore()
        assert (await fault.observe()).state is State.RESTORED
        assert cable.passes() and cable.passes(to=cable.near)
    assert cable.nft(cable.near, "list", "ruleset") == ""


async def test_the_kernel_ends_a_cut_by_itself_at_expiry_when_everybody_is_dead(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut")
    await fault.ends_soon(elsewhere("nft", "restore", fault), 4)
    await elsewhere("nft", "inject", fault)
    assert not cable.passes()
    passed: list[int] = []

    def passes() -> bool:
        began = boottime()
        if cable.passes():
            passed.append(began)
        return bool(passed)

    await wait_until(passes, 30, "the end of the cut")
    assert passed[0] > fault.io.expires - 50_000_000  # the kernel counts in ticks
    seen = await fault.observe()
    assert seen.state is State.RESTORED and seen.detail.startswith("the kernel has ended it; ")
    await fault.restore()
    assert cable.nft(cable.near, "list", "ruleset") == ""


async def test_another_process_undoes_it_from_the_record_alone(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut")
    await fault.inject()
    assert not cable.passes()
    await elsewhere("nft", "restore", fault)
    assert cable.passes() and (await fault.observe()).state is State.RESTORED


def test_it_works_on_the_loop_that_the_commands_have(cable: Pair) -> None:
    async def work() -> None:
        for _ in range(5):
            fault = await bench(NftFault(), netns=cable.near, do="cut", quiet=True)
            await fault.inject()
            assert (await fault.observe()).state is State.INJECTED
            await fault.restore()
            assert (await fault.observe()).state is State.RESTORED

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


async def test_loss_is_by_chance_and_what_was_dropped_is_told_exactly(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.far, do="loss", share="20%", direction="in", protocol="udp")
    await fault.inject()
    with cable.socket(cable.far) as receiver, cable.socket(cable.near) as sender:
        receiver.setblocking(False)
        arrived = 0
        for _ in range(2000):
            sender.sendto(b"x", receiver.getsockname())
            try:
                arrived += len(receiver.recv(10))
            except BlockingIOError:
                pass
    seen = await fault.observe()
    told = re.fullmatch(r"(\d+) of 2000 packets dropped, ([\d.]+)%", seen.detail)
    assert seen.state is State.INJECTED and told and int(told[1]) == 2000 - arrived
    assert 300 < int(told[1]) < 500  # five standard deviations
    await fault.restore()


@pytest.mark.parametrize("answer", ["drop", "reset"])
async def test_a_blackholed_port_is_silent_or_refuses_and_others_go_on(cable: Pair, answer: str) -> None:
    with cable.socket(cable.far, socket.SOCK_STREAM) as hit, cable.socket(cable.far, socket.SOCK_STREAM) as spared:
        for server in (hit, spared):
            server.listen()
        fault = await bench(NftFault(), netns=cable.far, do="blackhole", answer=answer, port=hit.getsockname()[1])
        await fault.inject()
        with cable.socket(cable.near, socket.SOCK_STREAM) as client:
            client.settimeout(0.3)
            with pytest.raises(ConnectionRefusedError if answer == "reset" else TimeoutError):
                client.connect(hit.getsockname())
        with cable.socket(cable.near, socket.SOCK_STREAM) as client:
            client.connect(spared.getsockname())
        assert (await fault.observe()).state is State.INJECTED
        await fault.restore()
        with cable.socket(cable.near, socket.SOCK_STREAM) as client:
            client.connect(hit.getsockname())


async def test_a_port_that_refuses_resets_connections_and_turns_datagrams_away(cable: Pair) -> None:
    with cable.socket(cable.far, socket.SOCK_STREAM) as server, cable.socket(cable.near, socket.SOCK_STREAM) as client:
        server.listen()
        client.connect(server.getsockname())
        with cable.socket(cable.far) as receiver, cable.socket(cable.near) as sender:
            ports = [server.getsockname()[1], receiver.getsockname()[1]]
            fault = await bench(NftFault(), netns=cable.far, do="blackhole", answer="reset", port=ports, direction="in")
            await fault.inject()
            client.send(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            sender.connect(receiver.getsockname())
            sender.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                sender.recv(1)
        assert "2 of 2 packets refused" in (await fault.observe()).detail


@pytest.mark.parametrize(
    ("narrowed", "out", "back"),
    [
        ({"direction": "in"}, True, False),
        ({"direction": "out"}, False, True),
        ({"protocol": "udp"}, False, False),
        ({"protocol": "tcp"}, True, True),
        ({"protocol": "icmp"}, True, True),
        ({"address": FAR}, False, False),
        ({"address": ["10.204.0.0/24", "2001:db8::1"]}, False, False),
        ({"address": NEAR}, True, True),  # our own side of the cable is not the far one
        ({"address": ["192.0.2.7", "2001:db8::/32"]}, True, True),
        ({"interface": "eth0"}, False, False),
        ({"interface": "lo"}, True, True),
        ({"port": 9}, True, True),
    ],
)
async def test_only_what_is_named_is_hit(cable: Pair, narrowed: dict[str, Any], out: bool, back: bool) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut", quiet=True, **narrowed)
    await fault.inject()
    assert (cable.passes(), cable.passes(to=cable.near)) == (out, back)
    assert (await fault.observe()).state is State.INJECTED


async def test_a_fault_that_hits_nothing_is_not_called_injected_unless_quiet_is_meant(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut", port=9)
    await fault.inject()
    assert cable.passes()
    seen = await fault.observe()
    assert seen.state is State.UNKNOWN and "no packet has met it" in seen.detail


async def test_restore_without_inject_and_beside_a_neighbour_takes_nothing_of_others(cable: Pair) -> None:
    cable.nft(cable.near, "add", "table", "inet", "theirs")
    ours = await bench(NftFault(), netns=cable.near, do="cut", direction="in")
    neighbour = await bench(NftFault(), netns=cable.near, do="cut", direction="out")
    await ours.restore()
    await neighbour.inject()
    await ours.restore()
    assert cable.passes(to=cable.near) and not cable.passes()
    await ours.inject()
    await neighbour.restore()
    assert cable.passes() and not cable.passes(to=cable.near)
    await ours.restore()
    assert cable.nft(cable.near, "list", "ruleset").split() == ["table", "inet", "theirs", "{", "}"]


async def test_rules_that_somebody_changed_are_no_longer_known_to_be_there(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut")
    await fault.inject()
    cable.nft(cable.near, "flush", "chain", "netdev", f"sp_{fault.io.token}", "act_in")
    assert not cable.passes()
    assert (await fault.observe()).state is State.UNKNOWN
    await fault.restore()
    assert cable.passes()


async def test_a_target_that_vanishes_is_gone_and_needs_no_undo(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut", quiet=True)
    await fault.inject()
    subprocess.run(["ip", "-n", cable.near, "link", "del", "eth0"], check=True)
    seen = await fault.observe()
    assert seen.state is State.GONE and "eth0" in seen.detail
    subprocess.run(["ip", "netns", "del", cable.near], check=True)
    assert (await fault.observe()).detail.startswith("the network namespace is no more")
    await fault.restore()


async def test_a_namespace_is_found_by_what_it_is_when_the_process_that_named_it_is_dead(cable: Pair) -> None:
    with subprocess.Popen(["ip", "netns", "exec", cable.near, "sleep", "60"]) as inside:
        try:
            own = os.stat(f"/run/netns/{cable.near}").st_ino
            await wait_until(lambda: os.stat(f"/proc/{inside.pid}/ns/net").st_ino == own)
            fault = await bench(NftFault(), pid=inside.pid, do="cut")
            assert fault.prepared.targets == (f"netns:{cable.near}/eth0",)  # two drills in it are to meet
            await fault.inject()
            assert not cable.passes()
        finally:
            inside.kill()
    assert (await fault.observe()).state is State.INJECTED
    await fault.restore()
    assert cable.passes()


async def test_a_namespace_without_a_name_is_called_by_its_process_and_gone_with_it() -> None:
    requires_root("network namespaces and nft")
    with subprocess.Popen([requires("unshare", package="util-linux"), "--net", "sleep", "60"]) as inside:
        try:
            await wait_until(lambda: b"sleep" in Path(f"/proc/{inside.pid}/comm").read_bytes())
            fault = await bench(NftFault(), pid=inside.pid, do="cut", interface="lo", quiet=True)
            assert fault.prepared.targets == (f"netns:sleep/{inside.pid}/lo",)
            with pytest.raises(Refused, match="no interface but its loopback"):
                await bench(NftFault(), pid=inside.pid, do="cut")
            await fault.inject()
            assert (await fault.observe()).state is State.INJECTED
        finally:
            inside.kill()
    assert (await fault.sees(State.GONE)).detail.startswith("the network namespace is no more")
    await fault.restore()


async def test_this_hosts_own_network_is_a_target_of_its_own_kind_and_a_dry_run_says_what_a_person_would_type(
    cable: Pair,
) -> None:
    own = await bench(NftFault(), host=True, do="cut", interface="lo", port=9)  # prepared, and never more in a test
    assert own.prepared.targets == ("host:network/lo",)
    assert own.prepared.commands[0].undo == f"nft delete table netdev sp_{own.io.token}"
    theirs = await bench(NftFault(), netns=cable.near, do="loss", share="5%", address=FAR, protocol="udp", port=[8000, 8001])
    do, undo = theirs.prepared.commands[0].do, theirs.prepared.commands[0].undo
    assert do.startswith(f"ip netns exec {cable.near} nft -f - <<'END'\ncreate table netdev sp_{theirs.io.token}\n")
    assert (
        "ip saddr { 10.204.0.2/32 } meta l4proto udp th dport { 8000, 8001 } counter name seen "
        "numgen random mod 1000000 < 50000 counter name hit drop\n" in do
    )
    assert undo == f"ip netns exec {cable.near} nft delete table netdev sp_{theirs.io.token}"


async def test_its_time_over_before_it_began_is_no_injection(cable: Pair) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut", lasts=0)
    with pytest.raises(Exception, match="its time is over before it began"):
        await fault.inject()
    assert (await fault.observe()).state is State.RESTORED


async def test_what_cannot_be_is_refused_before_anything_is_touched(
    cable: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for params, said in (
        ({"netns": "nobody"}, "no network namespace nobody"),
        ({"pid": 4_194_300}, "no process 4194300"),
        ({"pid": os.getpid()}, "this host's own network"),
        ({"netns": cable.near, "interface": "eth7"}, "no interface eth7 in .*, but lo, eth0"),
    ):
        with pytest.raises(Refused, match=said):
            await bench(NftFault(), do="cut", **params)
    stub(tmp_path, monkeypatch, "nft", "echo 'Error: Could not process rule: Operation not supported' >&2; exit 1")
    with pytest.raises(Refused, match=r"this kernel cannot do it .*Operation not supported.*Linux 5\.16"):
        await bench(NftFault(), netns=cable.near, do="cut")
    stub(tmp_path, monkeypatch, "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    with pytest.raises(Refused, match="need root"):
        await bench(NftFault(), netns=cable.near, do="cut")
    monkeypatch.setattr(netns, "_PATH", str(tmp_path / "empty"))
    with pytest.raises(Refused, match="Debian package nftables"):
        await bench(NftFault(), netns=cable.near, do="cut")
    monkeypatch.undo()
    assert cable.nft(cable.near, "list", "ruleset") == ""


_NOBODY = """
import asyncio, os
from probe.clock import SystemClock
from probe.drill.faults.base import Preparing, Refused
from probe.drill.faults.nft import NftFault, NftParams
os.setgroups([]), os.setgid(65534), os.setuid(65534)
given = Preparing(clock=SystemClock(), token="00000001", lasts=10**9, expires=0)
try:
    asyncio.run(NftFault().prepare(NftParams(host=True, do="cut", interface="lo", port=(9,)), given))
except Refused as refused:
    print(refused)
"""


def test_without_root_it_is_refused_and_says_so() -> None:
    requires_root("to be somebody else")
    requires("nft", package="nftables")
    done = subprocess.run([sys.executable, "-c", _NOBODY], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("entering host:network needs root (CAP_SYS_ADMIN): nsenter: "), done


async def test_a_program_that_hangs_or_fails_is_bounded_and_never_taken_for_restored(
    cable: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = await bench(NftFault(), netns=cable.near, do="cut")
    stub(tmp_path, monkeypatch, "nft", "echo 'netlink: Error: cache initialization failed: No buffer space' >&2; exit 1")
    assert (await fault.observe()).state is State.UNKNOWN
    with pytest.raises(NotUndone, match="No buffer space"):
        await fault.restore()
    stub(tmp_path, monkeypatch, "nft", "exec sleep 60")
    monkeypatch.setattr(netns.run, "__kwdefaults__", {"given": "", "within": 0.3})
    assert (await fault.observe()).state is State.UNKNOWN
    with pytest.raises(NotUndone, match=r"did not end within 0\.3 s"):
        await fault.restore()
    stub(tmp_path, monkeypatch, "nft", "echo '{'")
    assert (await fault.observe()).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"do": "cut"}, "say where, once"),
        ({"do": "cut", "netns": "a", "host": True}, "say where, once"),
        ({"do": "cut", "netns": "../etc"}, "pattern"),
        ({"do": "loss", "netns": "a"}, "needs its share"),
        ({"do": "loss", "netns": "a", "share": "0%"}, "needs its share"),
        ({"do": "cut", "netns": "a", "share": "5%"}, "nothing else has one"),
        ({"do": "blackhole", "netns": "a"}, "needs the port"),
        ({"do": "cut", "netns": "a", "answer": "reset"}, "can be refused"),
        ({"do": "cut", "netns": "a", "protocol": "icmp", "port": 1}, "no ports"),
        ({"do": "cut", "netns": "a", "address": "edge.example"}, "is not an address"),
        ({"do": "cut", "netns": "a", "address": 7}, "is not an address"),
        ({"do": "cut", "netns": "a", "interface": 'eth0"; }'}, "pattern"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_words(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NftParams(**params)
