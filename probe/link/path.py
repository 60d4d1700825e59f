"""Our own network path to the platform: user space, no root, one per session that will be impaired.

TCP goes through `dial`, a hook of net/: the client keeps host name and TLS and only connects elsewhere. UDP goes through
rewritten ICE candidates of the offer (`udp_local`) and of the answer (`udp_remote`). Where nothing is to be impaired
there is no Path. What the network between does (delay, loss, rate …) is `lane`'s for datagrams and `flow`'s for streams.
"""

from __future__ import annotations

from types import TracebackType

from probe.link import tcp, udp
from probe.link.gate import Gate
from probe.link.traffic import Traffic, Way
from probe.model.clock import Clock
from probe.plan import Network


class Path:
    """One session's path. Lives on the loop it is made on; leaving it closes every socket it has.

    `network`: what it does to everything on it, by chance that `seed` decides: the same seed and the same packets, the same fate.
    None: it can only be cut."""

    def __init__(self, clock: Clock, network: Network | None = None, seed: int = 0) -> None:
        self._clock = clock
        self._gate = Gate(clock, network, seed)
        self._tcp = tcp.Relay(self._gate)
        self._udp = udp.Relay(self._gate)

    async def dial(self, host: str, ip: str, port: int) -> tuple[str, int]:
        """Connect to `ip:port`; returns the loopback address where one connection to it waits (for 10 s).

        Hangs while cut. Raises the OSError of connecting: a refusal is the server's, not ours. `host` is not looked up.
        """
        return await self._tcp.dial(ip, port)

    async def udp_local(self, ip: str, port: int) -> tuple[str, int]:
        """Our host candidate → the address the server should be told. ValueError unless `ip` is a literal address,
        OSError unless it is this machine's: leave reflexive and relayed candidates out of the offer."""
        return self._udp.local(ip, port)

    async def udp_remote(self, ip: str, port: int) -> tuple[str, int]:
        """The server's candidate → the address our ICE agent should use. ValueError unless `ip` is a literal address;
        Failure(ICE) beyond 64 candidates."""
        return self._udp.remote(ip, port)

    async def udp(self, ip: str, port: int) -> tuple[str, int]:
        """The server's address → the loopback address that one client without candidates (SRT) uses in its place: whichever
        socket speaks to it first. Asking again is the next attempt's: a new address, the old one closed. ValueError unless
        `ip` is a literal address."""
        return self._udp.tunnel(ip, port)

    def cut(self) -> int:
        """The link goes down, both ways: datagrams are lost, connections stay and their bytes wait, new ones hang.
        Returns the instant, monotonic ns."""
        at = self._gate.shut()
        self._tcp.update()
        return at

    def restore(self) -> int:
        """The link is up again. Returns the instant, monotonic ns, taken before anything passes."""
        at = self._gate.reopen()
        self._tcp.update()
        return at

    async def rebind(self) -> int:
        """A new address, as after NAT rebinding or Wi-Fi → 4G: new server-side UDP ports (the old are closed), TCP
        connections reset. The addresses told to our own agent stay. Returns the instant from which the new ones pass."""
        self._udp.rebind()
        self._tcp.close(reset=True)
        return self._clock.now()

    @property
    def is_cut(self) -> bool:
        return not self._gate.open

    @property
    def cut_at(self) -> int | None:
        """Instant of the last cut, monotonic ns."""
        return self._gate.shut_at

    @property
    def restored_at(self) -> int | None:
        """Instant of the last restore, monotonic ns."""
        return self._gate.opened_at

    @property
    def connections(self) -> int:
        """TCP connections open, waiting or being made."""
        return len(self._tcp)

    @property
    def up(self) -> Traffic:
        """What went from us to the platform, and what was dropped."""
        return self._gate.traffic[Way.UP]

    @property
    def down(self) -> Traffic:
        """What came from the platform, and what was dropped."""
        return self._gate.traffic[Way.DOWN]

    def facts(self) -> dict[str, str]:
        """What the network did so far, for people; empty where there is none."""
        if not self._gate.impairs:
            return {}
        return {f"network {way}": traffic.told() for way, traffic in self._gate.traffic.items()}

    async def close(self) -> None:
        """Everything closed; whoever waits in `dial` gets a ConnectionAbortedError."""
        self._gate.end()
        self._tcp.close()
        self._udp.close()

    async def __aenter__(self) -> Path:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
