"""A rate by tbf in namespaces that the test made, counted by what comes through; netem where there is one, else its refusal."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probe.drill.faults import netns
from probe.drill.faults.base import Klass, NotUndone, Refused, State
from probe.drill.faults.tc import TcFault, TcParams
from tests.drill.net.support import Pair, bench, elsewhere, stub
from tests.truth.namespaces import run


def _qdiscs(cable: Pair, where: str) -> str:
    return run("ip", "netns", "exec", where, "tc", "qdisc", "show", "dev", "eth0")


def _arrive(cable: Pair, count: int, size: int) -> int:
    """How many of so many datagrams, sent at once from near, have come when the queue must be empty."""
    with cable.socket(cable.far) as receiver, cable.socket(cable.near) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), receiver.getsockname())
        receiver.settimeout(0.4)
        arrived = 0
        try:
            while True:
                arrived += bool(receiver.recv(size))
        except TimeoutError:
            return arrived


async def test_a_rate_lets_through_a_bucket_and_a_queue_and_ends_with_restore(cable: Pair) -> None:
    fault = await bench(TcFault(), netns=cable.near, interface="eth0", rate="400kbps", queue="200ms")
    assert fault.prepared.klass is Klass.REVERSIBLE and fault.prepared.of == 1
    before = _qdiscs(cable, cable.near)
    assert (await fault.observe()).state is State.RESTORED
    await fault.inject()
    assert (await fault.observe()).state is State.UNKNOWN  # nothing has passed
    began = time.monotonic()
    arrived = _arrive(cable, 50, 1000)
    # A bucket of 3,000 bytes, a queue of 10,000 and the bucket's again, and what left while they were sent.
    assert 9 <= arrived <= 16 + (time.monotonic() - began) * 50
    seen = await fault.observe()
    assert seen.state is State.INJECTED and f"{50 - arrived} dropped" in seen.detail
    for _ in range(2):
        await fault.restore()
        assert (await fault.observe()).state is State.RESTORED and _qdiscs(cable, cable.near) == before
    assert _arrive(cable, 50, 1000) == 50


async def test_another_process_undoes_it_and_without_inject_nothing_is_undone(cable: Pair) -> None:
    fault = await bench(TcFault(), netns=cable.near, interface="eth0", rate="1Mbps", quiet=True)
    await fault.restore()
    await fault.inject()
    assert (await fault.observe()).state is State.INJECTED
    await elsewhere("tc", "restore", fault)
    assert (await fault.observe()).state is State.RESTORED


async def test_a_root_of_somebodys_is_never_replaced_nor_deleted(cable: Pair) -> None:
    ours = await bench(TcFault(), netns=cable.near, interface="eth0", rate="1Mbps", quiet=True)
    theirs = await bench(TcFault(), netns=cable.near, interface="eth0", rate="2Mbps", quiet=True)
    await theirs.inject()
    with pytest.raises(Exception, match="tc does not take it on eth0"):
        await ours.inject()
    assert (await ours.observe()).state is State.RESTORED
    await ours.restore()
    assert (await theirs.observe()).state is State.INJECTED
    with pytest.raises(Refused, match=r"eth0 has a queueing discipline of somebody's \(tbf [4-7]...:\); it is not replaced"):
        await bench(TcFault(), netns=cable.near, interface="eth0", rate="1Mbps")
    await theirs.restore()


async def test_delay_and_loss_work_where_the_kernel_has_netem_and_are_refused_elsewhere(cable: Pair) -> None:
    has = subprocess.run(
        ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem"], capture_output=True, check=False
    )
    params: dict[str, Any] = {"netns": cable.near, "interface": "eth0", "delay": "100ms", "jitter": "10ms", "loss": "1%"}
    if has.returncode:
        with pytest.raises(Refused, match="no netem .*load sch_netem.*the fault `link`"):
            await bench(TcFault(), **params)
        assert "noqueue" in _qdiscs(cable, cable.near)
        return
    fault = await bench(TcFault(), **params)
    await fault.inject()
    began = time.monotonic()
    _arrive(cable, 50, 100)
    assert time.monotonic() - began > 0.08
    assert (await fault.observe()).state is State.INJECTED
    await fault.restore()


async def test_the_queue_of_a_delay_is_as_long_as_the_delay_needs(
    cable: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, "unshare", "exit 0")  # as on a kernel that has it
    slow = await bench(TcFault(), netns=cable.near, interface="eth0", rate="10Mbps", delay="1s")
    fast = await bench(TcFault(), netns=cable.near, interface="eth0", delay="500ms", jitter="100ms", loss="0.5%")
    assert slow.record["devices"]["eth0"] == ["netem", "limit", "5000", "delay", "1000000us", "rate", "10000000bit"]
    assert fast.record["devices"]["eth0"] == [*("netem", "limit", "300000", "delay", "500000us", "100000us", "loss", "0.500000%")]
    assert fast.prepared.commands[0].do.startswith(f"ip netns exec {cable.near} tc qdisc add dev eth0 root handle ")


async def test_a_target_that_vanishes_is_gone(cable: Pair) -> None:
    fault = await bench(TcFault(), netns=cable.near, interface="eth0", rate="1Mbps", quiet=True)
    await fault.inject()
    run("ip", "-n", cable.near, "link", "del", "eth0")
    assert (await fault.observe()).state is State.GONE
    await fault.restore()
    run("ip", "netns", "del", cable.near)
    assert (await fault.observe()).state is State.GONE
    await fault.restore()


async def test_a_failed_or_endless_look_is_not_nothing_there(
    cable: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = await bench(TcFault(), netns=cable.near, interface="eth0", rate="1Mbps", quiet=True)
    await fault.inject()
    for script in ("echo 'Cannot send dump request' >&2; exit 1", "echo '{}'", "echo nothing", "exec sleep 60"):
        stub(tmp_path, monkeypatch, "tc", script)
        if "sleep" in script:
            monkeypatch.setattr(netns.run, "__kwdefaults__", {"given": "", "within": 0.3})
        assert (await fault.observe()).state is State.UNKNOWN
        with pytest.raises(NotUndone):
            await fault.restore()
    monkeypatch.undo()
    assert (await fault.observe()).state is State.INJECTED
    await fault.restore()
    assert (await fault.observe()).state is State.RESTORED


async def test_no_such_interface_is_refused(cable: Pair) -> None:
    with pytest.raises(Refused, match="no interface eth7 in .*, but eth0, lo"):
        await bench(TcFault(), netns=cable.near, interface="eth7", rate="1Mbps")


@pytest.mark.parametrize(
    ("params", "said"),
    [({}, "rate, delay or loss"), ({"delay": "1ms", "jitter": "2ms"}, "no longer than"), ({"rate": 5}, "has no unit")],
)
def test_parameters_that_make_no_sense_are_refused_in_words(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TcParams(netns="a", interface="eth0", **params)
