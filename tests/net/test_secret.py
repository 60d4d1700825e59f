"""Where a secret is read from, and what is said of one that is not there: its place, never its value."""

from __future__ import annotations

import os
import time

import pytest

from probe.net import secret
from probe.net.secret import MAX_BYTES, named, read_secret


def test_it_is_read_from_the_environment_a_file_or_a_command(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_THIS_TEST", "from env")
    file = tmp_path / "secret"
    file.write_text("from file\n")
    assert read_secret(("env", "SECRET_OF_THIS_TEST")) == "from env"
    assert read_secret(("file", str(file))) == "from file"
    assert read_secret(("command", "printf 'from %s\\n' command")) == "from command"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (("env", "NOT_SET_IN_THIS_TEST"), "is not set"),
        (("file", "/nowhere/at/all"), "No such file"),
        (("command", "/nowhere/at/all"), "No such file"),
        (("command", "sh -c 'echo hidden; echo hidden >&2; exit 3'"), "ended with 3"),
        (("command", "true"), "is empty"),
        (("command", "printf '\\377'"), "not a text"),
        (("command", "cat /dev/zero"), f"longer than {MAX_BYTES // 1024}"),
    ],
)
def test_one_that_is_not_there_says_why_and_nothing_else(source, words, capfd):
    with pytest.raises(OSError) as caught:
        read_secret(source)
    assert words in str(caught.value.strerror)
    assert "hidden" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(secret, "_COMMAND_SECONDS", 0.2)
    before, began = len(os.listdir("/proc/self/fd")), time.monotonic()
    with pytest.raises(OSError, match="took longer"):
        read_secret(("command", "sleep 60"))
    assert time.monotonic() - began < 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_is_named_without_its_arguments():
    assert named(("command", "vault kv get -token=abc secret/live")) == "command vault"
