"""Secrets leave no trace in text."""

from __future__ import annotations

import base64
import json
import re
from itertools import zip_longest
from unittest.mock import patch
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.net.redact import MARK, Redactor

secrets = st.text(st.characters(exclude_characters="[]redact", codec="utf-8"), min_size=4, max_size=40)


def lower_escapes(text: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text)


@given(secrets, st.text(st.characters(codec="ascii"), max_size=20), st.text(st.characters(codec="ascii"), max_size=20))
def test_no_form_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    percent = quote(secret, safe="")
    plain, ascii_only = (json.dumps(secret, ensure_ascii=choice)[1:-1] for choice in (False, True))
    for form in (secret, percent, lower_escapes(percent), quote(secret), quote_plus(secret), plain, ascii_only):
        shown = Redactor(secret).redact(before + form + after)
        assert MARK in shown
        assert form not in shown.replace(MARK, "\0") or form in before or form in after


@given(secrets, st.binary(max_size=5), st.binary(max_size=5))
def test_a_secret_inside_base64_is_found_whatever_stands_around_it(secret: str, before: bytes, after: bytes) -> None:
    whole = before + secret.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert MARK in Redactor(secret).redact(encode(whole).decode())


@given(st.lists(secrets, min_size=1, max_size=5), st.randoms())
def test_of_overlapping_secrets_nothing_is_left(many: list[str], rng: object) -> None:
    text = "".join(many)
    redactor = Redactor(*many)
    shown = redactor.redact(text)
    assert shown == MARK
    assert all(secret not in shown for secret in many)


def test_the_longest_goes_first_and_overlaps_leave_no_tail() -> None:
    assert Redactor("abcd", "abcdefgh").redact("x abcdefgh y") == f"x {MARK} y"
    assert Redactor("abcd", "cdef").redact("x abcdef y") == f"x {MARK} y"
    assert Redactor("aaaa").redact("aaaaaa") == MARK


def test_text_without_secrets_is_returned_as_it_is() -> None:
    text = "nothing to see"
    assert Redactor("hunter22").redact(text) == text
    assert Redactor().redact(text) == text
    assert Redactor("").redact(text) == text


def test_a_basic_header_is_redacted() -> None:
    header = "Basic " + base64.b64encode(b"user:hunter22").decode()
    shown = Redactor("hunter22").redact(header)
    assert MARK in shown and "aHVudGVyMjI" not in shown


def test_it_does_not_show_what_it_knows() -> None:
    assert "hunter22" not in repr(Redactor("hunter22"))


@pytest.mark.parametrize("kept", [8, 12, 20])
def test_what_is_left_of_a_secret_where_a_text_was_cut_is_taken_out(kept: int) -> None:
    redactor = Redactor("canary-token-x7Q9zW-and-more")
    for before, after in (("nginx ", ""), ("its root is '", "'"), ("said: ", "…"), ("", "")):
        cut = before + "canary-token-x7Q9zW-and-more"[:kept] + after
        assert redactor.redact(cut) == f"{before}[redacted]{after}"
    assert redactor.redact("canary-") == "canary-", "seven letters are anybody's"
    assert redactor.redact("canary-token is a word") == "canary-token is a word"
    address = Redactor("https://cdn.example.com/live/key")
    assert address.redact("https://cdn.example.com/live") == "https://cdn.example.com/live"
    assert Redactor("Kp3v/x7Q9+zW==").redact("edge Kp3v-x7Q9-zW") == "edge [redacted]", "as a label"


@given(
    st.lists(st.text("ab/%é-", min_size=8, max_size=12), min_size=1, max_size=4),
    st.lists(st.sampled_from(["…", "\\u2026", " ", "x", '"']), max_size=3),
    st.data(),
)
def test_what_is_told_to_be_clean_in_one_pass_is_what_the_long_way_leaves_as_it_is(
    known: list[str], between: list[str], data: st.DataObject
) -> None:
    redactor = Redactor(*known)
    pieces = [secret[: data.draw(st.integers(0, len(secret)))] for secret in known]
    text = "".join(piece + mark for piece, mark in zip_longest(pieces, between, fillvalue=""))
    if redactor._unlike_all(text):
        with patch.object(Redactor, "_unlike_all", lambda self, text: False):
            assert redactor.redact(text) == text
