"""What a listener may answer to an SRT caller's handshake, and what each answer comes to."""

from __future__ import annotations

import random

import pytest

from probe.errors import Failure, Unsupported
from probe.wire.srt import packets as p
from probe.wire.srt.greeting import Greeting
from probe.wire.srt.keys import EVEN, Keys
from probe.wire.srt.packets import Control, Data, Extension, Handshake, Kind, Malformed

US, THEM = 7, 99
ENTROPY = random.Random(1).randbytes
HELLO = p.encode_hello(0x010501, p.LIVE, 200, 300)


def greeting(passphrase: str = "", streamid: str = "") -> Greeting:
    keys = Keys(passphrase) if passphrase else None
    return Greeting(socket=US, sequence=1, streamid=streamid, latency_ms=120, keys=keys, random=ENTROPY)


def said(kind: int = p.INDUCTION, *, to: int = US, **more) -> Control:
    fields = {"version": 5, "encryption": 0, "extension": p.MAGIC, "cookie": 5, "extensions": {}, **more}
    shake = Handshake(sequence=9, mtu=1500, window=8192, type=kind, socket=THEM, **fields)
    return Control(Kind.HANDSHAKE, 0, 0, 0, to, shake.encode())


def concluding(passphrase: str = "", streamid: str = "", **induction) -> Greeting:
    made = greeting(passphrase, streamid)
    assert made.answered(said(**induction)) is None and made.concluding
    return made


MEDIA = Data(1, 1, 0, US, b"x")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (MEDIA, Malformed),
        (Control(Kind.KEEPALIVE, 0, 0, 0, US), Malformed),
        (said(to=1234), Malformed),
        (said(p.CONCLUSION), Malformed),  # before it was asked for
        (said(2), Malformed),
        (said(version=4), Unsupported),
        (said(extension=0), Malformed),
        (said(cookie=0), Malformed),
        (said(1011), Failure),
        (Control(Kind.HANDSHAKE, 0, 0, 0, US, b"short"), Malformed),
    ],
)
def test_an_induction_that_is_none_has_its_own_error(answer, error):
    with pytest.raises(error):
        greeting().answered(answer)


def test_what_is_asked_for_stands_in_the_conclusion():
    made = concluding("open-sesame", "publish:x", encryption=4)
    asked = p.decode_handshake(made.request.encode())
    assert asked.cookie == 5 and asked.extension == 1 | 2 | 4 and asked.encryption == 4
    assert {Extension.HSREQ, Extension.KMREQ, Extension.SID} == set(asked.extensions)
    assert made.answered(said()) is None  # an induction that came twice
    assert concluding("open-sesame", encryption=9).request.encryption == 2  # a size nobody has: the usual one


def test_media_that_overtakes_the_answer_is_passed_over():
    assert concluding().answered(MEDIA) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said(p.CONCLUSION, version=4), Malformed),
        (said(p.CONCLUSION), Malformed),
        (said(p.CONCLUSION, extensions={Extension.HSRSP: b"tiny"}), Malformed),
        (said(p.CONCLUSION, extensions={Extension.HSRSP: p.encode_hello(1, p.STREAM, 0, 0)}), Unsupported),
        (said(1401), Failure),
    ],
)
def test_a_conclusion_that_is_none_has_its_own_error(answer, error):
    with pytest.raises(error):
        concluding().answered(answer)


@pytest.mark.parametrize("state", [None, 3, 4, 77])
def test_a_listener_that_did_not_take_our_key_refused_us(state):
    extensions = {Extension.HSRSP: HELLO} | ({} if state is None else {Extension.KMRSP: state.to_bytes(4, "big")})
    with pytest.raises(Failure) as caught:
        concluding("open-sesame").answered(said(p.CONCLUSION, extensions=extensions))
    assert (caught.value.phase, caught.value.reason) == ("auth", "refused")


def test_the_greater_latency_of_both_holds():
    agreed = concluding().answered(said(p.CONCLUSION, extensions={Extension.HSRSP: HELLO}))
    assert agreed is not None
    assert (agreed.peer, agreed.sequence, agreed.latency, agreed.peer_latency) == (THEM, 9, 300_000_000, 200_000_000)


@pytest.mark.parametrize("spoilt", [slice(0, 10), slice(0, 40)])
def test_key_material_that_ends_early_is_malformed(spoilt):
    ours, theirs = Keys("open-sesame"), Keys("open-sesame")
    material = ours.make(16, ENTROPY)
    with pytest.raises(Malformed):
        theirs.learn(material[spoilt])
    with pytest.raises(Malformed):
        theirs.learn(material[:8] + b"\x09" + material[9:])
    theirs.learn(material)
    assert theirs.knows(EVEN)
    assert theirs.crypt(EVEN, 5, ours.crypt(EVEN, 5, b"media")) == b"media"
