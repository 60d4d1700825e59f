"""The listening end of SRT, as small as tests need it: one caller, answered as told. Sans IO, like the caller.

Its halves after the handshake are the product's own; real libsrt and another implementation stand elsewhere in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from probe.model.clock import MS
from probe.wire.srt import packets as p
from probe.wire.srt.keys import Keys, WrongSecret
from probe.wire.srt.packets import Control, Data, Extension, Handshake, Kind
from probe.wire.srt.receiving import Receiver
from probe.wire.srt.sending import Sender

SOCKET = 0x2222


@dataclass
class Listener:
    """`reject`: the number a conclusion is refused with. `silent_at`: "induction" or "conclusion" is never answered."""

    now: int = 0
    passphrase: str = ""
    latency: int = 120 * MS
    reject: int = 0
    silent_at: str = ""
    key_words: int = 0  # advertised key length, in words of 64 bits
    spoil: Callable[[Handshake], Handshake] = lambda answer: answer
    streamid: str = ""
    connected: bool = False
    ended: bool = False
    out: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.now
        self.caller = 0
        self.keys: Keys | None = None
        self.receiver: Receiver | None = None
        self.sender: Sender | None = None
        self.acks = self.light_acks = 0

    def receive(self, datagram: bytes, now: int) -> None:
        self.now = now
        packet = p.decode(datagram)
        if isinstance(packet, Data):
            assert self.receiver is not None
            if packet.key:
                assert self.keys is not None
                payload = self.keys.crypt(packet.key, packet.sequence, packet.payload)
                packet = Data(packet.sequence, packet.number, packet.timestamp, packet.destination, payload)
            if gap := self.receiver.take(packet, now):
                self.control(Kind.NAK, body=p.encode_loss(gap))
            return
        match packet.kind:
            case Kind.HANDSHAKE:
                self._handshake(p.decode_handshake(packet.body), packet.timestamp)
            case Kind.ACK:
                assert self.sender is not None
                self.acks += bool(packet.info)
                self.light_acks += not packet.info
                self.sender.acked(p.decode_ack(packet.body))
                if packet.info:
                    self.control(Kind.ACKACK, info=packet.info)
            case Kind.NAK:
                assert self.sender is not None
                for first, last in p.decode_loss(packet.body):
                    self.sender.lost(first, last)
            case Kind.ACKACK:
                assert self.receiver is not None
                self.receiver.ack_acked(packet.info, packet.timestamp, now)
            case Kind.SHUTDOWN:
                self.ended = True
            case _:
                pass

    def send(self, payload: bytes, now: int) -> None:
        assert self.sender is not None
        self.sender.give(payload, now)

    def timer(self, now: int) -> None:
        self.now = now
        if self.receiver is None or self.sender is None:
            return
        self.got += [payload for payload, _ in self.receiver.release(now)]
        if missing := self.receiver.overdue(now):
            self.control(Kind.NAK, body=p.encode_loss(missing))
        if due := self.receiver.ack(now):
            self.control(Kind.ACK, info=due[0], body=due[1].encode())
        self.out += self.sender.emit(now)

    def outgoing(self) -> list[bytes]:
        out, self.out = self.out, []
        return out

    def control(self, kind: Kind, *, info: int = 0, body: bytes = b"", subtype: int = 0) -> None:
        timestamp = (self.now - self.began) // 1000
        self.out.append(Control(kind, subtype, info, timestamp, self.caller, body).encode())

    def _handshake(self, asked: Handshake, timestamp: int) -> None:
        self.caller = asked.socket
        answer = asked.replaced(version=5, socket=SOCKET, extensions={})
        if asked.type == p.INDUCTION:
            if self.silent_at == "induction":
                return
            answer = answer.replaced(encryption=self.key_words, extension=p.MAGIC, cookie=0xC00C1E)
        else:
            if self.silent_at == "conclusion":
                return
            answer = self._conclude(asked, answer, timestamp)
        self.control(Kind.HANDSHAKE, body=self.spoil(answer).encode())

    def _conclude(self, asked: Handshake, answer: Handshake, timestamp: int) -> Handshake:
        assert asked.cookie == 0xC00C1E
        reject = self.reject
        extensions: dict[int, bytes] = {}
        material = asked.extensions.get(Extension.KMREQ)
        if bool(self.passphrase) != (material is not None):
            reject = reject or 1011
        elif material is not None:
            self.keys = self.keys or Keys(self.passphrase)
            try:
                self.keys.learn(material)
            except WrongSecret:
                reject = reject or 1010
            extensions[Extension.KMRSP] = material
        if reject:
            return answer.replaced(type=reject)
        self.streamid = p.decode_stream_id(asked.extensions.get(Extension.SID, b""))
        _, _, receive_ms, send_ms = p.decode_hello(asked.extensions[Extension.HSREQ])
        ours = self.latency // MS
        extensions[Extension.HSRSP] = p.encode_hello(0x010500, p.LIVE, max(ours, send_ms), max(ours, receive_ms))
        if not self.connected:
            self.connected = True
            self.receiver = Receiver(asked.sequence, max(ours, send_ms) * MS, self.now - timestamp * 1000, self.now)
            self.sender = Sender(asked.sequence, asked.socket, self.began, max(ours, receive_ms) * MS, asked.window, self.keys)
        return answer.replaced(extension=1, extensions=extensions)
