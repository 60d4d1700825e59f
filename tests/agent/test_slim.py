"""What an agent and its workers do without: a hundred MiB that nobody misses, until an import brings it back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("probe.cli.agent", "av numpy aiortc cryptography cyclopts rich sqlalchemy.dialects.postgresql alembic"),
        ("probe.cli.app", "sqlalchemy alembic"),
        ("probe.agent.worker", "pydantic ruamel sqlalchemy prometheus_client jinja2 opentelemetry cyclopts rich"),
    ],
)
def test_it_imports_nothing_that_only_others_need(program: str, without: str):
    code = f"import sys, {program}; print(*(name for name in {without.split()!r} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_a_process_that_let_go_of_its_files_goes_on():
    code = (
        "import json, av\n"
        "from probe.agent import slim\n"
        "def resident():\n"
        "    fields = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "    return int(fields['RssFile'].split()[0])\n"
        "before = resident()\n"
        "slim.forget_files(), slim.trim()\n"
        "after = resident()\n"
        "print(json.dumps([before, after, av.CodecContext.create('h264', 'r').name]))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after, codec = json.loads(said)
    assert after < before / 2
    assert codec == "h264"
