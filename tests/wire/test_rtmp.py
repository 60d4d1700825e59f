"""RTMP without sockets: chunks in every form, both sessions against each other, refusals, and bytes that are none."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.wire import amf
from probe.wire.amf import Broken, Value
from probe.wire.flv_tags import AUDIO, VIDEO, Tag, metadata_tag
from probe.wire.rtmp import Client, Connected, Ended, Event, Joined, Target
from probe.wire.rtmp_chunks import MAX_MESSAGE, MAX_STREAMS, ChunkReader, ChunkWriter, Message
from probe.wire.rtmp_peer import Acknowledged, Media, Shaken
from probe.wire.rtmp_server import Asked, Left, Server

RANDOM = bytes(range(256)) * 6
KEY = "s3cret-key?sign=abcdef"
TARGET = Target.of("rtmp://host/live?vhost=probe", KEY)

# --- chunks


def chunk(form: int, number: int, head: bytes, payload: bytes, extended: bytes = b"") -> bytes:
    return bytes([form << 6 | number]) + head + extended + payload


def head0(stamp: int, length: int, kind: int = 9, stream: int = 1) -> bytes:
    return stamp.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([kind]) + struct.pack("<I", stream)


def head1(delta: int, length: int, kind: int = 9) -> bytes:
    return delta.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([kind])


def messages(data: bytes, reader: ChunkReader | None = None) -> list[Message]:
    return list((reader or ChunkReader()).feed(data))


def test_each_type_of_header_leaves_out_what_has_not_changed() -> None:
    wire = chunk(0, 4, head0(1000, 2), b"ab") + chunk(1, 4, head1(40, 3, 8), b"cde") + chunk(2, 4, b"\0\0\x28", b"fgh")
    wire += chunk(3, 4, b"", b"ijk")
    assert messages(wire) == [
        Message(9, 1000, 1, b"ab"),
        Message(8, 1040, 1, b"cde"),
        Message(8, 1080, 1, b"fgh"),
        Message(8, 1120, 1, b"ijk"),
    ]


def test_chunks_of_several_streams_interleave() -> None:
    first, second = bytes(200), b"\1" * 130
    wire = chunk(0, 4, head0(0, 200), first[:128]) + chunk(0, 6, head0(5, 130, 8), second[:128])
    wire += chunk(3, 4, b"", first[128:]) + chunk(3, 6, b"", second[128:])
    assert messages(wire) == [Message(9, 0, 1, first), Message(8, 5, 1, second)]


def test_a_new_chunk_size_counts_at_once() -> None:
    wire = chunk(0, 2, head0(0, 4, 1, 0), struct.pack(">I", 4000)) + chunk(0, 4, head0(0, 3000), bytes(3000))
    assert [len(m.payload) for m in messages(wire)] == [4, 3000]


@pytest.mark.parametrize("repeated", [True, False])
def test_an_extended_timestamp_is_known_whether_or_not_it_is_repeated(repeated: bool) -> None:
    stamp = struct.pack(">I", 0x01020304)
    wire = chunk(0, 4, head0(0xFFFFFF, 200), b"x" * 128, stamp) + chunk(3, 4, b"", b"x" * 72, stamp if repeated else b"")
    assert messages(wire) == [Message(9, 0x01020304, 1, b"x" * 200)]


@pytest.mark.parametrize(
    ("number", "basic"), [(64, b"\x00\x00"), (319, b"\x00\xff"), (320, b"\x01\x00\x01"), (65599, b"\x01\xff\xff")]
)
def test_chunk_streams_beyond_63_have_longer_numbers(number: int, basic: bytes) -> None:
    first = basic + head0(7, 130) + bytes(128)
    following = bytes([0xC0 | basic[0]]) + basic[1:] + bytes(2)
    assert messages(first + following) == [Message(9, 7, 1, bytes(130))], number


def test_an_abort_forgets_what_was_under_way() -> None:
    wire = chunk(0, 4, head0(0, 200), bytes(128)) + chunk(0, 2, head0(0, 4, 2, 0), struct.pack(">I", 4))
    wire += chunk(0, 4, head0(9, 3), b"new")
    assert messages(wire)[1:] == [Message(9, 9, 1, b"new")]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (chunk(3, 4, b"", b"x"), "malformed"),
        (chunk(0, 4, head0(0, MAX_MESSAGE + 1), b""), "too_large"),
        (chunk(0, 2, head0(0, 4, 1, 0), bytes(4)), "malformed"),  # a chunk size of 0
        (b"".join(chunk(0, 3 + n, head0(0, 200), bytes(128)) for n in range(61)) + 5 * (b"\0\0" + head0(0, 1) + b"x"), "ok"),
        (b"".join(b"\0" + bytes([n]) + head0(0, 200) + bytes(128) for n in range(MAX_STREAMS + 1)), "too_large"),
    ],
)
def test_what_has_no_bounds_is_refused(wire: bytes, reason: str) -> None:
    if reason == "ok":
        assert len(messages(wire)) == 5
        return
    with pytest.raises(Broken) as caught:
        messages(wire)
    assert caught.value.reason == reason


def test_messages_never_finished_are_bounded_together() -> None:
    reader = ChunkReader()
    messages(chunk(0, 2, head0(0, 4, 1, 0), struct.pack(">I", MAX_MESSAGE)), reader)
    half = MAX_MESSAGE // 2
    list(reader.feed(chunk(0, 2, head0(0, 4, 1, 0), struct.pack(">I", half))))
    with pytest.raises(Broken, match="under way"):
        for number in range(3, 10):
            messages(chunk(0, number, head0(0, MAX_MESSAGE), bytes(half)), reader)


_MESSAGES = st.builds(
    Message,
    st.sampled_from([8, 9, 18, 20]),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([0, 1]),
    st.binary(max_size=40) | st.integers(100, 300).map(bytes),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(3, 8), _MESSAGES), max_size=12), st.lists(st.integers(1, 90), min_size=1, max_size=30))
def test_what_was_written_is_read_whatever_the_pieces(sent: list[tuple[int, Message]], cuts: list[int]) -> None:
    writer, reader, at = ChunkWriter(), ChunkReader(), 0
    found: list[Message] = []
    wire = b"".join(writer.write(number, message) for number, message in sent)
    for cut in [*cuts, len(wire)]:
        found += reader.feed(wire[at : at + cut])
        at += cut
    assert found == [message for _, message in sent]


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_chunks_or_broken(data: bytes) -> None:
    with contextlib.suppress(Broken):
        messages(data)


# --- where a stream is


@pytest.mark.parametrize(
    ("url", "key", "app", "name", "tc_url"),
    [
        ("rtmp://h/app/key", "", "app", "key", "rtmp://h/app"),
        ("rtmp://h/app/key?a=b/c", "", "app", "key?a=b/c", "rtmp://h/app"),
        ("rtmp://h:1935/app/inst/key", "", "app/inst", "key", "rtmp://h/app/inst"),
        ("rtmp://h:19350/app/", "key?a=b", "app", "key?a=b", "rtmp://h:19350/app"),
        ("rtmp://h/app?vhost=v", "key", "app?vhost=v", "key", "rtmp://h/app?vhost=v"),
        ("rtmps://h:443/app/inst", "a/b", "app/inst", "a/b", "rtmps://h/app/inst"),
        ("rtmp://user:pass@[::1]:1/app", "k", "app", "k", "rtmp://[::1]:1/app"),
        ("rtmp://h/app", "", "app", "", "rtmp://h/app"),
    ],
)
def test_an_address_and_a_key_are_taken_as_encoders_take_them(url: str, key: str, app: str, name: str, tc_url: str) -> None:
    target = Target.of(url, key)
    assert (target.app, target.name, target.tc_url) == (app, name, tc_url)
    assert "key" not in repr(target) and "pass" not in tc_url


@pytest.mark.parametrize(
    "url", ["http://h/app", "rtmp://", "rtmp:///app", "rtmp://h:0/a", "rtmp://h:99999/a", "rtmp://h:x/a", "", "rtmp://a b/c"]
)
def test_what_is_no_address_fails_at_once(url: str) -> None:
    with pytest.raises(Failure) as caught:
        Target.of(url, "key")
    assert caught.value.phase is Phase.RESOLVE


# --- sessions


class Pair:
    """A client and a server that hear each other; `decide` answers what is asked (None: granted)."""

    def __init__(self, publish: bool, decide: dict[str, tuple[str, str]] | None = None) -> None:
        self.client, self.server = Client(TARGET, publish=publish, random=RANDOM), Server(RANDOM)
        self.heard: list[Event] = []
        self.asked: list[object] = []
        self._decide = decide or {}

    def talk(self) -> list[Event]:
        """Until nobody has anything to say; what the client heard."""
        heard: list[Event] = []
        while data := self.client.take():
            for event in self.server.feed(data):
                self.asked.append(event)
                if isinstance(event, Asked):
                    refusal = self._decide.get(event.what)
                    if refusal is None:
                        self.server.accept()
                    else:
                        self.server.reject(*refusal)
            heard += self.client.feed(self.server.take())
        self.heard += heard
        return heard

    def hear(self) -> list[Event]:
        return list(self.client.feed(self.server.take()))


def names(events: list[object]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, Acknowledged)]


def test_a_publisher_publishes_and_leaves() -> None:
    pair = Pair(publish=True)
    pair.talk()
    assert names(list(pair.heard)) == ["Shaken", "Connected", "Joined"]
    assert [(a.what, a.app, a.name) for a in pair.asked if isinstance(a, Asked)] == [
        ("connect", "live?vhost=probe", ""),
        ("publish", "live?vhost=probe", KEY),
    ]
    assert pair.client.phase is Phase.ACK
    about, picture, sound = metadata_tag({"width": 1.0}, publishing=True), Tag(VIDEO, 40, bytes(9000)), Tag(AUDIO, 41, b"x")
    for tag in (about, picture, sound):
        pair.client.put(tag)
    pair.client.leave()
    heard = pair.talk()
    assert [e.tag for e in pair.asked if isinstance(e, Media)] == [about, picture, sound]
    assert pair.asked[-1] == Left()
    (acknowledged,) = {e.received for e in heard if isinstance(e, Acknowledged)}
    assert 9000 < acknowledged <= pair.client.sent


def test_acknowledgements_come_as_often_as_was_asked() -> None:
    pair = Pair(publish=True)
    pair.talk()
    before = len([e for e in pair.heard if isinstance(e, Acknowledged)])
    for n in range(20):
        pair.client.put(Tag(VIDEO, n, bytes(2000)))
        pair.talk()
    often = len([e for e in pair.heard if isinstance(e, Acknowledged)]) - before
    pair.client.steady()
    pair.talk()
    for n in range(20):
        pair.client.put(Tag(VIDEO, n, bytes(2000)))
        pair.talk()
    steadily = len([e for e in pair.heard if isinstance(e, Acknowledged)]) - before - often
    assert often >= 16 and 1 <= steadily <= 3


def test_an_acknowledgement_of_more_than_was_sent_is_not_believed() -> None:
    pair = Pair(publish=True)
    pair.talk()
    pair.server._control(3, struct.pack(">I", 0x7FFFFFFF))
    assert pair.hear() == []


def test_a_player_names_the_codecs_it_has_a_fourcc_for() -> None:
    pair = Pair(publish=False)
    sent = b""
    while data := pair.client.take():
        sent += data
        list(pair.server.feed(data))
        list(pair.client.feed(pair.server.take()))
    connect = sent.replace(b"\xc3", b"")  # headers of the chunks it goes in
    assert b"fourCcList\x0a\0\0\0\4" in connect and b"\2\0\4Opus" in connect


def test_a_player_plays_until_the_server_says_that_it_is_over() -> None:
    pair = Pair(publish=False)
    pair.talk()
    assert names(list(pair.heard)) == ["Shaken", "Connected", "Joined"]
    assert pair.client.phase is Phase.FIRST_PACKET
    pair.server.put(Tag(VIDEO, 0, b"one"))
    pair.server.put(Tag(AUDIO, 0xFFFFFFF0, b"two"))
    pair.server.end()
    assert pair.hear() == [
        Media(Tag(VIDEO, 0, b"one")),
        Media(Tag(AUDIO, 0xFFFFFFF0, b"two")),
        Ended("NetStream.Play.UnpublishNotify"),
        Ended("StreamEOF"),
    ]


def test_media_without_a_word_before_it_is_a_join() -> None:
    pair = Pair(publish=False, decide={"play": ("", "")})
    pair.server.reject = lambda code, description: None  # type: ignore[method-assign]
    pair.talk()
    pair.server.put(Tag(VIDEO, 0, b"one"))
    assert pair.hear() == [Joined(), Media(Tag(VIDEO, 0, b"one"))]


def test_a_ping_is_answered_and_its_time_given_back() -> None:
    pair = Pair(publish=False)
    pair.talk()
    pair.server._control(4, struct.pack(">HI", 6, 12345))
    assert pair.hear() == []
    assert struct.pack(">HI", 7, 12345) in pair.client.take()


def test_aggregates_are_taken_apart() -> None:
    pair = Pair(publish=False)
    pair.talk()
    body = b""
    for kind, stamp, data in ((9, 100, b"pic"), (8, 120, b"snd"), (99, 130, b"?")):
        body += bytes([kind]) + len(data).to_bytes(3, "big") + stamp.to_bytes(3, "big") + bytes(4) + data + bytes(4)
    pair.server._send(6, 22, body, 1, 5000)
    assert pair.hear() == [Media(Tag(9, 5000, b"pic")), Media(Tag(8, 5020, b"snd"))]


REFUSALS: dict[str, tuple[bool, str, str, str, Phase, str]] = {
    "app": (True, "connect", "NetConnection.Connect.InvalidApp", "", Phase.SIGNAL, "refused"),
    "rejected": (
        True,
        "connect",
        "NetConnection.Connect.Rejected",
        "[ AccessManager.Reject ] : [ code=500 ]",
        Phase.SIGNAL,
        "refused",
    ),
    "authmod": (
        True,
        "connect",
        "NetConnection.Connect.Rejected",
        "[ code=403 need auth; authmod=adobe ] :",
        Phase.AUTH,
        "refused",
    ),
    "busy": (True, "publish", "NetStream.Publish.BadName", "Already publishing", Phase.JOIN, "refused"),
    "unauthorized": (True, "publish", "NetStream.Publish.Unauthorized", "", Phase.AUTH, "refused"),
    "key": (True, "publish", "NetStream.Publish.Denied", "", Phase.AUTH, "refused"),
    "absent": (False, "play", "NetStream.Play.StreamNotFound", "", Phase.JOIN, "not_found"),
    "failed": (False, "play", "NetStream.Play.Failed", "", Phase.JOIN, "refused"),
    "failed for auth": (False, "play", "NetStream.Play.Failed", "authentication failed", Phase.AUTH, "refused"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_reason_and_no_secret(name: str) -> None:
    publish, what, code, text, phase, reason = REFUSALS[name]
    pair = Pair(publish, {what: (code, f"{text} {KEY} s3cret-key")})
    with pytest.raises(Failure) as caught:
        pair.talk()
    assert (caught.value.phase, caught.value.reason) == (phase, reason), caught.value
    assert "s3cret" not in str(caught.value) and "abcdef" not in str(caught.value)
    assert code in str(caught.value)


def test_a_redirect_of_the_servers_own_is_told_and_not_followed() -> None:
    pair = Pair(True, {"connect": ("", "")})
    info: dict[str, Value] = {"level": "error", "code": "NetConnection.Connect.Rejected", "ex": {"redirect": "rtmp://10.0.0.1/x"}}
    pair.server.reject = lambda code, description: pair.server._command("_error", 1.0, None, info)  # type: ignore[method-assign]
    with pytest.raises(Failure, match="signal/redirect_refused"):
        pair.talk()


def test_a_stream_that_is_no_number_is_malformed() -> None:
    for number in (None, "1", -1.0, float("nan"), float("inf")):
        client = Client(TARGET, publish=True, random=RANDOM)
        server = ChunkWriter()
        wire = b"\x03" + bytes(3072)
        for transaction, values in ((1.0, ({}, {"code": "NetConnection.Connect.Success"})), (4.0, (None, number))):
            wire += server.write(3, Message(20, 0, 0, amf.encode("_result", transaction, *values)))
        with pytest.raises(Failure, match="join/malformed"):
            list(client.feed(wire))


@pytest.mark.parametrize(
    ("greeting", "reason"), [(b"HTTP/1.1 400 Bad Request\r\n", "malformed"), (b"\x06" + bytes(3072), "unsupported")]
)
def test_what_does_not_greet_as_rtmp_is_told(greeting: bytes, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        list(Client(TARGET, publish=True, random=RANDOM).feed(greeting))
    assert (caught.value.phase, caught.value.reason) == (Phase.HANDSHAKE, reason)


def test_the_greeting_may_come_in_any_pieces() -> None:
    client = Client(TARGET, publish=True, random=RANDOM)
    client.take()
    greeting = b"\x03" + bytes(range(1, 4)) * 512 + bytes(1536)
    events = [event for at in range(len(greeting)) for event in client.feed(greeting[at : at + 1])]
    assert events == [Shaken()]
    assert client.take().startswith(bytes(range(1, 4)) * 512)


@settings(max_examples=150)
@given(st.binary(max_size=300), st.sampled_from(["handshake", "signal", "play", "publish"]))
def test_any_bytes_at_any_time_only_fail(data: bytes, when: str) -> None:
    pair = Pair(publish=when == "publish")
    if when in ("play", "publish"):
        pair.talk()
    elif when == "signal":
        pair.client.take()
        list(pair.client.feed(b"\x03" + bytes(3072)))
    with contextlib.suppress(Failure, Unsupported):
        list(pair.client.feed(data))
    with contextlib.suppress(Failure, Unsupported):
        list(pair.server.feed(data))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "level", "ex", "description"]), inner),
    max_leaves=6,
)


@settings(max_examples=200)
@given(
    st.sampled_from(["_result", "_error", "onStatus", "connect", "publish", "play", "createStream", "close", "deleteStream"]),
    st.lists(_VALUES, max_size=4),
    st.sampled_from(["signal", "play", "publish"]),
)
def test_any_command_at_any_time_only_fails(name: str, values: list[Value], when: str) -> None:
    pair = Pair(publish=when == "publish")
    if when == "signal":
        list(pair.client.feed(b"\x03" + bytes(3072)))
    else:
        pair.talk()
    wire = ChunkWriter().write(3, Message(20, 0, 0, amf.encode(name, *values)))
    with contextlib.suppress(Failure, Unsupported):
        assert all(isinstance(e, Connected | Joined | Ended) for e in pair.client.feed(wire))
    with contextlib.suppress(Failure, Unsupported):
        list(pair.server.feed(wire))
