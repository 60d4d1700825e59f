"""The fixture that looks for leftovers finds each kind of them, and lets the innocent pass."""

import re
import subprocess
import sys
from pathlib import Path

from tests import conftest

TESTS = """
import asyncio, socket, subprocess, threading
import pytest

kept = []

async def test_innocent():
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)

async def test_task():
    kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(100)))

def test_thread():
    threading.Thread(target=threading.Event().wait, args=(20,), daemon=True).start()

def test_child():
    kept.append(subprocess.Popen(["sleep", "100"]))

def test_descriptor():
    kept.append(socket.create_server(("127.0.0.1", 0)))

@pytest.fixture(scope="module")
def wider():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server

def test_innocent_with_a_wider_fixture(wider):
    pass

@pytest.fixture
async def server():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    yield server
    server.close()
    await server.wait_closed()

async def test_innocent_with_a_server(server):
    pass
"""


def test_each_kind_of_leftover_is_named_and_nothing_else(tmp_path: Path) -> None:
    source = Path(conftest.__file__).read_text()
    (tmp_path / "conftest.py").write_text(source.replace(f"GRACE = {conftest.GRACE}", "GRACE = 0.3"))
    (tmp_path / "test_it.py").write_text(TESTS)
    settings = ["-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-W", "ignore", f"--rootdir={tmp_path}", "-c", "/dev/null"]
    command = [sys.executable, "-m", "pytest", "-q", *settings, "test_it.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False).stdout
    assert set(re.findall(r"^ERROR test_it.py::(\w+)", said, re.MULTILINE)) == {
        "test_task",
        "test_thread",
        "test_child",
        "test_descriptor",
    }, said
    assert "7 passed" in said
    for words in ("coro=<sleep()", "thread Thread-", "sleep 100", "LISTEN"):
        assert words in said
