"""The caller's handshake, version 5 (draft-sharabayko-srt-01 section 4.3.1): induction for a cookie, conclusion for the rest.

What the listener says comes out as Failure (handshake, auth) or Unsupported. A secret that the listener does not share is a
failure even where it would let us in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probe.errors import Failure, Unsupported
from probe.model.clock import MS
from probe.model.stage import Phase
from probe.wire.srt import packets as p
from probe.wire.srt.keys import BAD_SECRET, NO_SECRET, Keys
from probe.wire.srt.packets import Control, Data, Extension, Handshake, Kind, Malformed
from probe.wire.srt.receiving import WINDOW
from probe.wire.srt.rejection import refusal

VERSION = 0x010500  # of libsrt, whose live mode this is


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What both sides hold to: latencies in ns of what we receive and of what we send, the listener's window in packets."""

    peer: int
    sequence: int
    window: int
    latency: int
    peer_latency: int
    version: str
    key_bits: int


class Greeting:
    """One handshake. `request` is what is to be asked, again and again, until it changes or `answered` returns."""

    def __init__(
        self, *, socket: int, sequence: int, streamid: str, latency_ms: int, keys: Keys | None, random: Callable[[int], bytes]
    ) -> None:
        self._streamid, self._latency_ms, self._keys, self._random = streamid, latency_ms, keys, random
        self._key_bits = 0
        self.socket = socket
        self._first = self.request = Handshake(
            version=4, encryption=0, extension=2, sequence=sequence, mtu=p.LARGEST, window=WINDOW, type=p.INDUCTION,
            socket=socket, cookie=0,
        )  # fmt: skip

    @property
    def concluding(self) -> bool:
        return self.request.type == p.CONCLUSION

    def answered(self, packet: Data | Control) -> Agreed | None:
        """Raises Malformed beside the above."""
        if not isinstance(packet, Control) or packet.kind != Kind.HANDSHAKE:
            if self.concluding and packet.destination == self.socket:
                return None  # its media overtook its answer, which we shall ask for again
            raise Malformed("no handshake where one was due")
        if packet.destination not in (self.socket, 0):
            raise Malformed("an answer to somebody else")
        answer = p.decode_handshake(packet.body)
        if answer.type >= p.REJECTED:
            raise refusal(answer.type)
        if answer.type == p.INDUCTION:
            if not self.concluding:
                self._conclude(answer)
            return None
        if answer.type == p.CONCLUSION and self.concluding:
            return self._settle(answer)
        raise Malformed(f"a handshake of type {answer.type}")

    def _conclude(self, answer: Handshake) -> None:
        """The listener has shown its cookie: ask for what we want."""
        if answer.version < 5:
            raise Unsupported(f"version {answer.version} of SRT's handshake")
        if answer.extension != p.MAGIC:
            raise Malformed("the listener's induction has no SRT in it")
        if not answer.cookie:
            raise Malformed("an induction without a cookie")
        hello = p.encode_hello(VERSION, p.LIVE, self._latency_ms, self._latency_ms)
        extensions: dict[int, bytes] = {Extension.HSREQ: hello}
        flags, words = 1, 0
        if self._keys is not None:
            words = answer.encryption if answer.encryption in (2, 3, 4) else 2  # of 64 bits, as the listener wishes
            extensions[Extension.KMREQ] = self._keys.make(words * 8, self._random)
            self._key_bits = words * 64
            flags |= 2
        if self._streamid:
            extensions[Extension.SID] = p.encode_stream_id(self._streamid)
            flags |= 4
        self.request = self._first.replaced(
            version=5, encryption=words, extension=flags, type=p.CONCLUSION, cookie=answer.cookie, extensions=extensions
        )

    def _settle(self, answer: Handshake) -> Agreed:
        if answer.version != 5 or Extension.HSRSP not in answer.extensions:
            raise Malformed("a conclusion without SRT's answer")
        version, flags, receive_ms, send_ms = p.decode_hello(answer.extensions[Extension.HSRSP])
        if flags & p.STREAM:
            raise Unsupported("SRT in file mode")
        self._check_keys(answer.extensions.get(Extension.KMRSP))
        return Agreed(
            peer=answer.socket, sequence=answer.sequence, window=answer.window, latency=max(self._latency_ms, send_ms) * MS,
            peer_latency=max(self._latency_ms, receive_ms) * MS, version=_dotted(version), key_bits=self._key_bits,
        )  # fmt: skip

    def _check_keys(self, answer: bytes | None) -> None:
        if self._keys is None:
            return
        if answer is None:
            raise Failure(Phase.AUTH, "refused", "the listener has no passphrase")
        if len(answer) == 4:
            state = int.from_bytes(answer, "big")
            what = {NO_SECRET: "the listener has no passphrase", BAD_SECRET: "wrong passphrase"}.get(state)
            raise Failure(Phase.AUTH, "refused", what or f"the listener could not take our key (state {state})")


def _dotted(version: int) -> str:
    return f"{version >> 16 & 0xFF}.{version >> 8 & 0xFF}.{version & 0xFF}"
