"""node-media-server 4 as npm has it: RTMP in; RTMP, HTTP-FLV and WebSocket-FLV out, from a cache of the last GOP.

`running` starts it on loopback ports of its own with a configuration and data in a temporary folder. `make peers` installs it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.nodejs import MODULES, find_node
from tests.peers.supervisor import supervised
from tests.tools import Child, free_port, missing, spawn

_APP = MODULES / "node-media-server" / "bin" / "app.js"


@dataclass(frozen=True)
class NodeMediaServer:
    """A running node-media-server."""

    child: Child
    rtmp_port: int
    http_port: int

    def rtmp_url(self, stream: str = "room") -> str:
        return f"rtmp://127.0.0.1:{self.rtmp_port}/live/{stream}"

    def http_flv_url(self, stream: str = "room") -> str:
        return f"http://127.0.0.1:{self.http_port}/live/{stream}.flv"

    def ws_flv_url(self, stream: str = "room") -> str:
        return f"ws://127.0.0.1:{self.http_port}/live/{stream}.flv"


@contextlib.asynccontextmanager
async def running(down: float | None = None) -> AsyncIterator[NodeMediaServer]:
    """node-media-server without authentication. `down`: its supervisor starts it anew so many seconds after it ended."""
    node = find_node()
    if node is None or not _APP.exists():
        missing("node-media-server is not installed (make peers)")
    with tempfile.TemporaryDirectory(prefix="nms-") as name:
        folder = Path(name)
        rtmp, http = free_port(), free_port()
        configuration = folder / "config.json"
        configuration.write_text(
            json.dumps(
                {
                    "bind": "127.0.0.1",
                    "rtmp": {"port": rtmp},
                    "http": {"port": http},
                    "store": {"path": "data"},
                    "auth": {"play": False, "publish": False, "secret": "unused"},
                    "webadmin": {"enable": False},
                }
            )
        )
        with spawn(supervised([node[0], _APP, "--config", configuration], down), folder / "nms.log", cwd=folder) as child:
            await child.says(f"{http}")
            await child.says(f"{rtmp}")
            yield NodeMediaServer(child, rtmp, http)
