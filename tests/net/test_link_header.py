"""Link headers as WHIP and WHEP servers send them, and as nobody should."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from probe.net.link_header import IceServer, Link, ice_servers, parse

WHIP = (
    '<stun:stun.example.net>; rel="ice-server", <turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; '
    'credential="my,Pass;\\"w0rd\\""; credential-type="password", <turns:[2001:db8::1]:443>; rel=ice-server'
)


def test_the_servers_of_rfc_9725_are_read() -> None:
    assert ice_servers([WHIP]) == [
        IceServer(url="stun:stun.example.net", scheme="stun", host="stun.example.net", port=3478, transport="udp"),
        IceServer(
            url="turn:turn.example.net?transport=udp",
            scheme="turn",
            host="turn.example.net",
            port=3478,
            transport="udp",
            username="user",
            credential='my,Pass;"w0rd"',
        ),
        IceServer(url="turns:[2001:db8::1]:443", scheme="turns", host="2001:db8::1", port=443, transport="tcp"),
    ]


def test_several_fields_and_other_relations_stand_beside_each_other() -> None:
    values = ['</session/1/layer>; rel="urn:ietf:params:whep:ext:core:layer"; events="layers"', "<stun:a.test:1>; REL=ICE-SERVER"]
    assert [link.target for link in parse(values)] == ["/session/1/layer", "stun:a.test:1"]
    assert [server.port for server in ice_servers(values)] == [1]


def test_the_first_of_a_parameter_counts_and_relations_are_a_list() -> None:
    (link,) = parse(["<a>; rel=\"one ice-server\"; rel=two; title*=UTF-8''x"])
    assert link.relations == {"one", "ice-server"}


def test_what_is_no_stun_or_turn_uri_is_left_out() -> None:
    for target in (
        "http://a.test",
        "stun:",
        "stun:a.test:0",
        "stun:a.test:99999",
        "turn:a b",
        "turn:a?transport=sctp",
        "stun:a/b",
    ):
        assert ice_servers([f'<{target}>; rel="ice-server"']) == []


def test_a_credential_is_not_shown() -> None:
    assert "w0rd" not in repr(ice_servers([WHIP])) and "w0rd" not in repr(parse([WHIP]))


def test_hostile_fields_are_bounded_in_number_and_time() -> None:
    began = time.monotonic()
    assert len(parse(["<a>," * 100_000])) == 32
    assert len(parse(["<a>"] * 1000)) == 32
    assert len(parse(["<a>" + ";x=1" * 100_000])[0].parameters) <= 16
    for nasty in (
        '<a>;x="' + "\\" * 100_000,
        "<" * 100_000,
        "<a>" + ";" * 100_000,
        "," * 100_000 + "x",
        " " * 100_000,
        '<a>;x="' + 'a"' * 50_000,
    ):
        parse([nasty])
        ice_servers([nasty])
    assert time.monotonic() - began < 2


@given(st.lists(st.text()))
def test_anything_at_all_can_be_parsed(values: list[str]) -> None:
    assert len(parse(values)) <= 32
    ice_servers(values)


targets = st.text(
    st.characters(codec="ascii", exclude_characters="<> \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f", min_codepoint=33, max_codepoint=126)
)
tokens = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-_"), min_size=1, max_size=12)


@given(st.lists(st.tuples(targets, st.dictionaries(tokens, st.text(max_size=30), max_size=8)), max_size=8))
def test_what_was_written_by_the_rfc_is_read_back(links: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    field = ", ".join(
        f"<{target}>" + "".join(f"; {name}={quoted(value)}" for name, value in parameters.items()) for target, parameters in links
    )
    assert parse([field]) == [Link(target, parameters) for target, parameters in links]
