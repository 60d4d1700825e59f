"""The pager of the local chain: takes what Alertmanager posts and prints it, a line an alert."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST = 1 << 20


class Pager(BaseHTTPRequestHandler):
    """POST /{whom}."""

    timeout = 10

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        try:
            alerts = json.loads(self.rfile.read(min(size, MOST)))["alerts"]
            lines = [_line(self.path.strip("/"), one) for one in alerts]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.send_error(400)
            return
        print("\n".join(lines), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """What it says is what it is told."""


def _line(whom: str, alert: dict[str, dict[str, str]]) -> str:
    labels, notes = alert["labels"], alert["annotations"]
    words = f"{alert['status']} {labels.get('severity', '')} {labels['alertname']} {labels.get('region', '')}"
    return f"{whom}: {words}: {notes.get('summary', '')}; do first: {notes.get('action', '')}"


if __name__ == "__main__":
    host, _, port = os.environ.get("LISTEN", ":9099").rpartition(":")
    ThreadingHTTPServer((host, int(port)), Pager).serve_forever()
