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
    None: nothing, until it is cut or impaired."""

    def __init__(self, clock: Clock, network: Network | None = None, seed: int = 0) -> None:
        self._clock = clock
        self._gate = Gate(clock, network, seed)
        self._tcp = tcp.Relay(self._gate)
        self._udp = udp.Relay(self._gate)
        self._network = self.network = network
        self.astray: str | None = None
        self._swings = 0  # an odd number: it flaps

    async def dial(self, host: str, ip: str, port: int) -> tuple[str, int]:
        """Connect to `ip:port`; returns the loopback address where one connection to it waits (for 10 s).

        Hangs while cut. Raises the OSError of connecting: a refusal is the server's, not ours. `host` is not looked up.
        """
        return await self._tcp.dial(self.astray or ip, port)

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

    def impair(self, network: Network | None) -> int:
        """`network` is between from here on, in the place of what was; None: what the path was made with. Returns the instant,
        monotonic ns. Streams that are open feel it too, but for what their sockets held."""
        self.network = self._network if network is None else network
        self._gate.impair(self.network)
        self._tcp.impair()
        return self._clock.now()

    def lead_astray(self, ip: str | None) -> None:
        """New connections go to `ip`, whatever their name was looked up as, as after a wrong answer of the DNS; None: where they
        are meant to. Those that are open stay, as they would."""
        self.astray = ip

    def flap(self, down: int, up: int) -> None:
        """Cut for `down` ns, there for `up` ns, and again, from now until `settle`."""
        self.settle()
        self._swings += 1
        self._swing(self._swings, (down, up))

    def settle(self) -> int:
        """It flaps no more, and is open. Returns the instant, as `restore`; where it was not flapping, nothing changes."""
        if not self.flapping:
            return self._clock.now()
        self._swings += 1
        return self.restore()

    @property
    def flapping(self) -> bool:
        return self._swings % 2 == 1

    def _swing(self, turn: int, lasts: tuple[int, int]) -> None:
        if turn == self._swings:
            at = self.restore() if self.is_cut else self.cut()
            self._gate.line.at(at + lasts[0 if self.is_cut else 1], lambda: self._swing(turn, lasts))

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
        if not self._gate.weathered:
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
