"""An SRT caller in live mode, version 5 of the handshake (draft-sharabayko-srt-01).

    caller = Caller(now=…, streamid=…, passphrase=…, latency=…)
    for datagram in caller.outgoing(): …          # after every call
    caller.receive(datagram, now); caller.timer(now) at caller.next_timer()
    for event in caller.events(): …

Why ours: no wheel brings libsrt with what a probe must see, which is the handshake as a stage of its own, why it was refused,
what was lost, asked for again and given up. Both directions at once, as the protocol has it: whoever only views never calls
`send`. What the other side says before the connection stands comes out as Failure (handshake, auth) or Unsupported; later as
Ended. Datagrams that make no sense then are counted and are no sign of life. Where a key was agreed, data in the clear is
nobody's we know and is dropped (libsrt takes it in counter mode, and has refused it in GCM since 1.5.3).

Not attempted: listening, rendezvous, bonding, version 4 of the handshake, messages of several packets, packet filters, AES-GCM.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.srt import LATENCY as LATENCIES
from probe.model.srt import passphrase_misfit
from probe.model.stage import Phase
from probe.wire.srt import packets as p
from probe.wire.srt.greeting import Greeting
from probe.wire.srt.keys import Keys, WrongSecret
from probe.wire.srt.packets import Control, Data, Extension, Kind, Malformed
from probe.wire.srt.receiving import Receiver
from probe.wire.srt.sending import KEPT, Sender

LATENCY = 120 * MS
STREAM_ID = 512  # bytes
CONNECT = 3 * NS  # libsrt's own patience
_AGAIN = 250 * MS
_IDLE = 5 * NS
_ALIVE = NS
_UNREADABLE = 100  # packets in a row in the clear where a key was agreed, or under keys nobody told us
_RENEWED = 100 * MS  # between new keys: each costs a derivation from the passphrase


@dataclass(frozen=True, slots=True)
class Connected:
    """`latency`: ns that what comes is held back by, as agreed. `version`: what the other side says of itself."""

    latency: int
    version: str
    encrypted: int  # bits of the key, 0: in the clear


@dataclass(frozen=True, slots=True)
class Arrived:
    """The first data packet is here; what it holds is released later."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and the instant it was due (ns)."""

    payload: bytes
    due: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """So many packets of ours, from the first on, have arrived (or the receiver gave them up)."""

    packets: int


@dataclass(frozen=True, slots=True)
class Ended:
    """closed: the other side said so; timeout: it has been silent for too long; malformed: its keys are not known to us."""

    reason: str
    detail: str


Event = Connected | Arrived | Received | Acknowledged | Ended


class Caller:
    """One connection from its first datagram. Times in ns."""

    def __init__(
        self,
        *,
        now: int,
        streamid: str = "",
        passphrase: str = "",
        latency: int = LATENCY,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`passphrase` and `latency` are of what SRT can say (`model/srt`). Raises Unsupported for a stream id of more than 512
        bytes."""
        if len(streamid.encode()) > STREAM_ID:
            raise Unsupported(f"an SRT stream id of more than {STREAM_ID} bytes")
        if (passphrase and passphrase_misfit(passphrase)) or latency // MS not in LATENCIES:
            raise ValueError("a passphrase or a latency that SRT cannot say")
        self._began = now
        self._keys = Keys(passphrase) if passphrase else None
        self._receiving_keys: Keys | None = None
        self._socket = int.from_bytes(random(4), "big") & 0x3FFF_FFFF | 1
        self._isn = int.from_bytes(random(4), "big") & p.SEQUENCES - 1
        self._peer = 0
        self._greeting = Greeting(
            socket=self._socket, sequence=self._isn, streamid=streamid, latency_ms=latency // MS,
            keys=self._keys, random=random,
        )  # fmt: skip
        self._hello_at = now
        self.receiver: Receiver | None = None
        self.sender: Sender | None = None
        self.strange = 0  # datagrams that made no sense
        self.unreadable = 0  # data packets dropped: in the clear where a key was agreed, or under a key that we were not told
        self._unreadable = 0  # since the last that could be read
        self._renew_at = now
        self._heard, self._said = now, now
        self._over = False
        self._out: list[bytes] = []
        self._events: list[Event] = []

    # -- what goes out

    def outgoing(self) -> list[bytes]:
        """Datagrams to be sent now."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[Event]:
        out, self._events = self._events, []
        return out

    def send(self, payload: bytes, now: int) -> None:
        """One message, of at most 1456 bytes. Nothing before the connection stands or after its end."""
        if self.sender is not None and not self._over:
            self.sender.give(payload, now)
            self._emit(now)

    def close(self, now: int) -> None:
        """Say goodbye, once."""
        if self._peer and not self._over:
            self._control(Kind.SHUTDOWN, now, body=bytes(4))
        self._over = True

    # -- what comes in

    def receive(self, datagram: bytes, now: int) -> None:
        """Raises Failure(handshake | auth, …) and Unsupported while the connection does not stand."""
        if self._over:
            return
        try:
            packet = p.decode(datagram)
            if self.receiver is None:
                self._answered(packet, now)
            elif packet.destination == self._socket:
                self._heard = now
                self._connected(packet, now)
            else:
                self.strange += 1
        except Malformed as error:
            if self.receiver is None:
                raise Failure(Phase.HANDSHAKE, "malformed", str(error)) from error
            self.strange += 1

    def timer(self, now: int) -> None:
        """Whatever has fallen due. Raises Failure(handshake, timeout)."""
        if self._over:
            return
        receiver, sender = self.receiver, self.sender
        if receiver is None or sender is None:
            if now - self._began >= CONNECT:
                what = "an answer to the conclusion" if self._greeting.concluding else "any answer"
                raise Failure(Phase.HANDSHAKE, "timeout", f"{CONNECT / NS:g} s without {what}")
            if now >= self._hello_at:
                self._hello(now)
            return
        if now - self._heard >= _IDLE:
            self._end("timeout", f"silent for {_IDLE / NS:g} s")
            return
        self._release(now)
        if missing := receiver.overdue(now):
            self._control(Kind.NAK, now, body=p.encode_loss(missing))
        if due := receiver.ack(now):
            self._control(Kind.ACK, now, info=due[0], body=due[1].encode())
        self._emit(now)
        if now - self._said >= _ALIVE:
            self._control(Kind.KEEPALIVE, now, body=bytes(4))

    def next_timer(self) -> int | None:
        """When `timer` has something to do; None after the end."""
        if self._over:
            return None
        if self.receiver is None or self.sender is None:
            return min(self._hello_at, self._began + CONNECT)
        times = [self._heard + _IDLE, self._said + _ALIVE]
        for half in (self.receiver.next_timer(), self.sender.next_timer()):
            if half is not None:
                times.append(half)
        return min(times)

    # -- the handshake

    def _hello(self, now: int) -> None:
        self._control(Kind.HANDSHAKE, now, body=self._greeting.request.encode())
        self._hello_at = now + _AGAIN

    def _answered(self, packet: Data | Control, now: int) -> None:
        concluding = self._greeting.concluding
        agreed = self._greeting.answered(packet)
        if agreed is None:
            if self._greeting.concluding and not concluding:
                self._hello(now)
            return
        self._peer = agreed.peer
        self._receiving_keys = self._keys.copy() if self._keys else None
        self.receiver = Receiver(agreed.sequence, agreed.latency, now - packet.timestamp * 1000, now)
        self.sender = Sender(self._isn, self._peer, self._began, agreed.peer_latency, agreed.window, self._keys)
        self._heard = now
        self._events.append(Connected(agreed.latency, agreed.version, agreed.key_bits))

    # -- the connection

    def _connected(self, packet: Data | Control, now: int) -> None:
        assert self.receiver is not None and self.sender is not None
        if isinstance(packet, Data):
            self._data(packet, now)
            return
        match packet.kind:
            case Kind.ACK:
                self._acked(packet, now)
            case Kind.NAK:
                asked = 0
                for first, last in p.decode_loss(packet.body):
                    asked += (last - first) % p.SEQUENCES + 1
                    if asked > KEPT:
                        raise Malformed("a report of more losses than we keep packets")
                    gone = self.sender.lost(first, last)
                    if gone is not None:
                        self._control(Kind.DROPREQ, now, body=b"".join(n.to_bytes(4, "big") for n in gone))
                self._emit(now)
            case Kind.ACKACK:
                self.receiver.ack_acked(packet.info, packet.timestamp, now)
            case Kind.DROPREQ:
                if len(packet.body) < 8:
                    raise Malformed("a drop request that ends too early")
                first, last = (int.from_bytes(packet.body[at : at + 4], "big") & p.SEQUENCES - 1 for at in (0, 4))
                self.receiver.given_up(first, last)
            case Kind.SHUTDOWN:
                self._end("closed", "the other side closed the connection")
            case Kind.USER if packet.subtype == Extension.KMREQ and self._receiving_keys is not None:
                self._renew(packet.body, now)
            case _:  # keepalive, a repeated handshake, what live mode does not use
                pass

    def _data(self, packet: Data, now: int) -> None:
        assert self.receiver is not None
        keys = self._receiving_keys
        if (not packet.key) if keys is not None else packet.key:
            self._not_read("in the clear, though a key was agreed" if keys else "encrypted, though no key was agreed")
            return
        if keys is not None:
            if not keys.knows(packet.key):
                self._not_read("encrypted with a key that we were not told")
                return
            payload = keys.crypt(packet.key, packet.sequence, packet.payload)
            packet = Data(
                packet.sequence, packet.number, packet.timestamp, packet.destination, payload, packet.key, packet.again
            )  # fmt: skip
        self._unreadable = 0
        if not self.receiver.count.packets:
            self._events.append(Arrived())
        gap = self.receiver.take(packet, now)
        if gap:
            self._control(Kind.NAK, now, body=p.encode_loss(gap))
        light = self.receiver.light_ack()
        if light is not None:
            self._control(Kind.ACK, now, body=light.encode())

    def _not_read(self, why: str) -> None:
        self.unreadable += 1
        self._unreadable += 1
        if self._unreadable > _UNREADABLE:
            self._end("malformed", f"what comes is {why}")

    def _acked(self, packet: Control, now: int) -> None:
        assert self.sender is not None
        ack = p.decode_ack(packet.body)
        if packet.info:
            self._control(Kind.ACKACK, now, info=packet.info, body=bytes(4))
        if self.sender.acked(ack):
            self._events.append(Acknowledged(self.sender.count.acknowledged))
        self._emit(now)

    def _renew(self, material: bytes, now: int) -> None:
        assert self._receiving_keys is not None
        if now < self._renew_at:
            self.strange += 1
            return
        self._renew_at = now + _RENEWED
        try:
            self._receiving_keys.learn(material)
        except WrongSecret:
            self._end("malformed", "the sender's new key is wrapped with another passphrase")
            return
        self._control(Kind.USER, now, subtype=Extension.KMRSP, body=material)

    def _release(self, now: int) -> None:
        assert self.receiver is not None
        self._events += [Received(payload, due) for payload, due in self.receiver.release(now)]

    def _emit(self, now: int) -> None:
        assert self.sender is not None
        datagrams = self.sender.emit(now)
        if datagrams:
            self._out += datagrams
            self._said = now

    def _control(self, kind: Kind, now: int, *, info: int = 0, body: bytes = b"", subtype: int = 0) -> None:
        timestamp = (now - self._began) // 1000
        self._out.append(Control(kind, subtype, info, timestamp, self._peer, body).encode())
        self._said = now

    def _end(self, reason: str, detail: str) -> None:
        self._events.append(Ended(reason, detail))
        self._over = True
