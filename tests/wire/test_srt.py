"""SRT's caller by itself: what it says, what it survives, and what a bad path costs, in made-up time."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.stage import Phase
from probe.wire.srt import packets as p
from probe.wire.srt.caller import Acknowledged, Caller, Connected, Ended, Received
from probe.wire.srt.keys import EVEN, ODD, Keys, WrongSecret
from probe.wire.srt.packets import Control, Data, Kind, Malformed
from probe.wire.srt.receiving import Receiver
from probe.wire.srt.sending import Sender
from tests.wire.srt_listener import SOCKET, Listener

START = 1_000 * NS


def entropy(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


class Net:
    """A caller and a listener with a path between them: `delay` one way, `loss` of datagrams, seeded. Steps of one ms."""

    def __init__(
        self, listener: Listener | None = None, *, delay: int = 5 * MS, loss: float = 0.0, seed: int = 1, **caller
    ) -> None:
        self.now = START
        self.listener = listener or Listener(now=START)
        self.caller = Caller(now=START, random=entropy(seed), **caller)
        self.delay, self.loss = delay, loss
        self.events: list = []
        self._random = random.Random(seed)
        self._flying: list[tuple[int, bool, bytes]] = []

    def step(self) -> None:
        self.now += MS
        flying, self._flying = self._flying, []
        for at, up, datagram in flying:
            if at > self.now:
                self._flying.append((at, up, datagram))
            elif up:
                self.listener.receive(datagram, self.now)
            else:
                self.caller.receive(datagram, self.now)
        due = self.caller.next_timer()
        if due is not None and due <= self.now:
            self.caller.timer(self.now)
        self.listener.timer(self.now)
        self.events += self.caller.events()
        for up, out in ((True, self.caller.outgoing()), (False, self.listener.outgoing())):
            for datagram in out:
                if self._random.random() >= self.loss:
                    self._flying.append((self.now + self.delay, up, datagram))

    def run(self, ms: int) -> None:
        for _ in range(ms):
            self.step()

    def connect(self) -> Connected:
        for _ in range(3000):
            self.step()
            for event in self.events:
                if isinstance(event, Connected):
                    return event
        raise AssertionError("never connected")

    @property
    def receiver(self) -> Receiver:
        assert self.caller.receiver is not None
        return self.caller.receiver

    @property
    def sender(self) -> Sender:
        assert self.caller.sender is not None
        return self.caller.sender

    @property
    def theirs(self) -> Sender:
        assert self.listener.sender is not None
        return self.listener.sender

    @property
    def received(self) -> list[bytes]:
        return [event.payload for event in self.events if isinstance(event, Received)]


def payload(number: int) -> bytes:
    return struct.pack(">I", number) * 300


def stream_down(net: Net, count: int) -> None:
    """The path mends for the last: nobody notices a lost end until something follows it, and a live stream has no end."""
    loss = net.loss
    for number in range(count):
        net.loss = loss if number < count - 3 else 0.0
        net.listener.send(payload(number), net.now)
        net.run(5)
    net.run(1000)
    net.loss = loss


def stream_up(net: Net, count: int) -> None:
    loss = net.loss
    for number in range(count):
        net.loss = loss if number < count - 3 else 0.0
        net.caller.send(payload(number), net.now)
        net.run(5)
    net.run(1000)
    net.loss = loss


def test_the_stream_id_and_the_larger_latency_are_agreed():
    net = Net(Listener(now=START, latency=300 * MS), streamid="#!::r=live/röom,m=publish", latency=120 * MS)
    connected = net.connect()
    assert net.listener.streamid == "#!::r=live/röom,m=publish"
    assert connected == Connected(300 * MS, "1.5.0", 0)


def test_what_is_sent_is_released_in_order_at_its_stamp_plus_the_latency():
    net = Net(delay=20 * MS, latency=200 * MS)
    net.connect()
    sent_at = {}
    for number in range(50):
        sent_at[payload(number)] = net.now
        net.listener.send(payload(number), net.now)
        net.run(10)
    net.run(500)
    assert net.received == [payload(number) for number in range(50)]
    for event in net.events:
        if isinstance(event, Received):  # the sender's zero is known to within the way back: 20 ms
            assert event.due - sent_at[event.payload] == pytest.approx(220 * MS, abs=3 * MS)


@pytest.mark.parametrize("loss", [0.02, 0.05])
def test_losses_are_asked_for_again_and_nothing_is_missing(loss: float):
    net = Net(delay=10 * MS, loss=loss, seed=7, latency=300 * MS)
    net.connect()
    stream_down(net, 1000)
    assert net.received == [payload(number) for number in range(1000)]
    count = net.receiver.count
    assert count.lost >= 1000 * loss / 2
    assert count.recovered == count.lost and count.dropped == 0
    assert net.theirs.count.resent >= count.recovered


@pytest.mark.parametrize("loss", [0.02, 0.05])
def test_what_we_send_is_sent_again_when_asked_for(loss: float):
    net = Net(delay=10 * MS, loss=loss, seed=3, latency=300 * MS)
    net.connect()
    stream_up(net, 1000)
    assert net.listener.got == [payload(number) for number in range(1000)]
    assert net.sender.count.resent >= 1000 * loss / 2
    assert [e.packets for e in net.events if isinstance(e, Acknowledged)][-1] == 1000


def test_what_comes_too_late_is_dropped_counted_and_never_waited_for():
    net = Net(Listener(now=START, latency=20 * MS), delay=40 * MS, loss=0.1, seed=5, latency=20 * MS)
    net.connect()
    stream_down(net, 500)
    numbers = [int.from_bytes(one[:4], "big") for one in net.received]
    assert numbers == sorted(set(numbers))
    count = net.receiver.count
    assert count.dropped == 500 - len(numbers) - (499 - numbers[-1])
    assert count.dropped > 20


def test_media_outlives_the_wrapping_of_sequence_numbers():
    net = Net(loss=0.03, seed=2)
    numbers = iter((7, p.SEQUENCES - 100))  # the socket's and the first packet's
    net.caller = Caller(now=START, random=lambda size: next(numbers).to_bytes(size, "big"))
    net.connect()
    assert net.caller._isn == p.SEQUENCES - 100
    stream_down(net, 300)
    stream_up(net, 300)
    assert net.received == [payload(number) for number in range(300)]
    assert net.listener.got == [payload(number) for number in range(300)]


def test_media_outlives_the_wrapping_of_time_stamps():
    listener = Listener(now=START - (1 << 32) * 1000 + 500 * MS)  # its µs wrap half a second from now
    net = Net(listener)
    net.connect()
    stream_down(net, 300)
    assert net.received == [payload(number) for number in range(300)]
    assert all(event.due <= net.now for event in net.events if isinstance(event, Received))


def test_the_round_trip_is_measured():
    net = Net(delay=25 * MS)
    net.connect()
    stream_down(net, 100)
    assert net.receiver.rtt == pytest.approx(50 * MS, rel=0.2)
    stream_up(net, 100)
    assert net.sender.rtt == pytest.approx(50 * MS, rel=0.2)


def test_full_acknowledgements_every_10_ms_and_light_ones_in_a_flood():
    net = Net(delay=MS)
    net.connect()
    for number in range(1000):
        net.listener.send(payload(number), net.now)
        if number % 200 == 199:
            net.run(40)
    net.run(100)
    assert net.listener.light_acks >= 10
    assert 5 <= net.listener.acks <= 60


def test_a_silent_connection_is_kept_alive_and_ends_when_the_other_side_is_silent_too():
    net = Net()
    net.connect()
    net.run(3000)
    assert not any(isinstance(event, Ended) for event in net.events)
    net.run(2500)  # this listener never speaks of itself
    assert [e.reason for e in net.events if isinstance(e, Ended)] == ["timeout"]
    assert net.caller.next_timer() is None


def test_goodbye_is_said_and_heard():
    net = Net()
    net.connect()
    net.caller.close(net.now)
    net.run(20)
    assert net.listener.ended

    net = Net()
    net.connect()
    net.listener.control(Kind.SHUTDOWN)
    net.run(20)
    assert [e.reason for e in net.events if isinstance(e, Ended)] == ["closed"]


def test_a_sender_that_gave_packets_up_is_believed():
    net = Net()
    net.connect()
    first = net.caller._isn
    net.caller.receive(Data(first + 3 & p.SEQUENCES - 1, 4, 0, net.caller._socket, b"late").encode(), net.now)
    assert net.receiver.overdue(net.now + NS)
    body = struct.pack(">II", first, first + 2 & p.SEQUENCES - 1)
    net.caller.receive(Control(Kind.DROPREQ, 0, 1, 0, net.caller._socket, body).encode(), net.now)
    assert net.receiver.overdue(net.now + 2 * NS) == []


def test_what_was_dropped_before_it_was_asked_for_is_said_to_be_gone():
    net = Net()
    net.connect()
    net.caller.send(b"first", net.now)
    net.caller.outgoing()  # lost
    net.run(1500)
    net.caller.send(b"second", net.now)
    assert net.sender.count.dropped == 1
    asked = p.encode_loss([(net.caller._isn, net.caller._isn)])
    net.caller.receive(Control(Kind.NAK, 0, 0, 0, net.caller._socket, asked).encode(), net.now)
    said = [p.decode(datagram) for datagram in net.caller.outgoing()]
    assert Kind.DROPREQ in [packet.kind for packet in said if isinstance(packet, Control)]


# --- encryption


@pytest.mark.parametrize("words", [0, 2, 3, 4])
def test_both_directions_are_encrypted_with_the_key_length_the_listener_wishes(words: int):
    net = Net(Listener(now=START, passphrase="correct horse", key_words=words), passphrase="correct horse", loss=0.02)
    connected = net.connect()
    assert connected.encrypted == (words or 2) * 64
    stream_down(net, 100)
    stream_up(net, 100)
    assert net.received == net.listener.got == [payload(number) for number in range(100)]


def test_a_key_is_renewed_while_media_flows():
    net = Net(Listener(now=START, passphrase="correct horse"), passphrase="correct horse")
    net.connect()
    stream_down(net, 20)
    fresh = Keys("correct horse")
    material = bytearray(fresh.make(16, entropy(9)))
    material[3] = ODD
    fresh._keys[ODD] = fresh._keys.pop(EVEN)
    net.listener.control(Kind.USER, subtype=p.Extension.KMREQ, body=bytes(material))
    net.run(20)
    sequence = net.caller._isn + 20 & p.SEQUENCES - 1
    stamp = (net.now - START) // 1000
    data = Data(sequence, 21, stamp, net.caller._socket, fresh.crypt(ODD, sequence, b"under the new key"), ODD)
    net.caller.receive(data.encode(), net.now)
    net.run(300)
    assert net.received[-1] == b"under the new key"


def test_data_in_the_clear_is_dropped_where_a_key_was_agreed():
    net = Net(Listener(now=START, passphrase="correct horse"), passphrase="correct horse")
    net.connect()
    stream_down(net, 20)
    taken = net.receiver.count.packets
    for number in range(20, 60):
        clear = Data(
            net.caller._isn + number & p.SEQUENCES - 1, 1, (net.now - START) // 1000, net.caller._socket, b"not the platform's"
        )
        net.caller.receive(clear.encode(), net.now)
    net.run(500)
    assert (net.caller.unreadable, net.receiver.count.packets) == (40, taken)
    stream_down(net, 80)  # and who slips in a datagram now and then ends nothing
    assert net.received == [payload(number) for number in (*range(20), *range(80))]
    assert not any(isinstance(event, Ended) for event in net.events)


@pytest.mark.parametrize(
    ("secret", "key", "why"),
    [("correct horse", 0, "in the clear, though"), ("correct horse", ODD, "not told"), ("", EVEN, "though no key")],
)
def test_a_stream_that_cannot_be_read_comes_to_an_end(secret: str, key: int, why: str):
    net = Net(Listener(now=START, passphrase=secret), passphrase=secret)
    net.connect()
    for number in range(101):
        data = Data(net.caller._isn + number & p.SEQUENCES - 1, 1, (net.now - START) // 1000, net.caller._socket, b"what?", key)
        net.caller.receive(data.encode(), net.now)
    assert [(e.reason, why in e.detail) for e in net.caller.events() if isinstance(e, Ended)] == [("malformed", True)]
    assert net.receiver.count.packets == 0


@pytest.mark.parametrize("theirs", ["another horse", ""])
def test_another_passphrase_or_none_is_a_matter_of_auth(theirs: str):
    net = Net(Listener(now=START, passphrase=theirs), passphrase="correct horse")
    with pytest.raises(Failure) as raised:
        net.connect()
    assert (raised.value.phase, raised.value.reason) == (Phase.AUTH, "refused")
    assert "correct" not in str(raised.value)


def test_a_listener_that_lets_us_in_without_having_our_secret_is_not_trusted():
    def state(number: int) -> Callable:
        def spoil(answer):
            if answer.type == p.CONCLUSION:
                return answer.replaced(extensions={**answer.extensions, p.Extension.KMRSP: struct.pack(">I", number)})
            return answer

        return spoil

    for number, word in ((3, "no passphrase"), (4, "wrong passphrase"), (1, "state 1")):
        net = Net(Listener(now=START, passphrase="correct horse", spoil=state(number)), passphrase="correct horse")
        with pytest.raises(Failure, match=word) as raised:
            net.connect()
        assert raised.value.phase is Phase.AUTH


def test_key_material_of_another_passphrase_is_refused():
    material = Keys("correct horse").make(16, entropy())
    with pytest.raises(WrongSecret):
        Keys("another horse").learn(material)


# --- refusals


@pytest.mark.parametrize(
    ("number", "phase", "word"),
    [
        (1002, Phase.HANDSHAKE, "by the peer"),
        (1008, Phase.HANDSHAKE, "version"),
        (1010, Phase.AUTH, "wrong passphrase"),
        (1011, Phase.AUTH, "one side only"),
        (1401, Phase.AUTH, "unauthorised"),
        (2401, Phase.AUTH, "unauthorised"),
        (2403, Phase.AUTH, "forbidden"),
        (2404, Phase.HANDSHAKE, "not found"),
        (1999, Phase.HANDSHAKE, "of its own"),
        (90_000, Phase.HANDSHAKE, "of its own"),
    ],
)
def test_refusals_have_a_phase_and_words(number: int, phase: Phase, word: str):
    with pytest.raises(Failure, match=word) as raised:
        Net(Listener(now=START, reject=number)).connect()
    assert (raised.value.phase, raised.value.reason) == (phase, "refused")


@pytest.mark.parametrize("at", ["induction", "conclusion"])
def test_silence_is_a_timeout_of_the_handshake(at: str):
    net = Net(Listener(now=START, silent_at=at))
    with pytest.raises(Failure, match=at if at == "conclusion" else "any answer") as raised:
        net.connect()
    assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "timeout")
    assert net.now - START == pytest.approx(3 * NS, abs=5 * MS)


def test_a_lost_handshake_is_repeated():
    net = Net(loss=0.6, seed=11)
    net.connect()


def test_a_listener_of_the_old_handshake_is_unsupported():
    with pytest.raises(Unsupported, match="version 4"):
        Net(Listener(now=START, spoil=lambda answer: answer.replaced(version=4))).connect()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(16),
        Control(Kind.HANDSHAKE, 0, 0, 0, 0, b"short").encode(),
        Control(Kind.KEEPALIVE, 0, 0, 0, 0).encode(),
    ],
)
def test_another_answer_is_malformed(answer: bytes):
    caller = Caller(now=START)
    caller.timer(START)
    with pytest.raises(Failure) as raised:
        caller.receive(answer, START)
    assert (raised.value.phase, raised.value.reason) == (Phase.HANDSHAKE, "malformed")


@pytest.mark.parametrize("asked", [120 * MS, 65_535 * MS])
def test_a_latency_that_srt_can_say_is_agreed(asked: int):
    assert Net(latency=asked).connect().latency == asked


@pytest.mark.parametrize(
    "wrong", [{"passphrase": "x" * 9}, {"passphrase": "x" * 80}, {"latency": -MS}, {"latency": 65_536 * MS}], ids=str
)
def test_what_srt_cannot_say_is_nobodys_to_ask_of_it(wrong: dict):
    with pytest.raises(ValueError, match="cannot say") as raised:
        Caller(now=START, **wrong)
    assert "xxx" not in str(raised.value)
    with pytest.raises(Unsupported):
        Caller(now=START, streamid="x" * 513)


# --- hostile


def test_a_flood_of_the_future_is_bounded():
    net = Net()
    net.connect()
    now = (net.now - START) // 1000
    for number in range(20_000):
        stamp = 0x7FFF_FFFF if number else now
        packet = Data(net.caller._isn + number & p.SEQUENCES - 1, 1, stamp, net.caller._socket, b"x" * 100)
        net.caller.receive(packet.encode(), net.now)
    receiver = net.receiver
    assert len(receiver._held) <= 8192
    assert receiver.count.refused > 10_000
    due = net.caller.next_timer()
    assert due is not None and due <= net.now + 150 * MS
    net.run(1300)  # stamps from the future are not waited for
    assert len(net.received) > 8000


def test_packets_that_make_no_sense_are_counted_and_are_no_sign_of_life():
    net = Net()
    net.connect()
    for _ in range(5100):
        net.now += MS
        net.caller.receive(b"rubbish", net.now)
        net.caller.receive(Data(1, 1, 1, SOCKET, b"for somebody else").encode(), net.now)
        net.caller.timer(net.now)
    assert net.caller.strange == 10_000  # all of the five seconds
    assert [e.reason for e in net.caller.events() if isinstance(e, Ended)] == ["timeout"]


def test_acknowledgements_of_what_was_never_sent_are_ignored():
    net = Net()
    net.connect()
    body = p.Ack(sequence=net.caller._isn + 1000 & p.SEQUENCES - 1, rtt=1, rtt_variance=1, room=0).encode()
    net.caller.receive(Control(Kind.ACK, 0, 1, 0, net.caller._socket, body).encode(), net.now)
    stream_up(net, 50)
    assert net.listener.got == [payload(number) for number in range(50)]


def test_what_nobody_acknowledges_is_given_up_and_bounded():
    net = Net()
    net.connect()
    net.loss = 1.0
    for number in range(12_000):
        net.caller.send(b"x" * 100, net.now)
        if number % 20 == 0:
            net.step()
    assert len(net.sender._kept) <= 8192
    assert net.sender.count.dropped > 3000


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=6))
def test_no_datagram_breaks_a_handshake_but_as_ours(datagrams: list[bytes]):
    caller = Caller(now=START, passphrase="correct horse")
    caller.timer(START)
    try:
        for datagram in datagrams:
            caller.receive(datagram, START)
    except (Failure, Unsupported):
        pass


_SPOILT = st.builds(
    lambda kind, subtype, info, body: (kind, subtype, info, body),
    st.sampled_from([*Kind, 9, 77]),
    st.integers(0, 9),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=80),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_SPOILT, st.binary(max_size=64)), max_size=30), st.booleans())
def test_no_datagram_breaks_a_connection(junk: list, secret: bool):
    word = "correct horse" if secret else ""
    net = Net(Listener(now=START, passphrase=word), passphrase=word, delay=0)
    net.connect()
    for one in junk:
        if isinstance(one, tuple):
            kind, subtype, info, body = one
            datagram = Control(kind, subtype, info, 0, net.caller._socket, body).encode()
        else:
            datagram = one[:12] + struct.pack(">I", net.caller._socket) + one[12:] if len(one) >= 12 else one
        net.caller.receive(datagram, net.now)
        net.now += 3 * MS
        net.caller.timer(net.now)
        due = net.caller.next_timer()
        assert due is None or due > net.now - 10 * MS
        net.caller.outgoing()


@given(st.lists(st.tuples(st.integers(0, p.SEQUENCES - 1), st.integers(0, p.SEQUENCES - 1)), max_size=20))
def test_lists_of_losses_survive_the_wire(ranges: list[tuple[int, int]]):
    assert list(p.decode_loss(p.encode_loss(ranges))) == ranges


@given(st.text(max_size=120))
def test_stream_ids_survive_the_wire(text: str):
    text = text.rstrip("\0")
    assert p.decode_stream_id(p.encode_stream_id(text)) == text


def test_a_range_of_losses_without_an_end_is_malformed():
    with pytest.raises(Malformed):
        list(p.decode_loss(struct.pack(">I", 0x8000_0001)))
