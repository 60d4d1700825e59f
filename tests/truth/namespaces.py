"""Two network namespaces: the sandbox's and a router's, through which everything between us and it goes.

    here ── 10.203.n.0/30 ── router ── 10.203.n.4/30 ── platform

Losses are nft's, by `numgen random`, where packets are forwarded: a drop in a local output chain is an error to the sender
and no loss. Rates are tbf's, under an htb that only sorts. What may be impaired is chosen by port: streams to one edge, and
datagrams of every socket of ours that had not spoken when `plant` was called. Segmentation offload is off on the way: one
random number would decide over a whole train of segments.

Needs root, ip, tc and nft. Leaves nothing: both namespaces go, and the cables with them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.tools import missing, requires, requires_root

QUEUE = 32_768  # bytes, as link/'s for a slow link
BUCKET = 3_000


@dataclass(frozen=True)
class Cable:
    """A platform behind a router. `here` and `there`: our address and the platform's; `device`: our end of the cable."""

    router: str
    platform: str
    here: str
    there: str
    device: str

    def prefix(self) -> list[str]:
        """What a command begins with to run where the platform is."""
        return ["ip", "netns", "exec", self.platform]

    def rules(self, text: str) -> None:
        """Load nft rules in the router."""
        run("ip", "netns", "exec", self.router, "nft", "-f", "-", given=text)

    def learn(self) -> None:
        """Begin to note which of our sockets speak."""
        self.rules(
            f"""
            table ip truth {{
                set known {{
                    type inet_service
                    flags dynamic
                    size 1024
                }}
                chain learn {{
                    type filter hook forward priority -10
                    ip saddr {self.here} udp dport != 53 add @known {{ udp sport }}
                }}
                chain act {{
                    type filter hook forward priority 0
                }}
            }}
            """
        )

    def lose(self, share: float, port: int | None) -> None:
        """From now on lose that share of every packet, both ways: of streams to `port`, if any, and of datagrams of those sockets
        of ours that had not spoken before."""
        drop = f"numgen random mod 10000 < {round(share * 10_000)} counter drop"
        rules = [
            f"ip daddr {self.here} udp dport != @known counter",
            f"ip daddr {self.here} udp dport != @known {drop}",
            f"ip saddr {self.here} udp sport != @known {drop}",
        ]
        if port is not None:
            rules += [f"ip daddr {self.here} tcp sport {port} {drop}", f"ip saddr {self.here} tcp dport {port} {drop}"]
        self._act(rules)

    def limit(self, rate: int, port: int, *, datagrams: bool) -> None:
        """From now on let no more than `rate` bit/s through towards us: of streams from `port`, and with `datagrams`, apart from
        it, of datagrams to those sockets of ours that had not spoken before."""
        device = ["ip", "netns", "exec", self.router, "tc"]
        run(*device, "qdisc", "add", "dev", "here", "root", "handle", "1:", "htb")
        for number in ("10", "20") if datagrams else ("20",):
            run(*device, "class", "add", "dev", "here", "parent", "1:", "classid", f"1:{number}", "htb", "rate", "10gbit")
            run(
                *(*device, "qdisc", "add", "dev", "here", "parent", f"1:{number}", "handle", f"{number}:", "tbf"),
                *("rate", f"{rate}bit", "burst", str(BUCKET), "limit", str(QUEUE)),
            )
        rules = [f"ip daddr {self.here} tcp sport {port} meta priority set 1:20"]
        if datagrams:
            rules.append(f"ip daddr {self.here} udp dport != @known meta priority set 1:10")
        self._act(rules)

    def _act(self, rules: list[str]) -> None:
        self.rules(
            "".join(f"{line}\n" for line in ("flush chain ip truth learn", *(f"add rule ip truth act {r}" for r in rules)))
        )

    def counted(self) -> list[int]:
        """Packets of every counter, in the order of the rules."""
        text = run("ip", "netns", "exec", self.router, "nft", "list", "chain", "ip", "truth", "act")
        return [int(n) for n in re.findall(r"counter packets (\d+)", text)]

    def shaped(self) -> list[tuple[int, int, int]]:
        """(bytes sent, packets sent, packets dropped) of each tbf; of the datagrams' first, where there is one."""
        text = run("ip", "netns", "exec", self.router, "tc", "-s", "qdisc", "show", "dev", "here")
        found = re.findall(r"qdisc tbf.*\n Sent (\d+) bytes (\d+) pkt \(dropped (\d+)", text)
        return [(int(a), int(b), int(c)) for a, b, c in found]


def run(*command: str, given: str | None = None) -> str:
    """Its standard output. AssertionError with its complaint where it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}\n{given or ''}"
    return done.stdout


@contextmanager
def cable() -> Iterator[Cable]:
    """A platform's namespace behind a router's; `missing` where that cannot be."""
    requires_root("network namespaces, nft and tbf")
    for command, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")):
        requires(command, package=package)
    number = os.getpid() % 250
    router, platform = f"truth-router-{os.getpid()}", f"truth-platform-{os.getpid()}"
    net = f"10.203.{number}"
    outside = f"truth{os.getpid() % 100_000}"
    made: list[str] = []
    try:
        try:
            for name in (router, platform):
                run("ip", "netns", "add", name)
                made.append(name)
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", "here", "netns", router)
            run("ip", "-n", router, "link", "add", "there", "type", "veth", "peer", "name", "eth0", "netns", platform)
        except AssertionError as error:
            missing(f"no network namespaces here: {error}")
        run("ip", "addr", "add", f"{net}.1/30", "dev", outside)
        run("ip", "-n", router, "addr", "add", f"{net}.2/30", "dev", "here")
        run("ip", "-n", router, "addr", "add", f"{net}.5/30", "dev", "there")
        run("ip", "-n", platform, "addr", "add", f"{net}.6/30", "dev", "eth0")
        for where, device in ((None, outside), (router, "here"), (router, "there"), (platform, "eth0"), (platform, "lo")):
            inside = ["-n", where] if where else []
            if device != "lo":
                run("ip", *inside, "link", "set", device, "gso_max_segs", "1")
            run("ip", *inside, "link", "set", device, "up")
        run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        # link/ reckons with Reno; a machine's own may be BBR, for which a loss means little. A namespace is not let have CUBIC.
        run("ip", "netns", "exec", platform, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        run("ip", "-n", platform, "route", "add", "default", "via", f"{net}.5")
        run("ip", "route", "add", f"{net}.4/30", "via", f"{net}.2")
        yield Cable(router, platform, f"{net}.1", f"{net}.6", outside)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)
